//! Why two points that follow each other are not equivalent.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens between two points that an update must not be moved across; also the
/// rule that sees it, so that a test can switch one off and show what it is for. In
/// order of precedence: where several hold, the first is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conflict {
    /// Nothing: the thread's first point.
    Begin,
    /// A changed or deleted function is entered.
    Entry,
    /// A frame of a changed function ends whose old code is followed.
    Return,
    /// A deleted function is entered: from its entry on its frame is an old one.
    Deleted,
    /// A process or thread is created.
    Fork,
    /// A program is executed.
    Exec,
    /// A signal is delivered, or its handler returns.
    Signal,
    /// State that the update changes, or that its transformer reads or writes, is
    /// touched.
    State,
    /// It is not known what touches the state that the update changes.
    UnknownState,
    /// It cannot be told what executes.
    Unresolved,
    /// Something of these happens in another thread that the update reaches.
    OtherThread,
}

impl Conflict {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Begin,
        Self::Entry,
        Self::Return,
        Self::Deleted,
        Self::Fork,
        Self::Exec,
        Self::Signal,
        Self::State,
        Self::UnknownState,
        Self::Unresolved,
        Self::OtherThread,
    ];

    /// The name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::Entry => "entry",
            Self::Return => "return",
            Self::Deleted => "deleted",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Signal => "signal",
            Self::State => "state",
            Self::UnknownState => "unknown-state",
            Self::Unresolved => "unresolved",
            Self::OtherThread => "other-thread",
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a class begins, and why not earlier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Boundary {
    /// What conflicts.
    pub conflict: Conflict,
    /// A function, state, or thread, for people; may be empty.
    pub what: String,
}

impl Boundary {
    pub(crate) fn new(conflict: Conflict, what: impl Into<String>) -> Self {
        Self {
            conflict,
            what: what.into(),
        }
    }
}

/// The rules in force: all, unless a test switches one off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    off: BTreeSet<Conflict>,
}

impl Rules {
    /// All rules but one.
    #[must_use]
    pub fn without(rule: Conflict) -> Self {
        Self {
            off: BTreeSet::from([rule]),
        }
    }

    pub(crate) fn has(&self, rule: Conflict) -> bool {
        !self.off.contains(&rule)
    }
}
