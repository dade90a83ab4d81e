//! The end of a test: nothing that the subject started is left.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Kills and reaps every process of the sandbox but the caller, which is
/// process 1 of the namespace: no fork storm outruns the kernel's own sweep over
/// the namespace, and every orphan becomes the caller's child.
pub fn end_all() {
    let mut reaped = 0_u64;
    loop {
        // One sweep takes them all: a fork fails where a signal waits. Another one, now and
        // then, is for those that somebody else may have started meanwhile.
        if reaped == 0 || reaped.is_power_of_two() {
            let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        }
        if reap_one() == Reaped::NoneLeft {
            return;
        }
        reaped += 1;
    }
}

/// Kills and reaps every process of the sandbox but the caller and `spared`, which is
/// stopped and has reported that; tells whether none is left.
#[must_use]
pub fn end_all_but(spared: Pid) -> bool {
    // Each round outruns one generation of a fork storm.
    const MOST_ROUNDS: u32 = 10_000;
    for _ in 0..MOST_ROUNDS {
        let others = others(spared);
        if others.is_empty() {
            return true;
        }
        for pid in others {
            let _ = kill(pid, Signal::SIGKILL);
        }
        while reap_ended() {}
        // They share the caller's processor, and end on it.
        std::thread::yield_now();
    }
    false
}

/// Processes of the namespace but its first one and `spared`.
fn others(spared: Pid) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| pid.as_raw() != 1 && *pid != spared)
        .collect()
}

/// Reaps one process that has ended or reports something; tells whether there was one.
fn reap_ended() -> bool {
    let mut status = 0;
    #[allow(unsafe_code)]
    // SAFETY: waitpid writes one int; __WALL also takes threads that were traced.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
    let one = pid > 0;
    if one {
        let_end(pid, status);
    }
    one
}

/// A traced process may stop once more when it is about to end, and no signal moves it
/// then.
fn let_end(pid: i32, status: i32) {
    if libc::WIFSTOPPED(status) {
        let _ = nix::sys::ptrace::cont(Pid::from_raw(pid), None);
    }
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
    if pid > 0 {
        let_end(pid, status);
        Reaped::One
    } else if Errno::last() == Errno::EINTR {
        Reaped::One
    } else {
        Reaped::NoneLeft
    }
}
