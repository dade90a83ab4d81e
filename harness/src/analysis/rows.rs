//! `tests.csv`: one row per tested point.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::AnalysisError;
use super::coverage::NewCode;
use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::policy::{ANY, columns};
use crate::study::plan::{PlannedTest, SessionKey};
use crate::study::store::{SessionRecord, StoreError, TestRecord};
use crate::trace::PointId;
use crate::verdict::observation::{SeenState, Update};
use crate::verdict::{Judgement, Observation, Verdict};

/// A test's verdict over its repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Every run of the test gave this verdict.
    Verdict(Verdict),
    /// Runs of the test gave different verdicts; counted neither as a failure
    /// nor as a pass.
    Flaky,
}

impl Outcome {
    /// Whether the update failed.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::Verdict(verdict) if verdict.is_failure())
    }

    /// Whether the update was applied and nothing failed.
    #[must_use]
    pub const fn is_pass(self) -> bool {
        matches!(self, Self::Verdict(verdict) if verdict.is_pass())
    }

    /// The name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verdict(verdict) => verdict.name(),
            Self::Flaky => "flaky",
        }
    }

    /// All outcomes, failures first, then the passing ones, then those apart.
    pub const TABLE_ORDER: [Self; 12] = [
        Self::Verdict(Verdict::Crash),
        Self::Verdict(Verdict::Exit),
        Self::Verdict(Verdict::Stall),
        Self::Verdict(Verdict::Wrong),
        Self::Verdict(Verdict::Mixed),
        Self::Verdict(Verdict::State),
        Self::Verdict(Verdict::Inert),
        Self::Verdict(Verdict::Late),
        Self::Verdict(Verdict::New),
        Self::Flaky,
        Self::Verdict(Verdict::NotApplied),
        Self::Verdict(Verdict::NotReached),
    ];
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One tested point.
#[derive(Clone, Debug, PartialEq)]
pub struct TestRow {
    /// Pair, workload, scope and mechanism.
    pub session: SessionKey,
    /// The point; its role, thread and exchange have columns of their own.
    pub point: PointId,
    /// Function entered.
    pub function: String,
    /// Equivalence class.
    pub class: String,
    /// How many points it stands for.
    pub weight: f64,
    /// Verdict, or flaky.
    pub outcome: Outcome,
    /// Cause of the verdict; for a flaky test, its verdicts.
    pub cause: String,
    /// First exchange that left the expected versions.
    pub diverged_at: Option<u32>,
    /// How many later exchanges tell the versions apart.
    pub discriminating: u32,
    /// Entries of new code.
    pub new_code_entries: u64,
    /// Whether an old frame of a changed function ran after the update.
    pub old_frame_ran: bool,
    /// Engine.
    pub engine: String,
    /// How often the test was repeated after its first run.
    pub repeats: u32,
    /// Wall-clock time in microseconds, repeats included.
    pub wall_us: u64,
    /// What became of live state in the first run; none where no record changed.
    pub state: Option<SeenState>,
    /// What a person must write for the pair's live state; none in runs that did not
    /// look.
    pub gaps: Option<usize>,
    /// Columns of the policies that allow the point.
    pub allowed_by: BTreeSet<&'static str>,
}

impl TestRow {
    fn was_reached(&self) -> bool {
        self.outcome != Outcome::Verdict(Verdict::NotReached)
    }

    /// Whether its own point was tested, and not another of its class.
    #[must_use]
    pub fn was_tested(&self) -> bool {
        self.engine != LEADER
    }

    /// Whether the policy of that column allows the point; `any` does.
    #[must_use]
    pub fn is_allowed(&self, column: &str) -> bool {
        column == ANY.column() || self.allowed_by.contains(column)
    }
}

/// Columns of `tests.csv` before those of the policies.
const COLUMNS: [Column<TestRow>; 23] = [
    ("pair", |row| Cell::text(&row.session.pair)),
    ("workload", |row| Cell::text(&row.session.workload)),
    ("scope", |row| Cell::text(row.session.scope)),
    ("mechanism", |row| Cell::text(&row.session.mechanism)),
    ("role", |row| Cell::text(&row.point.role.role)),
    ("thread", |row| Cell::number(row.point.thread)),
    ("exchange", |row| Cell::text(row.point.moment())),
    ("point", |row| Cell::text(&row.point)),
    ("function", |row| Cell::text(&row.function)),
    ("class", |row| Cell::text(&row.class)),
    ("weight", |row| Cell::number(row.weight)),
    ("verdict", |row| Cell::text(row.outcome)),
    ("cause", |row| Cell::text(&row.cause)),
    ("diverged_at", |row| Cell::optional(row.diverged_at)),
    ("discriminating", |row| Cell::number(row.discriminating)),
    ("new_code_entries", |row| Cell::number(row.new_code_entries)),
    ("old_frame_ran", |row| Cell::text(row.old_frame_ran)),
    ("engine", |row| Cell::text(&row.engine)),
    ("repeats", |row| Cell::number(row.repeats)),
    ("wall_us", |row| Cell::number(row.wall_us)),
    ("instances", |row| {
        let state = row.state.as_ref();
        Cell::optional(state.map(|state| state.instances.values().sum::<u64>()))
    }),
    ("convert_us", |row| {
        let state = row.state.as_ref();
        Cell::optional(state.map(|state| (state.walk_us + state.convert_us).round()))
    }),
    ("gaps", |row| Cell::optional(row.gaps)),
];

