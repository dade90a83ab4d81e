//! Policies that ask what old code can still use or run.

use super::*;

/// `serve` uses a changed type after it called `parse` but not after it called
/// `reply`; nothing is known of `tidy`; the rest of `parse` differs after one call.
fn patch_with_uses() -> Patch {
    use crate::confree::{Finder, FunctionUses, Use, UseKind, UseTable};
    use crate::patch::Rest;
    let listed = |unknown: Option<&str>, sites: &[(u64, u32)]| FunctionUses {
        size: SIZE,
        unknown: unknown.map(str::to_owned),
        uses: if unknown.is_some() {
            Vec::new()
        } else {
            vec![0]
        },
        sites: sites.iter().map(|(at, set)| (Address(*at), *set)).collect(),
    };
    let uses = UseTable {
        uses: vec![Use {
            kind: UseKind::Member,
            name: "struct client".to_owned(),
            member: Some("count".to_owned()),
            file: "server.c".to_owned(),
            line: 12,
            by_member: false,
            finder: Finder::Syntax,
        }],
        sets: vec![vec![], vec![0]],
        functions: BTreeMap::from([
            (
                Address(SERVE),
                listed(None, &[(SERVE + 0x20, 1), (SERVE + 0x40, 0)]),
            ),
            (Address(TIDY), listed(Some("server.c was not parsed"), &[])),
        ]),
        ..UseTable::default()
    };
    Patch {
        uses: Some(uses),
        rests: BTreeMap::from([
            (Address(PARSE + 0x20), Rest::Same),
            (Address(PARSE + 0x40), Rest::Differs { line: 7 }),
        ]),
        ..patch()
    }
}

fn decide_uses(patch: &Patch, entered: Option<u64>, frames: &[u64]) -> Decisions {
    let (table, manual) = (table(), manual());
    let stack = stack(frames);
    Evaluator::new(patch, &table, &manual, None).decide(
        "server",
        entered.map(Address),
        &[&stack],
        None,
    )
}

#[test]
fn con_freeness_asks_what_can_follow_the_return_address() {
    let patch = patch_with_uses();
    let over = decide_uses(&patch, Some(MAIN), &[MAIN, SERVE + 0x40, MAIN + 0x20]);
    assert_eq!(kind(&over, "con_free"), None);
    let ahead = decide_uses(&patch, Some(MAIN), &[MAIN, SERVE + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&ahead, "con_free"),
        Some((ReasonKind::UsesChangedType, "serve".into(), 1))
    );
    let Decision::Refused(reason) = &ahead["con_free"] else {
        panic!("allowed");
    };
    assert!(
        reason
            .text
            .contains("`count` of struct client (server.c:12)"),
        "{}",
        reason.text
    );
    // The member itself did not change.
    assert_eq!(kind(&ahead, "con_free_field"), None);
    // A return address that is not known has all the function's uses.
    let elsewhere = decide_uses(&patch, Some(MAIN), &[MAIN, SERVE + 0x60, MAIN + 0x20]);
    assert!(!elsewhere["con_free"].is_allowed());
    // So has a thread that stands in the middle of the function.
    let inside = decide_uses(&patch, None, &[SERVE + 0x40, MAIN + 0x20]);
    assert!(!inside["con_free"].is_allowed());
}

#[test]
fn con_freeness_refuses_what_is_not_known_and_what_was_not_recorded() {
    let patch = patch_with_uses();
    let unknown = decide_uses(&patch, Some(MAIN), &[MAIN, TIDY + 0x20, MAIN + 0x20]);
    for column in ["con_free", "con_free_field"] {
        assert_eq!(
            kind(&unknown, column),
            Some((ReasonKind::UsesUnknown, "tidy".into(), 1))
        );
    }
    let unrecorded = Patch {
        uses: None,
        ..patch.clone()
    };
    let decisions = decide_uses(&unrecorded, Some(SERVE), &[SERVE, MAIN + 0x20]);
    assert!(!decisions["con_free"].is_allowed());
    // The one rule for the function being entered.
    for entered in [REPLY, LEGACY] {
        let decisions = decide_uses(&patch, Some(entered), &[entered, MAIN + 0x20]);
        assert!(!decisions["con_free"].is_allowed());
        assert!(!decisions["activeness_rest"].is_allowed());
    }
}

#[test]
fn the_rest_of_an_active_changed_function_decides() {
    let patch = patch_with_uses();
    let same = decide_uses(&patch, Some(SERVE), &[SERVE, PARSE + 0x20, MAIN + 0x20]);
    assert!(!same["activeness"].is_allowed());
    assert!(same["activeness_rest"].is_allowed());
    for site in [0x40, 0x60] {
        let other = decide_uses(&patch, Some(SERVE), &[SERVE, PARSE + site, MAIN + 0x20]);
        assert_eq!(
            kind(&other, "activeness_rest"),
            Some((ReasonKind::RestDiffers, "parse".into(), 1))
        );
    }
    let deleted = decide_uses(&patch, Some(SERVE), &[SERVE, LEGACY + 0x20, MAIN + 0x20]);
    assert!(!deleted["activeness_rest"].is_allowed());
}
