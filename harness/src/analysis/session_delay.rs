//! How long requests to update wait in one session: for every process by itself,
//! or for all together.

use std::collections::{BTreeMap, HashMap};

use super::course::{AtPoint, AtTime, Course, Moment};
use super::sessions::StudiedSession;
use super::statistics::as_float;
use crate::policy::Policy;
use crate::trace::{Point, ProcessFacts, RoleInstance, Scope, Trace};

/// A session of which a smaller share of the points is timed has no delays in
/// time: where so much is missing, the gaps say little.
pub const TIMED_ENOUGH: f64 = 0.95;

/// Delays of one policy in one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionDelays {
    /// By role for the scope `process`, where each process waits for itself;
    /// under the empty name for `tree`, where all wait together.
    pub by_role: BTreeMap<String, RoleDelays>,
    /// Whether allowed waits serve requests as allowed points do.
    pub waits_count: bool,
}

/// Delays of one policy in one role of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleDelays {
    /// Of requests at a random time. None without times for all that the policy
    /// waits for: a delay that ignores allowed waits would be wrong by the
    /// client's whole thinking time.
    pub at_time: Option<AtTime>,
    /// Of requests at a random point.
    pub at_point: AtPoint,
}

/// What an update reaches at once: one process, or all of them.
struct Unit<'t> {
    role: &'t str,
    /// Its points: places in the trace, in order of execution, and their times.
    points: Vec<(usize, u64)>,
    /// Its timed waits: places in the trace, and while what was seen of them holds.
    waits: Vec<(usize, (u64, u64))>,
    /// When it can be asked to update; none without times.
    life: Option<(u64, u64)>,
}

/// One session prepared for measuring every policy's delays.
pub struct Stopwatch<'s, 't> {
    session: &'s StudiedSession<'t>,
    units: Vec<Unit<'t>>,
    timed_share: f64,
    timed: bool,
    waits_known: bool,
}

impl<'s, 't> Stopwatch<'s, 't> {
    /// Sorts points and waits of the session by what an update reaches at once.
    #[must_use]
    pub fn new(session: &'s StudiedSession<'t>) -> Self {
        let trace = &session.record.trace;
        let in_session = || trace.points.iter().filter(|point| is_in_session(point));
        let timed_share = share(in_session().map(|point| point.time_us.is_some()));
        let span = span(trace);
        let timed = timed_share >= TIMED_ENOUGH && span.1 > span.0;
        let scope = session.record.session.scope;
        Self {
            units: units(trace, scope, timed.then_some(span)),
            session,
            timed_share,
            timed,
            waits_known: timed && waits_are_known(trace, scope),
        }
    }

    /// Share of the session's points that have a time.
    #[must_use]
    pub const fn timed_share(&self) -> f64 {
        self.timed_share
    }

    /// Measures a policy's delays.
    #[must_use]
    pub fn delays(&self, policy: &dyn Policy) -> SessionDelays {
        let trace = &self.session.record.trace;
        let evaluation = &self.session.evaluation;
        let column = policy.column();
        let waits_count = policy.allows_waits() && self.waits_known;
        let has_times = self.timed && (waits_count || !policy.allows_waits());
        let mut by_role: BTreeMap<String, RoleDelays> = BTreeMap::new();
        for unit in &self.units {
            let points = unit.points.iter().map(|(index, time)| Moment {
                time: *time,
                timed: trace.points[*index].time_us.is_some(),
                allowed: evaluation.allows_point(*index, column),
            });
            let waits = unit
                .waits
                .iter()
                .filter(|(index, _)| waits_count && evaluation.allows_wait(*index, column));
            let course = Course {
                points: points.collect(),
                waits: disjoint(waits.map(|(_, span)| *span)),
            };
            let of_role = by_role
                .entry(unit.role.to_owned())
                .or_insert_with(|| RoleDelays {
                    at_time: has_times.then(AtTime::default),
                    at_point: Course::default().at_point(has_times),
                });
            of_role.at_point.merge(&course.at_point(has_times));
            if let (Some(at_time), Some(life)) = (&mut of_role.at_time, unit.life) {
                at_time.merge(&course.at_time(life));
            }
        }
        SessionDelays {
            by_role,
            waits_count,
        }
    }
}

