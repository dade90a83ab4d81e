//! Addresses of the traced program, kept apart from ordinary integers.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A virtual address in a non-PIE build or in the process that runs it.
///
/// Subjects are linked with `-no-pie` and run without address-space
/// randomisation, so that an address of the file is an address of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Distance in bytes from `start`, wrapping.
    #[must_use]
    pub const fn since(self, start: Self) -> u64 {
        self.0.wrapping_sub(start.0)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
