//! One version as the comparison sees it: its linked program and the objects
//! that it was linked from.

use std::collections::HashMap;
use std::path::Path;

use object::SymbolKind;
use rayon::prelude::*;

use super::PatchError;
use super::unit::{Item, ItemKind, Place, Relocation, Section, Symbol, Unit};
use crate::binary::dwarf::Prototype;
use crate::binary::{Address, FunctionName, Program};

/// One object file of a build.
#[derive(Clone, Debug)]
pub struct ObjectUnit<'a> {
    /// Source file, relative to the source tree.
    pub source: &'a str,
    /// The object that was compiled from it.
    pub object: &'a Path,
}

/// One version's build: the linked program and the objects it was linked from.
/// Objects that the program does not contain are ignored.
#[derive(Clone, Debug)]
pub struct Build<'a> {
    /// The linked program.
    pub program: &'a Path,
    /// Objects of the build.
    pub units: &'a [ObjectUnit<'a>],
    /// The source tree that it was built in.
    pub tree: &'a Path,
}

/// An item by its unit and section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ItemId {
    pub(crate) unit: usize,
    pub(crate) section: usize,
}

/// What a relocation refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// An item; `value` is the symbol's offset in it.
    Item { id: ItemId, value: u64 },
    /// A section that no symbol names: strings, constants, jump tables.
    Unnamed { section: usize, value: u64 },
    /// Something outside the program's objects.
    Outside(&'a Symbol),
}

/// A version of the program, read.
pub(crate) struct Version {
    pub(crate) program: Program,
    pub(crate) units: Vec<Unit>,
    globals: HashMap<String, (ItemId, u64)>,
    by_name: HashMap<(String, String), ItemId>,
    addresses: HashMap<ItemId, Address>,
}

impl Version {
    pub(crate) fn read(build: &Build<'_>) -> Result<Self, PatchError> {
        let program = Program::open(build.program)?;
        let files = &program.types().files;
        let candidates = build
            .units
            .par_iter()
            .filter(|unit| files.contains(unit.source))
            .map(|unit| Unit::read(unit.source, unit.object))
            .collect::<Result<Vec<_>, _>>()?;
        let units = linked(&program, candidates)?;
        let mut version = Self {
            program,
            units,
            globals: HashMap::new(),
            by_name: HashMap::new(),
            addresses: HashMap::new(),
        };
        version.index()?;
        Ok(version)
    }

