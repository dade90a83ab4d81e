//! Files: as they were before the session (read once and kept), and over them what
//! server and client wrote since. Nothing of it reaches the real file system.

use crate::layout::{CACHE, CACHE_LENGTH};
use crate::memory::Memory;
use crate::raw;
use crate::world::Declined;

/// Longest path.
pub const MOST_PATH: usize = 248;
/// Most files known by name.
pub const MOST_NAMES: usize = 64;
/// Most files whose content is held.
pub const MOST_INODES: usize = 64;
/// Most files read before the session.
pub const MOST_CACHED: usize = 512;

const AT_FDCWD: u64 = -100_i64 as u64;
const READ: i64 = 0;
const CLOSE: i64 = 3;
const GETDENTS: i64 = 217;
const OPENAT: i64 = 257;
const NEWFSTATAT: i64 = 262;

/// No such file.
pub const ENOENT: i64 = -2;

/// A path.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Path {
    /// Its length.
    pub length: u64,
    /// Its bytes, and a zero.
    pub bytes: [u8; MOST_PATH],
}

impl Path {
    /// None.
    pub const EMPTY: Self = Self {
        length: 0,
        bytes: [0; MOST_PATH],
    };

    /// The path.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    /// Resolves `path` against the folder `base`.
    ///
    /// # Errors
    /// When it is too long.
    pub fn resolve(base: &[u8], path: &[u8]) -> Result<Self, Declined> {
        let mut all = Self::EMPTY;
        if path.first() != Some(&b'/') {
            all.walk(base)?;
        }
        all.walk(path)?;
        if all.length == 0 {
            all.push(b'/')?;
        }
        Ok(all)
    }

    fn walk(&mut self, path: &[u8]) -> Result<(), Declined> {
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    let slash = self.text().iter().rposition(|byte| *byte == b'/');
                    self.length = slash.unwrap_or(0) as u64;
                }
                part => {
                    self.push(b'/')?;
                    for byte in part {
                        self.push(*byte)?;
                    }
                }
            }
        }
        let end = self.length as usize;
        self.bytes[end] = 0;
        Ok(())
    }

    fn push(&mut self, byte: u8) -> Result<(), Declined> {
        let at = self.length as usize;
        if at + 1 >= MOST_PATH {
            return Err(Declined("a path that is too long"));
        }
        self.bytes[at] = byte;
        self.bytes[at + 1] = 0;
        self.length += 1;
        Ok(())
    }

    /// The folder that it lies in.
    #[must_use]
    pub fn folder(&self) -> &[u8] {
        let slash = self.text().iter().rposition(|byte| *byte == b'/');
        &self.bytes[..slash.unwrap_or(0)]
    }
}

/// A file's attributes as the kernel lays them out.
pub type Stat = [u64; 18];

/// A file as it was.
#[repr(C)]
pub struct Cached {
    /// Its path.
    pub path: Path,
    /// Why it has no attributes: an error number, negative; else 0.
    pub error: i64,
    /// Why it cannot be read; else 0.
    pub open_error: i64,
    /// Its attributes.
    pub stat: Stat,
    /// Where its content is.
    pub data: u64,
    /// The content's length.
    pub length: u64,
}

/// Files as they were. It lies in memory that is not put back.
#[repr(C)]
pub struct Cache {
    count: u64,
    used: u64,
    files: [Cached; MOST_CACHED],
}

/// Where the first of them lies.
pub const CACHED_AT: u64 = CACHE + core::mem::offset_of!(Cache, files) as u64;

const DATA: u64 = CACHE + ((core::mem::size_of::<Cache>() as u64 + 4095) & !4095);

impl Cached {
    /// The kind of file.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.stat[3] as u32
    }

    /// Whether it is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.mode() & 0o170_000 == 0o040_000
    }

    /// Whether it is an ordinary file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode() & 0o170_000 == 0o100_000
    }

    /// Its content.
    #[must_use]
    pub fn content(&self) -> &'static [u8] {
        // SAFETY: the cache lies there, and is only added to.
        unsafe { raw::bytes(self.data, self.length) }
    }
}

