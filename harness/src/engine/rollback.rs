//! Tests by rollback, on a worker that runs any kind of test.

use std::ops::ControlFlow;

use super::{Engine, EngineError, PointRequest, RemoteEngine, simulated};
use crate::verdict::Observation;

/// The rollback engine of a worker.
pub struct Rollback<'a>(pub &'a mut RemoteEngine);

impl Engine for Rollback<'_> {
    fn name(&self) -> &'static str {
        simulated::NAME
    }

    fn run(
        &mut self,
        points: &[PointRequest],
        sink: &mut dyn FnMut(usize, Observation) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        for (position, point) in points.iter().enumerate() {
            let seen = self.0.roll(point, true)?.map_err(EngineError::Unfit)?;
            if sink(position, seen).is_break() {
                break;
            }
        }
        Ok(())
    }
}
