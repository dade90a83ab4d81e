//! Which memory the next instruction of a stopped thread reads and writes.

use std::collections::HashMap;

use iced_x86::{
    Decoder, DecoderOptions, InstructionInfoFactory, Mnemonic, OpAccess, Register, UsedMemory,
};
use libc::user_regs_struct;
use serde::{Deserialize, Serialize};

use super::{Memory, TraceeError};
use crate::binary::Address;

/// Bytes that an instruction may have.
const LONGEST_INSTRUCTION: usize = 15;
/// What an access counts as whose size the instruction does not say, such as that of a
/// saved register set.
const UNKNOWN_SIZE: u64 = 4096;
/// The longest buffer of a system call that is believed.
const LONGEST_BUFFER: u64 = 1 << 20;
/// What a buffer of a system call counts as whose length no argument says.
const SHORTEST_BUFFER: u64 = 256;

/// Memory that is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Access {
    /// First byte.
    pub address: Address,
    /// Bytes.
    pub length: u64,
    /// Whether it is written, too.
    pub writes: bool,
}

impl Access {
    /// Whether two accesses in another order would show something else.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let overlap = self.address.since(other.address) < other.length.max(1)
            || other.address.since(self.address) < self.length.max(1);
        overlap && (self.writes || other.writes)
    }
}

#[derive(Clone)]
struct Known {
    memory: Vec<UsedMemory>,
    enters_kernel: bool,
}

/// Decodes instructions, each once.
#[derive(Default)]
pub struct Accesses {
    known: HashMap<u64, Known>,
}

/// What the next instruction does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// What it reads and writes, buffers of a system call included.
    pub accesses: Vec<Access>,
    /// Whether it is a system call, which may wait.
    pub enters_kernel: bool,
}

impl Accesses {
    /// What the instruction at `registers` will do.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn next(
        &mut self,
        registers: &user_regs_struct,
        memory: &Memory,
    ) -> Result<Next, TraceeError> {
        let known = self
            .known
            .entry(registers.rip)
            .or_insert_with(|| decode(registers.rip, memory));
        if known.enters_kernel {
            return Ok(Next {
                accesses: of_system_call(registers, memory)?,
                enters_kernel: true,
            });
        }
        let accesses = known.memory.iter().filter_map(|used| {
            let writes = match used.access() {
                OpAccess::Read | OpAccess::CondRead => false,
                OpAccess::NoMemAccess | OpAccess::None => return None,
                _ => true,
            };
            let address = used.virtual_address(0, |register, _, _| value(registers, register))?;
            let length = match used.memory_size().size() {
                0 => UNKNOWN_SIZE,
                size => size as u64,
            };
            Some(Access {
                address: Address(address),
                length,
                writes,
            })
        });
        Ok(Next {
            accesses: accesses.collect(),
            enters_kernel: false,
        })
    }
}

fn decode(at: u64, memory: &Memory) -> Known {
    let mut bytes = [0; LONGEST_INSTRUCTION];
    let read = memory.read_some(Address(at), &mut bytes);
    let mut decoder = Decoder::with_ip(64, &bytes[..read], at, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let mut factory = InstructionInfoFactory::new();
    Known {
        memory: factory.info(&instruction).used_memory().to_vec(),
        enters_kernel: instruction.mnemonic() == Mnemonic::Syscall,
    }
}

/// The value of a register, or the base of a segment.
fn value(registers: &user_regs_struct, register: Register) -> Option<u64> {
    let full = register.full_register();
    let value = match full {
        Register::RAX => registers.rax,
        Register::RBX => registers.rbx,
        Register::RCX => registers.rcx,
        Register::RDX => registers.rdx,
        Register::RSI => registers.rsi,
        Register::RDI => registers.rdi,
        Register::RBP => registers.rbp,
        Register::RSP => registers.rsp,
        Register::R8 => registers.r8,
        Register::R9 => registers.r9,
        Register::R10 => registers.r10,
        Register::R11 => registers.r11,
        Register::R12 => registers.r12,
        Register::R13 => registers.r13,
        Register::R14 => registers.r14,
        Register::R15 => registers.r15,
        Register::RIP => registers.rip,
        Register::FS => registers.fs_base,
        Register::GS => registers.gs_base,
        Register::CS | Register::DS | Register::ES | Register::SS => 0,
        _ => return None,
    };
    Some(match register.size() {
        4 if register != full => value & 0xffff_ffff,
        _ => value,
    })
}

/// Buffers of a system call. Which of its arguments are buffers is not looked up: each
/// that could be one counts, as long as the arguments could say it is.
fn of_system_call(
    registers: &user_regs_struct,
    memory: &Memory,
) -> Result<Vec<Access>, TraceeError> {
    let arguments = [
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
        registers.r9,
    ];
    let lengths = arguments.iter().filter(|value| **value <= LONGEST_BUFFER);
    let longest = lengths.max().copied().unwrap_or(0).max(SHORTEST_BUFFER);
    let mut buffers: Vec<(u64, u64)> = arguments.map(|at| (at, longest)).to_vec();
    let vector = match registers.rax.cast_signed() {
        libc::SYS_readv | libc::SYS_writev | libc::SYS_preadv | libc::SYS_pwritev => {
            Some((registers.rsi, registers.rdx))
        }
        libc::SYS_sendmsg | libc::SYS_recvmsg => {
            let header = Address(registers.rsi);
            Some((memory.word(header.plus(16))?, memory.word(header.plus(24))?))
        }
        _ => None,
    };
    if let Some((first, count)) = vector {
        for number in 0..count.min(1024) {
            let entry = Address(first).plus(16 * number);
            buffers.push((memory.word(entry)?, memory.word(entry.plus(8))?));
        }
    }
    let accesses = buffers.into_iter().map(|(address, length)| Access {
        address: Address(address),
        length,
        writes: true,
    });
    Ok(accesses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(address: u64, length: u64, writes: bool) -> Access {
        Access {
            address: Address(address),
            length,
            writes,
        }
    }

    #[test]
    fn accesses_conflict_that_overlap_and_of_which_one_writes() {
        let read = access(100, 8, false);
        assert!(read.conflicts(&access(104, 4, true)));
        assert!(access(96, 8, true).conflicts(&read));
        assert!(!read.conflicts(&access(104, 4, false)));
        assert!(!read.conflicts(&access(108, 4, true)));
        assert!(!read.conflicts(&access(92, 8, true)));
    }
}
