//! From the names in a manifest's rules to members and variables of the old version.

use std::collections::HashMap;

use super::gaps::Gap;
use super::plan::{Condition, Count, Value};
use super::rules::{Length, Operand, Rules};
use crate::binary::dwarf::graph::{Scalar, Shape, TypeGraph, TypeId};

/// A member of a record (by the record and its name), or a variable.
type Owner = (Option<TypeId>, String);

/// The rules by what they are about.
pub(super) struct Named<'a> {
    arrays: HashMap<Owner, Count>,
    casts: HashMap<Owner, TypeId>,
    conditions: HashMap<Owner, Condition>,
    /// Rules that name nothing.
    pub(super) gaps: Vec<Gap>,
    graph: &'a TypeGraph,
}

impl<'a> Named<'a> {
    pub(super) fn new(graph: &'a TypeGraph, rules: &Rules) -> Self {
        let mut named = Self {
            arrays: HashMap::new(),
            casts: HashMap::new(),
            conditions: HashMap::new(),
            gaps: Vec::new(),
            graph,
        };
        for rule in &rules.arrays {
            for owner in named.owners(&rule.of, rule.optional) {
                match named.length(owner.0, &rule.length) {
                    Ok(count) => _ = named.arrays.insert(owner, count),
                    Err(name) => named.unknown(&rule.of, &name),
                }
            }
        }
        for rule in &rules.casts {
            let Some(to) = named.record(&rule.to).first().copied() else {
                named.unknown(&rule.of, &rule.to);
                continue;
            };
            for owner in named.owners(&rule.of, rule.optional) {
                named.casts.insert(owner, to);
            }
        }
        for rule in &rules.unions {
            for owner in named.owners(&rule.of, rule.optional) {
                let Some(value) = named.discriminator(&rule.of, &rule.when) else {
                    named.unknown(&rule.of, &rule.when);
                    continue;
                };
                let is = rule.is.clone();
                named.conditions.insert(owner, Condition { value, is });
            }
        }
        named
    }

    fn unknown(&mut self, of: &str, name: &str) {
        self.gaps.push(Gap::new(
            "unknown-name",
            of,
            format!("a rule about {of} names {name}, which the old version does not have"),
            "correct the manifest".to_owned(),
        ));
    }

    pub(super) fn cast(&self, record: Option<TypeId>, name: &str) -> Option<TypeId> {
        self.casts.get(&(record, name.to_owned())).copied()
    }

    pub(super) fn count(&self, record: Option<TypeId>, name: &str) -> Option<Count> {
        self.arrays.get(&(record, name.to_owned())).cloned()
    }

    pub(super) fn condition(&self, record: TypeId, name: &str) -> Option<Condition> {
        self.conditions
            .get(&(Some(record), name.to_owned()))
            .cloned()
    }

    /// Records of that name; several where units saw it differently.
    fn record(&self, name: &str) -> Vec<TypeId> {
        let named = |id: &TypeId| {
            self.graph.key(*id).is_some_and(|key| {
                if key.tag == "typedef" {
                    key.name == name
                } else {
                    format!("{} {}", key.tag, key.name) == name
                }
            })
        };
        (0..self.graph.types.len()).filter(named).collect()
    }

    /// What a rule is about: the last member of a path from a record, or a variable.
    fn owners(&mut self, path: &str, optional: bool) -> Vec<Owner> {
        if let Some((record, members)) = path.split_once('.') {
            let mut owners = Vec::new();
            for id in self.record(record) {
                let (holder, last) = match members.rsplit_once('.') {
                    Some((before, last)) => (self.inner(id, before).map(|(id, _)| id), last),
                    None => (Some(id), members),
                };
                let holder = holder.and_then(|holder| self.holder(holder, last));
                owners.extend(holder.map(|holder| (Some(holder), last.to_owned())));
            }
            if !owners.is_empty() {
                return owners;
            }
        }
        if self.graph.variables.iter().any(|v| v.name == path) {
            return vec![(None, path.to_owned())];
        }
        if !optional {
            self.unknown(path, path);
        }
        Vec::new()
    }

