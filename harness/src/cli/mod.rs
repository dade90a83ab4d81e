//! Subcommands: parse, call the library, print.

pub mod report;
