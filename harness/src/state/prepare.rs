//! From the debug information of both versions to a plan: which types lead to
//! changed records, how those are converted, and what is not known. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::convert::Conversion;
use super::gaps::Gap;
use super::header::declarations;
use super::identifier;
use super::pairing::Pairing;
use super::plan::{Count, FrameRoot, FrameRoots, Manner, Part, Plan, Record, Root, Tail, Walked};
use super::resolve::Named;
use super::rules::Rules;
use super::unknown::{deleted, renumbered};
use crate::binary::Address;
use crate::binary::dwarf::graph::{Shape, TypeGraph, TypeId, TypedVariable};
use crate::binary::dwarf::{MemoryTypes, TypeKey};
use crate::change::Changes;

/// What is known of live state before anything runs.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// What to find and convert; none where no record changed.
    pub plan: Option<Plan>,
    /// Conversions of variables that change type, by their old address.
    pub variables: BTreeMap<Address, Conversion>,
    /// What a person must write.
    pub gaps: Vec<Gap>,
    /// Both versions of changed records as C, for transformers.
    pub header: String,
}

/// Prepares what an update does to live state. `common` are the changed records
/// that both builds lay out alike, `carried` the places of variables that move and take
/// their value along.
#[must_use]
pub fn prepare(
    old: &MemoryTypes,
    new: &MemoryTypes,
    changes: &Changes,
    rules: &Rules,
    common: &BTreeSet<TypeKey>,
    carried: &BTreeSet<Address>,
) -> Prepared {
    let changed: Vec<TypeKey> = changes.records.iter().map(|r| r.key.clone()).collect();
    let mut preparation = Preparation {
        common,
        old: &old.graph,
        named: Named::new(&old.graph, rules),
        pairing: Pairing {
            old: &old.graph,
            new: &new.graph,
            changed: &changed,
            initialised: false,
            gaps: BTreeSet::new(),
        },
        reaching: BTreeSet::new(),
        numbers: HashMap::new(),
        plan: Plan {
            records: changes
                .records
                .iter()
                .map(|record| Record {
                    name: record.name.clone(),
                    identifier: identifier(&record.name),
                    table: None,
                })
                .collect(),
            data: extent(&old.graph),
            ..Plan::default()
        },
    };
    let variables = preparation.variables(&new.graph, carried);
    let mut gaps = preparation.named.gaps.clone();
    let plan = (!changed.is_empty()).then(|| {
        preparation.find_reaching();
        preparation.roots();
        preparation.frames(&old.frames);
        preparation.unknown_parts(&mut gaps);
        preparation.plan.clone()
    });
    let header = plan.as_ref().map_or_else(String::new, |plan| {
        declarations(&old.graph, &new.graph, &plan.records, &changed)
    });
    gaps.extend(preparation.pairing.gaps);
    gaps.extend(deleted(changes));
    gaps.extend(renumbered(changes));
    gaps.sort();
    gaps.dedup();
    Prepared {
        plan,
        variables,
        gaps,
        header,
    }
}

/// Where the program's variables lie.
fn extent(graph: &TypeGraph) -> std::ops::Range<u64> {
    let start = graph.variables.first().map_or(0, |first| first.address.0);
    let ends = graph
        .variables
        .iter()
        .map(|variable| variable.address.0 + graph.size(variable.of));
    start..ends.max().unwrap_or(0)
}

pub(super) struct Preparation<'a> {
    /// Records that both builds lay out alike.
    common: &'a BTreeSet<TypeKey>,
    pub(super) old: &'a TypeGraph,
    pub(super) named: Named<'a>,
    pairing: Pairing<'a>,
    /// Types from which changed records can be reached.
    pub(super) reaching: BTreeSet<TypeId>,
    /// Numbers of types in the plan.
    pub(super) numbers: HashMap<TypeId, usize>,
    plan: Plan,
}

