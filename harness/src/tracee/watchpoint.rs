//! The processor's debug registers (Intel SDM volume 3, 18.2): a thread stops with
//! SIGTRAP after an instruction that reads or writes one of four places of eight bytes.
//! Whatever lies beside a place stays untouched by this, and system calls that use it
//! work as ever: the kernel's own accesses are not seen.

use std::mem::{offset_of, size_of};

use nix::sys::ptrace;

use super::{Stopped, TraceeError};
use crate::binary::Address;

/// How many places a thread can watch.
pub const PLACES: usize = 4;

/// Bytes of a place, which begins at a multiple of them.
pub const WIDTH: u64 = 8;

/// The register that says why a thread stopped, and the one that turns places on.
const STATUS: usize = 6;
const CONTROL: usize = 7;

/// For the first place: on for this thread; both reads and writes, and eight bytes.
const ON: u64 = 1;
const ANY_ACCESS: u64 = 0b11 << 16;
const EIGHT_BYTES: u64 = 0b10 << 18;

/// Has the thread watch these places and no others.
///
/// # Errors
/// When the thread is gone, or the machine has no debug registers to give.
pub fn watch(stopped: &Stopped, places: &[Option<Address>; PLACES]) -> Result<(), TraceeError> {
    // The kernel takes an address for what its place is on for: off while they change.
    poke(stopped, CONTROL, 0)?;
    let mut control = 0;
    for (place, address) in places.iter().enumerate() {
        if let Some(address) = address {
            poke(stopped, place, address.0)?;
            control |= (ON << (2 * place)) | ((ANY_ACCESS | EIGHT_BYTES) << (4 * place));
        }
    }
    poke(stopped, CONTROL, control)
}

/// Which of its places a thread that stopped has touched since it was last asked.
///
/// # Errors
/// When the thread is gone.
pub fn touched(stopped: &Stopped) -> Result<[bool; PLACES], TraceeError> {
    let thread = stopped.thread();
    let status = ptrace::read_user(thread, offset(STATUS))
        .map_err(TraceeError::from_errno("PTRACE_PEEKUSER", thread))?;
    let touched = std::array::from_fn(|place| status & (1 << place) != 0);
    if touched.contains(&true) {
        poke(stopped, STATUS, 0)?;
    }
    Ok(touched)
}

/// Whether it has touched any, without having been asked.
///
/// # Errors
/// When the thread is gone.
pub(super) fn has_touched(stopped: &Stopped) -> Result<bool, TraceeError> {
    let thread = stopped.thread();
    let status = ptrace::read_user(thread, offset(STATUS))
        .map_err(TraceeError::from_errno("PTRACE_PEEKUSER", thread))?;
    Ok(status & ((1 << PLACES) - 1) != 0)
}

fn poke(stopped: &Stopped, register: usize, value: u64) -> Result<(), TraceeError> {
    let thread = stopped.thread();
    ptrace::write_user(thread, offset(register), value.cast_signed())
        .map_err(TraceeError::from_errno("PTRACE_POKEUSER", thread))
}

/// Where the kernel keeps a debug register in what it shows of a thread.
fn offset(register: usize) -> ptrace::AddressType {
    let at = offset_of!(libc::user, u_debugreg) + register * size_of::<u64>();
    std::ptr::without_provenance_mut(at)
}
