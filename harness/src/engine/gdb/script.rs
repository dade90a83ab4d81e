//! Writes the gdb batch file for one update test: a head with what is particular
//! to the point and the patch, and a body that is the same for all.

use std::fmt::Write as _;
use std::path::Path;

use super::GdbPoint;
use crate::patch::{DataAction, IMAGE_BASE, Patch, REDIRECT_OFFSET};

/// The script's name in gdb's folder.
pub const FILE: &str = "point.gdb";
/// The patch image's.
pub const IMAGE: &str = "image";
/// The report's, as the body writes it.
pub const REPORT: &str = "report";
/// What the script says on standard error once its breakpoint is set.
pub const ATTACHED: &str = "kairos: attached";
/// gdb's arguments before the process and the script: nothing of the user's own
/// settings, and nothing from the network.
pub const ARGUMENTS: [&str; 7] = [
    "-q",
    "-nx",
    "-batch",
    "-iex",
    "set debuginfod enabled off",
    "-iex",
    "set auto-load no",
];

const BODY: &str = include_str!("body.gdb");

/// The batch file that applies `patch` at `point`; `program` is the new version's
/// program, which a later `execve` of the server's own file starts.
#[must_use]
pub fn script(point: &GdbPoint, patch: &Patch, program: &Path) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "# {}: update at {}, entry {} of {} after readiness.\n# Run as: gdb {} -p PID -x {FILE}",
        patch.pair,
        point.id,
        point.nth,
        point.function,
        ARGUMENTS
            .map(|argument| if argument.contains(' ') {
                format!("'{argument}'")
            } else {
                argument.to_owned()
            })
            .join(" "),
    );
    text.push_str("python\n");
    let mut define = |name: &str, value: String| {
        let _ = writeln!(text, "{name} = {value}");
    };
    define("FUNCTION", quoted(&point.function));
    define("ENTRY", point.entry.to_string());
    define("NTH", point.nth.to_string());
    define("INFERIOR", point.inferior.to_string());
    define("THREAD", (point.id.thread + 1).to_string());
    define("BASE", IMAGE_BASE.to_string());
    define("NEW_PROGRAM", quoted(&program.to_string_lossy()));
    define(
        "IMPORTS",
        list(
            patch
                .imports
                .iter()
                .map(|import| format!("({}, {})", import.slot, quoted(&import.name))),
        ),
    );
    define("DATA", list(patch.data.iter().filter_map(data)));
    define(
        "JUMPS",
        list(
            patch
                .redirects
                .iter()
                .filter(|r| !r.kept)
                .map(|r| format!("({}, {})", r.old.plus(REDIRECT_OFFSET), r.new)),
        ),
    );
    define(
        "TRANSFORMER",
        patch
            .transformer
            .map_or_else(|| "None".to_owned(), |address| address.to_string()),
    );
    text.push_str(BODY);
    text
}

/// `(old, its initial bytes, where the new initial bytes are, bytes, moves)`
fn data(action: &DataAction) -> Option<String> {
    match action {
        DataAction::Add { .. } | DataAction::Renew { .. } => None,
        DataAction::Reinitialise {
            old,
            size,
            old_initial,
            new,
            ..
        } => Some(format!(
            "({old}, {}, {new}, {size}, False)",
            bytes(old_initial)
        )),
        DataAction::Carry {
            old,
            old_initial,
            new,
            new_size,
            ..
        } => Some(format!(
            "({old}, {}, {new}, {new_size}, True)",
            bytes(old_initial)
        )),
    }
}

fn bytes(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("bytes.fromhex(\"{hex}\")")
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() {
        "[]".to_owned()
    } else {
        format!("[\n    {},\n]", items.join(",\n    "))
    }
}

/// A Python string: names of functions and paths hold nothing that JSON writes
/// otherwise.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
