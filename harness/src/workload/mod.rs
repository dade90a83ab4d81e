//! Client sessions: the script, the client state machine that plays it, and the
//! normaliser for text that differs between equal runs.

pub mod client;
pub mod flat;
pub mod normalise;
pub mod pattern;
pub mod script;
mod text;

pub use client::{Action, Client, Event};
pub use normalise::Normaliser;
pub use script::Script;
pub use text::unescape;

/// Most connections one session may hold.
pub const MAX_CONNECTIONS: usize = 8;
/// Most variables one session may capture.
pub const MAX_VARIABLES: usize = 16;
/// Bytes of a line that patterns see.
pub const LINE_CAPACITY: usize = 1000;
