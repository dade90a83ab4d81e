//! Files as they were before the session: each is read once and kept, in memory that
//! all processes share and that is not put back.

use crate::layout::{CACHE, CACHE_LENGTH};
use crate::raw;
use crate::world::Declined;

/// Longest path.
pub const MOST_PATH: usize = 248;
/// Most files read before the session.
pub const MOST_CACHED: usize = 512;

const AT_FDCWD: u64 = -100_i64 as u64;
const READ: i64 = 0;
const CLOSE: i64 = 3;
const GETDENTS: i64 = 217;
const OPENAT: i64 = 257;
const NEWFSTATAT: i64 = 262;

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
    // SAFETY: the harness mapped it, zeroed; one thread runs at a time.
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
