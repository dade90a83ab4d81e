//! How a study tells what it is doing; the command line draws it.

/// Hears of a study's progress. Called from several threads.
pub trait Progress: Sync {
    /// A piece of preparation begins, such as building a version.
    fn stage(&self, what: &str);

    /// So many tests are planned.
    fn planned(&self, tests: u64);

    /// A test is done; so many have failed so far.
    fn tested(&self, failures: u64);

    /// Something went wrong that the study survives.
    fn problem(&self, what: &str);
}

/// Says nothing.
#[derive(Debug, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn stage(&self, _what: &str) {}
    fn planned(&self, _tests: u64) {}
    fn tested(&self, _failures: u64) {}
    fn problem(&self, _what: &str) {}
}
