//! Answers system calls.

use crate::descriptors::{EBADF, Kind, O_NONBLOCK, PIPE_CAPACITY};
use crate::files::{self, ENOENT, Found, Path, Stat};
use crate::memory;
use crate::network::{EAGAIN, EINVAL, EPIPE, Role};
use crate::play;
use crate::raw;
use crate::signals;
use crate::waiting::{self, EINTR, INPUT, Wait, Woken, trap};
use crate::world::{Answer, Declined, Reason, World};

/// Seconds of the calendar when the world begins.
const EPOCH: u64 = 1_790_000_000;
const SECOND: u64 = 1_000_000_000;
const AT_FDCWD: i32 = -100;

const ENOTTY: i64 = -25;
const ESPIPE: i64 = -29;
const EEXIST: i64 = -17;
const ENOTDIR: i64 = -20;
const EISDIR: i64 = -21;
const ECHILD: i64 = -10;
const ENOTSOCK: i64 = -88;
const EOPNOTSUPP: i64 = -95;
const EACCES: i64 = -13;

const CLOSE_ON_EXEC: u64 = 0o2_000_000;

/// Answers one call of the server.
///
/// # Errors
/// When it asks for what is not simulated.
pub fn answer(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    if world.control.calls == 0 {
        open_first(world)?;
    }
    world.control.calls += 1;
    match number {
        0 | 1 | 17 | 18 | 19 | 20 | 40 | 44 | 45 | 46 | 47 => transfer(world, number, a),
        7 | 23 | 34 | 35 | 130 | 230 | 232 | 233 | 270 | 271 | 281 => wait(world, number, a),
        2..=6
        | 8
        | 21
        | 32
        | 33
        | 72
        | 74..=77
        | 79
        | 80
        | 82
        | 87
        | 89
        | 95
        | 217
        | 257
        | 262..=264
        | 267
        | 269
        | 16
        | 22
        | 91
        | 90
        | 285
        | 292
        | 293
        | 316
        | 439 => file(world, number, a),
        41..=43 | 48..=52 | 54 | 55 | 288 => socket(world, number, a),
        9..=12 | 25 | 28 => memory_call(world, number, a),
        213 | 291 => {
            let free = world.descriptors.epolls.iter().position(|e| e.used == 0);
            let at = free.ok_or(Declined("too many readiness sets"))?;
            world.descriptors.epolls[at].used = 1;
            world.descriptors.epolls[at].count = 0;
            let close = number == 291 && a[0] & CLOSE_ON_EXEC != 0;
            world.descriptors.open(Kind::Epoll, at, 2, close)
        }
        // SAFETY of all direct calls below: handed on as the server made them.
        _ => other(world, number, a),
    }
}

/// Opens what the server starts with: input, output, errors.
fn open_first(world: &mut World) -> Result<(), Declined> {
    world.descriptors.open(Kind::Null, 0, 0, false)?;
    for path in [b"/kairos/stdout", b"/kairos/stderr"] {
        let path = Path::resolve(b"/", path)?;
        let now = world.control.now;
        let inode = world.files.to_write(&path, 0o644, now)?;
        world.files.inodes[inode].references += 1;
        world.descriptors.open(Kind::File, inode, 0o2001, false)?;
    }
    Ok(())
}

fn pass(number: i64, a: [u64; 6]) -> Answer {
    // SAFETY: handed on as the server made it.
    Ok(unsafe { raw::call(number, a) })
}

fn unknown(world: &mut World, number: i64, argument: u64) -> ! {
    loop {
        trap(world, Reason::UnknownCall, number, argument as i64);
    }
}

/// Time, identity, signals, and the rest.
fn other(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let sealed = world.control.sealed != 0;
    match number {
        13 => signals::action(world, a),
        // rt_sigprocmask; what it opens is delivered.
        14 => {
            let answer = pass(14, a);
            signals::deliver(world, None);
            answer
        }
        228 | 96 | 201 | 229 | 98 | 99 | 100 | 97 | 302 | 36..=38 => time(world, number, a),
        // getpid, uname, get*id, gettid, getgroups, sched_getaffinity, rt_sigpending, getcpu
        39 | 63 | 102 | 104 | 107 | 108 | 110 | 111 | 115 | 118 | 120 | 121 | 124 | 127 | 186
        | 204 | 309 => pass(number, a),
        // sched_yield
        24 => Ok(0),
        // rseq, robust list, thread area, set_tid_address
        158 | 218 | 273 | 334 => pass(number, a),
        // identity, sessions, limits: before it is ready
        105 | 106 | 109 | 112..=114 | 116 | 117 | 119 | 122 | 123 | 125 | 126 | 131 | 157 | 160
            if !sealed =>
        {
            pass(number, a)
        }
        318 => random(world, a),
        // wait4, waitid
        61 | 247 => Ok(ECHILD),
        // futex: wake
        202 if matches!(a[1] & 0x7f, 1 | 10) => Ok(0),
        62 | 200 | 234 => kill(world, number, a),
        60 | 231 => {
            world.control.exited = 1;
            world.control.status = (a[0] & 0xff) as i32;
            play::after_death(world)?;
            Ok(0)
        }
        _ => unknown(world, number, a[0]),
    }
}

