//! Whether gdb can serve as a way to run update tests: on this machine, and for a patch.

use std::process::{Command, Stdio};

use crate::engine::gdb::GDB;
use crate::engine::gdb::script::ARGUMENTS;
use crate::patch::{DataAction, Patch};

/// Checks that a batch script can apply `patch` as Kairos does: it converts no live
/// state.
///
/// # Errors
/// What it would have to convert, for people.
pub fn applies(patch: &Patch) -> Result<(), String> {
    let records = patch.state.iter().flat_map(|plan| &plan.records);
    let variables = patch.data.iter().filter_map(|action| match action {
        DataAction::Carry {
            name,
            conversion: Some(_),
            ..
        } => Some(name),
        _ => None,
    });
    let names: Vec<&str> = records
        .map(|record| &record.name)
        .chain(variables)
        .map(String::as_str)
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(format!(
        "gdb: not measured: {} converts live state ({}), which a batch script does not",
        patch.pair,
        names.join(", ")
    ))
}

/// A register whose writing shows whether gdb knows all that this processor has.
const WRITES: &str = "set $xmm0.v4_int32[0] = 1";

/// Checks that gdb is there, has Python, and can write the registers of a process: gdb
/// 13 cannot on processors whose registers take more room than it knows of.
///
/// # Errors
/// What is missing and how to get it, for people.
pub fn usable() -> Result<(), String> {
    let output = Command::new(GDB)
        .args(ARGUMENTS)
        .args(["-ex", "python print('usable')"])
        .args(["-ex", "starti", "-ex", WRITES, "-ex", "kill", "/bin/true"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!("gdb: not measured: {GDB}: {error}; install the Debian package gdb")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some(refused) = said.lines().find(|line| line.contains("Couldn't write")) {
        return Err(format!(
            "gdb: not measured: it cannot write this processor's registers ({refused}); a \
             newer gdb can"
        ));
    }
    if String::from_utf8_lossy(&output.stdout).contains("usable") {
        return Ok(());
    }
    Err(format!(
        "gdb: not measured: it has no Python ({}); install the Debian package gdb",
        said.lines().next().unwrap_or("it printed nothing")
    ))
}
