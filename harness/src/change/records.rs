//! Changed records: deleted, of another size or member list, or embedding a
//! changed record by value.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{by_name, display};
use crate::binary::dwarf::{Layout, Member, TypeKey, Types};

/// A record of the old version that differs in the new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRecord {
    /// Its definition in the old version.
    pub key: TypeKey,
    /// Its name for people.
    pub name: String,
    /// In what way it changed.
    pub how: HowRecord,
    /// Whether it, or a record that it embeds, has another size.
    pub resized: bool,
    /// Members that went, or whose offset, size or type differs; a member that
    /// holds a resized record is among them. Every member if the record is gone.
    pub members: BTreeSet<String>,
    /// Layout in the old version.
    pub old: Option<Layout>,
    /// Layout in the new version.
    pub new: Option<Layout>,
}

impl ChangedRecord {
    /// Whether the member went or differs, or is not known: one of a nameless
    /// record inside, say.
    #[must_use]
    pub fn changes_member(&self, name: &str) -> bool {
        let known = |layout: &Layout| layout.members.iter().any(|member| member.name == name);
        self.members.contains(name) || !self.old.as_ref().is_some_and(known)
    }
}

/// In what way a record changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HowRecord {
    /// The new version has none of that name.
    Deleted,
    /// Its own size or members differ.
    Layout,
    /// It holds these changed records by value.
    Embeds(BTreeSet<TypeKey>),
}

type Layouts = BTreeSet<Layout>;

/// Whether both definitions have the same layouts. What is embedded is compared
/// on its own, and a declaring file that moved is no change.
fn same(one: &Layouts, other: &Layouts) -> bool {
    let covers = |a: &Layouts, b: &Layouts| a.iter().all(|x| b.iter().any(|y| x.same(y)));
    covers(one, other) && covers(other, one)
}

/// What became of a definition: an equal one, a different one, or none.
enum Successor<'a> {
    Equal(&'a Layouts),
    Different(&'a Layouts),
    None,
}

fn successor<'a>(
    key: &TypeKey,
    layouts: &Layouts,
    alone: bool,
    others: Option<&BTreeMap<&TypeKey, &'a Layouts>>,
) -> Successor<'a> {
    let Some(others) = others else {
        return Successor::None;
    };
    let counterpart = match others.get(key) {
        Some(other) => Some(*other),
        None if alone && others.len() == 1 => others.values().next().copied(),
        None => None,
    };
    match counterpart {
        Some(other) if same(layouts, other) => Successor::Equal(other),
        Some(other) => Successor::Different(other),
        // The declaring file is gone: any equal definition will do.
        None => match others.values().find(|other| same(layouts, other)) {
            Some(other) => Successor::Equal(other),
            None => others
                .values()
                .next()
                .map_or(Successor::None, |other| Successor::Different(other)),
        },
    }
}

/// Changed records of the old version, by definition.
pub(super) fn changed(old: &Types, new: &Types) -> Vec<ChangedRecord> {
    let new_named = by_name(&new.records);
    let mut found: BTreeMap<TypeKey, ChangedRecord> = BTreeMap::new();
    let mut successors: BTreeMap<&TypeKey, &Layouts> = BTreeMap::new();
    for ((tag, name), definitions) in by_name(&old.records) {
        let alone = definitions.len() == 1;
        let others = new_named.get(&(tag, name));
        for (key, layouts) in definitions {
            let (how, other) = match successor(key, layouts, alone, others) {
                Successor::Equal(other) => {
                    successors.insert(key, other);
                    continue;
                }
                Successor::Different(other) => (HowRecord::Layout, Some(other)),
                Successor::None => (HowRecord::Deleted, None),
            };
            found.insert(
                key.clone(),
                ChangedRecord {
                    key: key.clone(),
                    name: display(key, &old.records),
                    how,
                    resized: other.is_none_or(|other| sizes(layouts) != sizes(other)),
                    members: differing_members(layouts, other),
                    old: layouts.first().cloned(),
                    new: other.and_then(|other| other.first().cloned()),
                },
            );
        }
    }
    embed(old, &successors, &mut found);
    found.into_values().collect()
}

fn sizes(layouts: &Layouts) -> BTreeSet<u64> {
    layouts.iter().map(|layout| layout.size).collect()
}

fn differing_members(old: &Layouts, new: Option<&Layouts>) -> BTreeSet<String> {
    let same = |member: &Member| {
        new.is_some_and(|new| {
            new.iter()
                .all(|layout| layout.members.iter().any(|other| other.same(member)))
        })
    };
    old.iter()
        .flat_map(|layout| &layout.members)
        .filter(|member| !same(member))
        .flat_map(names)
        .collect()
}

/// The name by which source text refers to a member: those of its inner ones if
/// it has none.
pub(super) fn names(member: &Member) -> Vec<String> {
    if member.name.is_empty() {
        member.inner.iter().flat_map(names).collect()
    } else {
        vec![member.name.clone()]
    }
}

/// Adds the records that embed a changed one, to a fixpoint, and follows changes
/// of size outwards.
fn embed(
    old: &Types,
    successors: &BTreeMap<&TypeKey, &Layouts>,
    found: &mut BTreeMap<TypeKey, ChangedRecord>,
) {
    loop {
        let mut grew = false;
        for (key, layouts) in &old.records {
            let embeds: BTreeSet<TypeKey> = layouts
                .iter()
                .flat_map(|layout| &layout.embeds)
                .filter(|inner| *inner != key && found.contains_key(*inner))
                .cloned()
                .collect();
            if embeds.is_empty() {
                continue;
            }
            let resized = embeds
                .iter()
                .any(|inner| found.get(inner).is_some_and(|record| record.resized));
            let record = found.entry(key.clone()).or_insert_with(|| {
                grew = true;
                ChangedRecord {
                    key: key.clone(),
                    name: display(key, &old.records),
                    how: HowRecord::Embeds(embeds.clone()),
                    resized: false,
                    members: BTreeSet::new(),
                    old: layouts.first().cloned(),
                    new: successors.get(key).and_then(|other| other.first().cloned()),
                }
            });
            if resized {
                let holders: BTreeSet<String> = layouts
                    .iter()
                    .flat_map(|layout| &layout.members)
                    .filter(|member| holds_any(member, &embeds))
                    .flat_map(names)
                    .collect();
                if !record.resized || !holders.is_subset(&record.members) {
                    grew = true;
                    record.resized = true;
                    record.members.extend(holders);
                }
            }
        }
        if !grew {
            return;
        }
    }
}

/// Whether a member holds one of these records by value, by its spelling.
fn holds_any(member: &Member, records: &BTreeSet<TypeKey>) -> bool {
    records.iter().any(|key| {
        let spelt = format!("{} {}", key.tag, key.name);
        let own = member
            .signature
            .strip_prefix(spelt.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('[') && !rest.contains('*'));
        own || member
            .inner
            .iter()
            .any(|inner| holds_any(inner, &BTreeSet::from([key.clone()])))
    })
}
