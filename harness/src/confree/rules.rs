//! The rules that make the table of uses sound, so that a test can switch one off
//! and show what it is for.

use super::found::{Found, Place};
use super::table::{Finder, UseKind};

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Uses that a finder sees count.
    Finder(Finder),
    /// A pointer into an instance that is kept counts for the whole function.
    Interior,
    /// So does a local instance whose address is taken.
    LocalAddress,
    /// After a jump that cannot be followed, the whole function may run.
    UnresolvedJump,
    /// Arguments of the call that a frame waits in are evaluated anew where the
    /// call can be reached again.
    CallReachedAgain,
    /// They may still be evaluated where the same lines call that function twice.
    CalledTwice,
    /// A use on lines of which the function has no instruction counts everywhere.
    LinesWithoutRow,
    /// Uses of a body that was inlined count for the function that holds it.
    InlinedBody,
    /// A function of which nothing is known refuses.
    Unknown,
}

impl Rule {
    /// Whether the rule is what makes `found` count: without it, it would not.
    pub(super) fn alone_keeps(self, found: &Found) -> bool {
        let whole = found.place == Place::Whole;
        match self {
            Self::Finder(finder) => found.what.finder == finder,
            Self::Interior => whole && found.what.kind == UseKind::Interior,
            Self::LocalAddress => whole && found.what.kind == UseKind::Declaration,
            _ => false,
        }
    }
}
