//! What a server does while it waits: the client acts, signals arrive, time jumps.

use core::arch::asm;

use crate::descriptors::Kind;
use crate::layout::{COUNTER, NEVER};
use crate::marks;
use crate::memory;
use crate::own;
use crate::play::{self, Turn};
use crate::processes::{Awaited as Wanted, State, hand_over};
use crate::raw;
use crate::signals::{self, Delivered, Sender};
use crate::world::{Awaited, Declined, EVERY_PROCESS, Phase, Reason, World};

/// `POLLIN`.
pub const INPUT: u32 = 1;
/// `POLLOUT`.
pub const OUTPUT: u32 = 4;
/// `POLLERR`.
pub const ERROR: u32 = 8;
/// `POLLHUP`.
pub const HANG_UP: u32 = 16;
/// `POLLNVAL`.
pub const INVALID: u32 = 32;
/// `POLLRDHUP`.
pub const PEER_HANG_UP: u32 = 0x2000;
/// Events that are reported without being asked for.
pub const ALWAYS: u32 = ERROR | HANG_UP;

/// Looks in a row that find nothing before one counts as waiting for a moment: a
/// server that looks without waiting would never let anybody else act.
const MOST_LOOKS: u32 = 200;
const MOMENT: u64 = 1_000_000;
const SIGALRM: u32 = 14;
/// Nanoseconds that a server may wait before it is ready.
const MOST_STARTING: u64 = 60_000_000_000;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What was waited for is there.
    Ready,
    /// The time is up.
    TimedOut,
    /// A signal handler ran.
    Interrupted,
}

/// How to wait.
#[derive(Clone, Copy, Debug)]
pub struct Wait {
    /// Nanoseconds; for ever if none.
    pub timeout: Option<u64>,
    /// Signals blocked meanwhile, if not the process's own set.
    pub mask: Option<u64>,
    /// Whether it waits for time to pass and not for an event.
    pub sleeps: bool,
    /// Whether it goes on after a handler that asks for that.
    pub restarts: bool,
}

impl Wait {
    /// Until the event is there; a call that is made anew after a handler.
    pub const FOR_EVER: Self = Self {
        timeout: None,
        mask: None,
        sleeps: false,
        restarts: true,
    };
}

/// What an entry counter is set to that is not to reach zero.
pub const NEVER_ARMED: u64 = NEVER;

/// Stops for the harness.
pub fn trap(world: &mut World, reason: Reason, detail: i64, argument: i64) {
    world.control.reason = reason;
    world.control.detail = detail;
    world.control.argument = argument;
    // SAFETY: the harness catches it; it may read and write the world meanwhile.
    unsafe { asm!("int3", in("rax") &raw mut *world) };
    world.control.reason = Reason::None;
}

/// Stops for good: the session cannot be simulated.
pub fn decline(world: &mut World, why: Declined) -> ! {
    loop {
        let text = why.0.as_bytes();
        trap(
            world,
            Reason::Declined,
            text.as_ptr() as i64,
            text.len() as i64,
        );
    }
}

/// Waits until `ready`; `awaited` tells other processes what is waited for.
///
/// # Errors
/// When something happens that is not simulated.
pub fn wait(
    world: &mut World,
    ready: &mut dyn FnMut(&mut World) -> bool,
    how: Wait,
    awaited: Wanted,
) -> Result<Woken, Declined> {
    let mut timeout = how.timeout;
    if timeout == Some(0) {
        if ready(world) {
            return Ok(Woken::Ready);
        }
        world.me_mut().looks += 1;
        if world.me().looks < MOST_LOOKS {
            return Ok(Woken::TimedOut);
        }
        timeout = Some(MOMENT);
    }
    world.me_mut().looks = 0;
    let now = world.control.now;
    let deadline = timeout.map_or(u64::MAX, |timeout| now.saturating_add(timeout));
    world.me_mut().wait = Wanted {
        deadline,
        sleeps: u32::from(how.sleeps),
        ..awaited
    };
    loop {
        if ready(world) {
            return Ok(Woken::Ready);
        }
        match signals::deliver(world, how.mask)? {
            Delivered::Nothing => {}
            Delivered::Restarts if how.restarts => {
                // What the handler waited for stands there now.
                world.me_mut().wait = Wanted {
                    deadline,
                    sleeps: u32::from(how.sleeps),
                    ..awaited
                };
                continue;
            }
            _ => return Ok(Woken::Interrupted),
        }
        if world.control.now >= deadline {
            return Ok(Woken::TimedOut);
        }
        if world.control.phase == Phase::Starting {
            if !how.sleeps {
                trap(world, Reason::Still, 0, 0);
            }
            if world.control.sealed != 0 {
                begin(world);
                continue;
            }
        } else {
            if world.others_live() && let_others_run(world, how)? {
                continue;
            }
            over_if_stopped(world);
            if play::turn(world, world.at_rest(how.sleeps))? == Turn::Acted {
                continue;
            }
        }
        pass_time(world)?;
    }
}

