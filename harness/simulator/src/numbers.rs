//! Numbers that several kinds of calls share.

/// `EPERM`.
pub const EPERM: i64 = -1;
/// `ENOTEMPTY`.
pub const ENOTEMPTY: i64 = -39;
/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;
/// What a look at a clock takes, in nanoseconds: time passes when one looks, or one who
/// waits for it by looking waits for ever.
pub const LOOK_AT_CLOCK: u64 = 40_000;
/// What an act of the client takes, in nanoseconds.
pub const ACT_OF_CLIENT: u64 = 100_000;
/// The working folder instead of a descriptor.
pub const AT_FDCWD: i32 = -100;
/// `O_CLOEXEC` and its like.
pub const CLOSE_ON_EXEC: u64 = 0o2_000_000;

/// `ENOTTY`.
pub const ENOTTY: i64 = -25;
/// `ESPIPE`.
pub const ESPIPE: i64 = -29;
/// `EEXIST`.
pub const EEXIST: i64 = -17;
/// `ENOTDIR`.
pub const ENOTDIR: i64 = -20;
/// `EISDIR`.
pub const EISDIR: i64 = -21;
/// `ECHILD`.
pub const ECHILD: i64 = -10;
/// `ENOTSOCK`.
pub const ENOTSOCK: i64 = -88;
/// `EOPNOTSUPP`.
pub const EOPNOTSUPP: i64 = -95;
/// `EACCES`.
pub const EACCES: i64 = -13;
