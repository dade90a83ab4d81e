//! Read-only view of a build: symbols, DWARF types, unwind rows.

pub mod address;

pub use address::Address;
