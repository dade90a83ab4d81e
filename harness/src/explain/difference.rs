//! Two runs of a study beside each other: what differs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::analysis::summary::{Summary, rows};
use crate::analysis::table::Cell;
use crate::analysis::{Analysis, Table, TestRow};
use crate::study::store::RunFacts;

/// Identifiers shown of each group.
const EXAMPLES: usize = 3;

/// Everything in which two runs differ.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// Tests that both have.
    pub compared: u64,
    /// Tests that only the first run has.
    pub only_first: Group,
    /// Tests that only the second run has.
    pub only_second: Group,
    /// Tests that ended in another way, by both verdicts.
    pub verdicts: Vec<Changed>,
    /// Tests of equal verdicts whose cause differs.
    pub causes: Vec<Changed>,
    /// Tests on which a policy decides in another way.
    pub decisions: Vec<PolicyChange>,
    /// Cells of `summary.csv` that differ.
    pub summary: Vec<CellChange>,
    /// Facts of `run.json` that differ.
    pub facts: Vec<CellChange>,
}

impl Difference {
    /// Whether the runs show the same: facts may differ, results may not.
    #[must_use]
    pub fn same_results(&self) -> bool {
        self.only_first.count == 0
            && self.only_second.count == 0
            && self.verdicts.is_empty()
            && self.causes.is_empty()
            && self.decisions.is_empty()
            && self.summary.is_empty()
    }
}

/// Some tests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Vec<String>,
}

impl Group {
    fn add(&mut self, test: &str) {
        self.count += 1;
        if self.first.len() < EXAMPLES {
            self.first.push(test.to_owned());
        }
    }
}

/// Tests that went from one result to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Result in the first run.
    pub from: String,
    /// Result in the second run.
    pub to: String,
    /// The tests.
    #[serde(flatten)]
    pub tests: Group,
}

/// Tests on which a policy changed its mind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyChange {
    /// The policy's column.
    pub policy: String,
    /// Whether the first run allows them; the second does not, or the other way round.
    pub first_allows: bool,
    /// The tests.
    #[serde(flatten)]
    pub tests: Group,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CellChange {
    /// Which value.
    pub what: String,
    /// In the first run; none where it has no such value.
    pub first: Option<String>,
    /// In the second run.
    pub second: Option<String>,
}

/// Compares two runs.
#[must_use]
pub fn difference(first: (&RunFacts, &Analysis), second: (&RunFacts, &Analysis)) -> Difference {
    let mut found = Difference {
        summary: cells(
            &summary_cells(&first.1.summary),
            &summary_cells(&second.1.summary),
        ),
        facts: cells(&facts(first.0), &facts(second.0)),
        ..Difference::default()
    };
    let others = by_id(&second.1.rows);
    let mut seen = BTreeSet::new();
    let mut verdicts: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut causes: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut decisions: BTreeMap<(String, bool), Group> = BTreeMap::new();
    for row in &first.1.rows {
        let id = row.session.test_id(&row.point);
        let Some(other) = others.get(&id) else {
            found.only_first.add(&id);
            continue;
        };
        found.compared += 1;
        let names = |row: &TestRow| row.outcome.name().to_owned();
        if row.outcome != other.outcome {
            let key = (names(row), names(other));
            verdicts.entry(key).or_default().add(&id);
        } else if row.cause != other.cause {
            let with_cause = |row: &TestRow| format!("{} {}", row.outcome, row.cause);
            let key = (with_cause(row), with_cause(other));
            causes.entry(key).or_default().add(&id);
        }
        for column in crate::policy::columns() {
            let allows = row.is_allowed(column);
            if allows != other.is_allowed(column) {
                let key = (column.to_owned(), allows);
                decisions.entry(key).or_default().add(&id);
            }
        }
        seen.insert(id);
    }
    for row in &second.1.rows {
        let id = row.session.test_id(&row.point);
        if !seen.contains(&id) {
            found.only_second.add(&id);
        }
    }
    found.verdicts = changes(verdicts);
    found.causes = changes(causes);
    found.decisions = decisions
        .into_iter()
        .map(|((policy, first_allows), tests)| PolicyChange {
            policy,
            first_allows,
            tests,
        })
        .collect();
    found
}

fn by_id(rows: &[TestRow]) -> BTreeMap<String, &TestRow> {
    rows.iter()
        .map(|row| (row.session.test_id(&row.point), row))
        .collect()
}

fn changes(groups: BTreeMap<(String, String), Group>) -> Vec<Changed> {
    let mut changes: Vec<Changed> = groups
        .into_iter()
        .map(|((from, to), tests)| Changed { from, to, tests })
        .collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.tests.count));
    changes
}

type Cells = BTreeMap<String, String>;

fn cells(first: &Cells, second: &Cells) -> Vec<CellChange> {
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    names
        .into_iter()
        .filter(|name| first.get(*name) != second.get(*name))
        .map(|name| CellChange {
            what: name.clone(),
            first: first.get(name).cloned(),
            second: second.get(name).cloned(),
        })
        .collect()
}

