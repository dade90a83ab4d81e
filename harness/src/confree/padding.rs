//! The padding differential: each unit of the old version is compiled once more
//! with padding at the front of every changed struct. An instruction whose
//! operands differ depends on the layout, whatever the source looks like.
//!
//! Blind to enums, prototypes, unions, and members that the pad does not move.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use rayon::prelude::*;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::ConFreeError;
use super::found::{Found, Place};
use super::pad;
use super::preprocess::{Preprocessed, file_of};
use super::table::{Finder, Use, UseKind};
use crate::binary::dwarf::TypeKey;
use crate::change::Changes;
use crate::patch::unit::{ItemKind, Relocation, Section, Unit};
use crate::patch::version::Version;
use crate::sandbox::guard;
use crate::subject::{BuiltVersion, tool};

/// Eight-byte units in the smallest pad.
const FIRST_PAD: usize = 8;

/// What padding showed.
#[derive(Debug, Default)]
pub(super) struct Padded {
    pub(super) found: Vec<Found>,
    /// Units that could not be compiled with padding: source and why.
    pub(super) failed: Vec<(String, String)>,
}

/// Runs the differential over all units of the old build.
///
/// # Errors
/// When the compiler cannot be run or an object not be read.
pub(super) fn find(
    built: &BuiltVersion,
    old: &Version,
    units: &[Preprocessed],
    changes: &Changes,
    folder: &Path,
) -> Result<Padded, ConFreeError> {
    // Each struct has a pad of its own size, so that a displacement tells which
    // struct it depends on.
    let pads: BTreeMap<&TypeKey, usize> = changes
        .records
        .iter()
        .filter(|record| record.key.tag != "union")
        .enumerate()
        .map(|(number, record)| (&record.key, FIRST_PAD + number))
        .collect();
    let parts = units
        .par_iter()
        .enumerate()
        .map(|(number, unit)| one(built, old, unit, &pads, changes, folder, number))
        .collect::<Result<Vec<_>, _>>()?;
    let mut all = Padded::default();
    for part in parts {
        all.found.extend(part.found);
        all.failed.extend(part.failed);
    }
    Ok(all)
}

fn one(
    built: &BuiltVersion,
    old: &Version,
    unit: &Preprocessed,
    pads: &BTreeMap<&TypeKey, usize>,
    changes: &Changes,
    folder: &Path,
    number: usize,
) -> Result<Padded, ConFreeError> {
    let mut padded = Padded::default();
    let definitions = pad::definitions(&unit.text);
    let mut here = BTreeMap::new();
    let (text, count) = pad::insert(&unit.text, &definitions, |definition| {
        let key = TypeKey {
            tag: definition.tag.to_owned(),
            name: definition.name.clone(),
            file: file_of(built, &unit.directory, &definition.file),
        };
        let (key, words) = pads.get_key_value(&key)?;
        here.insert(*key, *words);
        Some(*words)
    });
    if count == 0 {
        return Ok(padded);
    }
    let source = folder.join(format!("{number}.padded.i"));
    let object = folder.join(format!("{number}.padded.o"));
    std::fs::write(&source, text).map_err(|error| ConFreeError::file(&source, error))?;
    let mut compiler = tool::command(&built.compiler);
    compiler
        .args(&unit.compile)
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .current_dir(&unit.directory);
    let output =
        guard::output(&mut compiler).map_err(|error| ConFreeError::file(&built.compiler, error))?;
    if !output.status.success() {
        let why = tool::tail(&tool::text(&output), 3);
        padded.failed.push((unit.source.clone(), why));
        return Ok(padded);
    }
    let before = Unit::read(&unit.source, &unit.object)?;
    let after = Unit::read(&unit.source, &object)?;
    let names = Names::of(&here, changes);
    for (section, item) in before.items() {
        if item.kind != ItemKind::Function {
            continue;
        }
        let counterpart = after.items().find(|(_, other)| other.name == item.name);
        let Some((other, _)) = counterpart else {
            continue;
        };
        let id = old.find(&unit.source, &item.name);
        let Some(entry) = id.and_then(|id| old.address(id)) else {
            continue;
        };
        let dependent = differing(
            &Listing::of(&before, &before.sections[section]),
            &Listing::of(&after, &after.sections[other]),
        );
        for (offset, deltas) in dependent {
            padded.found.push(Found {
                function: entry,
                place: Place::Instruction(entry.plus(offset)),
                arguments_of: Vec::new(),
                what: Use {
                    kind: UseKind::Layout,
                    name: names.by_delta(&deltas),
                    member: None,
                    file: String::new(),
                    line: 0,
                    by_member: true,
                    finder: Finder::Padding,
                },
            });
        }
    }
    Ok(padded)
}

/// Structs by the distance that padding moves what lies in them.
#[derive(Default)]
struct Names {
    /// Nothing where several structs have the same distance.
    by_bytes: HashMap<u64, Option<String>>,
}

impl Names {
    /// Names of the structs that a unit defines. What lies in a struct behind one
    /// that it holds is moved by the pads of both.
    fn of(pads: &BTreeMap<&TypeKey, usize>, changes: &Changes) -> Self {
        let mut names = Self::default();
        for (key, words) in pads {
            let Some(record) = changes.record(key) else {
                continue;
            };
            names.note(*words, &record.name);
            let held = record.old.iter().flat_map(|layout| &layout.embeds);
            let held: Vec<usize> = held.filter_map(|inner| pads.get(inner).copied()).collect();
            for inner in &held {
                names.note(words + inner, &record.name);
            }
            names.note(words + held.iter().sum::<usize>(), &record.name);
        }
        names
    }

