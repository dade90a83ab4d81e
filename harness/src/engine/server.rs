//! One running server with all its processes: starts it, follows it, names its
//! processes, and tells the watcher what happens.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::names::{FunctionNames, RoleNames};
use super::parts::{Note, Parts, Tools};
use super::poison::Faulted;
use super::spec::SessionSpec;
use super::watch::Watcher;
use crate::sandbox::root::RUN_FOLDER;
use crate::tracee::activity::{Activity, Reading, all_threads};
use crate::tracee::tree::{Event, ProcessIndex, Stop, Tree, signal_name};
use crate::tracee::{Stopped, TraceeError, counter};
use crate::verdict::observation::Ending;
use crate::workload::Normaliser;
use crate::world::{Host, HostError};

/// Reports handled before the caller looks at its clock again: a server that forks
/// without end reports without end.
const MOST_EVENTS: usize = 256;

/// The server of one run.
pub struct Server<'a> {
    /// Its parts.
    pub parts: Parts<'a>,
    /// The watcher.
    pub watcher: &'a mut dyn Watcher,
    /// Normalised log text of each exchange so far.
    pub logs: Vec<BTreeMap<String, String>>,
    root: Pid,
    /// End of the first process of a run that is not traced.
    root_ending: Option<Ending>,
    instrumented: bool,
    /// Whether everything that was reported has been handled.
    drained: bool,
    session_exchanges: u32,
    read_logs: BTreeMap<String, usize>,
    normaliser: &'a Normaliser,
    reports: &'a SignalFd,
}

/// Settings of a server's run that its parts do not hold.
pub struct Frame<'a> {
    /// Rules for volatile text.
    pub normaliser: &'a Normaliser,
    /// Readable when a child of the worker changed state.
    pub reports: &'a SignalFd,
    /// Exchanges of the session proper.
    pub session_exchanges: u32,
}

impl<'a> Server<'a> {
    /// A server that was started; `traced` holds the tree if it is traced, its
    /// first thread being stopped at `execve` and already instrumented.
    pub fn new(
        spec: &'a SessionSpec,
        names: &'a FunctionNames,
        tools: &'a mut Tools,
        watcher: &'a mut dyn Watcher,
        frame: &Frame<'a>,
        root: Pid,
        traced: Option<Tree>,
    ) -> Self {
        let mut roles = RoleNames::new(&spec.roles);
        let first = Note {
            role: roles.first(),
            born: 0,
            ended: None,
            updated: false,
            fault: None,
        };
        let instrumented = watcher.instrument().is_some();
        Self {
            parts: Parts {
                spec,
                tools,
                notes: vec![first],
                tree: traced.unwrap_or_default(),
                names,
                exchange: 0,
                ready: false,
                roles,
            },
            watcher,
            logs: Vec::new(),
            root,
            root_ending: None,
            instrumented,
            drained: true,
            session_exchanges: frame.session_exchanges,
            read_logs: BTreeMap::new(),
            normaliser: frame.normaliser,
            reports: frame.reports,
        }
    }

    fn traced(&self) -> bool {
        !self.parts.tree.processes.is_empty()
    }

    /// How the first process ended, if it has.
    #[must_use]
    pub fn root_ending(&self) -> Option<&Ending> {
        match self.parts.tree.processes.first() {
            Some(process) => process.ending.as_ref(),
            None => self.root_ending.as_ref(),
        }
    }

    /// The first process.
    #[must_use]
    pub fn root(&self) -> Pid {
        self.root
    }

    fn handle(&mut self, event: Event) -> Result<(), HostError> {
        match event {
            Event::Ended(process) => {
                let note = &mut self.parts.notes[process];
                note.ended = Some(self.parts.exchange);
                let killed = matches!(
                    self.parts.tree.processes[process].ending,
                    Some(Ending::Killed(_))
                );
                if !killed {
                    note.fault = None;
                }
                Ok(())
            }
            Event::Forked {
                parent,
                thread,
                stopped,
                child,
                child_stopped,
            } => self.forked((parent, thread), stopped, child, child_stopped),
            Event::Stopped {
                process,
                thread,
                stopped,
                stop,
            } => self.stopped(process, thread, stopped, stop),
        }
    }

