//! Everything that is known of one point of a session and of its tests, in one
//! record: what `kairos try` and `kairos explain` print and the logs hold.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::columns::Columns;
use super::exchanges::{self, ExchangeLine, columns, files};
use super::layouts::old_layouts;
use super::stack::{NamedFrame, named};
use super::suspects::{Cause, Suspect, suspects};
use crate::analysis::{Outcome, StudiedSession};
use crate::policy::{ANY, Decision, ReasonKind};
use crate::study::plan::SessionKey;
use crate::study::session::SessionFacts;
use crate::study::store::Division;
use crate::trace::{Point, PointId, Scope, Stack};
use crate::verdict::entries::Entries;
use crate::verdict::observation::{Ending, Fault, SeenProcess, Stall, Update};
use crate::verdict::{Finding, Judgement, Observation, findings};

/// One point, with whatever tests of it showed.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    /// Identifier of the test.
    pub test: String,
    /// Pair, workload, scope and mechanism.
    #[serde(flatten)]
    pub session: SessionKey,
    /// The point.
    pub point: PointId,
    /// Label of the exchange of the point.
    pub label: String,
    /// Function being entered.
    pub function: String,
    /// How the pair stands to state transformation.
    pub division: Division,
    /// The verdict, `flaky`, or `not tested`.
    pub verdict: String,
    /// Its cause; for a flaky test its verdicts.
    pub cause: String,
    /// The stack of the entering thread.
    pub stack: Vec<NamedFrame>,
    /// Whether the stack was followed to its bottom.
    pub stack_complete: bool,
    /// Stacks of the other threads in scope.
    pub other_stacks: Vec<Vec<NamedFrame>>,
    /// Changed functions that are active there, the one being entered left out.
    pub active: Vec<String>,
    /// Active frames that go on with the old layout of a changed record.
    pub old_layouts: Vec<String>,
    /// How often changed functions had been entered before the point.
    pub entered_before: BTreeMap<String, u64>,
    /// How often the unpatched session enters changed functions from the point on.
    pub entered_after: BTreeMap<String, u64>,
    /// What each policy says.
    pub policies: Vec<PolicyLine>,
    /// What the tests of the point showed.
    pub runs: Vec<RunAccount>,
    /// What the records suggest as cause.
    pub suspects: Vec<String>,
    /// The causes that these speak for, each once, the most telling first.
    pub causes: Vec<&'static str>,
    /// How to run the test again.
    pub again: String,
}

/// What a policy says of the point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyLine {
    /// The policy's column.
    pub policy: String,
    /// `allowed` or `refused`.
    pub decision: &'static str,
    /// Kind of refusal.
    pub kind: Option<ReasonKind>,
    /// The function that blocks the update.
    pub function: Option<String>,
    /// Its frame.
    pub frame: Option<u32>,
    /// The reason for a person.
    pub reason: Option<String>,
}

/// One run of the test.
#[derive(Clone, Debug, Serialize)]
pub struct RunAccount {
    /// Its judgement.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// How the update went.
    pub update: Update,
    /// The function at the stop, and the stack found there, with names.
    pub stack: Vec<NamedFrame>,
    /// Exchange by exchange.
    pub exchanges: Vec<ExchangeLine>,
    /// Everything that is wrong, in order.
    pub findings: Vec<Finding>,
    /// The exchange that differs first.
    pub first: Option<u32>,
    /// Its replies and logs in columns, those that differ; the files of the end
    /// state where no exchange differs.
    pub columns: Vec<Columns>,
    /// Processes whose end tells something: those that an unpatched run ends in
    /// another way, and those that took a fatal signal.
    pub processes: Vec<ProcessLine>,
    /// Entries of new code after the update.
    pub new_entries: Entries,
    /// Exchanges in which an old frame of a changed function ran.
    pub old_frame_exchanges: BTreeSet<u32>,
    /// Where it stood still.
    pub stall: Option<Stall>,
    /// The end of what the server printed.
    pub output: BTreeMap<String, String>,
    /// Wall-clock time in microseconds.
    pub wall_us: u64,
}