/// `tests.csv` as a table.
#[must_use]
pub fn table(rows: &[TestRow]) -> Table {
    let mut table = Table::of("tests", "One row per tested point.", &COLUMNS, rows);
    table.header.extend(columns().map(str::to_owned));
    for (cells, row) in table.rows.iter_mut().zip(rows) {
        cells.extend(columns().map(|column| {
            Cell::text(if row.is_allowed(column) {
                "allowed"
            } else {
                "refused"
            })
        }));
    }
    table
}

/// Judges every finished test, in the order of the plan. A test that is recorded
/// twice counts by its last record.
///
/// # Errors
/// A record cannot be read, or does not fit the plan and the sessions.
pub fn rows<J>(
    plan: &[PlannedTest],
    sessions: &[StudiedSession<'_>],
    tests: impl Iterator<Item = Result<TestRecord, StoreError>>,
    ran: &mut NewCode,
    judge: J,
) -> Result<Vec<TestRow>, AnalysisError>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    let planned: HashMap<&str, (usize, &PlannedTest)> = plan
        .iter()
        .enumerate()
        .map(|(place, test)| (test.id.as_str(), (place, test)))
        .collect();
    let by_key: BTreeMap<&SessionKey, &StudiedSession<'_>> = sessions
        .iter()
        .map(|session| (&session.record.session, session))
        .collect();
    let served = Served::of(plan);
    let mut rows: BTreeMap<usize, TestRow> = BTreeMap::new();
    for record in tests {
        let record = record?;
        let (place, test) = planned
            .get(record.test.as_str())
            .copied()
            .ok_or_else(|| AnalysisError::NotPlanned(record.test.clone()))?;
        let session = by_key
            .get(&test.session)
            .ok_or_else(|| AnalysisError::NoSession(test.id.clone()))?;
        let complete = |row: TestRow| complete(row, session, &test.id);
        ran.record(place, test, &record);
        if let Some(row) = row(test, session.record, &record, &judge) {
            rows.insert(place, complete(row)?);
        }
        for place in served.by(test) {
            if rows.get(place).is_some_and(TestRow::was_reached) {
                continue;
            }
            let member = &plan[*place];
            ran.record(*place, member, &record);
            let record = seen_from(&record, member);
            if let Some(row) = row(member, session.record, &record, &judge) {
                rows.insert(*place, complete(row)?);
            }
        }
    }
    Ok(rows.into_values().collect())
}

/// Which points are judged from a test of another point of their class.
struct Served<'a> {
    by_class: HashMap<(&'a SessionKey, &'a str), Vec<usize>>,
}

impl<'a> Served<'a> {
    fn of(plan: &'a [PlannedTest]) -> Self {
        let mut by_class: HashMap<(&SessionKey, &str), Vec<usize>> = HashMap::new();
        for (place, test) in plan.iter().enumerate().filter(|(_, test)| !test.tested) {
            let class = (&test.session, test.class.as_str());
            by_class.entry(class).or_default().push(place);
        }
        Self { by_class }
    }

    /// Those that a test of this point serves.
    fn by(&self, test: &'a PlannedTest) -> &[usize] {
        let class = (&test.session, test.class.as_str());
        self.by_class.get(&class).map_or(&[], Vec::as_slice)
    }
}

/// What a test of another point of its class shows of a member: nothing that happened
/// before the member's exchange.
fn seen_from(record: &TestRecord, member: &PlannedTest) -> TestRecord {
    let mut record = record.clone();
    LEADER.clone_into(&mut record.engine);
    record.wall_us = 0;
    for seen in &mut record.observations {
        let frames = &mut seen.old_frame_exchanges;
        frames.retain(|number| Some(*number) >= member.point.exchange);
    }
    record
}

/// What rows name as engine whose point was not tested itself.
pub const LEADER: &str = "leader";

/// Adds what the session knows of a row's point.
fn complete(
    mut row: TestRow,
    session: &StudiedSession<'_>,
    test: &str,
) -> Result<TestRow, AnalysisError> {
    let index = session
        .index_of(&row.point)
        .ok_or_else(|| AnalysisError::NoPoint(test.to_owned()))?;
    row.gaps = session.pair.patch.gaps.as_ref().map(Vec::len);
    row.allowed_by = columns()
        .filter(|column| session.evaluation.allows_point(index, column))
        .collect();
    Ok(row)
}

/// The row of one record; none if it holds no observation.
fn row<J>(
    test: &PlannedTest,
    session: &SessionRecord,
    record: &TestRecord,
    judge: &J,
) -> Option<TestRow>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    let judgements: Vec<Judgement> = record
        .observations
        .iter()
        .map(|observation| judge(session, &test.point, observation))
        .collect();
    let first = judgements.first()?;
    let agree = judgements
        .iter()
        .all(|judgement| judgement.verdict == first.verdict);
    let verdicts: Vec<&str> = judgements
        .iter()
        .map(|judgement| judgement.verdict.name())
        .collect();
    Some(TestRow {
        session: test.session.clone(),
        point: test.point.clone(),
        function: test.function.clone(),
        class: test.class.clone(),
        weight: test.weight,
        outcome: if agree {
            Outcome::Verdict(first.verdict)
        } else {
            Outcome::Flaky
        },
        cause: if agree {
            first.cause.clone()
        } else {
            verdicts.join(", ")
        },
        diverged_at: first.diverged_at,
        discriminating: first.discriminating,
        new_code_entries: first.new_code_entries,
        old_frame_ran: first.old_frame_ran,
        engine: record.engine.clone(),
        repeats: u32::try_from(judgements.len() - 1).unwrap_or(u32::MAX),
        wall_us: record.wall_us,
        state: match record.observations.first().map(|seen| &seen.update) {
            Some(Update::Applied { state, .. }) => state.clone(),
            _ => None,
        },
        gaps: None,
        allowed_by: BTreeSet::new(),
    })
}
