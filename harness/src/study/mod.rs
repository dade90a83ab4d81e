//! The study: which tests to run, and the store that keeps what was seen.

pub mod plan;
pub mod sample;
pub mod store;
