//! A small run made up for tests: `main` loops over `serve` (and `accept` in the
//! listener), which calls `parse`, which calls `note`; then `reply`. Its verdicts
//! are written into the observations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::binary::Address;
use crate::equivalence::Touches;
use crate::patch::{Deleted, EditedFunction, FunctionName, Patch, Reason, Redirect};
use crate::policy::{DEFINITION_OF_CHANGED, Evaluator, FunctionRange, FunctionTable, ManualPoint};
use crate::study::plan::{
    Choice, DEFAULT_MECHANISM, PlanInput, PlannedTest, SessionKey, plan_session, populations,
};
use crate::study::store::{Arm, PairRecord, Run, RunFacts, RunStore, SessionRecord, TestRecord};
use crate::trace::{
    ExchangeFacts, Frame, Point, PointId, ProcessFacts, RoleInstance, Scope, Stack, Trace, Wait,
};
use crate::verdict::observation::Update;
use crate::verdict::{Judgement, Observation, Verdict};

const SIZE: u64 = 0x100;
const LIBRARY: u64 = 0x7fff_0000;
const FUNCTIONS: [&str; 7] = [
    "main", "accept", "serve", "parse", "note", "reply", "legacy",
];
const EXCHANGES: u32 = 4;

fn address(function: &str) -> u64 {
    let place = FUNCTIONS.iter().position(|name| *name == function);
    0x1000 + SIZE * u64::try_from(place.expect("a function of the fixture")).unwrap()
}

fn name(name: &str) -> FunctionName {
    FunctionName {
        name: name.to_owned(),
        file: "server.c".to_owned(),
    }
}

fn patch(
    pair: &str,
    changed: &[&str],
    deleted: &[&str],
    control: bool,
    transformer: bool,
) -> Patch {
    Patch {
        pair: pair.to_owned(),
        image: Vec::new(),
        old_code: std::sync::OnceLock::default(),
        redirects: changed
            .iter()
            .map(|function| Redirect {
                function: name(function),
                old: Address(address(function)),
                old_size: SIZE,
                new: Address(0x4000_0000),
                new_size: SIZE,
                reason: if control {
                    Reason::Control
                } else {
                    Reason::ObjectCode
                },
                prototype_changed: false,
                kept: false,
            })
            .collect(),
        deleted: deleted
            .iter()
            .map(|function| Deleted {
                function: name(function),
                old: Address(address(function)),
                old_size: SIZE,
            })
            .collect(),
        added: Vec::new(),
        touches: Some(Touches::default()),
        // Nobody edited `reply`: a macro in it changed.
        edited: Some(
            changed
                .iter()
                .filter(|function| !control && **function != "reply")
                .map(|function| EditedFunction {
                    function: name(function),
                    old: Address(address(function)),
                    old_size: SIZE,
                })
                .collect(),
        ),
        data: Vec::new(),
        imports: Vec::new(),
        transformer: transformer.then_some(Address(0x4000_1000)),
        transformer_imports: Vec::new(),
        changed_types: Vec::new(),
        changed_prototypes: Vec::new(),
        uses: Some(crate::confree::UseTable::default()),
        rests: std::collections::BTreeMap::new(),
        warnings: Vec::new(),
        state: None,
        gaps: None,
    }
}

/// A pair of the fixture: its name, arm, changed and deleted functions, and
/// whether it has a transformer.
fn pairs() -> Vec<PairRecord> {
    let all = &FUNCTIONS[..];
    [
        (
            "kvd-1-2",
            Arm::Update,
            &["parse", "reply"][..],
            &[][..],
            false,
        ),
        ("kvd-2-3", Arm::Update, &["note"], &["legacy"], true),
        ("kvd-2-3-bare", Arm::Update, &["note"], &["legacy"], false),
        ("kvd-3-4", Arm::Update, &["legacy"], &[], false),
        ("kvd-1-1-control", Arm::Control, all, &[], false),
    ]
    .map(|(pair, arm, changed, deleted, transformer)| PairRecord {
        pair: pair.to_owned(),
        subject: "kvd".to_owned(),
        arm,
        patch: patch(pair, changed, deleted, arm == Arm::Control, transformer),
        functions: FunctionTable::new(FUNCTIONS.map(|function| FunctionRange {
            function: name(function),
            start: Address(address(function)),
            size: SIZE,
        })),
        manual: [("listener", "accept"), ("session", "serve")]
            .map(|(role, entry)| ManualPoint {
                role: role.to_owned(),
                caller: "main".to_owned(),
                entry: entry.to_owned(),
            })
            .to_vec(),
        annotation_lines: Some(10),
        except_named: Some(vec!["main".to_owned(), "parse".to_owned()]),
        transformer_lines: if transformer { 12 } else { 0 },
        image_sha256: String::new(),
    })
    .to_vec()
}

