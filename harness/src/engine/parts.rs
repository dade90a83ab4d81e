//! What is known of a running server: its processes and threads, their names, and
//! the caches that outlive it. Watchers work on these parts.

use std::cell::RefCell;
use std::collections::HashMap;

use super::names::{FunctionNames, RoleNames};
use super::serving::summarise;
use super::spec::SessionSpec;
use crate::policy::lookup_address;
use crate::state::frames::FrameState;
use crate::trace::{Frame, RoleInstance};
use crate::tracee::access::Access;
use crate::tracee::activity::Activities;
use crate::tracee::intercept::Interceptor;
use crate::tracee::libraries::Libraries;
use crate::tracee::maps::mapped_files;
use crate::tracee::tree::{ProcessIndex, Tree};
use crate::tracee::unwind::{Registers, Unwinder, Walk};
use crate::tracee::{Stopped, TraceeError, counter};
use crate::verdict::observation::Fault;
use crate::workload::Normaliser;
use crate::world::HostError;

/// What is kept from test to test: caches that only speed things up.
#[derive(Default)]
pub struct Tools {
    /// Stack unwinding.
    pub unwinder: Unwinder,
    /// Library symbols.
    pub libraries: Libraries,
    /// Open state files of threads.
    pub activities: Activities,
    /// Rewritten system calls.
    pub interceptor: Interceptor,
    /// Texts that were normalised, by what they were made of.
    normalised: HashMap<Vec<u8>, String>,
    /// Files that were summarised, by their content.
    summarised: HashMap<Vec<u8>, String>,
    /// What transformers read and write, while that is asked for.
    pub spy: Option<RefCell<Vec<Access>>>,
}

impl Tools {
    /// Texts that are remembered.
    const MOST_TEXTS: usize = 1 << 14;
    /// Files that are remembered; they may be long.
    const MOST_FILES: usize = 64;

    /// The normalised text of some bytes. Tests by rollback show the same ones again
    /// and again.
    pub fn normalised(&mut self, normaliser: &Normaliser, bytes: Vec<u8>) -> String {
        remembered(&mut self.normalised, Self::MOST_TEXTS, bytes, &|bytes| {
            normaliser.apply(bytes)
        })
    }

    /// The summary of a file of the end state; remembered for the same reason.
    pub fn summarised(&mut self, normaliser: &Normaliser, content: Vec<u8>) -> String {
        remembered(
            &mut self.summarised,
            Self::MOST_FILES,
            content,
            &|content| summarise(normaliser, content),
        )
    }
}

fn remembered(
    known: &mut HashMap<Vec<u8>, String>,
    most: usize,
    bytes: Vec<u8>,
    make: &dyn Fn(&[u8]) -> String,
) -> String {
    if let Some(known) = known.get(&bytes) {
        return known.clone();
    }
    if known.len() == most {
        known.clear();
    }
    let text = make(&bytes);
    known.insert(bytes, text.clone());
    text
}

/// What is known of one process beside its tracing.
#[derive(Clone, Debug)]
pub struct Note {
    /// Its role instance.
    pub role: RoleInstance,
    /// Exchange in which it was born.
    pub born: u32,
    /// Exchange in which it ended.
    pub ended: Option<u32>,
    /// Whether the update is in it.
    pub updated: bool,
    /// Where it last took a signal that usually kills.
    pub fault: Option<Fault>,
}

/// Everything about the running server that a watcher may use.
pub struct Parts<'a> {
    /// The session's specification.
    pub spec: &'a SessionSpec,
    /// Caches.
    pub tools: &'a mut Tools,
    /// Processes and threads; empty when not traced.
    pub tree: Tree,
    /// Notes on the processes, by position in the tree.
    pub notes: Vec<Note>,
    /// Function names.
    pub names: &'a FunctionNames,
    /// The exchange under way.
    pub exchange: u32,
    /// Whether the server has become ready.
    pub ready: bool,
    pub(super) roles: RoleNames<'a>,
}

