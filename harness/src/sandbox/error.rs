//! What the machine can refuse while a sandbox is set up.

use nix::errno::Errno;

/// A step of the sandbox that failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A system call was refused.
    #[error("sandbox: {operation} failed: {errno}; `kairos doctor` says what the machine lacks")]
    Refused {
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A file of the sandbox could not be read or written.
    #[error("sandbox: {operation} {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl SandboxError {
    /// Wraps a refused system call.
    pub fn refused(operation: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Refused {
            operation: operation.into(),
            errno,
        }
    }

    /// Wraps a failed file operation.
    pub fn file(
        operation: &'static str,
        path: impl std::fmt::Display,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_string();
        move |source| Self::File {
            operation,
            path,
            source,
        }
    }
}