/// Lets another process run if one can; whether one did.
fn let_others_run(world: &mut World, how: Wait) -> Result<bool, Declined> {
    let Some(next) = world.next_process() else {
        return Ok(false);
    };
    world.me_mut().wait.blocked = how.mask.unwrap_or_else(signals::blocked);
    world.me_mut().state = State::Waits;
    hand_over(world, next)?;
    world.me_mut().state = State::Runs;
    Ok(true)
}

/// Lets others run before this one goes on.
///
/// # Errors
/// When something happens that is not simulated.
pub fn yield_now(world: &mut World) -> Result<(), Declined> {
    if let Some(next) = world.next_process() {
        hand_over(world, next)?;
    }
    Ok(())
}

/// The server is ready: what it may ask for is prepared, and the session begins.
fn begin(world: &mut World) {
    memory::seal(world);
    for inode in &mut world.files.inodes {
        inode.rewritten = 0;
    }
    play::note_logs(world, 0);
    trap(world, Reason::Sealed, 0, 0);
    play::begin(world);
}

/// Sets the entry counter of the process that asks for the exchange that is under way,
/// if that was not done.
pub fn arm(world: &mut World) {
    let me = own::number();
    let control = &world.control;
    let wanted = control.phase == Phase::Session
        && control.exchange == control.arm_exchange
        && (control.arm_process as usize == me || control.arm_process == EVERY_PROCESS);
    let count = if wanted { control.arm_count } else { NEVER };
    let exchange = control.exchange + 1;
    let process = &mut world.processes[me];
    if process.armed_in == exchange {
        return;
    }
    (process.armed_in, process.armed) = (exchange, count);
    // SAFETY: the harness placed the counter there.
    unsafe { raw::store(COUNTER, count) };
}

/// Lets time jump to the next thing that it brings to any process. Ends the run where
/// there is none within the limits.
///
/// # Errors
/// When a server that is not ready yet waits too long.
pub fn pass_time(world: &mut World) -> Result<(), Declined> {
    let now = world.control.now;
    let me = own::number();
    let mut next = u64::MAX;
    for (at, process) in world.known().iter().enumerate() {
        if process.lives() {
            // Who waits for nothing that time brings says so by a deadline never.
            if at == me || process.state == State::Waits {
                next = next.min(process.wait.deadline);
            }
            if process.alarm > 0 {
                next = next.min(process.alarm);
            }
        }
    }
    let control = &mut world.control;
    let most = match control.phase {
        Phase::Starting => MOST_STARTING,
        Phase::Stop => control.most_idle_stopping,
        _ => control.most_idle,
    };
    let until_stall = most.saturating_sub(control.idle);
    let jump = if next == u64::MAX {
        until_stall.saturating_add(1)
    } else {
        next.saturating_sub(now)
    };
    if jump > until_stall {
        if control.phase == Phase::Starting {
            return Err(Declined("a server that waits before it is ready"));
        }
        control.now += until_stall;
        play::stall(world);
    }
    control.now += jump;
    control.idle += jump;
    let now = control.now;
    for at in 0..world.count as usize {
        let process = &mut world.processes[at];
        if process.lives() && process.alarm > 0 && process.alarm <= now {
            process.alarm = if process.alarm_interval > 0 {
                now + process.alarm_interval
            } else {
                0
            };
            process.signals.send(SIGALRM, Sender::KERNEL);
        }
    }
    Ok(())
}

