//! Events of a traced run besides points: what processes and threads do that an
//! update must not be moved across.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RoleInstance;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A process or thread was created.
    Fork,
    /// A program was executed, or tried to be.
    Exec,
    /// A signal was delivered.
    Signal,
    /// A signal handler returned.
    SignalReturn,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Signal => "signal",
            Self::SignalReturn => "return from a signal handler",
        })
    }
}

/// One event of one thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// How many points of the whole trace came before it.
    pub after: u32,
    /// The process.
    pub role: RoleInstance,
    /// The thread within it, by order of creation.
    pub thread: u32,
    /// What happened.
    pub kind: EventKind,
}