impl Parts<'_> {
    /// Walks the stack of a stopped thread; at a counted entry from the entry of
    /// `function`, as if the counting call had not been made.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn walk(
        &mut self,
        process: ProcessIndex,
        stopped: &Stopped,
        function: Option<crate::binary::Address>,
    ) -> Result<Walk, TraceeError> {
        let now = stopped.registers()?;
        let registers = function.map_or(now, |function| counter::at_entry(&now, function));
        Ok(self.walk_from(process, &registers))
    }

    /// Walks the stack of a process that stands at these registers.
    pub fn walk_from(&mut self, process: ProcessIndex, registers: &libc::user_regs_struct) -> Walk {
        let process = &self.tree.processes[process];
        self.tools
            .unwinder
            .walk(process.pid, &process.memory, Registers::from(registers))
    }

    /// Frames of a stopped thread, the `number`th of those that are looked at, with
    /// what is known of their registers; at a counted entry from that of the function.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn frames(
        &mut self,
        process: ProcessIndex,
        stopped: &Stopped,
        number: usize,
    ) -> Result<Vec<FrameState>, TraceeError> {
        let function = self.entry_of(process, stopped)?;
        let now = stopped.registers()?;
        let registers = function.map_or(now, |function| counter::at_entry(&now, function));
        let process = &self.tree.processes[process];
        Ok(self.tools.unwinder.frames(
            process.pid,
            &process.memory,
            Registers::from(&registers),
            number,
        ))
    }

    /// The exchange under way; none before the server is ready.
    #[must_use]
    pub fn moment(&self) -> Option<u32> {
        self.ready.then_some(self.exchange)
    }

    /// The function that a stopped thread is entering, if it trapped at a counted
    /// entry.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn entry_of(
        &self,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<Option<crate::binary::Address>, TraceeError> {
        counter::entered(&stopped.registers()?, &self.tree.processes[process].memory)
    }

    /// Living processes of the server with their positions.
    #[must_use]
    pub fn living(&self) -> Vec<ProcessIndex> {
        self.tree.living().map(|(index, _)| index).collect()
    }

    /// Sets the entry counter of every living thread that has one by `value`.
    ///
    /// # Errors
    /// When a counter cannot be written although its process lives.
    pub fn set_counters(
        &mut self,
        value: &mut dyn FnMut(ProcessIndex, u32) -> u64,
    ) -> Result<(), HostError> {
        for (index, process) in self.tree.living().filter(|(_, p)| p.counted) {
            for thread in &process.threads {
                let value = value(index, thread.ordinal);
                match counter::set(&process.memory, thread.ordinal, value) {
                    // Its end is about to be reported.
                    Err(error) if error.is_gone() => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    pub(super) fn name_child(
        &mut self,
        parent: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<RoleInstance, TraceeError> {
        let registers = stopped.registers()?;
        Ok(self.name_child_at(parent, &registers))
    }

    /// The role of a child that `parent` forks with these registers.
    pub(super) fn name_child_at(
        &mut self,
        parent: ProcessIndex,
        registers: &libc::user_regs_struct,
    ) -> RoleInstance {
        let parent_role = self.notes[parent].role.clone();
        let walk = if self.roles.needs_stack(&parent_role) {
            self.walk_from(parent, registers)
        } else {
            Walk {
                frames: Vec::new(),
                complete: true,
            }
        };
        let stack: Vec<&str> = walk
            .frames
            .iter()
            .filter_map(|frame| self.names.of_either_version(frame.address))
            .collect();
        self.roles.child(&parent_role, &stack)
    }

    pub(super) fn fault(
        &mut self,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<Fault, TraceeError> {
        Ok(self.fault_at(process, &stopped.registers()?))
    }

    /// The fault of a process that dies with these registers.
    pub(super) fn fault_at(
        &mut self,
        process: ProcessIndex,
        registers: &libc::user_regs_struct,
    ) -> Fault {
        let walk = self.walk_from(process, registers);
        let mapped = mapped_files(self.tree.processes[process].pid);
        let address = crate::binary::Address(registers.rip);
        let name = |address| self.names.describe(address, &mapped);
        Fault {
            address,
            function: name(address),
            stack: walk
                .frames
                .iter()
                .enumerate()
                .map(|(depth, frame)| {
                    // A call that does not return may be the last of its function.
                    let inside = lookup_address(Frame(frame.address), depth);
                    match self.names.of_either_version(inside) {
                        Some(_) => name(inside),
                        None => name(frame.address),
                    }
                })
                .collect(),
        }
    }
}
