//! Where everything lies in the server's process. Near the libraries, so that a
//! rewritten call reaches it by a short jump.

/// First address of the region that is put back: code, stack, world, arena.
pub const REGION: u64 = 0x7fff_e000_0000;
/// The simulator's code and constants.
pub const CODE: u64 = REGION;
/// Room for them.
pub const CODE_LENGTH: u64 = 0x10_0000;
/// The simulator's own stack.
pub const STACK: u64 = REGION + 0x10_0000;
/// Its length.
pub const STACK_LENGTH: u64 = 0x2_0000;
/// Past its end.
pub const STACK_TOP: u64 = STACK + STACK_LENGTH;
/// The state: what a run writes lies close together, for each page that is written
/// has to be copied back. What is long lies behind it.
pub const WORLD: u64 = REGION + 0x20_0000;
/// Room for it.
pub const WORLD_LENGTH: u64 = 0x8_0000;
/// What the client received ([`crate::transcript::Transcript`] says how much it is).
pub const TRANSCRIPT: u64 = WORLD + WORLD_LENGTH;
/// Bytes on their way to the server that are too many for the state itself, a buffer
/// for each socket.
pub const INBOXES: u64 = REGION + 0x50_0000;
/// The same on their way to the client, for each of its connections.
pub const PENDING: u64 = REGION + 0x90_0000;
/// Memory handed out to the server and to files that were written.
pub const ARENA: u64 = REGION + 0x100_0000;
/// Its length.
pub const ARENA_LENGTH: u64 = 0x100_0000;
/// Length of the region.
pub const REGION_LENGTH: u64 = 0x200_0000;

/// What is never put back: jumps of rewritten calls, the script, files as they were.
pub const KEPT: u64 = REGION + REGION_LENGTH;
/// Jumps of rewritten calls.
pub const STUBS: u64 = KEPT;
/// Room for them.
pub const STUBS_LENGTH: u64 = 0x10_0000;
/// The scripts.
pub const SCRIPTS: u64 = STUBS + STUBS_LENGTH;
/// Room for them.
pub const SCRIPTS_LENGTH: u64 = 0x70_0000;
/// Files as they were before the session.
pub const CACHE: u64 = SCRIPTS + SCRIPTS_LENGTH;
/// Room for them.
pub const CACHE_LENGTH: u64 = 0x280_0000;
/// Length of everything that is kept.
pub const KEPT_LENGTH: u64 = STUBS_LENGTH + SCRIPTS_LENGTH + CACHE_LENGTH;

/// The counter of entries of the server's only thread, which the harness placed.
pub const COUNTER: u64 = 0x3f00_1000;
/// A counter value that no session reaches.
pub const NEVER: u64 = 1 << 60;
