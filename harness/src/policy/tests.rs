//! Policies on one small program: `main` loops over `serve`, which calls
//! `parse` and `reply`; `legacy` is deleted, `reply` has a new prototype.

use super::*;
use crate::patch::{Deleted, FunctionName, Patch, Reason as PatchReason, Redirect};

const MAIN: u64 = 0x1000;
const SERVE: u64 = 0x1100;
const PARSE: u64 = 0x1200;
const REPLY: u64 = 0x1300;
const LEGACY: u64 = 0x1400;
const LIBRARY: u64 = 0x7fff_0000;
const SIZE: u64 = 0x100;

fn name(name: &str) -> FunctionName {
    FunctionName {
        name: name.to_owned(),
        file: "server.c".to_owned(),
    }
}

fn table() -> FunctionTable {
    let functions = [
        ("legacy", LEGACY),
        ("main", MAIN),
        ("serve", SERVE),
        ("parse", PARSE),
        ("reply", REPLY),
    ];
    FunctionTable::new(functions.map(|(function, start)| FunctionRange {
        function: name(function),
        start: Address(start),
        size: SIZE,
    }))
}

fn patch() -> Patch {
    let redirect = |function, old, prototype_changed, reason| Redirect {
        function: name(function),
        old: Address(old),
        old_size: SIZE,
        new: Address(0x4000_0000),
        new_size: SIZE,
        reason,
        prototype_changed,
    };
    Patch {
        pair: "tiny-1-2".to_owned(),
        image: Vec::new(),
        redirects: vec![
            redirect("reply", REPLY, true, PatchReason::ObjectCode),
            redirect("parse", PARSE, false, PatchReason::RefersToMoved),
        ],
        deleted: vec![Deleted {
            function: name("legacy"),
            old: Address(LEGACY),
            old_size: SIZE,
        }],
        added: Vec::new(),
        data: Vec::new(),
        imports: Vec::new(),
        transformer: None,
        transformer_imports: Vec::new(),
        changed_types: Vec::new(),
        changed_prototypes: vec!["reply".to_owned()],
        warnings: Vec::new(),
    }
}

fn stack(frames: &[u64]) -> Stack {
    Stack {
        frames: frames.iter().map(|pc| Frame(Address(*pc))).collect(),
        complete: true,
    }
}

fn manual() -> Vec<ManualPoint> {
    vec![ManualPoint {
        role: "server".to_owned(),
        caller: "main".to_owned(),
        entry: "serve".to_owned(),
    }]
}

fn decide_with(entered: Option<u64>, stacks: &[&Stack], role: &str) -> Decisions {
    let (table, manual) = (table(), manual());
    Evaluator::new(&patch(), &table, &manual).decide(role, entered.map(Address), stacks)
}

fn kind(decisions: &Decisions, column: &str) -> Option<(ReasonKind, String, u32)> {
    match &decisions[column] {
        Decision::Allowed => None,
        Decision::Refused(reason) => Some((reason.kind, reason.function.clone(), reason.frame)),
    }
}

fn enter(frames: &[u64]) -> Decisions {
    decide_with(Some(frames[0]), &[&stack(frames)], "server")
}

#[test]
fn the_loop_head_is_allowed_by_all() {
    let decisions = enter(&[SERVE, MAIN + 0x20, LIBRARY]);
    assert_eq!(kind(&decisions, "activeness"), None);
    assert_eq!(kind(&decisions, "manual"), None);
}

#[test]
fn entering_a_redirected_function_does_not_count_as_active() {
    let decisions = enter(&[PARSE, SERVE + 0x20, MAIN + 0x20]);
    assert_eq!(kind(&decisions, "activeness"), None);
}

#[test]
fn entering_counts_with_a_changed_prototype_or_when_deleted() {
    let decisions = enter(&[REPLY, SERVE + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::EnteredPrototypeChanged, "reply".into(), 0))
    );
    let decisions = enter(&[LEGACY, SERVE + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::EnteredDeleted, "legacy".into(), 0))
    );
}

#[test]
fn a_changed_caller_refuses_and_is_named() {
    let decisions = enter(&[SERVE, LIBRARY, PARSE + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::ChangedOnStack, "parse".into(), 2))
    );
}

#[test]
fn a_return_address_behind_a_functions_end_belongs_to_it() {
    let decisions = enter(&[SERVE, PARSE + SIZE, MAIN + 0x20]);
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::ChangedOnStack, "parse".into(), 1))
    );
    let decisions = enter(&[SERVE, PARSE, MAIN + 0x20]);
    assert_eq!(kind(&decisions, "activeness"), None);
}

#[test]
fn recursion_into_a_redirected_function_still_refuses() {
    let decisions = enter(&[PARSE, PARSE + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::ChangedOnStack, "parse".into(), 1))
    );
}

#[test]
fn every_thread_in_scope_counts_from_its_first_frame() {
    let entering = stack(&[SERVE, MAIN + 0x20]);
    let other = stack(&[LEGACY, MAIN + 0x30]);
    let decisions = decide_with(Some(SERVE), &[&entering, &other], "server");
    assert_eq!(
        kind(&decisions, "activeness"),
        Some((ReasonKind::DeletedOnStack, "legacy".into(), 0))
    );
}

#[test]
fn an_incomplete_stack_refuses_all_but_any() {
    let mut cut = stack(&[SERVE, MAIN + 0x20]);
    cut.complete = false;
    let decisions = decide_with(Some(SERVE), &[&cut], "server");
    for column in columns() {
        assert_eq!(
            kind(&decisions, column),
            Some((ReasonKind::IncompleteStack, "main".into(), 1)),
            "{column}"
        );
    }
    let (table, manual) = (table(), manual());
    let view = PointView {
        changed: &ChangedRanges::of(&patch()),
        manual: &manual,
        functions: &table,
        role: "server",
        entered: Some(Address(SERVE)),
        stacks: &[],
    };
    assert!(ANY.decide(&view).is_allowed());
    assert!(!REGISTRY[0].decide(&view).is_allowed());
}

#[test]
fn manual_needs_role_entry_and_the_loop_as_immediate_caller() {
    let head = stack(&[SERVE, MAIN + 0x20]);
    let other_role = decide_with(Some(SERVE), &[&head], "resolver");
    assert_eq!(
        kind(&other_role, "manual").map(|refusal| refusal.0),
        Some(ReasonKind::NoManualPointForRole)
    );
    let through_library = enter(&[SERVE, LIBRARY, MAIN + 0x20]);
    assert_eq!(
        kind(&through_library, "manual"),
        Some((ReasonKind::NotManualLoop, String::new(), 1))
    );
    let elsewhere = enter(&[PARSE, MAIN + 0x20]);
    assert_eq!(
        kind(&elsewhere, "manual"),
        Some((ReasonKind::NotManualEntry, "parse".into(), 0))
    );
}

#[test]
fn a_wait_enters_nothing_so_its_first_frame_is_active() {
    let waiting = stack(&[LIBRARY, MAIN + 0x20]);
    let decisions = decide_with(None, &[&waiting], "server");
    assert_eq!(kind(&decisions, "activeness"), None);
    assert!(!decisions["manual"].is_allowed());
}
