//! From the debug information of both versions to a plan: which types lead to
//! changed records, how those are converted, and what is not known. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::convert::Conversion;
use super::gaps::Gap;
use super::header::declarations;
use super::identifier;
use super::pairing::Pairing;
use super::plan::{Manner, Plan, Record};
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
/// that both builds lay out alike, `converted` the places of variables that move and take
/// their value along, or get another initial value.
#[must_use]
pub fn prepare(
    old: &MemoryTypes,
    new: &MemoryTypes,
    changes: &Changes,
    rules: &Rules,
    common: &BTreeSet<TypeKey>,
    converted: &BTreeSet<Address>,
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
            rules,
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
    let variables = preparation.variables(&new.graph, converted);
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
    pub(super) pairing: Pairing<'a>,
    /// Types from which changed records can be reached.
    pub(super) reaching: BTreeSet<TypeId>,
    /// Numbers of types in the plan.
    pub(super) numbers: HashMap<TypeId, usize>,
    pub(super) plan: Plan,
}

impl Preparation<'_> {
    /// Conversions of variables that both versions have.
    fn variables(
        &mut self,
        new: &TypeGraph,
        converted: &BTreeSet<Address>,
    ) -> BTreeMap<Address, Conversion> {
        let mut by_name: HashMap<&str, Vec<&TypedVariable>> = HashMap::new();
        for variable in &new.variables {
            by_name.entry(&variable.name).or_default().push(variable);
        }
        self.pairing.initialised = true;
        let mut found = BTreeMap::new();
        let wanted = |v: &&TypedVariable| converted.contains(&v.address);
        for variable in self.old.variables.iter().filter(wanted) {
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
                let mut conversion = self.pairing.conversion(variable.of, *of, &variable.name);
                if self.holds_changed(variable.of, 0) && self.lies_alike(variable.of, 0) {
                    conversion.manner = Manner::Common;
                }
                found.insert(variable.address, conversion);
            }
        }
        self.pairing.initialised = false;
        found
    }

    /// Whether a value of the type holds a changed record.
    pub(super) fn holds_changed(&self, id: TypeId, depth: u32) -> bool {
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
    pub(super) fn lies_alike(&self, id: TypeId, depth: u32) -> bool {
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
    pub(super) fn leads_to(&self, id: TypeId) -> Vec<TypeId> {
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
}
