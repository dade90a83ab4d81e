//! Calls on files, folders and descriptors.

use crate::cache;
use crate::cache::{Path, Stat, cached};
use crate::calls::{pass, unknown};
use crate::descriptors::{EBADF, Kind, O_NONBLOCK};
use crate::files;
use crate::files::{ENOENT, Found};
use crate::folders;
use crate::identity;
use crate::network::EINVAL;
use crate::numbers::{
    AT_FDCWD, CLOSE_ON_EXEC, EACCES, EEXIST, EISDIR, ENOTDIR, ENOTTY, ESPIPE, SECOND,
};
use crate::own;
use crate::raw;
use crate::world::{Answer, Declined, World};

/// Files and descriptors.
pub(crate) fn file(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let here = AT_FDCWD as u64;
    match number {
        2 => open(world, here, a[0], a[1], a[2]),
        85 => open(world, here, a[0], 0o1101, a[1]),
        257 => open(world, a[0], a[1], a[2], a[3]),
        3 => Ok(world.close(a[0])),
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
            let ends = world.pipe(flags as u32)?;
            // SAFETY: the server's own pair.
            unsafe { raw::store(a[0], ends) };
            Ok(0)
        }
        32 | 33 | 292 => duplicate(world, number, a),
        72 => set_flags(world, a),
        // fsync, fdatasync, fallocate
        74 | 75 | 285 => Ok(0),
        77 => {
            let Some((Kind::File, inode)) = world.object(a[0]) else {
                return Ok(EINVAL);
            };
            let now = world.control.now;
            world.files.truncate(inode, a[1], now)?;
            Ok(0)
        }
        79 => {
            let me = world.me();
            let folder = me.folder;
            let inside = folder.text().strip_prefix(me.root.text());
            let text = match inside {
                Some(b"") => b"/",
                Some(inside) => inside,
                None => return Err(Declined("a working folder outside of the root folder")),
            };
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
        89 => read_link(world, here, a[0], a[1], a[2]),
        267 => read_link(world, a[0], a[1], a[2], a[3]),
        83 => folders::make(world, here, a[0], a[1]),
        258 => folders::make(world, a[0], a[1], a[2]),
        84 => folders::remove(world, here, a[0]),
        263 if a[2] == 0x200 => folders::remove(world, a[0], a[1]),
        90 | 91 => change_mode(world, number, a),
        95 => {
            let before = world.me().umask;
            world.me_mut().umask = a[0] as u32 & 0o777;
            Ok(i64::from(before))
        }
        217 => folders::list(world, a),
        _ => unknown(world, number, a[0]),
    }
}