/// How a process ended, beside how it ends unpatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProcessLine {
    /// Which process.
    pub role: String,
    /// Whether the update was in it.
    pub updated: bool,
    /// Exchange in which it ended.
    pub ended_in: u32,
    /// How.
    pub ending: String,
    /// How it ends in the old server.
    pub old: String,
    /// How it ends in the new server.
    pub new: String,
    /// Where it took a fatal signal.
    pub fault: Option<Fault>,
}

/// Accounts for the trace's `place`-th point; none beyond its end.
#[must_use]
pub fn account(
    studied: &StudiedSession<'_>,
    place: usize,
    observations: &[Observation],
) -> Option<Account> {
    let points = &studied.record.trace.points;
    let mut account = brief(studied, place, observations)?;
    account.entered_before = entries(studied, &points[..place]);
    account.entered_after = entries(studied, &points[place..]);
    Some(account)
}

/// The same without what is entered before and after the point, which takes a look at
/// the whole trace: for many points.
#[must_use]
pub fn brief(
    studied: &StudiedSession<'_>,
    place: usize,
    observations: &[Observation],
) -> Option<Account> {
    let record = studied.record;
    let trace = &record.trace;
    let point = trace.points.get(place)?;
    let changed = studied.evaluator.changed();
    let stack_of = |index: u32| {
        usize::try_from(index)
            .ok()
            .and_then(|i| trace.stacks.get(i))
    };
    let name_stack = |stack: &Stack| named(stack, &studied.pair.functions, changed);
    let stack = stack_of(point.stack);
    let frames = stack.map(name_stack).unwrap_or_default();
    let other_stacks: Vec<Vec<NamedFrame>> = point
        .other_stacks
        .iter()
        .filter_map(|index| stack_of(*index))
        .map(name_stack)
        .collect();
    let facts = SessionFacts::of(record);
    let runs: Vec<RunAccount> = observations
        .iter()
        .map(|seen| run(studied, &facts, point, seen))
        .collect();
    let (verdict, cause) = outcome(&runs);
    let function = studied.evaluator.function_entered(point);
    let mut account = Account {
        test: record.session.test_id(&point.id),
        session: record.session.clone(),
        point: point.id.clone(),
        label: label_at(studied, &point.id),
        division: studied.pair.division(),
        verdict,
        cause,
        active: active(&frames, &other_stacks),
        old_layouts: old_layouts(
            &studied.pair.patch,
            stack,
            point.other_stacks.iter().filter_map(|i| stack_of(*i)),
        ),
        stack_complete: stack.is_some_and(|stack| stack.complete),
        stack: frames,
        other_stacks,
        entered_before: BTreeMap::new(),
        entered_after: BTreeMap::new(),
        policies: policies(studied, place),
        runs,
        suspects: Vec::new(),
        causes: Vec::new(),
        again: again(&record.session, &point.id),
        function,
    };
    for Suspect { cause, text } in suspects(&account, studied) {
        let name = cause.map(Cause::name);
        account
            .causes
            .extend(name.filter(|name| !account.causes.contains(name)));
        account.suspects.push(text);
    }
    Some(account)
}

fn label_at(studied: &StudiedSession<'_>, point: &PointId) -> String {
    match point.exchange.map(usize::try_from) {
        Some(Ok(number)) => exchanges::label(&studied.record.trace, number),
        _ => "start-up".to_owned(),
    }
}

/// The command that runs a test again.
#[must_use]
pub fn again(session: &SessionKey, point: &PointId) -> String {
    let scope = match session.scope {
        Scope::Process => String::new(),
        Scope::Tree => format!(" --scope {}", session.scope),
    };
    let startup = if point.exchange.is_none() {
        " --startup"
    } else {
        ""
    };
    format!(
        "kairos try {} {} '{point}'{scope}{startup}",
        session.pair, session.workload
    )
}

fn outcome(runs: &[RunAccount]) -> (String, String) {
    let Some(first) = runs.first() else {
        return ("not tested".to_owned(), String::new());
    };
    let verdicts: Vec<&str> = runs
        .iter()
        .map(|run| run.judgement.verdict.name())
        .collect();
    if verdicts.iter().all(|verdict| *verdict == verdicts[0]) {
        (verdicts[0].to_owned(), first.judgement.cause.clone())
    } else {
        (Outcome::Flaky.name().to_owned(), verdicts.join(", "))
    }
}