fn kill(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let signal = if number == 234 { a[2] } else { a[1] } as u32;
    // SAFETY: a question.
    let own = unsafe { raw::call(39, [0; 6]) } as u64;
    let whom = if number == 234 { a[1] } else { a[0] };
    if whom != own && (a[0] as i32) != 0 {
        return Ok(-3);
    }
    if !(1..=64).contains(&signal) {
        return Ok(if signal == 0 { 0 } else { EINVAL });
    }
    world.signals.send(signal);
    signals::deliver(world, None);
    Ok(0)
}

fn random(world: &mut World, a: [u64; 6]) -> Answer {
    // SAFETY: the server's own buffer.
    let bytes = unsafe { raw::bytes_mut(a[0], a[1]) };
    fill_random(world, bytes);
    Ok(bytes.len() as i64)
}

fn fill_random(world: &mut World, bytes: &mut [u8]) {
    for byte in bytes {
        let next = world.control.random;
        world.control.random = next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (next >> 56) as u8;
    }
}

fn time(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    // Time passes when one looks, or one who waits for it by looking waits for ever.
    world.control.now += 1000;
    let now = world.control.now;
    let calendar = EPOCH * SECOND + now;
    // SAFETY: the server's own structures.
    unsafe {
        match number {
            228 => {
                let of_day = matches!(a[0], 0 | 5 | 11);
                let time = if of_day {
                    calendar
                } else {
                    SECOND * 1000 + now
                };
                raw::store(a[1], [time / SECOND, time % SECOND]);
            }
            229 if a[1] != 0 => raw::store(a[1], [0_u64, 1]),
            96 if a[0] != 0 => raw::store(a[0], [calendar / SECOND, calendar % SECOND / 1000]),
            201 => {
                if a[0] != 0 {
                    raw::store(a[0], calendar / SECOND);
                }
                return Ok((calendar / SECOND) as i64);
            }
            // getrusage, sysinfo, times
            98 => raw::bytes_mut(a[1], 144).fill(0),
            99 => {
                raw::bytes_mut(a[0], 112).fill(0);
                raw::store(a[0], now / SECOND);
                raw::store(a[0] + 32, [4_u64 << 30, 2 << 30]);
                raw::store(a[0] + 104, 1_u32);
            }
            100 => {
                raw::bytes_mut(a[0], 32).fill(0);
                return Ok((now / 10_000_000) as i64);
            }
            // getrlimit, prlimit64: reading them, or before it is ready
            97 => return pass(number, a),
            302 if a[2] == 0 || world.control.sealed == 0 => return pass(number, a),
            302 => return Err(Declined("setting limits after it was ready")),
            // alarm, setitimer, getitimer
            36..=38 => return alarm(world, number, a),
            _ => {}
        }
    }
    Ok(0)
}

fn alarm(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let now = world.control.now;
    let alarm = world.control.alarm;
    let left = if alarm > 0 {
        alarm.saturating_sub(now)
    } else {
        0
    };
    if number == 37 {
        world.control.alarm = if a[0] > 0 { now + a[0] * SECOND } else { 0 };
        world.control.alarm_interval = 0;
        return Ok(left.div_ceil(SECOND) as i64);
    }
    if a[0] != 0 {
        return Err(Declined("a timer of processor time"));
    }
    let old = if number == 36 { a[1] } else { a[2] };
    // SAFETY: the server's own structures.
    unsafe {
        if old != 0 {
            let interval = world.control.alarm_interval;
            let [seconds, every] = [left, interval].map(|t| [t / SECOND, t % SECOND / 1000]);
            raw::store(old, [every, seconds]);
        }
        if number == 38 && a[1] != 0 {
            let [every, first]: [[u64; 2]; 2] = raw::load(a[1]);
            let span = |[seconds, micros]: [u64; 2]| seconds * SECOND + micros * 1000;
            let first = span(first);
            world.control.alarm = if first > 0 { now + first } else { 0 };
            world.control.alarm_interval = span(every);
        }
    }
    Ok(0)
}

/// `struct timespec` to nanoseconds.
fn span(address: u64) -> Option<u64> {
    // SAFETY: the server's own structure.
    let [seconds, nanos]: [u64; 2] = unsafe { raw::load(address) };
    (address != 0).then(|| seconds.saturating_mul(SECOND).saturating_add(nanos))
}

fn milliseconds(count: u64) -> Option<u64> {
    let count = count as i32;
    (count >= 0).then(|| count as u64 * 1_000_000)
}

fn mask(address: u64) -> Option<u64> {
    // SAFETY: the server's own set.
    (address != 0).then(|| unsafe { raw::load(address) })
}

