//! Which records the sources do not let be laid out in common: every unit of the new
//! version is rewritten once, on paper, and a record that cannot be falls back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Layout;
use super::plan::{LayoutPlan, plan};
use crate::binary::dwarf::Types;
use crate::change::Changes;
use crate::confree::{ConFreeError, preprocess};
use crate::rewrite::{self, REVISION, RecordPlan, RewriteError};
use crate::sandbox::guard;
use crate::state::Rules;
use crate::subject::BuiltVersion;

/// The own builds of two versions, and what differs.
#[derive(Clone, Copy)]
pub struct Versions<'a> {
    /// Types, prototypes and globals that differ.
    pub changes: &'a Changes,
    /// Which members carry on under another name.
    pub rules: &'a Rules,
    /// The old version's types.
    pub old: &'a Types,
    /// The new version's types.
    pub new: &'a Types,
    /// The new version's own build: the old one is only ever padded.
    pub built: &'a BuiltVersion,
}

/// Plans the layouts of a pair. `named` are records that must not get a common
/// layout, by their name, and why. What the sources refuse is kept beside the build.
///
/// # Errors
/// When a unit cannot be preprocessed again.
pub fn layouts(
    setting: Layout,
    versions: &Versions<'_>,
    named: &BTreeMap<String, String>,
) -> Result<LayoutPlan, ConFreeError> {
    let make = |refused: &BTreeMap<String, String>| {
        plan(
            setting,
            versions.changes,
            versions.old,
            versions.new,
            versions.rules,
            refused,
        )
    };
    let first = make(named);
    if first.new.records.iter().all(RecordPlan::only_appends) {
        return Ok(first);
    }
    let cached = cache_path(versions.built, &first);
    if let Some(path) = &cached
        && let Ok(text) = std::fs::read_to_string(path)
        && let Ok(refused) = serde_json::from_str(&text)
    {
        return Ok(make(&refused));
    }
    let place = guard::temporary_folder();
    let folder = tempfile::tempdir_in(&place).map_err(|source| ConFreeError::File {
        path: place,
        source,
    })?;
    let (units, _) = preprocess::run(versions.built, versions.new, folder.path())?;
    let mut refused = named.clone();
    let mut planned = first;
    while let Some(error) = units.iter().find_map(|unit| {
        let file_of =
            |file: &str| rewrite::relative_file(&versions.built.tree, &unit.directory, file);
        rewrite::rewrite(&unit.text, &planned.new, &file_of).err()
    }) {
        let name = planned
            .records
            .iter()
            .find(|record| error.key.is_some() && record.new.as_ref() == error.key.as_deref())
            .map_or_else(|| error.record(), |record| record.name.clone());
        if refused.insert(name, reason(&error)).is_some() {
            // It was refused before: the build will name what is wrong.
            break;
        }
        planned = make(&refused);
    }
    if let Some(path) = &cached
        && let Ok(text) = serde_json::to_vec(&refused)
    {
        // A cache that cannot be written costs time only.
        let part = path.with_extension(format!("part{}", std::process::id()));
        if std::fs::write(&part, text).is_ok() {
            _ = std::fs::rename(&part, path);
        }
    }
    Ok(planned)
}

fn reason(error: &RewriteError) -> String {
    format!("{} ({}:{})", error.why, error.file, error.line)
}

fn cache_path(built: &BuiltVersion, first: &LayoutPlan) -> Option<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(REVISION.to_le_bytes());
    hash.update(&built.key);
    hash.update(serde_json::to_vec(first).ok()?);
    let name: String = hash
        .finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let folder: &Path = built.tree.parent()?;
    Some(folder.join(format!("layouts-{name}.json")))
}
