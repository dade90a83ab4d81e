//! Which functions of the old program touch state that an update changes or that its
//! transformer reads or writes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::binary::Address;

/// Who touches the state of an update. Small, and stored with a run, so that classes
/// can be computed again without the binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// State concerned, for people.
    pub state: BTreeSet<String>,
    /// Functions of the old program, by entry, that touch it while they execute, and
    /// what they touch.
    #[serde(default)]
    pub functions: BTreeMap<Address, BTreeSet<String>>,
    /// Why it cannot be told who touches it: every step conflicts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Touches {
    /// State of which nobody can tell who touches it.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self {
            unknown: Some(why.into()),
            ..Self::default()
        }
    }
}
