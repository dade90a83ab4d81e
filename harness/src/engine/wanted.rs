//! Which engine runs a session's tests: what was asked for, and what was chosen.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The engine that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// A new server for each test, on real sockets.
    #[default]
    Restart,
    /// One server in a simulated world that is put back after each test; restart
    /// where a session cannot be simulated.
    Rollback,
    /// The fastest engine that a session allows.
    Auto,
}

impl Wanted {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Rollback => "rollback",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Restart, Self::Rollback, Self::Auto]
            .into_iter()
            .find(|wanted| wanted.name() == text)
            .ok_or_else(|| format!("`{text}`; expected restart, rollback or auto"))
    }
}

/// The engine that was chosen for a session, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Its name.
    pub engine: String,
    /// Why this one and none that is faster, for a person.
    pub why: String,
    /// Whether a faster one was found to observe something else: a defect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disagreed: bool,
}

impl Chosen {
    /// The restart engine, because of this.
    #[must_use]
    pub fn restart(why: impl Into<String>) -> Self {
        Self {
            engine: Wanted::Restart.name().to_owned(),
            why: why.into(),
            disagreed: false,
        }
    }

    /// Whether tests are run by rollback.
    #[must_use]
    pub fn is_rollback(&self) -> bool {
        self.engine == Wanted::Rollback.name()
    }
}
