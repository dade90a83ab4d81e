//! A use as a finder reports it: in which function, and where in it.

use super::table::Use;
use crate::binary::Address;

/// Where in a function a use is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At one instruction.
    Instruction(Address),
    /// On these lines of a file.
    Lines { file: String, first: u32, last: u32 },
    /// Anywhere in the function.
    Whole,
}

/// A use and its place.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Entry of the function.
    pub(super) function: Address,
    pub(super) place: Place,
    /// Functions in whose call's arguments it is, outermost first; `*` for a
    /// call through a pointer.
    pub(super) arguments_of: Vec<String>,
    pub(super) what: Use,
}