/// Every value of the summary by the words of its row and its column. What is
/// measured in time differs between any two runs and is left out.
fn summary_cells(summary: &Summary) -> Cells {
    let mut cells = Cells::new();
    let Ok(serde_json::Value::Array(rows)) = serde_json::to_value(rows(summary)) else {
        return cells;
    };
    for row in rows {
        let Some(row) = row.as_object() else { continue };
        let words: Vec<&str> = row.values().filter_map(|value| value.as_str()).collect();
        for (column, value) in row.iter().filter(|(_, value)| !value.is_string()) {
            if is_time(column) {
                continue;
            }
            let shown = match value {
                serde_json::Value::Null => continue,
                other => other.to_string(),
            };
            cells.insert(format!("{} {column}", words.join(" ")), shown);
        }
    }
    cells
}

fn is_time(column: &str) -> bool {
    column.starts_with("delay") || column == "never"
}

/// Facts of a run that say why another's results may differ.
fn facts(facts: &RunFacts) -> Cells {
    let mut cells = Cells::new();
    let mut add = |name: &str, value: String| _ = cells.insert(name.to_owned(), value);
    let number = |number: Option<usize>| number.map_or_else(|| "all".to_owned(), |n| n.to_string());
    add("seed", facts.seed.to_string());
    add("sample", number(facts.sample));
    add("kairos version", facts.kairos.version.clone());
    if let Some(revision) = &facts.kairos.revision {
        add("kairos revision", revision.clone());
    }
    if let Some(dirty) = facts.kairos.dirty {
        add("kairos working tree changed", dirty.to_string());
    }
    add("kernel", facts.machine.kernel.clone());
    add("processor", facts.machine.processor.clone());
    add("processors", facts.machine.processors.to_string());
    add("compiler", facts.machine.compiler.clone());
    add("definition of changed", facts.definition_of_changed.clone());
    for (name, hash) in &facts.hashes {
        add(&format!("SHA-256 of {name}"), hash.clone());
    }
    for control in &facts.controls {
        let session = &control.session;
        add(
            &format!(
                "violations of {} in {} {}",
                control.name,
                session.label(),
                session.workload
            ),
            control.violations.to_string(),
        );
    }
    cells
}

/// The difference as tables for people; empty ones are left out.
#[must_use]
pub fn tables(difference: &Difference) -> Vec<Table> {
    let changes = ["first run", "second run", "tests", "first"];
    let decisions = ["policy", "first run", "second run", "tests", "first"];
    let values = ["value", "first run", "second run"];
    let tables = [
        table(
            "only",
            "Tests that only one run has",
            &["run", "tests", "first"],
            only(difference),
        ),
        table(
            "verdicts",
            "Verdicts that differ",
            &changes,
            changed(&difference.verdicts),
        ),
        table(
            "causes",
            "Causes that differ under the same verdict",
            &changes,
            changed(&difference.causes),
        ),
        table(
            "decisions",
            "Points on which a policy decides in another way",
            &decisions,
            decided(&difference.decisions),
        ),
        table(
            "summary",
            "Values of the summary that differ",
            &values,
            valued(&difference.summary),
        ),
        table(
            "facts",
            "How the runs were made differs",
            &values,
            valued(&difference.facts),
        ),
    ];
    tables
        .into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

fn table(name: &str, title: &str, header: &[&str], rows: Vec<Vec<Cell>>) -> Table {
    Table {
        name: name.to_owned(),
        title: title.to_owned(),
        header: header.iter().map(|name| (*name).to_owned()).collect(),
        rows,
        notes: Vec::new(),
    }
}

/// Words of a row, then how many tests it is about and the first of them.
fn row(words: &[&str], tests: &Group) -> Vec<Cell> {
    let mut cells: Vec<Cell> = words.iter().map(Cell::text).collect();
    cells.push(Cell::number(tests.count));
    cells.push(Cell::text(tests.first.join("\n")));
    cells
}

fn only(difference: &Difference) -> Vec<Vec<Cell>> {
    [
        ("the first", &difference.only_first),
        ("the second", &difference.only_second),
    ]
    .into_iter()
    .filter(|(_, tests)| tests.count > 0)
    .map(|(run, tests)| row(&[run], tests))
    .collect()
}

fn changed(changes: &[Changed]) -> Vec<Vec<Cell>> {
    let rows = changes.iter();
    rows.map(|change| row(&[&change.from, &change.to], &change.tests))
        .collect()
}

fn decided(changes: &[PolicyChange]) -> Vec<Vec<Cell>> {
    let name = |allowed| if allowed { "allowed" } else { "refused" };
    let rows = changes.iter();
    rows.map(|change| {
        let (first, second) = (name(change.first_allows), name(!change.first_allows));
        row(&[&change.policy, first, second], &change.tests)
    })
    .collect()
}

fn valued(changes: &[CellChange]) -> Vec<Vec<Cell>> {
    let side = |value: &Option<String>| Cell::text(value.as_deref().unwrap_or("–"));
    changes
        .iter()
        .map(|change| {
            vec![
                Cell::text(&change.what),
                side(&change.first),
                side(&change.second),
            ]
        })
        .collect()
}
