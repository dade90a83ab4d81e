//! `coverage.csv`: which changed functions the workloads enter, and in how many
//! tests their new code ran.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::patch::Reason;
use crate::policy::Change;
use crate::study::plan::{PlannedTest, SessionKey};
use crate::study::store::TestRecord;

/// Coverage of one function by one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The session.
    pub session: SessionKey,
    /// The function.
    pub function: String,
    /// `changed`, `rebuilt`, `identical` (control arm), `deleted` or `added`.
    pub change: &'static str,
    /// Entries of it in the unpatched trace.
    pub entries: u64,
    /// Tests after whose update its new code ran.
    pub tests: u64,
}

const COLUMNS: [Column<Coverage>; 6] = [
    ("pair", |row| Cell::text(row.session.label())),
    ("workload", |row| Cell::text(&row.session.workload)),
    ("function", |row| Cell::text(&row.function)),
    ("change", |row| Cell::text(row.change)),
    ("entries", |row| Cell::number(row.entries)),
    ("tests", |row| Cell::number(row.tests)),
];

/// `coverage.csv` as a table.
#[must_use]
pub fn table(rows: &[Coverage]) -> Table {
    let title =
        "Entries of changed functions in the unpatched run, and tests in which their new code ran.";
    Table::of("coverage", title, &COLUMNS, rows)
}

/// Which functions of the image ran in which tests, gathered while the tests'
/// observations pass by.
#[derive(Debug, Default)]
pub struct NewCode {
    by_test: HashMap<usize, (SessionKey, BTreeSet<String>)>,
}

impl NewCode {
    /// Takes note of what ran in the test at that place of the plan.
    pub fn record(&mut self, place: usize, test: &PlannedTest, record: &TestRecord) {
        let functions = record
            .observations
            .iter()
            .flat_map(|observation| observation.new_entries.iter())
            .filter(|(_, entries)| **entries > 0)
            .map(|(function, _)| function.to_string())
            .collect();
        self.by_test
            .insert(place, (test.session.clone(), functions));
    }

    fn tests(&self) -> BTreeMap<(&SessionKey, &str), u64> {
        let mut tests = BTreeMap::new();
        for (session, functions) in self.by_test.values() {
            for function in functions {
                *tests.entry((session, function.as_str())).or_insert(0) += 1;
            }
        }
        tests
    }
}

/// Coverage of every changed, deleted and added function by every session.
#[must_use]
pub fn coverage(sessions: &[StudiedSession<'_>], ran: &NewCode) -> Vec<Coverage> {
    let tests = ran.tests();
    sessions
        .iter()
        .flat_map(|session| {
            let key = &session.record.session;
            let mut functions = changed_functions(session);
            for point in &session.record.trace.points {
                if let Some(function) = session.evaluator.changed().find(point.function)
                    && let Some((_, entries)) = functions.get_mut(function.function.name.as_str())
                {
                    *entries += 1;
                }
            }
            functions
                .into_iter()
                .map(|(function, (change, entries))| Coverage {
                    session: key.clone(),
                    function: function.to_owned(),
                    change,
                    entries,
                    tests: tests.get(&(key, function)).copied().unwrap_or(0),
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// By name; static functions of equal name share a row, as they share a name in
/// observations.
fn changed_functions<'a>(
    session: &'a StudiedSession<'_>,
) -> BTreeMap<&'a str, (&'static str, u64)> {
    let changed = session.evaluator.changed().functions().iter().map(|entry| {
        let change = match entry.change {
            Change::Deleted => "deleted",
            Change::Redirected { reason, .. } => match reason {
                Reason::ObjectCode => "changed",
                Reason::UsesChanged => "uses-changed",
                Reason::RenamedParameters => "renamed-parameters",
                Reason::RefersToMoved | Reason::RefersToKept => "rebuilt",
                Reason::Control => "identical",
            },
        };
        (entry.function.name.as_str(), (change, 0))
    });
    let added = session.pair.patch.added.iter();
    added
        .map(|added| (added.function.name.as_str(), ("added", 0)))
        .chain(changed)
        .collect()
}

/// Pairs of which no workload enters changed code.
#[must_use]
pub fn unreached(coverage: &[Coverage]) -> BTreeSet<&str> {
    let reached: BTreeSet<&str> = coverage
        .iter()
        .filter(|row| row.entries > 0)
        .map(|row| row.session.pair.as_str())
        .collect();
    coverage
        .iter()
        .map(|row| row.session.pair.as_str())
        .filter(|pair| !reached.contains(pair))
        .collect()
}
