//! `state.csv`: instances of changed records that updates converted, and what that
//! took.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::TestRow;
use super::table::{Cell, Column, Table};
use crate::verdict::observation::SeenState;

/// What became of the instances of one changed record in the tests of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// The pair.
    pub pair: String,
    /// The mechanism.
    pub mechanism: String,
    /// The record, or all of the pair's together.
    pub record: String,
    /// Tests that applied the update.
    pub tests: usize,
    /// Tests that met at least one instance.
    pub met: usize,
    /// Instances in the middle one of the tests, by number.
    pub median: u64,
    /// Most instances in a test.
    pub most: u64,
    /// Only for all records together.
    pub whole: Option<Whole>,
}

/// What is known of an update's instances as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Most instances that moved in a test.
    pub moved: u64,
    /// Microseconds of the middle test to find instances.
    pub walk_us: f64,
    /// Microseconds of the middle test to convert them.
    pub convert_us: f64,
    /// Tests in which something was not followed or not converted.
    pub with_problems: usize,
    /// What a person must write for the pair.
    pub gaps: Option<usize>,
}

const COLUMNS: [Column<Converted>; 12] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("mechanism", |row| Cell::text(&row.mechanism)),
    ("record", |row| Cell::text(&row.record)),
    ("tests", |row| Cell::number(row.tests)),
    ("met", |row| Cell::number(row.met)),
    ("instances_median", |row| Cell::number(row.median)),
    ("instances_most", |row| Cell::number(row.most)),
    ("moved_most", |row| {
        Cell::optional(row.whole.as_ref().map(|whole| whole.moved))
    }),
    ("walk_median_us", |row| {
        Cell::optional(row.whole.as_ref().map(|whole| whole.walk_us.round()))
    }),
    ("convert_median_us", |row| {
        Cell::optional(row.whole.as_ref().map(|whole| whole.convert_us.round()))
    }),
    ("with_problems", |row| {
        Cell::optional(row.whole.as_ref().map(|whole| whole.with_problems))
    }),
    ("gaps", |row| {
        Cell::optional(row.whole.as_ref().and_then(|whole| whole.gaps))
    }),
];

/// The name under which a pair's records are taken together.
const ALL: &str = "all";

/// `state.csv` as a table.
#[must_use]
pub fn table(rows: &[Converted]) -> Table {
    let title = "Instances of changed records that updates converted, and what that took.";
    let mut table = Table::of("state", title, &COLUMNS, rows);
    table.notes.push(
        "Pairs whose records do not change are left out. `gaps` counts what Kairos does not know \
         and a person must write: see `kairos patch`."
            .to_owned(),
    );
    table
}

/// Adds up what the tests' updates converted, per pair and record.
#[must_use]
pub fn converted(rows: &[TestRow]) -> Vec<Converted> {
    let mut tests: BTreeMap<(&str, &str), Vec<(&TestRow, &SeenState)>> = BTreeMap::new();
    for row in rows {
        if let Some(state) = &row.state {
            let key = (row.session.pair.as_str(), row.session.mechanism.as_str());
            tests.entry(key).or_default().push((row, state));
        }
    }
    let mut found = Vec::new();
    for ((pair, mechanism), tests) in tests {
        let row = |record: &str, counts: Vec<u64>, whole: Option<Whole>| Converted {
            pair: pair.to_owned(),
            mechanism: mechanism.to_owned(),
            record: record.to_owned(),
            tests: counts.len(),
            met: counts.iter().filter(|count| **count > 0).count(),
            most: counts.iter().copied().max().unwrap_or(0),
            median: middle(counts, u64::cmp).unwrap_or(0),
            whole,
        };
        let times = |of: fn(&SeenState) -> f64| {
            let times = tests.iter().map(|(_, state)| of(state)).collect();
            middle(times, f64::total_cmp).unwrap_or(0.0)
        };
        let whole = Whole {
            moved: tests
                .iter()
                .map(|(_, state)| state.moved)
                .max()
                .unwrap_or(0),
            walk_us: times(|state| state.walk_us),
            convert_us: times(|state| state.convert_us),
            with_problems: tests
                .iter()
                .filter(|(_, state)| !state.problems.is_empty())
                .count(),
            gaps: tests.first().and_then(|(row, _)| row.gaps),
        };
        let all = tests
            .iter()
            .map(|(_, state)| state.instances.values().sum());
        found.push(row(ALL, all.collect(), Some(whole)));
        let records: BTreeSet<&String> = tests
            .iter()
            .flat_map(|(_, state)| state.instances.keys())
            .collect();
        for record in records {
            let count = |state: &SeenState| state.instances.get(record).copied().unwrap_or(0);
            let counts = tests.iter().map(|(_, state)| count(state)).collect();
            found.push(row(record, counts, None));
        }
    }
    found
}

/// The middle one, the lower of two.
fn middle<T: Copy>(mut values: Vec<T>, order: fn(&T, &T) -> std::cmp::Ordering) -> Option<T> {
    values.sort_by(order);
    values.get(values.len().checked_sub(1)? / 2).copied()
}
