//! Everything seen of one run of a workload, patched or not. Stored; verdicts
//! are derived from it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entries::Entries;
use crate::binary::Address;
use crate::trace::{RoleInstance, Stack};

/// What the client and the logs saw during one exchange, normalised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenExchange {
    /// Text received, per connection; an end of the connection is the line `<EOF>`,
    /// a refused or reset one `<RESET>`.
    pub replies: BTreeMap<String, String>,
    /// Text appended to each log during the exchange.
    pub logs: BTreeMap<String, String>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// By `exit` with this status.
    Exited(i32),
    /// By this signal.
    Killed(String),
    /// It outlived the ordinary stop and was killed by Kairos.
    Outlived,
}

/// Where a process took the signal that killed it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fault {
    /// Instruction pointer.
    pub address: Address,
    /// Function it lies in: the program's, the image's (`f (new)`), or the library's.
    pub function: String,
    /// Functions on the stack, innermost first.
    pub stack: Vec<String>,
}

/// One process of the run, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SeenProcess {
    /// Its role instance.
    pub role: RoleInstance,
    /// Whether the update was in it when it ended, applied or inherited.
    pub updated: bool,
    /// Exchange during which it ended; the stop counts as the exchange after the last.
    pub ended_in: u32,
    /// How.
    pub ending: Ending,
    /// Where, if a signal killed it.
    pub fault: Option<Fault>,
}

/// The session stood still.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stall {
    /// Exchange that did not finish.
    pub exchange: u32,
    /// What the client waited for.
    pub waiting_for: String,
    /// Whether a process was burning processor time rather than waiting.
    pub busy: bool,
}

/// Code that touched an instance which had moved, or the old copy that it left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Touch {
    /// What it is an instance of.
    pub object: String,
    /// The place that was touched, in bytes from its start.
    pub offset: i64,
    /// Whether it was the old copy, rather than the instance where it lies now.
    pub old_copy: bool,
    /// The program's function that did it, or that called the library which did.
    pub function: String,
    /// Whether that function's code is of the old version.
    pub old_text: bool,
    /// Whether its frame was active at the point.
    pub active_at_point: bool,
    /// Exchange under way.
    pub exchange: u32,
}

/// Instances that moved and their old copies, put out of reach, and what touched them
/// nevertheless and should not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poisoned {
    /// Old copies out of reach.
    pub copies: u64,
    /// Copies that lie beside something else, in a frame or among the variables, and
    /// stayed within reach.
    pub within_reach: u64,
    /// How many parts there are of what can be watched in frames and among variables: a
    /// run watches one.
    #[serde(default)]
    pub parts: u64,
    /// The first touch of each old copy by any code, and of each instance by old code of
    /// a function that changed.
    pub touches: Vec<Touch>,
}

/// What became of the instances of changed records at an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenState {
    /// Instances that the new version's layout was given, by record.
    pub instances: BTreeMap<String, u64>,
    /// How many of them moved to another place.
    pub moved: u64,
    /// How many pointers were redirected.
    pub redirected: u64,
    /// What was not followed or not converted, and why.
    pub problems: Vec<String>,
    /// Microseconds that finding them took.
    pub walk_us: f64,
    /// Microseconds that converting them took.
    pub convert_us: f64,
    /// Old copies out of reach; only where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poisoned: Option<Poisoned>,
}

/// How the update itself went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Update {
    /// A run without an update: a baseline, or "stop and apply nothing".
    #[default]
    None,
    /// Applied at the point.
    Applied {
        /// Function entered at the stop.
        function: String,
        /// Stack at the stop.
        stack: Stack,
        /// Tries that were needed to find the point (1 = at once).
        tries: u32,
        /// Whether it was found at another index than in the trace.
        drifted: bool,
        /// Microseconds that applying took.
        apply_us: f64,
        /// What became of live state; none where no record changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<SeenState>,
    },
    /// The mechanism could not apply the patch.
    NotApplied {
        /// Why.
        reason: String,
    },
    /// The point was not found again.
    NotReached {
        /// What was found instead.
        reason: String,
    },
}

/// Everything seen of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// How the update went.
    pub update: Update,
    /// The session's exchanges, then those of the probe session.
    pub exchanges: Vec<SeenExchange>,
    /// How many of them belong to the session proper.
    pub session_exchanges: u32,
    /// Processes in order of creation.
    pub processes: Vec<SeenProcess>,
    /// Files of the end state: path → normalised content, or its hash when long or binary.
    pub files: BTreeMap<String, String>,
    /// The stall, if the session stood still.
    pub stall: Option<Stall>,
    /// Entries of functions of the image after the update, by function name.
    pub new_entries: Entries,
    /// Exchanges during which an old frame of a changed function ran that was
    /// active at the point.
    pub old_frame_exchanges: BTreeSet<u32>,
    /// Wall-clock time of the whole test in microseconds.
    pub wall_us: u64,
    /// The end of what the server printed, `stdout` and `stderr`, as it came; kept
    /// only for tests that one may want to look into.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub output: BTreeMap<String, String>,
}