fn active(stack: &[NamedFrame], others: &[Vec<NamedFrame>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for frame in stack.iter().skip(1).chain(others.iter().flatten()) {
        if let (Some(_), Some(name)) = (frame.change, &frame.function)
            && !names.contains(name)
        {
            names.push(name.clone());
        }
    }
    names
}

/// Entries of changed functions among some points of the trace.
fn entries(studied: &StudiedSession<'_>, points: &[Point]) -> BTreeMap<String, u64> {
    let mut entries = BTreeMap::new();
    for point in points {
        if let Some(function) = studied.evaluator.changed().find(point.function) {
            *entries.entry(function.function.name.clone()).or_insert(0) += 1;
        }
    }
    entries
}

fn policies(studied: &StudiedSession<'_>, place: usize) -> Vec<PolicyLine> {
    let any = PolicyLine {
        policy: ANY.column().to_owned(),
        decision: "allowed",
        kind: None,
        function: None,
        frame: None,
        reason: None,
    };
    let decisions = studied.evaluation.of_point(place);
    // In the registry's order, which is that of every table.
    let lines = crate::policy::columns().filter_map(|column| {
        let decision = decisions?.get(column)?;
        let reason = match decision {
            Decision::Allowed => None,
            Decision::Refused(reason) => Some(reason),
        };
        Some(PolicyLine {
            policy: column.to_owned(),
            decision: decision.name(),
            kind: reason.map(|reason| reason.kind),
            function: reason.map(|reason| reason.function.clone()),
            frame: reason.map(|reason| reason.frame),
            reason: reason.map(|reason| reason.text.clone()),
        })
    });
    std::iter::once(any).chain(lines).collect()
}

fn run(
    studied: &StudiedSession<'_>,
    facts: &SessionFacts,
    point: &Point,
    seen: &Observation,
) -> RunAccount {
    let record = studied.record;
    let expected = facts.expected(record);
    let findings = findings(&expected, &point.id, seen);
    let first = findings.iter().find_map(|finding| finding.exchange);
    let mut shown: Vec<Columns> = first
        .map(|number| columns(&expected, seen, number, false))
        .unwrap_or_default();
    if first.is_none() && !findings.is_empty() {
        shown = files(&expected, seen);
    }
    let stack = match &seen.update {
        Update::Applied { stack, .. } => {
            named(stack, &studied.pair.functions, studied.evaluator.changed())
        }
        _ => Vec::new(),
    };
    RunAccount {
        judgement: facts.judge(record, &point.id, seen),
        update: seen.update.clone(),
        stack,
        exchanges: exchanges::lines(&expected, &record.trace, &point.id, seen, &findings),
        findings,
        first,
        columns: shown,
        processes: processes(&record.old, &record.new, seen),
        new_entries: seen.new_entries.clone(),
        old_frame_exchanges: seen.old_frame_exchanges.clone(),
        stall: seen.stall.clone(),
        output: seen.output.clone(),
        wall_us: seen.wall_us,
    }
}

fn processes(old: &Observation, new: &Observation, seen: &Observation) -> Vec<ProcessLine> {
    let same = |process: &SeenProcess, of: &Observation| {
        of.processes.iter().any(|other| {
            other.role == process.role
                && other.ending == process.ending
                && other.ended_in == process.ended_in
        })
    };
    seen.processes
        .iter()
        .filter(|process| process.fault.is_some() || !(same(process, old) || same(process, new)))
        .map(|process| ProcessLine {
            role: process.role.to_string(),
            updated: process.updated,
            ended_in: process.ended_in,
            ending: ending(&process.ending),
            old: end_of(process, old),
            new: end_of(process, new),
            fault: process.fault.clone(),
        })
        .collect()
}

fn end_of(process: &SeenProcess, of: &Observation) -> String {
    of.processes
        .iter()
        .find(|other| other.role == process.role)
        .map_or_else(
            || "no such process".to_owned(),
            |other| format!("{} in exchange {}", ending(&other.ending), other.ended_in),
        )
}

/// How a process ended, in words.
#[must_use]
pub fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Exited(status) => format!("exited with status {status}"),
        Ending::Killed(signal) => format!("killed by {signal}"),
        Ending::Outlived => "outlived the stop and was killed by Kairos".to_owned(),
    }
}
