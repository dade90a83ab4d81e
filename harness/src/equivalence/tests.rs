//! Classes of traces made up for tests: programs that call and return at random, beside
//! what is known of each step because the test made it.

use proptest::prelude::*;

use super::classes::Input;
use super::compare::{Agreement, Member, Shown, Tested, compare};
use super::{Classes, Conflict, Rules, Touches};
use crate::binary::{Address, FunctionName};
use crate::patch::{Deleted, Patch, Reason, Redirect};
use crate::policy::{ChangedRanges, FunctionRange, FunctionTable};
use crate::trace::{Event, EventKind, Frame, Point, PointId, RoleInstance, Scope, Stack, Trace};
use crate::verdict::Observation;
use crate::verdict::observation::Update;

const FUNCTIONS: u64 = 6;
const SIZE: u64 = 0x1000;
/// Function 1 is changed, 2 only rebuilt for what it uses, 3 deleted; 4 touches state.
const CHANGED: u64 = 1;
const REBUILT: u64 = 2;
const DELETED: u64 = 3;
const TOUCHING: u64 = 4;

const fn entry(function: u64) -> Address {
    Address(0x40_0000 + function * SIZE)
}

fn name(function: u64) -> FunctionName {
    FunctionName {
        name: format!("f{function}"),
        file: "main.c".to_owned(),
    }
}

fn table() -> FunctionTable {
    FunctionTable::new((0..FUNCTIONS).map(|function| FunctionRange {
        function: name(function),
        start: entry(function),
        size: SIZE,
    }))
}

fn patch() -> Patch {
    let redirect = |function, reason| Redirect {
        function: name(function),
        old: entry(function),
        old_size: SIZE,
        new: Address(0x4000_0000),
        new_size: SIZE,
        reason,
        prototype_changed: false,
        kept: false,
    };
    Patch {
        redirects: vec![
            redirect(CHANGED, Reason::ObjectCode),
            redirect(REBUILT, Reason::UsesChanged),
        ],
        deleted: vec![Deleted {
            function: name(DELETED),
            old: entry(DELETED),
            old_size: SIZE,
        }],
        ..Patch::default()
    }
}

fn touches() -> Touches {
    let mut touches = Touches::default();
    let of_function = touches.functions.entry(entry(TOUCHING)).or_default();
    of_function.insert("counter".to_owned());
    touches
}

fn role() -> RoleInstance {
    RoleInstance {
        role: "server".to_owned(),
        number: 1,
    }
}

/// What a thread of the made-up program does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Call(u64),
    Return,
    Fork,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..FUNCTIONS).prop_map(Act::Call),
        5 => Just(Act::Return),
        1 => Just(Act::Fork),
    ]
}

/// A trace of one thread, and before which of its points something conflicts.
struct Made {
    trace: Trace,
    conflicts: Vec<bool>,
}

fn empty() -> Trace {
    Trace {
        version: String::new(),
        workload: String::new(),
        exchanges: Vec::new(),
        probe: Vec::new(),
        processes: Vec::new(),
        points: Vec::new(),
        stacks: Vec::new(),
        waits: Vec::new(),
        word_sets: Vec::new(),
        events: Some(Vec::new()),
    }
}

/// Adds an entry of the innermost of `active`, each with where it waits.
fn enter(trace: &mut Trace, thread: u32, active: &[(u64, u64)]) {
    let number = u32::try_from(trace.points.len()).unwrap();
    let mut frames = vec![Frame(entry(active.last().unwrap().0))];
    let callers = active.iter().rev().skip(1);
    frames.extend(callers.map(|(function, site)| Frame(entry(*function).plus(*site))));
    trace.points.push(Point {
        id: PointId {
            role: role(),
            thread,
            exchange: Some(0),
            index: number + 1,
        },
        function: frames[0].0,
        stack: number,
        other_stacks: Vec::new(),
        words: None,
        occurrence: 0,
        time_us: None,
    });
    trace.stacks.push(Stack {
        frames,
        complete: true,
    });
}

