//! The types of a program as a graph that can be walked over memory: members with
//! their offsets, targets of pointers, and the types of variables.

use std::collections::{BTreeSet, HashMap};

use gimli::constants as c;
use serde::{Deserialize, Serialize};

use super::signature::UnitTypes;
use super::{Layout, TypeKey};
use crate::binary::Address;

/// Number of a type in its [`TypeGraph`].
pub type TypeId = usize;

/// How the bits of a scalar are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scalar {
    /// A signed integer, or an enum.
    Signed,
    /// An unsigned integer, or a truth value.
    Unsigned,
    /// Anything else: a floating-point number, say.
    Other,
}

/// One member of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Name; empty for a nameless record.
    pub name: String,
    /// Offset in bytes; of a bit-field, that of its first bit's byte.
    pub offset: u64,
    /// Offset from the start of the record and size, both in bits, of a bit-field.
    pub bits: Option<(u64, u64)>,
    /// Its type.
    pub of: TypeId,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// A number, an enum.
    Scalar {
        /// How its bits are read.
        kind: Scalar,
        /// Its name in C.
        name: String,
    },
    /// A pointer; to nothing in particular if there is no target.
    Pointer(Option<TypeId>),
    /// A function.
    Code {
        /// Its canonical type.
        signature: String,
    },
    /// An array; without a number of elements if it is flexible.
    Array {
        /// Type of the elements.
        element: TypeId,
        /// Number of elements.
        count: Option<u64>,
    },
    /// A struct or union.
    Record {
        /// Its definition, if it has a name.
        key: Option<TypeKey>,
        /// Whether its members share their place.
        union: bool,
        /// Its members in order.
        fields: Vec<Field>,
    },
    /// A record that no unit defines.
    Unknown {
        /// Its spelling.
        name: String,
    },
}

/// One type: its size in bytes and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Type {
    /// Size in bytes; 0 where it is not known.
    pub size: u64,
    /// What it is made of.
    pub shape: Shape,
}

/// A variable with a fixed address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TypedVariable {
    /// Its name; `function.name` where it is local to a function.
    pub name: String,
    /// Source file.
    pub file: String,
    /// Where it lies.
    pub address: Address,
    /// Its type.
    pub of: TypeId,
}

/// Types and variables of one program, or the part of them that matters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TypeGraph {
    /// The types.
    pub types: Vec<Type>,
    /// Variables, by ascending address.
    pub variables: Vec<TypedVariable>,
}

impl TypeGraph {
    /// The type of that number.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id)
    }

    /// Size in bytes; 0 where it is not known.
    #[must_use]
    pub fn size(&self, id: TypeId) -> u64 {
        self.get(id).map_or(0, |of| of.size)
    }

    /// Members, if it is a record.
    #[must_use]
    pub fn fields(&self, id: TypeId) -> &[Field] {
        match self.get(id).map(|of| &of.shape) {
            Some(Shape::Record { fields, .. }) => fields,
            _ => &[],
        }
    }

    /// The definition of a named record.
    #[must_use]
    pub fn key(&self, id: TypeId) -> Option<&TypeKey> {
        match &self.get(id)?.shape {
            Shape::Record { key, .. } => key.as_ref(),
            _ => None,
        }
    }

    /// All records of that definition: several where units saw it differently.
    pub fn records<'a>(&'a self, key: &'a TypeKey) -> impl Iterator<Item = TypeId> + 'a {
        (0..self.types.len()).filter(move |id| self.key(*id) == Some(key))
    }

    /// What every instance must be aligned to, in bytes. Records that are packed
    /// are aligned to less than their members would be.
    #[must_use]
    pub fn alignment(&self, id: TypeId) -> u64 {
        let natural = self.natural_alignment(id, 0).max(1);
        let size = self.size(id);
        let fits = |by: u64| size.is_multiple_of(by) && self.places_fit(id, by);
        let mut by = natural;
        while by > 1 && !fits(by) {
            by /= 2;
        }
        by
    }

    fn natural_alignment(&self, id: TypeId, depth: u32) -> u64 {
        if depth > 32 {
            return 1;
        }
        match self.get(id).map(|of| (&of.shape, of.size)) {
            Some((Shape::Scalar { .. } | Shape::Pointer(_), size)) => size.min(16),
            Some((Shape::Array { element, .. }, _)) => self.natural_alignment(*element, depth + 1),
            Some((Shape::Record { fields, .. }, _)) => fields
                .iter()
                .map(|field| self.natural_alignment(field.of, depth + 1))
                .max()
                .unwrap_or(1),
            _ => 1,
        }
    }

    fn places_fit(&self, id: TypeId, by: u64) -> bool {
        self.fields(id).iter().all(|field| {
            let needed = self.natural_alignment(field.of, 0).min(by).max(1);
            field.bits.is_some() || field.offset.is_multiple_of(needed)
        })
    }

    /// Canonical spelling: records by their names, so that it ends.
    #[must_use]
    pub fn spell(&self, id: TypeId) -> String {
        let Some(of) = self.get(id) else {
            return "?".to_owned();
        };
        match &of.shape {
            Shape::Scalar { name, .. } => format!("{name}/{}", of.size),
            Shape::Pointer(None) => "void*".to_owned(),
            Shape::Pointer(Some(target)) => format!("{}*", self.spell(*target)),
            Shape::Code { signature } => signature.clone(),
            Shape::Array { element, count } => match count {
                Some(count) => format!("{}[{count}]", self.spell(*element)),
                None => format!("{}[]", self.spell(*element)),
            },
            Shape::Record { key: Some(key), .. } => format!("{} {}", key.tag, key.name),
            Shape::Record { fields, union, .. } => {
                let tag = if *union { "union" } else { "struct" };
                let members: Vec<String> = fields
                    .iter()
                    .map(|f| format!("{} {}@{}", self.spell(f.of), f.name, f.offset))
                    .collect();
                format!("{tag}{{{}}}/{}", members.join(";"), of.size)
            }
            Shape::Unknown { name } => name.clone(),
        }
    }

    /// For people: as [`Self::spell`], without sizes and without the word that
    /// tells a typedef apart.
    #[must_use]
    pub fn readable(&self, id: TypeId) -> String {
        crate::change::layout::readable(&self.spell(id)).replace("typedef ", "")
    }
}