impl Preparation<'_> {
    /// Conversions of variables that both versions have, where their types differ.
    fn variables(
        &mut self,
        new: &TypeGraph,
        carried: &BTreeSet<Address>,
    ) -> BTreeMap<Address, Conversion> {
        let mut by_name: HashMap<&str, Vec<&TypedVariable>> = HashMap::new();
        for variable in &new.variables {
            by_name.entry(&variable.name).or_default().push(variable);
        }
        self.pairing.initialised = true;
        let mut found = BTreeMap::new();
        let moves = |v: &&TypedVariable| carried.contains(&v.address);
        for variable in self.old.variables.iter().filter(moves) {
            let same = by_name.get(variable.name.as_str()).map(Vec::as_slice);
            let of = match same.unwrap_or_default() {
                [only] => &only.of,
                // Of a name that several files define, the same file's is meant.
                several => match several.iter().find(|v| v.file == variable.file) {
                    Some(found) => &found.of,
                    None => continue,
                },
            };
            if self.old.size(variable.of) > 0 && new.size(*of) > 0 {
                let conversion = self.pairing.conversion(variable.of, *of, &variable.name);
                found.insert(variable.address, conversion);
            }
        }
        self.pairing.initialised = false;
        found
    }

    /// Whether a value of the type holds a changed record.
    fn holds_changed(&self, id: TypeId, depth: u32) -> bool {
        if self.pairing.changed(id).is_some() {
            return true;
        }
        depth < 64
            && match self.old.get(id).map(|of| &of.shape) {
                Some(Shape::Array { element, .. }) => self.holds_changed(*element, depth + 1),
                Some(Shape::Record { fields, .. }) => fields
                    .iter()
                    .any(|field| self.holds_changed(field.of, depth + 1)),
                _ => false,
            }
    }

    /// Whether all changed records that a value of the type holds are laid out alike by
    /// both builds.
    fn lies_alike(&self, id: TypeId, depth: u32) -> bool {
        if depth >= 64 {
            return false;
        }
        if self.pairing.changed(id).is_some() {
            let key = self.old.key(id);
            return key.is_some_and(|key| self.common.contains(key));
        }
        match self.old.get(id).map(|of| &of.shape) {
            Some(Shape::Array { element, .. }) => self.lies_alike(*element, depth + 1),
            Some(Shape::Record { fields, .. }) => fields
                .iter()
                .all(|field| self.lies_alike(field.of, depth + 1)),
            _ => true,
        }
    }

    /// Types that a type leads to.
    fn leads_to(&self, id: TypeId) -> Vec<TypeId> {
        match self.old.get(id).map(|of| &of.shape) {
            Some(Shape::Pointer(Some(target))) => vec![*target],
            Some(Shape::Array { element, .. }) => vec![*element],
            Some(Shape::Record { fields, .. }) => {
                let casts = fields
                    .iter()
                    .filter_map(|field| self.named.cast(Some(id), &field.name));
                fields.iter().map(|field| field.of).chain(casts).collect()
            }
            _ => Vec::new(),
        }
    }

    fn find_reaching(&mut self) {
        let mut backward: HashMap<TypeId, Vec<TypeId>> = HashMap::new();
        for id in 0..self.old.types.len() {
            for to in self.leads_to(id) {
                backward.entry(to).or_default().push(id);
            }
        }
        let mut open: Vec<TypeId> = (0..self.old.types.len())
            .filter(|id| self.pairing.changed(*id).is_some())
            .collect();
        while let Some(id) = open.pop() {
            if self.reaching.insert(id) {
                open.extend(backward.get(&id).into_iter().flatten());
            }
        }
    }

    /// The number of a type in the plan, which is made if need be.
    fn number(&mut self, id: TypeId) -> usize {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        let number = self.plan.types.len();
        self.numbers.insert(id, number);
        self.plan.types.push(Walked {
            name: self.old.readable(id),
            size: self.old.size(id),
            alignment: self.old.alignment(id),
            conversion: None,
            parts: Vec::new(),
            tail: self.tail(id),
        });
        let mut parts = Vec::new();
        match self.old.get(id).map(|of| of.shape.clone()) {
            Some(Shape::Pointer(_)) => {
                let count = Count::Fixed(1);
                parts.extend(self.part(id, None, 0, count));
            }
            Some(Shape::Array { element, count }) => {
                let count = Count::Fixed(count.unwrap_or(0));
                parts.extend(self.part(element, None, 0, count));
            }
            Some(Shape::Record { fields, union, .. }) => {
                for field in &fields {
                    let when = self.named.condition(id, &field.name);
                    if union && when.is_none() {
                        continue;
                    }
                    let count = self.named.count(Some(id), &field.name);
                    let cast = self.named.cast(Some(id), &field.name);
                    let length = count.clone().unwrap_or(Count::Fixed(1));
                    let part = match cast {
                        Some(to) => Some(self.pointer(to, field.offset, length)),
                        None => self.member(field.of, field.offset, count),
                    };
                    parts.extend(part.map(|part| Part { when, ..part }));
                }
            }
            _ => {}
        }
        self.plan.types[number].parts = parts;
        if self.holds_changed(id, 0) {
            self.plan.types[number].conversion = self.conversion(id);
        }
        number
    }

    /// The length of the flexible array that a record ends in, if a rule names it.
    fn tail(&self, id: TypeId) -> Option<Tail> {
        let field = self.old.fields(id).last()?;
        match self.old.get(field.of).map(|of| &of.shape)? {
            Shape::Array {
                element,
                count: None,
            } => Some(Tail {
                offset: field.offset,
                stride: self.old.size(*element),
                count: self.named.count(Some(id), &field.name)?,
            }),
            _ => None,
        }
    }

    /// A member at `offset`: if it is a pointer or a flexible array, of `count`
    /// elements.
    fn member(&mut self, of: TypeId, offset: u64, count: Option<Count>) -> Option<Part> {
        if !self.reaching.contains(&of) {
            return None;
        }
        match self.old.get(of).map(|of| of.shape.clone()) {
            Some(Shape::Array {
                element,
                count: None,
            }) => self.part(
                element,
                Some(element),
                offset,
                count.unwrap_or(Count::Fixed(0)),
            ),
            _ => self.part(of, Some(of), offset, count.unwrap_or(Count::Fixed(1))),
        }
    }

    fn pointer(&mut self, to: TypeId, offset: u64, count: Count) -> Part {
        Part {
            offset,
            pointer: true,
            of: self.number(to),
            count,
            when: None,
        }
    }

    /// A part of type `of`: a pointer leads away, everything else lies there. With
    /// `whole` it is a member, whose count is that of what it points to.
    fn part(
        &mut self,
        of: TypeId,
        whole: Option<TypeId>,
        offset: u64,
        count: Count,
    ) -> Option<Part> {
        if !self.reaching.contains(&of) {
            return None;
        }
        match self.old.get(of).map(|of| of.shape.clone()) {
            Some(Shape::Pointer(target)) => {
                let single = count == Count::Fixed(1);
                if whole.is_some() || single {
                    return Some(self.pointer(target?, offset, count));
                }
                // An array of pointers.
                Some(Part {
                    offset,
                    pointer: false,
                    of: self.number(of),
                    count,
                    when: None,
                })
            }
            _ => Some(Part {
                offset,
                pointer: false,
                of: self.number(of),
                count,
                when: None,
            }),
        }
    }

    fn conversion(&mut self, id: TypeId) -> Option<usize> {
        let counterpart = self.counterpart(id)?;
        let name = self.old.readable(id);
        let mut conversion = self.pairing.conversion(id, counterpart, &name);
        if self.lies_alike(id, 0) {
            conversion.manner = Manner::Common;
        }
        self.plan.conversions.push(conversion);
        Some(self.plan.conversions.len() - 1)
    }

    /// The new version's type of an old one that holds changed records.
    fn counterpart(&self, id: TypeId) -> Option<TypeId> {
        let new = self.pairing.new;
        if let Some(key) = self.old.key(id) {
            let exact = new.records(key).next();
            let by_name = || {
                let mut same = (0..new.types.len()).filter(|other| {
                    new.key(*other)
                        .is_some_and(|other| other.tag == key.tag && other.name == key.name)
                });
                same.next().filter(|_| same.next().is_none())
            };
            return exact.or_else(by_name);
        }
        let spelt = self.old.spell(id);
        (0..new.types.len()).find(|other| new.spell(*other) == spelt)
    }

    fn roots(&mut self) {
        for variable in &self.old.variables {
            let count = self.named.count(None, &variable.name);
            let cast = self.named.cast(None, &variable.name);
            let pointer = matches!(
                self.old.get(variable.of).map(|of| &of.shape),
                Some(Shape::Pointer(_))
            );
            if !self.reaching.contains(&variable.of) && cast.is_none() {
                continue;
            }
            // A pointer whose length is named is a type of its own.
            let of = match (cast, pointer, count) {
                (None, true, None) | (None, false, _) => self.number(variable.of),
                (cast, _, count) => {
                    let Some(to) = cast.or_else(|| self.leads_to(variable.of).first().copied())
                    else {
                        continue;
                    };
                    let part = self.pointer(to, 0, count.unwrap_or(Count::Fixed(1)));
                    self.plan.types.push(Walked {
                        name: self.old.readable(variable.of),
                        size: 8,
                        alignment: 8,
                        conversion: None,
                        parts: vec![part],
                        tail: None,
                    });
                    self.plan.types.len() - 1
                }
            };
            self.plan.roots.push(Root {
                name: variable.name.clone(),
                address: variable.address,
                of,
                count: 1,
            });
        }
    }

    fn frames(&mut self, functions: &[crate::binary::dwarf::locals::FrameVariables]) {
        for function in functions {
            let mut roots = Vec::new();
            for local in &function.locals {
                if self.reaching.contains(&local.of) {
                    roots.push(FrameRoot {
                        name: local.name.clone(),
                        of: self.number(local.of),
                        count: 1,
                        places: local.places.clone(),
                    });
                }
            }
            if !roots.is_empty() {
                self.plan.frames.push(FrameRoots {
                    function: function.function.clone(),
                    range: function.range.clone(),
                    base: function.base.clone(),
                    roots,
                });
            }
        }
    }
}