fn make(acts: &[Act]) -> Made {
    let mut trace = empty();
    // The outermost frame never returns; each frame has a place of its own to wait at.
    let mut active: Vec<(u64, u64)> = vec![(0, 0x100)];
    let mut conflicts = Vec::new();
    let mut since = true;
    for act in acts {
        match *act {
            Act::Call(function) => {
                let last = active.last_mut().unwrap();
                // It ran up to here.
                since |= last.0 == TOUCHING;
                last.1 += 8;
                active.push((function, 0x100));
                conflicts.push(since || function == DELETED);
                enter(&mut trace, 0, &active);
                since = [CHANGED, REBUILT, DELETED].contains(&function);
            }
            Act::Return if active.len() > 1 => {
                let (function, _) = active.pop().unwrap();
                since |= [CHANGED, DELETED, TOUCHING].contains(&function);
            }
            Act::Return => {}
            Act::Fork => {
                since = true;
                trace.events.as_mut().unwrap().push(Event {
                    after: u32::try_from(trace.points.len()).unwrap(),
                    role: role(),
                    thread: 0,
                    kind: EventKind::Fork,
                });
            }
        }
    }
    if let Some(first) = conflicts.first_mut() {
        *first = true;
    }
    Made { trace, conflicts }
}

fn classes(trace: &Trace, touches: &Touches, rules: &Rules) -> Classes {
    Classes::of(&Input {
        trace,
        scope: Scope::Process,
        functions: &table(),
        changed: &ChangedRanges::of(&patch()),
        touches,
        touched: None,
        rules,
    })
    .unwrap()
}

proptest! {
    #[test]
    fn classes_end_exactly_where_something_conflicts(acts in proptest::collection::vec(act(), 0..200)) {
        let made = make(&acts);
        let found = classes(&made.trace, &touches(), &Rules::default());
        let begins: Vec<usize> = found.classes.iter().map(super::Class::leader).collect();
        let expected: Vec<usize> = (0..made.conflicts.len())
            .filter(|place| made.conflicts[*place])
            .collect();
        prop_assert_eq!(begins, expected);
    }

    #[test]
    fn every_point_is_in_one_class_and_the_first_leads(acts in proptest::collection::vec(act(), 0..200), unknown: bool) {
        let made = make(&acts);
        let touches = if unknown { Touches::unknown("a test") } else { touches() };
        let found = classes(&made.trace, &touches, &Rules::default());
        let mut members: Vec<usize> = found.classes.iter().flat_map(|c| c.members.clone()).collect();
        members.sort_unstable();
        prop_assert_eq!(members, (0..made.trace.points.len()).collect::<Vec<_>>());
        for class in &found.classes {
            prop_assert_eq!(Some(&class.leader()), class.members.iter().min());
            prop_assert!(!unknown || class.members.len() == 1);
            for member in &class.members {
                prop_assert_eq!(found.of_point(*member), Some(class));
            }
        }
        prop_assert!(found.fewest() <= found.classes.len());
    }

    #[test]
    fn fewer_rules_never_make_more_classes(acts in proptest::collection::vec(act(), 0..200)) {
        let made = make(&acts);
        let all = classes(&made.trace, &touches(), &Rules::default());
        for rule in Conflict::ALL {
            let fewer = classes(&made.trace, &touches(), &Rules::without(rule));
            prop_assert!(fewer.classes.len() <= all.classes.len());
        }
    }

    #[test]
    fn a_thread_ends_classes_of_another_while_it_conflicts(acts in proptest::collection::vec(act(), 1..60), at in 0usize..60) {
        let mut made = make(&acts);
        let at = at.min(made.trace.points.len());
        // A second thread enters the changed function between two points.
        let mut second = empty();
        enter(&mut second, 1, &[(5, 0x100), (CHANGED, 0x100)]);
        let (mut point, stack) = (second.points.remove(0), second.stacks.remove(0));
        point.stack = u32::try_from(made.trace.stacks.len()).unwrap();
        made.trace.stacks.push(stack);
        made.trace.points.insert(at, point);
        for event in made.trace.events.as_mut().unwrap() {
            event.after += u32::from(usize::try_from(event.after).unwrap() > at);
        }
        let found = classes(&made.trace, &touches(), &Rules::default());
        for class in &found.classes {
            let spans = class.members.first() < Some(&at) && class.members.last() > Some(&at);
            prop_assert!(!spans, "{:?} around {at}", class);
        }
    }
}