/// Collects the types of unit after unit, each once.
#[derive(Default)]
pub(super) struct Collector {
    graph: TypeGraph,
    named: HashMap<(TypeKey, Layout), TypeId>,
    others: HashMap<Type, TypeId>,
    declared: HashMap<String, TypeId>,
}

impl Collector {
    /// Adds a unit; returns the number of each of its types that a variable has,
    /// by the place of its entry.
    pub(super) fn unit(&mut self, unit: &UnitTypes, file: &str) -> HashMap<usize, TypeId> {
        let mut known = HashMap::new();
        for (index, entry) in unit.entries.list.iter().enumerate() {
            if !matches!(entry.tag, c::DW_TAG_variable | c::DW_TAG_formal_parameter) {
                continue;
            }
            let Some(type_index) = unit.entries.type_of(index) else {
                continue;
            };
            let of = self.take(unit, type_index, &mut known);
            if let (Some(of), Some(address)) = (of, entry.address) {
                let name = unit.entries.name_of(index).unwrap_or_default();
                let name = match unit.enclosing_function(index) {
                    Some(function) => format!("{function}.{name}"),
                    None => name.to_owned(),
                };
                self.graph.variables.push(TypedVariable {
                    name,
                    file: file.to_owned(),
                    address: Address(address),
                    of,
                });
            }
        }
        known
    }

    /// Every record of the unit, whether a variable has it or not.
    pub(super) fn records(&mut self, unit: &UnitTypes, known: &mut HashMap<usize, TypeId>) {
        for (index, entry) in unit.entries.list.iter().enumerate() {
            let record = matches!(entry.tag, c::DW_TAG_structure_type | c::DW_TAG_union_type);
            if record && !entry.declaration {
                self.take(unit, index, known);
            }
        }
    }

    fn push(&mut self, of: Type) -> TypeId {
        self.graph.types.push(of);
        self.graph.types.len() - 1
    }

    fn intern(&mut self, of: Type) -> TypeId {
        if let Some(known) = self.others.get(&of) {
            return *known;
        }
        let id = self.push(of.clone());
        self.others.insert(of, id);
        id
    }

    /// `None` is `void`.
    fn take(
        &mut self,
        unit: &UnitTypes,
        index: usize,
        known: &mut HashMap<usize, TypeId>,
    ) -> Option<TypeId> {
        let index = unit.strip(index)?;
        if let Some(id) = known.get(&index) {
            return Some(*id);
        }
        let entry = unit.entries.list.get(index)?;
        let size = unit.size(index).unwrap_or(0);
        let id = match entry.tag {
            c::DW_TAG_base_type | c::DW_TAG_enumeration_type => {
                self.intern(scalar(unit, index, size))
            }
            c::DW_TAG_pointer_type => {
                let target = unit.entries.type_of(index);
                let target = target.and_then(|target| self.take(unit, target, known));
                self.intern(Type {
                    size,
                    shape: Shape::Pointer(target),
                })
            }
            c::DW_TAG_array_type => {
                let element = unit.entries.type_of(index)?;
                let element = self.take(unit, element, known)?;
                self.array(unit, index, element)
            }
            c::DW_TAG_structure_type | c::DW_TAG_union_type => {
                return Some(self.record(unit, index, known));
            }
            c::DW_TAG_subroutine_type => self.intern(Type {
                size: 1,
                shape: Shape::Code {
                    signature: unit.spelling(index),
                },
            }),
            _ => self.intern(Type {
                size,
                shape: Shape::Unknown {
                    name: unit.spelling(index),
                },
            }),
        };
        known.insert(index, id);
        Some(id)
    }

