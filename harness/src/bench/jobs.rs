//! How many tests several workers finish in a second, beside one.

use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::engine::{EngineKind, PointRequest, RemoteEngine, SessionSpec};
use crate::study::StudyError;
use crate::world::Limits;

/// Turns that one worker and several take, one after the other: whatever else the
/// machine does hits both alike.
const TURNS: usize = 3;

/// What so many workers do in a second.
#[derive(Clone, Debug, Serialize)]
pub struct JobsRow {
    /// The engine.
    pub engine: String,
    /// Workers, each on a processor of its own.
    pub jobs: usize,
    /// Tests that they finished.
    pub tests: usize,
    /// How many of them in a second.
    pub tests_per_second: f64,
    /// The same over that of one worker.
    pub ratio_to_one: f64,
}

/// What workers are to do.
pub(super) struct Load<'a> {
    /// The `kairos` binary.
    pub executable: &'a std::path::Path,
    /// The session.
    pub spec: &'a SessionSpec,
    /// When its tests count as stalled.
    pub limits: Limits,
    /// Its points, each tested by each worker.
    pub points: &'a [PointRequest],
    /// Processors of the workers.
    pub processors: &'a [usize],
}

impl Load<'_> {
    /// Rows for one worker and for all of them.
    ///
    /// # Errors
    /// When a worker fails.
    pub fn measure(&self, kind: EngineKind) -> Result<Vec<JobsRow>, StudyError> {
        let all = self.processors.len();
        let mut seconds = [0.0; 2];
        for _ in 0..TURNS {
            for (seconds, jobs) in seconds.iter_mut().zip([1, all]) {
                *seconds += self.turn(kind, &self.processors[..jobs])?;
            }
        }
        let row = |jobs: usize, seconds: f64, one: f64| {
            let tests = jobs * TURNS * self.points.len();
            #[allow(clippy::cast_precision_loss, reason = "a few thousand tests")]
            let tests_per_second = tests as f64 / seconds;
            JobsRow {
                engine: kind.name().to_owned(),
                jobs,
                tests,
                tests_per_second,
                ratio_to_one: if one > 0.0 {
                    tests_per_second / one
                } else {
                    1.0
                },
            }
        };
        let one = row(1, seconds[0], 0.0);
        let several = row(all, seconds[1], one.tests_per_second);
        Ok(vec![one, several])
    }

    /// Has each worker test every point, all at once; returns the seconds until the
    /// last was done.
    fn turn(&self, kind: EngineKind, processors: &[usize]) -> Result<f64, StudyError> {
        let barrier = Barrier::new(processors.len());
        let ends = Mutex::new(Vec::new());
        let worker = |processor: usize| -> Result<(), StudyError> {
            let ready = self.worker(kind, processor);
            // Also without a worker, or the others would wait for ever.
            barrier.wait();
            let begun = Instant::now();
            let mut worker = ready?;
            for point in self.points {
                worker.test(point, true)?;
            }
            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
            ends.push(begun.elapsed().as_secs_f64());
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = processors
                .iter()
                .map(|processor| scope.spawn(|| worker(*processor)))
                .collect();
            let mut result = Ok(());
            for thread in threads {
                match thread.join() {
                    Ok(ended) => result = result.and(ended),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })?;
        let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(ends.into_iter().fold(0.0, f64::max))
    }

    fn worker(&self, kind: EngineKind, processor: usize) -> Result<RemoteEngine, StudyError> {
        let spec = SessionSpec {
            processor,
            ..self.spec.clone()
        };
        let mut worker = RemoteEngine::start(self.executable, &spec)?;
        worker.set_limits(self.limits)?;
        worker.use_engine(kind)?;
        Ok(worker)
    }
}
