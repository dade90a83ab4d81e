//! Carries bytes and time between the client state machine and the server: real
//! loopback sockets. The simulated network is the simulator's.

pub mod connection;
pub mod host;
pub mod listening;
pub mod session;
pub mod stall;

pub use host::{Host, HostError};
pub use session::{Played, play};
pub use stall::{Limits, StallClock};