    fn forked(
        &mut self,
        (parent, thread): (ProcessIndex, u32),
        stopped: Stopped,
        child: ProcessIndex,
        child_stopped: Stopped,
    ) -> Result<(), HostError> {
        let role = self.parts.name_child(parent, &stopped)?;
        self.parts.notes.push(Note {
            role,
            born: self.parts.exchange,
            ended: None,
            updated: self.parts.notes[parent].updated,
            fault: None,
        });
        if self.parts.tree.processes[child].counted {
            let count = self.watcher.first_count(&self.parts, child, 0);
            let memory = &self.parts.tree.processes[child].memory;
            let identity = identity(child, 0);
            counter::adopt(&child_stopped, memory, 0, identity, count)?;
        } else if self.parts.tree.processes[child].borrows_memory
            && self.parts.tree.processes[parent].counted
        {
            let memory = &self.parts.tree.processes[child].memory;
            counter::step_aside(&child_stopped, memory, identity(child, 0))?;
        }
        self.watcher
            .forked(&mut self.parts, (parent, thread), child, &child_stopped)?;
        stopped.resume(self.parts.tree.until, 0)?;
        child_stopped.resume(self.parts.tree.until, 0)?;
        Ok(())
    }

    fn stopped(
        &mut self,
        process: ProcessIndex,
        thread: u32,
        stopped: Stopped,
        stop: Stop,
    ) -> Result<(), HostError> {
        let mut signal = 0;
        match stop {
            Stop::Entry(function) => {
                signal =
                    self.watcher
                        .entered(&mut self.parts, process, thread, &stopped, function)?;
            }
            Stop::Breakpoint(address) => {
                self.watcher
                    .breakpoint(&mut self.parts, process, &stopped, address)?;
                if self.parts.tree.processes[process]
                    .breakpoints
                    .contains(address)
                {
                    self.parts.tree.step_over(process, stopped, address)?;
                    return Ok(());
                }
            }
            Stop::ThreadStarted => {
                if self.parts.tree.processes[process].counted {
                    let count = self.watcher.first_count(&self.parts, process, thread);
                    let memory = &self.parts.tree.processes[process].memory;
                    let identity = identity(process, thread);
                    counter::adopt(&stopped, memory, thread, identity, count)?;
                }
            }
            Stop::Executed => self.watcher.executed(process),
            // No filter is set in a server on real sockets.
            Stop::Signal(0) | Stop::Filtered => {}
            Stop::Stepped => {
                let left = self
                    .watcher
                    .stepped(&mut self.parts, process, thread, stopped)?;
                if let Some(stopped) = left {
                    stopped.resume(self.parts.tree.until, 0)?;
                }
                return Ok(());
            }
            Stop::SystemCall => {
                self.watcher
                    .system_call(&mut self.parts, process, thread, &stopped)?;
            }
            Stop::Signal(number) => {
                self.watcher.signalled(&self.parts, process, thread);
                let faulted = match number {
                    libc::SIGSEGV | libc::SIGTRAP => {
                        self.watcher.faulted(&mut self.parts, process, &stopped)?
                    }
                    _ => Faulted::Own,
                };
                match faulted {
                    Faulted::Own => signal = self.signalled(process, &stopped, number)?,
                    Faulted::Mended => {}
                    Faulted::Step(pages) => {
                        self.parts.tree.step_within(process, stopped, &pages)?;
                        return Ok(());
                    }
                }
            }
        }
        stopped.resume(self.parts.tree.until, signal)?;
        Ok(())
    }

    /// A signal is about to be delivered, which is returned.
    fn signalled(
        &mut self,
        process: ProcessIndex,
        stopped: &Stopped,
        number: i32,
    ) -> Result<i32, HostError> {
        if usually_kills(number) {
            let fault = self.parts.fault(process, stopped)?;
            self.parts.notes[process].fault = Some(fault);
        }
        Ok(number)
    }

    /// Appends to the record what each log gained since the last call.
    fn take_logs(&mut self) {
        let mut gained = BTreeMap::new();
        for log in &self.parts.spec.logs {
            let content = std::fs::read(log_path(log)).unwrap_or_default();
            let read = self.read_logs.entry(log.clone()).or_insert(0);
            // A log that was truncated or rotated starts again.
            let from = if *read <= content.len() { *read } else { 0 };
            if content.len() > from {
                gained.insert(log.clone(), self.normaliser.apply(&content[from..]));
            }
            *read = content.len();
        }
        self.logs.push(gained);
    }

    /// Marks the server as ready: the session's first exchange is about to begin.
    ///
    /// # Errors
    /// When tracing fails.
    pub fn ready(&mut self) -> Result<(), HostError> {
        self.take_logs();
        self.logs.clear();
        self.parts.ready = true;
        self.watcher.exchange_begins(&mut self.parts, 0)
    }

