//! Stamps entries of the program's own functions with the time, without stopping:
//! the entry pad of each function calls a stub that appends the processor's time
//! stamp, the thread and the function to a buffer that all processes share.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::counter::STUB;
use crate::binary::Address;

/// Where the buffer is mapped.
pub const BUFFER: Address = Address(0x3800_0000);
/// Bytes of the buffer; a session with more entries keeps the first four million.
pub const BUFFER_LENGTH: u64 = 64 << 20;
/// The place where the next record goes, counted from the buffer's start, is kept in
/// its first word; records begin after it.
const FIRST_RECORD: u64 = 64;
const RECORD: u64 = 16;
/// Where the stub lies.
pub const STAMP_STUB: Address = STUB.plus(0x200);

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The processor's time stamp.
    pub ticks: u64,
    /// Who entered, as [`super::counter::adopt`] numbered it.
    pub identity: u32,
    /// The function.
    pub function: Address,
}

/// The stub's code. It keeps every register but the flags, which are dead at a
/// function's entry.
#[must_use]
#[allow(clippy::cast_possible_truncation)] // addresses below 2 GiB, chosen above
pub fn code() -> Vec<u8> {
    let buffer = BUFFER.0 as u32;
    let limit = (BUFFER_LENGTH - RECORD) as u32;
    let mut code: Vec<u8> = vec![
        0x50,
        0x52,
        0x51, // push rax; push rdx; push rcx
        0x0f,
        0x31, // rdtsc
        0x48,
        0xc1,
        0xe2,
        0x20, // shl rdx, 32
        0x48,
        0x09,
        0xd0, // or rax, rdx
        0xb9,
        RECORD as u8,
        0,
        0,
        0, // mov ecx, RECORD
        0xf0,
        0x48,
        0x0f,
        0xc1,
        0x0c,
        0x25, // lock xadd [BUFFER], rcx
    ];
    code.extend(buffer.to_le_bytes());
    code.extend([0x48, 0x81, 0xf9]); // cmp rcx, limit
    code.extend(limit.to_le_bytes());
    let mut body: Vec<u8> = vec![0x48, 0x89, 0x81]; // mov [rcx + BUFFER], rax
    body.extend(buffer.to_le_bytes());
    body.extend([
        0x65, 0x8b, 0x04, 0x25, 0x10, 0, 0, 0, // mov eax, gs:[16]
        0x48, 0xc1, 0xe0, 0x20, // shl rax, 32
        0x8b, 0x54, 0x24, 0x18, // mov edx, [rsp + 24]: behind the call in the pad
        0x48, 0x09, 0xd0, // or rax, rdx
        0x48, 0x89, 0x81, // mov [rcx + BUFFER + 8], rax
    ]);
    body.extend((buffer + 8).to_le_bytes());
    code.extend([0x77, body.len() as u8]); // ja over the body
    code.extend(body);
    code.extend([0x59, 0x5a, 0x58, 0xc3]); // pop rcx; pop rdx; pop rax; ret
    code
}

/// Makes the buffer ready for a run.
///
/// # Errors
/// When it cannot be resized or written.
pub fn clear(buffer: &File) -> std::io::Result<()> {
    buffer.set_len(0)?;
    buffer.set_len(BUFFER_LENGTH)?;
    buffer.write_all_at(&FIRST_RECORD.to_le_bytes(), 0)
}

/// The stamps of a run, in the order in which they were made.
///
/// # Errors
/// When the buffer cannot be read.
pub fn read(buffer: &File, call_length: u64) -> std::io::Result<Vec<Stamp>> {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let mut end = [0; 8];
    buffer.read_exact_at(&mut end, 0)?;
    let end = u64::from_le_bytes(end).min(BUFFER_LENGTH - RECORD);
    let length = usize::try_from(end.saturating_sub(FIRST_RECORD)).unwrap_or(0);
    let mut records = vec![0; length];
    buffer.read_exact_at(&mut records, FIRST_RECORD)?;
    Ok(records
        .chunks_exact(16)
        .map(|record| {
            let who = word(&record[8..]);
            Stamp {
                ticks: word(&record[..8]),
                identity: (who >> 32) as u32,
                function: Address((who & 0xffff_ffff).wrapping_sub(call_length)),
            }
        })
        .collect())
}

/// The processor's time stamp now.
#[must_use]
pub fn now() -> u64 {
    // SAFETY: every x86-64 processor has the instruction; it has no effect on memory.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic};

    use super::*;

    #[test]
    fn the_stub_decodes_and_its_jump_lands_on_the_restoring_pops() {
        let code = code();
        let mut decoder = Decoder::with_ip(64, &code, STAMP_STUB.0, DecoderOptions::NONE);
        let instructions: Vec<_> = decoder.iter().collect();
        let of = |mnemonic| {
            instructions
                .iter()
                .filter(move |i| i.mnemonic() == mnemonic)
        };
        assert!(instructions.iter().all(|i| !i.is_invalid()));
        let jump = of(Mnemonic::Ja).next().unwrap();
        let first_pop = of(Mnemonic::Pop).next().unwrap();
        assert_eq!(jump.near_branch_target(), first_pop.ip());
        assert_eq!(of(Mnemonic::Push).count(), of(Mnemonic::Pop).count());
        assert_eq!(instructions.last().unwrap().mnemonic(), Mnemonic::Ret);
    }
}
