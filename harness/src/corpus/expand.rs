//! From cases to an ordinary project: subjects with their update pairs, and on disk
//! the source trees with what all cases share.

use std::collections::BTreeMap;
use std::path::Path;

use super::case::{COMMON, Case, FOLDER, PROBE, SESSION, Variant};
use crate::subject::cache;
use crate::subject::error::{AtFile, SubjectError};
use crate::subject::manifest::VersionSource;
use crate::subject::{Catalogue, Pair, Subject, unpack};

/// Makes a project of the cases of the project at `root`; source trees and sessions
/// are written below `folder`.
///
/// # Errors
/// A file that cannot be copied.
pub fn project(root: &Path, cases: &[Case], folder: &Path) -> Result<Catalogue, SubjectError> {
    let common = root.join(FOLDER).join(COMMON);
    let mut subjects = Vec::new();
    let mut pairs = Vec::new();
    for case in cases {
        subjects.push(subject(case, &common, &folder.join(&case.name))?);
        let variants = case.variants.iter();
        pairs.extend(variants.map(|variant| pair(case, variant)));
    }
    Ok(Catalogue {
        root: folder.to_path_buf(),
        subjects,
        pairs,
    })
}

fn subject(case: &Case, common: &Path, folder: &Path) -> Result<Subject, SubjectError> {
    let mut subject = case.subject.clone();
    for version in &mut subject.versions {
        if let VersionSource::Folder(own) = &mut version.source {
            let tree = folder.join(&version.label);
            cache::create(&tree)?;
            if common.is_dir() {
                unpack::folder(common, &tree)?;
            }
            unpack::folder(own, &tree)?;
            *own = tree;
        }
    }
    folder.clone_into(&mut subject.folder);
    cache::create(&folder.join("workloads"))?;
    let probe = subject.workloads.probe.is_some().then_some(PROBE);
    for name in [SESSION].into_iter().chain(probe) {
        let from = case.subject.folder.join(format!("{name}.session"));
        std::fs::copy(&from, subject.workload(name)).at("copy", &from)?;
    }
    Ok(subject)
}

fn pair(case: &Case, variant: &Variant) -> Pair {
    Pair {
        id: case.pair_id(&variant.name),
        subject: case.name.clone(),
        old: "old".to_owned(),
        new: "new".to_owned(),
        variant: Some(variant.name.clone()),
        transformer: variant.transformer.clone(),
        mechanism: variant.mechanism,
        room: BTreeMap::new(),
        rules: case.subject.rules.clone(),
        workloads: case.subject.workloads.study.clone(),
        except_named: case.subject.except_named.clone(),
        notes: case.about.clone(),
        folder: case.subject.folder.clone(),
    }
}
