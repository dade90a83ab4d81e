//! `tests.csv` as text, for comparing runs that must agree.

use std::path::Path;

/// All cells but those of the one column that may differ, the time.
pub fn without_time(dir: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_path(dir.join("tests.csv"))
        .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let time = rows[0].iter().position(|name| name == "wall_us").unwrap();
    assert!(rows.len() > 1, "no rows");
    rows.iter()
        .map(|row| {
            let others = row.iter().enumerate().filter(|(column, _)| *column != time);
            others.map(|(_, text)| text.to_owned()).collect()
        })
        .collect()
}
