//! Baselines + observation → verdict. Pure: nothing here starts a process, and a
//! stored run can be judged again.

pub mod alike;
pub mod difference;
pub mod entries;
pub mod judge;
pub mod observation;
pub mod text;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use judge::{Expected, Finding, findings, judge};
pub use observation::Observation;

/// What an update test showed, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The mechanism could not apply the patch.
    NotApplied,
    /// The point was not found again in three tries.
    NotReached,
    /// A process died of a signal that its baseline role does not.
    Crash,
    /// A process or connection ended that does not in the baselines.
    Exit,
    /// No client-visible progress within the limit.
    Stall,
    /// An exchange matches neither version.
    Wrong,
    /// An old reply that is not excused after a new one, or one reply mixing both.
    Mixed,
    /// The end state is neither version's.
    State,
    /// The versions differ on a later exchange, and none showed the new version.
    Inert,
    /// Excused old replies, then new ones.
    Late,
    /// Every later exchange is new, or the versions do not differ on any.
    New,
}

impl Verdict {
    /// All verdicts, in order of precedence.
    pub const ALL: [Self; 11] = [
        Self::NotApplied,
        Self::NotReached,
        Self::Crash,
        Self::Exit,
        Self::Stall,
        Self::Wrong,
        Self::Mixed,
        Self::State,
        Self::Inert,
        Self::Late,
        Self::New,
    ];

    /// Whether the verdict counts as a failure of the update.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Crash | Self::Exit | Self::Stall | Self::Wrong | Self::Mixed | Self::State
        )
    }

    /// Whether the update was applied and nothing failed (`inert` included).
    #[must_use]
    pub const fn is_pass(self) -> bool {
        matches!(self, Self::Inert | Self::Late | Self::New)
    }

    /// The name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotApplied => "not-applied",
            Self::NotReached => "not-reached",
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Stall => "stall",
            Self::Wrong => "wrong",
            Self::Mixed => "mixed",
            Self::State => "state",
            Self::Inert => "inert",
            Self::Late => "late",
            Self::New => "new",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A verdict with what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Stable short words, such as `in-flight`, `stale`, `killed by SIGSEGV in f`.
    pub cause: String,
    /// First exchange at which the observation left the expected versions.
    pub diverged_at: Option<u32>,
    /// How many exchanges from the point on tell the versions apart.
    pub discriminating: u32,
    /// Entries of new code after the update.
    pub new_code_entries: u64,
    /// Whether an old frame of a changed function ran after the update.
    pub old_frame_ran: bool,
}