/// Start-up comes before the session in which an update is asked for.
const fn is_in_session(point: &Point) -> bool {
    point.id.exchange.is_some()
}

/// Whether the session, and not the probe or the stop after it, has that exchange.
fn is_in(trace: &Trace, exchange: u32) -> bool {
    usize::try_from(exchange).is_ok_and(|exchange| exchange < trace.exchanges.len())
}

fn share(of: impl Iterator<Item = bool>) -> f64 {
    let (mut yes, mut all) = (0, 0);
    for one in of {
        yes += u64::from(one);
        all += 1;
    }
    if all == 0 {
        0.0
    } else {
        as_float(yes) / as_float(all)
    }
}

/// From the first exchange's begin to the last one's end, or to a later point.
fn span(trace: &Trace) -> (u64, u64) {
    let begin = trace.exchanges.first().map_or(0, |first| first.span_us.0);
    let end = trace.exchanges.last().map_or(0, |last| last.span_us.1);
    let last = trace.points.iter().filter_map(|point| point.time_us).max();
    (begin, end.max(last.unwrap_or(0)))
}

/// Whether the trace says what the policies need to know of its waits: their
/// times, and, where other threads are in scope, the stacks of those.
fn waits_are_known(trace: &Trace, scope: Scope) -> bool {
    let processes = match scope {
        Scope::Process => 1,
        Scope::Tree => trace.processes.len(),
    };
    let alone = processes <= 1 && trace.processes.iter().all(|process| process.threads <= 1);
    // Other stacks were first recorded together with the words of all stacks; with
    // either, a wait without others is one while no other thread is alive.
    let has_others = trace
        .waits
        .iter()
        .any(|wait| !wait.other_stacks.is_empty() || wait.words.is_some());
    let in_session = trace
        .waits
        .iter()
        .filter(|wait| is_in(trace, wait.exchange));
    share(in_session.map(|wait| wait.span_us.is_some())) >= TIMED_ENOUGH && (alone || has_others)
}

fn units<'t>(trace: &'t Trace, scope: Scope, span: Option<(u64, u64)>) -> Vec<Unit<'t>> {
    let times = times(trace, span);
    let mut units: BTreeMap<Option<&RoleInstance>, Unit<'t>> = BTreeMap::new();
    let of = |role: &'t RoleInstance| match scope {
        Scope::Process => (Some(role), role.role.as_str()),
        Scope::Tree => (None, ""),
    };
    let points = trace.points.iter().enumerate();
    for (index, point) in points.filter(|(_, point)| is_in_session(point)) {
        let (key, role) = of(&point.id.role);
        let unit = units.entry(key).or_insert_with(|| Unit {
            role,
            points: Vec::new(),
            waits: Vec::new(),
            life: None,
        });
        unit.points.push((index, times[index]));
    }
    for (index, wait) in trace.waits.iter().enumerate() {
        // A process that runs nothing of its own has no point to be updated at.
        if let Some(unit) = units.get_mut(&of(&wait.role).0)
            && let Some(span) = wait.span_us
        {
            unit.waits.push((index, span));
        }
    }
    for (process, unit) in &mut units {
        if let Some(span) = span {
            // Of several threads or processes, the run without stops may have
            // scheduled them in another order than the traced one.
            unit.points.sort_by_key(|(_, time)| *time);
            let process = process
                .and_then(|role| trace.processes.iter().find(|process| process.role == *role));
            let ended = process.and_then(|process| process.ended);
            let ended = ended.is_some_and(|exchange| is_in(trace, exchange));
            unit.life = life(unit, process, ended, span);
        }
        bound_waits(unit);
    }
    units.into_values().collect()
}

