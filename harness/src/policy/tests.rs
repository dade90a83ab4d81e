//! Policies on one small program: `main` loops over `serve`, which calls
//! `parse` and `reply`; `legacy` is deleted, `reply` has a new prototype. `parse`
//! changed though nobody edited it; `tidy` was edited, but its code is the same.

mod uses;

use super::*;
use proptest::prelude::*;

use crate::patch::{Deleted, EditedFunction, FunctionName, Patch, Reason as PatchReason, Redirect};

const MAIN: u64 = 0x1000;
const SERVE: u64 = 0x1100;
const PARSE: u64 = 0x1200;
const REPLY: u64 = 0x1300;
const LEGACY: u64 = 0x1400;
const TIDY: u64 = 0x1500;
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
        ("tidy", TIDY),
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
        kept: false,
    };
    Patch {
        pair: "tiny-1-2".to_owned(),
        image: Vec::new(),
        old_code: std::sync::OnceLock::default(),
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
        edited: Some(
            [("reply", REPLY), ("tidy", TIDY)]
                .map(|(function, old)| EditedFunction {
                    function: name(function),
                    old: Address(old),
                    old_size: SIZE,
                })
                .to_vec(),
        ),
        data: Vec::new(),
        imports: Vec::new(),
        transformer: None,
        transformer_imports: Vec::new(),
        changed_types: Vec::new(),
        changed_prototypes: vec!["reply".to_owned()],
        uses: Some(crate::confree::UseTable::default()),
        rests: std::collections::BTreeMap::new(),
        touches: None,
        warnings: Vec::new(),
        state: None,
        gaps: None,
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

/// Decides where the words of the stacks are the functions of their frames.
fn decide_with(entered: Option<u64>, stacks: &[&Stack], role: &str) -> Decisions {
    let words: Vec<Address> = stacks
        .iter()
        .flat_map(|stack| &stack.frames[usize::from(entered.is_some()).min(stack.frames.len())..])
        .filter_map(|frame| entry_of(frame.0))
        .collect();
    decide_in(&patch(), entered, stacks, role, Some(&words), Some(&[]))
}

fn decide_in(
    patch: &Patch,
    entered: Option<u64>,
    stacks: &[&Stack],
    role: &str,
    words: Option<&[Address]>,
    except_named: Option<&[String]>,
) -> Decisions {
    let (table, manual) = (table(), manual());
    Evaluator::new(patch, &table, &manual, except_named).decide(
        role,
        entered.map(Address),
        stacks,
        words,
    )
}

/// Entry of the function that a word points into.
fn entry_of(word: Address) -> Option<Address> {
    table()
        .ranges()
        .iter()
        .find(|range| word.0.wrapping_sub(range.start.0) < range.size)
        .map(|range| range.start)
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
    let evaluator = Evaluator::new(&patch(), &table, &manual, Some(&[]));
    let view = evaluator.view("server", Some(Address(SERVE)), &[], Some(&[]));
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

/// Decides for a complete stack under names that may be active.
fn enter_except(frames: &[u64], names: &[&str]) -> Decisions {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let stack = stack(frames);
    decide_in(
        &patch(),
        Some(frames[0]),
        &[&stack],
        "server",
        Some(&[]),
        Some(&names),
    )
}

#[test]
fn edited_minds_text_and_not_code() {
    let changed_only = enter(&[SERVE, PARSE + 0x20, MAIN + 0x20]);
    assert!(!changed_only["activeness"].is_allowed());
    assert_eq!(kind(&changed_only, "activeness_edited"), None);
    let edited_only = enter(&[SERVE, TIDY + 0x20, MAIN + 0x20]);
    assert_eq!(kind(&edited_only, "activeness"), None);
    assert_eq!(
        kind(&edited_only, "activeness_edited"),
        Some((ReasonKind::EditedOnStack, "tidy".into(), 1))
    );
    let deleted = enter(&[SERVE, LEGACY + 0x20, MAIN + 0x20]);
    assert_eq!(
        kind(&deleted, "activeness_edited"),
        Some((ReasonKind::DeletedOnStack, "legacy".into(), 1))
    );
}

#[test]
fn edited_follows_the_rule_on_the_entered_function() {
    let refused = |frames: &[u64]| kind(&enter(frames), "activeness_edited");
    assert_eq!(refused(&[PARSE, MAIN + 0x20]), None, "redirected");
    assert_eq!(
        refused(&[REPLY, MAIN + 0x20]),
        Some((ReasonKind::EnteredPrototypeChanged, "reply".into(), 0))
    );
    assert_eq!(
        refused(&[TIDY, MAIN + 0x20]),
        Some((ReasonKind::EnteredNotRedirected, "tidy".into(), 0))
    );
}

#[test]
fn conservative_takes_every_word_for_a_return_address() {
    let head = stack(&[SERVE, MAIN + 0x20]);
    let decide = |words: &[u64]| {
        let words: Vec<Address> = words.iter().copied().map(Address).collect();
        let decisions = decide_in(
            &patch(),
            Some(SERVE),
            &[&head],
            "server",
            Some(&words),
            Some(&[]),
        );
        assert_eq!(kind(&decisions, "activeness"), None);
        kind(&decisions, "activeness_conservative")
    };
    assert_eq!(decide(&[MAIN, SERVE, TIDY]), None);
    assert_eq!(
        decide(&[MAIN, PARSE]),
        Some((ReasonKind::WordIntoChanged, "parse".into(), 0))
    );
    assert_eq!(
        decide(&[LEGACY, MAIN]),
        Some((ReasonKind::WordIntoDeleted, "legacy".into(), 0))
    );
}

#[test]
fn conservative_refuses_active_functions_even_if_no_word_points_into_them() {
    // A return address behind a function whose last instruction is a call.
    let stack = stack(&[SERVE, PARSE + SIZE, MAIN + 0x20]);
    let decisions = decide_in(
        &patch(),
        Some(SERVE),
        &[&stack],
        "server",
        Some(&[]),
        Some(&[]),
    );
    assert_eq!(
        kind(&decisions, "activeness_conservative"),
        Some((ReasonKind::ChangedOnStack, "parse".into(), 1))
    );
}

#[test]
fn named_functions_may_be_active_and_others_not() {
    let frames = [SERVE, PARSE + 0x20, MAIN + 0x20];
    let refused = |frames: &[u64], names: &[&str]| {
        kind(&enter_except(frames, names), "activeness_except_named")
    };
    assert_eq!(refused(&frames, &["parse"]), None);
    assert_eq!(
        refused(&frames, &["main"]),
        Some((ReasonKind::ChangedOnStack, "parse".into(), 1))
    );
    assert_eq!(
        refused(
            &[SERVE, PARSE + 0x20, REPLY + 0x20, MAIN + 0x20],
            &["parse"]
        ),
        Some((ReasonKind::ChangedOnStack, "reply".into(), 2))
    );
    assert_eq!(refused(&[LEGACY, MAIN + 0x20], &["legacy"]), None);
}

#[test]
fn what_an_old_run_did_not_record_refuses() {
    let head = stack(&[SERVE, MAIN + 0x20]);
    let old = Patch {
        edited: None,
        ..patch()
    };
    let decisions = decide_in(&old, Some(SERVE), &[&head], "server", None, None);
    for (column, reason) in [
        ("activeness_edited", ReasonKind::EditedNotRecorded),
        ("activeness_conservative", ReasonKind::WordsNotRecorded),
        ("activeness_except_named", ReasonKind::NamesNotRecorded),
    ] {
        assert_eq!(kind(&decisions, column), Some((reason, String::new(), 0)));
    }
    assert_eq!(kind(&decisions, "activeness"), None);
}

#[test]
fn words_and_other_stacks_are_part_of_a_state() {
    use crate::trace::{Point, PointId, RoleInstance, Trace, Wait};
    let role = RoleInstance {
        role: "server".to_owned(),
        number: 1,
    };
    let point = |words, other_stacks: &[u32]| Point {
        id: PointId {
            role: role.clone(),
            thread: 0,
            exchange: Some(0),
            index: 1,
        },
        function: Address(SERVE),
        stack: 0,
        other_stacks: other_stacks.to_vec(),
        words,
        occurrence: 0,
        time_us: None,
    };
    let wait = |words, other_stacks: &[u32]| Wait {
        role: role.clone(),
        thread: 0,
        exchange: 0,
        from_readiness: false,
        stack: 1,
        other_stacks: other_stacks.to_vec(),
        words,
        span_us: None,
    };
    let trace = Trace {
        version: "tiny-1".to_owned(),
        workload: "basic".to_owned(),
        exchanges: Vec::new(),
        probe: Vec::new(),
        processes: Vec::new(),
        points: vec![
            point(Some(0), &[]),
            point(Some(1), &[]),
            point(Some(7), &[]),
            point(None, &[]),
            point(Some(0), &[2]),
        ],
        stacks: vec![
            stack(&[SERVE, MAIN + 0x20]),
            stack(&[LIBRARY, MAIN + 0x20]),
            stack(&[LIBRARY, PARSE + 0x20, MAIN + 0x20]),
        ],
        waits: vec![wait(Some(0), &[]), wait(Some(1), &[]), wait(Some(0), &[2])],
        word_sets: vec![vec![Address(MAIN)], vec![Address(MAIN), Address(PARSE)]],
        events: None,
    };
    let (patch, table, manual) = (patch(), table(), manual());
    let evaluation = Evaluator::new(&patch, &table, &manual, Some(&[])).evaluate(&trace);
    let of =
        |allows: &dyn Fn(usize) -> bool, many: usize| (0..many).map(allows).collect::<Vec<_>>();
    let points = |column| of(&|index| evaluation.allows_point(index, column), 5);
    let waits = |column| of(&|index| evaluation.allows_wait(index, column), 3);
    assert_eq!(points("activeness"), [true, true, true, true, false]);
    assert_eq!(
        points("activeness_conservative"),
        [true, false, false, false, false]
    );
    assert_eq!(waits("activeness"), [true, true, false]);
    assert_eq!(waits("activeness_conservative"), [true, false, false]);
}

/// Any address near the program, its functions' ends included, or the library's.
fn any_word() -> impl Strategy<Value = u64> {
    prop_oneof![9 => MAIN - 0x10..TIDY + SIZE + 0x10, 1 => Just(LIBRARY)]
}

fn any_function() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![MAIN, SERVE, PARSE, REPLY, LEGACY, TIDY])
}

