//! The world that a server lives in while it is tested by rollback: sockets, files,
//! time and the client, answered inside the server's own process. Its state is plain
//! data at a fixed address, so that putting back the process's memory puts it back
//! too. No heap, no library, no lock: one thread, which is the server's.
//!
//! The crate is built twice: as a part of Kairos, which knows the layout from it, and
//! as code without a library (`kairos_blob`) that Kairos puts into the server.
#![no_std]

pub mod cache;
pub mod calls;
pub mod children;
pub mod client;
pub mod descriptors;
#[cfg(kairos_blob)]
mod entry;
pub mod file_calls;
pub mod files;
pub mod layout;
pub mod memory;
pub mod network;
pub mod numbers;
pub mod pattern;
pub mod play;
pub mod raw;
pub mod script;
pub mod signals;
pub mod socket_calls;
pub mod time_calls;
pub mod transcript;
pub mod transfer;
pub mod waiting;
pub mod world;
