//! From two builds to a patch.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::assemble::Job;
use super::compare::{Comparison, Fate};
use super::own::Own;
use super::resolve::Resolver;
use super::transform::Transformer;
use super::unit::{ItemKind, Place};
use super::version::{Build, ItemId, Target, Version};
use super::{Patch, PatchError, Reason, Warning, closure, edited, kept, rest, warnings};
use crate::binary::Address;
use crate::binary::dwarf::{MemoryTypes, TypeKey};
use crate::change::Changes;
use crate::confree::UseTable;
use crate::equivalence::references;
use crate::mechanism::Prototypes;
use crate::state::{Gap, Prepared, Rules, prepare};

/// An update to be built.
pub struct Update<'a> {
    /// Name of the pair.
    pub pair: &'a str,
    /// The version that runs.
    pub old: Build<'a>,
    /// The version that it becomes.
    pub new: Build<'a>,
    /// What functions of the old version use of what changes; users count as
    /// changed. Without it only object code tells.
    pub uses: Option<&'a UseTable>,
    /// What the versions' own builds tell, where these are not their own.
    pub own: Option<&'a Own>,
    /// What calls from old code reach where a prototype changed.
    pub prototypes: Prototypes,
    /// What types do not say about live state.
    pub rules: Option<&'a Rules>,
    /// Changed records that both builds lay out alike: their instances stay as they
    /// are, but for added members.
    pub common: BTreeSet<TypeKey>,
    /// The pair's state transformer.
    pub transformer: Option<Transformer<'a>>,
    /// Where to leave the intermediate files; a folder that vanishes by default.
    pub folder: Option<&'a Path>,
}

/// What building took and found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Statistics {
    /// Functions of the old and new program.
    pub functions: (usize, usize),
    /// Data objects of the old and new objects.
    pub objects: (usize, usize),
    /// Objects that the programs were linked from.
    pub units: (usize, usize),
    /// Bytes of the image.
    pub image_bytes: usize,
    /// Reading both programs and their objects.
    #[serde(rename = "read_seconds", serialize_with = "seconds")]
    pub read: Duration,
    /// Comparing them.
    #[serde(rename = "compare_seconds", serialize_with = "seconds")]
    pub compare: Duration,
    /// Writing the reduced object, transformer included.
    #[serde(rename = "reduce_seconds", serialize_with = "seconds")]
    pub reduce: Duration,
    /// Linking it.
    #[serde(rename = "link_seconds", serialize_with = "seconds")]
    pub link: Duration,
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

/// A patch and what building it took.
#[derive(Clone, Debug)]
pub struct Built {
    /// The patch.
    pub patch: Patch,
    /// What building it took.
    pub statistics: Statistics,
    /// Types, prototypes and globals that differ.
    pub changes: Changes,
}

/// Builds the patch of an update.
///
/// # Errors
/// When a build cannot be read, or an update needs something that a patch cannot
/// do; the message names it.
pub fn build(update: &Update<'_>) -> Result<Built, PatchError> {
    let started = Instant::now();
    let (old, new) = (&update.old, &update.new);
    let (old_tree, new_tree) = (old.tree, new.tree);
    let (old, new) = rayon::join(|| Version::read(old), || Version::read(new));
    let (old, new) = (old?, new?);
    let read = started.elapsed();
    let started = Instant::now();
    let users = update.uses.map(UseTable::users).unwrap_or_default();
    let mut comparison = Comparison::between(&old, &new, &users, update.own)?;
    if update.prototypes == Prototypes::Keep {
        kept::keep(&old, &new, &mut comparison);
    }
    let mut found = closure::extend(&new, &mut comparison);
    refuse_constructors(&old, &new, &comparison)?;
    let compare = started.elapsed();
    let live = live_state(&old, &new, &comparison, update)?;
    let bodies = HashMap::new();
    let job = Job {
        pair: update.pair,
        resolver: Resolver {
            old: &old,
            new: &new,
            comparison: &comparison,
        },
        bodies: &bodies,
        transformer: update.transformer.as_ref(),
        live: Some(&live),
    };
    let mut built = job.run(update.folder)?;
    found.extend(warnings::find(&job.resolver, &built.patch));
    let mut gaps = live.gaps.clone();
    gaps.extend(found.iter().filter_map(|w| computed_at_start_up(&new, w)));
    built.patch.gaps = Some(gaps);
    let (edited, missing) = match update.own {
        Some(own) => own.edited(&old),
        None => edited::find((&old, old_tree), (&new, new_tree), &comparison),
    };
    found.extend(missing);
    found.sort();
    found.dedup();
    built.patch.warnings = found;
    built.patch.edited = Some(edited);
    built.patch.uses = update.uses.cloned();
    built.patch.touches = Some(references::touches(&old, &built.patch));
    built.patch.rests = rest::find(&job.resolver)?;
    built.statistics.read = read;
    built.statistics.compare = compare;
    Ok(built)
}

