//! `summary.csv`: measures per pair and policy, per role, and in total.

use std::collections::{BTreeMap, BTreeSet};

use super::cells::Tally;
use super::counts;
use super::course::{AtPoint, AtTime};
use super::coverage::{Coverage, unreached};
use super::delay::Delays;
use super::mechanisms;
use super::rows::TestRow;
use super::session_delay::SessionDelays;
use super::sessions::StudiedSession;
use super::steps::Steps;
use super::table::{Cell, Column, Table};
use crate::policy::with_any;
use crate::study::plan::SessionKey;
use crate::study::store::{Arm, Division};
use crate::trace::Scope;

/// What a group of points was gathered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// One pair.
    Pair,
    /// One role of one pair.
    Role(String),
    /// All pairs of one subject.
    Subject,
    /// The pairs of one update, or of several of one subject, under one mechanism.
    Mechanism(String),
    /// All pairs of one division.
    Division(Division),
    /// All pairs.
    Total,
}

/// Measures of one policy over a group of points.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyMeasures {
    /// The policy's column, `any` included.
    pub policy: &'static str,
    /// Points of the traces that it allows, exactly.
    pub allowed: u64,
    /// Tested points that it allows.
    pub tally: Tally,
    /// Delays of requests at a random time; none where the traces have no times
    /// for them.
    pub at_time: Option<AtTime>,
    /// Delays of requests at a random point.
    pub at_point: AtPoint,
}

/// Measures over a group of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name in tables: the pair, or the division, or `total`.
    pub name: String,
    /// What it was gathered by.
    pub kind: GroupKind,
    /// What its pairs are for.
    pub arm: Arm,
    /// Whether no workload enters the pair's changed code.
    pub unreached: bool,
    /// How many pairs it holds.
    pub pairs: usize,
    /// Points of the traces.
    pub population: u64,
    /// Tested points.
    pub tally: Tally,
    /// Measures of `any` and of each policy of the registry, in order.
    pub policies: Vec<PolicyMeasures>,
}

impl PolicyMeasures {
    /// How long requests at a random time wait, in microseconds.
    #[must_use]
    pub fn times(&self) -> Option<&Delays> {
        self.at_time.as_ref().map(|at_time| &at_time.time)
    }
}

/// Measures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// One group per pair, in order of the sessions.
    pub pairs: Vec<Group>,
    /// One group per role of each pair.
    pub roles: Vec<Group>,
    /// One group per subject, without controls and unreached pairs.
    pub subjects: Vec<Group>,
    /// Updates that the run applied by more than one mechanism, see
    /// [`super::mechanisms`].
    pub mechanisms: Vec<Group>,
    /// One group per division that occurs, then all pairs. Controls and pairs
    /// whose changed code no workload enters are in none of them.
    pub totals: Vec<Group>,
}

/// One line of `summary.csv`. Counts of failures and passes are weighted
/// estimates for the population; delays are in microseconds.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SummaryRow {
    /// Pair, or `total` with the division.
    pub pair: String,
    /// The policy's column, `any` included.
    pub policy: &'static str,
    /// Points of the traces.
    pub population: u64,
    /// Points tested.
    pub tested: u64,
    /// Points of the traces that the policy allows, exactly.
    pub allowed: u64,
    /// Points at which the update fails.
    pub failures: f64,
    /// The same without the verdict `mixed`.
    pub failures_without_mixed: f64,
    /// Failing points that the policy allows.
    pub failures_allowed: f64,
    /// Passing points that it refuses.
    pub passes_refused: f64,
    /// Delay that half of the requests do not exceed.
    pub delay_median_us: Option<f64>,
    /// Delay that 95 % of the requests do not exceed.
    pub delay_p95_us: Option<f64>,
    /// Longest delay of a request that is served.
    pub delay_max_us: Option<u64>,
    /// Share of the requests that are never served.
    pub never: Option<f64>,
}

const COLUMNS: [Column<SummaryRow>; 13] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("policy", |row| Cell::text(row.policy)),
    ("population", |row| Cell::number(row.population)),
    ("tested", |row| Cell::number(row.tested)),
    ("allowed", |row| Cell::number(row.allowed)),
    ("failures", |row| Cell::estimate(row.failures)),
    ("failures_without_mixed", |row| {
        Cell::estimate(row.failures_without_mixed)
    }),
    ("failures_allowed", |row| {
        Cell::estimate(row.failures_allowed)
    }),
    ("passes_refused", |row| Cell::estimate(row.passes_refused)),
    ("delay_median_us", |row| {
        Cell::optional(row.delay_median_us.map(f64::round))
    }),
    ("delay_p95_us", |row| {
        Cell::optional(row.delay_p95_us.map(f64::round))
    }),
    ("delay_max_us", |row| Cell::optional(row.delay_max_us)),
    ("never", |row| {
        Cell::optional(row.never.map(|share| format!("{share:.4}")))
    }),
];

