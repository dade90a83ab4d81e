//! Prepares one session of the study: baselines of both versions until they are
//! stable, the trace, the limits, the plan. Whatever is wrong with a workload
//! shows here, before any verdict.

use std::collections::{BTreeMap, HashMap};

use super::StudyError;
use super::baseline::{Place, baseline};
use super::plan::{Choice, PlanInput, PlannedTest, SessionKey, plan_session, populations};
use super::prepare::PreparedPair;
use super::store::{AfterUpdate, Arm, PairRecord, SessionRecord};
use super::touched;
use crate::engine::spec::{SessionSpec, Which};
use crate::engine::{PointRequest, RemoteEngine};
use crate::equivalence::{self, Classes, Touched};
use crate::mechanism::Layout;
use crate::patch::Patch;
use crate::policy::{ChangedRanges, Evaluator, FunctionTable};
use crate::trace::{Moment, Point, PointId, Scope, Timing, Trace, fingerprint};
use crate::verdict::{Expected, Judgement, Observation, judge};
use crate::workload::Script;
use crate::workload::script::Specification;
use crate::world::Limits;

/// Runs without stops until one has stamped every point of the trace.
const TIMED_RUNS: usize = 3;
/// Points at which the cost of a test is measured.
const TIMED_TESTS: usize = 3;

/// A session that is ready to be tested.
pub struct PreparedSession {
    /// Its line of the store.
    pub record: SessionRecord,
    /// What its tests are judged against.
    pub facts: SessionFacts,
    /// Its tests, in the order in which the trace reaches their points.
    pub plan: Vec<PlannedTest>,
    /// When its tests count as stalled.
    pub limits: Limits,
    /// How engines find its points again.
    requests: HashMap<PointId, PointRequest>,
}

/// What verdicts of a session are derived from.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    after_update: BTreeMap<(u32, String), String>,
    writers: Vec<std::collections::BTreeSet<crate::trace::RoleInstance>>,
}

impl SessionFacts {
    /// Takes what verdicts need from a session's record.
    #[must_use]
    pub fn of(record: &SessionRecord) -> Self {
        Self {
            after_update: record
                .after_update
                .iter()
                .map(|right| {
                    (
                        (right.exchange, right.connection.clone()),
                        right.text.clone(),
                    )
                })
                .collect(),
            writers: record
                .trace
                .exchanges
                .iter()
                .chain(&record.trace.probe)
                .map(|exchange| exchange.writers.clone())
                .collect(),
        }
    }

    /// What observations of the session are compared with.
    #[must_use]
    pub fn expected<'a>(&'a self, record: &'a SessionRecord) -> Expected<'a> {
        Expected {
            old: &record.old,
            new: &record.new,
            after_update: &self.after_update,
            writers: &self.writers,
        }
    }

    /// Judges an observation of the session.
    #[must_use]
    pub fn judge(&self, record: &SessionRecord, point: &PointId, seen: &Observation) -> Judgement {
        judge(&self.expected(record), point, seen)
    }
}

/// Judges a stored observation by its session's record.
#[must_use]
pub fn judge_record(record: &SessionRecord, point: &PointId, seen: &Observation) -> Judgement {
    SessionFacts::of(record).judge(record, point, seen)
}

/// Runs baselines and trace of one workload on `engine`, and plans its tests.
///
/// # Errors
/// When the workload does not pass on one of the unpatched versions, when equal
/// runs differ, or when the harness fails.
pub fn prepare(
    pair: &PreparedPair<'_>,
    key: SessionKey,
    spec: &SessionSpec,
    engine: &mut RemoteEngine,
    choice: Choice,
) -> Result<PreparedSession, StudyError> {
    let script = Script::read(&spec.workload, &spec.ports)?;
    let place = |version: Which| Place {
        pair: &pair.id,
        workload: &key.workload,
        version: spec.version(version).label.clone(),
        rewritten: pair.mechanism.layout != Layout::Own,
    };
    let (old, old_pauses) = baseline(engine, Which::Old, &place(Which::Old))?;
    let (new, new_pauses) = if pair.arm == Arm::Update {
        baseline(engine, Which::New, &place(Which::New))?
    } else {
        (old.clone(), old_pauses)
    };
    let traced = engine.trace()?;
    place(Which::Old).agree("a traced run", &old, &traced.observation)?;
    let limits = Limits::from_longest(old_pauses.longest(new_pauses));
    engine.set_limits(limits)?;

    let mut trace = traced.trace;
    take_times(engine, &mut trace)?;
    let manual = pair.manual();
    let except_named = Some(pair.except_named.as_slice());
    let evaluator = Evaluator::new(&pair.patch, &pair.table, &manual, except_named);
    let evaluation = evaluator.evaluate(&trace);
    let touched = match choice.sample {
        // A sample asks no classes.
        Some(_) => None,
        None => touched::measure(pair, key.scope, &trace, engine),
    };
    let classes = classes(
        &pair.patch,
        &pair.table,
        &trace,
        key.scope,
        touched.as_ref(),
    );
    let plan = plan_session(&PlanInput {
        session: &key,
        trace: &trace,
        evaluator: &evaluator,
        evaluation: &evaluation,
        classes: classes.as_ref(),
        choice,
    });
    let populations = populations(&key, &trace, &evaluation);
    let test_us = time_tests(engine, &trace)?;
    let record = SessionRecord {
        session: key,
        specification: specification(script.specification).to_owned(),
        old,
        new,
        after_update: after_update(&script, pair.arm),
        trace,
        populations,
        limits: Some(limits),
        touched,
        test_us,
    };
    Ok(PreparedSession {
        facts: SessionFacts::of(&record),
        requests: by_point(&record.trace),
        plan,
        limits,
        record,
    })
}

