//! The processes and threads of one server: turns wait statuses into events, and
//! follows forks, threads and `execve`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::breakpoint::Breakpoints;
use super::inject::wait_for;
use super::prepared::Prepared;
use super::stopped::Until;
use super::{Memory, Stopped, TraceeError, counter};
use crate::binary::Address;
use crate::verdict::observation::Ending;

/// Position of a process in [`Tree::processes`].
pub type ProcessIndex = usize;

/// One thread of a traced process.
#[derive(Debug)]
pub struct Thread {
    /// Its number.
    pub id: Pid,
    /// By order of creation within the process, from 0.
    pub ordinal: u32,
}

/// One traced process.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// The process that forked it.
    pub parent: Option<ProcessIndex>,
    /// Its living threads.
    pub threads: Vec<Thread>,
    /// Threads it ever had.
    pub threads_ever: u32,
    /// Its memory.
    pub memory: Memory,
    /// Breakpoints set in it.
    pub breakpoints: Breakpoints,
    /// Whether its entries are counted: an `execve` takes the counters away, and a
    /// process in its parent's memory has none of its own.
    pub counted: bool,
    /// Whether it runs in its parent's memory until it executes a program or ends
    /// (`vfork`, by which the library starts other programs).
    pub borrows_memory: bool,
    /// What was made ready in it for an update, before any.
    pub prepared: Option<Rc<Prepared>>,
    /// Whether it is about to end, and can be held no more.
    pub(super) leaves: bool,
    /// How it ended.
    pub ending: Option<Ending>,
}

/// Why a thread stopped.
#[derive(Debug)]
pub enum Stop {
    /// Its entry counter reached zero at the entry of this function.
    Entry(Address),
    /// It is about to execute the instruction under this breakpoint.
    Breakpoint(Address),
    /// It starts; its process has it in its list.
    ThreadStarted,
    /// It executed another program.
    Executed,
    /// It enters or leaves a system call.
    SystemCall,
    /// It is about to make a system call that a filter of ours stopped.
    Filtered,
    /// It executed one instruction.
    Stepped,
    /// A signal is about to be delivered.
    Signal(i32),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A thread stopped; it must be resumed.
    Stopped {
        /// Its process.
        process: ProcessIndex,
        /// The thread, by order of creation.
        thread: u32,
        /// The handle.
        stopped: Stopped,
        /// Why.
        stop: Stop,
    },
    /// A process was forked; both threads must be resumed.
    Forked {
        /// The forking process.
        parent: ProcessIndex,
        /// Its thread.
        thread: u32,
        /// The handle of that thread.
        stopped: Stopped,
        /// The new process.
        child: ProcessIndex,
        /// The handle of its only thread.
        child_stopped: Stopped,
    },
    /// A process ended; see [`Process::ending`].
    Ended(ProcessIndex),
}

/// All processes of a traced server, living and ended, in order of creation.
#[derive(Debug, Default)]
pub struct Tree {
    /// The processes.
    pub processes: Vec<Process>,
    pub(super) threads: HashMap<Pid, (ProcessIndex, u32)>,
    /// New threads whose first stop was reported before their parent's event.
    early: HashMap<Pid, i32>,
    /// Statuses that were taken while one thread was stepped or held.
    backlog: VecDeque<(Pid, i32)>,
    /// How far threads run when they are resumed.
    pub until: Until,
    /// Whether threads were ever stepped: a trap that nothing else explains is a step's.
    pub steps: bool,
    /// Whether a parent sees the end of its child as it does without a tracer; see
    /// `child_end.rs`.
    pub whole_ends: bool,
    /// Threads whose return from a system call stops them for nothing any more.
    pub(super) returning: HashSet<Pid>,
}

impl Tree {
    /// A tree of one process that was just started and seized, brought to its
    /// `execve`.
    ///
    /// # Errors
    /// When the program could not be executed.
    pub fn start(pid: Pid, program: &str, until: Until) -> Result<(Self, Stopped), TraceeError> {
        loop {
            let status = wait_for(pid)?;
            if !libc::WIFSTOPPED(status) {
                return Err(TraceeError::Start {
                    program: program.to_owned(),
                    source: std::io::Error::from(Errno::ENOEXEC),
                });
            }
            let stopped = Stopped::reported(pid);
            if status >> 16 == libc::PTRACE_EVENT_EXEC {
                // The event comes inside execve, whose return would overwrite the
                // registers of an injected call: go on to its exit.
                stopped.resume(Until::SystemCall, 0)?;
                wait_for(pid)?;
                let mut tree = Self::of_none(until);
                tree.adopt(pid, None, false)?;
                return Ok((tree, Stopped::reported(pid)));
            }
            stopped.resume(Until::Event, 0)?;
        }
    }