impl SummaryRow {
    fn of(group: &Group, measures: &PolicyMeasures) -> Self {
        let delays = measures.times();
        Self {
            pair: group.name.clone(),
            policy: measures.policy,
            population: group.population,
            tested: group.tally.tested,
            allowed: measures.allowed,
            failures: group.tally.failures(),
            failures_without_mixed: group.tally.failures_without_mixed(),
            failures_allowed: measures.tally.failures(),
            passes_refused: (group.tally.passes() - measures.tally.passes()).max(0.0),
            delay_median_us: delays.and_then(|delays| delays.quantile(0.5)),
            delay_p95_us: delays.and_then(|delays| delays.quantile(0.95)),
            delay_max_us: delays.and_then(Delays::longest),
            never: delays.and_then(Delays::share_never),
        }
    }
}

/// The lines of `summary.csv`: every pair, then the totals.
#[must_use]
pub fn rows(summary: &Summary) -> Vec<SummaryRow> {
    let groups = summary.pairs.iter().chain(&summary.totals);
    groups
        .flat_map(|group| {
            group
                .policies
                .iter()
                .map(|measures| SummaryRow::of(group, measures))
        })
        .collect()
}

/// `summary.csv` as a table.
#[must_use]
pub fn table(summary: &Summary) -> Table {
    let title = "Measures per pair and policy.";
    Table::of("summary", title, &COLUMNS, &rows(summary))
}

/// Gathers measures of every pair, every role and in total.
#[must_use]
pub fn summarise(
    sessions: &[StudiedSession<'_>],
    rows: &[TestRow],
    delays: &DelaysByPolicy<'_>,
    coverage: &[Coverage],
) -> Summary {
    let gatherer = Gatherer::new(sessions, rows, delays, unreached(coverage));
    let mut labels: Vec<String> = Vec::new();
    for session in sessions {
        let label = session.record.session.label();
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let mut summary = Summary::default();
    for label in &labels {
        let in_pair = |session: &StudiedSession<'_>| session.record.session.label() == *label;
        summary
            .pairs
            .push(gatherer.group(label, GroupKind::Pair, &in_pair));
        for role in gatherer.roles(&in_pair) {
            summary
                .roles
                .push(gatherer.group(label, GroupKind::Role(role), &in_pair));
        }
    }
    (summary.subjects, summary.totals) = gatherer.totals();
    summary.mechanisms = mechanisms::compared(sessions)
        .into_iter()
        .map(|side| {
            let kind = GroupKind::Mechanism(side.mechanism);
            gatherer.group(&side.name, kind, &|session| {
                side.sessions.contains(&session.record.session)
            })
        })
        .collect();
    summary
}

/// Delays of every session by every policy, by its column.
pub type DelaysByPolicy<'a> = BTreeMap<(&'a SessionKey, &'static str), SessionDelays>;

/// Everything to gather groups from.
struct Gatherer<'a> {
    sessions: &'a [StudiedSession<'a>],
    rows: BTreeMap<&'a SessionKey, Vec<&'a TestRow>>,
    delays: &'a DelaysByPolicy<'a>,
    unreached: BTreeSet<&'a str>,
}

