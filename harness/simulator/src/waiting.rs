//! What a server does while it waits: the client acts, signals arrive, time jumps.

use core::arch::asm;

use crate::children;
use crate::descriptors::Kind;
use crate::layout::{COUNTER, NEVER};
use crate::memory;
use crate::play::{self, Turn};
use crate::raw;
use crate::signals;
use crate::world::{Awaited, Declined, Phase, Reason, World};

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
pub const MOST_LOOKS: u32 = 200;
const MOMENT: u64 = 1_000_000;
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
    /// Signals blocked meanwhile, if not the server's own set.
    pub mask: Option<u64>,
    /// Whether the server waits for time to pass and not for an event.
    pub sleeps: bool,
}

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

/// Waits until `ready`.
///
/// # Errors
/// When something happens that is not simulated.
pub fn wait(
    world: &mut World,
    ready: &mut dyn FnMut(&mut World) -> bool,
    how: Wait,
) -> Result<Woken, Declined> {
    let mut left = how.timeout;
    if left == Some(0) {
        if ready(world) {
            return Ok(Woken::Ready);
        }
        world.control.looks += 1;
        if world.control.looks < MOST_LOOKS {
            return Ok(Woken::TimedOut);
        }
        left = Some(MOMENT);
    }
    world.control.looks = 0;
    loop {
        if ready(world) {
            return Ok(Woken::Ready);
        }
        if signals::deliver(world, how.mask) {
            return Ok(Woken::Interrupted);
        }
        if world.children.is_child() {
            return Err(Declined("a child process that waits"));
        }
        if children::step(world)? {
            continue;
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
            match play::turn(world, !how.sleeps)? {
                Turn::Acted => continue,
                Turn::Waits => {}
            }
        }
        if pass_time(world, &mut left)? {
            return Ok(Woken::TimedOut);
        }
    }
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

/// Sets the entry counter for the exchange that begins.
pub fn arm(world: &World) {
    let control = &world.control;
    let wanted = control.phase == Phase::Session && control.exchange == control.arm_exchange;
    let count = if wanted { control.arm_count } else { NEVER };
    // SAFETY: the harness placed the counter there.
    unsafe { raw::store(COUNTER, count) };
}

/// Lets time jump to the next thing that it brings; whether the wait's own time is up.
/// Ends the run where there is none within the limits.
fn pass_time(world: &mut World, left: &mut Option<u64>) -> Result<bool, Declined> {
    let control = &mut world.control;
    let to_alarm = (control.alarm > 0).then(|| control.alarm.saturating_sub(control.now));
    let most = match control.phase {
        Phase::Starting => MOST_STARTING,
        Phase::Stop => control.most_idle_stopping,
        _ => control.most_idle,
    };
    let until_stall = most.saturating_sub(control.idle);
    let jump = match (*left, to_alarm) {
        (Some(left), Some(alarm)) => left.min(alarm),
        (Some(jump), None) | (None, Some(jump)) => jump,
        (None, None) => until_stall.saturating_add(1),
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
    if to_alarm == Some(jump) {
        control.alarm = if control.alarm_interval > 0 {
            control.now + control.alarm_interval
        } else {
            0
        };
        world.signals.send(14);
    }
    if let Some(left) = left {
        *left -= jump;
        return Ok(*left == 0);
    }
    Ok(false)
}

/// Ends the run: the harness takes it from here.
pub fn over(world: &mut World) -> ! {
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
        Kind::PipeReader => {
            let pipe = &world.descriptors.pipes[object];
            let input = if pipe.length > 0 { INPUT } else { 0 };
            let closed = if pipe.writers == 0 { HANG_UP } else { 0 };
            input | closed
        }
        Kind::PipeWriter => {
            let pipe = &world.descriptors.pipes[object];
            let closed = if pipe.readers == 0 { ERROR } else { 0 };
            OUTPUT | closed
        }
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
        Kind::File | Kind::Folder | Kind::Null | Kind::Zero | Kind::Random => INPUT | OUTPUT,
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
                found = match world.descriptors.find(descriptor as u64) {
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
    let woken = wait(world, &mut look, how)?;
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
    at: usize,
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
    match wait(world, &mut look, how)? {
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
                .descriptors
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
    if wait(world, &mut look, how)? == Woken::Interrupted {
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
