//! Uses that the machine code shows by itself: calls of, and references to,
//! functions and globals that changed.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions};

use super::found::{Found, Place};
use super::table::{Finder, Use, UseKind};
use crate::binary::Address;
use crate::change::Changes;
use crate::patch::unit::ItemKind;
use crate::patch::version::{ItemId, Target, Version};

/// What an address of the old program stands for, if that changed.
pub(super) struct Targets {
    by_address: BTreeMap<Address, (UseKind, String)>,
}

impl Targets {
    pub(super) fn of(changes: &Changes) -> Self {
        let globals = changes
            .globals
            .iter()
            .map(|global| (global.address, (UseKind::Global, global.name.clone())));
        let prototypes = changes.prototypes.iter().map(|changed| {
            let name = changed.function.name.clone();
            (changed.entry, (UseKind::Function, name))
        });
        let deleted = changes.deleted.iter().map(|deleted| {
            let name = deleted.function.name.clone();
            (deleted.entry, (UseKind::Function, name))
        });
        Self {
            by_address: globals.chain(prototypes).chain(deleted).collect(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }
}

/// All references of the old version's functions to changed targets.
pub(super) fn find(old: &Version, targets: &Targets) -> Vec<Found> {
    let mut found = Vec::new();
    if targets.is_empty() {
        return found;
    }
    for id in old.items().filter(|id| old.kind(*id) == ItemKind::Function) {
        let Some(entry) = old.address(id) else {
            continue;
        };
        let section = old.section(id);
        let mut used: BTreeMap<u64, BTreeSet<&(UseKind, String)>> = BTreeMap::new();
        for relocation in &section.relocations {
            for target in reached(old, id.unit, old.target(id.unit, relocation)) {
                let at = old.address(target);
                if let Some(what) = at.and_then(|at| targets.by_address.get(&at)) {
                    used.entry(relocation.offset).or_default().insert(what);
                }
            }
        }
        let own = targets.by_address.get(&entry);
        if used.is_empty() && own.is_none() {
            continue;
        }
        let mut decoder = Decoder::with_ip(64, &section.bytes, 0, DecoderOptions::NONE);
        for instruction in &mut decoder {
            let range = instruction.ip()..instruction.next_ip();
            let covered = range.clone().any(|at| used.contains_key(&at));
            let mut what: BTreeSet<&(UseKind, String)> = range
                .filter_map(|at| used.get(&at))
                .flatten()
                .copied()
                .collect();
            // A function's call of itself needs no relocation.
            if !covered && instruction.is_call_near() && instruction.near_branch_target() == 0 {
                what.extend(own);
            }
            for (kind, name) in what {
                found.push(Found {
                    function: entry,
                    place: Place::Instruction(entry.plus(instruction.ip())),
                    arguments_of: Vec::new(),
                    what: Use {
                        kind: *kind,
                        name: name.clone(),
                        member: None,
                        file: String::new(),
                        line: 0,
                        by_member: true,
                        finder: Finder::References,
                    },
                });
            }
        }
    }
    found
}

/// The items that a reference leads to, through what the compiler made up
/// (constants, templates of initial values).
fn reached(old: &Version, unit: usize, target: Target<'_>) -> Vec<ItemId> {
    let mut found = Vec::new();
    let mut visited = BTreeSet::new();
    let mut open = vec![target];
    while let Some(target) = open.pop() {
        match target {
            Target::Item { id, .. } => found.push(id),
            Target::Unnamed { section, .. } => {
                if visited.insert(section) {
                    let section = &old.units[unit].sections[section];
                    // Switch tables lead back into functions, which is no use.
                    if !section.name.starts_with(".rodata") || section.writable {
                        let relocations = &section.relocations;
                        open.extend(relocations.iter().map(|r| old.target(unit, r)));
                    } else {
                        let absolute = section.relocations.iter().filter(|r| !r.is_relative());
                        open.extend(absolute.map(|r| old.target(unit, r)));
                    }
                }
            }
            Target::Outside(_) => {}
        }
    }
    found
}