prop_compose! {
    /// A patch with some functions redirected, deleted and edited.
    fn any_patch()(
        fates in prop::collection::vec(0..4_u8, 6),
        edited in prop::collection::vec(any::<bool>(), 6),
    ) -> Patch {
        let functions = table().ranges().to_vec();
        let chosen = |fate: u8| functions.iter().zip(&fates).filter(move |(_, f)| **f == fate);
        let redirect = |range: &FunctionRange, prototype_changed| Redirect {
            function: range.function.clone(),
            old: range.start,
            old_size: range.size,
            new: Address(0x4000_0000),
            new_size: range.size,
            reason: PatchReason::ObjectCode,
            prototype_changed,
            kept: false,
        };
        Patch {
            redirects: chosen(1)
                .map(|(range, _)| redirect(range, false))
                .chain(chosen(2).map(|(range, _)| redirect(range, true)))
                .collect(),
            deleted: chosen(3)
                .map(|(range, _)| Deleted {
                    function: range.function.clone(),
                    old: range.start,
                    old_size: range.size,
                })
                .collect(),
            edited: Some(
                functions
                    .iter()
                    .zip(&fates)
                    .zip(&edited)
                    .filter(|((_, fate), edited)| **edited && **fate != 3)
                    .map(|((range, _), _)| EditedFunction {
                        function: range.function.clone(),
                        old: range.start,
                        old_size: range.size,
                    })
                    .collect(),
            ),
            ..Patch::default()
        }
    }
}

