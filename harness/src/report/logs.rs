//! Writes `logs/`: a folder for each of the first tests of every way to fail.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use super::{ReportError, fresh_folder, write_file};
use crate::analysis::sessions::studied;
use crate::analysis::{AnalysisError, TestRow};
use crate::explain::causes::{Kind, frequency, group, is_notable};
use crate::explain::logs::{MOST_FOLDERS, MOST_PER_CAUSE, files, readme};
use crate::explain::{account, causes};
use crate::study::plan::PlannedTest;
use crate::study::store::{Run, StoreError};

/// Writes the logs of a run anew.
///
/// # Errors
/// The run cannot be read, or a file cannot be written.
pub fn write(run: &Run, rows: &[TestRow]) -> Result<(), ReportError> {
    let folder = fresh_folder(run.dir(), "logs")?;
    let chosen = choose(rows);
    let sessions = studied(&run.pairs, &run.sessions)?;
    let by_key: BTreeMap<_, _> = sessions
        .iter()
        .map(|session| (&session.record.session, session))
        .collect();
    let planned: HashMap<&str, &PlannedTest> = run
        .plan
        .iter()
        .filter(|test| chosen.contains_key(&test.id))
        .map(|test| (test.id.as_str(), test))
        .collect();
    let tests = run.tests_of(&|test| chosen.contains_key(test));
    let tests = tests.map_err(AnalysisError::from)?;
    for record in tests {
        let record = record.map_err(AnalysisError::from)?;
        let (Some(row), Some(test)) = (chosen.get(&record.test), planned.get(record.test.as_str()))
        else {
            continue;
        };
        let Some(session) = by_key.get(&test.session) else {
            continue;
        };
        let account = session
            .index_of(&test.point)
            .and_then(|place| account(session, place, &record.observations));
        let (Some(account), Some(seen)) = (account, record.observations.first()) else {
            continue;
        };
        let place = folder.join(test.folder_name());
        create(&place)?;
        for file in files(session, &account, seen, Some(frequency(rows, row))) {
            write_file(&place.join(file.name), file.text.as_bytes())?;
        }
    }
    let causes = group(rows.iter().filter(|row| is_notable(row.outcome)));
    let text = readme(&causes, chosen.len());
    write_file(&folder.join("README.txt"), text.as_bytes())
}

/// The tests that get a folder, by identifier: a disk must hold those of a study
/// with many failures, too.
fn choose(rows: &[TestRow]) -> BTreeMap<String, &TestRow> {
    let mut chosen = BTreeMap::new();
    let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
    for row in rows
        .iter()
        .filter(|row| is_notable(row.outcome) && row.was_tested())
    {
        if chosen.len() == MOST_FOLDERS {
            break;
        }
        let count = counts.entry(Kind::of(row)).or_insert(0);
        if *count < MOST_PER_CAUSE {
            *count += 1;
            chosen.insert(causes::id(&row.session, row), row);
        }
    }
    chosen
}

fn create(folder: &Path) -> Result<(), ReportError> {
    fs::create_dir_all(folder).map_err(|source| StoreError::io("create", folder, source))?;
    Ok(())
}
