//! Read-only view of a build: symbols, DWARF types, unwind rows.

pub mod address;
pub mod dwarf;
mod error;
pub mod lines;
pub mod names;
mod plt;
pub mod program;
mod symbols;

pub use address::Address;
pub use error::BinaryError;
pub use lines::Lines;
pub use names::FunctionName;
pub use program::{DataObject, Function, Program};
