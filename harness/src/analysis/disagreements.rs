//! Classes in which equivalent points show different things: the two nearest points that
//! differ, in what, and what executed between them.

use std::collections::HashMap;

use super::AnalysisError;
use super::classes::Measured;
use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::equivalence::compare;
use crate::equivalence::steps::executed_between;
use crate::study::agreement::Compared;
use crate::study::plan::{PlannedTest, SessionKey};
use crate::study::store::Run;
use crate::verdict::Observation;

/// A class whose members show different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The session.
    pub session: SessionKey,
    /// The class's leader.
    pub leader: String,
    /// The last member before the next that shows what the leader shows.
    pub before: String,
    /// The first that does not.
    pub at: String,
    /// In what the two differ.
    pub difference: String,
    /// Functions that executed between them.
    pub executed: String,
    /// Whether the tests that differ have run again, so that it is no race.
    pub confirmed: bool,
}

const COLUMNS: [Column<Disagreement>; 8] = [
    ("pair", |row| Cell::text(row.session.label())),
    ("workload", |row| Cell::text(&row.session.workload)),
    ("class", |row| Cell::text(&row.leader)),
    ("before", |row| Cell::text(&row.before)),
    ("at", |row| Cell::text(&row.at)),
    ("they differ", |row| Cell::text(&row.difference)),
    ("executed between", |row| Cell::text(&row.executed)),
    ("run again", |row| {
        Cell::text(if row.confirmed { "yes" } else { "no" })
    }),
];

/// Classes whose members disagree, as a table.
#[must_use]
pub fn table(measured: &Measured) -> Table {
    let title = "Classes in which equivalent points show different things.";
    let rows = &measured.disagreements;
    let mut table = Table::of("disagreements", title, &COLUMNS, rows);
    if rows.is_empty() {
        let checked = measured.checked();
        table.notes.push(if checked == 0 {
            "No class had more than one of its points tested; `--exhaustive` tests all.".to_owned()
        } else {
            format!("None, of {checked} classes of which several points were tested.")
        });
    }
    table
}

/// Finds them, and what to tell of each.
///
/// # Errors
/// A record cannot be read.
pub fn disagreements(
    run: &Run,
    sessions: &[StudiedSession<'_>],
    plan: &[&PlannedTest],
    compared: &Compared<'_>,
) -> Result<Vec<Disagreement>, AnalysisError> {
    let pairs: Vec<_> = compared
        .classes
        .iter()
        .filter_map(|((_, leader), tested)| {
            let (before, at) = tested.disagreement()?;
            let places = (plan[before.place], plan[at.place]);
            Some((*leader, places, tested.is_confirmed()))
        })
        .collect();
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen: HashMap<&str, Observation> = HashMap::new();
    for record in run.tests()? {
        let record = record?;
        let of_pair = pairs.iter().flat_map(|(_, (before, at), _)| [before, at]);
        if let Some(test) = of_pair.into_iter().find(|test| test.id == record.test)
            && let Some(observation) = record.observations.into_iter().next()
        {
            seen.insert(&test.id, observation);
        }
    }
    let found = pairs
        .iter()
        .filter_map(|(leader, (before, at), confirmed)| {
            let session = sessions.iter().find(|s| s.record.session == at.session)?;
            let (one, other) = (seen.get(&*before.id)?, seen.get(&*at.id)?);
            let from = before.point.exchange.max(at.point.exchange);
            let places = (
                session.index_of(&before.point)?,
                session.index_of(&at.point)?,
            );
            let trace = &session.record.trace;
            let endings = compared.endings.get(&at.session)?;
            Some(Disagreement {
                session: at.session.clone(),
                leader: (*leader).to_owned(),
                before: format!("{} {}", before.point, before.function),
                at: format!("{} {}", at.point, at.function),
                difference: compare::difference(one, other, endings, from),
                executed: executed_between(trace, &session.pair.functions, places).join(", "),
                confirmed: *confirmed,
            })
        });
    Ok(found.collect())
}
