//! Calls on sockets.

use crate::calls::unknown;
use crate::channels;
use crate::descriptors::{EBADF, Kind, O_NONBLOCK};
use crate::file_calls::path_at;
use crate::files::Found;
use crate::network::{EAGAIN, EINVAL, Role};
use crate::numbers::{AT_FDCWD, CLOSE_ON_EXEC, ENOTSOCK, EOPNOTSUPP};
use crate::raw;
use crate::transfer::wait_for;
use crate::waiting::{EINTR, INPUT};
use crate::world::{Answer, Declined, World};

const UNIX: u64 = 1;

/// Sockets.
pub(crate) fn socket(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    if number == 41 {
        let kind = a[1] & 0xf;
        let is_known = match a[0] {
            UNIX => matches!(kind, 1 | 2),
            2 | 10 => kind == 1,
            _ => false,
        };
        if !is_known {
            unknown(world, number, a[0] << 8 | a[1] & 0xf);
        }
        if a[0] != UNIX && world.me().apart != 0 {
            return Err(Declined("a socket in a network of its own"));
        }
        let at = world.network.socket(a[0] as u8)?;
        let flags = 2 | (a[1] as u32 & O_NONBLOCK);
        let close = a[1] & CLOSE_ON_EXEC != 0;
        return world.open(Kind::Socket, at, flags, close);
    }
    if number == 53 {
        let stream = a[1] & 0xf == 1;
        if a[0] != UNIX || !stream {
            unknown(world, number, a[0] << 8 | a[1] & 0xf);
        }
        let ends = world.pair(a[1] as u32)?;
        // SAFETY: the server's own pair.
        unsafe { raw::store(a[3], ends) };
        return Ok(0);
    }
    let Some((index, found)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    if found.kind == Kind::Pair {
        return of_pair(world, number, a, found.object as usize);
    }
    if found.kind != Kind::Socket {
        return Ok(ENOTSOCK);
    }
    let at = found.object as usize;
    match number {
        42 => connect(world, a, at),
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

/// Connects to a socket of this machine: there is none, as in the sandbox.
fn connect(world: &mut World, a: [u64; 6], at: usize) -> Answer {
    const FAMILY: u64 = 2;
    if u64::from(world.network.sockets[at].family) != UNIX || a[2] <= FAMILY {
        unknown(world, 42, a[0]);
    }
    let path = path_at(world, AT_FDCWD as u64, a[1] + FAMILY)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => Ok(error),
        _ => Err(Declined("connect(2) to another program")),
    }
}

/// Calls on one of a pair of sockets.
fn of_pair(world: &mut World, number: i64, a: [u64; 6], object: usize) -> Answer {
    let (reads, writes) = channels::ends(object);
    match number {
        48 => {
            if a[1] != 0 {
                world.channels[writes].writers = 0;
            }
            if a[1] != 1 {
                world.channels[reads].readers = 0;
            }
            Ok(0)
        }
        54 => Ok(0),
        _ => unknown(world, number, UNIX),
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
    world.open(Kind::Socket, accepted, flags, close)
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
