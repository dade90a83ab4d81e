//! What must be rebuilt although it is unchanged, because it refers to a data
//! object that moves (a table that grew, say) or to a function whose old entry keeps
//! the old version.

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
        .map(|id| {
            let mut found = item_references(new, *id);
            let kept = &comparison.kept;
            found.retain(|to| new.kind(*to) == ItemKind::Data || kept.contains(to));
            (*id, found)
        })
        .collect();
    let mut warnings = Vec::new();
    for (id, matched) in &mut comparison.items {
        let refers = || references[id].intersection(&comparison.kept).copied();
        if matched.fate != Fate::Keep || refers().next().is_none() {
            continue;
        }
        match (new.kind(*id), new.section(*id).writable) {
            (ItemKind::Function, _) => matched.fate = Fate::Replace(Reason::RefersToKept),
            (_, false) => matched.fate = Fate::Renew,
            // Pointers that the process holds keep the old callee.
            (_, true) => {
                let names: Vec<_> = refers().map(|target| new.name(target)).collect();
                warnings.push(pointer_to_kept(new.name(*id), &names));
            }
        }
    }
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

fn pointer_to_kept(name: &str, targets: &[&str]) -> Warning {
    let targets = targets.join(", ");
    Warning {
        kind: "pointer-to-kept".to_owned(),
        subject: name.to_owned(),
        message: format!(
            "{name} is initialised with a pointer to {targets}, whose prototype changed and whose \
             old entry keeps the old version: a call through {name} runs old code. Let the \
             transformer set it otherwise."
        ),
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
