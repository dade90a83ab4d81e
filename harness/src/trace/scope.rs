//! Which processes of the server one update reaches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which processes an update reaches.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Only the process that reaches the point.
    #[default]
    Process,
    /// Every process of the server at once.
    Tree,
}

impl Scope {
    /// The name in identifiers, files and options.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Tree => "tree",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no scope.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a scope; `process` and `tree` are")]
pub struct UnknownScope(String);

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "process" => Ok(Self::Process),
            "tree" => Ok(Self::Tree),
            other => Err(UnknownScope(other.to_owned())),
        }
    }
}