/// Calls that wait.
fn wait(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let how = |timeout, mask| Wait {
        timeout,
        mask,
        sleeps: false,
    };
    match number {
        7 => waiting::poll(world, a[0], a[1], how(milliseconds(a[2]), None)),
        271 => {
            let timeout = if a[2] == 0 { None } else { span(a[2]) };
            waiting::poll(world, a[0], a[1], how(timeout, mask(a[3])))
        }
        23 => {
            let timeout = if a[4] == 0 {
                None
            } else {
                // SAFETY: the server's own structure.
                let [seconds, micros]: [u64; 2] = unsafe { raw::load(a[4]) };
                Some(seconds * SECOND + micros * 1000)
            };
            waiting::select(world, a[0], [a[1], a[2], a[3]], how(timeout, None))
        }
        270 => {
            let timeout = if a[4] == 0 { None } else { span(a[4]) };
            // SAFETY: a pointer to the set and its size.
            let set = if a[5] == 0 {
                None
            } else {
                mask(unsafe { raw::load(a[5]) })
            };
            waiting::select(world, a[0], [a[1], a[2], a[3]], how(timeout, set))
        }
        232 | 281 => {
            let Some((Kind::Epoll, at)) = world.descriptors.object(a[0]) else {
                return Ok(EBADF);
            };
            let set = if number == 281 { mask(a[4]) } else { None };
            waiting::epoll(world, at, a[1], a[2], how(milliseconds(a[3]), set))
        }
        233 => {
            let Some((Kind::Epoll, at)) = world.descriptors.object(a[0]) else {
                return Ok(EBADF);
            };
            let Some((description, found)) = world.descriptors.find(a[2]) else {
                return Ok(EBADF);
            };
            if matches!(found.kind, Kind::File | Kind::Folder | Kind::Null) {
                return Ok(-1);
            }
            let epoll = &mut world.descriptors.epolls[at];
            epoll.control(a[1], a[2] as i32, description as u32, a[3])
        }
        // nanosleep, clock_nanosleep
        35 | 230 => {
            let place = if number == 35 { a[0] } else { a[2] };
            let mut time = span(place).unwrap_or(0);
            if number == 230 && a[1] & 1 != 0 {
                let base = if a[0] == 0 {
                    EPOCH * SECOND
                } else {
                    SECOND * 1000
                };
                time = time.saturating_sub(base + world.control.now);
            }
            let how = Wait {
                timeout: Some(time.max(1)),
                mask: None,
                sleeps: true,
            };
            Ok(match waiting::wait(world, &mut |_| false, how)? {
                Woken::Interrupted => EINTR,
                _ => 0,
            })
        }
        // pause, rt_sigsuspend
        _ => {
            let set = if number == 130 { mask(a[0]) } else { None };
            waiting::wait(world, &mut |_| false, how(None, set))?;
            Ok(EINTR)
        }
    }
}

fn memory_call(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let sealed = world.control.sealed != 0;
    match number {
        9 => map(world, a),
        12 if sealed => Ok(memory::set_break(world, a[0])),
        11 if sealed => Ok(memory::unmap(world, a[0], a[1])),
        25 if sealed => memory::remap(world, a),
        28 if sealed => Ok(memory::advise(a[0], a[1], a[2])),
        10 if sealed => Ok(0),
        _ => pass(number, a),
    }
}

fn map(world: &mut World, a: [u64; 6]) -> Answer {
    const ANONYMOUS: u64 = 0x20;
    let sealed = world.control.sealed != 0;
    if a[3] & ANONYMOUS != 0 {
        return if sealed {
            memory::map(world, a)
        } else {
            pass(9, a)
        };
    }
    match world.descriptors.object(a[4]) {
        None => Ok(EBADF),
        Some((Kind::File, inode)) if sealed => {
            if a[3] & 1 != 0 && a[2] & 2 != 0 {
                return Err(Declined("a shared mapping of a file"));
            }
            let address = world.memory.take(a[1])?;
            let content = world.files.content(inode);
            let rest = content.get(a[5] as usize..).unwrap_or(&[]);
            let count = rest.len().min(a[1] as usize);
            // SAFETY: fresh memory of the arena.
            unsafe { raw::bytes_mut(address, count as u64).copy_from_slice(&rest[..count]) };
            Ok(address as i64)
        }
        Some((Kind::File, inode)) => {
            let inode = &world.files.inodes[inode];
            if inode.own != 0 || inode.cached == 0 {
                return Err(Declined("a mapping of a file that was written"));
            }
            let path = &files::cached(inode.cached as usize - 1).path;
            let name = path.bytes.as_ptr() as u64;
            // SAFETY: a mapping as the server asked for, of the real file.
            unsafe {
                let open = [AT_FDCWD as u64, name, CLOSE_ON_EXEC, 0, 0, 0];
                let descriptor = raw::call(257, open);
                if descriptor < 0 {
                    return Ok(descriptor);
                }
                let mapped = raw::call(9, [a[0], a[1], a[2], a[3], descriptor as u64, a[5]]);
                let _ = raw::call(3, [descriptor as u64, 0, 0, 0, 0, 0]);
                Ok(mapped)
            }
        }
        Some((Kind::Zero, _)) if !sealed => pass(9, [a[0], a[1], a[2], a[3] | ANONYMOUS, !0, 0]),
        Some(_) => memory::map(world, a),
    }
}