    fn index(&mut self) -> Result<(), PatchError> {
        for (unit_index, unit) in self.units.iter().enumerate() {
            for (section, item) in unit.items() {
                let id = ItemId {
                    unit: unit_index,
                    section,
                };
                // What the linker dropped (a weak duplicate, an unused section)
                // is not part of this version.
                let Some(address) = address_of(&self.program, unit, item)? else {
                    continue;
                };
                self.addresses.insert(id, address);
                self.by_name
                    .insert((unit.source.clone(), item.name.clone()), id);
            }
            for symbol in unit.symbols.iter().filter(|s| s.global) {
                let Place::Section(section) = symbol.place else {
                    continue;
                };
                let id = ItemId {
                    unit: unit_index,
                    section,
                };
                if self.addresses.contains_key(&id) {
                    self.globals.insert(symbol.name.clone(), (id, symbol.value));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn unit(&self, id: ItemId) -> &Unit {
        &self.units[id.unit]
    }

    pub(crate) fn section(&self, id: ItemId) -> &Section {
        &self.units[id.unit].sections[id.section]
    }

    pub(crate) fn item(&self, id: ItemId) -> Option<&Item> {
        self.units.get(id.unit)?.item(id.section)
    }

    pub(crate) fn kind(&self, id: ItemId) -> ItemKind {
        self.item(id).map_or(ItemKind::Data, |item| item.kind)
    }

    pub(crate) fn name(&self, id: ItemId) -> &str {
        self.unit(id).place_name(id.section)
    }

    pub(crate) fn function_name(&self, id: ItemId) -> FunctionName {
        FunctionName {
            name: self.name(id).to_owned(),
            file: self.unit(id).source.clone(),
        }
    }

    /// All items that are in the program, in a fixed order.
    pub(crate) fn items(&self) -> impl Iterator<Item = ItemId> + '_ {
        self.units.iter().enumerate().flat_map(|(unit, object)| {
            object
                .items()
                .map(move |(section, _)| ItemId { unit, section })
                .filter(|id| self.addresses.contains_key(id))
        })
    }

    /// Where the linked program has the start of an item's section.
    pub(crate) fn address(&self, id: ItemId) -> Option<Address> {
        self.addresses.get(&id).copied()
    }

    /// Return and parameter types of a function, if its debug information is there.
    pub(crate) fn prototype(&self, id: ItemId) -> Option<&Prototype> {
        let entry = self.address(id)?;
        Some(&self.program.types().function_at(entry)?.prototype)
    }

    pub(crate) fn find(&self, file: &str, name: &str) -> Option<ItemId> {
        self.by_name
            .get(&(file.to_owned(), name.to_owned()))
            .copied()
    }

    pub(crate) fn global(&self, name: &str) -> Option<(ItemId, u64)> {
        self.globals.get(name).copied()
    }

    /// What a relocation of one of this version's units refers to.
    pub(crate) fn target(&self, unit_index: usize, relocation: &Relocation) -> Target<'_> {
        let unit = &self.units[unit_index];
        let symbol = &unit.symbols[relocation.symbol];
        let value = symbol.value;
        if let Place::Section(section) = symbol.place {
            let id = ItemId {
                unit: unit_index,
                section,
            };
            if unit.item(section).is_none() {
                return Target::Unnamed { section, value };
            }
            if self.addresses.contains_key(&id) {
                return Target::Item { id, value };
            }
        }
        match self.global(&symbol.name) {
            Some((id, value)) => Target::Item { id, value },
            None => Target::Outside(symbol),
        }
    }
}

/// Address of an item in the linked program, `None` where it is not there.
fn address_of(program: &Program, unit: &Unit, item: &Item) -> Result<Option<Address>, PatchError> {
    let symbol = &unit.symbols[item.symbol];
    let start = |address: Address| Address(address.0.wrapping_sub(symbol.value));
    if symbol.global {
        return Ok(program.global(&symbol.name).map(start));
    }
    match program.local(&unit.source, &symbol.name) {
        [] => Ok(None),
        [only] => Ok(Some(start(*only))),
        _ => Err(PatchError::StaleObject {
            path: unit.path.clone(),
            program: program.path().to_owned(),
            what: format!("{} is there more than once", symbol.name),
        }),
    }
}

/// The units that the program was linked from: one per source file, the one
/// whose functions are those of the program.
fn linked(program: &Program, candidates: Vec<Unit>) -> Result<Vec<Unit>, PatchError> {
    let mut best: Vec<(usize, Unit)> = Vec::new();
    for unit in candidates {
        let (same, wrong) = matching_functions(program, &unit);
        if let Some(place) = best.iter().position(|(_, u)| u.source == unit.source) {
            if same > best[place].0 && wrong.is_none() {
                best[place] = (same, unit);
            }
        } else {
            best.push((same, unit));
        }
    }
    for (_, unit) in &best {
        if let (_, Some(wrong)) = matching_functions(program, unit) {
            return Err(PatchError::StaleObject {
                path: unit.path.clone(),
                program: program.path().to_owned(),
                what: wrong,
            });
        }
    }
    if best.is_empty() {
        return Err(PatchError::NoUnits {
            program: program.path().to_owned(),
        });
    }
    let mut units: Vec<Unit> = best.into_iter().map(|(_, unit)| unit).collect();
    units.sort_by(|a, b| a.source.cmp(&b.source));
    Ok(units)
}

/// How many functions of the unit are in the program with the same size, and
/// the first that is there with another size.
fn matching_functions(program: &Program, unit: &Unit) -> (usize, Option<String>) {
    let mut same = 0;
    let mut wrong = None;
    for symbol in &unit.symbols {
        if symbol.kind != SymbolKind::Text || !matches!(symbol.place, Place::Section(_)) {
            continue;
        }
        let found = program
            .functions_named(&symbol.name)
            .find(|f| f.name.file == unit.source);
        match found {
            Some(function) if function.size == symbol.size => same += 1,
            Some(function) if !symbol.weak => {
                wrong.get_or_insert_with(|| {
                    format!(
                        "{} has {} bytes there and {} here",
                        symbol.name, function.size, symbol.size
                    )
                });
            }
            _ => {}
        }
    }
    (same, wrong)
}
