//! The folder a subject runs in: filled anew for each test on a tmpfs of its own,
//! read back at the end, and gone with its mount.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, umount2};
use nix::sys::stat::utimes;
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::root::{PROGRAM_LINK, RUN_FOLDER, tmpfs};

/// A folder or file to make before each start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Path relative to the run folder.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content of a file; none for a folder.
    pub content: Option<Vec<u8>>,
}

/// Where temporary files go inside the sandbox.
const TEMPORARY: &str = "/tmp";

/// The mounted run folder of one test; dropping it takes everything away.
#[derive(Debug)]
pub struct RunFolder(());

impl RunFolder {
    /// Mounts and fills the run folder, has `temporary` give an empty `/tmp`, and points
    /// the program link at `program`.
    ///
    /// # Errors
    /// When a mount or a file is refused.
    pub fn create(
        entries: &[Entry],
        program: &Path,
        temporary: &mut Temporary,
    ) -> Result<Self, SandboxError> {
        temporary.empty()?;
        tmpfs(Path::new(RUN_FOLDER), "mode=0755")?;
        let folder = Self(());
        for entry in entries {
            make(entry)?;
        }
        // Listings show times: they must not depend on when the test ran. Folders
        // last, since making what is in them changes theirs.
        for entry in entries.iter().rev() {
            date(&Path::new(RUN_FOLDER).join(&entry.path))?;
        }
        point_program_at(program)?;
        Ok(folder)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Detached, so that a straggler's open file cannot keep the mount.
        let _ = umount2(RUN_FOLDER, MntFlags::MNT_DETACH);
    }
}

/// The folder of temporary files. Most servers write none, and an unmount waits for
/// every processor: it is mounted anew only where the last test touched it.
#[derive(Debug, Default)]
pub struct Temporary {
    /// When the mounted folder was last changed; none if none is mounted.
    changed: Option<(i64, i64)>,
}

impl Temporary {
    /// Makes sure that the folder is empty and untouched.
    fn empty(&mut self) -> Result<(), SandboxError> {
        let failed = |operation| SandboxError::file(operation, TEMPORARY);
        let changed = || {
            let facts = fs::symlink_metadata(TEMPORARY).map_err(failed("look at"))?;
            Ok((facts.ctime(), facts.ctime_nsec()))
        };
        if let Some(before) = self.changed {
            let mut entries = fs::read_dir(TEMPORARY).map_err(failed("list"))?;
            // Both: within one tick of the clock a change may not show in its time.
            if entries.next().is_none() && changed()? == before {
                return Ok(());
            }
            let _ = umount2(TEMPORARY, MntFlags::MNT_DETACH);
        }
        tmpfs(Path::new(TEMPORARY), "mode=1777")?;
        self.changed = Some(changed()?);
        Ok(())
    }
}

/// Turns the program link to `program`, atomically.
///
/// # Errors
/// When the link cannot be made.
pub fn point_program_at(program: &Path) -> Result<(), SandboxError> {
    let fresh = format!("{PROGRAM_LINK}.next");
    let _ = fs::remove_file(&fresh);
    symlink(program, &fresh).map_err(SandboxError::file("link", &fresh))?;
    fs::rename(&fresh, PROGRAM_LINK).map_err(SandboxError::file("rename", PROGRAM_LINK))
}

fn make(entry: &Entry) -> Result<(), SandboxError> {
    let path = Path::new(RUN_FOLDER).join(&entry.path);
    match &entry.content {
        None => fs::create_dir_all(&path),
        Some(content) => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .map_err(SandboxError::file("create", parent.display()))?;
            }
            fs::write(&path, content)
        }
    }
    .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)))
    .map_err(SandboxError::file("make", path.display()))
}

/// Gives a file or folder a fixed time: 2020-01-01 00:00:00 UTC.
fn date(path: &Path) -> Result<(), SandboxError> {
    let fixed = TimeVal::new(1_577_836_800, 0);
    utimes(path, &fixed, &fixed)
        .map_err(SandboxError::refused(format!("dating {}", path.display())))
}

/// Reads the files under the run folder whose relative path `wanted` accepts.
/// What cannot be read is reported as such: it is part of the end state.
#[must_use]
pub fn read_files(wanted: &dyn Fn(&str) -> bool) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for found in walkdir::WalkDir::new(RUN_FOLDER)
        .sort_by_file_name()
        .into_iter()
        .flatten()
    {
        let Ok(relative) = found.path().strip_prefix(RUN_FOLDER) else {
            continue;
        };
        let relative = relative.to_string_lossy().into_owned();
        if found.file_type().is_file() && wanted(&relative) {
            let content = fs::read(found.path()).unwrap_or_else(|e| format!("<{e}>").into_bytes());
            files.insert(relative, content);
        }
    }
    files
}
