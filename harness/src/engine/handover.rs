//! Hands a server over to a debugger in the middle of a test: it stays stopped
//! right after the update, without us as its tracer, while the session goes on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parts::Parts;
use crate::binary::Address;
use crate::trace::RoleInstance;
use crate::tracee::Stopped;
use crate::tracee::counter::NEVER;
use crate::tracee::tree::ProcessIndex;
use crate::world::{HostError, Limits};

/// While a person looks at the server nothing counts as a stall.
pub const PATIENCE: Limits = Limits {
    waiting: Duration::from_secs(7 * 24 * 3600),
    busy: Duration::from_secs(7 * 24 * 3600),
    stopping: Duration::from_secs(7 * 24 * 3600),
};

/// A process that waits for a debugger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Its number inside the sandbox.
    pub process: i32,
    /// Its role instance.
    pub role: RoleInstance,
    /// Other living processes of the server, which go on.
    pub others: Vec<RoleInstance>,
}

/// Lets go of the whole server; the process that reached the entry of `function`
/// stays stopped there.
///
/// # Errors
/// When a process cannot be stopped or written.
pub fn hand_over(
    parts: &mut Parts<'_>,
    process: ProcessIndex,
    stopped: &Stopped,
    function: Address,
) -> Result<Held, HostError> {
    // Without us a trap would be a death.
    parts.set_counters(&mut |_, _| NEVER)?;
    let others = parts
        .living()
        .into_iter()
        .filter(|other| *other != process)
        .map(|other| parts.notes[other].role.clone())
        .collect();
    let held = Held {
        process: parts.tree.processes[process].pid.as_raw(),
        role: parts.notes[process].role.clone(),
        others,
    };
    parts.tree.leave(stopped, function)?;
    Ok(held)
}

/// The number, outside, of the process that is `inside` in the process namespace
/// of a descendant of `worker`.
#[must_use]
pub fn number_outside(worker: u32, inside: i32) -> Option<i32> {
    let statuses = std::fs::read_dir("/proc").ok()?.flatten();
    let processes: Vec<Numbers> = statuses
        .filter_map(|entry| {
            let text = std::fs::read_to_string(entry.path().join("status")).ok()?;
            Numbers::read(&text)
        })
        .collect();
    let parent = |of: i32| {
        let process = processes.iter().find(|process| process.outside == of)?;
        Some(process.parent)
    };
    let worker = i32::try_from(worker).ok()?;
    let is_descendant = |of: i32| {
        std::iter::successors(parent(of), |of| parent(*of)).any(|ancestor| ancestor == worker)
    };
    processes
        .iter()
        .find(|process| {
            process.inside == inside && process.depth > 1 && is_descendant(process.outside)
        })
        .map(|process| process.outside)
}

/// The numbers of a process in its own namespace and in ours.
#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    outside: i32,
    parent: i32,
    inside: i32,
    depth: usize,
}

impl Numbers {
    fn read(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.strip_prefix(':')?.trim())
        };
        let nested: Vec<i32> = field("NSpid")?
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        Some(Self {
            outside: *nested.first()?,
            parent: field("PPid")?.parse().ok()?,
            inside: *nested.last()?,
            depth: nested.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_both_namespaces_are_read() {
        let status = "Name:\tkvd\nTgid:\t4711\nPid:\t4711\nPPid:\t4700\nNSpid:\t4711\t100\n";
        let expected = Numbers {
            outside: 4711,
            parent: 4700,
            inside: 100,
            depth: 2,
        };
        assert_eq!(Numbers::read(status), Some(expected));
        assert_eq!(Numbers::read("Name:\tkvd\n"), None);
    }
}