    fn array(&mut self, unit: &UnitTypes, index: usize, element: TypeId) -> TypeId {
        let mut of = element;
        let children = unit.entries.list[index].children.iter().rev();
        for child in children.map(|child| &unit.entries.list[*child]) {
            if child.tag == c::DW_TAG_subrange_type {
                let size = self.graph.size(of).wrapping_mul(child.count.unwrap_or(0));
                of = self.intern(Type {
                    size,
                    shape: Shape::Array {
                        element: of,
                        // `[0]` at the end of a record is what `[]` was written as.
                        count: child.count.filter(|count| *count > 0),
                    },
                });
            }
        }
        of
    }

    fn record(
        &mut self,
        unit: &UnitTypes,
        index: usize,
        known: &mut HashMap<usize, TypeId>,
    ) -> TypeId {
        let entry = &unit.entries.list[index];
        let key = unit.key(index);
        if entry.declaration {
            let name = unit.spelling(index);
            if let Some(id) = self.declared.get(&name) {
                return *id;
            }
            let shape = Shape::Unknown { name: name.clone() };
            let id = self.push(Type { size: 0, shape });
            self.declared.insert(name, id);
            return id;
        }
        let named = key.clone().map(|key| (key, unit.layout(index)));
        if let Some(id) = named.as_ref().and_then(|named| self.named.get(named)) {
            known.insert(index, *id);
            return *id;
        }
        let union = entry.tag == c::DW_TAG_union_type;
        let size = entry.byte_size.unwrap_or(0);
        let id = self.push(Type {
            size,
            shape: Shape::Record {
                key: key.clone(),
                union,
                fields: Vec::new(),
            },
        });
        known.insert(index, id);
        if let Some(named) = named {
            self.named.insert(named, id);
        }
        let mut fields = Vec::new();
        for child in &entry.children {
            let member = &unit.entries.list[*child];
            let of = unit.entries.type_of(*child);
            let of = of.and_then(|of| self.take(unit, of, known));
            if let (c::DW_TAG_member, Some(of)) = (member.tag, of) {
                let at = member.member_offset.unwrap_or(0);
                let bits = member
                    .bit_size
                    .map(|size| (member.bit_offset.unwrap_or(8 * at), size));
                fields.push(Field {
                    name: member.name.clone().unwrap_or_default(),
                    offset: bits.map_or(at, |(bit, _)| bit / 8),
                    bits,
                    of,
                });
            }
        }
        let shape = Shape::Record { key, union, fields };
        self.graph.types[id] = Type { size, shape };
        id
    }

    /// All that was collected; a declaration becomes the one definition of its name.
    pub(super) fn finish(mut self) -> TypeGraph {
        let mut definitions: HashMap<String, BTreeSet<TypeId>> = HashMap::new();
        for id in 0..self.graph.types.len() {
            if self.graph.key(id).is_some() {
                definitions
                    .entry(self.graph.spell(id))
                    .or_default()
                    .insert(id);
            }
        }
        let target = |declared: TypeId, name: &str| {
            let found = definitions.get(name).filter(|found| found.len() == 1);
            found.and_then(BTreeSet::first).copied().unwrap_or(declared)
        };
        let resolved: HashMap<TypeId, TypeId> = self
            .declared
            .iter()
            .map(|(name, id)| (*id, target(*id, name)))
            .collect();
        for of in &mut self.graph.types {
            if let Shape::Pointer(Some(to)) = &mut of.shape
                && let Some(definition) = resolved.get(to)
            {
                *to = *definition;
            }
        }
        self.graph.variables.sort_by_key(|v| v.address);
        self.graph.variables.dedup_by_key(|v| v.address);
        self.graph
    }
}

fn scalar(unit: &UnitTypes, index: usize, size: u64) -> Type {
    let entry = &unit.entries.list[index];
    let name = match entry.tag {
        c::DW_TAG_enumeration_type => unit.spelling(index),
        _ => entry.name.clone().unwrap_or_default(),
    };
    let kind = match (entry.tag, entry.encoding) {
        (c::DW_TAG_enumeration_type, None) => Scalar::Signed,
        (_, Some(c::DW_ATE_signed | c::DW_ATE_signed_char)) => Scalar::Signed,
        (_, Some(c::DW_ATE_unsigned | c::DW_ATE_unsigned_char | c::DW_ATE_boolean)) => {
            Scalar::Unsigned
        }
        _ => Scalar::Other,
    };
    Type {
        size,
        shape: Shape::Scalar { kind, name },
    }
}
