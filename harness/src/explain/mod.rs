//! Looks into single tests and points: why one failed or was refused. Pure
//! functions of stored records, shared by `kairos try`, `kairos explain` and the
//! logs of a run.

pub mod account;
pub mod causes;
pub mod columns;
pub mod difference;
pub mod exchanges;
pub mod layouts;
pub mod logs;
pub mod select;
pub mod stack;
pub mod suspected;
pub mod suspects;
pub mod text;
pub mod traced;

pub use account::{Account, RunAccount, account};
pub use causes::Cause;
pub use columns::Columns;

/// Characters of a line where no terminal says how many it has.
pub const WIDTH: u16 = 110;
