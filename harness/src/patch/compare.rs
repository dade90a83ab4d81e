//! Which functions and data objects changed, and what becomes of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rayon::prelude::*;

use super::assemble::has_pad;
use super::fingerprint::{Fingerprint, Fingerprints};
use super::own::Own;
use super::unit::ItemKind;
use super::version::{ItemId, Version};
use super::{FunctionName, PatchError, Reason};
use crate::change::Changes;

/// What becomes of an item of the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The old version's item serves.
    Keep,
    /// A function that is replaced.
    Replace(Reason),
    /// A function or object that the old version lacks.
    Add,
    /// A writable object that stays, with other initial bytes.
    Reinitialise,
    /// A writable object that moves into the image.
    Carry,
    /// A read-only object of which the image holds the new version.
    Renew,
}

impl Fate {
    /// Whether the image holds the item's section.
    pub(super) fn in_image(self) -> bool {
        self != Self::Keep
    }

    /// Whether references to the object go to another place than before.
    pub(super) fn moves(self) -> bool {
        matches!(self, Self::Carry | Self::Renew)
    }
}

/// An item of the new version, matched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matched {
    pub(super) old: Option<ItemId>,
    pub(super) fate: Fate,
}

/// The new version's items against the old version's.
pub(super) struct Comparison {
    pub(super) items: BTreeMap<ItemId, Matched>,
    /// Functions that only the old version has.
    pub(super) deleted: Vec<ItemId>,
    /// Functions whose old entry gets no jump.
    pub(super) kept: BTreeSet<ItemId>,
    pub(super) types: Changes,
}

impl Comparison {
    /// Compares two builds. With `own`, what counts as changed is what the versions'
    /// own builds tell.
    pub(super) fn between(
        old: &Version,
        new: &Version,
        uses_changed: &BTreeSet<FunctionName>,
        own: Option<&Own>,
    ) -> Result<Self, PatchError> {
        let types = match own {
            Some(own) => own.changes.clone(),
            None => Changes::between(old.program.types(), new.program.types()),
        };
        let stays = types.without_records(own.map(|own| &own.shared));
        // A function's own prototype is one that it uses.
        let prototypes = types.prototypes.iter();
        let uses_changed: BTreeSet<FunctionName> = prototypes
            .map(|changed| changed.function.clone())
            .chain(uses_changed.iter().cloned())
            .collect();
        let (old_prints, new_prints) = rayon::join(|| fingerprints(old), || fingerprints(new));
        let mut items = BTreeMap::new();
        let mut matched_old = BTreeSet::new();
        for id in new.items() {
            let counterpart = counterpart(old, new, id);
            matched_old.extend(counterpart);
            let fate = match counterpart {
                None => Fate::Add,
                Some(old_id) => {
                    let same_code = old_prints.get(&old_id) == new_prints.get(&id);
                    let fate = fate(old, new, old_id, id, same_code, &stays);
                    if has_pad(old, old_id) {
                        let function = old.function_name(old_id);
                        let uses = uses_changed.contains(&function);
                        let reason = match (own, fate) {
                            (Some(own), _) => own.reason(&function, same_code, uses),
                            (None, Fate::Keep) => uses.then_some(Reason::UsesChanged),
                            (None, _) => None,
                        };
                        reason.map_or(fate, Fate::Replace)
                    } else {
                        fate
                    }
                }
            };
            refuse_thread_local(new, id, fate)?;
            items.insert(
                id,
                Matched {
                    old: counterpart,
                    fate,
                },
            );
        }
        let deleted = old
            .items()
            .filter(|id| old.kind(*id) == ItemKind::Function && !matched_old.contains(id))
            .collect();
        Ok(Self {
            items,
            deleted,
            kept: BTreeSet::new(),
            types,
        })
    }

    /// Every item matched with itself and kept.
    pub(super) fn identity(version: &Version) -> Self {
        Self {
            items: version
                .items()
                .map(|id| {
                    let matched = Matched {
                        old: Some(id),
                        fate: Fate::Keep,
                    };
                    (id, matched)
                })
                .collect(),
            deleted: Vec::new(),
            kept: BTreeSet::new(),
            types: Changes::default(),
        }
    }

    pub(super) fn fate(&self, id: ItemId) -> Fate {
        self.items.get(&id).map_or(Fate::Keep, |m| m.fate)
    }

    pub(super) fn old(&self, id: ItemId) -> Option<ItemId> {
        self.items.get(&id)?.old
    }
}

fn fingerprints(version: &Version) -> HashMap<ItemId, Fingerprint> {
    (0..version.units.len())
        .into_par_iter()
        .flat_map_iter(|unit| {
            let prints = Fingerprints::of(version, unit);
            version.units[unit]
                .items()
                .map(|(section, _)| (ItemId { unit, section }, prints.section(section)))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The old version's item of the same file and name; a global one may have
/// moved to another file.
fn counterpart(old: &Version, new: &Version, id: ItemId) -> Option<ItemId> {
    let item = new.item(id)?;
    let same_file = old.find(&new.unit(id).source, &item.name);
    let found = same_file.or_else(|| {
        let (found, value) = old.global(&item.name).filter(|_| item.global)?;
        (value == 0).then_some(found)
    })?;
    (old.kind(found) == item.kind).then_some(found)
}

fn fate(
    old: &Version,
    new: &Version,
    old_id: ItemId,
    id: ItemId,
    same_code: bool,
    types: &Changes,
) -> Fate {
    if new.kind(id) == ItemKind::Function {
        return if same_code {
            Fate::Keep
        } else {
            Fate::Replace(Reason::ObjectCode)
        };
    }
    let same_type = same_type(old, new, old_id, id, types);
    let (before, after) = (old.section(old_id), new.section(id));
    if same_code && same_type {
        Fate::Keep
    } else if !after.writable {
        // A type that differs under equal bytes does not change a constant.
        if same_code { Fate::Keep } else { Fate::Renew }
    } else if before.writable && before.size == after.size && same_type {
        Fate::Reinitialise
    } else {
        Fate::Carry
    }
}

fn same_type(old: &Version, new: &Version, old_id: ItemId, id: ItemId, types: &Changes) -> bool {
    let variable = |version: &Version, id: ItemId| {
        let address = version.address(id)?;
        version.program.types().variable_at(address).cloned()
    };
    match (variable(old, old_id), variable(new, id)) {
        (Some(before), Some(after)) => !types.variable_differs(&before, &after),
        // What the compiler made up has no type.
        _ => true,
    }
}

fn refuse_thread_local(new: &Version, id: ItemId, fate: Fate) -> Result<(), PatchError> {
    if new.kind(id) == ItemKind::ThreadLocal && fate != Fate::Keep {
        return Err(PatchError::ThreadLocal {
            name: new.name(id).to_owned(),
            file: new.unit(id).source.clone(),
        });
    }
    Ok(())
}
