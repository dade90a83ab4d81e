//! What one unpatched run recorded: points with stacks, the processes, who
//! wrote which reply, and times.

pub mod event;
pub mod moment;
pub mod point;
pub mod scope;
pub mod timing;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use event::{Event, EventKind};
pub use moment::{Moment, Moments};
pub use point::{PointId, RoleInstance};
pub use scope::Scope;
pub use timing::{TimedThread, Timing};

use crate::binary::Address;

/// One active frame: for the innermost, the function entered; for the others,
/// the return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Frame(pub Address);

/// The frames of one thread, innermost first. The first frame is the entry of
/// the function being entered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// Innermost first; library frames included.
    pub frames: Vec<Frame>,
    /// Whether unwinding reached the bottom of the stack. An incomplete stack
    /// makes every policy but `any` refuse.
    pub complete: bool,
}

/// One update point of the traced run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Where and when.
    pub id: PointId,
    /// Entry of the function being entered.
    pub function: Address,
    /// Index into [`Trace::stacks`] of the stack of the entering thread.
    pub stack: u32,
    /// Stacks of the other threads in scope, indices into [`Trace::stacks`].
    pub other_stacks: Vec<u32>,
    /// What every word of the stacks in scope might point to, as an index into
    /// [`Trace::word_sets`]; none in runs that did not record it.
    #[serde(default)]
    pub words: Option<u32>,
    /// How many points before it, of the same thread and exchange, have the same stack.
    pub occurrence: u32,
    /// Microseconds since readiness, from the run without stops.
    pub time_us: Option<u64>,
}

/// A wait of one thread in which nothing of the program's own code runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Wait {
    /// The waiting process.
    pub role: RoleInstance,
    /// Thread within the process, by order of creation.
    pub thread: u32,
    /// Exchange in which it began.
    pub exchange: u32,
    /// Whether it was seen when the server became ready, before that exchange, and
    /// not at the exchange's end.
    #[serde(default)]
    pub from_readiness: bool,
    /// Stack, index into [`Trace::stacks`].
    pub stack: u32,
    /// Stacks of the other threads in scope, indices into [`Trace::stacks`].
    #[serde(default)]
    pub other_stacks: Vec<u32>,
    /// What every word of the stacks in scope might point to, as an index into
    /// [`Trace::word_sets`]; none in runs that did not record it.
    #[serde(default)]
    pub words: Option<u32>,
    /// When it began and ended, microseconds since readiness, from the run
    /// without stops; none where that run did not time it.
    #[serde(default)]
    pub span_us: Option<(u64, u64)>,
}

/// One exchange of the session as the trace saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExchangeFacts {
    /// Label in the script.
    pub label: String,
    /// Processes that wrote to a client connection during it.
    pub writers: BTreeSet<RoleInstance>,
    /// When it began and ended, microseconds since readiness, run without stops.
    pub span_us: (u64, u64),
}

/// A process of the server during the traced run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessFacts {
    /// Its role instance.
    pub role: RoleInstance,
    /// The process that forked it; none for the first.
    pub parent: Option<RoleInstance>,
    /// Exchange in which it was forked (0 for those alive at readiness).
    pub born: u32,
    /// Entries of its parent's forking thread in that exchange before the fork.
    pub born_at: u32,
    /// Exchange in which it ended, if it did before the stop.
    pub ended: Option<u32>,
    /// Number of threads it ever had.
    pub threads: u32,
}

/// The record of one unpatched run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// Subject and version traced.
    pub version: String,
    /// Workload replayed.
    pub workload: String,
    /// Exchanges of the session in order.
    pub exchanges: Vec<ExchangeFacts>,
    /// Exchanges of the probe session, which has no update points.
    #[serde(default)]
    pub probe: Vec<ExchangeFacts>,
    /// Processes in order of creation.
    pub processes: Vec<ProcessFacts>,
    /// Points in order of execution.
    pub points: Vec<Point>,
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
    /// Blocking waits.
    pub waits: Vec<Wait>,
    /// Distinct sets of own functions, by their entries in ascending order, that
    /// some word of a stack points into: what a conservative scan sees, which
    /// cannot tell a return address from any other number.
    #[serde(default)]
    pub word_sets: Vec<Vec<Address>>,
    /// Forks, executions of programs and signals, in order; none in runs that did not
    /// record them.
    #[serde(default)]
    pub events: Option<Vec<Event>>,
}

/// Fingerprint of a stack, the same in every run: without address-space
/// randomisation equal stacks have equal addresses. Points are re-identified by it.
#[must_use]
pub fn fingerprint(stack: &Stack) -> u64 {
    // FNV-1a: stable across versions of the standard library, as stored ids must be.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |byte: u8| {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    };
    for frame in &stack.frames {
        frame.0.0.to_le_bytes().into_iter().for_each(&mut mix);
    }
    mix(u8::from(stack.complete));
    hash
}
