//! The end of a test: nothing that the subject started is left.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills and reaps every process of the sandbox but the caller, which is
/// process 1 of the namespace: no fork storm outruns the kernel's own sweep over
/// the namespace, and every orphan becomes the caller's child.
pub fn end_all() {
    while let Ok(()) | Err(Errno::EPERM) = kill(Pid::from_raw(-1), Signal::SIGKILL) {
        if reap_one() == Reaped::NoneLeft {
            break;
        }
    }
    while reap_one() == Reaped::One {}
}

#[derive(PartialEq, Eq)]
enum Reaped {
    One,
    NoneLeft,
}

fn reap_one() -> Reaped {
    let mut status = 0;
    #[allow(unsafe_code)]
    // SAFETY: waitpid writes one int; __WALL also takes threads that were traced.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
    if pid > 0 || Errno::last() == Errno::EINTR {
        Reaped::One
    } else {
        Reaped::NoneLeft
    }
}
