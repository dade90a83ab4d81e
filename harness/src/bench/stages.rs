//! Where the time of tests goes, stage by stage, and whether engines agree.

use serde::Serialize;

use super::Way;
use super::figures::{Report, quantile, whole};
use crate::analysis::Table;
use crate::analysis::table::{Cell, Column};
use crate::engine::EngineKind;
use crate::engine::stages::{Spent, Stage};
use crate::trace::PointId;

/// What each stage of each test took.
#[derive(Debug, Default)]
pub(super) struct StageTimes(Vec<(Way, Spent)>);

impl StageTimes {
    pub(super) fn add(&mut self, way: Way, spent: &Spent) {
        self.0.push((way, spent.clone()));
    }

    /// One row for each stage that tests of an engine had.
    pub(super) fn rows(&self) -> Vec<StageRow> {
        let mut rows = Vec::new();
        for way in [Way::Restart, Way::ForkServer, Way::Rollback] {
            for stage in Stage::ALL {
                let of_way = self.0.iter().filter(|(of, _)| *of == way);
                let mut times: Vec<f64> = of_way
                    .flat_map(|(_, spent)| spent)
                    .filter(|(of, _)| *of == stage)
                    .map(|(_, time)| *time)
                    .collect();
                times.sort_by(f64::total_cmp);
                rows.extend(quantile(&times, 0.5).map(|us_median| StageRow {
                    engine: way.name().to_owned(),
                    stage: stage.name().to_owned(),
                    us_median,
                    us_p90: quantile(&times, 0.9).unwrap_or(us_median),
                }));
            }
        }
        rows
    }
}

/// What one stage of a test costs.
#[derive(Clone, Debug, Serialize)]
pub struct StageRow {
    /// The engine.
    pub engine: String,
    /// The stage.
    pub stage: String,
    /// Microseconds, median.
    pub us_median: f64,
    /// A tenth of the tests took more.
    pub us_p90: f64,
}

/// Whether an engine shows the same as restart, in everything but time.
#[derive(Clone, Debug, Serialize)]
pub struct EngineAgreement {
    /// The engine.
    pub engine: EngineKind,
    /// Points compared.
    pub compared: u64,
    /// How many of them this engine left to restart.
    pub by_restart: u64,
    /// What differs, by point.
    pub differences: Vec<String>,
}

impl EngineAgreement {
    /// That of one engine, begun if it is not there.
    pub(super) fn of(all: &mut Vec<Self>, engine: EngineKind) -> &mut Self {
        let place = all.iter().position(|of| of.engine == engine);
        let place = place.unwrap_or_else(|| {
            all.push(Self {
                engine,
                compared: 0,
                by_restart: 0,
                differences: Vec::new(),
            });
            all.len() - 1
        });
        &mut all[place]
    }

    pub(super) fn add(&mut self, point: &PointId, difference: Option<String>) {
        self.compared += 1;
        let differences = difference.map(|difference| format!("{point}: {difference}"));
        self.differences.extend(differences);
    }

    pub(super) fn sentence(&self) -> String {
        let equal = self.compared - self.differences.len() as u64;
        let left = match self.by_restart {
            0 => String::new(),
            some => format!("; {some} of them it left to restart"),
        };
        format!(
            "{} shows the same as restart at {equal} of {} points{left}",
            self.engine, self.compared
        )
    }
}

impl Report {
    /// The costs of stages for people.
    #[must_use]
    pub fn stage_table(&self) -> Table {
        const COLUMNS: [Column<StageRow>; 4] = [
            ("engine", |row| Cell::text(&row.engine)),
            ("stage", |row| Cell::text(&row.stage)),
            ("µs", |row| whole(row.us_median)),
            ("p90", |row| whole(row.us_p90)),
        ];
        let title = format!("Where the time of a test of {} goes", self.pair);
        Table::of("bench-stages", &title, &COLUMNS, &self.stages)
    }

    /// Whether some way showed something else than restart.
    #[must_use]
    pub fn disagrees(&self) -> bool {
        let by_gdb = self.agreement.iter().any(|a| !a.differences.is_empty());
        by_gdb || self.engines.iter().any(|e| !e.differences.is_empty())
    }
}
