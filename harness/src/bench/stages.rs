//! Where the time of tests goes, stage by stage, and whether engines agree.

use serde::Serialize;

use super::Way;
use super::figures::{Report, quantile, whole};
use crate::analysis::Table;
use crate::analysis::table::{Cell, Column};
use crate::engine::EngineKind;
use crate::engine::stages::{Spent, Stage};
use crate::study::StudyError;
use crate::study::engine::Comparison;
use crate::trace::PointId;
use crate::verdict::Observation;

/// Ways whose tests have stages, in the order of their rows.
const WAYS: [Way; 5] = [
    Way::Restart,
    Way::ForkServer,
    Way::ForkSnapshot,
    Way::Rollback,
    Way::Floor,
];

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
        for way in WAYS {
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
                    us_p10: quantile(&times, 0.1).unwrap_or(us_median),
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
    /// A tenth of the tests took less.
    pub us_p10: f64,
    /// A tenth of the tests took more.
    pub us_p90: f64,
}

/// What a process of Kairos took of the machine.
#[derive(Clone, Debug, Serialize)]
pub struct BurdenRow {
    /// `coordinator`, or the engine of a worker.
    pub process: String,
    /// After so many tests of each way.
    pub tests: usize,
    /// Resident memory of its own in KiB.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

/// Whether an engine shows the same as restart, in everything but time.
#[derive(Debug, Serialize)]
pub struct EngineAgreement {
    /// The engine.
    pub engine: EngineKind,
    /// Points compared.
    pub compared: u64,
    /// What differs, by point.
    pub differences: Vec<String>,
    /// Points that it left to restart.
    pub by_restart: u64,
    /// Points at which it stopped since the rest was known from another test.
    pub stopped: u64,
    /// Points at which both engines had to be asked again.
    pub repeated: u64,
    #[serde(skip)]
    comparison: Comparison,
}

impl EngineAgreement {
    /// Nothing compared yet; a baseline says what is known.
    pub(super) fn of(engine: EngineKind, baseline: &Observation) -> Self {
        let mut comparison = Comparison::default();
        comparison.note(baseline);
        Self {
            engine,
            compared: 0,
            by_restart: 0,
            stopped: 0,
            differences: Vec::new(),
            repeated: 0,
            comparison,
        }
    }

    /// Compares what both showed at a point; `ask` runs the test once more.
    pub(super) fn add(
        &mut self,
        point: &PointId,
        seen: [&Observation; 2],
        ask: &mut dyn FnMut(EngineKind) -> Result<Observation, StudyError>,
    ) -> Result<(), StudyError> {
        let compared = self.comparison.differ(self.engine, seen, ask)?;
        self.compared += 1;
        self.repeated += u64::from(compared.repeated);
        let differences = compared.difference;
        self.differences
            .extend(differences.map(|difference| format!("{point}: {difference}")));
        Ok(())
    }

    pub(super) fn sentence(&self) -> String {
        let equal = self.compared - self.differences.len() as u64;
        let repeated = match self.repeated - self.differences.len() as u64 {
            0 => String::new(),
            some => format!(", at {some} after both were asked again"),
        };
        let left = match self.by_restart {
            0 => String::new(),
            some => format!("; {some} of them it left to restart"),
        };
        let stopped = match self.stopped {
            0 => String::new(),
            some => format!("; at {some} it stopped early, the rest being known"),
        };
        format!(
            "{} shows the same as restart at {equal} of {} points{repeated}{left}{stopped}",
            self.engine, self.compared
        )
    }
}

impl Report {
    /// The costs of stages for people.
    #[must_use]
    pub fn stage_table(&self) -> Table {
        const COLUMNS: [Column<StageRow>; 5] = [
            ("engine", |row| Cell::text(&row.engine)),
            ("stage", |row| Cell::text(&row.stage)),
            ("µs", |row| whole(row.us_median)),
            ("p10", |row| whole(row.us_p10)),
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