    /// The record, or nameless record in it, that has the member itself.
    fn holder(&self, id: TypeId, member: &str) -> Option<TypeId> {
        let fields = self.graph.fields(id);
        if fields.iter().any(|field| field.name == member) {
            return Some(id);
        }
        fields
            .iter()
            .filter(|field| field.name.is_empty())
            .find_map(|field| self.holder(field.of, member))
    }

    /// Type and first bit of the member that a path leads to.
    fn inner(&self, id: TypeId, path: &str) -> Option<(TypeId, u64)> {
        let mut at = (id, 0);
        for name in path.split('.') {
            at = self.step(at.0, name).map(|(of, bit, _)| (of, at.1 + bit))?;
        }
        Some(at)
    }

    /// Type, first bit and number of bits of a member, also in nameless records.
    fn step(&self, id: TypeId, name: &str) -> Option<(TypeId, u64, u64)> {
        for field in self.graph.fields(id) {
            let size = 8 * self.graph.size(field.of);
            let (at, size) = field.bits.unwrap_or((8 * field.offset, size));
            if field.name == name {
                return Some((field.of, at, size));
            }
            if field.name.is_empty()
                && let Some((of, inner, size)) = self.step(field.of, name)
            {
                return Some((of, at + inner, size));
            }
        }
        None
    }

    /// A member of the record as a number.
    fn member(&self, id: TypeId, path: &str) -> Option<Value> {
        let (holder, before, last) = match path.rsplit_once('.') {
            Some((path, last)) => {
                let (holder, at) = self.inner(id, path)?;
                (holder, at, last)
            }
            None => (id, 0, path),
        };
        let (of, at, size) = self.step(holder, last)?;
        let signed = matches!(
            self.graph.get(of).map(|of| &of.shape),
            Some(Shape::Scalar {
                kind: Scalar::Signed,
                ..
            })
        );
        (size <= 64).then_some(Value::Bits {
            at: (before + at).cast_signed(),
            size,
            signed,
        })
    }

    fn variable(&self, name: &str) -> Option<Value> {
        let variable = self.graph.variables.iter().find(|v| v.name == name);
        if let Some(variable) = variable {
            return Some(Value::Variable {
                at: variable.address,
                size: self.graph.size(variable.of).min(8),
            });
        }
        let (name, path) = name.split_once('.')?;
        let variable = self.graph.variables.iter().find(|v| v.name == name)?;
        match self.member(variable.of, path)? {
            Value::Bits { at, size, .. } if at % 8 == 0 && size % 8 == 0 => Some(Value::Variable {
                at: variable.address.plus(at.cast_unsigned() / 8),
                size: size / 8,
            }),
            _ => None,
        }
    }

    /// # Errors
    /// The name that nothing has.
    fn length(&self, record: Option<TypeId>, length: &Length) -> Result<Count, String> {
        let Length::Computed(terms) = length else {
            return Ok(Count::Null);
        };
        let mut computed = Vec::new();
        for (operator, operand) in terms {
            let value = match operand {
                Operand::Number(number) => Value::Number(*number),
                Operand::Name(name) => record
                    .and_then(|record| self.member(record, name))
                    .or_else(|| self.variable(name))
                    .ok_or_else(|| name.clone())?,
            };
            computed.push((*operator, value));
        }
        Ok(Count::Computed(computed))
    }

    /// What tells whether a union's member holds: a member of the record that the
    /// union lies in, seen from the union.
    fn discriminator(&self, of: &str, when: &str) -> Option<Value> {
        let (record, path) = of.split_once('.')?;
        let id = self.record(record).first().copied()?;
        let union_at = match path.rsplit_once('.') {
            Some((union, _)) => self.inner(id, union)?.1,
            None => self.nameless_union(id, path)?,
        };
        match self.member(id, when)? {
            Value::Bits { at, size, signed } => Some(Value::Bits {
                at: at.wrapping_sub_unsigned(union_at),
                size,
                signed,
            }),
            other => Some(other),
        }
    }

    /// Where the nameless union that has the member begins, in bits.
    fn nameless_union(&self, id: TypeId, member: &str) -> Option<u64> {
        let fields = self.graph.fields(id);
        if fields.iter().any(|field| field.name == member) {
            return Some(0);
        }
        fields
            .iter()
            .filter(|field| field.name.is_empty())
            .find_map(|field| Some(8 * field.offset + self.nameless_union(field.of, member)?))
    }
}
