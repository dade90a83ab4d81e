//! Runs one update test: on a new server (the restart engine), on a copy of a started
//! one (the fork server), or on one in a simulated world that is put back after each
//! test (rollback) or copied for it (fork snapshot). Every engine observes the same; they differ only in speed.

pub mod baseline;
pub mod burden;
pub mod choice;
pub mod counted;
pub mod drive;
pub mod fork_server;
pub mod gdb;
pub mod handover;
pub mod kept;
pub mod lifecycle;
pub mod names;
pub mod old_frames;
pub mod parts;
pub mod poison;
pub mod protocol;
pub mod remote;
pub mod restart;
pub mod server;
pub mod serving;
pub mod shortened;
pub mod simulated;
pub mod spec;
pub mod stages;
pub mod stepper;
pub mod surroundings;
pub mod timer;
pub mod tracer;
pub mod updater;
pub mod updating;
pub mod watch;
pub mod watchpoints;
pub mod worker;

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use crate::trace::{Moment, PointId};
use crate::verdict::Observation;

pub use choice::{EngineKind, EngineWish};
pub use remote::{Holding, RemoteEngine};
pub use spec::SessionSpec;

/// Where to apply the update, and how to recognise the place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PointRequest {
    /// The point.
    pub id: PointId,
    /// By what it is found again where it has another index.
    pub moment: Moment,
}

/// A finished update test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tested {
    /// What was seen.
    pub observation: Observation,
    /// The engine that ran it: restart, where the one in use could not.
    pub engine: EngineKind,
    /// Why the one in use could not; none if it ran it.
    pub instead: Option<String>,
    /// The exchange at whose end it was in a state from which an earlier test had gone
    /// on to its end, so that the rest is that one's; none if it ran to its own end.
    pub known_from: Option<u32>,
    /// What it showed otherwise than such an earlier test, if it did: then what others
    /// took over from each other is in doubt.
    pub doubt: Option<String>,
    /// Where its time went.
    pub spent: stages::Spent,
}

/// An engine that could not do its work; never a misbehaviour of the subject.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The worker reported a fault of ours or of the machine.
    #[error("{0}")]
    Worker(String),
    /// The session or the point cannot be run by this engine; restart can.
    #[error("{0}")]
    Unfit(String),
    /// The worker could not be started or has died.
    #[error("worker for processor {processor}: {source}")]
    Lost {
        /// The processor it was pinned to.
        processor: usize,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Runs update tests of one (pair, workload, scope), for which it was prepared.
pub trait Engine {
    /// Runs the tests, given in ascending order of their points, and hands each to
    /// `sink` with its position, until the sink breaks off.
    ///
    /// # Errors
    /// When the harness or the machine fails.
    fn run(
        &mut self,
        points: &[PointRequest],
        sink: &mut dyn FnMut(usize, Tested) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;
}
