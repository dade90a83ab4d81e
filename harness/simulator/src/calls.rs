//! Answers system calls.

use crate::cache;
use crate::cache::Path;
use crate::descriptors::{EBADF, Kind};
use crate::ends;
use crate::file_calls::file;
use crate::forks;
use crate::identity;
use crate::memory;
use crate::numbers::{AT_FDCWD, CLOSE_ON_EXEC, ECHILD};
use crate::own;
use crate::processes::{NO_PROCESS, State};
use crate::raw;
use crate::signals;
use crate::socket_calls::socket;
use crate::time_calls::{time, wait};
use crate::transfer::transfer;
use crate::waiting::{self, trap};
use crate::world::{Answer, Declined, Reason, World};

/// Answers one call of the server.
///
/// # Errors
/// When it asks for what is not simulated.
pub fn answer(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    if world.control.calls == 0 {
        open_first(world)?;
    }
    world.control.calls += 1;
    let answer = dispatch(world, number, a)?;
    // What was waited for is there; a signal that came meanwhile is delivered with it.
    if world.me().signals.pending != 0 {
        signals::deliver(world, None)?;
    }
    Ok(answer)
}

fn dispatch(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
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
        | 82..=84
        | 87
        | 89
        | 95
        | 217
        | 257
        | 258
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
        41..=43 | 48..=55 | 288 => socket(world, number, a),
        9..=12 | 25 | 28 => memory_call(world, number, a),
        213 | 291 => {
            let free = world.descriptors.epolls.iter().position(|e| e.used == 0);
            let at = free.ok_or(Declined("too many readiness sets"))?;
            world.descriptors.epolls[at].used = 1;
            world.descriptors.epolls[at].count = 0;
            let close = number == 291 && a[0] & CLOSE_ON_EXEC != 0;
            world.open(Kind::Epoll, at, 2, close)
        }
        // SAFETY of all direct calls below: handed on as the server made them.
        _ => other(world, number, a),
    }
}

/// Opens what the server starts with: input, output, errors.
fn open_first(world: &mut World) -> Result<(), Declined> {
    let me = own::number();
    world.count = 1;
    // SAFETY: questions; the kernel's own numbers are the first process's.
    let [pid, group, session] =
        [39, 111, 124].map(|number| unsafe { raw::call(number, [0; 6]) } as u32);
    let first = &mut world.processes[me];
    first.state = State::Runs;
    (first.pid, first.group, first.session) = (pid, group, session);
    first.parent = NO_PROCESS;
    world.open(Kind::Null, 0, 0, false)?;
    for path in [b"/kairos/stdout", b"/kairos/stderr"] {
        let path = Path::resolve(b"/", path)?;
        let now = world.control.now;
        let inode = world.files.to_write(&path, 0o644, now)?;
        world.files.inodes[inode].references += 1;
        world.open(Kind::File, inode, 0o2001, false)?;
    }
    Ok(())
}

pub(crate) fn pass(number: i64, a: [u64; 6]) -> Answer {
    // SAFETY: handed on as the server made it.
    Ok(unsafe { raw::call(number, a) })
}

pub(crate) fn unknown(world: &mut World, number: i64, argument: u64) -> ! {
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
        14 => pass(14, a),
        228 | 96 | 201 | 229 | 98 | 99 | 100 | 36..=38 => time(world, number, a),
        // uname, get*id, getgroups, sched_getaffinity, rt_sigpending, getcpu
        63 | 102 | 104 | 107 | 108 | 115 | 118 | 120 | 127 | 204 | 309 => pass(number, a),
        // sched_yield
        24 => {
            waiting::yield_now(world)?;
            Ok(0)
        }
        // rseq, robust list, thread area, set_tid_address
        158 | 218 | 273 | 334 => pass(number, a),
        // identity, sessions, limits: really, before it is ready
        97
        | 105
        | 106
        | 109
        | 112..=114
        | 116
        | 117
        | 119
        | 122
        | 123
        | 125
        | 126
        | 131
        | 157
        | 160
        | 302
            if !sealed =>
        {
            let answer = pass(number, a);
            if matches!(number, 109 | 112) {
                // SAFETY: questions.
                let [group, session] =
                    [111, 124].map(|number| unsafe { raw::call(number, [0; 6]) } as u32);
                let me = world.me_mut();
                (me.group, me.session) = (group, session);
            }
            answer
        }
        39 | 105 | 106 | 109..=114 | 116 | 117 | 119 | 121..=124 | 186 => {
            identity::identity(world, number, a)
        }
        125 | 126 => identity::capabilities(world, number, a),
        157 => identity::control(world, a),
        97 | 160 | 302 => identity::limits(world, number, a),
        161 => identity::change_root(world, a[0]),
        56 | 57 => forks::fork(world, number, a),
        318 => random(world, a),
        61 => ends::wait_for_child(world, a),
        // waitid
        247 if !world
            .known()
            .iter()
            .any(|p| p.parent as usize == own::number()) =>
        {
            Ok(ECHILD)
        }
        // futex: wake
        202 if matches!(a[1] & 0x7f, 1 | 10) => Ok(0),
        62 | 200 | 234 => signals::kill(world, number, a),
        60 | 231 => {
            ends::end(world, ((a[0] & 0xff) << 8) as i32)?;
            Ok(0)
        }
        _ => unknown(world, number, a[0]),
    }
}

fn random(world: &mut World, a: [u64; 6]) -> Answer {
    // SAFETY: the server's own buffer.
    let bytes = unsafe { raw::bytes_mut(a[0], a[1]) };
    fill_random(world, bytes);
    Ok(bytes.len() as i64)
}

pub(crate) fn fill_random(world: &mut World, bytes: &mut [u8]) {
    for byte in bytes {
        let next = world.control.random;
        world.control.random = next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (next >> 56) as u8;
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
    match world.object(a[4]) {
        None => Ok(EBADF),
        Some((Kind::File, inode)) if sealed => {
            if a[3] & 1 != 0 && a[2] & 2 != 0 {
                return Err(Declined("a shared mapping of a file"));
            }
            let address = world.me_mut().memory.take(a[1])?;
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
            let path = &cache::cached(inode.cached as usize - 1).path;
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