/// Reading and writing.
fn transfer(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    // SAFETY: the server's own buffers.
    unsafe {
        match number {
            0 => read(world, a[0], raw::bytes_mut(a[1], a[2]), None, 0),
            17 => read(world, a[0], raw::bytes_mut(a[1], a[2]), Some(a[3]), 0),
            1 => write(world, a[0], raw::bytes(a[1], a[2]), None, 0),
            18 => write(world, a[0], raw::bytes(a[1], a[2]), Some(a[3]), 0),
            45 => {
                if a[5] != 0 && a[4] != 0 {
                    raw::store(a[5], 0_u32);
                }
                read(world, a[0], raw::bytes_mut(a[1], a[2]), None, a[3])
            }
            44 => write(world, a[0], raw::bytes(a[1], a[2]), None, a[3]),
            19 | 20 => pieces(world, number == 20, a[0], a[1], a[2], 0),
            46 | 47 => {
                let [list, count]: [u64; 2] = raw::load(a[1] + 16);
                if number == 47 {
                    raw::store(a[1] + 8, 0_u32);
                    raw::store(a[1] + 40, 0_u64);
                    raw::store(a[1] + 48, 0_u32);
                }
                pieces(world, number == 46, a[0], list, count, a[2])
            }
            _ => send_file(world, a),
        }
    }
}

fn pieces(
    world: &mut World,
    writes: bool,
    descriptor: u64,
    list: u64,
    count: u64,
    flags: u64,
) -> Answer {
    let mut total = 0;
    for at in 0..count {
        // SAFETY: the server's own list and buffers.
        let answer = unsafe {
            let [start, length]: [u64; 2] = raw::load(list + 16 * at);
            if length == 0 {
                continue;
            }
            if total > 0 && !writes && !more(world, descriptor) {
                break;
            }
            if writes {
                write(world, descriptor, raw::bytes(start, length), None, flags)?
            } else {
                read(
                    world,
                    descriptor,
                    raw::bytes_mut(start, length),
                    None,
                    flags,
                )?
            }
        };
        if answer < 0 {
            return Ok(if total > 0 { total } else { answer });
        }
        total += answer;
        if answer == 0 {
            break;
        }
    }
    Ok(total)
}

/// Whether reading on would not wait.
fn more(world: &World, descriptor: u64) -> bool {
    let found = world.descriptors.find(descriptor);
    found.is_some_and(|(index, _)| waiting::ready_for(world, index) & INPUT != 0)
}

fn read(
    world: &mut World,
    descriptor: u64,
    bytes: &mut [u8],
    offset: Option<u64>,
    flags: u64,
) -> Answer {
    const PEEK: u64 = 2;
    const DONT_WAIT: u64 = 0x40;
    let Some((index, found)) = world.descriptors.find(descriptor) else {
        return Ok(EBADF);
    };
    let object = found.object as usize;
    match found.kind {
        Kind::File => {
            if found.flags & 3 == 1 {
                return Ok(EBADF);
            }
            let from = offset.unwrap_or(found.offset);
            let content = world.files.content(object);
            let rest = content.get(from as usize..).unwrap_or(&[]);
            let count = rest.len().min(bytes.len());
            bytes[..count].copy_from_slice(&rest[..count]);
            if offset.is_none() {
                world.descriptors.descriptions[index].offset += count as u64;
            }
            Ok(count as i64)
        }
        Kind::Socket | Kind::PipeReader => loop {
            let answer = if found.kind == Kind::Socket {
                world.network.read(object, bytes, flags & PEEK != 0)
            } else {
                read_pipe(world, object, bytes)
            };
            let waits = found.flags & O_NONBLOCK == 0 && flags & DONT_WAIT == 0;
            if answer != EAGAIN || !waits {
                return Ok(answer);
            }
            if !wait_for(world, index, INPUT)? {
                return Ok(EINTR);
            }
        },
        Kind::Null => Ok(0),
        Kind::Zero => {
            bytes.fill(0);
            Ok(bytes.len() as i64)
        }
        Kind::Random => {
            fill_random(world, bytes);
            Ok(bytes.len() as i64)
        }
        Kind::Folder => Ok(EISDIR),
        Kind::None | Kind::PipeWriter => Ok(EBADF),
        Kind::Epoll => Ok(EINVAL),
    }
}

fn read_pipe(world: &mut World, at: usize, bytes: &mut [u8]) -> i64 {
    let pipe = &mut world.descriptors.pipes[at];
    if pipe.length == 0 {
        return if pipe.writers == 0 { 0 } else { EAGAIN };
    }
    let count = bytes.len().min(pipe.length as usize);
    bytes[..count].copy_from_slice(&pipe.bytes[..count]);
    pipe.bytes.copy_within(count..pipe.length as usize, 0);
    pipe.length -= count as u32;
    count as i64
}

/// Waits until an open file is ready; false when a handler ran instead.
fn wait_for(world: &mut World, index: usize, events: u32) -> Result<bool, Declined> {
    let mut ready =
        |world: &mut World| waiting::ready_for(world, index) & (events | waiting::ALWAYS) != 0;
    let how = Wait {
        timeout: None,
        mask: None,
        sleeps: false,
    };
    Ok(waiting::wait(world, &mut ready, how)? != Woken::Interrupted)
}

