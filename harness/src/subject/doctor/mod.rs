//! Says whether this machine can run studies, and how to mend what it refuses.
//!
//! Each check names the value found, the value needed and what to change. What
//! the kernel permits is not read off its settings but tried, in a process of
//! its own (see [`probe`]); settings only explain a refusal.

mod kernel;
pub mod probe;
mod tools;

use std::path::Path;

use serde::Serialize;

/// One thing that Kairos needs of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is checked.
    pub name: String,
    /// The value found.
    pub found: String,
    /// The value needed.
    pub needed: String,
    /// Whether they agree.
    pub ok: bool,
    /// What it means if they do not.
    pub severity: Severity,
    /// How to mend it, or what is lost without; empty if nothing is wrong.
    pub mend: String,
}

/// What a failed check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Kairos cannot run update tests.
    Required,
    /// Something is worse or missing, and the check says what.
    Recommended,
}

impl Check {
    fn required(name: &str, needed: &str, outcome: Result<String, Refusal>) -> Self {
        Self::new(name, needed, Severity::Required, outcome)
    }

    fn recommended(name: &str, needed: &str, outcome: Result<String, Refusal>) -> Self {
        Self::new(name, needed, Severity::Recommended, outcome)
    }

    fn new(name: &str, needed: &str, severity: Severity, outcome: Result<String, Refusal>) -> Self {
        let (ok, found, mend) = match outcome {
            Ok(found) => (true, found, String::new()),
            Err(refusal) => (false, refusal.found, refusal.mend),
        };
        Self {
            name: name.to_owned(),
            found,
            needed: needed.to_owned(),
            ok,
            severity,
            mend,
        }
    }
}

/// What was found instead, and how to mend it.
struct Refusal {
    found: String,
    mend: String,
}

impl Refusal {
    fn new(found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            found: found.into(),
            mend: mend.into(),
        }
    }
}

/// Makes every check. `kairos` is the binary whose hidden subcommand
/// [`probe::SUBCOMMAND`] tries what the kernel permits.
#[must_use]
pub fn checks(kairos: &Path) -> Vec<Check> {
    let mut checks = kernel::checks(kairos);
    checks.extend(tools::checks());
    checks
}

/// Whether everything that is required is there.
#[must_use]
pub fn can_run(checks: &[Check]) -> bool {
    checks
        .iter()
        .all(|check| check.ok || check.severity != Severity::Required)
}