#[test]
fn what_cannot_be_resolved_conflicts() {
    let mut made = make(&[Act::Call(5), Act::Call(5), Act::Call(5)]);
    made.trace.stacks[1].complete = false;
    let found = classes(&made.trace, &touches(), &Rules::default());
    let why: Vec<Conflict> = found.classes.iter().map(|c| c.boundary.conflict).collect();
    let unresolved = Conflict::Unresolved;
    assert_eq!(why, [Conflict::Begin, unresolved, unresolved]);

    // A frame that nobody entered.
    let mut made = make(&[Act::Call(5), Act::Call(5)]);
    let frames = &mut made.trace.stacks[1].frames;
    frames.insert(1, Frame(entry(5).plus(8)));
    let found = classes(&made.trace, &touches(), &Rules::default());
    assert_eq!(found.classes[1].boundary.conflict, unresolved);
}

#[test]
fn a_trace_without_events_has_no_classes() {
    let mut made = make(&[Act::Call(5)]);
    made.trace.events = None;
    let input = Input {
        trace: &made.trace,
        scope: Scope::Process,
        functions: &table(),
        changed: &ChangedRanges::of(&patch()),
        touches: &touches(),
        touched: None,
        rules: &Rules::default(),
    };
    assert_eq!(Classes::of(&input), None);
}

fn observation(entries: u64, old_frames: &[u32]) -> Observation {
    Observation {
        new_entries: [("f", entries)].into_iter().collect(),
        old_frame_exchanges: old_frames.iter().copied().collect(),
        wall_us: entries,
        ..Observation::default()
    }
}

fn member(place: usize, exchange: u32, runs: &[Observation]) -> Member {
    Member {
        place,
        exchange: Some(exchange),
        shown: runs.iter().filter_map(Shown::of).collect(),
    }
}

#[test]
fn members_agree_in_what_happens_after_the_later_one() {
    let leader = member(0, 1, &[observation(1, &[1, 2, 4])]);
    let same = member(1, 2, &[observation(1, &[2, 4])]);
    let other = member(2, 2, &[observation(1, &[2])]);
    assert_eq!(compare(&leader, &same), Agreement::Same);
    assert_eq!(compare(&leader, &other), Agreement::Differ);
    let racy = member(3, 2, &[observation(1, &[4]), observation(2, &[4])]);
    assert_eq!(compare(&leader, &racy), Agreement::Race);
}

#[test]
fn members_that_differ_run_again_before_they_count() {
    let mut tested = Tested::default();
    let one = || observation(1, &[]);
    let other = || observation(2, &[]);
    tested.add(member(1, 0, &[one()]));
    tested.add(member(2, 0, &[other()]));
    tested.add(member(0, 0, &[one()]));
    let places = |tested: &Tested| -> Vec<usize> {
        tested
            .doubtful()
            .iter()
            .map(|member| member.place)
            .collect()
    };
    // First the leader, whose race would make all others look wrong.
    assert_eq!(places(&tested), [0]);
    tested.members[0].shown.extend(Shown::of(&one()));
    assert_eq!(places(&tested), [2]);
    let (before, at) = tested.disagreement().unwrap();
    assert_eq!((before.place, at.place), (1, 2));
    // A race: another run of it shows what the leader shows.
    tested.members[2].shown.extend(Shown::of(&one()));
    assert!(places(&tested).is_empty() && tested.disagreement().is_none());
    assert!(tested.races());
    // A point that was not reached says nothing.
    let missed = Observation {
        update: Update::NotReached {
            reason: String::new(),
        },
        ..other()
    };
    tested.add(member(3, 0, &[missed]));
    assert_eq!(tested.members.len(), 3);
}