fn write(
    world: &mut World,
    descriptor: u64,
    bytes: &[u8],
    offset: Option<u64>,
    flags: u64,
) -> Answer {
    const APPEND: u32 = 0o2000;
    const NO_SIGNAL: u64 = 0x4000;
    const SIGPIPE: u32 = 13;
    let Some((index, found)) = world.descriptors.find(descriptor) else {
        return Ok(EBADF);
    };
    let object = found.object as usize;
    let answer = match found.kind {
        Kind::File => {
            if found.flags & 3 == 0 {
                return Ok(EBADF);
            }
            let length = world.files.content(object).len() as u64;
            let at_end = found.flags & APPEND != 0;
            let from = if at_end {
                length
            } else {
                offset.unwrap_or(found.offset)
            };
            let now = world.control.now;
            world
                .files
                .write(object, from, bytes, now, &mut world.memory)?;
            if offset.is_none() {
                world.descriptors.descriptions[index].offset = from + bytes.len() as u64;
            }
            bytes.len() as i64
        }
        Kind::Socket => world.network.write(object, bytes)?,
        Kind::PipeWriter => {
            let pipe = &mut world.descriptors.pipes[object];
            let room = PIPE_CAPACITY - pipe.length as usize;
            if pipe.readers == 0 {
                EPIPE
            } else if room < bytes.len() {
                EAGAIN
            } else {
                let start = pipe.length as usize;
                pipe.bytes[start..start + bytes.len()].copy_from_slice(bytes);
                pipe.length += bytes.len() as u32;
                bytes.len() as i64
            }
        }
        Kind::Null | Kind::Zero | Kind::Random => bytes.len() as i64,
        Kind::None | Kind::Folder | Kind::PipeReader => EBADF,
        Kind::Epoll => EINVAL,
    };
    if answer == EPIPE && flags & NO_SIGNAL == 0 {
        world.signals.send(SIGPIPE);
        signals::deliver(world, None);
    }
    Ok(answer)
}

fn send_file(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.descriptors.find(a[1]) else {
        return Ok(EBADF);
    };
    if found.kind != Kind::File {
        return Ok(EINVAL);
    }
    // SAFETY: the server's own offset.
    let from = if a[2] == 0 {
        found.offset
    } else {
        unsafe { raw::load(a[2]) }
    };
    let content = world.files.content(found.object as usize);
    let rest = content.get(from as usize..).unwrap_or(&[]);
    let rest = &rest[..rest.len().min(a[3] as usize)];
    let answer = write(world, a[0], rest, None, 0)?;
    if answer > 0 {
        if a[2] == 0 {
            world.descriptors.descriptions[index].offset += answer as u64;
        } else {
            // SAFETY: as above.
            unsafe { raw::store(a[2], from + answer as u64) };
        }
    }
    Ok(answer)
}

