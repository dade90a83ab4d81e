//! Whether this machine's gdb can serve as a way to run update tests.

use std::process::{Command, Stdio};

use crate::engine::gdb::GDB;
use crate::engine::gdb::script::ARGUMENTS;

/// Checks that gdb is there and has Python.
///
/// # Errors
/// What is missing and how to get it, for people.
pub fn usable() -> Result<(), String> {
    let output = Command::new(GDB)
        .args(ARGUMENTS)
        .args(["-ex", "python print('usable')"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("gdb: not measured: {GDB}: {error}; install the Debian package gdb")
        })?;
    if String::from_utf8_lossy(&output.stdout).contains("usable") {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "gdb: not measured: it has no Python ({}); install the Debian package gdb",
        said.lines().next().unwrap_or("it printed nothing")
    ))
}