/// Points of one exchange of the session process: the function entered, its
/// callers, and microseconds since the exchange began.
const SESSION_POINTS: [(&str, &[&str], u64); 4] = [
    ("serve", &["main"], 100),
    ("parse", &["serve", "main"], 200),
    ("note", &["parse", "serve", "main"], 300),
    ("reply", &["serve", "main"], 400),
];

fn role(role: &str) -> RoleInstance {
    RoleInstance {
        role: role.to_owned(),
        number: 1,
    }
}

/// The trace: in each of four exchanges of 1 ms the session process enters four
/// functions and then waits; the listener accepts in the first. From the second
/// exchange on a dead word of the session's stack points into `parse`.
pub fn trace() -> Trace {
    let mut stacks: Vec<Stack> = Vec::new();
    let mut stack = |entered: u64, callers: &[&str]| -> u32 {
        let mut frames = vec![Frame(Address(entered))];
        frames.extend(
            callers
                .iter()
                .map(|name| Frame(Address(address(name) + 0x20))),
        );
        let stack = Stack {
            frames,
            complete: true,
        };
        let known = stacks.iter().position(|known| *known == stack);
        let index = known.unwrap_or_else(|| {
            stacks.push(stack);
            stacks.len() - 1
        });
        u32::try_from(index).unwrap()
    };
    let word_sets = [&["main"][..], &["main", "serve", "parse"]]
        .map(|set| set.iter().map(|name| Address(address(name))).collect())
        .to_vec();
    let words = |of: &str, exchange: u32| Some(u32::from(of == "session" && exchange > 0));
    let (mut points, mut waits) = (Vec::new(), Vec::new());
    for exchange in 0..EXCHANGES {
        let begin = u64::from(exchange) * 1000;
        let mut enter =
            |of: &str, index: usize, (function, callers, time): (&str, &[&str], u64)| {
                points.push(Point {
                    id: PointId {
                        role: role(of),
                        thread: 0,
                        exchange: Some(exchange),
                        index: u32::try_from(index + 1).unwrap(),
                    },
                    function: Address(address(function)),
                    stack: stack(address(function), callers),
                    other_stacks: Vec::new(),
                    words: words(of, exchange),
                    occurrence: 0,
                    time_us: Some(begin + time),
                });
            };
        if exchange == 0 {
            enter("listener", 0, ("accept", &["main"], 50));
        }
        for (index, point) in SESSION_POINTS.into_iter().enumerate() {
            enter("session", index, point);
        }
        for of in ["listener", "session"] {
            waits.push(Wait {
                role: role(of),
                thread: 0,
                exchange,
                from_readiness: false,
                stack: stack(LIBRARY, &["main"]),
                other_stacks: Vec::new(),
                words: words(of, exchange),
                span_us: Some((begin + 500, begin + 1000)),
            });
        }
    }
    let process = |name: &str, parent: Option<&str>| ProcessFacts {
        role: role(name),
        parent: parent.map(role),
        born: 0,
        born_at: u32::from(parent.is_some()),
        ended: None,
        threads: 1,
    };
    Trace {
        version: "kvd-1".to_owned(),
        workload: "basic".to_owned(),
        probe: Vec::new(),
        exchanges: (0..EXCHANGES)
            .map(|exchange| ExchangeFacts {
                label: format!("GET {exchange}"),
                writers: BTreeSet::from([role("session")]),
                span_us: (
                    u64::from(exchange) * 1000,
                    u64::from(exchange) * 1000 + 1000,
                ),
            })
            .collect(),
        processes: vec![
            process("listener", None),
            process("session", Some("listener")),
        ],
        points,
        stacks,
        waits,
        word_sets,
        events: Some(Vec::new()),
    }
}

