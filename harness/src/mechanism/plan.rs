//! How both versions' changed records are laid out so that a running program and new
//! code can share instances: pure over the debug information of the own builds.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Layout as Setting;
use super::place::{Placed, Shape, first_bit, is_flexible, place};
use crate::binary::dwarf::{Layout, Member, TypeKey, Types};
use crate::change::{ChangedRecord, Changes};
use crate::rewrite::{Item, Plan, RecordPlan};
use crate::state::Rules;

/// What became of a changed record under a mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// One layout for both versions.
    Common,
    /// One size for both versions; why not one layout, where that was asked for.
    Room(Option<String>),
    /// As in the versions' own builds, and why.
    Own(String),
}

/// Where a member must lie in a rewritten build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Its name; empty for a nameless record.
    pub name: String,
    /// Its first bit.
    pub bit: u64,
}

/// A changed record under a mechanism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLayout {
    /// Its name for people.
    pub name: String,
    /// Its definition in the old version.
    pub old: TypeKey,
    /// Its definition in the new version.
    pub new: Option<TypeKey>,
    /// What became of it.
    pub outcome: Outcome,
    /// Size in bytes in both rewritten builds.
    pub size: u64,
    /// Members of the old version, in the order of their declaration.
    pub old_members: Vec<Expected>,
    /// Members of the new version, in the order of their declaration in the
    /// rewritten build.
    pub new_members: Vec<Expected>,
}

/// The layouts that two versions are built with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutPlan {
    /// Changed records, in order of name.
    pub records: Vec<RecordLayout>,
    /// What becomes of the old version's definitions.
    pub old: Plan,
    /// What becomes of the new version's.
    pub new: Plan,
}

impl LayoutPlan {
    /// Records whose members lie alike in both versions, by the old version's
    /// definition.
    #[must_use]
    pub fn common(&self) -> BTreeSet<TypeKey> {
        let alike = |record: &&RecordLayout| record.outcome == Outcome::Common;
        let records = self.records.iter().filter(alike);
        records.map(|record| record.old.clone()).collect()
    }

    /// Records with one layout in both versions, by the old version's definition.
    #[must_use]
    pub fn shared(&self) -> BTreeSet<TypeKey> {
        let shares = |record: &&RecordLayout| !matches!(record.outcome, Outcome::Own(_));
        let records = self.records.iter().filter(shares);
        records.map(|record| record.old.clone()).collect()
    }
}

/// What the changed records of an update become. `rules` say which members carry on
/// under another name; `refused` are records that must not get a common layout, by their
/// name, and why.
#[must_use]
pub fn plan(
    setting: Setting,
    changes: &Changes,
    old: &Types,
    new: &Types,
    rules: &Rules,
    refused: &BTreeMap<String, String>,
) -> LayoutPlan {
    if setting == Setting::Own {
        return LayoutPlan::default();
    }
    let mut planner = Planner {
        setting,
        changes,
        old,
        new,
        rules,
        refused,
        settled: BTreeMap::new(),
        plan: LayoutPlan::default(),
    };
    for record in &changes.records {
        planner.settle(&record.key);
    }
    planner.plan.records.sort_by(|a, b| a.old.cmp(&b.old));
    planner.plan
}

/// Size and alignment that a record has in both versions; none where they differ.
type Settled = Option<(u64, u64)>;

struct Planner<'a> {
    setting: Setting,
    changes: &'a Changes,
    old: &'a Types,
    new: &'a Types,
    rules: &'a Rules,
    refused: &'a BTreeMap<String, String>,
    settled: BTreeMap<TypeKey, Settled>,
    plan: LayoutPlan,
}

/// One version of a record: its layout, and the shapes that its members get.
struct Side<'a> {
    key: TypeKey,
    layout: &'a Layout,
    shapes: Vec<Shape>,
    /// Whether a record that it holds gets another size.
    resized: bool,
    placed: Placed,
}

