//! Folders: made, removed, listed, with what the session gave and took laid over what
//! was there before.

use crate::cache::{self, Path, Stat};
use crate::descriptors::{EBADF, Kind};
use crate::file_calls::{may_write, path_at};
use crate::files::{ENOENT, Found};
use crate::network::EINVAL;
use crate::numbers::{EACCES, EEXIST, ENOTDIR, ENOTEMPTY};
use crate::raw;
use crate::world::{Answer, Declined, World};

const FOLDER: u32 = 0o040_000;
/// What a name adds to the size of a folder, as a file system in memory tells it.
const NAME_SIZE: i64 = 20;
/// And what it says of an empty one.
const EMPTY_SIZE: i64 = 40;
/// Bytes of an entry before its name.
const HEAD: usize = 19;

/// Whether the folder of a path may be changed: 0, or an error.
///
/// # Errors
/// When there are too many files.
pub(crate) fn may_change(world: &World, path: &Path) -> Answer {
    let folder = Path::resolve(b"/", path.folder())?;
    let found = world.files.find(&folder)?;
    if let Found::Nothing(error) = found {
        return Ok(error);
    }
    if !world.files.is_folder(found) {
        return Ok(ENOTDIR);
    }
    Ok(match found {
        Found::Inode(inode) => {
            let writable = world.files.inodes[inode].mode & 0o200 != 0;
            if writable { 0 } else { EACCES }
        }
        _ => may_write(&folder),
    })
}

/// `mkdir`.
pub(crate) fn make(world: &mut World, folder: u64, path: u64, mode: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    if !matches!(world.files.find(&path)?, Found::Nothing(ENOENT)) {
        return Ok(EEXIST);
    }
    let refused = may_change(world, &path)?;
    if refused < 0 {
        return Ok(refused);
    }
    let mode = FOLDER | mode as u32 & 0o1777 & !world.me().umask;
    let now = world.control.now;
    world.files.create(&path, mode, now)?;
    Ok(0)
}

/// `rmdir`.
pub(crate) fn remove(world: &mut World, folder: u64, path: u64) -> Answer {
    let path = path_at(world, folder, path)?;
    let found = world.files.find(&path)?;
    if let Found::Nothing(error) = found {
        return Ok(error);
    }
    if !world.files.is_folder(found) {
        return Ok(ENOTDIR);
    }
    let mut any = false;
    each(world, &path, found, &mut |_, name, _| {
        any |= name != b"." && name != b"..";
        true
    });
    if any {
        return Ok(ENOTEMPTY);
    }
    let refused = may_change(world, &path)?;
    if refused < 0 {
        return Ok(refused);
    }
    world.files.set_name(&path, 0)?;
    Ok(0)
}

/// The last part of a path.
fn last(path: &[u8]) -> &[u8] {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    &path[slash.map_or(0, |slash| slash + 1)..]
}

/// Names in a folder as it was, with their kinds.
fn each_before(at: usize, act: &mut dyn FnMut(u64, &[u8], u8) -> bool) {
    let content = cache::cached(at).content();
    let mut from = 0;
    while let Some(record) = content.get(from..from + HEAD) {
        let length = usize::from(u16::from_le_bytes([record[16], record[17]]));
        let Some(name) = content.get(from + HEAD..from + length) else {
            return;
        };
        let end = name
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(name.len());
        let mut number = [0; 8];
        number.copy_from_slice(&record[..8]);
        if !act(u64::from_le_bytes(number), &name[..end], record[18]) {
            return;
        }
        from += length;
    }
}