/// Ends the run if the server was asked to stop and its first process has ended; the
/// others are at rest.
pub fn over_if_stopped(world: &mut World) {
    if world.control.phase == Phase::Stop && world.control.dead != 0 {
        over(world);
    }
}

/// Ends the run: the harness takes it from here.
pub fn over(world: &mut World) -> ! {
    marks::check(world);
    world.control.phase = Phase::Over;
    loop {
        trap(world, Reason::Over, 0, 0);
    }
}

/// The run is over by a stall.
pub fn stalled(world: &mut World, awaited: Awaited, connection: u32) -> ! {
    world.control.stalled = awaited;
    world.control.stalled_connection = connection;
    over(world)
}

/// What a descriptor is ready for.
#[must_use]
pub fn ready_for(world: &World, description: usize) -> u32 {
    let Some(found) = world.descriptors.descriptions.get(description) else {
        return 0;
    };
    let object = found.object as usize;
    match found.kind {
        Kind::None => INVALID,
        Kind::Socket => world.network.ready(object),
        Kind::PipeReader => world.channels[object].to_read(),
        Kind::PipeWriter => world.channels[object].to_write(),
        Kind::Pair => world.pair_ready(object),
        Kind::Epoll => {
            let epoll = &world.descriptors.epolls[object];
            let any = epoll.interests[..epoll.count as usize]
                .iter()
                .any(|interest| {
                    let now = ready_for(world, interest.description as usize);
                    now & (interest.events | ALWAYS) != 0
                });
            u32::from(any) * INPUT
        }
        Kind::File | Kind::Folder | Kind::NewFolder | Kind::Null | Kind::Zero | Kind::Random => {
            INPUT | OUTPUT
        }
    }
}

/// `poll` and `ppoll`.
///
/// # Errors
/// When something happens that is not simulated.
pub fn poll(world: &mut World, set: u64, count: u64, how: Wait) -> Result<i64, Declined> {
    let mut look = |world: &mut World| {
        let mut any = false;
        for at in 0..count {
            let place = set + 8 * at;
            // SAFETY: the server's own array of `struct pollfd`.
            let (descriptor, events) =
                unsafe { (raw::load::<i32>(place), raw::load::<u16>(place + 4)) };
            let mut found = 0;
            if descriptor >= 0 {
                found = match world.find(descriptor as u64) {
                    None => INVALID,
                    Some((description, _)) => {
                        ready_for(world, description) & (widened(events.into()) | ALWAYS)
                    }
                };
            }
            let found = reported(found, events.into());
            // SAFETY: as above.
            unsafe { raw::store(place + 6, found as u16) };
            any |= found != 0;
        }
        any
    };
    let mut awaited = Wanted::NOTHING;
    for at in 0..count {
        let place = set + 8 * at;
        // SAFETY: as above.
        let (descriptor, events) =
            unsafe { (raw::load::<i32>(place), raw::load::<u16>(place + 4)) };
        if let Some((description, _)) = world.find(descriptor as i64 as u64) {
            awaited.add(description, widened(events.into()));
        }
    }
    let woken = wait(world, &mut look, how, awaited)?;
    if woken == Woken::Interrupted {
        return Ok(EINTR);
    }
    let found = (0..count)
        // SAFETY: as above.
        .filter(|at| unsafe { raw::load::<u16>(set + 8 * at + 6) } != 0)
        .count();
    Ok(found as i64)
}

/// Interrupted by a signal handler.
pub const EINTR: i64 = -4;

/// `POLLRDNORM` and `POLLWRNORM` ask for the same as `POLLIN` and `POLLOUT`.
const fn widened(events: u32) -> u32 {
    let input = if events & 0x40 != 0 { INPUT } else { 0 };
    let output = if events & 0x100 != 0 { OUTPUT } else { 0 };
    events | input | output
}