/// Sockets.
fn socket(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    if number == 41 {
        let stream = a[1] & 0xf == 1;
        if !stream || !matches!(a[0], 2 | 10) {
            unknown(world, number, a[0] << 8 | a[1] & 0xf);
        }
        let at = world.network.socket(a[0] as u8)?;
        let flags = 2 | (a[1] as u32 & O_NONBLOCK);
        let close = a[1] & CLOSE_ON_EXEC != 0;
        return world.descriptors.open(Kind::Socket, at, flags, close);
    }
    let Some((index, found)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    if found.kind != Kind::Socket {
        return Ok(ENOTSOCK);
    }
    let at = found.object as usize;
    match number {
        43 | 288 => accept(world, number, a, index),
        49 => {
            // SAFETY: the server's own address; the port lies at the same place in both.
            let port = u16::from_be(unsafe { raw::load(a[1] + 2) });
            let free = 40_000 + at as u16;
            world.network.sockets[at].port = if port == 0 { free } else { port };
            Ok(0)
        }
        50 => {
            let socket = &mut world.network.sockets[at];
            if socket.port == 0 {
                socket.port = 40_000 + at as u16;
            }
            socket.role = Role::Listening;
            socket.backlog = (a[1] as i32).clamp(0, 4096) as u16;
            Ok(0)
        }
        48 => Ok(world.network.shutdown(at, a[1])),
        51 | 52 => {
            let socket = world.network.sockets[at];
            if number == 52 && socket.role != Role::Connected {
                return Ok(-107);
            }
            let port = if number == 51 {
                socket.port
            } else {
                socket.peer_port
            };
            address(socket.family, port, a[1], a[2]);
            Ok(0)
        }
        54 => Ok(0),
        55 => {
            const ERROR: u64 = 4;
            let value = match (a[1], a[2]) {
                (1, ERROR) => world.network.last_error(at),
                (1, 3) => 1,
                (1, 7 | 8) => 212_992,
                (1, 30) => i32::from(world.network.sockets[at].role == Role::Listening),
                (1, 39) => i32::from(world.network.sockets[at].family),
                (1 | 6 | 41, _) => 1,
                _ => return Ok(EOPNOTSUPP),
            };
            // SAFETY: the server's own place.
            unsafe {
                raw::store(a[3], value);
                raw::store(a[4], 4_u32);
            }
            Ok(0)
        }
        _ => unknown(world, number, a[0]),
    }
}

fn accept(world: &mut World, number: i64, a: [u64; 6], index: usize) -> Answer {
    let found = world.descriptors.descriptions[index];
    let at = found.object as usize;
    if world.network.sockets[at].role != Role::Listening {
        return Ok(EINVAL);
    }
    while world.network.sockets[at].queued == 0 {
        if found.flags & O_NONBLOCK != 0 {
            return Ok(EAGAIN);
        }
        if !wait_for(world, index, INPUT)? {
            return Ok(EINTR);
        }
    }
    let flags = if number == 288 { a[3] } else { 0 };
    let Some(accepted) = world.network.accept(at) else {
        return Ok(EAGAIN);
    };
    let socket = world.network.sockets[accepted];
    if a[1] != 0 {
        address(socket.family, socket.peer_port, a[1], a[2]);
    }
    let close = flags & CLOSE_ON_EXEC != 0;
    let flags = 2 | (flags as u32 & O_NONBLOCK);
    world.descriptors.open(Kind::Socket, accepted, flags, close)
}

/// Writes a loopback address, as much of it as there is room.
fn address(family: u8, port: u16, to: u64, length: u64) {
    let mut bytes = [0_u8; 28];
    bytes[0] = family;
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    let whole = if family == 2 {
        bytes[4..8].copy_from_slice(&[127, 0, 0, 1]);
        16
    } else {
        bytes[18..24].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        28
    };
    // SAFETY: the server's own place and its length.
    unsafe {
        let room = raw::load::<u32>(length) as usize;
        let count = whole.min(room);
        raw::bytes_mut(to, count as u64).copy_from_slice(&bytes[..count]);
        raw::store(length, whole as u32);
    }
}

/// Files and descriptors.
fn file(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let here = AT_FDCWD as u64;
    match number {
        2 => open(world, here, a[0], a[1], a[2]),
        85 => open(world, here, a[0], 0o1101, a[1]),
        257 => open(world, a[0], a[1], a[2], a[3]),
        3 => Ok(world
            .descriptors
            .close(a[0], &mut world.network, &mut world.files)),
        4 => stat_path(world, here, a[0], a[1], 0),
        6 => stat_path(world, here, a[0], a[1], 0x100),
        5 => stat_descriptor(world, a[0], a[1]),
        262 => {
            // SAFETY: the server's own path.
            let empty = a[1] == 0 || unsafe { raw::load::<u8>(a[1]) } == 0;
            if empty && a[3] & 0x1000 != 0 && a[0] as i32 != AT_FDCWD {
                return stat_descriptor(world, a[0], a[2]);
            }
            stat_path(world, a[0], a[1], a[2], a[3])
        }
        8 => seek(world, a),
        16 => control(world, a),
        21 => access(world, here, a[0], a[1]),
        269 | 439 => access(world, a[0], a[1], a[2]),
        22 | 293 => {
            let flags = if number == 293 { a[1] } else { 0 };
            let ends = world.descriptors.pipe(flags as u32)?;
            // SAFETY: the server's own pair.
            unsafe { raw::store(a[0], ends) };
            Ok(0)
        }
        32 | 33 | 292 => duplicate(world, number, a),
        72 => set_flags(world, a),
        // fsync, fdatasync, fallocate
        74 | 75 | 285 => Ok(0),
        77 => {
            let Some((Kind::File, inode)) = world.descriptors.object(a[0]) else {
                return Ok(EINVAL);
            };
            let now = world.control.now;
            world.files.truncate(inode, a[1], now, &mut world.memory)?;
            Ok(0)
        }
        79 => {
            let text = world.files.folder.text();
            if text.len() as u64 >= a[1] {
                return Ok(-34);
            }
            // SAFETY: the server's own buffer.
            unsafe {
                raw::bytes_mut(a[0], text.len() as u64).copy_from_slice(text);
                raw::store(a[0] + text.len() as u64, 0_u8);
            }
            Ok(text.len() as i64 + 1)
        }
        80 => change_folder(world, a[0]),
        82 => rename(world, [here, here], a[0], a[1]),
        264 => rename(world, [a[0], a[2]], a[1], a[3]),
        316 if a[4] == 0 => rename(world, [a[0], a[2]], a[1], a[3]),
        87 => unlink(world, here, a[0]),
        263 if a[2] == 0 => unlink(world, a[0], a[1]),
        89 | 267 => pass(number, a),
        90 | 91 => change_mode(world, number, a),
        95 => {
            let before = world.files.umask;
            world.files.umask = a[0] as u32 & 0o777;
            Ok(i64::from(before))
        }
        217 => list(world, a),
        _ => unknown(world, number, a[0]),
    }
}

/// The absolute path that a call names.
fn path_at(world: &World, folder: u64, path: u64) -> Result<Path, Declined> {
    // SAFETY: the server's own string.
    let text = unsafe { raw::bytes(path, raw::length(path)) };
    let base = match world.descriptors.object(folder) {
        Some((Kind::Folder, at)) if folder as i32 != AT_FDCWD => files::cached(at).path,
        _ => world.files.folder,
    };
    Path::resolve(base.text(), text)
}

fn open(world: &mut World, folder: u64, path: u64, flags: u64, mode: u64) -> Answer {
    const CREATE: u64 = 0o100;
    const EXCLUSIVE: u64 = 0o200;
    const TRUNCATE: u64 = 0o1000;
    const FOLDER: u64 = 0o200_000;
    let path = path_at(world, folder, path)?;
    let close = flags & CLOSE_ON_EXEC != 0;
    let special = match path.text() {
        b"/dev/null" => Some(Kind::Null),
        b"/dev/zero" => Some(Kind::Zero),
        b"/dev/urandom" | b"/dev/random" => Some(Kind::Random),
        _ => None,
    };
    let kept = flags as u32 & 0o6003;
    if let Some(kind) = special {
        return world.descriptors.open(kind, 0, kept, close);
    }
    let writes = flags & 3 != 0;
    let now = world.control.now;
    let inode = match world.files.find(&path)? {
        Found::Nothing(error) if flags & CREATE == 0 || error != ENOENT => return Ok(error),
        Found::Nothing(_) => {
            let error = may_write(&folder_of(&path)?);
            if error < 0 {
                return Ok(error);
            }
            world.files.create(&path, mode as u32, now)?
        }
        Found::Inode(_) | Found::Cached(_)
            if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE =>
        {
            return Ok(EEXIST);
        }
        Found::Inode(inode) => inode,
        Found::Cached(at) => {
            let found = files::cached(at);
            if found.is_folder() {
                if writes {
                    return Ok(EISDIR);
                }
                if found.open_error != 0 {
                    return Ok(found.open_error);
                }
                return world.descriptors.open(Kind::Folder, at, kept, close);
            }
            if !found.is_file() {
                return Err(Declined("open(2) of a device"));
            }
            if flags & 3 != 1 && found.open_error != 0 {
                return Ok(found.open_error);
            }
            if writes && may_write(&path) < 0 {
                return Ok(may_write(&path));
            }
            world.files.inode_of(at)?
        }
    };
    if flags & FOLDER != 0 {
        return Ok(ENOTDIR);
    }
    let number = world.descriptors.open(Kind::File, inode, kept, close)?;
    if number >= 0 {
        world.files.inodes[inode].references += 1;
        if flags & TRUNCATE != 0 && writes {
            world.files.truncate(inode, 0, now, &mut world.memory)?;
        }
    }
    Ok(number)
}

fn folder_of(path: &Path) -> Result<Path, Declined> {
    Path::resolve(b"/", path.folder())
}

/// Whether the real file system would permit writing there: 0, or an error.
fn may_write(path: &Path) -> i64 {
    let name = path.bytes.as_ptr() as u64;
    // SAFETY: asks about a path of ours.
    unsafe { raw::call(269, [AT_FDCWD as u64, name, 2, 0, 0, 0]) }
}

fn stat_of(world: &World, found: Found) -> Result<Stat, i64> {
    match found {
        Found::Nothing(error) => Err(error),
        Found::Inode(inode) => Ok(world.files.stat(inode, EPOCH * SECOND)),
        Found::Cached(at) => Ok(files::cached(at).stat),
    }
}

fn stat_path(world: &mut World, folder: u64, path: u64, to: u64, flags: u64) -> Answer {
    const NO_FOLLOW: u64 = 0x100;
    let path = path_at(world, folder, path)?;
    let found = world.files.find(&path)?;
    if flags & NO_FOLLOW != 0 && matches!(found, Found::Cached(_)) {
        let name = path.bytes.as_ptr() as u64;
        return pass(262, [AT_FDCWD as u64, name, to, NO_FOLLOW, 0, 0]);
    }
    Ok(match stat_of(world, found) {
        Ok(stat) => {
            // SAFETY: the server's own structure.
            unsafe { raw::store(to, stat) };
            0
        }
        Err(error) => error,
    })
}

fn stat_descriptor(world: &mut World, descriptor: u64, to: u64) -> Answer {
    let Some((kind, object)) = world.descriptors.object(descriptor) else {
        return Ok(EBADF);
    };
    let number = 1000 + object as u64;
    let stat = match kind {
        Kind::File => world.files.stat(object, EPOCH * SECOND),
        Kind::Folder => files::cached(object).stat,
        Kind::Socket => files::new_stat(number, 0o140_777),
        Kind::PipeReader | Kind::PipeWriter => files::new_stat(number, 0o010_600),
        _ => {
            let path = Path::resolve(b"/", b"/dev/null")?;
            files::cached(files::look_up(&path)?).stat
        }
    };
    // SAFETY: the server's own structure.
    unsafe { raw::store(to, stat) };
    Ok(0)
}

fn seek(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    let length = match found.kind {
        Kind::File => world.files.content(found.object as usize).len() as i64,
        Kind::Folder | Kind::Null | Kind::Zero | Kind::Random => 0,
        _ => return Ok(ESPIPE),
    };
    let base = match a[2] {
        0 => 0,
        1 => found.offset as i64,
        2 => length,
        _ => return Ok(EINVAL),
    };
    let to = base.wrapping_add(a[1] as i64);
    if to < 0 {
        return Ok(EINVAL);
    }
    world.descriptors.descriptions[index].offset = to as u64;
    Ok(to)
}

fn control(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    match (a[1], found.kind) {
        // FIONBIO
        (0x5421, _) => {
            // SAFETY: the server's own flag.
            let on = unsafe { raw::load::<i32>(a[2]) } != 0;
            let flags = &mut world.descriptors.descriptions[index].flags;
            *flags = *flags & !O_NONBLOCK | u32::from(on) * O_NONBLOCK;
            Ok(0)
        }
        // FIONREAD
        (0x541b, Kind::Socket) => {
            let length = world.network.sockets[found.object as usize].length;
            // SAFETY: the server's own place.
            unsafe { raw::store(a[2], length) };
            Ok(0)
        }
        // TCGETS, TIOCGPGRP, TIOCGWINSZ
        (0x5401 | 0x540f | 0x5413, _) => Ok(ENOTTY),
        _ => unknown(world, 16, a[1]),
    }
}

fn access(world: &mut World, folder: u64, path: u64, mode: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => Ok(error),
        Found::Inode(inode) => {
            let bits = u64::from(world.files.inodes[inode].mode >> 6) & 7;
            Ok(if mode & !bits & 7 == 0 { 0 } else { EACCES })
        }
        Found::Cached(_) => {
            let name = path.bytes.as_ptr() as u64;
            pass(269, [AT_FDCWD as u64, name, mode, 0, 0, 0])
        }
    }
}

