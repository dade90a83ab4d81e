//! From two builds to a patch.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::compare::{Comparison, Fate};
use super::link::{Image, link};
use super::reduce::Reducer;
use super::resolve::Resolver;
use super::transform::{Transform, Transformer};
use super::unit::{ItemKind, Place, Section};
use super::version::{Build, ItemId, Version};
use super::{
    Added, DataAction, Deleted, ENTRY_PAD, ImportSlot, Patch, PatchError, Reason, Redirect,
    closure, warnings,
};

/// An update to be built.
pub struct Update<'a> {
    /// Name of the pair.
    pub pair: &'a str,
    /// The version that runs.
    pub old: Build<'a>,
    /// The version that it becomes.
    pub new: Build<'a>,
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
}

/// Which functions the control arm replaces.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// Every function that has an entry pad.
    All,
    /// The functions of these names.
    Named(&'a BTreeSet<String>),
}

/// Builds the patch of an update.
///
/// # Errors
/// When a build cannot be read, or an update needs something that a patch cannot
/// do; the message names it.
pub fn build(update: &Update<'_>) -> Result<Built, PatchError> {
    let started = Instant::now();
    let (old, new) = (&update.old, &update.new);
    let (old, new) = rayon::join(|| Version::read(old), || Version::read(new));
    let (old, new) = (old?, new?);
    let read = started.elapsed();
    let started = Instant::now();
    let mut comparison = Comparison::between(&old, &new)?;
    let mut found = closure::extend(&new, &mut comparison);
    refuse_constructors(&old, &new, &comparison)?;
    let compare = started.elapsed();
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
    };
    let mut built = job.run(update.folder)?;
    found.extend(warnings::find(&job.resolver, &built.patch));
    found.sort();
    found.dedup();
    built.patch.warnings = found;
    built.statistics.read = read;
    built.statistics.compare = compare;
    Ok(built)
}

/// Builds the control arm: functions are replaced by identical copies, data
/// stays. It must never make a difference.
///
/// # Errors
/// As [`build`]; [`PatchError::NoSuchFunction`] for a name without a function
/// that has an entry pad.
pub fn build_control(
    pair: &str,
    old: &Build<'_>,
    selection: Selection<'_>,
    folder: Option<&Path>,
) -> Result<Built, PatchError> {
    let version = Version::read(old)?;
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
    control_job(pair, &version, &comparison, &HashMap::new(), folder)
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
    let version = Version::read(old)?;
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
    control_job(pair, &version, &comparison, &bodies, folder)
}

/// Entry pad, `mov $-1, %rax`, `ret`.
fn broken_body(section: &Section) -> Section {
    let mut bytes = vec![0x90; ENTRY_PAD as usize];
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
    Job {
        pair,
        resolver: Resolver {
            old: version,
            new: version,
            comparison,
        },
        bodies,
        transformer: None,
    }
    .run(folder)
}