const fn reported(found: u32, asked: u32) -> u32 {
    let input = if found & INPUT != 0 { asked & 0x40 } else { 0 };
    let output = if found & OUTPUT != 0 {
        asked & 0x100
    } else {
        0
    };
    (found & (asked | ALWAYS | INVALID)) | input | output
}

/// `epoll_wait` and its like.
///
/// # Errors
/// When something happens that is not simulated.
pub fn epoll(
    world: &mut World,
    (description, at): (usize, usize),
    out: u64,
    most: u64,
    how: Wait,
) -> Result<i64, Declined> {
    let mut found = 0;
    let mut look = |world: &mut World| {
        found = 0;
        let epoll = &world.descriptors.epolls[at];
        for interest in &epoll.interests[..epoll.count as usize] {
            let now = ready_for(world, interest.description as usize);
            let now = reported(now, interest.events);
            if now == 0 || found == most {
                continue;
            }
            let place = out + 12 * found;
            // SAFETY: the server's own array of `struct epoll_event`.
            unsafe {
                raw::store(place, now);
                raw::store(place + 4, interest.data);
            }
            found += 1;
        }
        found > 0
    };
    let mut awaited = Wanted::NOTHING;
    awaited.add(description, INPUT);
    match wait(world, &mut look, how, awaited)? {
        Woken::Interrupted => Ok(EINTR),
        Woken::Ready | Woken::TimedOut => Ok(found as i64),
    }
}

/// `select` and `pselect6`: sets for reading, writing and errors.
///
/// # Errors
/// When something happens that is not simulated.
pub fn select(world: &mut World, count: u64, sets: [u64; 3], how: Wait) -> Result<i64, Declined> {
    const WORDS: usize = 16;
    let words = (count as usize).div_ceil(64);
    if words > WORDS {
        return Ok(-22);
    }
    let mut asked = [[0_u64; WORDS]; 3];
    for (set, asked) in sets.iter().zip(&mut asked) {
        if *set != 0 {
            for (at, word) in asked[..words].iter_mut().enumerate() {
                // SAFETY: the server's own sets.
                *word = unsafe { raw::load(set + 8 * at as u64) };
            }
        }
    }
    let mut answer = [[0_u64; WORDS]; 3];
    let mut found = 0;
    let mut look = |world: &mut World| {
        answer = [[0; WORDS]; 3];
        found = 0;
        for descriptor in 0..count {
            let (word, bit) = (descriptor as usize / 64, 1 << (descriptor % 64));
            if asked.iter().all(|set| set[word] & bit == 0) {
                continue;
            }
            let ready = world
                .find(descriptor)
                .map_or(0, |(description, _)| ready_for(world, description));
            let wanted = [INPUT | HANG_UP | ERROR, OUTPUT | ERROR, 0];
            for (set, wanted) in wanted.iter().enumerate() {
                if asked[set][word] & bit != 0 && ready & wanted != 0 {
                    answer[set][word] |= bit;
                    found += 1;
                }
            }
        }
        found > 0
    };
    let mut awaited = Wanted::NOTHING;
    for descriptor in 0..count {
        let (word, bit) = (descriptor as usize / 64, 1 << (descriptor % 64));
        let is_in = |set: usize| asked[set][word] & bit != 0;
        if let (true, Some((description, _))) = (is_in(0) || is_in(1), world.find(descriptor)) {
            let input = if is_in(0) { INPUT } else { 0 };
            let output = if is_in(1) { OUTPUT } else { 0 };
            awaited.add(description, input | output);
        }
    }
    if wait(world, &mut look, how, awaited)? == Woken::Interrupted {
        return Ok(EINTR);
    }
    for (set, answer) in sets.iter().zip(&answer) {
        if *set != 0 {
            for (at, word) in answer[..words].iter().enumerate() {
                // SAFETY: as above.
                unsafe { raw::store(set + 8 * at as u64, *word) };
            }
        }
    }
    Ok(found)
}