/// A time for every point: its own, or that of the point before it on its thread,
/// or that of its exchange; 0 for all where the trace is not timed.
fn times(trace: &Trace, span: Option<(u64, u64)>) -> Vec<u64> {
    let mut latest: HashMap<(&RoleInstance, u32), u64> = HashMap::new();
    let points = trace.points.iter().map(|point| {
        span?;
        let exchange = usize::try_from(point.id.exchange?).ok()?;
        let begin = trace.exchanges.get(exchange)?.span_us.0;
        let latest = latest
            .entry((&point.id.role, point.id.thread))
            .or_insert(begin);
        *latest = point.time_us.unwrap_or(*latest);
        Some(*latest)
    });
    points.map(Option::unwrap_or_default).collect()
}

/// When a unit could be asked to update; none if that is no time at all.
fn life(
    unit: &Unit<'_>,
    process: Option<&ProcessFacts>,
    ended: bool,
    span: (u64, u64),
) -> Option<(u64, u64)> {
    let Some(process) = process else {
        return Some(span);
    };
    let points = unit.points.iter().map(|(_, time)| (*time, *time));
    let active = points.chain(unit.waits.iter().map(|(_, wait)| *wait));
    let (first, last) = active.fold((u64::MAX, 0), |(first, last), (from, to)| {
        (first.min(from), last.max(to))
    });
    let from_begin = process.parent.is_none() || process.born == 0 && process.born_at == 0;
    let from = if from_begin {
        span.0
    } else {
        first.max(span.0)
    };
    let to = if ended { last } else { span.1 };
    (to > from).then_some((from, to.min(span.1)))
}

/// Waits are seen at the end of an exchange, when every thread waits, and their
/// stacks are those of that moment. They hold while no thread of the unit enters a
/// function: from the unit's last point before to its next one. What little runs
/// before and after without entering any counts as waiting, too.
fn bound_waits(unit: &mut Unit<'_>) {
    for (_, wait) in &mut unit.waits {
        let before = unit.points.partition_point(|(_, time)| *time < wait.1);
        let last = before.checked_sub(1).and_then(|last| unit.points.get(last));
        let next = unit.points.get(before);
        *wait = (
            last.map_or(wait.0, |(_, time)| *time),
            next.map_or(u64::MAX, |(_, time)| *time),
        );
    }
}

