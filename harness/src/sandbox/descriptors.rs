//! How many files the worker may have open: each process of a subject that it
//! follows costs a few.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files for each process that is followed: its memory, and two that tell what
/// it does.
const FOR_EACH_PROCESS: u64 = 3;

/// Open files for everything else.
const FOR_THE_REST: u64 = 64;

/// Raises the soft limit to the hard one. Refused, it stays as it was.
pub fn raise_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// How many processes can be followed at once.
#[must_use]
pub fn most_processes() -> u64 {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    soft.saturating_sub(FOR_THE_REST) / FOR_EACH_PROCESS
}
