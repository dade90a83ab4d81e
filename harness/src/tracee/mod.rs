//! The only place that calls ptrace: stopped threads, memory, injected calls,
//! the process tree, the entry counter, unwinding, and applying a patch.
#![allow(unsafe_code)]

pub mod access;
pub mod activity;
pub mod apply;
pub mod breakpoint;
pub mod convert;
pub mod counter;
pub mod error;
pub mod hold;
pub mod inject;
mod leave;
pub mod libraries;
pub mod maps;
pub mod memory;
pub mod spawn;
pub mod stamps;
pub mod stopped;
pub mod tree;
pub mod unwind;
pub mod words;

pub use error::TraceeError;
pub use memory::Memory;
pub use stopped::{Running, Stopped};
