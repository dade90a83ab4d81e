//! Kairos finds out *when* a running C server can safely be updated.
//!
//! It stops a real server at every update point that a client session reaches,
//! applies a dynamic software update exactly there, lets the session finish and
//! classifies what happened. `harness/DESIGN.md` walks the data flow; the terms
//! follow Hayden, *Clear, Correct, and Efficient Dynamic Software Updates*
//! (University of Maryland, 2012).
#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod analysis;
pub mod bench;
pub mod binary;
pub mod change;
pub mod confree;
pub mod corpus;
pub mod engine;
pub mod equivalence;
pub mod explain;
pub mod mechanism;
pub mod patch;
pub mod policy;
pub mod recording;
pub mod report;
pub mod rewrite;
pub mod sandbox;
pub mod state;
pub mod study;
pub mod subject;
pub mod trace;
pub mod tracee;
pub mod verdict;
pub mod workload;
pub mod world;
