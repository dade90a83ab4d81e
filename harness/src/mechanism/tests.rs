//! Plans for records made up for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{LayoutPlan, Outcome, plan};
use super::{Layout as Setting, Mismatch, check};
use crate::binary::dwarf::{Layout, Member, TypeKey, Types};
use crate::change::Changes;
use crate::mechanism::place::{Shape, place};
use crate::rewrite::Item;
use crate::state::Rules;

fn key(name: &str) -> TypeKey {
    TypeKey {
        tag: "struct".to_owned(),
        name: name.to_owned(),
        file: "a.h".to_owned(),
    }
}

fn member(name: &str, signature: &str, size: u64, align: u64) -> Member {
    Member {
        name: name.to_owned(),
        offset: 0,
        bit_offset: None,
        bit_size: None,
        size,
        align,
        signature: signature.to_owned(),
        inner: Vec::new(),
    }
}

fn int(name: &str) -> Member {
    member(name, "int/4", 4, 4)
}

fn pointer(name: &str) -> Member {
    member(name, "char/1*", 8, 8)
}

/// Types with these records, each laid out as C does.
fn types(records: &[(&str, Vec<Member>)]) -> Types {
    let mut types = Types::default();
    for (name, members) in records {
        let shapes: Vec<Shape> = members.iter().map(Shape::of).collect();
        let placed = place(&shapes, false, 1);
        let mut members = members.clone();
        for (member, bit) in members.iter_mut().zip(&placed.bits) {
            member.offset = bit / 8;
            member.bit_offset = member.bit_size.map(|_| *bit);
        }
        let held = |other: &&str| {
            let spelt = format!("struct {other}");
            members.iter().any(|member| {
                member.signature == spelt || member.signature.starts_with(&format!("{spelt}["))
            })
        };
        let embeds: BTreeSet<TypeKey> = records
            .iter()
            .map(|(other, _)| *other)
            .filter(held)
            .map(key)
            .collect();
        let layout = Layout {
            size: placed.size,
            align: placed.align,
            is_union: false,
            members,
            embeds,
        };
        types.records.insert(key(name), BTreeSet::from([layout]));
    }
    types
}

fn planned(setting: Setting, old: &Types, new: &Types) -> LayoutPlan {
    plan(
        setting,
        &Changes::between(old, new),
        old,
        new,
        &Rules::default(),
        &BTreeMap::new(),
    )
}

/// Name and first byte of each member in the new version's rewritten build.
fn new_places(plan: &LayoutPlan, name: &str) -> Vec<(String, u64)> {
    let record = plan.records.iter().find(|r| r.old.name == name).unwrap();
    let members = record.new_members.iter();
    members.map(|m| (m.name.clone(), m.bit / 8)).collect()
}

fn places(list: &[(&str, u64)]) -> Vec<(String, u64)> {
    list.iter().map(|(n, at)| ((*n).to_owned(), *at)).collect()
}

#[test]
fn shared_members_stay_and_others_go_behind_the_old_size() {
    let old = types(&[("x", vec![int("gone"), pointer("kept"), int("last")])]);
    let new = types(&[(
        "x",
        vec![pointer("added"), int("last"), pointer("kept"), int("more")],
    )]);
    let plan = planned(Setting::Common, &old, &new);
    assert_eq!(plan.records[0].outcome, Outcome::Common);
    assert_eq!(plan.records[0].size, 40);
    let expected = [("kept", 8), ("last", 16), ("added", 24), ("more", 32)];
    assert_eq!(new_places(&plan, "x"), places(&expected));
    let gap = |at, bits| Item::Gap { at, bits };
    // The bytes of `gone`; alignment alone takes `added` behind the old tail padding.
    assert_eq!(
        plan.new.records[0].items,
        [
            gap(0, 64),
            Item::Member(2),
            Item::Member(1),
            Item::Member(0),
            Item::Member(3)
        ]
    );
    assert_eq!(
        plan.old.records[0].items,
        [
            Item::Member(0),
            Item::Member(1),
            Item::Member(2),
            gap(160, 160)
        ]
    );
}

#[test]
fn a_member_of_another_type_or_width_is_another_member() {
    let bits = |width| Member {
        bit_size: Some(width),
        ..int("flags")
    };
    let old = types(&[("x", vec![bits(3), int("number"), int("same")])]);
    let new = types(&[("x", vec![bits(4), pointer("number"), int("same")])]);
    let plan = planned(Setting::Common, &old, &new);
    let expected = [("same", 8), ("flags", 12), ("number", 16)];
    assert_eq!(new_places(&plan, "x"), places(&expected));
    assert_eq!(plan.records[0].size, 24);
}

#[test]
fn what_holds_a_record_that_grows_moves_in_both_versions_alike() {
    let holder = |size: u64| {
        let array = member("many", "struct x[2]", 2 * size, 4);
        vec![int("before"), array, int("after")]
    };
    let old = types(&[("x", vec![int("a")]), ("holder", holder(4))]);
    let new = types(&[("x", vec![int("b"), int("a")]), ("holder", holder(8))]);
    let plan = planned(Setting::Common, &old, &new);
    let expected = [("before", 0), ("many", 4), ("after", 20)];
    assert_eq!(new_places(&plan, "holder"), places(&expected));
    // The holder's own declaration says nothing else than before.
    let rewritten: Vec<&str> = plan
        .new
        .records
        .iter()
        .map(|r| r.key.name.as_str())
        .collect();
    assert_eq!(rewritten, ["x"]);
    let room = planned(Setting::Room, &old, &new);
    assert_eq!(new_places(&room, "x"), places(&[("b", 0), ("a", 4)]));
    assert!(room.new.is_empty(), "the larger version needs no room");
    assert_eq!(room.old.records.len(), 1);
}

#[test]
fn what_cannot_share_says_why_and_so_does_what_holds_it() {
    let open = |members: &[&str]| {
        let mut members: Vec<Member> = members.iter().map(|name| int(name)).collect();
        members.push(member("rest", "char/1[]", 1, 1));
        members
    };
    let holder = |size: u64| vec![member("inner", "struct open", size, 4)];
    let old = types(&[("open", open(&["a"])), ("holder", holder(4))]);
    let new = types(&[("open", open(&["b", "a"])), ("holder", holder(8))]);
    let plan = planned(Setting::Common, &old, &new);
    let why: Vec<String> = plan
        .records
        .iter()
        .map(|record| match &record.outcome {
            Outcome::Own(why) => format!("{}: {why}", record.name),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(
        why,
        [
            "struct holder: it holds open, which keeps two layouts",
            "struct open: it ends in a flexible array, behind which nothing can lie"
        ]
    );
    assert!(plan.old.is_empty() && plan.new.is_empty() && plan.shared().is_empty());
}

#[test]
fn a_build_that_is_not_as_planned_is_named() {
    let old = types(&[("x", vec![int("a"), int("b")])]);
    let new = types(&[("x", vec![int("b"), int("a")])]);
    let plan = planned(Setting::Common, &old, &new);
    // In the rewritten build the new version has the old order.
    assert_eq!(check::check(&plan, &old, &old), Ok(()));
    let wrong = check::check(&plan, &old, &new).unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "struct x: its members in the rewritten new version are not the planned ones"
    );
    let moved = types(&[("x", vec![int("a"), member("b", "int/4", 4, 8)])]);
    assert!(matches!(
        check::check(&plan, &moved, &old),
        Err(Mismatch::Size { found: 16, .. })
    ));
}