impl<'a> Gatherer<'a> {
    fn new(
        sessions: &'a [StudiedSession<'a>],
        all_rows: &'a [TestRow],
        delays: &'a DelaysByPolicy<'a>,
        unreached: BTreeSet<&'a str>,
    ) -> Self {
        let mut rows: BTreeMap<&SessionKey, Vec<&TestRow>> = BTreeMap::new();
        for row in all_rows {
            rows.entry(&row.session).or_default().push(row);
        }
        Self {
            sessions,
            rows,
            delays,
            unreached,
        }
    }

    fn is_counted(&self, session: &StudiedSession<'_>) -> bool {
        counts(session.pair.arm) && !self.unreached.contains(session.pair.pair.as_str())
    }

    /// Subjects, and totals, of each combination of scope and mechanism by itself: a
    /// point tried in two ways is two tests, not two points.
    fn totals(&self) -> (Vec<Group>, Vec<Group>) {
        let mut combinations: BTreeMap<(Scope, &str), &SessionKey> = BTreeMap::new();
        for session in self.sessions {
            let key = &session.record.session;
            combinations
                .entry((key.scope, &key.mechanism))
                .or_insert(key);
        }
        let names: BTreeSet<&str> = self
            .sessions
            .iter()
            .map(|session| session.pair.subject.as_str())
            .collect();
        let (mut subjects, mut totals) = (Vec::new(), Vec::new());
        for ((scope, mechanism), key) in combinations {
            let counted = |session: &StudiedSession<'_>| {
                let of = &session.record.session;
                (of.scope, of.mechanism.as_str()) == (scope, mechanism) && self.is_counted(session)
            };
            for subject in &names {
                let group = self.group(&key.labelled(subject), GroupKind::Subject, &|session| {
                    counted(session) && session.pair.subject == **subject
                });
                if group.pairs > 0 {
                    subjects.push(group);
                }
            }
            for division in Division::ALL {
                let name = key.labelled(&format!("total {}", division.name()));
                let group = self.group(&name, GroupKind::Division(division), &|session| {
                    counted(session) && session.pair.division() == division
                });
                if group.pairs > 0 {
                    totals.push(group);
                }
            }
            totals.push(self.group(&key.labelled("total"), GroupKind::Total, &counted));
        }
        (subjects, totals)
    }

    fn roles(&self, wanted: &dyn Fn(&StudiedSession<'_>) -> bool) -> BTreeSet<String> {
        self.sessions
            .iter()
            .filter(|session| wanted(session))
            .flat_map(|session| &session.record.trace.points)
            .map(|point| point.id.role.role.clone())
            .collect()
    }

    fn group(
        &self,
        name: &str,
        kind: GroupKind,
        wanted: &dyn Fn(&StudiedSession<'_>) -> bool,
    ) -> Group {
        let sessions: Vec<&StudiedSession<'_>> = self
            .sessions
            .iter()
            .filter(|session| wanted(session))
            .collect();
        let role = match &kind {
            GroupKind::Role(role) => Some(role.as_str()),
            _ => None,
        };
        let in_role = |of: &str| role.is_none_or(|role| role == of);
        let pairs: BTreeSet<&str> = sessions
            .iter()
            .map(|session| session.pair.pair.as_str())
            .collect();
        let mut population = 0;
        let mut tally = Tally::default();
        let mut policies: Vec<PolicyMeasures> = with_any()
            .map(|policy| PolicyMeasures {
                policy: policy.column(),
                allowed: 0,
                tally: Tally::default(),
                at_time: (!sessions.is_empty()).then(AtTime::default),
                at_point: AtPoint {
                    time: Some(Steps::default()),
                    ..AtPoint::default()
                },
            })
            .collect();
        for session in &sessions {
            let key = &session.record.session;
            let points = session.record.trace.points.iter().enumerate();
            for (index, _) in points.filter(|(_, point)| in_role(&point.id.role.role)) {
                population += 1;
                for measures in &mut policies {
                    let allowed = session.evaluation.allows_point(index, measures.policy);
                    measures.allowed += u64::from(allowed);
                }
            }
            let rows = self.rows.get(key).into_iter().flatten();
            for row in rows.filter(|row| in_role(&row.point.role.role)) {
                tally.add(row);
                for measures in &mut policies {
                    if row.is_allowed(measures.policy) {
                        measures.tally.add(row);
                    }
                }
            }
            for measures in &mut policies {
                if let Some(delays) = self.delays.get(&(key, measures.policy)) {
                    add_delays(measures, delays, role);
                }
            }
        }
        Group {
            name: name.to_owned(),
            unreached: kind_is_of_one_pair(&kind)
                && pairs.iter().any(|pair| self.unreached.contains(pair)),
            kind,
            arm: sessions
                .first()
                .map(|session| session.pair.arm)
                .unwrap_or_default(),
            pairs: pairs.len(),
            population,
            tally,
            policies,
        }
    }
}

const fn kind_is_of_one_pair(kind: &GroupKind) -> bool {
    matches!(kind, GroupKind::Pair | GroupKind::Role(_))
}

/// Adds a session's delays; one session without times makes the group's unknown,
/// because the others alone would pass for all.
fn add_delays(measures: &mut PolicyMeasures, session: &SessionDelays, role: Option<&str>) {
    for (name, of_role) in &session.by_role {
        if role.is_some_and(|role| role != name) {
            continue;
        }
        measures.at_point.merge(&of_role.at_point);
        match (&mut measures.at_time, &of_role.at_time) {
            (Some(sum), Some(at_time)) => sum.merge(at_time),
            _ => measures.at_time = None,
        }
    }
}
