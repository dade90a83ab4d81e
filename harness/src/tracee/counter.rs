//! Counts entries of the program's own functions inside the process: the entry
//! pad of each function calls a stub that decrements a counter of the running
//! thread and traps when it reaches zero. Flags are dead at a function's entry,
//! and the return address of the 5-byte call tells which function was entered.

use super::inject::{self, Gadget};
use super::{Memory, Stopped, TraceeError, stamps};
use crate::binary::Address;
use crate::patch::IMAGE_BASE;

/// The page with the stub and the injection gadget.
pub const STUB: Address = Address(0x3f00_0000);
/// One cache line for each thread's counter, addressed through its GS base,
/// which user programs on x86-64 Linux leave unused.
const COUNTERS: Address = Address(0x3f00_1000);
const COUNTER_STRIDE: u64 = 64;
/// Where behind its counter a thread's identity is kept; the stamping stub reads it.
const IDENTITY_OFFSET: u64 = 16;
/// Most threads of one process that can be counted apart.
pub const MAX_THREADS: u32 = 1024;
/// The counter that stands behind those of threads.
const ASIDE: Address = Address(COUNTERS.0 + COUNTER_STRIDE * MAX_THREADS as u64);
/// The page of the first thread's counter and of some that follow.
pub const COUNTER_PAGE: std::ops::Range<u64> = COUNTERS.0..COUNTERS.0 + 0x1000;
const PRIVATE_LENGTH: u64 = 0x1000 + COUNTER_STRIDE * (MAX_THREADS as u64 + 1);
/// Entry counts of functions of the patch image, shared by all processes of a test.
pub const COVERAGE: Address = Address(0x3f10_0000);
/// Bytes of it.
pub const COVERAGE_LENGTH: u64 = 0x1_0000;

/// Bytes from the stub on that Kairos keeps in a process.
pub const KEPT_LENGTH: u64 = COVERAGE.0 + COVERAGE_LENGTH - STUB.0;

/// A counter value that no session reaches.
pub const NEVER: u64 = 1 << 60;
/// Bytes of the call that the entry pad begins with.
pub const CALL_LENGTH: u64 = 5;

/// Where behind a counter its thread's switch is kept: whether pads that name another
/// function lead there.
const SWITCH_OFFSET: u64 = 8;
/// Counts down and traps at zero; then returns, or goes where the pad says, if the
/// switch is set. Only `r11` is changed, which no caller expects to be kept, and no
/// function to be given.
#[rustfmt::skip]
const STUB_CODE: [u8; 48] = [
    0x65, 0x48, 0x83, 0x2c, 0x25, 0, 0, 0, 0, 1, // sub qword gs:[0], 1
    0x74, 12,                                    // jz trap
    0x65, 0x80, 0x3c, 0x25, 8, 0, 0, 0, 0,       // look: cmp byte gs:[8], 0
    0x75, 4,                                     // jne switched
    0xc3,                                        // ret
    0xcc,                                        // trap: int3
    0xeb, 0xf1,                                  // jmp look
    0x4c, 0x8b, 0x1c, 0x24,                      // switched: mov r11, [rsp]
    0x66, 0x41, 0x81, 0x3b, 0xeb, 0x04,          // cmp word [r11], LEADS
    0x75, 8,                                     // jne back
    0x45, 0x8b, 0x5b, 0x02,                      // mov r11d, [r11 + 2]
    0x4c, 0x89, 0x1c, 0x24,                      // mov [rsp], r11
    0xc3,                                        // back: ret
];
/// Instruction pointer after the stub's `int3`.
const AFTER_TRAP: Address = STUB.plus(25);
/// What a pad that names another function has behind the counting call: a jump over the
/// four bytes of that function's address.
const LEADS: [u8; 2] = [0xeb, 0x04];

/// The gadget for injected calls, placed beside the stub.
pub const GADGET: Gadget = Gadget {
    address: STUB.plus(0x100),
};

/// What every entry of an own function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// Counts down to a stop. The shared memory that the process inherited holds the
    /// entry counts of functions of the patch image.
    Count,
    /// Stamps the time into the shared memory that it inherited.
    Stamp,
}

/// Prepares a process that stopped at its `execve`: maps stub, counters, the room
/// for the patch image and the shared memory that it inherited as descriptor
/// `shared`, and makes every own function call the stub.
///
/// `pads` are the entries of functions that have an entry pad, ascending.
///
/// # Errors
/// When the process is gone or a mapping is refused.
pub fn install(
    stopped: &Stopped,
    memory: &Memory,
    pads: &[Address],
    image_length: u64,
    instrument: Instrument,
    shared: i32,
) -> Result<(), TraceeError> {
    let registers = stopped.registers()?;
    let borrowed = Gadget {
        address: Address(registers.rip),
    };
    let mut original = [0; 3];
    memory.read(borrowed.address, &mut original)?;
    borrowed.write(memory)?;
    let map = |address: Address, length: u64, flags: i32, descriptor: i32| {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        inject::map(
            stopped, borrowed, address, length, protection, flags, descriptor,
        )
    };
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    map(STUB, PRIVATE_LENGTH, private, -1)?;
    if image_length > 0 {
        map(IMAGE_BASE, image_length, private | libc::MAP_NORESERVE, -1)?;
    }
    let (address, length, stub) = match instrument {
        Instrument::Count => (COVERAGE, COVERAGE_LENGTH, STUB),
        Instrument::Stamp => (stamps::BUFFER, stamps::BUFFER_LENGTH, stamps::STAMP_STUB),
    };
    map(address, length, libc::MAP_SHARED, shared)?;
    inject::close(stopped, borrowed, shared)?;
    memory.write(borrowed.address, &original)?;
    memory.write(STUB, &STUB_CODE)?;
    memory.write(stamps::STAMP_STUB, &stamps::code())?;
    GADGET.write(memory)?;
    stopped.set_registers(&registers)?;
    call_from(memory, pads, stub)
}