fn has_pad(version: &Version, id: ItemId) -> bool {
    version.kind(id) == ItemKind::Function
        && version
            .address(id)
            .and_then(|entry| version.program.function_with_entry(entry))
            .is_some_and(|function| function.pad)
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
                if let super::version::Target::Item { id, .. } = new.target(unit, relocation) {
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
        let changed: Vec<&str> = targets.iter().filter(differs).map(|id| new.name(*id)).collect();
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
    [".init_array", ".fini_array", ".preinit_array", ".ctors", ".dtors"]
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

struct Job<'a> {
    pair: &'a str,
    resolver: Resolver<'a>,
    /// Bodies that replace those of the new version's objects.
    bodies: &'a HashMap<ItemId, Section>,
    transformer: Option<&'a Transformer<'a>>,
}

impl Job<'_> {
    fn run(&self, folder: Option<&Path>) -> Result<Built, PatchError> {
        let temporary = match folder {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(|source| PatchError::File {
                path: std::env::temp_dir(),
                source,
            })?),
        };
        let folder = match (&temporary, folder) {
            (_, Some(folder)) => folder,
            (Some(temporary), None) => temporary.path(),
            (None, None) => Path::new("."),
        };
        let (old, new) = (self.resolver.old, self.resolver.new);
        let started = Instant::now();
        let transform = self
            .transformer
            .map(|t| Transform::compile(t, &self.resolver, folder))
            .transpose()?;
        let mut reducer = Reducer::new(&old.program);
        self.place_all(&mut reducer, transform.as_ref())?;
        let reduced = reducer.finish()?;
        let reduce = started.elapsed();
        let started = Instant::now();
        let image = link(&reduced, folder)?;
        let link = started.elapsed();
        let patch = self.patch(image, transform.as_ref())?;
        let data = |v: &Version| v.items().filter(|id| v.kind(*id) == ItemKind::Data).count();
        let statistics = Statistics {
            functions: (old.program.functions().len(), new.program.functions().len()),
            objects: (data(old), data(new)),
            units: (old.units.len(), new.units.len()),
            image_bytes: patch.image.len(),
            reduce,
            link,
            ..Statistics::default()
        };
        Ok(Built { patch, statistics })
    }

    fn section(&self, unit: usize, section: usize) -> &Section {
        let id = ItemId { unit, section };
        self.bodies
            .get(&id)
            .unwrap_or_else(|| self.resolver.new.section(id))
    }

    fn place_all(
        &self,
        reducer: &mut Reducer<'_>,
        transform: Option<&Transform>,
    ) -> Result<(), PatchError> {
        let new = self.resolver.new;
        let mut open: Vec<(usize, usize)> = self
            .resolver
            .comparison
            .items
            .iter()
            .filter(|(_, matched)| matched.fate.in_image())
            .map(|(id, _)| (id.unit, id.section))
            .collect();
        for place in &open {
            reducer.place(*place, self.section(place.0, place.1));
        }
        let mut relocations = Vec::new();
        while let Some((unit, section)) = open.pop() {
            for relocation in &self.section(unit, section).relocations {
                let link = self.resolver.link(unit, section, relocation)?;
                if let super::resolve::Link::Image { unit, section, .. } = link {
                    // Strings, constants and jump tables come along.
                    if !reducer.contains((unit, section)) {
                        reducer.place((unit, section), self.section(unit, section));
                        open.push((unit, section));
                    }
                }
                relocations.push(((unit, section), relocation, link));
            }
        }
        for (place, relocation, link) in relocations {
            reducer.relocate(place, &new.units[place.0], relocation, &link)?;
        }
        if let Some(transform) = transform {
            let index = new.units.len();
            for section in transform.sections() {
                reducer.place((index, section), &transform.unit.sections[section]);
            }
            for section in transform.sections() {
                for relocation in &transform.unit.sections[section].relocations {
                    let link = transform.link(index, relocation, &self.resolver)?;
                    reducer.relocate((index, section), &transform.unit, relocation, &link)?;
                }
            }
        }
        Ok(())
    }

    fn patch(&self, image: Image, transform: Option<&Transform>) -> Result<Patch, PatchError> {
        let Resolver {
            old,
            new,
            comparison,
        } = &self.resolver;
        let mut patch = Patch {
            pair: self.pair.to_owned(),
            changed_types: comparison.types.names.clone(),
            ..Patch::default()
        };
        for (id, matched) in &comparison.items {
            let size = self.section(id.unit, id.section).size;
            match (new.kind(*id), matched.fate) {
                (_, Fate::Keep) => {}
                (ItemKind::Function, fate) => {
                    let at = image.address((id.unit, id.section))?;
                    let Some(old_id) = matched.old else {
                        patch.added.push(Added {
                            function: new.function_name(*id),
                            new: at,
                            new_size: size,
                        });
                        continue;
                    };
                    let pad = image.read(at, ENTRY_PAD);
                    if !has_pad(old, old_id) || pad.is_none_or(|b| b.iter().any(|b| *b != 0x90)) {
                        return Err(PatchError::NoPad {
                            function: new.function_name(*id),
                        });
                    }
                    patch.redirects.push(Redirect {
                        function: old.function_name(old_id),
                        old: address(old, old_id)?,
                        old_size: old.section(old_id).size,
                        new: at,
                        new_size: size,
                        reason: match fate {
                            Fate::Replace(reason) => reason,
                            _ => Reason::ObjectCode,
                        },
                        prototype_changed: self.prototype_changed(old_id, *id),
                    });
                }
                (_, fate) => {
                    let at = image.address((id.unit, id.section))?;
                    patch.data.push(self.data_action(*id, matched.old, fate, at)?);
                }
            }
        }
        for id in &comparison.deleted {
            patch.deleted.push(Deleted {
                function: old.function_name(*id),
                old: address(old, *id)?,
                old_size: old.section(*id).size,
            });
        }
        patch.changed_prototypes = self.changed_prototypes();
        patch.imports = image
            .imports
            .iter()
            .map(|(name, slot)| ImportSlot {
                name: name.clone(),
                slot: *slot,
            })
            .collect();
        if let Some(transform) = transform {
            let (section, offset) = transform.entry;
            let at = image.address((new.units.len(), section))?;
            patch.transformer = Some(at.plus(offset));
            patch.transformer_imports = transform.imports(&self.resolver)?;
        }
        patch.image = image.bytes;
        Ok(patch)
    }

    fn data_action(
        &self,
        id: ItemId,
        old_id: Option<ItemId>,
        fate: Fate,
        at: crate::binary::Address,
    ) -> Result<DataAction, PatchError> {
        let (old, new) = (self.resolver.old, self.resolver.new);
        let name = new.name(id).to_owned();
        let size = new.section(id).size;
        let Some(old_id) = old_id else {
            return Ok(DataAction::Add {
                name,
                new: at,
                size,
            });
        };
        let place = address(old, old_id)?;
        let old_size = old.section(old_id).size;
        let initial = || {
            old.program
                .initial(place, old_size)
                .ok_or_else(|| PatchError::Image(format!("{name} is outside of the old program")))
        };
        Ok(match fate {
            Fate::Reinitialise => DataAction::Reinitialise {
                old_initial: initial()?,
                name,
                old: place,
                size,
                new: at,
            },
            Fate::Renew => DataAction::Renew {
                name,
                old: place,
                new: at,
                size,
            },
            _ => DataAction::Carry {
                old_initial: initial()?,
                name,
                old: place,
                old_size,
                new: at,
                new_size: size,
            },
        })
    }

    fn prototype_changed(&self, old_id: ItemId, id: ItemId) -> bool {
        let Resolver {
            old,
            new,
            comparison,
        } = &self.resolver;
        let prototype = |version: &Version, id| {
            let entry = version.address(id)?;
            Some(version.program.types().function_at(entry)?.prototype.clone())
        };
        match (prototype(old, old_id), prototype(new, id)) {
            (Some(before), Some(after)) => comparison.types.prototype_differs(&before, &after),
            _ => false,
        }
    }

    fn changed_prototypes(&self) -> Vec<String> {
        let Resolver {
            new, comparison, ..
        } = &self.resolver;
        comparison
            .items
            .iter()
            .filter(|(id, _)| new.kind(**id) == ItemKind::Function)
            .filter(|(id, matched)| matched.old.is_some_and(|old| self.prototype_changed(old, **id)))
            .map(|(id, _)| new.name(*id).to_owned())
            .collect()
    }
}

fn address(version: &Version, id: ItemId) -> Result<crate::binary::Address, PatchError> {
    version
        .address(id)
        .ok_or_else(|| PatchError::Image(format!("{} has no address", version.name(id))))
}
