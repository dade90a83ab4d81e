//! Who touches data that an update replaces, by references of the old program's
//! machine code.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};

use super::Touches;
use crate::binary::Address;
use crate::patch::unit::{ItemKind, Section};
use crate::patch::version::{ItemId, Target, Version};
use crate::patch::{DataAction, Patch};

/// Who touches the state that `patch` changes. Where an update does more with live
/// state than replacing data objects, that is not known.
pub(crate) fn touches(old: &Version, patch: &Patch) -> Touches {
    let replaced = replaced(patch);
    let mut touches = Touches {
        state: replaced.values().cloned().collect(),
        ..Touches::default()
    };
    if patch.state.is_some() {
        touches.unknown = Some("the update converts live state".to_owned());
    } else if patch.transformer.is_some() {
        touches.unknown = Some("the update has a state transformer".to_owned());
    }
    if touches.unknown.is_some() || replaced.is_empty() {
        return touches;
    }
    let wanted: BTreeMap<ItemId, &String> = old
        .items()
        .filter_map(|id| Some((id, replaced.get(&old.address(id)?)?)))
        .collect();
    for id in old.items() {
        for (name, direct) in references(old, id, &wanted) {
            if !direct {
                let holder = old.name(id);
                touches.unknown = Some(format!("{holder} holds the address of {name}"));
            } else if let Some(entry) = old.address(id) {
                let of_function = touches.functions.entry(entry).or_default();
                of_function.insert(name);
            }
        }
    }
    touches
}

/// Data objects of the old program whose bytes the update reads or writes, by address.
fn replaced(patch: &Patch) -> BTreeMap<Address, String> {
    let objects = patch.data.iter().filter_map(|action| match action {
        DataAction::Reinitialise { name, old, .. } | DataAction::Carry { name, old, .. } => {
            Some((*old, name.clone()))
        }
        DataAction::Add { .. } | DataAction::Renew { .. } => None,
    });
    objects.collect()
}

/// References of an item to wanted objects, and whether each is an instruction's access
/// to the object itself. Any other takes its address, and who has that may touch it.
fn references(
    old: &Version,
    id: ItemId,
    wanted: &BTreeMap<ItemId, &String>,
) -> BTreeSet<(String, bool)> {
    let section = old.section(id);
    let is_function = old.kind(id) == ItemKind::Function;
    let mut found = BTreeSet::new();
    for relocation in &section.relocations {
        let (target, through) = match old.target(id.unit, relocation) {
            Target::Item { id, .. } => (vec![id], false),
            Target::Unnamed { section, .. } => (behind(old, id.unit, section), true),
            Target::Outside(_) => continue,
        };
        for name in target.iter().filter_map(|target| wanted.get(target)) {
            let direct = is_function
                && !through
                && !relocation.is_got()
                && accesses(section, relocation.offset);
            found.insert(((*name).clone(), direct));
        }
    }
    found
}

/// Items that a section which no symbol names refers to.
fn behind(old: &Version, unit: usize, section: usize) -> Vec<ItemId> {
    let relocations = &old.units[unit].sections[section].relocations;
    let targets = relocations.iter().map(|r| old.target(unit, r));
    targets
        .filter_map(|target| match target {
            Target::Item { id, .. } => Some(id),
            Target::Unnamed { .. } | Target::Outside(_) => None,
        })
        .collect()
}

/// Whether the instruction that the relocation at `offset` belongs to reads or writes
/// memory there.
fn accesses(section: &Section, offset: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, &section.bytes, 0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if (instruction.ip()..instruction.next_ip()).contains(&offset) {
            let constants = decoder.get_constant_offsets(&instruction);
            let displacement = instruction.ip() + constants.displacement_offset() as u64;
            return instruction.mnemonic() != Mnemonic::Lea
                && constants.has_displacement()
                && displacement == offset
                && !instruction.is_call_near_indirect();
        }
    }
    false
}
