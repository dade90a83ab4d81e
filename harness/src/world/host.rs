//! What a session needs to know of the server it talks to.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::tracee::TraceeError;
use crate::tracee::activity::{Activity, Reading};

/// A fault of ours or of the machine while a session is played, never a
/// misbehaviour of the subject.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Tracing failed.
    #[error(transparent)]
    Tracee(#[from] TraceeError),
    /// The sandbox failed.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::SandboxError),
    /// Waiting or a socket failed in a way no subject can cause.
    #[error("{operation}: {errno}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        errno: nix::errno::Errno,
    },
    /// The server did not become ready.
    #[error("{0}")]
    NotReady(String),
}

/// The server's side of a session.
pub trait Host {
    /// Handles everything that processes of the server have reported.
    ///
    /// # Errors
    /// When tracing fails.
    fn pump(&mut self) -> Result<(), HostError>;

    /// Readable when there is something to pump.
    fn reports(&self) -> BorrowedFd<'_>;

    /// What the server's threads are doing.
    fn reading(&mut self) -> Reading;

    /// Sends a signal, by name, to the first living process of a role.
    fn signal(&mut self, role: &str, signal: &str);

    /// Called when exchange `number` is over and the server stands still.
    ///
    /// # Errors
    /// When tracing fails.
    fn exchange_over(&mut self, number: u32) -> Result<(), HostError>;
}

/// Waits until the server reports, a socket is ready for its flags, or
/// `milliseconds` have passed; tells which sockets are ready.
pub(crate) fn wait(
    host: &dyn Host,
    sockets: &[(BorrowedFd<'_>, PollFlags)],
    milliseconds: u8,
) -> Result<Vec<bool>, HostError> {
    let reports = PollFd::new(host.reports(), PollFlags::POLLIN);
    let mut descriptors = vec![reports];
    descriptors.extend(
        sockets
            .iter()
            .map(|(socket, flags)| PollFd::new(*socket, *flags)),
    );
    match poll(&mut descriptors, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => {
            return Err(HostError::System {
                operation: "poll",
                errno,
            });
        }
    }
    Ok(descriptors[1..]
        .iter()
        .map(|descriptor| {
            descriptor
                .revents()
                .is_some_and(|events| !events.is_empty())
        })
        .collect())
}

/// Whether the server stands still: two readings agree that every thread is
/// blocked and that none ran between them. On one processor shared with the
/// server this makes the two readings one moment.
///
/// # Errors
/// When tracing fails.
pub(crate) fn stands_still(host: &mut dyn Host) -> Result<(bool, Reading), HostError> {
    agree(host, &|activity| activity == Activity::Blocked)
}

/// The same, where a thread may also wait for time to pass.
///
/// # Errors
/// When tracing fails.
pub(crate) fn waits(host: &mut dyn Host) -> Result<(bool, Reading), HostError> {
    agree(host, &|activity| activity != Activity::Running)
}

fn agree(
    host: &mut dyn Host,
    wanted: &dyn Fn(Activity) -> bool,
) -> Result<(bool, Reading), HostError> {
    host.pump()?;
    let first = host.reading();
    if !wanted(first.activity) {
        return Ok((false, first));
    }
    host.pump()?;
    let second = host.reading();
    let still = wanted(second.activity) && second.slices == first.slices;
    Ok((still, second))
}
