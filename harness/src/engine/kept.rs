//! What is left in a test's run folder, brought out of the sandbox for a person.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;

use serde::{Deserialize, Serialize};

use super::server::log_path;
use crate::sandbox::root::RUN_FOLDER;
use crate::verdict::Observation;

/// Most bytes taken of one file.
const MOST_OF_FILE: u64 = 4 << 20;
/// Most bytes taken of all files.
const MOST_OF_ALL: u64 = 32 << 20;

/// A test with the files that it left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// What it showed.
    pub observation: Observation,
    /// The run folder's files, and `stdout` and `stderr` of the server.
    pub files: Vec<KeptFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Its path: below `files/` for the run folder, `stdout` or `stderr`.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Its length in bytes; more than `content` has where it was cut.
    pub length: u64,
    /// Its beginning.
    pub content: Vec<u8>,
}

/// Reads everything in the run folder and the server's output, within bounds.
#[must_use]
pub fn collect() -> Vec<KeptFile> {
    let mut room = MOST_OF_ALL;
    let mut files = Vec::new();
    let walk = walkdir::WalkDir::new(RUN_FOLDER).sort_by_file_name();
    let in_folder = walk
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter_map(|entry| {
            let relative = entry.path().strip_prefix(RUN_FOLDER).ok()?;
            let name = format!("files/{}", relative.display());
            Some((name, entry.path().display().to_string()))
        });
    let output = ["stdout", "stderr"].map(|name| (name.to_owned(), log_path(name)));
    for (name, path) in output.into_iter().chain(in_folder) {
        if let Ok(file) = read(name, &path, room.min(MOST_OF_FILE)) {
            room -= file.content.len() as u64;
            files.push(file);
        }
    }
    files
}

fn read(name: String, path: &str, most: u64) -> std::io::Result<KeptFile> {
    let file = std::fs::File::open(path)?;
    let facts = file.metadata()?;
    let mut content = Vec::new();
    file.take(most).read_to_end(&mut content)?;
    Ok(KeptFile {
        path: name,
        mode: facts.permissions().mode() & 0o777,
        length: facts.len(),
        content,
    })
}
