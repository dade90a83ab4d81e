//! Equivalent points: which update points of a session one test speaks for, and
//! whether tests of such points agree. Pure: everything comes from the trace and the
//! patch.
//!
//! Two points that follow each other in one thread are equivalent unless something
//! between them conflicts with the update. What conflicts is in [`conflict`], what
//! executes between two points in [`steps`], and the classes that this makes in
//! [`classes`]. [`compare`] says what the observations of equivalent points must
//! share.

pub mod classes;
pub mod compare;
pub mod conflict;
pub mod followed;
pub mod references;
pub mod steps;
pub mod touched;
pub mod touches;

#[cfg(test)]
mod tests;

pub use classes::{Class, Classes};
pub use conflict::{Boundary, Conflict, Rules};
pub use touched::Touched;
pub use touches::Touches;