impl Planner<'_> {
    fn settle(&mut self, key: &TypeKey) -> Settled {
        if let Some(settled) = self.settled.get(key) {
            return *settled;
        }
        let record = self.changes.record(key)?;
        // Debug information that is damaged might make a record hold itself.
        self.settled.insert(key.clone(), None);
        let settled = match self.lay_out(record) {
            Ok(settled) => Some(settled),
            Err(why) => {
                self.plan.records.push(RecordLayout {
                    name: record.name.clone(),
                    old: key.clone(),
                    new: self.counterpart(key).cloned(),
                    outcome: Outcome::Own(why),
                    size: record.old.as_ref().map_or(0, |layout| layout.size),
                    old_members: Vec::new(),
                    new_members: Vec::new(),
                });
                None
            }
        };
        self.settled.insert(key.clone(), settled);
        settled
    }

    /// The new version's definition of the same tag and name.
    fn counterpart(&self, key: &TypeKey) -> Option<&TypeKey> {
        if let Some((same, _)) = self.new.records.get_key_value(key) {
            return Some(same);
        }
        let named = |other: &&TypeKey| other.tag == key.tag && other.name == key.name;
        let mut found = self.new.records.keys().filter(named);
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// Size and alignment that both versions get, or why they stay as they are.
    fn lay_out(&mut self, record: &ChangedRecord) -> Result<(u64, u64), String> {
        let new_key = match (&record.new, self.counterpart(&record.key)) {
            (None, _) => return Err("the new version has none".to_owned()),
            (_, None) => return Err("the new version defines several of that name".to_owned()),
            (_, Some(key)) => key.clone(),
        };
        let old = self.side(self.old, &record.key)?;
        let new = self.side(self.new, &new_key)?;
        if old.layout.is_union != new.layout.is_union {
            return Err("it is a union in one version only".to_owned());
        }
        let refused = self.refused.get(&record.name).cloned();
        let why = [
            (old.layout.is_union, "it is a union"),
            (old.is_placed_by_hand(), "it is packed or aligned by hand"),
            (new.is_placed_by_hand(), "it is packed or aligned by hand"),
        ]
        .iter()
        .find_map(|(holds, why)| holds.then(|| (*why).to_owned()))
        .or(refused);
        let align = old.align().max(new.align());
        let (outcome, size, old_items, new_items) = match (self.setting, why) {
            (Setting::Common, None) => {
                let (size, new_items) = common(&old, &new, self.rules, align);
                let mut old_items = own_order(&old);
                old_items.extend(gap(old.placed.end, 8 * size, old.end_of(align), 8 * size));
                (Outcome::Common, size, old_items, new_items)
            }
            (setting, why) => {
                let size = old.placed.size.max(new.placed.size).next_multiple_of(align);
                let asked = setting == Setting::Common;
                let outcome = Outcome::Room(why.filter(|_| asked));
                let padded = |side: &Side<'_>| {
                    let mut items = own_order(side);
                    items.extend(side.padding(size, align));
                    items
                };
                (outcome, size, padded(&old), padded(&new))
            }
        };
        for (side, items) in [(&old, &old_items), (&new, &new_items)] {
            let flexible = side.layout.members.last().is_some_and(is_flexible);
            if flexible && items.last() != Some(&Item::Member(side.shapes.len() - 1)) {
                return Err("it ends in a flexible array, behind which nothing can lie".to_owned());
            }
        }
        self.adopt(
            record, &old, &new, outcome, size, align, old_items, new_items,
        );
        Ok((size, align))
    }

    /// One version of the record, with what it holds settled first.
    fn side<'t>(&mut self, types: &'t Types, key: &TypeKey) -> Result<Side<'t>, String> {
        let mut layouts = types.records.get(key).into_iter().flatten();
        let layout = layouts.next().ok_or("it has no definition")?;
        if layouts.next().is_some() {
            return Err("units of one version disagree about its layout".to_owned());
        }
        if key.file.starts_with('/') {
            return Err("it is declared outside of the sources".to_owned());
        }
        let mut shapes = Vec::new();
        let mut resized = false;
        for member in &layout.members {
            let shape = self.shape(member, layout, types)?;
            resized |= shape != Shape::of(member);
            shapes.push(shape);
        }
        let placed = place(&shapes, layout.is_union, layout.align);
        let side = Side {
            key: key.clone(),
            layout,
            shapes,
            resized,
            placed,
        };
        if side.is_placed_by_hand() && side.resized {
            return Err("it is packed or aligned by hand, and what it holds grows".to_owned());
        }
        Ok(side.with_own_places())
    }

    /// The shape that a member gets once the records that it holds are settled.
    fn shape(&mut self, member: &Member, layout: &Layout, types: &Types) -> Result<Shape, String> {
        let own = Shape::of(member);
        if let Some(held) = held(member, &layout.embeds) {
            // Definitions of the new version are settled by the old one's key.
            let Some(changed) = self.changed_key(held) else {
                return Ok(own);
            };
            let Some((size, align)) = self.settle(&changed) else {
                return Err(format!("it holds {}, which keeps two layouts", held.name));
            };
            let single = types
                .records
                .get(held)
                .and_then(|layouts| layouts.first())
                .map_or(0, |layout| layout.size);
            let count = own.size.checked_div(single).unwrap_or(0);
            return Ok(Shape {
                size: size * count,
                align: own.align.max(align),
                bits: None,
            });
        }
        if member.inner.is_empty() {
            return Ok(own);
        }
        // A nameless record, or an array of them.
        let mut shapes = Vec::new();
        for inner in &member.inner {
            shapes.push(self.shape(inner, layout, types)?);
        }
        let before: Vec<Shape> = member.inner.iter().map(Shape::of).collect();
        if shapes == before {
            return Ok(own);
        }
        let is_union = member.signature.starts_with("union");
        let single = place(&before, is_union, 1).size;
        let placed = place(&shapes, is_union, 1);
        Ok(Shape {
            size: placed.size * own.size.checked_div(single).unwrap_or(0),
            align: own.align.max(placed.align),
            bits: None,
        })
    }

    /// The old version's changed record that a definition of either version is.
    fn changed_key(&self, key: &TypeKey) -> Option<TypeKey> {
        if self.changes.record(key).is_some() {
            return Some(key.clone());
        }
        let mut named = self
            .changes
            .records
            .iter()
            .filter(|record| record.key.tag == key.tag && record.key.name == key.name);
        let first = named.next()?;
        (named.next().is_none() && self.counterpart(&first.key) == Some(key))
            .then(|| first.key.clone())
    }

    #[allow(clippy::too_many_arguments)] // both versions of one record
    fn adopt(
        &mut self,
        record: &ChangedRecord,
        old: &Side<'_>,
        new: &Side<'_>,
        outcome: Outcome,
        size: u64,
        align: u64,
        old_items: Vec<Item>,
        new_items: Vec<Item>,
    ) {
        self.plan.records.push(RecordLayout {
            name: record.name.clone(),
            old: old.key.clone(),
            new: Some(new.key.clone()),
            outcome,
            size,
            old_members: expected(old, &old_items),
            new_members: expected(new, &new_items),
        });
        for (side, items, plan) in [
            (old, old_items, &mut self.plan.old),
            (new, new_items, &mut self.plan.new),
        ] {
            let planned = RecordPlan {
                key: side.key.clone(),
                aligned: (align > side.align()).then_some(align),
                items,
            };
            let changes = planned.reorders()
                || planned.aligned.is_some()
                || planned.items.len() > side.layout.members.len();
            if changes {
                plan.records.push(planned);
            }
        }
    }
}