fn cache() -> &'static mut Cache {
    // SAFETY: the harness mapped it, zeroed, for the one thread there is.
    unsafe { &mut *(CACHE as *mut Cache) }
}

/// A file as it was, by its place in the cache.
#[must_use]
pub fn cached(index: usize) -> &'static Cached {
    &cache().files[index]
}

/// Looks a path up among the files as they were; its place in the cache.
///
/// # Errors
/// When the cache is full.
pub fn look_up(path: &Path) -> Result<usize, Declined> {
    let cache = cache();
    let count = cache.count as usize;
    let known = cache.files[..count]
        .iter()
        .position(|file| file.path.text() == path.text());
    if let Some(known) = known {
        return Ok(known);
    }
    if count == MOST_CACHED {
        return Err(Declined("too many files"));
    }
    cache.count += 1;
    let file = &mut cache.files[count];
    file.path = *path;
    let name = file.path.bytes.as_ptr() as u64;
    let stat = &raw mut file.stat as u64;
    // SAFETY: reads a path and writes attributes of ours.
    file.error = unsafe { raw::call(NEWFSTATAT, [AT_FDCWD, name, stat, 0, 0, 0]) };
    if file.error != 0 || !(file.is_folder() || file.is_file()) {
        return Ok(count);
    }
    // SAFETY: opens for reading only.
    let descriptor = unsafe { raw::call(OPENAT, [AT_FDCWD, name, 0o2_000_000, 0, 0, 0]) };
    if descriptor < 0 {
        file.open_error = descriptor;
        return Ok(count);
    }
    file.data = DATA + cache.used;
    let number = if file.is_folder() { GETDENTS } else { READ };
    let room = CACHE + CACHE_LENGTH - file.data;
    loop {
        let (to, left) = (file.data + file.length, room - file.length);
        // SAFETY: the cache's own room.
        let got = unsafe { raw::call(number, [descriptor as u64, to, left.min(1 << 20), 0, 0, 0]) };
        if got <= 0 {
            break;
        }
        file.length += got as u64;
        if file.length >= room {
            return Err(Declined("too many files"));
        }
    }
    // SAFETY: ours.
    let _ = unsafe { raw::call(CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]) };
    cache.used += (file.length + 63) & !63;
    Ok(count)
}

/// A name that differs from what was there before the session.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Name {
    /// Whether this entry is used.
    pub used: u32,
    /// The file, counted from 1; 0 if there is none by that name.
    pub inode: u32,
    /// The path.
    pub path: Path,
}

/// A file that is open or was written.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Inode {
    /// Whether this entry is used.
    pub used: u32,
    /// Descriptors and names that stand for it.
    pub references: u32,
    /// The file as it was, counted from 1; 0 if it is new.
    pub cached: u32,
    /// Whether it has content of its own.
    pub own: u32,
    /// Where that is.
    pub data: u64,
    /// Room there.
    pub capacity: u64,
    /// Its length.
    pub length: u64,
    /// Permission bits.
    pub mode: u32,
    /// Whether something else was done to it than appending.
    pub rewritten: u32,
    /// When it was written, in nanoseconds of this world.
    pub modified: u64,
}

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing; an error number, negative.
    Nothing(i64),
    /// A file that is open or was written.
    Inode(usize),
    /// Something as it was before the session.
    Cached(usize),
}

/// All of it.
#[repr(C)]
pub struct Files {
    /// Permission bits that new files do not get.
    pub umask: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// The working folder.
    pub folder: Path,
    /// Files that were written.
    pub inodes: [Inode; MOST_INODES],
    /// Names that were given or taken.
    pub names: [Name; MOST_NAMES],
}

impl Files {
    /// What is known of a name: none if it is as it was.
    #[must_use]
    pub fn name(&self, path: &Path) -> Option<&Name> {
        self.names
            .iter()
            .find(|name| name.used != 0 && name.path.text() == path.text())
    }

