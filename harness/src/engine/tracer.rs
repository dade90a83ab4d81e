//! Watches a run in order to record it: every update point with its stack, who
//! wrote to the client, and where threads wait.

use std::collections::{BTreeSet, HashMap};

use super::parts::{Note, Parts};
use super::watch::Watcher;
use crate::binary::Address;
use crate::trace::{Point, PointId, ProcessFacts, RoleInstance, Stack, Wait};
use crate::tracee::Stopped;
use crate::tracee::counter;
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::Registers;
use crate::world::HostError;
use crate::world::connection::FIRST_LOCAL_PORT;

/// Records a run.
#[derive(Default)]
pub struct Tracer {
    /// Points in order of execution.
    pub points: Vec<Point>,
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
    /// Blocking waits between exchanges.
    pub waits: Vec<Wait>,
    /// Processes that wrote to a client, by exchange.
    pub writers: HashMap<u32, BTreeSet<RoleInstance>>,
    known: HashMap<Stack, u32>,
    entries: HashMap<(ProcessIndex, u32), u32>,
    occurrences: HashMap<(ProcessIndex, u32, u32), u32>,
    born_at: HashMap<ProcessIndex, u32>,
    client_sockets: HashMap<String, bool>,
    in_call: HashMap<(ProcessIndex, u32), libc::user_regs_struct>,
    recording: bool,
}

impl Tracer {
    fn intern(&mut self, stack: Stack) -> u32 {
        if let Some(index) = self.known.get(&stack) {
            return *index;
        }
        let index = u32::try_from(self.stacks.len()).unwrap_or(u32::MAX);
        self.stacks.push(stack.clone());
        self.known.insert(stack, index);
        index
    }

    /// Facts on the processes, once the run is over: each one's parent, number of
    /// threads and note.
    #[must_use]
    pub fn process_facts(&self, ended: &[(Option<ProcessIndex>, u32, Note)]) -> Vec<ProcessFacts> {
        ended
            .iter()
            .enumerate()
            .map(|(index, (parent, threads, note))| ProcessFacts {
                role: note.role.clone(),
                parent: parent.map(|p| ended[p].2.role.clone()),
                born: note.born,
                born_at: self.born_at.get(&index).copied().unwrap_or(0),
                ended: note.ended,
                threads: *threads,
            })
            .collect()
    }

    /// Whether a descriptor is a connection to the client. What was found of a
    /// socket stays true: it is asked only once data was written to it.
    fn is_client_connection(&mut self, link: &str) -> bool {
        let Ok(target) = std::fs::read_link(link) else {
            return false;
        };
        let target = target.to_string_lossy();
        let Some(inode) = target
            .strip_prefix("socket:[")
            .and_then(|t| t.strip_suffix(']'))
        else {
            return false;
        };
        *self
            .client_sockets
            .entry(inode.to_owned())
            .or_insert_with(|| leads_to_client(inode))
    }

    fn record_waits(&mut self, parts: &mut Parts<'_>, exchange: u32) {
        for process in parts.living() {
            let traced = &parts.tree.processes[process];
            let threads: Vec<u32> = traced.threads.iter().map(|t| t.ordinal).collect();
            for thread in threads {
                let Some(registers) = self.in_call.get(&(process, thread)) else {
                    continue;
                };
                let traced = &parts.tree.processes[process];
                let walk = parts.tools.unwinder.walk(
                    traced.pid,
                    &traced.memory,
                    Registers::from(registers),
                );
                let stack = self.intern(walk.stack());
                self.waits.push(Wait {
                    role: parts.notes[process].role.clone(),
                    thread,
                    exchange,
                    stack,
                    other_stacks: Vec::new(),
                    words: None,
                    span_us: None,
                });
            }
        }
    }
}

impl Watcher for Tracer {
    fn instruments(&self) -> bool {
        true
    }

    fn sees_system_calls(&self) -> bool {
        true
    }

    fn exchange_begins(&mut self, parts: &mut Parts<'_>, _number: u32) -> Result<(), HostError> {
        self.recording = true;
        self.entries.clear();
        self.occurrences.clear();
        parts.set_counters(&mut |_, _| 1)
    }

    fn exchange_ended(&mut self, parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        self.record_waits(parts, number);
        Ok(())
    }

    fn session_over(&mut self) {
        self.recording = false;
    }

    fn first_count(&mut self, _parts: &Parts<'_>, _process: ProcessIndex, _thread: u32) -> u64 {
        if self.recording { 1 } else { counter::NEVER }
    }

    fn forked(&mut self, _parts: &Parts<'_>, parent: ProcessIndex, child: ProcessIndex) {
        let before = self.entries.get(&(parent, 0)).copied().unwrap_or(0);
        self.born_at.insert(child, before);
    }

    fn entered(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        thread: u32,
        stopped: &Stopped,
        function: Address,
    ) -> Result<i32, HostError> {
        if !self.recording {
            return Ok(0);
        }
        let walk = parts.walk(process, stopped, Some(function))?;
        let stack = self.intern(walk.stack());
        let index = self.entries.entry((process, thread)).or_insert(0);
        *index += 1;
        let seen = self
            .occurrences
            .entry((process, thread, stack))
            .or_insert(0);
        let occurrence = *seen;
        *seen += 1;
        self.points.push(Point {
            id: PointId {
                role: parts.notes[process].role.clone(),
                thread,
                exchange: Some(parts.exchange),
                index: *index,
            },
            function,
            stack,
            other_stacks: Vec::new(),
            words: None,
            occurrence,
            time_us: None,
        });
        counter::set(&parts.tree.processes[process].memory, thread, 1)?;
        Ok(0)
    }

    fn system_call(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        thread: u32,
        stopped: &Stopped,
    ) -> Result<(), HostError> {
        let registers = stopped.registers()?;
        let answer = registers.rax.cast_signed();
        let entering = answer == -i64::from(libc::ENOSYS);
        if entering {
            self.in_call.insert((process, thread), registers);
            return Ok(());
        }
        self.in_call.remove(&(process, thread));
        if answer > 0 && writes(registers.orig_rax.cast_signed()) {
            let pid = parts.tree.processes[process].pid;
            let descriptor = registers.rdi;
            if self.is_client_connection(&format!("/proc/{pid}/fd/{descriptor}")) {
                self.writers
                    .entry(parts.exchange)
                    .or_default()
                    .insert(parts.notes[process].role.clone());
            }
        }
        Ok(())
    }
}

const fn writes(call: i64) -> bool {
    matches!(
        call,
        libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_sendfile
            | libc::SYS_sendmmsg
            | libc::SYS_splice
    )
}

/// Whether a connected socket is a connection to the client, known by its local
/// ports.
fn leads_to_client(inode: &str) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    table.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.get(9) == Some(&inode) && fields.get(2).is_some_and(|peer| is_client_port(peer))
    })
}

/// `0100007F:7530`
fn is_client_port(peer: &str) -> bool {
    peer.split_once(':')
        .and_then(|(_, port)| u16::from_str_radix(port, 16).ok())
        .is_some_and(|port| (FIRST_LOCAL_PORT..FIRST_LOCAL_PORT + 5000).contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_connections_are_known_by_their_port() {
        assert!(is_client_port("0100007F:7530"));
        assert!(!is_client_port("0100007F:0050"));
    }
}
