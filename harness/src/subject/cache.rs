//! Where Kairos keeps archives, apt's private state and finished builds.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::error::{AtFile, SubjectError};

/// The cache folder; safe to delete whenever no Kairos runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its root.
    pub root: PathBuf,
}

/// Holds a lock until it is dropped.
#[derive(Debug)]
pub struct Locked(#[allow(dead_code)] Flock<File>);

impl Cache {
    /// The cache at `KAIROS_CACHE`, else `$XDG_CACHE_HOME/kairos`, else
    /// `~/.cache/kairos`, else a folder of the user's in the temporary folder.
    #[must_use]
    pub fn from_environment() -> Self {
        let set = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let root = set("KAIROS_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("kairos")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/kairos")))
            .unwrap_or_else(|| {
                std::env::temp_dir().join(format!("kairos-{}", nix::unistd::getuid()))
            });
        Self { root }
    }

    /// A cache at `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where an archive with these bytes lies or will lie.
    #[must_use]
    pub fn archive(&self, sha256: &str, file: &str) -> PathBuf {
        self.root.join("archives").join(sha256).join(file)
    }

    /// Where apt's private state lies.
    #[must_use]
    pub fn apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    /// Where builds lie.
    #[must_use]
    pub fn builds(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// Takes the lock of this name, waiting while another Kairos holds it.
    ///
    /// # Errors
    /// If the lock file cannot be made or locked.
    pub fn lock(&self, name: &str) -> Result<Locked, SubjectError> {
        let folder = self.root.join("locks");
        create(&folder)?;
        let path = folder.join(name);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .at("open", &path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => return Ok(Locked(lock)),
                Err((back, Errno::EINTR)) => file = back,
                Err((_, error)) => return Err(error).at("lock", &path),
            }
        }
    }
}

/// Creates a folder and its parents.
pub(crate) fn create(folder: &Path) -> Result<(), SubjectError> {
    std::fs::create_dir_all(folder).at("create", folder)
}

/// Removes a folder and everything in it; a missing one is well.
pub(crate) fn remove(folder: &Path) -> Result<(), SubjectError> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).at("remove", folder)
        }
        _ => Ok(()),
    }
}
