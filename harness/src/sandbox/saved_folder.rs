//! Remembers the files of a run folder at one moment, and puts them back in place
//! after others wrote to them: descriptors that were open then still fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

/// Most bytes that are remembered of all files.
const MOST_BYTES: u64 = 16 << 20;

/// Why a folder cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub enum CannotSave {
    /// Too much to be put back before each test.
    #[error("its files hold more than {} MB when it is ready", MOST_BYTES >> 20)]
    TooMuch,
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// How putting back went.
#[derive(Debug, PartialEq, Eq)]
pub enum PutBack {
    /// Everything is as it was.
    Done,
    /// This was replaced or removed while it was open, or cannot be made again.
    Lost(PathBuf),
}

/// Files and folders below some places.
#[derive(Debug)]
pub struct SavedFolder {
    places: Vec<PathBuf>,
    saved: BTreeMap<PathBuf, Saved>,
}

#[derive(Debug)]
struct Saved {
    facts: Metadata,
    content: Vec<u8>,
}

impl SavedFolder {
    /// Remembers what lies at `places`, files and whole folders.
    ///
    /// # Errors
    /// When it is too much, or the system refuses.
    pub fn take(places: &[&str]) -> Result<Self, CannotSave> {
        let places: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
        let mut room = MOST_BYTES;
        let mut saved = BTreeMap::new();
        for (path, facts) in found(&places)? {
            let mut content = Vec::new();
            if facts.is_file() {
                room = room.checked_sub(facts.len()).ok_or(CannotSave::TooMuch)?;
                content = fs::read(&path)?;
            } else if facts.is_symlink() {
                content = link(&path)?;
            }
            saved.insert(path, Saved { facts, content });
        }
        Ok(Self { places, saved })
    }

    /// Puts everything back: content, permissions and times of what there was, and
    /// away with what came since. What was removed is made again, as another inode,
    /// unless its inode is among those `in_use`. Nothing may run there meanwhile.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn put_back(&self, in_use: &BTreeSet<u64>) -> io::Result<PutBack> {
        let now = found(&self.places)?;
        // What came is removed from the deepest on.
        for (path, facts) in now.iter().rev() {
            if !self.saved.contains_key(path) {
                if facts.is_dir() {
                    fs::remove_dir(path)?;
                } else {
                    fs::remove_file(path)?;
                }
            }
        }
        for (path, saved) in &self.saved {
            let found = now.get(path);
            let done = match found.filter(|facts| is_same(facts, &saved.facts)) {
                Some(facts) => saved.restore(path, facts)?,
                None if in_use.contains(&saved.facts.ino()) => false,
                None => saved.make_again(path)?,
            };
            if !done {
                return Ok(PutBack::Lost(path.clone()));
            }
        }
        // Folders last, and the deepest first: putting back what is in them dates them.
        for (path, saved) in self.saved.iter().rev() {
            saved.date(path)?;
        }
        Ok(PutBack::Done)
    }
}

impl Saved {
    /// Whether content and permissions are, or could be put, as they were.
    fn restore(&self, path: &Path, now: &Metadata) -> io::Result<bool> {
        if now.is_symlink() {
            return Ok(link(path)? == self.content);
        }
        if now.is_file() && (now.len() != self.facts.len() || fs::read(path)? != self.content) {
            // In place: descriptors go on referring to it.
            fs::write(path, &self.content)?;
        }
        if now.mode() != self.facts.mode() {
            fs::set_permissions(path, fs::Permissions::from_mode(self.facts.mode() & 0o7777))?;
        }
        Ok((now.uid(), now.gid()) == (self.facts.uid(), self.facts.gid()))
    }

