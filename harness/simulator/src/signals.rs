//! Signals: what each process does about each, those that wait, and their delivery.

use core::arch::asm;

use crate::layout::INSTALLED;
use crate::network::EINVAL;
use crate::own::{self, Own};
use crate::processes::State;
use crate::raw;
use crate::waiting::trap;
use crate::world::{Answer, Declined, Reason, World};

/// Highest signal number.
pub const MOST_SIGNALS: usize = 64;

/// `SIG_DFL`.
const DEFAULT: u64 = 0;
/// `SIG_IGN`.
pub const IGNORE: u64 = 1;

const RT_SIGACTION: i64 = 13;
const RT_SIGPROCMASK: i64 = 14;
const GETPID: i64 = 39;
const GETUID: i64 = 102;
const TGKILL: i64 = 234;
/// `rt_tgsigqueueinfo`: a process may tell itself whatever it wants.
const TELL: i64 = 297;
const KILL: i64 = 62;
/// `SIGKILL`.
pub const SIGKILL: u32 = 9;
/// `SIGSTOP`, `SIGTSTP`, `SIGTTIN`, `SIGTTOU`.
const STOPS: u64 = 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;
/// Signals that faults of a process itself raise: the kernel must know what is done
/// about them.
const OF_FAULTS: u64 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 30;

/// What is done about a signal, as the kernel lays it out: handler, flags, restorer,
/// signals blocked meanwhile.
pub type Action = [u64; 4];

const RESTARTS: u64 = 0x1000_0000;
const RESETS: u64 = 0x8000_0000;

/// State of a process's signals.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Signals {
    /// What is done about each, by number.
    pub actions: [Action; MOST_SIGNALS + 1],
    /// Signals that wait, as a set.
    pub pending: u64,
    /// Whether it is the first process of a namespace: then nothing happens by default,
    /// unless somebody from outside kills it.
    pub first: u64,
    /// Where each came from, by number.
    pub senders: [Sender; MOST_SIGNALS + 1],
}

/// Where a signal comes from, as its handler may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sender {
    /// `si_code`.
    code: i32,
    /// `si_pid`.
    pid: u32,
    /// `si_status`.
    status: u32,
}

impl Sender {
    /// The kernel.
    pub const KERNEL: Self = Self {
        code: 0x80,
        pid: 0,
        status: 0,
    };
    /// Kairos, the first process of the sandbox.
    pub const KAIROS: Self = Self::process(1);

    /// A process, by `kill`.
    #[must_use]
    pub const fn process(pid: u32) -> Self {
        Self {
            code: 0,
            pid,
            status: 0,
        }
    }

    /// A process, by `tgkill`.
    const fn thread(pid: u32) -> Self {
        Self {
            code: -6,
            ..Self::process(pid)
        }
    }

    /// A child that has ended, with its status as `wait4` tells it.
    #[must_use]
    pub const fn child(pid: u32, status: u32) -> Self {
        let killed = status & 0x7f;
        Self {
            code: if killed == 0 { 1 } else { 2 },
            pid,
            status: if killed == 0 { status >> 8 } else { killed },
        }
    }
}

/// What came of delivering signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// No handler ran.
    Nothing,
    /// Handlers ran after which calls that can be are made anew.
    Restarts,
    /// Handlers ran.
    Interrupts,
}

const fn bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

impl Signals {
    /// Makes a signal wait for its delivery.
    pub fn send(&mut self, signal: u32, sender: Sender) {
        if self.pending & bit(signal) == 0 {
            self.senders[signal as usize] = sender;
        }
        self.pending |= bit(signal);
    }

    /// What is done about a signal.
    #[must_use]
    pub fn handler(&self, signal: u32) -> u64 {
        self.actions[signal as usize][0]
    }

    /// Whether a signal does nothing by default.
    const fn passes_by(&self, signal: u32) -> bool {
        ignored_by_default(signal) || self.first != 0 && signal != SIGKILL
    }

    /// Signals that wait, are not blocked by `blocked`, and do anything.
    #[must_use]
    pub fn open(&self, blocked: u64) -> u64 {
        let mut open = self.pending & !(blocked & !bit(SIGKILL));
        let mut left = open;
        while left != 0 {
            let signal = left.trailing_zeros() + 1;
            left &= left - 1;
            let handler = self.handler(signal);
            if handler == IGNORE || handler == DEFAULT && self.passes_by(signal) {
                open &= !bit(signal);
            }
        }
        open
    }
}