/// The absolute path that a call names, as the real root folder sees it.
pub(crate) fn path_at(world: &World, folder: u64, path: u64) -> Result<Path, Declined> {
    // SAFETY: the server's own string.
    let text = unsafe { raw::bytes(path, raw::length(path)) };
    let base = match world.object(folder) {
        Some((Kind::Folder, at)) if folder as i32 != AT_FDCWD => cache::cached(at).path,
        Some((Kind::NewFolder, _)) if folder as i32 != AT_FDCWD => {
            return Err(Declined("a path from a folder that the session made"));
        }
        _ => world.me().folder,
    };
    let root = world.me().root;
    if root.length == 0 {
        return Path::resolve(base.text(), text);
    }
    let Some(inside) = base.text().strip_prefix(root.text()) else {
        return Err(Declined("a working folder outside of the root folder"));
    };
    let inside = Path::resolve(inside, text)?;
    match inside.text() {
        b"/" => Ok(root),
        inside => Path::resolve(root.text(), &inside[1..]),
    }
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
        return world.open(kind, 0, kept, close);
    }
    let writes = flags & 3 != 0;
    let now = world.control.now;
    let inode = match world.files.find(&path)? {
        Found::Nothing(error) if flags & CREATE == 0 || error != ENOENT => return Ok(error),
        Found::Nothing(_) => {
            let error = folders::may_change(world, &path)?;
            if error < 0 {
                return Ok(error);
            }
            let mode = mode as u32 & 0o7777 & !world.me().umask;
            world.files.create(&path, mode, now)?
        }
        Found::Inode(_) | Found::Cached(_)
            if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE =>
        {
            return Ok(EEXIST);
        }
        Found::Inode(inode) if world.files.is_folder(Found::Inode(inode)) => {
            if writes {
                return Ok(EISDIR);
            }
            world.files.inodes[inode].references += 1;
            return world.open(Kind::NewFolder, inode, kept, close);
        }
        Found::Inode(inode) => inode,
        Found::Cached(at) => {
            let found = cache::cached(at);
            let wanted = [4, 2, 6, 6][flags as usize & 3];
            if !identity::permits(world, &found.stat, wanted) {
                return Ok(EACCES);
            }
            if found.is_folder() {
                if writes {
                    return Ok(EISDIR);
                }
                if found.open_error != 0 {
                    return Ok(found.open_error);
                }
                return world.open(Kind::Folder, at, kept, close);
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
    let number = world.open(Kind::File, inode, kept, close)?;
    if number >= 0 {
        world.files.inodes[inode].references += 1;
        if flags & TRUNCATE != 0 && writes {
            world.files.truncate(inode, 0, now)?;
        }
    }
    Ok(number)
}

/// Whether the real file system would permit writing there: 0, or an error.
pub(crate) fn may_write(path: &Path) -> i64 {
    let name = path.bytes.as_ptr() as u64;
    // SAFETY: asks about a path of ours.
    unsafe { raw::call(269, [AT_FDCWD as u64, name, 2, 0, 0, 0]) }
}

fn stat_of(world: &World, path: &Path, found: Found) -> Result<Stat, i64> {
    let epoch = world.control.epoch * SECOND;
    match found {
        Found::Nothing(error) => Err(error),
        Found::Inode(inode) if world.files.is_folder(found) => {
            let stat = world.files.stat(inode, epoch);
            Ok(folders::count(world, path, stat, true))
        }
        Found::Inode(inode) => Ok(world.files.stat(inode, epoch)),
        Found::Cached(at) if cache::cached(at).is_folder() => {
            Ok(folders::count(world, path, cache::cached(at).stat, false))
        }
        Found::Cached(at) => Ok(cache::cached(at).stat),
    }
}

/// `readlink`: nothing that the session made is a link.
fn read_link(world: &World, folder: u64, path: u64, to: u64, length: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) if world.files.name(&path).is_some() => Ok(error),
        Found::Inode(_) => Ok(EINVAL),
        _ => {
            let name = path.bytes.as_ptr() as u64;
            pass(267, [AT_FDCWD as u64, name, to, length, 0, 0])
        }
    }
}

fn stat_path(world: &mut World, folder: u64, path: u64, to: u64, flags: u64) -> Answer {
    const NO_FOLLOW: u64 = 0x100;
    let path = path_at(world, folder, path)?;
    let found = world.files.find(&path)?;
    let is_folder = world.files.is_folder(found);
    if flags & NO_FOLLOW != 0 && matches!(found, Found::Cached(_)) && !is_folder {
        let name = path.bytes.as_ptr() as u64;
        return pass(262, [AT_FDCWD as u64, name, to, NO_FOLLOW, 0, 0]);
    }
    Ok(match stat_of(world, &path, found) {
        Ok(stat) => {
            // SAFETY: the server's own structure.
            unsafe { raw::store(to, stat) };
            0
        }
        Err(error) => error,
    })
}

fn stat_descriptor(world: &mut World, descriptor: u64, to: u64) -> Answer {
    let Some((kind, object)) = world.object(descriptor) else {
        return Ok(EBADF);
    };
    let number = 1000 + object as u64;
    let stat = match kind {
        Kind::File | Kind::NewFolder => world.files.stat(object, world.control.epoch * SECOND),
        Kind::Folder => {
            let folder = cache::cached(object);
            folders::count(world, &folder.path, folder.stat, false)
        }
        Kind::Socket | Kind::Pair => files::new_stat(number, 0o140_777),
        Kind::PipeReader | Kind::PipeWriter => files::new_stat(number, 0o010_600),
        _ => {
            let path = Path::resolve(b"/", b"/dev/null")?;
            cache::cached(cache::look_up(&path)?).stat
        }
    };
    // SAFETY: the server's own structure.
    unsafe { raw::store(to, stat) };
    Ok(0)
}

