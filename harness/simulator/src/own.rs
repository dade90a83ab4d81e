//! Words of the simulator that each process has for itself, in its private memory: they
//! are copied by a fork and put back with the rest.

use crate::layout::OWN;

/// They.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Own {
    /// The simulator's stack pointer for the next call. The gate reads it: it is first.
    pub stack: u64,
    /// The registers of the innermost call being answered.
    pub frame: u64,
    /// Which process this is, as its place in the world's table.
    pub number: u64,
}

/// The words of the process that asks.
#[must_use]
pub fn own() -> Own {
    // SAFETY: the harness mapped them; only this process changes them.
    unsafe { (OWN as *const Own).read_volatile() }
}

/// Replaces them.
pub fn set(own: Own) {
    // SAFETY: as above.
    unsafe { (OWN as *mut Own).write_volatile(own) };
}

/// Which process asks.
#[must_use]
pub fn number() -> usize {
    own().number as usize
}
