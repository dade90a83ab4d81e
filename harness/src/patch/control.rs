//! The controls: updates whose outcome is known in advance.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Instant;

use super::assemble::{Job, has_pad};
use super::build::Built;
use super::compare::{Comparison, Fate};
use super::resolve::Resolver;
use super::unit::Section;
use super::version::{Build, ItemId, Version};
use super::{ENTRY_PAD, PatchError, Reason, rest};
use crate::confree::UseTable;
use crate::equivalence::Touches;

/// Which functions the control arm replaces.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// Every function that has an entry pad.
    All,
    /// The functions of these names.
    Named(&'a BTreeSet<String>),
}

/// Builds the control arm: functions are replaced by identical copies, data
/// stays. It must never make a difference.
///
/// # Errors
/// As [`super::build()`]; [`PatchError::NoSuchFunction`] for a name without a function
/// that has an entry pad.
pub fn build_control(
    pair: &str,
    old: &Build<'_>,
    selection: Selection<'_>,
    folder: Option<&Path>,
) -> Result<Built, PatchError> {
    let started = Instant::now();
    let version = Version::read(old)?;
    let read = started.elapsed();
    let mut comparison = Comparison::identity(&version);
    let mut missing: BTreeSet<&str> = match selection {
        Selection::All => BTreeSet::new(),
        Selection::Named(names) => names.iter().map(String::as_str).collect(),
    };
    for (id, matched) in &mut comparison.items {
        let name = version.name(*id);
        let wanted = match selection {
            Selection::All => true,
            Selection::Named(names) => names.contains(name),
        };
        if wanted && has_pad(&version, *id) {
            matched.fate = Fate::Replace(Reason::Control);
            missing.remove(name);
        }
    }
    if let Some(name) = missing.first() {
        return Err(PatchError::NoSuchFunction((*name).to_owned()));
    }
    let mut built = control_job(pair, &version, &comparison, &HashMap::new(), folder)?;
    built.statistics.read = read;
    Ok(built)
}

/// Builds the sensitivity control: `function` returns -1 at once, whatever it
/// did before. It must be caught wherever it is called after the update.
///
/// # Errors
/// As [`build_control`].
pub fn build_broken(
    pair: &str,
    old: &Build<'_>,
    function: &str,
    folder: Option<&Path>,
) -> Result<Built, PatchError> {
    let started = Instant::now();
    let version = Version::read(old)?;
    let read = started.elapsed();
    let mut comparison = Comparison::identity(&version);
    let mut bodies = HashMap::new();
    for (id, matched) in &mut comparison.items {
        if version.name(*id) == function && has_pad(&version, *id) {
            matched.fate = Fate::Replace(Reason::Control);
            bodies.insert(*id, broken_body(version.section(*id)));
        }
    }
    if bodies.is_empty() {
        return Err(PatchError::NoSuchFunction(function.to_owned()));
    }
    let mut built = control_job(pair, &version, &comparison, &bodies, folder)?;
    built.statistics.read = read;
    Ok(built)
}

/// Entry pad, `mov $-1, %rax`, `ret`.
fn broken_body(section: &Section) -> Section {
    #[allow(clippy::cast_possible_truncation)] // a small constant
    const PAD: usize = ENTRY_PAD as usize;
    let mut bytes = vec![0x90; PAD];
    bytes.extend([0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0xc3]);
    Section {
        size: bytes.len() as u64,
        bytes,
        relocations: Vec::new(),
        ..section.clone()
    }
}

fn control_job(
    pair: &str,
    version: &Version,
    comparison: &Comparison,
    bodies: &HashMap<ItemId, Section>,
    folder: Option<&Path>,
) -> Result<Built, PatchError> {
    let job = Job {
        pair,
        resolver: Resolver {
            old: version,
            new: version,
            comparison,
        },
        bodies,
        transformer: None,
        live: None,
    };
    let mut built = job.run(folder)?;
    // A control has one version, so nobody edited anything.
    built.patch.edited = Some(Vec::new());
    built.patch.uses = Some(UseTable::default());
    built.patch.touches = Some(Touches::default());
    // What is broken on purpose is not the version's own code.
    if bodies.is_empty() {
        built.patch.rests = rest::find(&job.resolver)?;
    }
    Ok(built)
}