fn seek(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    let length = match found.kind {
        Kind::File => world.files.content(found.object as usize).len() as i64,
        Kind::Folder | Kind::NewFolder | Kind::Null | Kind::Zero | Kind::Random => 0,
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
    let Some((index, found)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    match (a[1], found.kind) {
        // FIONBIO
        (0x5421, _) => {
            // SAFETY: the server's own flag.
            let on = unsafe { raw::load::<i32>(a[2]) } != 0;
            let flags = &mut world.descriptors.descriptions[index].flags;
            *flags = *flags & !O_NONBLOCK | (u32::from(on) * O_NONBLOCK);
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
    let Some((index, _)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    if number == 32 {
        return Ok(give(world, index, 0, false));
    }
    if a[1] == a[0] {
        return Ok(if number == 33 { a[1] as i64 } else { EINVAL });
    }
    world.close(a[1]);
    if a[1] as usize >= world.me().slots.len() {
        return Ok(EBADF);
    }
    let close = number == 292 && a[2] & CLOSE_ON_EXEC != 0;
    Ok(give(world, index, a[1] as usize, close))
}

/// Another number for an open file.
fn give(world: &mut World, index: usize, least: usize, close: bool) -> i64 {
    let number = world.give(index, least, close);
    if number >= 0 {
        world.descriptors.descriptions[index].references += 1;
    }
    number
}

fn set_flags(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    let slot = a[0] as u32 as usize;
    match a[1] {
        0 => Ok(give(world, index, a[2] as usize, false)),
        1030 => Ok(give(world, index, a[2] as usize, true)),
        1 => Ok(i64::from(world.me().slots[slot].close_on_exec)),
        2 => {
            world.me_mut().slots[slot].close_on_exec = a[2] as u16 & 1;
            Ok(0)
        }
        3 => Ok(i64::from(found.flags)),
        4 => {
            const SETTABLE: u32 = 0o6000;
            let flags = found.flags & !SETTABLE | a[2] as u32 & SETTABLE;
            world.descriptors.descriptions[index].flags = flags;
            Ok(0)
        }
        5 | 36 => {
            // SAFETY: the server's own structure.
            unsafe { raw::store(a[2], 2_u16) };
            Ok(0)
        }
        6 | 7 | 37 | 38 => {
            // SAFETY: the server's own structure begins with the kind of lock.
            let locks = unsafe { raw::load::<u16>(a[2]) } != 2;
            if found.kind == Kind::File {
                let inode = found.object as usize;
                world.files.lock(inode, own::number(), locks)?;
            }
            Ok(0)
        }
        // Who is told of urgent data: the client sends none.
        8 => Ok(0),
        // The size of a pipe: what it is said to be never shows.
        1031 => Ok(a[2] as i64),
        1032 => Ok(65_536),
        command => unknown(world, 72, command),
    }
}

fn change_folder(world: &mut World, path: u64) -> Answer {
    let path = path_at(world, AT_FDCWD as u64, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => Ok(error),
        found if world.files.is_folder(found) => {
            world.me_mut().folder = path;
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
        found if world.files.is_folder(found) => return Err(Declined("rename(2) of a folder")),
        Found::Inode(inode) => inode,
        Found::Cached(at) if cache::cached(at).is_file() => world.files.inode_of(at)?,
        Found::Cached(_) => return Err(Declined("rename(2) of what is no file")),
    };
    let found = world.files.find(&to)?;
    if world.files.is_folder(found) {
        return Ok(EISDIR);
    }
    let refused = folders::may_change(world, &to)?.min(folders::may_change(world, &from)?);
    if refused < 0 {
        return Ok(refused);
    }
    world.files.set_name(&to, inode as u32 + 1)?;
    world.files.set_name(&from, 0)?;
    Ok(0)
}

fn unlink(world: &mut World, folder: u64, path: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    match world.files.find(&path)? {
        Found::Nothing(error) => return Ok(error),
        found if world.files.is_folder(found) => return Ok(EISDIR),
        _ => {}
    }
    let refused = folders::may_change(world, &path)?;
    if refused < 0 {
        return Ok(refused);
    }
    world.files.set_name(&path, 0)?;
    Ok(0)
}

fn change_mode(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let found = if number == 91 {
        match world.object(a[0]) {
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
        Found::Cached(at) if cached(at).is_file() => world.files.inode_of(at)?,
        Found::Cached(_) => return Err(Declined("chmod(2) of a folder that was there before")),
    };
    let now = world.control.now;
    world.files.change_mode(inode, a[1] as u32, now);
    Ok(0)
}