/// Writes the counting call into every pad.
fn call_from(memory: &Memory, pads: &[Address], stub: Address) -> Result<(), TraceeError> {
    let calls: Vec<_> = pads
        .iter()
        .map(|pad| (*pad, relative(0xe8, *pad, stub)))
        .collect();
    memory.patch(&calls)
}

/// A five-byte `call` (0xe8) or `jmp` (0xe9) at `from` to `to`.
#[must_use]
pub fn relative(opcode: u8, from: Address, to: Address) -> [u8; 5] {
    let distance = (to.since(from.plus(5)) & 0xffff_ffff) as u32;
    let mut code = [opcode, 0, 0, 0, 0];
    code[1..].copy_from_slice(&distance.to_le_bytes());
    code
}

/// Gives a thread its own counter and sets it. `identity` is what stamps of this
/// thread carry.
///
/// # Errors
/// When the thread is gone.
pub fn adopt(
    stopped: &Stopped,
    memory: &Memory,
    thread: u32,
    identity: u32,
    value: u64,
) -> Result<(), TraceeError> {
    give(stopped, memory, place(thread), identity, value)
}

/// Lets a process that runs in its parent's memory count aside and never stop:
/// the counters there are its parent's.
///
/// # Errors
/// When the process is gone.
pub fn step_aside(stopped: &Stopped, memory: &Memory, identity: u32) -> Result<(), TraceeError> {
    give(stopped, memory, ASIDE, identity, NEVER)
}

fn give(
    stopped: &Stopped,
    memory: &Memory,
    counter: Address,
    identity: u32,
    value: u64,
) -> Result<(), TraceeError> {
    let mut registers = stopped.registers()?;
    registers.gs_base = counter.0;
    stopped.set_registers(&registers)?;
    memory.write(counter.plus(IDENTITY_OFFSET), &identity.to_le_bytes())?;
    memory.write(counter, &value.to_le_bytes())
}

/// Sets a thread's counter: it traps at the `value`-th entry from now.
///
/// # Errors
/// When the process is gone.
pub fn set(memory: &Memory, thread: u32, value: u64) -> Result<(), TraceeError> {
    memory.write(place(thread), &value.to_le_bytes())
}

/// What a thread's counter stands at.
///
/// # Errors
/// When the process is gone.
pub fn get(memory: &Memory, thread: u32) -> Result<u64, TraceeError> {
    memory.word(place(thread))
}

/// What makes a pad, behind its counting call, name a function to go to instead; none
/// if that lies too far up.
#[must_use]
pub fn leads_to(function: Address) -> Option<[u8; 6]> {
    let mut code = [0; 6];
    code[..2].copy_from_slice(&LEADS);
    code[2..].copy_from_slice(&u32::try_from(function.0).ok()?.to_le_bytes());
    Some(code)
}

/// From now on, calls in the process's first thread of functions whose pads name
/// others go to these.
///
/// # Errors
/// When the process is gone.
pub fn set_switch(memory: &Memory) -> Result<(), TraceeError> {
    memory.write(place(0).plus(SWITCH_OFFSET), &[1])
}

/// Whether they do.
///
/// # Errors
/// When the process is gone.
pub fn is_switched(memory: &Memory) -> Result<bool, TraceeError> {
    let mut set = [0];
    memory.read(place(0).plus(SWITCH_OFFSET), &mut set)?;
    Ok(set != [0])
}

fn place(thread: u32) -> Address {
    COUNTERS.plus(u64::from(thread % MAX_THREADS) * COUNTER_STRIDE)
}

/// Whether a thread stands behind the stub's trap.
#[must_use]
pub const fn is_after_trap(registers: &libc::user_regs_struct) -> bool {
    registers.rip == AFTER_TRAP.0
}

/// If the thread stopped in the stub, the function that was being entered.
///
/// # Errors
/// When the process is gone.
pub fn entered(
    registers: &libc::user_regs_struct,
    memory: &Memory,
) -> Result<Option<Address>, TraceeError> {
    if !is_after_trap(registers) {
        return Ok(None);
    }
    let return_address = memory.word(Address(registers.rsp))?;
    Ok(Some(Address(return_address.wrapping_sub(CALL_LENGTH))))
}

/// The registers as they were before the function's first instruction.
#[must_use]
pub fn at_entry(registers: &libc::user_regs_struct, function: Address) -> libc::user_regs_struct {
    let mut at_entry = *registers;
    at_entry.rip = function.0;
    at_entry.rsp += 8;
    at_entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_reaches_its_target_forwards_and_backwards() {
        assert_eq!(
            relative(0xe8, Address(0x1000), Address(0x1005)),
            [0xe8, 0, 0, 0, 0]
        );
        assert_eq!(
            relative(0xe9, Address(0x1005), Address(0x1000)),
            [0xe9, 0xf6, 0xff, 0xff, 0xff]
        );
    }
}