proptest! {
    /// What holds between the forms of activeness, whatever patch and stacks:
    /// conservative ⊆ activeness ⊆ except named; and where every edited function
    /// is changed, activeness ⊆ edited. Without that, whoever activeness lets
    /// pass and `edited` does not was edited and is not changed.
    #[test]
    fn forms_of_activeness_include_each_other(
        patch in any_patch(),
        entered in prop::option::of(any_function()),
        callers in prop::collection::vec(any_word(), 1..5),
        other in prop::option::of(prop::collection::vec(any_word(), 1..4)),
        extra_words in prop::collection::vec(any_function(), 0..3),
        named in prop::collection::vec(any_function(), 0..3),
        complete: bool,
    ) {
        let frames: Vec<u64> = entered.into_iter().chain(callers).collect();
        let mut first = stack(&frames);
        first.complete = complete;
        let other = other.map(|frames| stack(&frames));
        let stacks: Vec<&Stack> = std::iter::once(&first).chain(&other).collect();
        let words: Vec<Address> = extra_words.into_iter().map(Address).collect();
        let names: Vec<String> = named
            .into_iter()
            .filter_map(|entry| Some(table().lookup(Address(entry))?.name.clone()))
            .collect();
        let decisions =
            decide_in(&patch, entered, &stacks, "server", Some(&words), Some(&names));
        let allows = |column: &str| decisions[column].is_allowed();
        if !complete {
            prop_assert!(columns().all(|column| !allows(column)));
        }
        prop_assert!(!allows("activeness_conservative") || allows("activeness"));
        prop_assert!(!allows("activeness") || allows("activeness_except_named"));
        if names.is_empty() {
            prop_assert_eq!(&decisions["activeness"], &decisions["activeness_except_named"]);
        }
        if words.is_empty() {
            prop_assert_eq!(&decisions["activeness"], &decisions["activeness_conservative"]);
        }
        let changed = ChangedRanges::of(&patch);
        let is_changed = |name: &str| {
            changed.functions().iter().any(|function| function.function.name == name)
        };
        let edited = patch.edited.iter().flatten();
        let all_changed = edited.clone().all(|edited| is_changed(&edited.function.name));
        if allows("activeness") && !allows("activeness_edited") {
            prop_assert!(!all_changed);
            let blocking = kind(&decisions, "activeness_edited").expect("refused").1;
            prop_assert!(!is_changed(&blocking));
            prop_assert!(edited.clone().any(|edited| edited.function.name == blocking));
        }
    }
}
