//! How an update deals with records and prototypes that change: settings of a pair,
//! and the plan by which both versions are built.
//!
//! What changed is always told by the versions' own builds. A mechanism only decides
//! how the program that runs, and the code that it receives, lay records out, and
//! whether calls from old code reach the new version of a function whose prototype
//! changed.

pub mod check;
pub mod place;
pub mod plan;
pub mod preflight;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use check::Mismatch;
pub use plan::{LayoutPlan, Outcome, RecordLayout};

/// Where the members of changed records lie in the running program and in new code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Each version has its own layout (kpatch, libcare, Ksplice).
    #[default]
    Own,
    /// Both versions are padded to one size, each with its own offsets.
    Room,
    /// Both versions have one layout: shared members at their old offsets, gaps where
    /// members went, added ones after the old size.
    Common,
}

impl Layout {
    /// The word in manifests and names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Room => "room",
            Self::Common => "common",
        }
    }
}

/// What calls from old code reach where a prototype changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prototypes {
    /// The new version, as everywhere.
    #[default]
    Redirect,
    /// The old version, for which the arguments are meant: its entry gets no jump.
    Keep,
}

impl Prototypes {
    /// The word in manifests and names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Keep => "keep",
        }
    }
}

/// A mechanism, `own+redirect` unless a pair says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mechanism {
    /// How records are laid out.
    pub layout: Layout,
    /// How functions whose prototype changed are called.
    pub prototypes: Prototypes,
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.layout.name(), self.prototypes.name())
    }
}
