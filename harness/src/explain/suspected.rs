//! Failing tests by the causes that their records suggest: evidence, not proof. A test
//! with several suspected causes is counted once, under all of them together.

use std::collections::BTreeMap;

use super::account::Account;
use crate::analysis::table::{Cell, Column, Table};
use crate::analysis::{Outcome, TestRow};

/// What stands where the records suggest nothing.
pub const UNKNOWN: &str = "unknown";

/// Failing tests of one pair with the same verdict and the same suspected causes.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspected {
    /// The pair, with scope and mechanism where they are not the usual ones.
    pub pair: String,
    /// Suspected causes, the most telling first.
    pub causes: String,
    /// The verdict.
    pub outcome: Outcome,
    /// How many tests.
    pub tests: u64,
    /// How many points these stand for.
    pub points: f64,
    /// Identifier of the first.
    pub first: String,
}

/// Adds up failing tests as they come.
#[derive(Debug, Default)]
pub struct Suspects {
    found: BTreeMap<(String, String, Outcome), Suspected>,
}

impl Suspects {
    /// Counts a failing test.
    pub fn add(&mut self, row: &TestRow, account: &Account) {
        let causes = match account.causes.as_slice() {
            [] => UNKNOWN.to_owned(),
            causes => causes.join(" / "),
        };
        let key = (row.session.label(), causes, row.outcome);
        let entry = self.found.entry(key);
        let found = entry.or_insert_with_key(|(pair, causes, outcome)| Suspected {
            pair: pair.clone(),
            causes: causes.clone(),
            outcome: *outcome,
            tests: 0,
            points: 0.0,
            first: row.session.test_id(&row.point),
        });
        found.tests += 1;
        found.points += row.weight;
    }

    /// All of them, by pair.
    #[must_use]
    pub fn rows(self) -> Vec<Suspected> {
        self.found.into_values().collect()
    }
}

const COLUMNS: [Column<Suspected>; 6] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("suspected", |row| Cell::text(&row.causes)),
    ("verdict", |row| Cell::text(row.outcome)),
    ("tests", |row| Cell::number(row.tests)),
    ("points", |row| Cell::estimate(row.points)),
    ("first", |row| Cell::text(&row.first)),
];

/// The suspected causes as a table.
#[must_use]
pub fn table(rows: &[Suspected]) -> Table {
    let title = "Failing tests by the causes that their records suggest.";
    let mut table = Table::of("suspected", title, &COLUMNS, rows);
    table.notes.push(
        "Evidence, not proof: frames that were active, prototypes, layouts, what the pair leaves \
         out. Several causes of one row each fit all of its tests. Points judged from the test of \
         an equivalent point are not counted."
            .to_owned(),
    );
    table
}
