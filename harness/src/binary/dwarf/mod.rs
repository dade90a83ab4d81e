//! What the debug information of one program says about its types, prototypes
//! and variables, in a canonical form that two versions can be compared by.
//!
//! Type identity follows the definitions adopted by the study: the tag (or the
//! typedef's name where the record is anonymous); typedefs and qualifiers are
//! stripped; pointers to records compare by the record's name only, while
//! embedding by value is followed.

mod collect;
mod entry;
pub mod graph;
pub mod locals;
mod plain;
mod signature;
mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gimli::{EndianSlice, LittleEndian};
use object::{Object, ObjectSection};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Address, BinaryError, FunctionName};

use signature::UnitTypes;
pub(super) use signature::declaring_files;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// A record or enum definition: keyword, name and declaring file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TypeKey {
    /// `struct`, `union`, `enum`, or `typedef` for an anonymous record or enum
    /// that a typedef names.
    pub tag: String,
    /// Tag, or the typedef's name.
    pub name: String,
    /// Declaring file, relative to the source tree.
    pub file: String,
}

/// One member of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// Name; empty for an anonymous member.
    pub name: String,
    /// Offset in bytes.
    pub offset: u64,
    /// Offset in bits from the start of the record, for bit-fields.
    pub bit_offset: Option<u64>,
    /// Size in bits, for bit-fields.
    pub bit_size: Option<u64>,
    /// Size of the type in bytes; that of a record by value follows from the
    /// record and makes no difference of its own.
    pub size: u64,
    /// Alignment of the type, or of the member where it has one of its own, in bytes.
    pub align: u64,
    /// Canonical type.
    pub signature: String,
    /// Members of a record without any name, offsets relative to this member.
    pub inner: Vec<Member>,
}

impl Member {
    /// Whether name, place and type are the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.offset == other.offset
            && self.bit_offset == other.bit_offset
            && self.bit_size == other.bit_size
            && self.signature == other.signature
    }
}

/// Layout of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Layout {
    /// Size in bytes.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Whether it is a union.
    pub is_union: bool,
    /// Members in order.
    pub members: Vec<Member>,
    /// Records embedded by value, arrays included.
    pub embeds: BTreeSet<TypeKey>,
}

/// One parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Name; empty where the definition gives none.
    pub name: String,
    /// Canonical type.
    pub signature: String,
}

/// Return and parameter types of a function definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prototype {
    /// Canonical return type.
    pub result: String,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Whether `...` follows.
    pub variadic: bool,
    /// Records passed or returned by value.
    pub by_value: BTreeSet<TypeKey>,
}

impl Layout {
    /// Whether size and members are the same.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.size == other.size
            && self.members.len() == other.members.len()
            && self
                .members
                .iter()
                .zip(&other.members)
                .all(|(a, b)| a.same(b))
    }
}

impl Prototype {
    /// Whether both have the same types, whatever their parameters are called.
    #[must_use]
    pub fn same_types(&self, other: &Self) -> bool {
        self.result == other.result
            && self.variadic == other.variadic
            && self
                .parameters
                .iter()
                .map(|p| &p.signature)
                .eq(other.parameters.iter().map(|p| &p.signature))
    }

    /// Whether both call their parameters the same, whatever their types are.
    #[must_use]
    pub fn same_names(&self, other: &Self) -> bool {
        let names = self.parameters.iter().map(|p| &p.name);
        names.eq(other.parameters.iter().map(|p| &p.name))
    }
}

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourcePlace {
    /// File, relative to the source tree; absolute outside of it.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column in bytes, from 1; 0 where the compiler does not say.
    pub column: u64,
}

/// A function definition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FunctionType {
    /// Function.
    pub function: FunctionName,
    /// Entry.
    pub entry: Address,
    /// Whether other files can call it.
    pub external: bool,
    /// Where the source has its name, or the macro that makes it.
    pub declared: Option<SourcePlace>,
    /// Its prototype.
    pub prototype: Prototype,
}

/// A C type that can be spelt without any of the program's headers: what comes
/// before and after the declared name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainType {
    /// Text before the name.
    pub before: String,
    /// Text after the name.
    pub after: String,
}

/// A global or function-local static variable.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Variable {
    /// Name in the source.
    pub name: String,
    /// Function that it is local to.
    pub function: Option<String>,
    /// Source file of the definition.
    pub file: String,
    /// Whether other files can refer to it.
    pub external: bool,
    /// Place in memory.
    pub address: Address,
    /// Size in bytes, where the type is complete.
    pub size: Option<u64>,
    /// Canonical type.
    pub signature: String,
    /// Records that it holds by value.
    pub embeds: BTreeSet<TypeKey>,
    /// Plain C spelling of the type, if it has one.
    pub plain: Option<PlainType>,
}

/// Types, prototypes and variables of one program.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Types {
    /// Source files of the compilation units, relative to the source tree.
    pub files: BTreeSet<String>,
    /// Function definitions.
    pub functions: Vec<FunctionType>,
    /// Variables with a fixed address.
    pub variables: Vec<Variable>,
    /// Records. One definition has several layouts only where units were
    /// compiled under different macros.
    #[serde(skip)]
    pub records: BTreeMap<TypeKey, BTreeSet<Layout>>,
    /// Enumerators with their values; anonymous enums of one file are one entry.
    #[serde(skip)]
    pub enums: BTreeMap<TypeKey, BTreeMap<String, i64>>,
    /// What typedefs stand for, canonically; those that name an anonymous record
    /// or enum are definitions of their own.
    #[serde(skip)]
    pub typedefs: BTreeMap<TypeKey, BTreeSet<String>>,
}