/// Stretches in order, those that touch or overlap made one.
fn disjoint(stretches: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut sorted: Vec<(u64, u64)> = stretches.filter(|(from, to)| from <= to).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (from, to) in sorted {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{analyse, fixture, sessions};
    use crate::policy::{REGISTRY, with_any};
    use crate::study::store::Run;

    /// Delays in the fixture's first session, its trace changed before.
    fn delays(change: impl Fn(&mut Run)) -> (BTreeMap<&'static str, SessionDelays>, f64) {
        let runs = tempfile::tempdir().unwrap();
        let mut run = fixture::run(runs.path(), None);
        change(&mut run);
        let studied = sessions::studied(&run.pairs, &run.sessions).unwrap();
        let stopwatch = Stopwatch::new(&studied[0]);
        let by_policy = with_any().map(|policy| (policy.column(), stopwatch.delays(policy)));
        (by_policy.collect(), stopwatch.timed_share())
    }

    fn untime(run: &mut Run, every: usize) {
        let points = run.sessions[0].trace.points.iter_mut();
        points.step_by(every).for_each(|point| point.time_us = None);
    }

    #[test]
    fn a_session_that_is_hardly_timed_has_delays_in_points_only() {
        let (delays, timed) = delays(|run| untime(run, 2));
        assert!((timed - 8.0 / 17.0).abs() < 1e-9);
        for (policy, delays) in &delays {
            assert!(!delays.waits_count);
            for of_role in delays.by_role.values() {
                assert_eq!(of_role.at_time, None, "{policy}");
                assert_eq!(of_role.at_point.time, None, "{policy}");
            }
        }
        // `serve` is a manual point, and three points follow it in each exchange.
        let manual = &delays["manual"].by_role["session"].at_point.points;
        assert_eq!((manual.total(), manual.longest()), (16, Some(3)));
        assert_eq!(manual.share_never(), Some(3.0 / 16.0));
    }

    #[test]
    fn waits_without_times_leave_delays_to_policies_that_do_not_need_them() {
        let (delays, _) = delays(|run| {
            let waits = run.sessions[0].trace.waits.iter_mut();
            waits.for_each(|wait| wait.span_us = None);
        });
        let has_times = |policy: &str| delays[policy].by_role["session"].at_time.is_some();
        assert!(has_times("manual"));
        assert!(!has_times("any") && !has_times("activeness"));
    }

    #[test]
    fn waits_of_the_probe_need_no_times() {
        let (delays, _) = delays(|run| {
            let trace = &mut run.sessions[0].trace;
            let mut after = trace.waits.clone();
            for wait in &mut after {
                (wait.exchange, wait.span_us) = (9, None);
            }
            trace.waits.extend(after);
            trace
                .processes
                .iter_mut()
                .for_each(|process| process.ended = Some(9));
        });
        let whole = &delays["any"].by_role["listener"]
            .at_time
            .as_ref()
            .unwrap()
            .time;
        // Alive to the session's end.
        assert_eq!((whole.total(), whole.at_once), (4000, 3950));
    }

    #[test]
    fn all_processes_wait_together_in_the_scope_tree() {
        let tree = |run: &mut Run| {
            run.sessions[0].session.scope = Scope::Tree;
            let trace = &mut run.sessions[0].trace;
            let others = trace.waits[0].stack;
            trace
                .waits
                .iter_mut()
                .for_each(|wait| wait.other_stacks = vec![others]);
        };
        let (known, _) = delays(tree);
        let together = &known["any"].by_role;
        assert_eq!(together.keys().collect::<Vec<_>>(), [""]);
        let time = &together[""].at_time.as_ref().unwrap().time;
        assert_eq!((time.total(), time.at_once), (4000, 2700));
        let (unknown, _) = delays(|run| {
            tree(run);
            let waits = run.sessions[0].trace.waits.iter_mut();
            waits.for_each(|wait| (wait.other_stacks, wait.words) = (Vec::new(), None));
        });
        assert_eq!(unknown["any"].by_role[""].at_time, None);
        assert!(unknown["manual"].by_role[""].at_time.is_some());
    }

    #[test]
    fn a_wait_counts_between_the_points_of_all_threads() {
        // A second thread of the session enters functions while the first one waits.
        let (delays, _) = delays(|run| {
            let trace = &mut run.sessions[0].trace;
            trace.processes[1].threads = 2;
            let others = trace.waits[0].stack;
            trace
                .waits
                .iter_mut()
                .for_each(|wait| wait.other_stacks = vec![others]);
            let mut point = trace.points.last().unwrap().clone();
            (point.id.thread, point.time_us) = (1, Some(3700));
            trace.points.push(point);
        });
        let time = &delays["any"].by_role["session"]
            .at_time
            .as_ref()
            .unwrap()
            .time;
        // In the last exchange nothing happens from 3700 on.
        assert_eq!(time.at_once, 3 * 700 + 300);
    }

    #[test]
    fn the_share_of_timed_points_is_in_every_row() {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), None);
        let analysis = analyse(&run, fixture::judge).unwrap();
        let sessions = run.sessions.len();
        // Roles × policies × bases.
        let expected = sessions * 2 * (1 + REGISTRY.len()) * 2;
        assert_eq!(analysis.delays.len(), expected);
        assert!(
            analysis
                .delays
                .iter()
                .all(|row| (row.timed_share - 1.0).abs() < 1e-9)
        );
    }
}
