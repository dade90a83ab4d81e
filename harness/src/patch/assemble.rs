//! From a comparison to an image and the actions that go with it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use super::build::{Built, Statistics};
use super::compare::Fate;
use super::link::{Image, link};
use super::reduce::Reducer;
use super::resolve::{Link, Resolver};
use super::transform::{Transform, Transformer};
use super::unit::{ItemKind, Section};
use super::version::{ItemId, Version};
use super::{
    Added, DataAction, Deleted, ENTRY_PAD, ImportSlot, Patch, PatchError, Reason, Redirect,
};
use crate::binary::Address;
use crate::sandbox::guard;
use crate::state::Manner;
use crate::state::Prepared;
use crate::state::convert::Conversion;
use crate::state::header::TABLE;

/// Whether the program can redirect the function.
pub(super) fn has_pad(version: &Version, id: ItemId) -> bool {
    version.kind(id) == ItemKind::Function
        && version
            .address(id)
            .and_then(|entry| version.program.function_with_entry(entry))
            .is_some_and(|function| function.pad)
}

/// A patch to be made.
pub(super) struct Job<'a> {
    pub(super) pair: &'a str,
    pub(super) resolver: Resolver<'a>,
    /// Bodies that replace those of the new version's objects.
    pub(super) bodies: &'a HashMap<ItemId, Section>,
    pub(super) transformer: Option<&'a Transformer<'a>>,
    /// Conversions of live state.
    pub(super) live: Option<&'a Prepared>,
}

impl Job<'_> {
    /// Links in `folder`, or in a temporary one.
    pub(super) fn run(&self, folder: Option<&Path>) -> Result<Built, PatchError> {
        let make = || {
            let place = guard::temporary_folder();
            tempfile::tempdir_in(&place).map_err(|source| PatchError::File {
                path: place,
                source,
            })
        };
        let temporary = folder.is_none().then(make).transpose()?;
        let folder = match (&temporary, folder) {
            (_, Some(folder)) => folder,
            (Some(temporary), None) => temporary.path(),
            (None, None) => Path::new("."),
        };
        let (old, new) = (self.resolver.old, self.resolver.new);
        let started = Instant::now();
        let types = self.live.map_or("", |live| live.header.as_str());
        let transform = self
            .transformer
            .map(|t| Transform::compile(t, &self.resolver, types, folder))
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
        Ok(Built {
            patch,
            statistics,
            changes: self.resolver.comparison.types.clone(),
        })
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
                if let Link::Image { unit, section, .. } = link {
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
            changed_types: comparison.types.type_names(),
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
                        prototype_changed: comparison.kept.contains(id)
                            || self.prototype_changed(old_id, *id),
                        kept: comparison.kept.contains(id),
                    });
                }
                (_, fate) => {
                    let at = image.address((id.unit, id.section))?;
                    patch
                        .data
                        .push(self.data_action(*id, matched.old, fate, at)?);
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
        patch.state = self.live.and_then(|live| live.plan.clone());
        if let (Some(transform), Some(plan)) = (transform, &mut patch.state) {
            for record in &mut plan.records {
                let name = format!("{TABLE}{}", record.identifier);
                if let Some((section, offset)) = transform.variable(&name) {
                    let at = image.address((new.units.len(), section))?;
                    record.table = Some(at.plus(offset));
                }
            }
        }
        patch.image = image.bytes;
        Ok(patch)
    }

    fn data_action(
        &self,
        id: ItemId,
        old_id: Option<ItemId>,
        fate: Fate,
        at: Address,
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
                members: self
                    .conversion(place, old_size, size)
                    .filter(|conversion| conversion.manner == Manner::Common),
            },
            Fate::Renew => DataAction::Renew {
                name,
                old: place,
                old_size,
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
                conversion: self.conversion(place, old_size, size),
            },
        })
    }

    /// How a variable that moves is converted, if its whole type is known.
    fn conversion(&self, at: Address, old_size: u64, new_size: u64) -> Option<Conversion> {
        let found = self.live?.variables.get(&at)?;
        let whole = (found.old_size, found.new_size) == (old_size, new_size);
        whole.then(|| found.clone())
    }

    fn prototype_changed(&self, old_id: ItemId, id: ItemId) -> bool {
        let Resolver {
            old,
            new,
            comparison,
        } = &self.resolver;
        match (old.prototype(old_id), new.prototype(id)) {
            (Some(before), Some(after)) => comparison.types.prototype_differs(before, after),
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
            .filter(|(id, matched)| {
                matched
                    .old
                    .is_some_and(|old| self.prototype_changed(old, **id))
            })
            .map(|(id, _)| new.name(*id).to_owned())
            .collect()
    }
}

fn address(version: &Version, id: ItemId) -> Result<Address, PatchError> {
    version
        .address(id)
        .ok_or_else(|| PatchError::Image(format!("{} has no address", version.name(id))))
}
