//! Memory that the server asks for once it is ready: a break with room ahead, and an
//! arena instead of new mappings, so that nothing has to be unmapped to go back.

use crate::layout::{ARENA, ARENA_LENGTH};
use crate::raw;
use crate::world::{Answer, Declined, World};

const BRK: i64 = 12;
/// Room ahead of the break.
const HEADROOM: u64 = 1 << 20;
const PAGE: u64 = 4096;
const ENOMEM: i64 = -12;
const ANONYMOUS: u64 = 0x20;
const FIXED: u64 = 0x10;

/// State of a process's memory.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Memory {
    /// Where the program's data end, as the server sees it.
    pub break_now: u64,
    /// The lowest break.
    pub break_first: u64,
    /// How far it can go.
    pub break_last: u64,
    /// Bytes of the arena in use.
    pub used: u64,
}

impl Memory {
    /// Takes memory from the arena, zeroed.
    ///
    /// # Errors
    /// When it is used up.
    pub fn take(&mut self, length: u64) -> Result<u64, Declined> {
        let length = (length + PAGE - 1) & !(PAGE - 1);
        if self.used + length > ARENA_LENGTH {
            return Err(Declined("more memory than is simulated"));
        }
        let address = ARENA + self.used;
        self.used += length;
        Ok(address)
    }

    fn is_own(&self, address: u64) -> bool {
        (ARENA..ARENA + self.used).contains(&address)
    }

    /// Takes memory back.
    fn give_back(&mut self, address: u64, length: u64) {
        let length = (length + PAGE - 1) & !(PAGE - 1);
        if !self.is_own(address) {
            return;
        }
        // SAFETY: the server gave it up.
        unsafe { raw::bytes_mut(address, length).fill(0) };
        if address + length == ARENA + self.used {
            self.used -= length;
        }
    }
}

/// Makes room for what the server may ask for from now on.
pub fn seal(world: &mut World) {
    // SAFETY: the break belongs to nobody else.
    unsafe {
        let now = raw::call(BRK, [0; 6]) as u64;
        let memory = &mut world.me_mut().memory;
        memory.break_first = now;
        memory.break_now = now;
        let last = (now + HEADROOM) & !(PAGE - 1);
        memory.break_last = raw::call(BRK, [last, 0, 0, 0, 0, 0]) as u64;
    }
}

/// `brk`.
pub fn set_break(world: &mut World, wanted: u64) -> i64 {
    let memory = &mut world.me_mut().memory;
    if wanted == 0 || wanted > memory.break_last || wanted + (64 << 20) < memory.break_first {
        return memory.break_now as i64;
    }
    if wanted < memory.break_now {
        // SAFETY: the server gave it up; it will expect zeros.
        unsafe { raw::bytes_mut(wanted, memory.break_now - wanted).fill(0) };
    }
    memory.break_now = wanted;
    wanted as i64
}

/// `mmap` of memory that belongs to no file.
///
/// # Errors
/// When it asks for what is not simulated.
pub fn map(world: &mut World, a: [u64; 6]) -> Answer {
    if a[3] & FIXED != 0 {
        return Err(Declined("mmap(2) at a fixed place after it was ready"));
    }
    if a[3] & ANONYMOUS == 0 {
        return Err(Declined("mmap(2) of a device after it was ready"));
    }
    world
        .me_mut()
        .memory
        .take(a[1])
        .map(|address| address as i64)
}

/// `munmap`.
pub fn unmap(world: &mut World, address: u64, length: u64) -> i64 {
    world.me_mut().memory.give_back(address, length);
    0
}

/// `mremap`.
///
/// # Errors
/// When memory is used up.
pub fn remap(world: &mut World, a: [u64; 6]) -> Answer {
    let [old, old_length, new_length, flags, ..] = a;
    if new_length <= old_length {
        return Ok(old as i64);
    }
    if flags & 1 == 0 {
        return Ok(ENOMEM);
    }
    let new = world.me_mut().memory.take(new_length)?;
    // SAFETY: both are the server's, and do not overlap.
    unsafe {
        raw::bytes_mut(new, old_length).copy_from_slice(raw::bytes(old, old_length));
    }
    world.me_mut().memory.give_back(old, old_length);
    Ok(new as i64)
}

/// `madvise`.
pub fn advise(address: u64, length: u64, advice: u64) -> i64 {
    if advice == 4 {
        // SAFETY: the server expects zeros there.
        unsafe { raw::bytes_mut(address, length).fill(0) };
    }
    0
}
