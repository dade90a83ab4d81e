//! SHA-256 of every file that a study's results depend on: a run that is resumed
//! must find them as they were.

use std::collections::BTreeMap;
use std::path::Path;

use super::choice::ChosenPair;
use crate::subject::manifest::{FileContent, VersionSource};
use crate::subject::source::sha256;

/// Hashes by path relative to the project; archives by their name.
pub type Hashes = BTreeMap<String, String>;

/// Hashes of the manifests, workloads, transformers, files and sources of `chosen`.
/// A file that cannot be read has none: whoever needs it says why.
#[must_use]
pub fn of(chosen: &[ChosenPair<'_>]) -> Hashes {
    let mut hashes = Hashes::new();
    for pair in chosen {
        let subject = pair.subject;
        let mut files = Files {
            name: format!("subjects/{}", subject.name),
            folder: &subject.folder,
            hashes: &mut hashes,
        };
        files.add(&subject.manifest());
        for workload in pair.workloads.iter().chain(&subject.workloads.probe) {
            files.add(&subject.workload(workload));
        }
        for file in &subject.run.files {
            if let FileContent::Source(path) = &file.content {
                files.add(&subject.folder.join(path));
            }
        }
        for version in pair.versions() {
            if let VersionSource::Folder(folder) = &version.source {
                files.add_tree(folder);
            }
            for archive in version.source.archives() {
                let hash = archive.sha256.clone();
                files.hashes.insert(archive.file.clone(), hash);
            }
        }
        let mut files = Files {
            name: format!("update-pairs/{}", pair.pair.id),
            folder: &pair.pair.folder,
            hashes: &mut hashes,
        };
        files.add(&pair.pair.manifest());
        if let Some(transformer) = &pair.pair.transformer {
            files.add(transformer);
        }
    }
    hashes
}

struct Files<'a> {
    name: String,
    folder: &'a Path,
    hashes: &'a mut Hashes,
}

impl Files<'_> {
    fn add(&mut self, path: &Path) {
        // What several pairs share lies beside the folder.
        let beside = || path.strip_prefix(self.folder.parent()?).ok();
        let inside = path.strip_prefix(self.folder).ok().or_else(beside);
        let inside = inside.unwrap_or(path);
        if let Ok(hash) = sha256(path) {
            let name = format!("{}/{}", self.name, inside.display());
            self.hashes.insert(name, hash);
        }
    }

    fn add_tree(&mut self, folder: &Path) {
        for entry in walkdir::WalkDir::new(folder).into_iter().flatten() {
            if entry.file_type().is_file() {
                self.add(entry.path());
            }
        }
    }
}

/// The files that differ, each with what became of it.
#[must_use]
pub fn differences(recorded: &Hashes, now: &Hashes) -> Vec<String> {
    let names = recorded.keys().chain(now.keys());
    let names: std::collections::BTreeSet<&String> = names.collect();
    names
        .into_iter()
        .filter_map(|name| match (recorded.get(name), now.get(name)) {
            (Some(one), Some(other)) if one == other => None,
            (Some(_), Some(_)) => Some(format!("{name} has changed")),
            (Some(_), None) => Some(format!("{name} is gone")),
            (None, _) => Some(format!("{name} is new")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_with_what_became_of_it() {
        let hashes = |pairs: &[(&str, &str)]| -> Hashes {
            pairs
                .iter()
                .map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned()))
                .collect()
        };
        let recorded = hashes(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let now = hashes(&[("a", "1"), ("b", "2"), ("d", "1")]);
        assert_eq!(
            differences(&recorded, &now),
            ["b has changed", "c is gone", "d is new"]
        );
    }
}
