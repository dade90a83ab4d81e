//! Calls that ask for the time, set an alarm, or wait.

use crate::descriptors::{EBADF, Kind};
use crate::numbers::{LOOK_AT_CLOCK, SECOND};
use crate::processes::Awaited;
use crate::raw;
use crate::waiting;
use crate::waiting::{EINTR, Wait, Woken};
use crate::world::{Answer, Declined, World};

pub(crate) fn time(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    world.control.now += LOOK_AT_CLOCK;
    let now = world.control.now;
    let calendar = world.control.epoch * SECOND + now;
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
            // alarm, setitimer, getitimer
            36..=38 => return alarm(world, number, a),
            _ => {}
        }
    }
    Ok(0)
}

fn alarm(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let now = world.control.now;
    let alarm = world.me_mut().alarm;
    let left = if alarm > 0 {
        alarm.saturating_sub(now)
    } else {
        0
    };
    if number == 37 {
        world.me_mut().alarm = if a[0] > 0 { now + a[0] * SECOND } else { 0 };
        world.me_mut().alarm_interval = 0;
        return Ok(left.div_ceil(SECOND) as i64);
    }
    if a[0] != 0 {
        return Err(Declined("a timer of processor time"));
    }
    let old = if number == 36 { a[1] } else { a[2] };
    // SAFETY: the server's own structures.
    unsafe {
        if old != 0 {
            let interval = world.me_mut().alarm_interval;
            let [seconds, every] = [left, interval].map(|t| [t / SECOND, t % SECOND / 1000]);
            raw::store(old, [every, seconds]);
        }
        if number == 38 && a[1] != 0 {
            let [every, first]: [[u64; 2]; 2] = raw::load(a[1]);
            let span = |[seconds, micros]: [u64; 2]| seconds * SECOND + micros * 1000;
            let first = span(first);
            world.me_mut().alarm = if first > 0 { now + first } else { 0 };
            world.me_mut().alarm_interval = span(every);
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
pub(crate) fn wait(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let how = |timeout, mask| Wait {
        timeout,
        mask,
        sleeps: false,
        restarts: false,
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
            let Some((Kind::Epoll, at)) = world.object(a[0]) else {
                return Ok(EBADF);
            };
            let description = world.find(a[0]).map_or(0, |found| found.0);
            let set = if number == 281 { mask(a[4]) } else { None };
            waiting::epoll(
                world,
                (description, at),
                a[1],
                a[2],
                how(milliseconds(a[3]), set),
            )
        }
        233 => {
            let Some((Kind::Epoll, at)) = world.object(a[0]) else {
                return Ok(EBADF);
            };
            let Some((description, found)) = world.find(a[2]) else {
                return Ok(EBADF);
            };
            if matches!(
                found.kind,
                Kind::File | Kind::Folder | Kind::NewFolder | Kind::Null
            ) {
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
                    world.control.epoch * SECOND
                } else {
                    SECOND * 1000
                };
                time = time.saturating_sub(base + world.control.now);
            }
            let how = Wait {
                timeout: Some(time.max(1)),
                mask: None,
                sleeps: true,
                restarts: false,
            };
            Ok(
                match waiting::wait(world, &mut |_| false, how, Awaited::NOTHING)? {
                    Woken::Interrupted => EINTR,
                    _ => 0,
                },
            )
        }
        // pause, rt_sigsuspend
        _ => {
            let set = if number == 130 { mask(a[0]) } else { None };
            waiting::wait(world, &mut |_| false, how(None, set), Awaited::NOTHING)?;
            Ok(EINTR)
        }
    }
}