impl Side<'_> {
    /// Whether C would put the members elsewhere.
    fn is_placed_by_hand(&self) -> bool {
        let own: Vec<Shape> = self.layout.members.iter().map(Shape::of).collect();
        let natural = place(&own, self.layout.is_union, self.layout.align);
        let bits: Vec<u64> = self.layout.members.iter().map(first_bit).collect();
        natural.bits != bits || natural.size != self.layout.size
    }

    /// Where it was placed by hand, that is how it stays.
    fn with_own_places(mut self) -> Self {
        if self.is_placed_by_hand() {
            let bits: Vec<u64> = self.layout.members.iter().map(first_bit).collect();
            let ends = bits.iter().zip(&self.shapes).map(|(at, s)| at + s.width());
            self.placed = Placed {
                end: ends.max().unwrap_or(0),
                bits,
                size: self.layout.size,
                align: self.layout.align,
            };
        }
        self
    }

    fn align(&self) -> u64 {
        self.layout.align.max(self.placed.align)
    }

    /// What makes it `size` bytes large without moving a member.
    fn padding(&self, size: u64, align: u64) -> Option<Item> {
        if self.layout.is_union {
            let grows = self.placed.size.next_multiple_of(align) < size;
            return grows.then_some(Item::Bytes(size));
        }
        gap(self.placed.end, 8 * size, self.end_of(align), 8 * size)
    }

    /// The bit behind its tail padding under that alignment.
    fn end_of(&self, align: u64) -> u64 {
        8 * self.placed.size.next_multiple_of(align)
    }
}

