//! The rows of `tests.csv`, and comparing them with a rule.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

/// One row, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Update pair.
    pub pair: String,
    /// Workload.
    pub workload: String,
    /// Role of the process.
    pub role: String,
    /// Thread, by order of creation.
    pub thread: u32,
    /// Exchange of the point; 0 also for points before readiness.
    #[serde(deserialize_with = "exchange")]
    pub exchange: u32,
    /// Identifier of the point.
    pub point: String,
    /// Function entered there.
    pub function: String,
    /// Verdict.
    pub verdict: String,
    /// Its cause.
    pub cause: String,
    /// First exchange that went wrong.
    pub diverged_at: Option<u32>,
    /// Later exchanges that tell the versions apart.
    pub discriminating: u32,
    /// Entries of new code.
    pub new_code_entries: u64,
    /// Whether an old frame ran on.
    pub old_frame_ran: bool,
    /// Engine that ran it.
    pub engine: String,
    /// Time of the test.
    pub wall_us: u64,
    /// What activeness safety says: `allowed` or `refused`.
    pub activeness: String,
}

/// Reads the rows of a run.
pub fn read(dir: &Path) -> Vec<Row> {
    let path = dir.join("tests.csv");
    csv::Reader::from_path(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .deserialize()
        .collect::<Result<_, _>>()
        .unwrap()
}

/// Panics with a table of all rows if any differs from its rule.
pub fn expect(rows: &[Row], rule: impl Fn(&Row) -> &'static str) {
    assert!(!rows.is_empty(), "no update point was tested");
    let mut table = String::new();
    let mut wrong = 0;
    for row in rows {
        let expected = rule(row);
        let mark = if row.verdict == expected { ' ' } else { '!' };
        wrong += u32::from(mark == '!');
        let _ = writeln!(
            table,
            "{mark} {:28} {:16} {:8} expected {expected:8} {}",
            row.point, row.function, row.verdict, row.cause
        );
    }
    assert_eq!(wrong, 0, "rows that break the rule:\n{table}");
}

/// The exchange's number; start-up, which has none, counts as the first.
fn exchange<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "start" => Ok(0),
        number => number.parse().map_err(serde::de::Error::custom),
    }
}