    /// A tree of one process that was copied from an instrumented one.
    ///
    /// # Errors
    /// When its memory cannot be opened.
    pub fn of_copy(copied: &Stopped, until: Until) -> Result<Self, TraceeError> {
        let mut tree = Self::of_none(until);
        tree.adopt(copied.thread(), None, false)?;
        tree.processes[0].counted = true;
        Ok(tree)
    }

    fn of_none(until: Until) -> Self {
        Self {
            processes: Vec::new(),
            threads: HashMap::new(),
            early: HashMap::new(),
            backlog: VecDeque::new(),
            until,
            steps: false,
            whole_ends: false,
            returning: HashSet::new(),
        }
    }

    /// Threads that have told that they are about to end and were not let go.
    pub(super) fn about_to_end(&self) -> impl Iterator<Item = Pid> + '_ {
        let kept = self.backlog.iter();
        let kept = kept.filter(|(_, status)| status >> 16 == libc::PTRACE_EVENT_EXIT);
        let leaving = self.processes.iter().filter(|process| process.leaves);
        let leaving = leaving.flat_map(|process| process.threads.iter().map(|thread| thread.id));
        kept.map(|(thread, _)| *thread).chain(leaving)
    }

    fn adopt(
        &mut self,
        pid: Pid,
        parent: Option<ProcessIndex>,
        borrows_memory: bool,
    ) -> Result<ProcessIndex, TraceeError> {
        let index = self.processes.len();
        let breakpoints = parent.map_or_else(Breakpoints::default, |parent| {
            self.processes[parent].breakpoints.clone()
        });
        let counted =
            !borrows_memory && parent.is_some_and(|parent| self.processes[parent].counted);
        self.processes.push(Process {
            pid,
            parent,
            threads: vec![Thread {
                id: pid,
                ordinal: 0,
            }],
            threads_ever: 1,
            memory: Memory::open(pid)?,
            breakpoints,
            counted,
            borrows_memory,
            prepared: None,
            leaves: false,
            ending: None,
        });
        self.threads.insert(pid, (index, 0));
        Ok(index)
    }

    /// Living threads, each with its process.
    pub fn living_threads(&self) -> impl Iterator<Item = (Pid, Pid)> + '_ {
        self.living()
            .flat_map(|(_, process)| process.threads.iter().map(|t| (process.pid, t.id)))
    }

    /// Living processes.
    pub fn living(&self) -> impl Iterator<Item = (ProcessIndex, &Process)> {
        self.processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.ending.is_none())
    }

    /// The next event, if one is pending; never blocks.
    ///
    /// # Errors
    /// When a new process cannot be read.
    pub fn poll(&mut self) -> Result<Option<Event>, TraceeError> {
        loop {
            if let Some((thread, status)) = self.backlog.pop_front() {
                match self.event(thread, status) {
                    Ok(Some(event)) => return Ok(Some(event)),
                    Err(error) if !error.is_gone() => return Err(error),
                    _ => continue,
                }
            }
            let mut status = 0;
            // SAFETY: waitpid writes one int. The worker's only children are its subject's
            // processes, so waiting for any of them takes no other worker's.
            let answer =
                unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) };
            let thread = match Errno::result(answer) {
                Ok(0) | Err(Errno::ECHILD) => return Ok(None),
                Ok(thread) => Pid::from_raw(thread),
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    return Err(TraceeError::from_errno("waitpid", Pid::from_raw(-1))(errno));
                }
            };
            match self.event(thread, status) {
                Err(error) if error.is_gone() => {}
                Ok(None) => {}
                Ok(Some(event)) => return Ok(Some(event)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for the next event of a thread; none when a signal to us comes first.
    ///
    /// # Errors
    /// When the thread cannot be waited for.
    pub fn wait(&mut self, thread: Pid) -> Result<Option<Event>, TraceeError> {
        loop {
            if let Some((thread, status)) = self.backlog.pop_front() {
                if let Some(event) = self.event(thread, status)? {
                    return Ok(Some(event));
                }
                continue;
            }
            let mut status = 0;
            // SAFETY: waitpid writes one int.
            let answer = unsafe { libc::waitpid(thread.as_raw(), &raw mut status, libc::__WALL) };
            match Errno::result(answer) {
                Ok(_) => {
                    if let Some(event) = self.event(thread, status)? {
                        return Ok(Some(event));
                    }
                }
                Err(Errno::EINTR) => return Ok(None),
                Err(errno) => return Err(TraceeError::from_errno("waitpid", thread)(errno)),
            }
        }
    }

    /// Stops a thread that runs; what it reports meanwhile is dropped.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn interrupt(&mut self, thread: Pid) -> Result<Stopped, TraceeError> {
        nix::sys::ptrace::interrupt(thread)
            .map_err(TraceeError::from_errno("PTRACE_INTERRUPT", thread))?;
        let status = wait_for(thread)?;
        if libc::WIFSTOPPED(status) {
            return Ok(Stopped::reported(thread));
        }
        Err(TraceeError::Gone {
            operation: "PTRACE_INTERRUPT",
            pid: thread,
        })
    }

    fn event(&mut self, thread: Pid, status: i32) -> Result<Option<Event>, TraceeError> {
        if !libc::WIFSTOPPED(status) {
            return Ok(self.ended(thread, status));
        }
        let Some(&(process, ordinal)) = self.threads.get(&thread) else {
            // Its parent's event will claim it.
            self.early.insert(thread, status);
            return Ok(None);
        };
        let stopped = Stopped::reported(thread);
        let signal = libc::WSTOPSIG(status);
        let event = status >> 16;
        let stop = match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let borrows_memory = event == libc::PTRACE_EVENT_VFORK;
                return self
                    .born(process, ordinal, stopped, borrows_memory)
                    .map(Some);
            }
            libc::PTRACE_EVENT_EXEC => {
                self.executed(process, thread)?;
                Stop::Executed
            }
            libc::PTRACE_EVENT_SECCOMP => Stop::Filtered,
            libc::PTRACE_EVENT_STOP => {
                if signal == libc::SIGTRAP {
                    stopped.resume(self.until, 0)?;
                } else {
                    stopped.stay_stopped()?;
                }
                return Ok(None);
            }
            libc::PTRACE_EVENT_EXIT => return self.ends(process, stopped),
            0 if signal == libc::SIGTRAP | 0x80 => {
                if self.returning.remove(&thread) {
                    stopped.resume(self.until, 0)?;
                    return Ok(None);
                }
                Stop::SystemCall
            }
            0 if signal == libc::SIGTRAP => {
                let Some(stop) = self.trap(process, &stopped)? else {
                    stopped.resume(self.until, 0)?;
                    return Ok(None);
                };
                stop
            }
            0 => Stop::Signal(signal),
            _ => {
                stopped.resume(self.until, 0)?;
                return Ok(None);
            }
        };
        // Executing another program leaves only the leader.
        let ordinal = self.threads.get(&thread).map_or(ordinal, |found| found.1);
        Ok(Some(Event::Stopped {
            process,
            thread: ordinal,
            stopped,
            stop,
        }))
    }

    /// Why a thread trapped; none if for a breakpoint that another thread's stop has
    /// taken away meanwhile, so that it goes on as if there had been none.
    fn trap(
        &mut self,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<Option<Stop>, TraceeError> {
        let mut registers = stopped.registers()?;
        let Process {
            memory,
            breakpoints,
            ..
        } = &self.processes[process];
        if let Some(function) = counter::entered(&registers, memory)? {
            return Ok(Some(Stop::Entry(function)));
        }
        let before = Address(registers.rip.wrapping_sub(1));
        let stop = if breakpoints.contains(before) {
            Some(Stop::Breakpoint(before))
        } else if breakpoints.is_past(memory, before)? {
            None
        } else if self.steps {
            return Ok(Some(Stop::Stepped));
        } else {
            return Ok(Some(Stop::Signal(libc::SIGTRAP)));
        };
        registers.rip = before.0;
        stopped.set_registers(&registers)?;
        Ok(stop)
    }

    fn born(
        &mut self,
        parent: ProcessIndex,
        thread: u32,
        stopped: Stopped,
        borrows_memory: bool,
    ) -> Result<Event, TraceeError> {
        let child = Pid::from_raw(i32::try_from(stopped.event_message()?).unwrap_or(0));
        let status = match self.early.remove(&child) {
            Some(status) => status,
            None => wait_for(child)?,
        };
        if !libc::WIFSTOPPED(status) {
            // Killed before its first instruction: nothing of it was ever seen.
            return Ok(Event::Stopped {
                process: parent,
                thread,
                stopped,
                stop: Stop::Signal(0),
            });
        }
        let child_stopped = Stopped::reported(child);
        if group_of(child) == Some(self.processes[parent].pid) {
            let process = &mut self.processes[parent];
            let ordinal = process.threads_ever;
            process.threads_ever += 1;
            process.threads.push(Thread { id: child, ordinal });
            self.threads.insert(child, (parent, ordinal));
            stopped.resume(self.until, 0)?;
            return Ok(Event::Stopped {
                process: parent,
                thread: ordinal,
                stopped: child_stopped,
                stop: Stop::ThreadStarted,
            });
        }
        let index = self.adopt(child, Some(parent), borrows_memory)?;
        if self.whole_ends {
            child_stopped.follow_end()?;
        }
        Ok(Event::Forked {
            parent,
            thread,
            stopped,
            child: index,
            child_stopped,
        })
    }

    fn executed(&mut self, process: ProcessIndex, leader: Pid) -> Result<(), TraceeError> {
        self.threads.retain(|_, (owner, _)| *owner != process);
        self.threads.insert(leader, (process, 0));
        let process = &mut self.processes[process];
        process.threads = vec![Thread {
            id: leader,
            ordinal: 0,
        }];
        process.threads_ever = 1;
        process.breakpoints = Breakpoints::default();
        process.counted = false;
        process.borrows_memory = false;
        process.memory = Memory::open(leader)?;
        Ok(())
    }

    pub(super) fn ended(&mut self, thread: Pid, status: i32) -> Option<Event> {
        self.early.remove(&thread);
        let (index, _) = self.threads.remove(&thread)?;
        let process = &mut self.processes[index];
        process.threads.retain(|t| t.id != thread);
        if thread != process.pid {
            return None;
        }
        process.ending = Some(ending(status));
        process.memory.close();
        Some(Event::Ended(index))
    }

    /// Ends a stopped process for good.
    ///
    /// # Errors
    /// When its end cannot be waited for.
    pub fn end(&mut self, process: ProcessIndex) -> Result<(), TraceeError> {
        let pid = self.processes[process].pid;
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        loop {
            let status = wait_for(pid)?;
            if !libc::WIFSTOPPED(status) {
                self.ended(pid, status);
                return Ok(());
            }
            if status >> 16 == libc::PTRACE_EVENT_EXIT {
                let _ = Stopped::reported(pid).resume(Until::Event, 0);
            }
        }
    }

    /// Ends all processes from `first` on and forgets them, as if they had never been.
    ///
    /// # Errors
    /// When the end of one cannot be waited for.
    pub fn end_from(&mut self, first: ProcessIndex) -> Result<(), TraceeError> {
        for process in first..self.processes.len() {
            if self.processes[process].ending.is_none() {
                self.end(process)?;
            }
        }
        self.processes.truncate(first);
        Ok(())
    }

    /// The status of a thread's last stop, if it waits to be handled.
    pub(super) fn reported(&self, thread: Pid) -> Option<i32> {
        let mut backlog = self.backlog.iter();
        backlog.find_map(|(reported, status)| (*reported == thread).then_some(*status))
    }

    /// Forgets a status that was kept.
    pub(super) fn take_back(&mut self, thread: Pid) {
        self.backlog.retain(|(reported, _)| *reported != thread);
    }

    /// Keeps a status for [`Tree::poll`].
    pub(super) fn report_later(&mut self, thread: Pid, status: i32) {
        self.backlog.push_back((thread, status));
    }
}

fn ending(status: i32) -> Ending {
    if libc::WIFEXITED(status) {
        Ending::Exited(libc::WEXITSTATUS(status))
    } else {
        Ending::Killed(signal_name(libc::WTERMSIG(status)))
    }
}

/// The usual name of a signal, or its number.
#[must_use]
pub fn signal_name(number: i32) -> String {
    nix::sys::signal::Signal::try_from(number)
        .map_or_else(|_| format!("signal {number}"), |s| s.as_str().to_owned())
}

/// The thread group of a thread: its process.
pub(super) fn group_of(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}
