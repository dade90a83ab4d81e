//! What coordinator and worker say to each other: one JSON value a line.

use serde::{Deserialize, Serialize};

use super::baseline::{Baseline, Traced};
use super::burden::Burden;
use super::gdb::GdbPoint;
use super::handover::Held;
use super::kept::Kept;
use super::shortened::Shortened;
use super::spec::Which;
use super::stepper::{Stepped, Wanted};
use super::{EngineKind, PointRequest};
use crate::trace::Timing;
use crate::tracee::access::Access;
use crate::verdict::Observation;
use crate::world::Limits;

/// From the coordinator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Run one version unpatched.
    Baseline {
        /// Which.
        version: Which,
        /// Whether ptrace follows it.
        followed: bool,
    },
    /// Record a run of the old version.
    Trace,
    /// Time a run of the old version without stops.
    Time,
    /// Run one update test and tell what the transformer reads and writes.
    Spy {
        /// The point.
        point: PointRequest,
    },
    /// Run the old version instruction by instruction and tell what steps touch.
    Step(Wanted),
    /// From now on tests count as stalled after these pauses.
    Limits(Limits),
    /// From now on tests are run by this engine.
    Use(EngineKind),
    /// Tell in which order the engine in use meets points.
    Order(Vec<PointRequest>),
    /// Tell what the worker takes of the machine.
    Burden,
    /// Run one update test.
    Test {
        /// The point.
        point: PointRequest,
        /// Whether to apply the patch, or to stop and go on.
        apply: bool,
    },
    /// Run one update test and bring out the files that it leaves.
    Keep {
        /// The point.
        point: PointRequest,
        /// Whether to apply the patch, or to stop and go on.
        apply: bool,
    },
    /// Run one update test up to the update, and leave the server to a debugger.
    Hold {
        /// The point.
        point: PointRequest,
        /// Whether to apply the patch, or to stop only.
        apply: bool,
    },
    /// Run one update test by gdb.
    Gdb(GdbPoint),
}

/// From the worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The sandbox stands; requests are welcome.
    Ready,
    /// An unpatched run.
    Baseline(Box<Baseline>),
    /// A recorded run.
    Traced(Box<Traced>),
    /// A timed run.
    Timed(Box<Timing>),
    /// What a transformer read and wrote; none if it was not run.
    Spied(Option<Vec<Access>>),
    /// A run instruction by instruction.
    Stepped(Box<Stepped>),
    /// Why the session does not allow the engine that was asked for.
    Unfit(String),
    /// What the worker takes of the machine.
    Burden(Burden),
    /// Places in the order in which points are met; none for those that are not.
    Ordered(Vec<Option<u32>>),
    /// An update test, without what the one before it showed as well.
    Tested(Box<Shortened>),
    /// An update test by a debugger.
    Observed(Box<Observation>),
    /// An update test with its files.
    Kept(Box<Kept>),
    /// A process is stopped after the update and waits for a debugger.
    Held(Held),
    /// A fault of ours or of the machine.
    Failed(String),
}
