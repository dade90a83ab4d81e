//! What passed between clients and the server, in one total order: the raw
//! material of a recorded workload.

use serde::{Deserialize, Serialize};

use crate::verdict::observation::Ending;

/// Where a client's connection went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// A port that the subject's manifest names.
    Port(String),
    /// A port that the server named in a reply.
    Passive {
        /// The connection of that reply.
        control: usize,
        /// Where the reply's line ends in what that connection received.
        offset: usize,
    },
}

/// One event. Connections are numbered in order of opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The client connected.
    Opened {
        /// The new connection.
        connection: usize,
        /// Where it goes.
        target: Target,
        /// Whether something accepted it.
        accepted: bool,
    },
    /// The client sent bytes.
    Sent {
        /// On this connection.
        connection: usize,
        /// These.
        bytes: Vec<u8>,
    },
    /// The client closed, or at least its sending direction.
    Finished {
        /// This connection.
        connection: usize,
    },
    /// The client tore the connection down, or was gone when the server wrote.
    Reset {
        /// This connection.
        connection: usize,
    },
    /// The server sent bytes.
    Received {
        /// On this connection.
        connection: usize,
        /// These.
        bytes: Vec<u8>,
    },
    /// The server closed.
    Ended {
        /// This connection.
        connection: usize,
        /// Whether it tore the connection down.
        torn: bool,
    },
    /// The server stood still with nothing left to read.
    Rest,
}

impl Event {
    /// Whether the client did it.
    #[must_use]
    pub fn is_clients(&self) -> bool {
        matches!(
            self,
            Self::Opened { .. } | Self::Sent { .. } | Self::Finished { .. } | Self::Reset { .. }
        )
    }

    /// The connection concerned.
    #[must_use]
    pub fn connection(&self) -> Option<usize> {
        match self {
            Self::Opened { connection, .. }
            | Self::Sent { connection, .. }
            | Self::Finished { connection }
            | Self::Reset { connection }
            | Self::Received { connection, .. }
            | Self::Ended { connection, .. } => Some(*connection),
            Self::Rest => None,
        }
    }
}

/// A whole recorded session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How the server's first process ended, if it did so by itself.
    pub server_ending: Option<Ending>,
}