    /// Makes a file or folder that is gone, or another in its place; tells whether that
    /// can be done.
    fn make_again(&self, path: &Path) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(other) if other.is_dir() => fs::remove_dir_all(path)?,
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        if self.facts.is_dir() {
            fs::create_dir(path)?;
        } else if self.facts.is_file() && self.facts.nlink() == 1 {
            fs::write(path, &self.content)?;
        } else if self.facts.is_symlink() {
            use std::os::unix::ffi::OsStrExt as _;
            symlink(std::ffi::OsStr::from_bytes(&self.content), path)?;
            return Ok(true);
        } else {
            return Ok(false);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(self.facts.mode() & 0o7777))?;
        let made = fs::symlink_metadata(path)?;
        Ok((made.uid(), made.gid()) == (self.facts.uid(), self.facts.gid()))
    }

    fn date(&self, path: &Path) -> io::Result<()> {
        let now = fs::symlink_metadata(path)?;
        let times = |facts: &Metadata| {
            (
                (facts.atime(), facts.atime_nsec()),
                (facts.mtime(), facts.mtime_nsec()),
            )
        };
        if times(&now) == times(&self.facts) {
            return Ok(());
        }
        let (accessed, modified) = times(&self.facts);
        let spec = |(seconds, nanoseconds)| TimeSpec::new(seconds, nanoseconds);
        utimensat(
            nix::fcntl::AT_FDCWD,
            path,
            &spec(accessed),
            &spec(modified),
            UtimensatFlags::NoFollowSymlink,
        )?;
        Ok(())
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let special = one.file_type().is_fifo() || one.file_type().is_socket();
    one.ino() == other.ino()
        && one.file_type() == other.file_type()
        && (special || one.nlink() == other.nlink() || one.is_dir())
}

fn link(path: &Path) -> io::Result<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt as _;
    Ok(fs::read_link(path)?.into_os_string().into_vec())
}

/// Everything at the places, folders before what is in them.
fn found(places: &[PathBuf]) -> io::Result<BTreeMap<PathBuf, Metadata>> {
    let mut found = BTreeMap::new();
    for place in places {
        add(place, &mut found)?;
    }
    Ok(found)
}

fn add(path: &Path, found: &mut BTreeMap<PathBuf, Metadata>) -> io::Result<()> {
    let facts = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        facts => facts?,
    };
    if facts.is_dir() {
        for entry in fs::read_dir(path)? {
            add(&entry?.path(), found)?;
        }
    }
    found.insert(path.to_owned(), facts);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, SavedFolder) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/log"), "begun\n").unwrap();
        fs::write(folder.path().join("data"), "abc").unwrap();
        let saved = SavedFolder::take(&[folder.path().to_str().unwrap()]).unwrap();
        (folder, saved)
    }

    #[test]
    fn what_was_written_is_taken_back_in_place() {
        let (folder, saved) = folder();
        let path = |name: &str| folder.path().join(name);
        let before = fs::metadata(path("sub/log")).unwrap();
        fs::write(path("sub/log"), "begun\nserved\n").unwrap();
        fs::write(path("data"), "xyz").unwrap();
        fs::create_dir_all(path("new/deep")).unwrap();
        fs::write(path("new/deep/file"), "").unwrap();
        fs::set_permissions(path("data"), fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(saved.put_back(&BTreeSet::new()).unwrap(), PutBack::Done);
        assert_eq!(fs::read_to_string(path("sub/log")).unwrap(), "begun\n");
        assert_eq!(fs::read_to_string(path("data")).unwrap(), "abc");
        assert!(!path("new").exists());
        let after = fs::metadata(path("sub/log")).unwrap();
        assert_eq!(after.ino(), before.ino());
        assert_eq!(
            (after.mtime(), after.mtime_nsec()),
            (before.mtime(), before.mtime_nsec())
        );
    }

    #[test]
    fn what_was_removed_is_made_again_unless_it_is_open() {
        let (folder, saved) = folder();
        let path = |name: &str| folder.path().join(name);
        let inode = fs::metadata(path("data")).unwrap().ino();
        let remove = || {
            fs::remove_file(path("data")).unwrap();
            fs::remove_dir_all(path("sub")).unwrap();
            symlink("nowhere", path("sub")).unwrap();
        };
        remove();
        assert_eq!(saved.put_back(&BTreeSet::new()).unwrap(), PutBack::Done);
        assert_eq!(fs::read_to_string(path("sub/log")).unwrap(), "begun\n");
        assert_eq!(fs::read_to_string(path("data")).unwrap(), "abc");
        remove();
        let lost = saved.put_back(&BTreeSet::from([inode])).unwrap();
        assert_eq!(lost, PutBack::Lost(path("data")));
    }
}