/// A gap from `free` to `wanted`, unless C goes from there to `natural == wanted` by
/// itself.
fn gap(free: u64, wanted: u64, natural: u64, end: u64) -> Option<Item> {
    (natural != wanted && free < end).then_some(Item::Gap {
        at: free,
        bits: end - free,
    })
}

fn own_order(side: &Side<'_>) -> Vec<Item> {
    (0..side.shapes.len()).map(Item::Member).collect()
}

/// Size of the common layout, and the new version's pieces.
fn common(old: &Side<'_>, new: &Side<'_>, rules: &Rules, align: u64) -> (u64, Vec<Item>) {
    // Shared members, in the old order, where the old version has them.
    let mut left: Vec<usize> = (0..new.shapes.len()).collect();
    let mut items = Vec::new();
    let mut free = 0;
    for (number, member) in old.layout.members.iter().enumerate() {
        let same = |other: &&usize| {
            let other = &new.layout.members[**other];
            rules.predecessor(&old.key, &other.name) == Some(&member.name)
                && other.signature == member.signature
                && other.bit_size == member.bit_size
        };
        let Some(shared) = left.iter().find(same).copied() else {
            continue;
        };
        left.retain(|other| *other != shared);
        let (shape, at) = (new.shapes[shared], old.placed.bits[number]);
        items.extend(gap(free, at, shape.place(free), at));
        items.push(Item::Member(shared));
        free = at + shape.width();
    }
    // The others behind the old version's size.
    let mut behind = 8 * old.placed.size;
    for (place, number) in left.into_iter().enumerate() {
        let shape = new.shapes[number];
        let at = shape.place(behind);
        if place == 0 {
            items.extend(gap(free, at, shape.place(free), at));
        }
        items.push(Item::Member(number));
        behind = at + shape.width();
        free = behind;
    }
    let size = behind.div_ceil(8).next_multiple_of(align);
    let natural = free.div_ceil(8).next_multiple_of(align) * 8;
    items.extend(gap(free, 8 * size, natural, 8 * size));
    (size, items)
}

/// Where the members lie if they are declared as `items`.
fn expected(side: &Side<'_>, items: &[Item]) -> Vec<Expected> {
    let mut free = 0;
    let mut found = Vec::new();
    for item in items {
        match item {
            Item::Gap { at, bits } => free = at + bits,
            Item::Bytes(_) => {}
            Item::Member(number) => {
                let shape = side.shapes[*number];
                let by_hand = side.is_placed_by_hand() || side.layout.is_union;
                let bit = if by_hand {
                    side.placed.bits[*number]
                } else {
                    shape.place(free)
                };
                free = bit + shape.width();
                found.push(Expected {
                    name: side.layout.members[*number].name.clone(),
                    bit,
                });
            }
        }
    }
    found
}

/// The record that a member holds by value, arrays included.
fn held<'a>(member: &Member, embeds: &'a BTreeSet<TypeKey>) -> Option<&'a TypeKey> {
    embeds.iter().find(|key| {
        let spelt = format!("{} {}", key.tag, key.name);
        member
            .signature
            .strip_prefix(spelt.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('[') && !rest.contains('*'))
    })
}
