//! Live state: finds the instances of changed records in a stopped process, converts
//! them, and lists what a person must write.
//!
//! A [`Plan`] is prepared once per pair from the debug information of both versions
//! (`prepare`). At the update it is walked over the memory of the process (`walk`),
//! from typed variables and the variables of active frames (`frames`); what is found
//! is converted (`convert`) and pointers to what moves are redirected (`relocate`).

pub mod convert;
pub mod frames;
pub mod gaps;
pub mod header;
pub mod heap;
mod members;
pub mod memory;
mod number;
mod pairing;
pub mod plan;
pub mod prepare;
pub mod relocate;
pub mod renamed;
mod resolve;
pub mod rules;
mod settle;
mod unknown;
pub mod walk;

#[cfg(test)]
mod tests;

pub use gaps::Gap;
pub use plan::{Manner, Plan};
pub use prepare::{Prepared, prepare};
pub use rules::Rules;

/// A name as part of a C identifier: `struct entry` becomes `entry`.
#[must_use]
pub fn identifier(name: &str) -> String {
    let name = name
        .strip_prefix("struct ")
        .or_else(|| name.strip_prefix("union "))
        .or_else(|| name.strip_prefix("typedef "))
        .unwrap_or(name);
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}