/// The classes of equivalent points of a session; none where the run did not record
/// what they depend on.
#[must_use]
pub fn classes(
    patch: &Patch,
    functions: &FunctionTable,
    trace: &Trace,
    scope: Scope,
    touched: Option<&Touched>,
) -> Option<Classes> {
    Classes::of(&equivalence::classes::Input {
        trace,
        scope,
        functions,
        changed: &ChangedRanges::of(patch),
        touches: patch.touches.as_ref()?,
        touched,
        rules: &equivalence::Rules::default(),
    })
}

/// Times the trace. Runs of a server that races with itself drift apart: of some
/// runs the one that agrees best is taken.
fn take_times(engine: &mut RemoteEngine, trace: &mut Trace) -> Result<(), StudyError> {
    let in_session = |point: &&Point| point.id.exchange.is_some();
    let points = trace.points.iter().filter(in_session).count();
    let mut best: Option<(usize, Timing)> = None;
    for _ in 0..TIMED_RUNS {
        let timing = engine.time()?;
        let timed = trace.take_times(&timing);
        if best.as_ref().is_none_or(|(most, _)| timed > *most) {
            best = Some((timed, timing));
        }
        if timed == points {
            break;
        }
    }
    if let Some((_, timing)) = best {
        trace.take_times(&timing);
    }
    Ok(())
}

/// Makes a recorded session ready again without running it, so that the tests that
/// are left are those of an undisturbed run. None if the record lacks the limits
/// that its tests had.
#[must_use]
pub fn restore(
    pair: &PairRecord,
    record: SessionRecord,
    choice: Choice,
) -> Option<PreparedSession> {
    let except_named = pair.except_named.as_deref();
    let evaluator = Evaluator::new(&pair.patch, &pair.functions, &pair.manual, except_named);
    let evaluation = evaluator.evaluate(&record.trace);
    let scope = record.session.scope;
    let touched = record.touched.as_ref();
    let classes = classes(&pair.patch, &pair.functions, &record.trace, scope, touched);
    let plan = plan_session(&PlanInput {
        session: &record.session,
        trace: &record.trace,
        evaluator: &evaluator,
        evaluation: &evaluation,
        classes: classes.as_ref(),
        choice,
    });
    Some(PreparedSession {
        facts: SessionFacts::of(&record),
        requests: by_point(&record.trace),
        plan,
        limits: record.limits?,
        record,
    })
}

/// The median time of an ordinary test: one that stops at its point and applies
/// nothing, so that it can neither fail nor stall.
fn time_tests(engine: &mut RemoteEngine, trace: &Trace) -> Result<Option<u64>, StudyError> {
    let mut times = Vec::new();
    let requests = requests(trace);
    for number in 0..TIMED_TESTS.min(trace.points.len()) {
        let place = (2 * number + 1) * trace.points.len() / (2 * TIMED_TESTS);
        if let Some(request) = &requests[place] {
            times.push(engine.test(request, false)?.observation.wall_us);
        }
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied())
}

impl PreparedSession {
    /// How engines find a planned point again.
    #[must_use]
    pub fn request(&self, point: &PointId) -> Option<PointRequest> {
        self.requests.get(point).cloned()
    }

    /// Judges an observation of one of its tests.
    #[must_use]
    pub fn judge(&self, point: &PointId, seen: &Observation) -> Judgement {
        self.facts.judge(&self.record, point, seen)
    }
}

/// How engines find the points of a trace again, by their places in it; none for one
/// without a stack.
#[must_use]
pub fn requests(trace: &Trace) -> Vec<Option<PointRequest>> {
    let stacks: Vec<u64> = trace.stacks.iter().map(fingerprint).collect();
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for (place, point) in trace.points.iter().enumerate() {
        let PointId {
            role,
            thread,
            exchange,
            ..
        } = &point.id;
        places
            .entry((role, thread, exchange))
            .or_default()
            .push(place);
    }
    let mut requests = vec![None; trace.points.len()];
    for places in places.into_values() {
        let entry = |place: &usize| {
            let point = &trace.points[*place];
            let stack = usize::try_from(point.stack).ok();
            let stack = stack.and_then(|at| stacks.get(at).copied());
            stack.map(|stack| (stack, point.function))
        };
        let entries: Option<Vec<_>> = places.iter().map(entry).collect();
        let moments = entries.map(|entries| Moment::all(&entries));
        for (place, moment) in places.iter().zip(moments.into_iter().flatten()) {
            requests[*place] = Some(PointRequest {
                id: trace.points[*place].id.clone(),
                moment,
            });
        }
    }
    requests
}

fn by_point(trace: &Trace) -> HashMap<PointId, PointRequest> {
    let requests = requests(trace).into_iter().flatten();
    requests
        .map(|request| (request.id.clone(), request))
        .collect()
}

fn specification(specification: Specification) -> &'static str {
    match specification {
        Specification::BackwardCompatible => "backward-compatible",
        Specification::PostUpdate => "post-update",
        Specification::Conformable => "conformable",
    }
}

/// Replies after an update hold only where there is one.
fn after_update(script: &Script, arm: Arm) -> Vec<AfterUpdate> {
    if arm != Arm::Update {
        return Vec::new();
    }
    script
        .after_update
        .iter()
        .map(|((exchange, connection), text)| AfterUpdate {
            exchange: *exchange,
            connection: connection.clone(),
            text: text.clone(),
        })
        .collect()
}