/// Names in a folder as it is now, until `act` says that it is enough. Those that were
/// given last come first, behind its own and its parent's, as in a file system in memory.
fn each(world: &World, path: &Path, found: Found, act: &mut dyn FnMut(u64, &[u8], u8) -> bool) {
    let names = world.files.names.iter().rev();
    let names = names.filter(|name| name.used != 0 && name.path.folder() == folder_text(path));
    let is_own = |name: &[u8]| name == b"." || name == b"..";
    let mut goes_on = true;
    if let Found::Cached(at) = found {
        each_before(at, &mut |number, name, kind| {
            goes_on = !is_own(name) || act(number, name, kind);
            goes_on
        });
    } else {
        goes_on = act(1, b".", 4) && act(1, b"..", 4);
    }
    for name in names.clone() {
        let Some(inode) = name.inode.checked_sub(1) else {
            continue;
        };
        let is_folder = world.files.is_folder(Found::Inode(inode as usize));
        let kind = if is_folder { 4 } else { 8 };
        let number = u64::from(inode) + 100_000;
        goes_on = goes_on && act(number, last(name.path.text()), kind);
    }
    if let (Found::Cached(at), true) = (found, goes_on) {
        each_before(at, &mut |number, name, kind| {
            let given = || names.clone().any(|known| last(known.path.text()) == name);
            is_own(name) || given() || act(number, name, kind)
        });
    }
}

/// A folder's path as paths of what lies in it have it.
fn folder_text(path: &Path) -> &[u8] {
    match path.text() {
        b"/" => b"",
        text => text,
    }
}

/// A folder's attributes with what the session gave and took: links and size.
#[must_use]
pub(crate) fn count(world: &World, path: &Path, mut stat: Stat, new: bool) -> Stat {
    let (mut names, mut folders) = (0, 0);
    let mut changed = None;
    for name in world.files.names.iter().filter(|name| name.used != 0) {
        if name.path.folder() != folder_text(path) {
            continue;
        }
        let before = if new {
            None
        } else {
            cache::look_up(&name.path).ok()
        };
        let before = before.map(cache::cached).filter(|before| before.error == 0);
        let inode = name.inode.checked_sub(1).map(|inode| inode as usize);
        let is_folder = inode.is_some_and(|at| world.files.is_folder(Found::Inode(at)));
        let was_folder = before.is_some_and(cache::Cached::is_folder);
        names += i64::from(inode.is_some()) - i64::from(before.is_some());
        folders += i64::from(is_folder) - i64::from(was_folder);
        changed = changed.max(inode.map(|at| world.files.inodes[at].modified));
    }
    let (links, size) = if new {
        (2, EMPTY_SIZE)
    } else {
        (stat[2] as i64, stat[6] as i64)
    };
    stat[2] = (links + folders) as u64;
    stat[6] = (size + NAME_SIZE * names) as u64;
    stat
}

/// `getdents64`. Where it goes on is the number of names that were listed.
pub(crate) fn list(world: &mut World, a: [u64; 6]) -> Answer {
    let Some((index, found)) = world.find(a[0]) else {
        return Ok(EBADF);
    };
    let object = found.object as usize;
    let (path, folder) = match found.kind {
        Kind::Folder => (cache::cached(object).path, Found::Cached(object)),
        Kind::NewFolder => {
            let mut names = world.files.names.iter();
            let known = names.find(|name| name.used != 0 && name.inode as usize == object + 1);
            let known = known.ok_or(Declined("listing a folder that was removed"))?;
            (known.path, Found::Inode(object))
        }
        _ => return Ok(ENOTDIR),
    };
    let (mut passed, mut used, mut full) = (0, 0_usize, false);
    let room = a[2] as usize;
    each(world, &path, folder, &mut |number, name, kind| {
        passed += 1;
        if passed <= found.offset {
            return true;
        }
        let length = (HEAD + name.len() + 1).next_multiple_of(8);
        if used + length > room {
            full = true;
            return false;
        }
        // SAFETY: the server's own buffer.
        let record = unsafe { raw::bytes_mut(a[1] + used as u64, length as u64) };
        record.fill(0);
        record[..8].copy_from_slice(&number.to_le_bytes());
        record[8..16].copy_from_slice(&passed.to_le_bytes());
        record[16..18].copy_from_slice(&(length as u16).to_le_bytes());
        record[18] = kind;
        record[HEAD..HEAD + name.len()].copy_from_slice(name);
        used += length;
        true
    });
    if full {
        passed -= 1;
    }
    if full && used == 0 {
        return Ok(EINVAL);
    }
    world.descriptors.descriptions[index].offset = passed.max(found.offset);
    Ok(used as i64)
}
