//! Why a server cannot be copied. Named, so that nobody has to guess why a session
//! is run by a slower engine.

use std::path::PathBuf;

use crate::sandbox::saved_folder::CannotSave;
use crate::tracee::TraceeError;
use crate::world::HostError;

/// What a started server has that a copy would not have, or would share.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Points before readiness would need servers that are not started.
    #[error("the session has points before the server is ready")]
    StartUpPoints,
    /// It has other processes already, or had.
    #[error("it starts {0} further processes before it is ready")]
    Processes(usize),
    /// `fork` copies one thread.
    #[error("it has {0} threads")]
    Threads(usize),
    /// It executed another program, so that its entries are not counted.
    #[error("it executes another program before it is ready")]
    Executed,
    /// It was taken out of something that cannot be repeated.
    #[error("it does not wait in a system call when it is ready")]
    NotWaiting,
    /// A signal to it waits.
    #[error("a signal waits to be delivered when it is ready")]
    PendingSignal,
    /// A descriptor would be shared.
    #[error("its descriptor {number} is {what}, which copies would share")]
    Descriptor {
        /// The descriptor.
        number: i32,
        /// What it refers to.
        what: String,
    },
    /// Copies do not inherit locks.
    #[error("it holds a lock by descriptor {0}, which copies would not inherit")]
    Lock(i32),
    /// A listening socket cannot be made again.
    #[error(
        "its listening socket {number} has option {option} of level {level}, which another does not take"
    )]
    ListenerOption {
        /// The descriptor.
        number: i32,
        /// Level of the option.
        level: i32,
        /// The option.
        option: i32,
    },
    /// Memory would be shared.
    #[error("it shares writable memory ({0}), which is neither copied nor put back")]
    SharedMemory(String),
    /// Memory is not copied.
    #[error("memory at {0} is not copied by fork")]
    MemoryNotCopied(String),
    /// Copies do not inherit timers made by `timer_create`.
    #[error("it has a timer of timer_create, which copies would not inherit")]
    Timer,
    /// System V objects would be shared.
    #[error("it uses System V {0}, which copies would share")]
    SystemV(&'static str),
    /// It has more open than can be made again.
    #[error("it has more open than a copy can be given")]
    TooMuchOpen,
    /// Its files are too many, or cannot be read.
    #[error("its run folder: {0}")]
    Folder(#[from] CannotSave),
    /// A step on the way to a copy was refused.
    #[error("a copy cannot be made: {0}")]
    Refused(TraceeError),
}

/// Why there is no copy: the server does not allow it, or the harness failed.
#[derive(Debug, thiserror::Error)]
pub enum NoCopy {
    /// The server does not allow it.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The harness or the machine failed.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<TraceeError> for NoCopy {
    fn from(error: TraceeError) -> Self {
        match error {
            refused @ TraceeError::Refused { .. } => Self::Unfit(Unfit::Refused(refused)),
            other => Self::Host(other.into()),
        }
    }
}

impl NoCopy {
    /// A file of `/proc` or of the run folder that could not be read or written.
    pub fn file(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| {
            let error = crate::sandbox::SandboxError::file(operation, path.display())(source);
            Self::Host(error.into())
        }
    }
}
