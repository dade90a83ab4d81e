//! Signals: what the server does about each, those that wait, and their delivery.

use core::arch::asm;

use crate::network::EINVAL;
use crate::raw;
use crate::waiting::trap;
use crate::world::{Declined, Reason, World};

/// Highest signal number.
pub const MOST_SIGNALS: usize = 64;

/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
const IGNORE: u64 = 1;

/// `SA_RESETHAND`.
const ONCE: u64 = 1 << 31;

const RT_SIGACTION: i64 = 13;
const RT_SIGPROCMASK: i64 = 14;
const GETPID: i64 = 39;
const TGKILL: i64 = 234;

/// Signals that the kernel sends for what a process does itself: SIGILL, SIGTRAP,
/// SIGBUS, SIGFPE, SIGSEGV, SIGSYS. They reach the handler that the kernel knows.
const FAULTS: u64 = 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 11 | 1 << 31;

/// What is done about a signal, as the kernel lays it out: handler, flags, where it
/// returns, signals blocked meanwhile.
pub type Action = [u64; 4];

/// State of signals.
#[repr(C)]
pub struct Signals {
    /// What is done about each, by number.
    pub actions: [Action; MOST_SIGNALS + 1],
    /// Signals that wait, as a set.
    pub pending: u64,
}

impl Signals {
    /// Makes a signal wait for its delivery.
    pub fn send(&mut self, signal: u32) {
        self.pending |= 1 << (signal - 1);
    }
}

/// `rt_sigaction`. Once the server is ready, the kernel is told of an action only when
/// its signal is delivered: what it knows is not put back.
///
/// # Errors
/// When the action for a fault changes once the server is ready.
pub fn action(world: &mut World, a: [u64; 6]) -> Result<i64, Declined> {
    let signal = a[0] as usize;
    let sealed = world.control.sealed != 0;
    if !(1..=MOST_SIGNALS).contains(&signal) {
        // SAFETY: handed on as it is.
        return Ok(unsafe { raw::call(RT_SIGACTION, a) });
    }
    let before = world.signals.actions[signal];
    if a[1] != 0 {
        // SAFETY: the server's own structure.
        let wanted = unsafe { raw::load::<Action>(a[1]) };
        if sealed && FAULTS >> signal & 1 != 0 && wanted != before {
            return Err(Declined("another action for a fault after it was ready"));
        }
        world.signals.actions[signal] = wanted;
    }
    if !sealed {
        // SAFETY: handed on as it is.
        return Ok(unsafe { raw::call(RT_SIGACTION, a) });
    }
    const NEVER_CAUGHT: u64 = 1 << 9 | 1 << 19;
    if NEVER_CAUGHT >> signal & 1 != 0 && a[1] != 0 {
        world.signals.actions[signal] = before;
        return Ok(EINVAL);
    }
    if a[2] != 0 {
        // SAFETY: the server's own structure.
        unsafe { raw::store(a[2], before) };
    }
    Ok(0)
}

/// The set of blocked signals.
#[must_use]
pub fn blocked() -> u64 {
    let mut mask = 0_u64;
    // SAFETY: the kernel writes eight bytes.
    let _ = unsafe { raw::call(RT_SIGPROCMASK, [0, 0, &raw mut mask as u64, 8, 0, 0]) };
    mask
}

/// Replaces the set of blocked signals; returns the one before.
fn set_blocked(mask: u64) -> u64 {
    let mut before = 0_u64;
    let (new, old) = (&raw const mask as u64, &raw mut before as u64);
    // SAFETY: the kernel reads and writes eight bytes each.
    let _ = unsafe { raw::call(RT_SIGPROCMASK, [2, new, old, 8, 0, 0]) };
    before
}

const fn ignored_by_default(signal: u32) -> bool {
    // SIGCHLD, SIGCONT, SIGURG, SIGWINCH
    matches!(signal, 17 | 18 | 23 | 28)
}

/// Delivers signals that wait and are not blocked, `mask` being in force instead of
/// the server's own set if there is one. Whether a handler ran.
pub fn deliver(world: &mut World, mask: Option<u64>) -> bool {
    let mut handled = false;
    while world.signals.pending != 0 {
        let open = world.signals.pending & !mask.unwrap_or_else(blocked);
        if open == 0 {
            break;
        }
        let signal = open.trailing_zeros() + 1;
        world.signals.pending &= !(1 << (signal - 1));
        match world.signals.actions[signal as usize][0] {
            IGNORE => {}
            DEFAULT if ignored_by_default(signal) => {}
            DEFAULT => {
                trap(world, Reason::Dies, i64::from(signal), 0);
            }
            _ => {
                run_handler(world, signal, mask);
                handled = true;
            }
        }
    }
    handled
}

/// Has the kernel run the handler, right here. Calls that it makes are answered below
/// this call on the simulator's stack.
#[inline(never)]
fn run_handler(world: &mut World, signal: u32, mask: Option<u64>) {
    let (stack, frame) = (world.control.stack, world.control.frame);
    let here: u64;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack)) };
    // Below this frame, its red zone and what the kernel puts there.
    world.control.stack = (here - 0x4000) & !15;
    // SAFETY: a question without arguments.
    let pid = unsafe { raw::call(GETPID, [0; 6]) };
    let action = &mut world.signals.actions[signal as usize];
    let place = core::ptr::from_ref(action) as u64;
    // SAFETY: what the server wants done about it.
    let _ = unsafe { raw::call(RT_SIGACTION, [u64::from(signal), place, 0, 8, 0, 0]) };
    if action[1] & ONCE != 0 {
        action[0] = DEFAULT;
    }
    let before = mask.map(set_blocked);
    // The pointer goes in, so that the world counts as changed by what the handler does.
    // SAFETY: sends a signal to this thread alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") TGKILL => _,
            in("rdi") pid, in("rsi") pid, in("rdx") u64::from(signal),
            in("r8") &raw mut *world,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if let Some(before) = before {
        set_blocked(before);
    }
    world.control.stack = stack;
    world.control.frame = frame;
}