    /// What a path leads to.
    ///
    /// # Errors
    /// When there are too many files.
    pub fn find(&self, path: &Path) -> Result<Found, Declined> {
        if let Some(name) = self.name(path) {
            return Ok(match name.inode.checked_sub(1) {
                Some(inode) => Found::Inode(inode as usize),
                None => Found::Nothing(ENOENT),
            });
        }
        let at = look_up(path)?;
        let file = cached(at);
        if file.error != 0 {
            return Ok(Found::Nothing(file.error));
        }
        let inode = self
            .inodes
            .iter()
            .position(|inode| inode.used != 0 && inode.own != 0 && inode.cached as usize == at + 1);
        Ok(inode.map_or(Found::Cached(at), Found::Inode))
    }

    /// The file of this path, if it was written or is open.
    #[must_use]
    pub fn written(&self, path: &Path) -> Option<usize> {
        if let Some(name) = self.name(path) {
            return name.inode.checked_sub(1).map(|inode| inode as usize);
        }
        self.inodes.iter().position(|inode| {
            let before = inode.cached.checked_sub(1);
            inode.used != 0
                && before.is_some_and(|at| cached(at as usize).path.text() == path.text())
        })
    }

    /// The file of this path, made if there is none, in order to be written.
    ///
    /// # Errors
    /// When there are too many, or the path leads to something else.
    pub fn to_write(&mut self, path: &Path, mode: u32, now: u64) -> Result<usize, Declined> {
        match self.find(path)? {
            Found::Nothing(_) => self.create(path, mode, now),
            Found::Inode(inode) => Ok(inode),
            Found::Cached(at) if cached(at).is_file() => self.inode_of(at),
            Found::Cached(_) => Err(Declined("writing to what is no file")),
        }
    }

    /// Gives or takes a name; `inode` counts from 1.
    ///
    /// # Errors
    /// When there are too many.
    pub fn set_name(&mut self, path: &Path, inode: u32) -> Result<(), Declined> {
        let known = self
            .names
            .iter()
            .position(|name| name.used != 0 && name.path.text() == path.text());
        let free = || self.names.iter().position(|name| name.used == 0);
        let Some(at) = known.or_else(free) else {
            return Err(Declined("too many files written"));
        };
        if let Some(before) = self.names[at].inode.checked_sub(1)
            && self.names[at].used != 0
        {
            self.release(before as usize);
        }
        if inode > 0 {
            self.inodes[inode as usize - 1].references += 1;
        }
        self.names[at] = Name {
            used: 1,
            inode,
            path: *path,
        };
        Ok(())
    }

    /// Whether a name in this folder was given or taken.
    #[must_use]
    pub fn changed_in(&self, folder: &[u8]) -> bool {
        self.names
            .iter()
            .any(|name| name.used != 0 && name.path.folder() == folder)
    }

    /// A file for something that was there before; a second open shares it.
    ///
    /// # Errors
    /// When there are too many.
    pub fn inode_of(&mut self, cached: usize) -> Result<usize, Declined> {
        let known = self
            .inodes
            .iter()
            .position(|inode| inode.used != 0 && inode.cached as usize == cached + 1);
        if let Some(known) = known {
            return Ok(known);
        }
        let at = self.free_inode()?;
        self.inodes[at] = Inode {
            used: 1,
            references: 0,
            cached: cached as u32 + 1,
            own: 0,
            data: 0,
            capacity: 0,
            length: 0,
            mode: self::cached(cached).mode(),
            rewritten: 0,
            modified: 0,
        };
        Ok(at)
    }

    /// A new, empty file.
    ///
    /// # Errors
    /// When there are too many.
    pub fn create(&mut self, path: &Path, mode: u32, now: u64) -> Result<usize, Declined> {
        let at = self.free_inode()?;
        self.inodes[at] = Inode {
            used: 1,
            references: 0,
            cached: 0,
            own: 1,
            data: 0,
            capacity: 0,
            length: 0,
            mode: 0o100_000 | (mode & 0o7777 & !self.umask),
            rewritten: 0,
            modified: now,
        };
        self.set_name(path, at as u32 + 1)?;
        Ok(at)
    }

    fn free_inode(&self) -> Result<usize, Declined> {
        let free = self.inodes.iter().position(|inode| inode.used == 0);
        free.ok_or(Declined("too many files"))
    }

    /// A descriptor or a name of it is gone.
    pub fn release(&mut self, inode: usize) {
        let inode = &mut self.inodes[inode];
        inode.references = inode.references.saturating_sub(1);
        // What was written of a file that was there before must not be forgotten.
        if inode.references == 0 && !(inode.own != 0 && inode.cached != 0) {
            inode.used = 0;
        }
    }

