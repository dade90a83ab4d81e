//! One file per subcommand.

pub mod patch;
