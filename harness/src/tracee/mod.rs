//! The only place that calls ptrace: stopped threads, memory, injected calls,
//! the process tree, the entry counter, unwinding, and applying a patch.
#![allow(unsafe_code)]

pub mod access;
pub mod activity;
pub mod apply;
pub mod batch;
pub mod breakpoint;
pub mod call_names;
mod child_end;
pub mod convert;
pub mod copy;
pub mod counter;
pub mod descriptors;
pub mod digest;
pub mod error;
pub mod hold;
pub mod inject;
pub mod intercept;
mod leave;
pub mod libraries;
pub mod listener;
pub mod maps;
pub mod memory;
pub mod poison;
pub mod prepared;
pub mod resident;
pub mod shared_world;
pub mod simulator;
pub mod spawn;
pub mod stamps;
mod stepping;
pub mod stopped;
pub mod ticks;
pub mod tree;
pub mod unwind;
pub mod watchpoint;
pub mod words;
pub mod write_watch;
pub mod written;

pub use error::TraceeError;
pub use memory::Memory;
pub use stopped::{Running, Stopped};
