//! Asks of every failing test of a run what its records suggest as cause.

use std::collections::HashMap;

use super::ReportError;
use crate::analysis::sessions::studied;
use crate::analysis::{AnalysisError, Table, TestRow};
use crate::explain::account::brief;
use crate::explain::suspected::{Suspects, table};
use crate::study::store::Run;

/// The table of suspected causes.
///
/// # Errors
/// The run cannot be read.
pub fn suspected(run: &Run, rows: &[TestRow]) -> Result<Table, ReportError> {
    let failing: HashMap<String, &TestRow> = rows
        .iter()
        .filter(|row| row.outcome.is_failure() && row.was_tested())
        .map(|row| (row.session.test_id(&row.point), row))
        .collect();
    let sessions = studied(&run.pairs, &run.sessions)?;
    let by_key: HashMap<_, _> = sessions
        .iter()
        .map(|session| (&session.record.session, session))
        .collect();
    let mut suspects = Suspects::default();
    let tests = run.tests_of(&|test| failing.contains_key(test));
    for record in tests.map_err(AnalysisError::from)? {
        let record = record.map_err(AnalysisError::from)?;
        let Some(row) = failing.get(&record.test) else {
            continue;
        };
        let account = by_key.get(&row.session).and_then(|session| {
            let place = session.index_of(&row.point)?;
            brief(session, place, &record.observations)
        });
        if let Some(account) = account {
            suspects.add(row, &account);
        }
    }
    Ok(table(&suspects.rows()))
}