/// `rt_sigaction`.
///
/// # Errors
/// When the action of a fault changes once the server is ready: that could not be put
/// back.
pub fn action(world: &mut World, a: [u64; 6]) -> Answer {
    let signal = a[0] as usize;
    if !(1..=MOST_SIGNALS).contains(&signal) {
        return Ok(EINVAL);
    }
    let of_fault = OF_FAULTS & bit(signal as u32) != 0;
    let sealed = world.control.sealed != 0;
    let before = world.me().signals.actions[signal];
    if a[1] != 0 {
        // SAFETY: the server's own structure.
        let new: Action = unsafe { raw::load(a[1]) };
        if of_fault && sealed && new != before {
            return Err(Declined("another action for a fault after it was ready"));
        }
        if of_fault && !sealed {
            // SAFETY: handed on as it is.
            let answer = unsafe { raw::call(RT_SIGACTION, [a[0], a[1], 0, 8, 0, 0]) };
            if answer < 0 {
                return Ok(answer);
            }
        }
        if matches!(signal as u32, SIGKILL | 19) {
            return Ok(EINVAL);
        }
        world.me_mut().signals.actions[signal] = new;
        let signal = signal as u32;
        if new[0] == IGNORE || new[0] == DEFAULT && ignored_by_default(signal) {
            world.me_mut().signals.pending &= !bit(signal);
        }
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

/// Delivers signals that wait for this process and are not blocked, `mask` being in
/// force instead of its own set if there is one.
///
/// # Errors
/// When a signal would stop the process.
pub fn deliver(world: &mut World, mask: Option<u64>) -> Result<Delivered, Declined> {
    let mut delivered = Delivered::Nothing;
    while world.me().signals.pending != 0 {
        let blocked = mask.unwrap_or_else(blocked) & !bit(SIGKILL);
        let open = world.me().signals.pending & !blocked;
        if open == 0 {
            break;
        }
        let signal = if open & bit(SIGKILL) != 0 {
            SIGKILL
        } else {
            open.trailing_zeros() + 1
        };
        world.me_mut().signals.pending &= !bit(signal);
        let action = world.me().signals.actions[signal as usize];
        match action[0] {
            IGNORE => {}
            DEFAULT if world.me().signals.passes_by(signal) => {}
            DEFAULT if STOPS & bit(signal) != 0 => {
                return Err(Declined("a signal that stops the process"));
            }
            DEFAULT => {
                trap(world, Reason::Dies, i64::from(signal), 0);
            }
            _ => {
                install(signal, action);
                if action[1] & RESETS != 0 {
                    world.me_mut().signals.actions[signal as usize] = [DEFAULT, 0, 0, 0];
                }
                run_handler(world, signal, mask);
                if action[1] & RESTARTS == 0 {
                    delivered = Delivered::Interrupts;
                } else if delivered == Delivered::Nothing {
                    delivered = Delivered::Restarts;
                }
            }
        }
    }
    Ok(delivered)
}

/// Tells the kernel of an action, if it does not know.
fn install(signal: u32, action: Action) {
    // SAFETY: the harness mapped the table; it is this process's alone.
    let known = unsafe { &mut (*(INSTALLED as *mut [Action; MOST_SIGNALS + 1]))[signal as usize] };
    if *known != action || action[1] & RESETS != 0 {
        *known = action;
        let place = &raw const action as u64;
        // SAFETY: a structure of ours.
        let _ = unsafe { raw::call(RT_SIGACTION, [u64::from(signal), place, 0, 8, 0, 0]) };
    }
}

/// Has the kernel run the handler, right here. Calls that it makes are answered below
/// this call on the simulator's stack.
#[inline(never)]
fn run_handler(world: &mut World, signal: u32, mask: Option<u64>) {
    let before = own::own();
    let here: u64;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack)) };
    // Below this frame, its red zone and what the kernel puts there.
    let mut within = Own {
        stack: (here - 0x4000) & !15,
        handlers: before.handlers + 1,
        ..before
    };
    if let Some(place) = within.interrupted.get_mut(before.handlers as usize) {
        *place = before.frame;
    }
    own::set(within);
    // SAFETY: a question without arguments.
    let (pid, user) = unsafe { (raw::call(GETPID, [0; 6]), raw::call(GETUID, [0; 6])) };
    let sender = world.me().signals.senders[signal as usize];
    // `siginfo_t`; the sandbox has one user.
    let mut told = [0_u32; 32];
    told[0] = signal;
    told[2] = sender.code.cast_unsigned();
    (told[4], told[5], told[6]) = (sender.pid, user as u32, sender.status);
    let set = mask.map(set_blocked);
    // The pointer goes in, so that the world counts as changed by what the handler does.
    // SAFETY: sends a signal to this thread alone.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") TELL => _,
            in("rdi") pid, in("rsi") pid, in("rdx") u64::from(signal),
            in("r8") &raw mut *world, in("r10") &raw const told,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if let Some(set) = set {
        set_blocked(set);
    }
    own::set(before);
}

/// `kill`, `tkill` and `tgkill`.
///
/// # Errors
/// When a signal would stop the process.
pub fn kill(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    const NO_SUCH_PROCESS: i64 = -3;
    let (whom, signal) = if number == TGKILL {
        (a[1] as i32, a[2])
    } else {
        (a[0] as i32, a[1])
    };
    if signal > MOST_SIGNALS as u64 {
        return Ok(EINVAL);
    }
    let (me, group) = (own::number(), world.me().group);
    let space = world.me().space;
    let mut any = false;
    for at in 0..world.count as usize {
        let (seen, seen_by) = (world.number_of(at), world.number_seen_by(at, me));
        let of_group = world.group_number(world.processes[at].group);
        let process = &mut world.processes[at];
        let is_meant = match whom {
            0 => process.group == group,
            -1 => at != me && !(space != 0 && seen == 1),
            ..-1 => of_group == whom.unsigned_abs(),
            _ => seen == whom as u32,
        };
        if !is_meant || seen == 0 || matches!(process.state, State::None | State::Gone) {
            continue;
        }
        any = true;
        // Nobody inside of a namespace can kill its first process.
        let spared = process.signals.first != 0 && process.space == space;
        if signal != 0 && process.lives() && !(spared && signal as u32 == SIGKILL) {
            let sender = match number {
                KILL => Sender::process(seen_by),
                _ => Sender::thread(seen_by),
            };
            process.signals.send(signal as u32, sender);
        }
    }
    if !any {
        return Ok(NO_SUCH_PROCESS);
    }
    deliver(world, None)?;
    Ok(0)
}
