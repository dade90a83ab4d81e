//! How a study tells what it is doing; the command line draws it.

use std::time::Duration;

/// Hears of a study's progress. Called from several threads.
pub trait Progress: Sync {
    /// A piece of preparation begins, such as building a version.
    fn stage(&self, what: &str);

    /// What is about to be tested.
    fn planned(&self, what: &Planned);

    /// A test is done; so many have failed so far.
    fn tested(&self, failures: u64);

    /// Something went wrong that the study survives, or is worth knowing.
    fn problem(&self, what: &str);
}

/// The tests before the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Tests to be run now.
    pub tests: u64,
    /// Tests that an earlier run recorded.
    pub finished: u64,
    /// An estimate of how long they take.
    pub estimate: Duration,
    /// Workers.
    pub jobs: usize,
}

/// Says nothing.
#[derive(Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _what: &str) {}
    fn planned(&self, _what: &Planned) {}
    fn tested(&self, _failures: u64) {}
    fn problem(&self, _what: &str) {}
}
