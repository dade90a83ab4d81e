//! Where rewritten calls arrive: saves what the kernel would leave alone, goes to the
//! simulator's own stack, and answers.

use core::arch::global_asm;
use core::panic::PanicInfo;

use crate::calls;
use crate::ends;
use crate::layout::{OWN, WORLD};
use crate::own::{self, Own};
use crate::waiting::decline;
use crate::world::{Declined, World};

/// The caller's registers as the gate saves them, lowest first.
#[repr(C)]
pub struct Frame {
    number: u64,
    r9: u64,
    r8: u64,
    r10: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    /// What calls preserve, and the caller's stack pointer.
    preserved: [u64; 7],
}

// The caller has stepped over its red zone (128 bytes) and called; the return steps
// back. `Own::stack` is the first of a process's own words.
global_asm!(
    ".globl kairos_gate",
    ".globl kairos_leave",
    ".globl kairos_died",
    "kairos_gate:",
    "mov r11, rsp",
    "movabs rcx, {own}",
    "mov rsp, [rcx]",
    "push r11",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push rbp",
    "push rbx",
    "push rdi",
    "push rsi",
    "push rdx",
    "push r10",
    "push r8",
    "push r9",
    "push rax",
    "mov rdi, rsp",
    "sub rsp, 512",
    "fxsave64 [rsp]",
    "cld",
    "call {answer}",
    "kairos_leave:",
    "fxrstor64 [rsp]",
    "add rsp, 520",
    "pop r9",
    "pop r8",
    "pop r10",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbx",
    "pop rbp",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "pop rsp",
    "ret 0x80",
    "kairos_died:",
    "movabs rcx, {own}",
    "mov rsp, [rcx]",
    "call {died}",
    "ud2",
    own = const OWN,
    answer = sym answer,
    died = sym died,
);

fn world() -> &'static mut World {
    // SAFETY: the harness placed it there; one thread of all processes runs at a time.
    unsafe { &mut *(WORLD as *mut World) }
}

extern "C" fn answer(frame: &Frame) -> i64 {
    let world = world();
    let frame_at = core::ptr::from_ref(frame) as u64;
    own::set(Own {
        frame: frame_at,
        ..own::own()
    });
    let arguments = [
        frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9,
    ];
    match calls::answer(world, frame.number as i64, arguments) {
        Ok(value) => value,
        Err(why) => decline(world, why),
    }
}

extern "C" fn died() {
    let world = world();
    let signal = world.me().killed_by;
    if let Err(why) = ends::end(world, signal as i32 & 0x7f) {
        decline(world, why);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    decline(world(), Declined("a fault of the simulator"))
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _,
            inout("rcx") count => _, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // SAFETY: what is still to be read is not overwritten.
        return unsafe { memcpy(to, from, count) };
    }
    // SAFETY: the caller's; backwards, for the same reason.
    unsafe {
        core::arch::asm!("std", "rep movsb", "cld",
            inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _,
            inout("rcx") count => _, options(nostack));
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe {
        core::arch::asm!("rep stosb", inout("rdi") to => _, in("al") byte as u8,
            inout("rcx") count => _, options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: the caller's.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(one, other, count) }
}
