//! What must be rebuilt although it is unchanged, because it refers to a data
//! object that moves (a table that grew, say).

use std::collections::{BTreeSet, HashMap};

use super::compare::{Comparison, Fate};
use super::unit::ItemKind;
use super::version::{ItemId, Target, Version};
use super::{Reason, Warning};

/// Extends the comparison to a fixpoint and says what deserves a look.
pub(super) fn extend(new: &Version, comparison: &mut Comparison) -> Vec<Warning> {
    let references: HashMap<ItemId, BTreeSet<ItemId>> = comparison
        .items
        .keys()
        .map(|id| (*id, data_references(new, *id)))
        .collect();
    let mut warnings = Vec::new();
    loop {
        let moved: BTreeSet<ItemId> = comparison
            .items
            .iter()
            .filter(|(_, matched)| matched.fate.moves())
            .map(|(id, _)| *id)
            .collect();
        let mut grew = false;
        for (id, matched) in &mut comparison.items {
            if matched.fate != Fate::Keep || references[id].is_disjoint(&moved) {
                continue;
            }
            grew = true;
            matched.fate = match (new.kind(*id), new.section(*id).writable) {
                (ItemKind::Function, _) => Fate::Replace(Reason::RefersToMoved),
                (_, false) => Fate::Renew,
                (_, true) => Fate::Reinitialise,
            };
            if matched.fate == Fate::Reinitialise {
                let names: Vec<_> = references[id]
                    .intersection(&moved)
                    .map(|target| new.name(*target))
                    .collect();
                warnings.push(pointer_to_moved(new.name(*id), &names));
            }
        }
        if !grew {
            return warnings;
        }
    }
}

fn pointer_to_moved(name: &str, targets: &[&str]) -> Warning {
    Warning {
        kind: "pointer-to-moved".to_owned(),
        subject: name.to_owned(),
        message: format!(
            "{name} is initialised with a pointer to {}, which moves; it follows only if the \
             process has not written to {name}. Let the transformer set it otherwise.",
            targets.join(", ")
        ),
    }
}

/// Data objects that an item's section refers to, directly or through unnamed
/// sections.
fn data_references(version: &Version, id: ItemId) -> BTreeSet<ItemId> {
    let mut found = BTreeSet::new();
    for target in item_references(version, id) {
        if version.kind(target) == ItemKind::Data {
            found.insert(target);
        }
    }
    found
}

/// Items that an item's section refers to, directly or through unnamed sections.
pub(super) fn item_references(version: &Version, id: ItemId) -> BTreeSet<ItemId> {
    let mut found = BTreeSet::new();
    let mut visited = BTreeSet::from([id.section]);
    let mut open = vec![id.section];
    while let Some(section) = open.pop() {
        for relocation in &version.units[id.unit].sections[section].relocations {
            match version.target(id.unit, relocation) {
                Target::Item { id, .. } => {
                    found.insert(id);
                }
                Target::Unnamed { section, .. } => {
                    if visited.insert(section) {
                        open.push(section);
                    }
                }
                Target::Outside(_) => {}
            }
        }
    }
    found
}
