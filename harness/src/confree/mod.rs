//! Con-freeness: what old code still uses of what an update changes.
//!
//! Three finders look for concrete uses, since none is sound alone: the syntax
//! tree, by libclang if there is one; the padding differential; and references
//! of the machine code. From each return address the machine code tells which
//! uses can still follow.

pub(crate) mod code;
mod command;
mod continuation;
mod found;
mod pad;
mod padding;
mod preprocess;
mod references;
pub mod syntax;
pub mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use table::{Finder, FunctionUses, Use, UseKind, UseTable};

use crate::binary::{Address, BinaryError, Lines};
use crate::change::Changes;
use crate::patch::version::Version;
use crate::patch::{Build, ObjectUnit, PatchError};
use crate::sandbox::guard;
use crate::subject::BuiltVersion;

/// Changes whenever tables made before must not be used any more.
const REVISION: u32 = 8;

/// What can keep uses from being found.
#[derive(Debug, thiserror::Error)]
pub enum ConFreeError {
    /// A program.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// An object.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A file or program.
    #[error("cannot access {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The compiler refuses a source that it compiled before.
    #[error(
        "{file} cannot be preprocessed again:\n{output}\n  build the version anew (remove its folder from the cache)"
    )]
    Preprocess {
        /// Source file.
        file: String,
        /// What the compiler said.
        output: String,
    },
}

impl ConFreeError {
    fn file(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

/// What the old version's functions use of what `changes` lists. The table is
/// kept beside the build, under a hash of all that it depends on.
///
/// # Errors
/// When the build cannot be read or compiled again.
pub fn uses(built: &BuiltVersion, changes: &Changes) -> Result<UseTable, ConFreeError> {
    if changes.is_empty() {
        return Ok(UseTable::default());
    }
    let cached = cache_path(built, changes);
    if let Some(path) = &cached
        && let Ok(text) = std::fs::read_to_string(path)
        && let Ok(table) = serde_json::from_str(&text)
    {
        return Ok(table);
    }
    let table = find(built, changes)?;
    if let Some(path) = &cached {
        keep(path, &table)?;
    }
    Ok(table)
}

/// Instructions of the old program that depend on a changed layout or refer to a
/// changed function or global, as the machine code shows: what must not run in an
/// old frame after an update that con-freeness allowed. For tests of soundness.
///
/// # Errors
/// When the build cannot be read or compiled again.
pub fn dependent_instructions(
    built: &BuiltVersion,
    changes: &Changes,
) -> Result<BTreeSet<Address>, ConFreeError> {
    let folder = temporary()?;
    let old = read(built)?;
    let (sources, _) = preprocess::run(built, old.program.types(), folder.path())?;
    let padded = padding::find(built, &old, &sources, changes, folder.path())?;
    let referring = references::find(&old, &references::Targets::of(changes));
    let all = padded.found.iter().chain(&referring);
    Ok(all
        .filter_map(|found| match found.place {
            found::Place::Instruction(address) => Some(address),
            _ => None,
        })
        .collect())
}

fn temporary() -> Result<tempfile::TempDir, ConFreeError> {
    let place = guard::temporary_folder();
    tempfile::tempdir_in(&place).map_err(|error| ConFreeError::file(&place, error))
}

fn read(built: &BuiltVersion) -> Result<Version, ConFreeError> {
    let units: Vec<ObjectUnit<'_>> = built
        .units
        .iter()
        .map(|unit| ObjectUnit {
            source: &unit.source,
            object: &unit.object,
        })
        .collect();
    Ok(Version::read(&Build {
        program: &built.program,
        units: &units,
        tree: &built.tree,
    })?)
}

fn find(built: &BuiltVersion, changes: &Changes) -> Result<UseTable, ConFreeError> {
    let folder = temporary()?;
    let old = read(built)?;
    let lines = Lines::read(&built.program)?;
    let types = old.program.types();
    let (sources, others) = preprocess::run(built, types, folder.path())?;
    let targets = references::Targets::of(changes);
    let (padded, parsed) = rayon::join(
        || padding::find(built, &old, &sources, changes, folder.path()),
        || syntax::Syntax::read(built, types, &sources, changes, folder.path()),
    );
    let (padded, parsed) = (padded?, parsed?);
    let mut found = references::find(&old, &targets);
    found.extend(parsed.found(&old));
    Ok(continuation::Continuation {
        old: &old,
        lines: &lines,
        syntax: &parsed,
        others: &others,
    }
    .table(found, padded))
}

fn cache_path(built: &BuiltVersion, changes: &Changes) -> Option<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(REVISION.to_le_bytes());
    hash.update(env!("CARGO_PKG_VERSION"));
    hash.update(&built.key);
    hash.update(syntax::version().unwrap_or_default());
    hash.update(serde_json::to_vec(changes).ok()?);
    let name: String = hash
        .finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(built.tree.parent()?.join(format!("uses-{name}.json")))
}

/// Writes in one step; a cache that cannot be written costs time only.
fn keep(path: &Path, table: &UseTable) -> Result<(), ConFreeError> {
    let text = serde_json::to_vec(table)
        .map_err(|error| ConFreeError::file(path, std::io::Error::other(error)))?;
    let part = path.with_extension(format!("part{}", std::process::id()));
    if std::fs::write(&part, text).is_ok() {
        _ = std::fs::rename(&part, path);
    }
    Ok(())
}
