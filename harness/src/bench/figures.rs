//! The figures of a bench: medians with their spread, ratios, and whether gdb's
//! verdicts agree.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::jobs::JobsRow;
use super::{BurdenRow, EngineAgreement, StageRow, Way};
use crate::analysis::Table;
use crate::analysis::table::{Cell, Column};
use crate::trace::PointId;
use crate::verdict::Judgement;

/// Durations as they were measured.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<(Way, Duration)>);

impl Times {
    pub(super) fn add(&mut self, way: Way, time: Duration) {
        self.0.push((way, time));
    }

    /// One row for each way that was measured.
    pub(super) fn rows(&self, subject: &str, ways: &[Way]) -> Vec<Row> {
        let untraced = quantile(&self.of(Way::Untraced), 0.5);
        ways.iter()
            .filter_map(|way| {
                let times = self.of(*way);
                let us_median = quantile(&times, 0.5)?;
                Some(Row {
                    subject: subject.to_owned(),
                    engine: way.name().to_owned(),
                    us_median,
                    us_p10: quantile(&times, 0.1)?,
                    us_p90: quantile(&times, 0.9)?,
                    tests: times.len(),
                    ratio_to_untraced: untraced.map(|untraced| us_median / untraced),
                })
            })
            .collect()
    }

    /// Microseconds of one way, ascending.
    fn of(&self, way: Way) -> Vec<f64> {
        let mut times: Vec<f64> = self
            .0
            .iter()
            .filter(|(of, _)| *of == way)
            .map(|(_, time)| time.as_secs_f64() * 1e6)
            .collect();
        times.sort_by(f64::total_cmp);
        times
    }
}

/// The quantile of ascending values, between two of them by interpolation.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a position in a short list"
)]
pub(super) fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let position = share * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    let within = position - position.floor();
    Some(ascending[below] * (1.0 - within) + ascending[above] * within)
}

/// What one way costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The subject.
    pub subject: String,
    /// The way.
    pub engine: String,
    /// Microseconds per test, median.
    pub us_median: f64,
    /// A tenth of the tests took less.
    pub us_p10: f64,
    /// A tenth of the tests took more.
    pub us_p90: f64,
    /// Tests measured.
    pub tests: usize,
    /// The median over that of the untraced runs.
    pub ratio_to_untraced: Option<f64>,
}

/// Whether two ways give the same verdicts at the same points.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Points compared.
    pub compared: u64,
    /// Points whose verdicts differ.
    pub differences: Vec<Difference>,
}

/// A point at which gdb and the restart engine disagree.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The point.
    pub point: String,
    /// The restart engine's verdict, with its causes.
    pub restart: String,
    /// gdb's.
    pub gdb: String,
}

impl Agreement {
    pub(super) fn add(&mut self, point: &PointId, restart: &Judgement, gdb: &Judgement) {
        self.compared += 1;
        if restart.verdict != gdb.verdict {
            let shown =
                |judgement: &Judgement| format!("{} ({})", judgement.verdict, judgement.cause);
            self.differences.push(Difference {
                point: point.to_string(),
                restart: shown(restart),
                gdb: shown(gdb),
            });
        }
    }

    pub(super) fn differing(&self) -> u64 {
        self.differences.len() as u64
    }
}

/// A finished bench.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The subject.
    pub subject: String,
    /// The update pair, or the control arm.
    pub pair: String,
    /// The workload.
    pub workload: String,
    /// Update points of the session.
    pub points: usize,
    /// MiB of memory that traced servers were given beyond their own.
    pub resident_mib: u64,
    /// Whether turns were at neighbouring points.
    pub neighbours: bool,
    /// What each way costs.
    pub rows: Vec<Row>,
    /// Where the time of tests goes.
    pub stages: Vec<StageRow>,
    /// What Kairos itself took, after a tenth of the tests and at the end.
    pub burdens: Vec<BurdenRow>,
    /// How many tests several workers finish beside one; empty if not measured.
    pub jobs: Vec<JobsRow>,
    /// Whether the fork server shows the same as restart; none where it was not
    /// measured.
    pub engines: Vec<EngineAgreement>,
    /// Whether gdb's verdicts equal the restart engine's; none without gdb.
    pub agreement: Option<Agreement>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

impl Report {
    /// The costs for people.
    #[must_use]
    pub fn table(&self) -> Table {
        const COLUMNS: [Column<Row>; 6] = [
            ("way", |row| Cell::text(&row.engine)),
            ("µs per test", |row| whole(row.us_median)),
            ("p10", |row| whole(row.us_p10)),
            ("p90", |row| whole(row.us_p90)),
            ("× untraced", |row| {
                Cell::optional(row.ratio_to_untraced.map(|ratio| format!("{ratio:.2}")))
            }),
            ("tests", |row| Cell::number(row.tests)),
        ];
        let title = format!(
            "What one test of {}, workload {} ({} points), costs",
            self.pair, self.workload, self.points
        );
        let mut table = Table::of("bench", &title, &COLUMNS, &self.rows);
        table.notes.clone_from(&self.notes);
        table.notes.extend(self.jobs.iter().map(|row| {
            format!(
                "{}, workers: {}: {:.0} tests a second, {:.2} times those of one",
                row.engine, row.jobs, row.tests_per_second, row.ratio_to_one
            )
        }));
        for engines in &self.engines {
            table.notes.push(engines.sentence());
            table.notes.extend(engines.differences.iter().cloned());
        }
        if let Some(agreement) = &self.agreement {
            table.notes.push(agreement.sentence());
            table.notes.extend(
                agreement
                    .differences
                    .iter()
                    .map(|it| format!("{}: restart {}, gdb {}", it.point, it.restart, it.gdb)),
            );
        }
        table
    }
}

impl Agreement {
    fn sentence(&self) -> String {
        let equal = self.compared - self.differing();
        format!(
            "gdb's verdict equals the restart engine's at {equal} of {} points",
            self.compared
        )
    }
}

pub(super) fn whole(microseconds: f64) -> Cell {
    Cell::number(format!("{microseconds:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(quantile(&values, 0.5), Some(3.0));
        assert_eq!(quantile(&values, 0.1), Some(1.4));
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn ratios_are_to_the_untraced_median() {
        let mut times = Times::default();
        for (way, milliseconds) in [
            (Way::Restart, 5),
            (Way::Untraced, 2),
            (Way::Untraced, 9),
            (Way::Untraced, 1),
        ] {
            times.add(way, Duration::from_millis(milliseconds));
        }
        let rows = times.rows("s", &[Way::Untraced, Way::Restart, Way::Gdb]);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| (row.engine.as_str(), row.tests, row.ratio_to_untraced))
            .collect();
        assert_eq!(
            shown,
            [("untraced", 3, Some(1.0)), ("restart", 1, Some(2.5))]
        );
    }
}
