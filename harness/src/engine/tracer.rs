//! Watches a run in order to record it: every update point with its stack, who
//! wrote to the client, and where threads wait.

use std::collections::{BTreeSet, HashMap};

use super::parts::{Note, Parts};
use super::spec::SessionSpec;
use super::surroundings::{Interned, Surroundings, ThreadIndex, see_stopped};
use super::watch::Watcher;
use crate::binary::Address;
use crate::trace::{Event, EventKind, Point, PointId, ProcessFacts, RoleInstance, Wait};
use crate::tracee::Stopped;
use crate::tracee::counter::{self, Instrument};
use crate::tracee::tree::ProcessIndex;
use crate::world::HostError;
use crate::world::connection::FIRST_LOCAL_PORT;

/// Records a run.
#[derive(Default)]
pub struct Tracer {
    /// Points in order of execution.
    pub points: Vec<Point>,
    /// Distinct stacks, and what their words point into.
    pub interned: Interned,
    /// Blocking waits between exchanges.
    pub waits: Vec<Wait>,
    /// Forks, executions and signals, in order.
    pub events: Vec<Event>,
    /// Processes that wrote to a client, by exchange.
    pub writers: HashMap<u32, BTreeSet<RoleInstance>>,
    entries: HashMap<(ProcessIndex, u32), u32>,
    occurrences: HashMap<(ProcessIndex, u32, u32), u32>,
    born_at: HashMap<ProcessIndex, u32>,
    client_sockets: HashMap<String, bool>,
    surroundings: Surroundings,
    recording: bool,
}

impl Tracer {
    /// Records from readiness on, or with `startup` from the first entry on.
    #[must_use]
    pub fn new(startup: bool) -> Self {
        Self {
            recording: startup,
            ..Self::default()
        }
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

    fn note(&mut self, parts: &Parts<'_>, (process, thread): ThreadIndex, kind: EventKind) {
        if self.recording {
            self.events.push(Event {
                after: u32::try_from(self.points.len()).unwrap_or(u32::MAX),
                role: parts.notes[process].role.clone(),
                thread,
                kind,
            });
        }
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

    fn record_waits(
        &mut self,
        parts: &mut Parts<'_>,
        exchange: u32,
        from_readiness: bool,
    ) -> Result<(), HostError> {
        let threads: Vec<ThreadIndex> = parts
            .tree
            .living()
            .flat_map(|(process, traced)| {
                let threads = traced.threads.iter();
                threads.map(move |thread| (process, thread.ordinal))
            })
            .collect();
        for thread in threads {
            let own = self
                .surroundings
                .of_waiting(parts, &mut self.interned, thread);
            let Some(own) = own else {
                continue;
            };
            let others = self
                .surroundings
                .of_others(parts, &mut self.interned, thread)?;
            self.waits.push(Wait {
                role: parts.notes[thread.0].role.clone(),
                thread: thread.1,
                exchange,
                from_readiness,
                stack: own.stack,
                words: Some(self.interned.words(&others.words_with(&own))),
                other_stacks: others.stacks,
                span_us: None,
            });
        }
        Ok(())
    }
}

impl Watcher for Tracer {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }

    fn sees_system_calls(&self) -> bool {
        true
    }

    fn starting_count(&self, _spec: &SessionSpec) -> u64 {
        if self.recording { 1 } else { counter::NEVER }
    }

    fn exchange_begins(&mut self, parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        self.recording = true;
        self.entries.clear();
        self.occurrences.clear();
        if number == 0 {
            self.record_waits(parts, number, true)?;
        }
        parts.set_counters(&mut |_, _| 1)
    }

    fn exchange_ended(&mut self, parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        // Probe and stop are no part of the session.
        if self.recording {
            self.record_waits(parts, number, false)?;
        }
        Ok(())
    }

    fn session_over(&mut self) {
        self.recording = false;
    }

    fn first_count(&mut self, _parts: &Parts<'_>, _process: ProcessIndex, _thread: u32) -> u64 {
        if self.recording { 1 } else { counter::NEVER }
    }

    fn forked(
        &mut self,
        _parts: &mut Parts<'_>,
        parent: (ProcessIndex, u32),
        child: ProcessIndex,
        _child_stopped: &Stopped,
    ) -> Result<(), HostError> {
        let before = self.entries.get(&parent).copied().unwrap_or(0);
        self.born_at.insert(child, before);
        Ok(())
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
        let own = see_stopped(parts, &mut self.interned, process, stopped, Some(function))?;
        let others = self
            .surroundings
            .of_others(parts, &mut self.interned, (process, thread))?;
        let stack = own.stack;
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
                exchange: parts.moment(),
                index: *index,
            },
            function,
            stack,
            words: Some(self.interned.words(&others.words_with(&own))),
            other_stacks: others.stacks,
            occurrence,
            time_us: None,
        });
        counter::set(&parts.tree.processes[process].memory, thread, 1)?;
        Ok(0)
    }

    fn signalled(&mut self, parts: &Parts<'_>, process: ProcessIndex, thread: u32) {
        self.note(parts, (process, thread), EventKind::Signal);
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
            if let Some(kind) = event_of(registers.orig_rax.cast_signed()) {
                self.note(parts, (process, thread), kind);
            }
            self.surroundings.enters_call((process, thread), registers);
            return Ok(());
        }
        self.surroundings.leaves_call((process, thread));
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

/// What a system call does that an update must not be moved across.
const fn event_of(call: i64) -> Option<EventKind> {
    match call {
        libc::SYS_fork | libc::SYS_vfork | libc::SYS_clone | libc::SYS_clone3 => {
            Some(EventKind::Fork)
        }
        libc::SYS_execve | libc::SYS_execveat => Some(EventKind::Exec),
        libc::SYS_rt_sigreturn => Some(EventKind::SignalReturn),
        _ => None,
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