/// Verdicts of a test: one per run of it.
fn verdicts(test: &PlannedTest) -> Vec<Verdict> {
    let exchange = test.point.exchange.unwrap_or(0);
    let failing = |verdict| vec![verdict; 3];
    match (test.session.pair.as_str(), test.function.as_str()) {
        ("kvd-1-2", "note") if exchange > 0 => failing(Verdict::Mixed),
        ("kvd-1-2", "note") => vec![Verdict::Late],
        ("kvd-1-2", "reply") if exchange == 1 => failing(Verdict::Wrong),
        ("kvd-1-2", "parse") if exchange == 3 => vec![Verdict::Inert],
        ("kvd-2-3", "parse") if exchange == 2 => vec![Verdict::Stall, Verdict::New, Verdict::New],
        ("kvd-2-3-bare", "serve" | "accept") | ("kvd-2-3" | "kvd-3-4", _) => vec![Verdict::New],
        ("kvd-2-3-bare", "parse") => vec![Verdict::NotApplied],
        ("kvd-2-3-bare", _) => failing(Verdict::Crash),
        _ => vec![Verdict::New],
    }
}

fn observation(verdict: Option<Verdict>) -> Observation {
    let told = verdict.map(|verdict| ("verdict".to_owned(), verdict.name().to_owned()));
    Observation {
        update: Update::None,
        exchanges: Vec::new(),
        session_exchanges: EXCHANGES,
        processes: Vec::new(),
        files: told.into_iter().collect(),
        stall: None,
        new_entries: [("parse", 2)].into_iter().collect(),
        old_frame_exchanges: BTreeSet::new(),
        wall_us: 4200,
        output: BTreeMap::new(),
    }
}

/// The judge of the fixture: reads the verdict out of the observation.
pub fn judge(_: &SessionRecord, _: &PointId, observation: &Observation) -> Judgement {
    let told = observation.files.get("verdict").map(String::as_str);
    let verdict = Verdict::ALL
        .into_iter()
        .find(|verdict| Some(verdict.name()) == told)
        .expect("an observation of the fixture");
    Judgement {
        verdict,
        cause: match verdict {
            Verdict::Crash => "killed by SIGSEGV in note",
            Verdict::Mixed => "in-flight",
            Verdict::NotApplied => "transformer would allocate in a signal handler",
            _ => "",
        }
        .to_owned(),
        diverged_at: verdict.is_failure().then_some(1),
        discriminating: 2,
        new_code_entries: 2,
        old_frame_ran: verdict == Verdict::Late,
    }
}

/// Writes the run into `dir` and loads it.
pub fn run(dir: &Path, sample: Option<usize>) -> Run {
    let facts = RunFacts {
        arguments: vec!["study".to_owned()],
        seed: 1,
        sample,
        definition_of_changed: DEFINITION_OF_CHANGED.to_owned(),
        ..RunFacts::default()
    };
    let mut store = RunStore::create(dir, None, facts).unwrap();
    for pair in pairs() {
        store.append_pair(&pair).unwrap();
        let session = SessionKey {
            pair: pair.pair.clone(),
            workload: "basic".to_owned(),
            scope: Scope::Process,
            mechanism: DEFAULT_MECHANISM.to_owned(),
        };
        let trace = trace();
        let except_named = pair.except_named.as_deref();
        let evaluator = Evaluator::new(&pair.patch, &pair.functions, &pair.manual, except_named);
        let evaluation = evaluator.evaluate(&trace);
        let plan = plan_session(&PlanInput {
            session: &session,
            trace: &trace,
            evaluator: &evaluator,
            evaluation: &evaluation,
            classes: None,
            choice: Choice {
                sample,
                seed: 1,
                ..Choice::ALL
            },
        });
        store.append_plan(&plan).unwrap();
        let record = SessionRecord {
            populations: populations(&session, &trace, &evaluation),
            session,
            specification: "backward-compatible".to_owned(),
            old: observation(None),
            new: observation(None),
            after_update: Vec::new(),
            limits: None,
            touched: None,
            test_us: None,
            trace,
        };
        store.append_session(&record).unwrap();
        for test in plan {
            let verdicts = verdicts(&test);
            let record = TestRecord {
                test: test.id,
                observations: verdicts
                    .into_iter()
                    .map(|verdict| observation(Some(verdict)))
                    .collect(),
                known_from: None,
                engine: "restart".to_owned(),
                wall_us: 4200,
            };
            store.append_test(&record).unwrap();
        }
    }
    Run::load(store.dir()).unwrap()
}
