//! What the compiler wrapper recorded, and the units of a program made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// One line of the wrapper's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the command did.
    pub kind: Kind,
    /// Working directory.
    pub directory: PathBuf,
    /// All arguments after the compiler's name, flags included.
    pub arguments: Vec<String>,
    /// The file made, as written (relative to `directory`).
    pub output: PathBuf,
    /// Sources of a compilation, objects and archives of a link, as written.
    pub inputs: Vec<PathBuf>,
}

/// What a recorded command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sources to an object each.
    Compilation,
    /// Objects to a program or library.
    Link,
}

/// One translation unit of a built program, and how to compile it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The source file, relative to the source tree.
    pub source: String,
    /// The object, an existing file.
    pub object: PathBuf,
    /// Working directory of the compilation.
    pub directory: PathBuf,
    /// All arguments after the compiler's name, flags included: running the
    /// compiler with them in `directory` makes `object` again.
    pub arguments: Vec<String>,
}

/// Reads a wrapper's log. Lines that a killed build left half written are skipped.
///
/// # Errors
/// If the file cannot be read. A missing file is an empty log.
pub fn read(log: &Path) -> std::io::Result<Vec<Record>> {
    match std::fs::read_to_string(log) {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The units among `records` whose source the program's debug information
/// names (`sources`, relative to the tree) and whose object still exists; and
/// the sources of the program that have none.
#[must_use]
pub fn units(
    records: &[Record],
    tree: &Path,
    program: &Path,
    sources: &BTreeSet<String>,
) -> (Vec<Unit>, Vec<String>) {
    let mut by_object: BTreeMap<PathBuf, Unit> = BTreeMap::new();
    for record in records.iter().filter(|r| r.kind == Kind::Compilation) {
        for input in &record.inputs {
            let object = if record.inputs.len() == 1 {
                record.output.clone()
            } else {
                // `cc -c a.c b.c` names no output: one object each, here.
                PathBuf::from(input.file_name().unwrap_or_default()).with_extension("o")
            };
            let object = normal(&record.directory.join(object));
            let unit = Unit {
                source: relative(&normal(&record.directory.join(input)), tree),
                object: object.clone(),
                directory: record.directory.clone(),
                arguments: record.arguments.clone(),
            };
            by_object.insert(object, unit);
        }
    }
    by_object.retain(|object, unit| sources.contains(&unit.source) && object.is_file());
    keep_linked(&mut by_object, records, program);
    let missing = sources
        .iter()
        .filter(|source| !by_object.values().any(|unit| unit.source == **source))
        .cloned()
        .collect();
    (by_object.into_values().collect(), missing)
}

/// Where one source was compiled to several objects, those that the program's
/// link names are meant.
fn keep_linked(units: &mut BTreeMap<PathBuf, Unit>, records: &[Record], program: &Path) {
    let Some(link) = records.iter().rev().find(|record| {
        record.kind == Kind::Link && normal(&record.directory.join(&record.output)) == program
    }) else {
        return;
    };
    let linked: BTreeSet<PathBuf> = link
        .inputs
        .iter()
        .map(|input| normal(&link.directory.join(input)))
        .collect();
    let named: BTreeSet<String> = units
        .values()
        .filter(|unit| linked.contains(&unit.object))
        .map(|unit| unit.source.clone())
        .collect();
    units.retain(|object, unit| linked.contains(object) || !named.contains(&unit.source));
}

/// `path` without `.` and `..`, by its text alone.
#[must_use]
pub fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

fn relative(path: &Path, tree: &Path) -> String {
    path.strip_prefix(tree)
        .unwrap_or(path)
        .to_string_lossy()
        .into_owned()
}
