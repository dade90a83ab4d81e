//! Memory that a server is given beyond its own, to measure how costs grow with it.

use super::counter::GADGET;
use super::inject;
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

/// Where it lies: between a program and its libraries, far from both.
const ADDRESS: Address = Address(0x2000_0000_0000);

/// Gives a stopped server so many bytes of private memory with every page present, as
/// if it held so much data. The caller's registers are put back.
///
/// # Errors
/// When the process is gone, or there is not so much memory.
pub fn give(stopped: &Stopped, memory: &Memory, bytes: u64) -> Result<(), TraceeError> {
    let before = stopped.registers()?;
    inject::map(
        stopped,
        GADGET,
        ADDRESS,
        bytes,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE,
        -1,
    )?;
    // Populating is best effort: the last page says whether it went through.
    memory.write(ADDRESS.plus(bytes.saturating_sub(8)), &1_u64.to_le_bytes())?;
    stopped.set_registers(&before)
}
