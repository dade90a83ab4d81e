//! Files as server and client wrote them, over what was there before the session.
//! Nothing of it reaches the real file system.

use crate::cache::{Path, Stat, cached, look_up};
use crate::layout::{STORE, STORE_LENGTH};
use crate::numbers::SECOND;
use crate::raw;
use crate::world::Declined;

/// Most files known by name.
pub const MOST_NAMES: usize = 64;
/// Most files whose content is held.
pub const MOST_INODES: usize = 64;

/// No such file.
pub const ENOENT: i64 = -2;

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
    /// When its attributes were changed; never if 0.
    pub changed: u64,
    /// Which process holds a lock on it, counted from 1.
    pub locked_by: u64,
}

impl Inode {
    /// Whether it differs from what was there before.
    const fn differs(&self) -> bool {
        self.own != 0 || self.changed != 0
    }
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
    /// Bytes of the store in use.
    pub stored: u64,
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
        let inode = self.inodes.iter().position(|inode| {
            inode.used != 0 && inode.differs() && inode.cached as usize == at + 1
        });
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

    /// Gives or takes a name; `inode` counts from 1. Names that were given lie in the order
    /// in which they were: a folder in memory is listed by it.
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
        let mut at = at;
        if inode > 0 {
            self.inodes[inode as usize - 1].references += 1;
            let next = |at: &usize| self.names.get(at + 1).is_some_and(|name| name.used != 0);
            let last = (at..).find(|at| !next(at)).unwrap_or(at);
            self.names.copy_within(at + 1..=last, at);
            at = last;
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
            mode: crate::cache::cached(cached).mode(),
            rewritten: 0,
            modified: 0,
            changed: 0,
            locked_by: 0,
        };
        Ok(at)
    }

    /// A new, empty file, or what `mode` says.
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
            mode: if mode & 0o170_000 == 0 {
                0o100_000 | mode & 0o7777
            } else {
                mode
            },
            rewritten: 0,
            modified: now,
            changed: 0,
            locked_by: 0,
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
        // What was done to a file that was there before must not be forgotten.
        if inode.references == 0 && !(inode.differs() && inode.cached != 0) {
            inode.used = 0;
        }
    }

    /// A file's content.
    #[must_use]
    pub fn content(&self, inode: usize) -> &'static [u8] {
        let inode = &self.inodes[inode];
        match inode.cached.checked_sub(1) {
            Some(before) if inode.own == 0 => cached(before as usize).content(),
            // SAFETY: the store holds it.
            _ => unsafe { raw::bytes(inode.data, inode.length) },
        }
    }

    /// Gives a file content of its own, with room for `length` bytes.
    fn own(&mut self, at: usize, length: u64) -> Result<(), Declined> {
        let before = self.content(at);
        let inode = &mut self.inodes[at];
        if inode.own == 0 {
            inode.own = 1;
            inode.capacity = 0;
            inode.length = before.len() as u64;
        }
        if length > inode.capacity {
            let capacity = (length.max(2 * inode.capacity) + 4095) & !4095;
            if self.stored + capacity > STORE_LENGTH {
                return Err(Declined("longer files than are simulated"));
            }
            inode.data = STORE + self.stored;
            self.stored += capacity;
            inode.capacity = capacity;
            // SAFETY: fresh memory of the store.
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
    ) -> Result<(), Declined> {
        let length = self.content(at).len() as u64;
        let end = offset + bytes.len() as u64;
        self.own(at, end.max(length))?;
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
    pub fn truncate(&mut self, at: usize, length: u64, now: u64) -> Result<(), Declined> {
        let before = self.content(at).len() as u64;
        if length == before {
            return Ok(());
        }
        self.own(at, length)?;
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

    /// Changes a file's permission bits.
    pub fn change_mode(&mut self, at: usize, mode: u32, now: u64) {
        let inode = &mut self.inodes[at];
        inode.mode = inode.mode & !0o7777 | mode & 0o7777;
        inode.changed = now.max(1);
    }

    /// A process locks a file, or gives up its lock.
    ///
    /// # Errors
    /// When another process has locked it: who comes first is not simulated.
    pub fn lock(&mut self, at: usize, process: usize, locks: bool) -> Result<(), Declined> {
        let held = self.inodes[at].locked_by;
        let own = process as u64 + 1;
        if held != 0 && held != own {
            return Err(Declined("a lock on a file that another process has locked"));
        }
        self.inodes[at].locked_by = if locks { own } else { 0 };
        Ok(())
    }

    /// A process closes a file: its lock is gone.
    pub fn unlock(&mut self, at: usize, process: usize) {
        let inode = &mut self.inodes[at];
        if inode.locked_by == process as u64 + 1 {
            inode.locked_by = 0;
        }
    }

    /// Whether this is a folder.
    #[must_use]
    pub fn is_folder(&self, found: Found) -> bool {
        match found {
            Found::Nothing(_) => false,
            Found::Inode(inode) => self.inodes[inode].mode & 0o170_000 == 0o040_000,
            Found::Cached(at) => cached(at).is_folder(),
        }
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
                (stat[time], stat[time + 1]) = (at / SECOND, at % SECOND);
            }
        }
        if inode.changed > 0 {
            let at = (epoch + inode.changed).max(stat[13] * SECOND + stat[14]);
            (stat[13], stat[14]) = (at / SECOND, at % SECOND);
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
