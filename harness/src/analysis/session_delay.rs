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
    /// Its timed waits: places in the trace, and when nothing else has happened in
    /// the unit since.
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
    let has_others = trace.waits.iter().any(|wait| !wait.other_stacks.is_empty());
    share(trace.waits.iter().map(|wait| wait.span_us.is_some())) >= TIMED_ENOUGH
        && (alone || has_others)
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
            let process = process.and_then(|role| {
                trace
                    .processes
                    .iter()
                    .find(|process| process.role == *role)
            });
            unit.life = life(unit, process, span);
        }
        cut_waits(unit);
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
fn life(unit: &Unit<'_>, process: Option<&ProcessFacts>, span: (u64, u64)) -> Option<(u64, u64)> {
    let Some(process) = process else {
        return Some(span);
    };
    let points = unit.points.iter().map(|(_, time)| (*time, *time));
    let active = points.chain(unit.waits.iter().map(|(_, wait)| *wait));
    let (first, last) = active.fold((u64::MAX, 0), |(first, last), (from, to)| {
        (first.min(from), last.max(to))
    });
    let from_begin = process.parent.is_none() || process.born == 0 && process.born_at == 0;
    let from = if from_begin { span.0 } else { first.max(span.0) };
    let to = if process.ended.is_some() { last } else { span.1 };
    (to > from).then_some((from, to.min(span.1)))
}

/// A wait's stacks are those at its beginning. Another thread in scope may change
/// the state meanwhile, and then its own point or wait says what is allowed: so a
/// wait counts until the next thing happens in the unit.
fn cut_waits(unit: &mut Unit<'_>) {
    let points = unit.points.iter().map(|(_, time)| *time);
    let mut events: Vec<u64> = points
        .chain(unit.waits.iter().map(|(_, wait)| wait.0))
        .collect();
    events.sort_unstable();
    for (_, wait) in &mut unit.waits {
        let next = events.partition_point(|event| *event <= wait.0);
        if let Some(next) = events.get(next) {
            wait.1 = wait.1.min(*next);
        }
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
