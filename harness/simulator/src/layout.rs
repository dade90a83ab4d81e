//! Where everything lies in the server's process. Near the libraries, so that a
//! rewritten call reaches it by a short jump.

/// First address of the region that is put back in each process: code, stack, words,
/// arena.
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
/// Words of the simulator that each process has for itself.
pub const OWN: u64 = STACK_TOP;
/// Room for them.
pub const OWN_LENGTH: u64 = 0x1000;
/// Memory handed out to the server.
pub const ARENA: u64 = REGION + 0x100_0000;
/// Its length.
pub const ARENA_LENGTH: u64 = 0x100_0000;
/// Length of the region.
pub const REGION_LENGTH: u64 = 0x200_0000;

/// Bytes between memory that is put back and memory that is not: the kernel would make
/// one mapping of both.
const APART: u64 = 0x10_0000;

/// What is never put back: jumps of rewritten calls, the script, what the kernel knows
/// of signals.
pub const KEPT: u64 = REGION + REGION_LENGTH + APART;
/// Jumps of rewritten calls.
pub const STUBS: u64 = KEPT;
/// Room for them.
pub const STUBS_LENGTH: u64 = 0x10_0000;
/// The scripts.
pub const SCRIPTS: u64 = STUBS + STUBS_LENGTH;
/// Room for them.
pub const SCRIPTS_LENGTH: u64 = 0x70_0000;
/// Actions for signals as the kernel has them.
pub const INSTALLED: u64 = SCRIPTS + SCRIPTS_LENGTH;
/// Room for them.
pub const INSTALLED_LENGTH: u64 = 0x1000;
/// Length of everything that is kept.
pub const KEPT_LENGTH: u64 = STUBS_LENGTH + SCRIPTS_LENGTH + INSTALLED_LENGTH;

/// What all processes of the server share, and Kairos with them: the world, files.
pub const SHARED: u64 = KEPT + 0x100_0000;
/// The state, which is put back.
pub const WORLD: u64 = SHARED;
/// Room for it.
pub const WORLD_LENGTH: u64 = 0x180_0000;
/// Contents of files that were written, put back as far as they are in use.
pub const STORE: u64 = WORLD + WORLD_LENGTH;
/// Room for them.
pub const STORE_LENGTH: u64 = 0x100_0000;
/// Files as they were before the session: never put back.
pub const CACHE: u64 = STORE + STORE_LENGTH;
/// Room for them.
pub const CACHE_LENGTH: u64 = 0x280_0000;
/// Length of everything that is shared.
pub const SHARED_LENGTH: u64 = WORLD_LENGTH + STORE_LENGTH + CACHE_LENGTH;

/// The counter of entries of a process's only thread, which the harness placed.
pub const COUNTER: u64 = 0x3f00_1000;
/// A counter value that no session reaches.
pub const NEVER: u64 = 1 << 60;