    /// A file's content.
    #[must_use]
    pub fn content(&self, inode: usize) -> &'static [u8] {
        let inode = &self.inodes[inode];
        match inode.cached.checked_sub(1) {
            Some(before) if inode.own == 0 => cached(before as usize).content(),
            // SAFETY: the arena holds it.
            _ => unsafe { raw::bytes(inode.data, inode.length) },
        }
    }

    /// Gives a file content of its own, with room for `length` bytes.
    fn own(&mut self, at: usize, length: u64, memory: &mut Memory) -> Result<(), Declined> {
        let before = self.content(at);
        let inode = &mut self.inodes[at];
        if inode.own == 0 {
            inode.own = 1;
            inode.capacity = 0;
            inode.length = before.len() as u64;
        }
        if length > inode.capacity {
            let capacity = (length.max(2 * inode.capacity) + 4095) & !4095;
            inode.data = memory.take(capacity)?;
            inode.capacity = capacity;
            // SAFETY: fresh memory of the arena.
            unsafe { raw::bytes_mut(inode.data, before.len() as u64).copy_from_slice(before) };
        }
        Ok(())
    }

    /// Writes into a file.
    ///
    /// # Errors
    /// When memory is used up.
    pub fn write(
        &mut self,
        at: usize,
        offset: u64,
        bytes: &[u8],
        now: u64,
        memory: &mut Memory,
    ) -> Result<(), Declined> {
        let length = self.content(at).len() as u64;
        let end = offset + bytes.len() as u64;
        self.own(at, end.max(length), memory)?;
        let inode = &mut self.inodes[at];
        if offset != length {
            inode.rewritten = 1;
        }
        // SAFETY: room was made.
        unsafe {
            if offset > length {
                raw::bytes_mut(inode.data + length, offset - length).fill(0);
            }
            raw::bytes_mut(inode.data + offset, bytes.len() as u64).copy_from_slice(bytes);
        }
        inode.length = inode.length.max(end);
        inode.modified = now;
        Ok(())
    }

    /// Sets a file's length.
    ///
    /// # Errors
    /// When memory is used up.
    pub fn truncate(
        &mut self,
        at: usize,
        length: u64,
        now: u64,
        memory: &mut Memory,
    ) -> Result<(), Declined> {
        let before = self.content(at).len() as u64;
        if length == before {
            return Ok(());
        }
        self.own(at, length, memory)?;
        let inode = &mut self.inodes[at];
        if length > before {
            // SAFETY: room was made.
            unsafe { raw::bytes_mut(inode.data + before, length - before).fill(0) };
        }
        inode.rewritten = u32::from(before > 0);
        inode.length = length;
        inode.modified = now;
        Ok(())
    }

    /// A file's attributes.
    #[must_use]
    pub fn stat(&self, at: usize, epoch: u64) -> Stat {
        let inode = &self.inodes[at];
        let mut stat = match inode.cached.checked_sub(1) {
            Some(before) => cached(before as usize).stat,
            None => new_stat(at as u64 + 100_000, inode.mode),
        };
        if inode.own != 0 {
            stat[6] = inode.length;
            stat[8] = inode.length.div_ceil(512);
            let at = epoch + inode.modified;
            for time in [9, 11, 13] {
                stat[time] = at / 1_000_000_000;
                stat[time + 1] = at % 1_000_000_000;
            }
        }
        stat[3] = stat[3] & !0xffff_ffff | u64::from(inode.mode);
        stat
    }
}

/// Attributes of something that the real file system does not have.
#[must_use]
pub fn new_stat(number: u64, mode: u32) -> Stat {
    let mut stat = [0; 18];
    (stat[0], stat[1], stat[2]) = (64, number, 1);
    // SAFETY: questions without arguments.
    let (user, group) = unsafe { (raw::call(107, [0; 6]), raw::call(108, [0; 6])) };
    stat[3] = u64::from(mode) | (user as u64) << 32;
    stat[4] = group as u64;
    stat[7] = 4096;
    stat
}