    fn note(&mut self, words: usize, name: &str) {
        let noted = self.by_bytes.entry(8 * words as u64);
        let noted = noted.or_insert_with(|| Some(name.to_owned()));
        if noted.as_deref() != Some(name) {
            *noted = None;
        }
    }

    fn by_delta(&self, deltas: &BTreeSet<u64>) -> String {
        let named = deltas
            .iter()
            .find_map(|delta| self.by_bytes.get(delta)?.as_ref());
        named
            .cloned()
            .unwrap_or_else(|| "a changed struct".to_owned())
    }
}

/// What must be equal for two instructions to be counterparts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shape {
    mnemonic: Mnemonic,
    operands: Vec<(u8, Register, Register, u32)>,
}

/// Numbers in an instruction: displacement, immediates, relocation targets.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Numbers {
    values: Vec<u64>,
    targets: Vec<(String, i64)>,
}

struct Listing {
    offsets: Vec<u64>,
    shapes: Vec<Shape>,
    numbers: Vec<Numbers>,
}

impl Listing {
    fn of(unit: &Unit, section: &Section) -> Self {
        let mut listing = Self {
            offsets: Vec::new(),
            shapes: Vec::new(),
            numbers: Vec::new(),
        };
        let mut decoder = Decoder::with_ip(64, &section.bytes, 0, DecoderOptions::NONE);
        let mut relocations = section.relocations.iter().peekable();
        for instruction in &mut decoder {
            let mut targets = Vec::new();
            while let Some(relocation) = relocations.next_if(|r| r.offset < instruction.next_ip()) {
                targets.push(describe(unit, relocation));
            }
            listing.offsets.push(instruction.ip());
            listing.shapes.push(shape(&instruction));
            listing.numbers.push(Numbers {
                values: values(&instruction, !targets.is_empty()),
                targets,
            });
        }
        listing
    }
}

fn describe(unit: &Unit, relocation: &Relocation) -> (String, i64) {
    use crate::patch::unit::Place as SymbolPlace;
    let symbol = &unit.symbols[relocation.symbol];
    match symbol.place {
        SymbolPlace::Section(section) => match unit.item(section) {
            Some(item) => {
                let offset = symbol.value.cast_signed().wrapping_add(relocation.addend);
                (item.name.clone(), offset)
            }
            // Strings and tables move about for many reasons.
            None => (String::new(), 0),
        },
        _ => (symbol.name.clone(), relocation.addend),
    }
}

fn shape(instruction: &Instruction) -> Shape {
    let operand = |number| match instruction.op_kind(number) {
        OpKind::Register => (0, instruction.op_register(number), Register::None, 0),
        OpKind::Memory => (
            1,
            instruction.memory_base(),
            instruction.memory_index(),
            instruction.memory_index_scale(),
        ),
        _ => (2, Register::None, Register::None, 0),
    };
    Shape {
        mnemonic: instruction.mnemonic(),
        operands: (0..instruction.op_count()).map(operand).collect(),
    }
}

fn values(instruction: &Instruction, relocated: bool) -> Vec<u64> {
    (0..instruction.op_count())
        .map(|number| match instruction.op_kind(number) {
            OpKind::Memory if relocated || instruction.is_ip_rel_memory_operand() => 0,
            OpKind::Memory => instruction.memory_displacement64(),
            OpKind::Register
            | OpKind::NearBranch16
            | OpKind::NearBranch32
            | OpKind::NearBranch64 => 0,
            _ if relocated => 0,
            _ => instruction.try_immediate(number).unwrap_or(0),
        })
        .collect()
}

/// Offsets of the old instructions that differ, with the distances by which
/// their numbers moved.
fn differing(old: &Listing, new: &Listing) -> Vec<(u64, BTreeSet<u64>)> {
    if old.shapes == new.shapes && old.numbers == new.numbers {
        return Vec::new();
    }
    let mut found = BTreeMap::new();
    let pairs = |old_index: usize, new_index: usize, length: usize| {
        (0..length)
            .map(move |step| (old_index + step, new_index + step))
            .filter(|(before, after)| old.numbers[*before] != new.numbers[*after])
            .map(|(before, after)| {
                (
                    old.offsets[before],
                    distances(&old.numbers[before], &new.numbers[after]),
                )
            })
            .collect::<Vec<_>>()
    };
    if old.shapes == new.shapes {
        return pairs(0, 0, old.shapes.len());
    }
    for operation in capture_diff_slices(Algorithm::Myers, &old.shapes, &new.shapes) {
        match operation {
            DiffOp::Equal {
                old_index,
                new_index,
                len,
            } => found.extend(pairs(old_index, new_index, len)),
            DiffOp::Delete {
                old_index, old_len, ..
            }
            | DiffOp::Replace {
                old_index, old_len, ..
            } => {
                let offsets = &old.offsets[old_index..old_index + old_len];
                found.extend(offsets.iter().map(|offset| (*offset, BTreeSet::new())));
            }
            // The place before which something was put.
            DiffOp::Insert { old_index, .. } => {
                let at = old_index.min(old.offsets.len().saturating_sub(1));
                found.extend(old.offsets.get(at).map(|offset| (*offset, BTreeSet::new())));
            }
        }
    }
    found.into_iter().collect()
}

fn distances(old: &Numbers, new: &Numbers) -> BTreeSet<u64> {
    let values = old.values.iter().zip(&new.values);
    let values = values.map(|(old, new)| new.wrapping_sub(*old));
    let targets = old.targets.iter().zip(&new.targets);
    let targets = targets.map(|(old, new)| new.1.wrapping_sub(old.1).cast_unsigned());
    values.chain(targets).filter(|delta| *delta != 0).collect()
}