    /// Takes what the logs gained during the stop.
    pub fn stopped_logs(&mut self) {
        self.take_logs();
    }
}

/// How stamps name a thread.
fn identity(process: ProcessIndex, thread: u32) -> u32 {
    let process = u32::try_from(process).unwrap_or(u32::MAX);
    (process << THREAD_BITS) | (thread % counter::MAX_THREADS)
}

/// The thread that a stamp names.
#[must_use]
pub const fn identified(identity: u32) -> (ProcessIndex, u32) {
    let thread = identity & (counter::MAX_THREADS - 1);
    ((identity >> THREAD_BITS) as ProcessIndex, thread)
}

/// Bits that number a thread within its process.
const THREAD_BITS: u32 = counter::MAX_THREADS.trailing_zeros();

/// Where a log is found inside the sandbox.
#[must_use]
pub fn log_path(log: &str) -> String {
    match log {
        "stdout" | "stderr" => format!("/kairos/{log}"),
        path => format!("{RUN_FOLDER}/{path}"),
    }
}

pub(super) const fn usually_kills(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGABRT
            | libc::SIGSYS
            | libc::SIGTRAP
    )
}

impl Host for Server<'_> {
    fn pump(&mut self) -> Result<(), HostError> {
        while matches!(self.reports.read_signal(), Ok(Some(_))) {}
        if !self.traced() {
            self.reap_untraced();
            return Ok(());
        }
        self.drained = false;
        for _ in 0..MOST_EVENTS {
            let Some(event) = self.parts.tree.poll()? else {
                self.drained = true;
                return Ok(());
            };
            match self.handle(event) {
                // Its end is on its way.
                Err(HostError::Tracee(error)) if error.is_gone() => {}
                Err(HostError::Tracee(error)) if self.any_dying() => {
                    tracing_note(&error);
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn reports(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }

    fn reading(&mut self) -> Reading {
        if self.traced() {
            let threads: Vec<_> = self.parts.tree.living_threads().collect();
            let mut reading = self.parts.tools.activities.read(threads);
            if !self.drained {
                // A thread whose stop is still to be handled only looks blocked.
                reading.activity = Activity::Running;
            }
            reading
        } else {
            self.parts.tools.activities.read(all_threads())
        }
    }

    fn signal(&mut self, role: &str, signal: &str) {
        let Ok(signal) = signal.parse::<Signal>() else {
            return;
        };
        let target = if self.traced() {
            self.parts
                .tree
                .living()
                .find(|(index, _)| self.parts.notes[*index].role.role == role)
                .map(|(_, process)| process.pid)
        } else {
            (self.parts.notes[0].role.role == role).then_some(self.root)
        };
        if let Some(pid) = target {
            let _ = kill(pid, signal);
        }
    }

    fn exchange_over(&mut self, number: u32) -> Result<(), HostError> {
        self.take_logs();
        self.watcher.exchange_ended(&mut self.parts, number)?;
        let next = number + 1;
        self.parts.exchange = next;
        if next < self.session_exchanges {
            self.watcher.exchange_begins(&mut self.parts, next)?;
        } else if next == self.session_exchanges && self.instrumented {
            self.watcher.session_over();
            self.parts.set_counters(&mut |_, _| counter::NEVER)?;
        }
        Ok(())
    }
}

impl Server<'_> {
    fn reap_untraced(&mut self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid == self.root => {
                    self.root_ending = Some(Ending::Exited(status));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.root => {
                    self.root_ending = Some(Ending::Killed(signal_name(signal as i32)));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// Whether some process of the tree is a zombie or gone although its end has
    /// not been reported: reading its memory fails before the wait says why.
    fn any_dying(&self) -> bool {
        self.parts.tree.living().any(|(_, process)| {
            std::fs::read_to_string(format!("/proc/{}/stat", process.pid))
                .ok()
                .and_then(|stat| {
                    let state = stat.rsplit(')').next()?.trim_start().chars().next()?;
                    Some(matches!(state, 'Z' | 'X'))
                })
                .unwrap_or(true)
        })
    }
}

/// A failed access to a process that was being killed is no fault; it is only
/// worth seeing when one looks for one.
fn tracing_note(error: &TraceeError) {
    if std::env::var_os("KAIROS_DEBUG").is_some() {
        eprintln!("kairos: while a process was dying: {error}");
    }
}