/// Conversions of live state; nothing is read where nothing needs them.
fn live_state(
    old: &Version,
    new: &Version,
    comparison: &Comparison,
    update: &Update<'_>,
) -> Result<Prepared, PatchError> {
    let of_fate = |fate: Fate| {
        let items = comparison.items.values();
        items
            .filter(move |matched| matched.fate == fate)
            .filter_map(|matched| old.address(matched.old?))
    };
    let mut converted: BTreeSet<Address> = of_fate(Fate::Carry).collect();
    let changes = &comparison.types;
    if changes.records.is_empty() && changes.enums.is_empty() && converted.is_empty() {
        return Ok(Prepared::default());
    }
    converted.extend(of_fate(Fate::Reinitialise));
    let (before, after) = rayon::join(
        || MemoryTypes::read(old.program.path()),
        || MemoryTypes::read(new.program.path()),
    );
    let none = Rules::default();
    let rules = update.rules.unwrap_or(&none);
    let (before, after) = (before?, after?);
    Ok(prepare(
        &before,
        &after,
        changes,
        rules,
        &update.common,
        &converted,
    ))
}

/// What start-up code computes is not computed again.
fn computed_at_start_up(new: &Version, warning: &Warning) -> Option<Gap> {
    if warning.kind != "only-called-at-start-up" {
        return None;
    }
    let touches_variables = |id: &ItemId| {
        let mut relocations = new.section(*id).relocations.iter();
        relocations.any(|relocation| match new.target(id.unit, relocation) {
            Target::Item { id, .. } => new.kind(id) == ItemKind::Data && new.section(id).writable,
            _ => false,
        })
    };
    let named =
        |id: &ItemId| new.kind(*id) == ItemKind::Function && new.name(*id) == warning.subject;
    new.items()
        .filter(named)
        .any(|id| touches_variables(&id))
        .then(|| {
            Gap::new(
                "start-up-value",
                &warning.subject,
                warning.message.clone(),
                format!("/* in transform.c */ {}(…);", warning.subject),
            )
        })
}

/// Functions that run before `main` or after it must not be new or changed.
fn refuse_constructors(
    old: &Version,
    new: &Version,
    comparison: &Comparison,
) -> Result<(), PatchError> {
    for (unit, object) in new.units.iter().enumerate() {
        let mut targets = BTreeSet::new();
        for section in object.sections.iter().filter(|s| runs_by_itself(&s.name)) {
            for relocation in &section.relocations {
                if let Target::Item { id, .. } = new.target(unit, relocation) {
                    targets.insert(id);
                }
            }
        }
        let differs = |id: &&ItemId| {
            let fate = comparison.fate(**id);
            let existed = comparison
                .old(**id)
                .is_some_and(|old_id| is_constructor(old, old_id));
            !existed || fate == Fate::Replace(Reason::ObjectCode)
        };
        let changed: Vec<&str> = targets
            .iter()
            .filter(differs)
            .map(|id| new.name(*id))
            .collect();
        if !changed.is_empty() {
            return Err(PatchError::Constructor {
                file: object.source.clone(),
                what: changed.join(", "),
            });
        }
    }
    Ok(())
}

fn runs_by_itself(section: &str) -> bool {
    [
        ".init_array",
        ".fini_array",
        ".preinit_array",
        ".ctors",
        ".dtors",
    ]
    .iter()
    .any(|name| section.starts_with(name))
}

fn is_constructor(version: &Version, id: ItemId) -> bool {
    let unit = version.unit(id);
    unit.sections
        .iter()
        .filter(|section| runs_by_itself(&section.name))
        .flat_map(|section| &section.relocations)
        .any(|r| unit.symbols[r.symbol].place == Place::Section(id.section))
}
