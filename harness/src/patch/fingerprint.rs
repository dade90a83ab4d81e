//! What a section means, whatever offsets and numbers its object file happens to
//! use: contents with relocations replaced by canonical names of their targets.

use std::cell::RefCell;
use std::collections::HashMap;

use object::elf;
use sha2::{Digest, Sha256};

use super::unit::{Place, Relocation, Section, Unit};
use super::version::{ItemId, Target, Version};

/// Equal fingerprints mean equal sections.
pub(super) type Fingerprint = [u8; 32];

/// Fingerprints of the sections of one unit.
pub(super) struct Fingerprints<'a> {
    version: &'a Version,
    unit_index: usize,
    known: RefCell<HashMap<usize, Fingerprint>>,
}

impl<'a> Fingerprints<'a> {
    pub(super) fn of(version: &'a Version, unit_index: usize) -> Self {
        Self {
            version,
            unit_index,
            known: RefCell::default(),
        }
    }

    fn unit(&self) -> &'a Unit {
        &self.version.units[self.unit_index]
    }

    pub(super) fn section(&self, index: usize) -> Fingerprint {
        if let Some(known) = self.known.borrow().get(&index) {
            return *known;
        }
        // Unnamed sections may refer to each other.
        self.known.borrow_mut().insert(index, [0; 32]);
        let fingerprint = self.compute(&self.unit().sections[index]);
        self.known.borrow_mut().insert(index, fingerprint);
        fingerprint
    }

    fn compute(&self, section: &Section) -> Fingerprint {
        let mut hash = Sha256::new();
        hash.update([u8::from(section.executable), u8::from(section.writable)]);
        hash.update(section.size.to_le_bytes());
        let mut bytes = section.bytes.clone();
        for relocation in &section.relocations {
            if let Some(field) = usize::try_from(relocation.offset)
                .ok()
                .and_then(|at| bytes.get_mut(at..at + relocation.width()))
            {
                field.fill(0);
            }
        }
        // A zeroed object and one that is initialised with zeros are the same.
        if bytes.iter().any(|byte| *byte != 0) {
            hash.update(&bytes);
        }
        for relocation in &section.relocations {
            hash.update(relocation.offset.to_le_bytes());
            hash.update(canonical_kind(relocation.kind).0.to_le_bytes());
            hash.update(self.describe(relocation));
            hash.update([0]);
        }
        hash.finalize().into()
    }

    pub(super) fn describe(&self, relocation: &Relocation) -> Vec<u8> {
        let addend = relocation.addend;
        match self.version.target(self.unit_index, relocation) {
            Target::Outside(symbol) if symbol.place == Place::Absolute => {
                format!("A:{}{:+}", symbol.value, addend).into_bytes()
            }
            Target::Outside(symbol) => format!("G:{}{addend:+}", symbol.name).into_bytes(),
            Target::Item { id, value } => self.describe_item(id, value, addend),
            Target::Unnamed { section, value } => self.describe_unnamed(relocation, section, value),
        }
    }

    fn describe_item(&self, id: ItemId, value: u64, addend: i64) -> Vec<u8> {
        let scope = match self.version.item(id) {
            Some(item) if item.global => 'G',
            _ => 'L',
        };
        let offset = value.wrapping_add_signed(addend).cast_signed();
        format!("{scope}:{}{offset:+}", self.version.name(id)).into_bytes()
    }

    fn describe_unnamed(&self, relocation: &Relocation, index: usize, value: u64) -> Vec<u8> {
        let section = &self.unit().sections[index];
        let offset = value.wrapping_add_signed(relocation.addend);
        if let Some(entry) = section.merge {
            // The field of an instruction counts from the instruction's end.
            let at = if relocation.is_relative() {
                offset.wrapping_add(4)
            } else {
                offset
            };
            if let Some(content) = merged_content(section, entry, at) {
                return [b"M:".as_slice(), content].concat();
            }
        }
        let mut text = format!("S:{offset}:").into_bytes();
        text.extend(self.section(index));
        text
    }
}

/// The string or constant at an offset of a mergeable section.
fn merged_content(section: &Section, entry: usize, offset: u64) -> Option<&[u8]> {
    let offset = usize::try_from(offset).ok()?;
    if section.strings {
        let rest = section.bytes.get(offset..)?;
        let length = rest
            .chunks(entry)
            .position(|unit| unit.iter().all(|byte| *byte == 0))?;
        return rest.get(..length * entry);
    }
    let start = offset.next_multiple_of(entry);
    section.bytes.get(start..start + entry)
}

/// Kinds that differ only in what the linker may do with them.
pub(super) fn canonical_kind(kind: elf::RelocationType) -> elf::RelocationType {
    match kind {
        elf::R_X86_64_PLT32 => elf::R_X86_64_PC32,
        elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => elf::R_X86_64_GOTPCREL,
        other => other,
    }
}
