//! Failing tests by what went wrong, so that one of each kind can be looked into.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::table::{Cell, Column};
use crate::analysis::{Outcome, Table, TestRow};
use crate::study::plan::SessionKey;

/// Tests of one pair that ended in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// The pair, with scope and mechanism where they are not the usual ones.
    pub pair: String,
    /// Verdict, or `flaky`.
    pub verdict: &'static str,
    /// Cause of the verdict.
    pub cause: String,
    /// How many tested points.
    pub tests: u64,
    /// Functions entered at these points.
    pub functions: Vec<String>,
    /// The first of the tests.
    pub first: String,
}

/// What makes two tests alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pair: String,
    verdict: &'static str,
    cause: String,
}

impl Kind {
    /// The kind of a test.
    #[must_use]
    pub fn of(row: &TestRow) -> Self {
        Self {
            pair: row.session.label(),
            verdict: row.outcome.name(),
            cause: row.cause.clone(),
        }
    }
}

/// Whether a test is worth a look: it failed, could not be applied or found, or
/// ended in different ways.
#[must_use]
pub fn is_notable(outcome: Outcome) -> bool {
    !outcome.is_pass()
}

/// Groups rows by pair, verdict and cause, the largest group first.
#[must_use]
pub fn group<'a>(rows: impl IntoIterator<Item = &'a TestRow>) -> Vec<Cause> {
    let mut groups: BTreeMap<Kind, Cause> = BTreeMap::new();
    for row in rows {
        let kind = Kind::of(row);
        let cause = groups.entry(kind).or_insert_with_key(|kind| Cause {
            pair: kind.pair.clone(),
            verdict: kind.verdict,
            cause: kind.cause.clone(),
            tests: 0,
            functions: Vec::new(),
            first: id(&row.session, row),
        });
        cause.tests += 1;
        if !cause.functions.contains(&row.function) {
            cause.functions.push(row.function.clone());
        }
    }
    let mut causes: Vec<Cause> = groups.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.tests));
    causes
}

/// Identifier of the test of a row.
#[must_use]
pub fn id(session: &SessionKey, row: &TestRow) -> String {
    session.test_id(&row.point)
}

const COLUMNS: [Column<Cause>; 6] = [
    ("pair", |cause| Cell::text(&cause.pair)),
    ("verdict", |cause| Cell::text(cause.verdict)),
    ("cause", |cause| Cell::text(&cause.cause)),
    ("tests", |cause| Cell::number(cause.tests)),
    ("entering", |cause| Cell::text(few(&cause.functions))),
    ("first", |cause| Cell::text(&cause.first)),
];

fn few(functions: &[String]) -> String {
    const MOST: usize = 3;
    if functions.len() > MOST {
        let more = functions.len() - MOST;
        format!("{} and {more} more", functions[..MOST].join(" "))
    } else {
        functions.join(" ")
    }
}

/// The causes as a table.
#[must_use]
pub fn table(causes: &[Cause]) -> Table {
    Table::of(
        "causes",
        "Tests that did not pass, by what went wrong.",
        &COLUMNS,
        causes,
    )
}

/// How often a test's kind occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Frequency {
    /// Tests of the pair with the same verdict and cause, this one included.
    pub same: u64,
    /// Tests of the pair that failed.
    pub failing: u64,
    /// Tests of the pair.
    pub tested: u64,
}

/// Counts the tests of the pair of `row`.
#[must_use]
pub fn frequency(rows: &[TestRow], row: &TestRow) -> Frequency {
    let (pair, kind) = (row.session.label(), Kind::of(row));
    let mut frequency = Frequency {
        same: 0,
        failing: 0,
        tested: 0,
    };
    for other in rows.iter().filter(|other| other.session.label() == pair) {
        frequency.tested += 1;
        frequency.failing += u64::from(other.outcome.is_failure());
        frequency.same += u64::from(Kind::of(other) == kind);
    }
    frequency
}
