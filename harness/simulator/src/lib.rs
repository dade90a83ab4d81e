//! The world that a server lives in while it is tested by rollback: sockets, files,
//! time and the client, answered inside the server's own processes. Its state is plain
//! data at a fixed address, in memory that all of them share with Kairos, so that it
//! can be copied and put back. No heap, no library, no lock: of all processes one
//! thread runs at a time.
//!
//! The crate is built twice: as a part of Kairos, which knows the layout from it, and
//! as code without a library (`kairos_blob`) that Kairos puts into the server.
#![no_std]

pub mod cache;
pub mod calls;
pub mod channels;
pub mod client;
pub mod descriptors;
pub mod ends;
#[cfg(kairos_blob)]
mod entry;
pub mod file_calls;
pub mod files;
pub mod folders;
pub mod forks;
pub mod identity;
pub mod layout;
pub mod marks;
pub mod memory;
pub mod network;
pub mod numbers;
pub mod own;
pub mod parts;
pub mod passing;
pub mod pattern;
pub mod play;
pub mod processes;
pub mod raw;
pub mod script;
pub mod signals;
pub mod socket_calls;
pub mod time_calls;
pub mod transcript;
pub mod transfer;
pub mod waiting;
pub mod world;
