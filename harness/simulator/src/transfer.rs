//! Reading and writing: files, sockets, pipes.

use crate::calls::fill_random;
use crate::channels;
use crate::descriptors::{EBADF, Kind, O_NONBLOCK};
use crate::network::{EAGAIN, EINVAL, EPIPE};
use crate::numbers::EISDIR;
use crate::own;
use crate::passing;
use crate::processes::Awaited;
use crate::raw;
use crate::signals::{self, Delivered, Sender};
use crate::waiting;
use crate::waiting::{EINTR, INPUT, OUTPUT, Wait, Woken};
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
                if number == 46 {
                    passing::send(world, a[0], a[1])?;
                }
                let answer = pieces(world, number == 46, a[0], list, count, a[2])?;
                if number == 47 {
                    raw::store(a[1] + 8, 0_u32);
                    passing::receive(world, a[0], a[1], a[2], answer)?;
                }
                Ok(answer)
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
    let found = world.find(descriptor);
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
    let Some((index, found)) = world.find(descriptor) else {
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
        Kind::Socket | Kind::PipeReader | Kind::Pair => loop {
            let peek = flags & PEEK != 0;
            let answer = match found.kind {
                Kind::Socket => world.network.read(object, bytes, peek),
                Kind::PipeReader => world.channels[object].read(bytes, false),
                _ => world.channels[channels::ends(object).0].read(bytes, peek),
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
        Kind::Folder | Kind::NewFolder => Ok(EISDIR),
        Kind::None | Kind::PipeWriter => Ok(EBADF),
        Kind::Epoll => Ok(EINVAL),
    }
}

/// Waits until an open file is ready; false when a handler ran instead.
pub(crate) fn wait_for(world: &mut World, index: usize, events: u32) -> Result<bool, Declined> {
    let mut ready =
        |world: &mut World| waiting::ready_for(world, index) & (events | waiting::ALWAYS) != 0;
    let mut awaited = Awaited::NOTHING;
    awaited.add(index, events);
    let woken = waiting::wait(world, &mut ready, Wait::FOR_EVER, awaited)?;
    // Others look at what they wait for first, and at signals only if there is nothing;
    // who had to wait for a local stream's bytes looks at signals first.
    let reads_pair = events == INPUT && world.descriptors.descriptions[index].kind == Kind::Pair;
    let interrupted = woken == Woken::Interrupted
        || reads_pair && signals::deliver(world, None)? == Delivered::Interrupts;
    Ok(!interrupted)
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
    const DONT_WAIT: u64 = 0x40;
    const SIGPIPE: u32 = 13;
    let Some((index, found)) = world.find(descriptor) else {
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
            world.files.write(object, from, bytes, now)?;
            if offset.is_none() {
                world.descriptors.descriptions[index].offset = from + bytes.len() as u64;
            }
            bytes.len() as i64
        }
        Kind::Socket => world.network.write(object, bytes)?,
        Kind::PipeWriter | Kind::Pair => {
            let channel = match found.kind {
                Kind::PipeWriter => object,
                _ => channels::ends(object).1,
            };
            let waits = found.flags & O_NONBLOCK == 0 && flags & DONT_WAIT == 0;
            write_channel(world, (index, channel), bytes, waits)?
        }
        Kind::Null | Kind::Zero | Kind::Random => bytes.len() as i64,
        Kind::None | Kind::Folder | Kind::NewFolder | Kind::PipeReader => EBADF,
        Kind::Epoll => EINVAL,
    };
    if answer == EPIPE && flags & NO_SIGNAL == 0 {
        let sender = Sender::process(world.number_of(own::number()));
        world.me_mut().signals.send(SIGPIPE, sender);
        signals::deliver(world, None)?;
    }
    Ok(answer)
}

/// Writes into a pipe or a pair; waits for room, as long as it may, until all is in.
fn write_channel(
    world: &mut World,
    (index, channel): (usize, usize),
    bytes: &[u8],
    waits: bool,
) -> Answer {
    let mut done = 0;
    loop {
        let answer = world.channels[channel].write(&bytes[done..]);
        if answer >= 0 {
            done += answer as usize;
            if done == bytes.len() || !waits {
                return Ok(done as i64);
            }
            continue;
        }
        if answer != EAGAIN || !waits {
            return Ok(if done > 0 { done as i64 } else { answer });
        }
        if !wait_for(world, index, OUTPUT)? {
            return Ok(if done > 0 { done as i64 } else { EINTR });
        }
    }
}

fn send_file(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.find(a[1]) else {
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
