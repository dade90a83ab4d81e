//! Records the session of a real client as a workload: a proxy before an unpatched
//! server logs what passes, and the log becomes a script.

pub mod captures;
pub mod check;
pub mod compose;
pub mod frame;
pub mod groups;
pub mod link;
pub mod log;
pub mod passive;
pub mod proxy;
pub mod remote;
#[cfg(test)]
mod tests;
pub mod text;
pub mod worker;

use std::path::PathBuf;

use crate::study::StudyError;

pub use compose::{ComposeError, Composed, Heading, compose};
pub use log::Log;
pub use remote::{Options, Recorded, record};
pub use worker::Request;

/// What can keep a session from being recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A name that no workload can have.
    #[error(
        "`{0}` cannot name a workload; use letters, digits, `_` and `-`, beginning with a letter"
    )]
    Name(String),
    /// A workload of that name exists.
    #[error("{0} exists; choose another name, or pass --force to replace it")]
    Exists(PathBuf),
    /// A named port that the subject does not have.
    #[error("the subject has no port `{name}`; it has {known}")]
    Port {
        /// The name.
        name: String,
        /// Those it has.
        known: String,
    },
    /// Wrong arguments of another kind.
    #[error("{0}")]
    Usage(String),
    /// A port on which clients cannot be awaited.
    #[error("cannot listen on 127.0.0.1 port {port}: {source}; choose another with --listen")]
    Listen {
        /// The port.
        port: u16,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A client that cannot be started.
    #[error("cannot start the client `{program}`: {source}")]
    Client {
        /// The program.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A session that no script can say.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// Interrupted before a client could connect.
    #[error("interrupted before the server was ready")]
    Interrupted,
    /// The server or the machine.
    #[error("{0}")]
    Recorder(String),
    /// The machine.
    #[error("recording: {0}")]
    System(std::io::Error),
    /// A version, a build or a worker.
    #[error(transparent)]
    Study(#[from] StudyError),
}