/// What a walk over a process's memory needs to know of its program.
#[derive(Clone, Debug, Default)]
pub struct MemoryTypes {
    /// Types and variables.
    pub graph: graph::TypeGraph,
    /// Functions with their variables, by ascending address.
    pub frames: Vec<locals::FrameVariables>,
}

impl MemoryTypes {
    /// Reads the debug information of a program.
    ///
    /// # Errors
    /// When the file cannot be read or its debug information is damaged.
    pub fn read(path: &Path) -> Result<Self, BinaryError> {
        let bytes = std::fs::read(path).map_err(|source| BinaryError::Read {
            path: path.to_owned(),
            source,
        })?;
        let elf = object::File::parse(bytes.as_slice()).map_err(|source| BinaryError::Format {
            path: path.to_owned(),
            source,
        })?;
        let sections = sections(path, &elf)?;
        let dwarf = sections.borrow(|data| EndianSlice::new(data, LittleEndian));
        Self::collect(&dwarf).map_err(|source| BinaryError::Dwarf {
            path: path.to_owned(),
            source,
        })
    }

    fn collect(dwarf: &gimli::Dwarf<Bytes<'_>>) -> gimli::Result<Self> {
        let mut headers = Vec::new();
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            headers.push(header);
        }
        let units = headers
            .into_par_iter()
            .map(|header| {
                let unit = dwarf.unit(header)?;
                let types = UnitTypes::read(unit.unit_ref(dwarf))?;
                Ok((unit, types))
            })
            .collect::<gimli::Result<Vec<_>>>()?;
        let mut collector = collect::Collector::default();
        let mut frames = Vec::new();
        for (unit, types) in &units {
            let file = signature::unit_file(unit.unit_ref(dwarf));
            let mut known = collector.unit(types, &file);
            collector.records(types, &mut known);
            frames.extend(locals::read(unit.unit_ref(dwarf), types, &known)?);
        }
        frames.sort_by_key(|function| function.range.start);
        Ok(Self {
            graph: collector.finish(),
            frames,
        })
    }
}

type Sections<'a> = gimli::DwarfSections<std::borrow::Cow<'a, [u8]>>;

fn sections<'a>(path: &Path, elf: &object::File<'a>) -> Result<Sections<'a>, BinaryError> {
    gimli::DwarfSections::load(|id| match elf.section_by_name(id.name()) {
        Some(section) => section
            .uncompressed_data()
            .map_err(|source| BinaryError::Format {
                path: path.to_owned(),
                source,
            }),
        None => Ok(std::borrow::Cow::Borrowed(&[][..])),
    })
}

impl Types {
    /// Reads the debug information of a program.
    ///
    /// # Errors
    /// [`BinaryError::NoDebug`] without any, [`BinaryError::Dwarf`] where it is
    /// damaged.
    pub(super) fn read(path: &Path, elf: &object::File<'_>) -> Result<Self, BinaryError> {
        let damaged = |source| BinaryError::Dwarf {
            path: path.to_owned(),
            source,
        };
        let sections = sections(path, elf)?;
        let dwarf = sections.borrow(|data| EndianSlice::new(data, LittleEndian));
        let mut headers = Vec::new();
        let mut units = dwarf.units();
        while let Some(header) = units.next().map_err(damaged)? {
            headers.push(header);
        }
        if headers.is_empty() {
            return Err(BinaryError::NoDebug {
                path: path.to_owned(),
            });
        }
        let parts = headers
            .into_par_iter()
            .map(|header| signature::read_unit(&dwarf, header))
            .collect::<Result<Vec<_>, _>>()
            .map_err(damaged)?;
        let mut all = Self::default();
        for part in parts {
            all.absorb(part);
        }
        all.functions.sort_by_key(|f| f.entry);
        all.variables.sort_by_key(|v| v.address);
        Ok(all)
    }

    fn absorb(&mut self, part: Self) {
        self.files.extend(part.files);
        self.functions.extend(part.functions);
        self.variables.extend(part.variables);
        for (key, layouts) in part.records {
            self.records.entry(key).or_default().extend(layouts);
        }
        for (key, enumerators) in part.enums {
            self.enums.entry(key).or_default().extend(enumerators);
        }
        for (key, meanings) in part.typedefs {
            self.typedefs.entry(key).or_default().extend(meanings);
        }
    }

    /// The function definition whose entry is `entry`.
    #[must_use]
    pub fn function_at(&self, entry: Address) -> Option<&FunctionType> {
        let at = self
            .functions
            .binary_search_by_key(&entry, |f| f.entry)
            .ok()?;
        self.functions.get(at)
    }

    /// The variable that starts at `address`.
    #[must_use]
    pub fn variable_at(&self, address: Address) -> Option<&Variable> {
        let at = self
            .variables
            .binary_search_by_key(&address, |v| v.address)
            .ok()?;
        self.variables.get(at)
    }
}