fn duplicate(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let Some((index, _)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    if number == 32 {
        return Ok(give(world, index, 0, false));
    }
    if a[1] == a[0] {
        return Ok(if number == 33 { a[1] as i64 } else { EINVAL });
    }
    world
        .descriptors
        .close(a[1], &mut world.network, &mut world.files);
    if a[1] as usize >= world.descriptors.slots.len() {
        return Ok(EBADF);
    }
    let close = number == 292 && a[2] & CLOSE_ON_EXEC != 0;
    Ok(give(world, index, a[1] as usize, close))
}

/// Another number for an open file.
fn give(world: &mut World, index: usize, least: usize, close: bool) -> i64 {
    let number = world.descriptors.give(index, least, close);
    if number >= 0 {
        world.descriptors.descriptions[index].references += 1;
    }
    number
}

fn set_flags(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    let slot = a[0] as u32 as usize;
    match a[1] {
        0 => Ok(give(world, index, a[2] as usize, false)),
        1030 => Ok(give(world, index, a[2] as usize, true)),
        1 => Ok(i64::from(world.descriptors.slots[slot].close_on_exec)),
        2 => {
            world.descriptors.slots[slot].close_on_exec = a[2] as u16 & 1;
            Ok(0)
        }
        3 => Ok(i64::from(found.flags)),
        4 => {
            const SETTABLE: u32 = 0o6000;
            let flags = found.flags & !SETTABLE | a[2] as u32 & SETTABLE;
            world.descriptors.descriptions[index].flags = flags;
            Ok(0)
        }
        // Locks: nobody else is there.
        5 | 36 => {
            // SAFETY: the server's own structure.
            unsafe { raw::store(a[2], 2_u16) };
            Ok(0)
        }
        6 | 7 | 37 | 38 => Ok(0),
        command => unknown(world, 72, command),
    }
}

fn change_folder(world: &mut World, path: u64) -> Answer {
    let path = path_at(world, AT_FDCWD as u64, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => Ok(error),
        Found::Cached(at) if files::cached(at).is_folder() => {
            world.files.folder = path;
            Ok(0)
        }
        _ => Ok(ENOTDIR),
    }
}

fn rename(world: &mut World, folders: [u64; 2], from: u64, to: u64) -> Answer {
    let from = path_at(world, folders[0], from)?;
    let to = path_at(world, folders[1], to)?;
    let inode = match world.files.find(&from)? {
        Found::Nothing(error) => return Ok(error),
        Found::Inode(inode) => inode,
        Found::Cached(at) if files::cached(at).is_file() => world.files.inode_of(at)?,
        Found::Cached(_) => return Err(Declined("rename(2) of a folder")),
    };
    world.files.set_name(&to, inode as u32 + 1)?;
    world.files.set_name(&from, 0)?;
    Ok(0)
}

fn unlink(world: &mut World, folder: u64, path: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => return Ok(error),
        Found::Cached(at) if files::cached(at).is_folder() => return Ok(EISDIR),
        _ => {}
    }
    world.files.set_name(&path, 0)?;
    Ok(0)
}

