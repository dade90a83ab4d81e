//! Collects the types of a program's units into one graph, each once.

use std::collections::{BTreeSet, HashMap};

use gimli::constants as c;

use super::graph::{Field, Scalar, Shape, Type, TypeGraph, TypeId, TypedVariable};
use super::signature::UnitTypes;
use super::{Layout, TypeKey};
use crate::binary::Address;

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
