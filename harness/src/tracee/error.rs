//! What can go wrong with a traced process. Its death is an ordinary outcome.

use nix::errno::Errno;
use nix::unistd::Pid;

/// An operation on a traced process that failed.
#[derive(Debug, thiserror::Error)]
pub enum TraceeError {
    /// The process is gone; its end will be reported by the next wait.
    #[error("process {pid} ended during {operation}")]
    Gone {
        /// What was tried.
        operation: &'static str,
        /// On which thread.
        pid: Pid,
    },
    /// The kernel refused.
    #[error("{operation} on process {pid}: {errno}; `kairos doctor` checks what tracing needs")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which thread.
        pid: Pid,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Memory of the process could not be read or written.
    #[error("{operation} {length} bytes at {address:#x} of process {pid}: {source}")]
    Memory {
        /// `reading` or `writing`.
        operation: &'static str,
        /// Where.
        address: u64,
        /// How much.
        length: usize,
        /// In which process.
        pid: Pid,
        /// The system's answer.
        source: std::io::Error,
    },
    /// An injected call did not come back as expected.
    #[error("{what} injected into process {pid} stopped with wait status {status:#x}")]
    Injection {
        /// What was injected.
        what: &'static str,
        /// Into which thread.
        pid: Pid,
        /// The status reported.
        status: i32,
    },
    /// The subject's program could not be started.
    #[error("starting {program}: {source}")]
    Start {
        /// Path inside the sandbox.
        program: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl TraceeError {
    /// Wraps a refused operation; a missing process becomes [`TraceeError::Gone`].
    pub(crate) fn from_errno(operation: &'static str, pid: Pid) -> impl FnOnce(Errno) -> Self {
        move |errno| match errno {
            Errno::ESRCH => Self::Gone { operation, pid },
            errno => Self::Refused {
                operation,
                pid,
                errno,
            },
        }
    }

    /// Whether it only says that the process has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}