fn change_mode(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let found = if number == 91 {
        match world.descriptors.object(a[0]) {
            Some((Kind::File, inode)) => Found::Inode(inode),
            _ => return Err(Declined("fchmod(2) of what is no file")),
        }
    } else {
        let path = path_at(world, AT_FDCWD as u64, a[0])?;
        world.files.find(&path)?
    };
    let inode = match found {
        Found::Nothing(error) => return Ok(error),
        Found::Inode(inode) => inode,
        Found::Cached(_) => return Err(Declined("chmod(2) of a file that was there before")),
    };
    let mode = &mut world.files.inodes[inode].mode;
    *mode = *mode & !0o7777 | a[1] as u32 & 0o7777;
    Ok(0)
}

fn list(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.descriptors.find(a[0]) else {
        return Ok(EBADF);
    };
    if found.kind != Kind::Folder {
        return Ok(ENOTDIR);
    }
    let folder = files::cached(found.object as usize);
    if world.files.changed_in(folder.path.text()) {
        return Err(Declined("listing a folder that the session changed"));
    }
    let content = folder.content();
    let from = found.offset as usize;
    let mut to = from;
    while let Some(record) = content.get(to..to + 18) {
        let length = usize::from(u16::from_le_bytes([record[16], record[17]]));
        if to + length - from > a[2] as usize || length == 0 {
            break;
        }
        to += length;
    }
    if to == from && from < content.len() {
        return Ok(EINVAL);
    }
    let part = &content[from..to];
    // SAFETY: the server's own buffer.
    unsafe { raw::bytes_mut(a[1], part.len() as u64).copy_from_slice(part) };
    world.descriptors.descriptions[index].offset = to as u64;
    Ok(part.len() as i64)
}
