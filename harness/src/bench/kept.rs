//! Benches that were kept, read again to be set beside each other.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Way;
use super::figures::{Row, whole};
use crate::analysis::Table;
use crate::analysis::table::{Cell, Column};

/// One bench, as far as it is compared with others.
#[derive(Clone, Debug, Deserialize)]
pub struct Kept {
    /// The subject.
    pub subject: String,
    /// The update pair.
    pub pair: String,
    /// The workload.
    pub workload: String,
    /// Update points of the session.
    pub points: usize,
    /// MiB of memory that traced servers were given beyond their own.
    #[serde(default)]
    pub resident_mib: u64,
    /// Whether turns were at neighbouring points.
    #[serde(default)]
    pub neighbours: bool,
    /// What each way costs.
    pub rows: Vec<Row>,
}

/// Why kept benches cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A folder or a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another content.
    #[error("{} is no bench that kairos bench --out wrote: {source}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Nothing there.
    #[error("{} has no folder with a bench.json: kairos bench --out {}/NAME writes one", path.display(), path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// All benches below a folder, each in `NAME/bench.json`: by subject, then by memory,
/// then by the length of the session.
///
/// # Errors
/// When one cannot be read, or there is none.
pub fn read(folder: &Path) -> Result<Vec<Kept>, KeptError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| KeptError::Read { path, source }
    };
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path().join("bench.json");
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        let bench: Kept =
            serde_json::from_str(&text).map_err(|source| KeptError::Content { path, source })?;
        kept.push(bench);
    }
    if kept.is_empty() {
        let path = folder.to_owned();
        return Err(KeptError::Empty { path });
    }
    kept.sort_by(|one, other| {
        let key = |bench: &Kept| {
            (
                bench.subject.clone(),
                bench.resident_mib,
                bench.points,
                bench.workload.clone(),
                !bench.neighbours,
            )
        };
        key(one).cmp(&key(other))
    });
    Ok(kept)
}

impl Kept {
    /// Microseconds per test of a way, median; none if it was not measured.
    #[must_use]
    pub fn median(&self, way: Way) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.engine == way.name())?;
        Some(row.us_median)
    }

    /// Which points were tested.
    #[must_use]
    pub const fn tested(&self) -> &'static str {
        if self.neighbours {
            "neighbours"
        } else {
            "spread"
        }
    }

    /// How many times cheaper one way is than another.
    fn times_cheaper(&self, way: Way, than: Way) -> Option<f64> {
        Some(self.median(than)? / self.median(way)?)
    }

    fn cell(&self, way: Way) -> Cell {
        self.median(way)
            .map_or_else(|| Cell::optional(None::<u8>), whole)
    }

    fn ratio(&self, way: Way, than: Way) -> Cell {
        let ratio = self.times_cheaper(way, than);
        Cell::optional(ratio.map(|ratio| format!("{ratio:.1}")))
    }
}

/// Benches beside each other.
#[must_use]
pub fn table(kept: &[Kept]) -> Table {
    const COLUMNS: [Column<Kept>; 16] = [
        ("pair", |bench| Cell::text(&bench.pair)),
        ("workload", |bench| Cell::text(&bench.workload)),
        ("points", |bench| Cell::number(bench.points)),
        ("tested", |bench| Cell::text(bench.tested())),
        ("MiB added", |bench| Cell::number(bench.resident_mib)),
        ("gdb", |bench| bench.cell(Way::Gdb)),
        ("untraced", |bench| bench.cell(Way::Untraced)),
        ("restart", |bench| bench.cell(Way::Restart)),
        ("fork server", |bench| bench.cell(Way::ForkServer)),
        ("fork snapshot", |bench| bench.cell(Way::ForkSnapshot)),
        ("rollback", |bench| bench.cell(Way::Rollback)),
        ("floor", |bench| bench.cell(Way::Floor)),
        ("restart / fork server", |bench| {
            bench.ratio(Way::ForkServer, Way::Restart)
        }),
        ("restart / fork snapshot", |bench| {
            bench.ratio(Way::ForkSnapshot, Way::Restart)
        }),
        ("restart / rollback", |bench| {
            bench.ratio(Way::Rollback, Way::Restart)
        }),
        ("rollback / floor", |bench| {
            bench.ratio(Way::Floor, Way::Rollback)
        }),
    ];
    let title = "What one update test costs, by engine: µs, median";
    Table::of("cost", title, &COLUMNS, kept)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A bench with a median of each of these ways.
    pub(crate) fn bench(subject: &str, resident_mib: u64, medians: &[(Way, f64)]) -> Kept {
        Kept {
            subject: subject.to_owned(),
            pair: format!("{subject}-1-2"),
            workload: "basic".to_owned(),
            points: 300,
            resident_mib,
            neighbours: false,
            rows: medians
                .iter()
                .map(|(way, us_median)| Row {
                    subject: subject.to_owned(),
                    engine: way.name().to_owned(),
                    us_median: *us_median,
                    us_p10: us_median / 2.0,
                    us_p90: us_median * 2.0,
                    tests: 100,
                    ratio_to_untraced: None,
                })
                .collect(),
        }
    }

    #[test]
    fn ratios_say_how_many_times_cheaper_a_way_is() {
        let ways = [(Way::Restart, 4000.0), (Way::Rollback, 200.0)];
        let table = table(&[bench("kvd", 0, &ways)]);
        let cells: Vec<&str> = table.rows[0].iter().map(Cell::as_str).collect();
        assert_eq!(
            cells,
            [
                "kvd-1-2", "basic", "300", "spread", "0", "", "", "4000", "", "", "200", "", "",
                "", "20.0", ""
            ]
        );
    }

    #[test]
    fn what_is_no_bench_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has no folder with a bench.json"), "{error}");
        std::fs::create_dir(folder.path().join("kvd")).unwrap();
        std::fs::write(folder.path().join("kvd/bench.json"), "{}").unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("kvd/bench.json is no bench"), "{error}");
        std::fs::remove_file(folder.path().join("kvd/bench.json")).unwrap();
        std::fs::write(
            folder.path().join("kvd/bench.json"),
            r#"{"subject":"kvd","pair":"p","workload":"w","points":3,"rows":[]}"#,
        )
        .unwrap();
        let read = read(folder.path()).unwrap();
        assert_eq!((read.len(), read[0].points), (1, 3));
    }
}
