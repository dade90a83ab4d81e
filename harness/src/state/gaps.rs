//! What cannot be generated and a person must write.

use serde::{Deserialize, Serialize};

/// Something about live state that Kairos does not know and does not guess.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// Kind, one stable word or two with hyphens (`added-member`, `void-pointer`,
    /// `unknown-length`, …).
    pub kind: String,
    /// What is concerned: a member (`struct entry.hits`), a global, an enum.
    pub subject: String,
    /// What is not known, and what happens if nobody says it.
    pub message: String,
    /// The line to write: of `transform.c`, or of a manifest.
    pub line: String,
}

impl Gap {
    /// A gap of that kind.
    #[must_use]
    pub fn new(kind: &str, subject: &str, message: String, line: String) -> Self {
        Self {
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            message,
            line,
        }
    }
}
