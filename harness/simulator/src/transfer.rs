//! Reading and writing: files, sockets, pipes.

use crate::calls::fill_random;
use crate::children;
use crate::descriptors::{EBADF, Kind, O_NONBLOCK, PIPE_CAPACITY};
use crate::network::{EAGAIN, EINVAL, EPIPE};
use crate::numbers::EISDIR;
use crate::raw;
use crate::signals;
use crate::waiting;
use crate::waiting::{EINTR, INPUT, Wait, Woken};
use crate::world::{Answer, Declined, World};

/// Reading and writing.
pub(crate) fn transfer(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
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
pub(crate) fn wait_for(world: &mut World, index: usize, events: u32) -> Result<bool, Declined> {
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
    const NO_SIGNAL: u64 = 0x4000;
    const SIGPIPE: u32 = 13;
    let Some((index, _)) = world.descriptors.find(descriptor) else {
        return Ok(EBADF);
    };
    let answer = write_to(world, index, bytes, offset)?;
    if world.children.is_child() {
        if answer == EAGAIN {
            return Err(Declined("a child process that waits"));
        }
        if answer > 0 {
            children::note_written(world, index, &bytes[..answer as usize])?;
        }
    }
    if answer == EPIPE && flags & NO_SIGNAL == 0 {
        world.signals.send(SIGPIPE);
        signals::deliver(world, None);
    }
    Ok(answer)
}

/// A child has written to an open file.
///
/// # Errors
/// When something happens that is not simulated.
pub(crate) fn written(world: &mut World, index: usize, bytes: &[u8]) -> Result<(), Declined> {
    let answer = write_to(world, index, bytes, None)?;
    if answer >= 0 && answer < bytes.len() as i64 {
        return Err(Declined("a child process that waits"));
    }
    Ok(())
}

/// Writes to an open file.
fn write_to(world: &mut World, index: usize, bytes: &[u8], offset: Option<u64>) -> Answer {
    const APPEND: u32 = 0o2000;
    let found = world.descriptors.descriptions[index];
    let object = found.object as usize;
    Ok(match found.kind {
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
    })
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
