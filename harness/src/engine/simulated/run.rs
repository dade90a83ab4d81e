//! One run of a server in a simulated world, from a point to the next or to its end:
//! what its processes stop for, and what becomes of them.

use std::rc::Rc;
use std::time::Instant;

use super::Unfit;
use super::known_ends::{End, Found};
use super::live::{Live, Place, lost};
use super::marks::follow_frames;
use super::members::Member;
use super::survey::Survey;
use crate::binary::Address;
use crate::engine::parts::{Note, Parts};
use crate::engine::server::usually_kills;
use crate::engine::updater::Updater;
use crate::engine::watch::Watcher as _;
use crate::tracee::counter::{self, NEVER};
use crate::tracee::intercept;
use crate::tracee::shared_world::SharedWorld;
use crate::tracee::simulator;
use crate::tracee::tree::{Event, ProcessIndex, Stop};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::verdict::observation::Stall;
use kairos_simulator::world::{Reason, World};

/// How a run went.
pub(super) struct Played {
    /// The stall, if it ended by one.
    pub stall: Option<Stall>,
    /// What is known of the processes.
    pub notes: Vec<Note>,
    /// The exchange at whose end the rest was known already, and the rest.
    pub known: Option<(u32, Rc<End>)>,
}

/// Where a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The entry that was counted down to.
    Entry,
    /// Its end.
    Over,
}

/// One run from where the server stands.
pub(super) struct Run<'l> {
    pub live: &'l mut Live,
    /// The point that it goes to; none if it plays to the end.
    pub target: Option<Place>,
    pub stall: Option<Stall>,
    /// What is found out about the session, if that is what it is played for.
    pub survey: Option<Survey>,
    /// The exchange at whose end the rest was known already, and the rest.
    pub known: Option<(u32, Rc<End>)>,
}

impl Run<'_> {
    /// Goes on until the run is over, or the point is reached.
    pub(super) fn go_on(
        &mut self,
        parts: &mut Parts<'_>,
        updater: Option<&mut Updater<'_>>,
    ) -> Result<Reached, Unfit> {
        self.go_on_with(parts, updater, 0)
    }

    /// The same; the process that runs is first given a signal (0: none).
    pub(super) fn go_on_with(
        &mut self,
        parts: &mut Parts<'_>,
        mut updater: Option<&mut Updater<'_>>,
        mut signal: i32,
    ) -> Result<Reached, Unfit> {
        let mut used = Used { at: None };
        let mut now = self.take_running()?;
        loop {
            let running = self.live.known.running;
            now.resume(parts.tree.until, signal)?;
            signal = 0;
            let event = loop {
                let pid = self.live.members[running].pid;
                if let Some(event) = parts.tree.wait(pid)? {
                    break event;
                }
                if used.look(self.live, parts) > self.live.busy {
                    let stopped = parts.tree.interrupt(pid)?;
                    self.live.members[running].stopped = Some(stopped);
                    if self.target.is_some() {
                        return Err(Unfit::Declined("a server that is busy".to_owned()));
                    }
                    self.stall = Some(self.live.busy_stall());
                    return Ok(Reached::Over);
                }
            };
            let (stopped, stop) = match event {
                Event::Stopped { stopped, stop, .. } => (stopped, stop),
                Event::Forked {
                    stopped,
                    child,
                    child_stopped,
                    ..
                } => {
                    let updater = updater.as_deref_mut();
                    self.forked(parts, updater, &stopped, child, child_stopped)?;
                    now = stopped;
                    continue;
                }
                Event::Ended(_) => return Err(lost()),
            };
            match stop {
                Stop::Filtered => {
                    let memory = &parts.tree.processes[running].memory;
                    intercept::redirect(&stopped, memory, self.live.gate)?;
                }
                Stop::Breakpoint(address) => {
                    let stays =
                        self.breakpoint(parts, updater.as_deref_mut(), &stopped, address)?;
                    if let Some(updater) = &updater {
                        follow(self.live, updater);
                    }
                    if stays {
                        let back = parts.tree.step_once(running, stopped, address)?;
                        now = back.ok_or_else(lost)?;
                        continue;
                    }
                }
                Stop::Signal(libc::SIGTRAP) if inside_simulator(&stopped)? => {
                    let updater = updater.as_deref_mut();
                    match self.told(parts, updater, &stopped)? {
                        Told::GoesOn => {}
                        Told::Over => {
                            self.live.members[running].stopped = Some(stopped);
                            return Ok(Reached::Over);
                        }
                        Told::HandsOver(next) => {
                            self.hand_over(parts, stopped, next)?;
                            now = self.take_running()?;
                            continue;
                        }
                    }
                }
                Stop::Signal(number) => signal = self.signal(parts, &stopped, number)?,
                Stop::Entry(function) if self.survey.is_some() => {
                    let exchange = self.live.shared.world().control.exchange;
                    let place = (running, exchange, self.live.is_alone());
                    if let Some(survey) = &mut self.survey {
                        survey.entered(parts, place, &stopped, function)?;
                    }
                }
                Stop::Entry(_) if self.target.is_some() => {
                    self.live.members[running].stopped = Some(stopped);
                    return Ok(Reached::Entry);
                }
                Stop::Entry(_)
                | Stop::ThreadStarted
                | Stop::Executed
                | Stop::SystemCall
                | Stop::Stepped => {}
            }
            now = stopped;
        }
    }

    fn take_running(&mut self) -> Result<Stopped, Unfit> {
        let member = &mut self.live.members[self.live.known.running];
        member.ran = true;
        member.stopped.take().ok_or_else(lost)
    }

    /// The process that ran stands still, and another one is to run.
    fn hand_over(
        &mut self,
        parts: &mut Parts<'_>,
        stopped: Stopped,
        next: usize,
    ) -> Result<(), Unfit> {
        let running = self.live.known.running;
        self.live.members[running].stopped = Some(stopped);
        if next >= self.live.members.len() {
            return Err(lost());
        }
        let ended = !self.live.shared.world().processes[running].lives();
        if ended && self.target.is_some() {
            // Nothing goes back to before its end any more.
            parts.tree.end(running)?;
            let pid = self.live.members[running].pid;
            parts.tools.unwinder.forget(pid);
            parts.tools.libraries.forget(pid);
            self.live.members[running] = Member::gone(pid);
        }
        self.live.known.running = next;
        Ok(())
    }

    /// The simulator stopped to tell something.
    fn told(
        &mut self,
        parts: &mut Parts<'_>,
        updater: Option<&mut Updater<'_>>,
        stopped: &Stopped,
    ) -> Result<Told, Unfit> {
        let running = self.live.known.running;
        let control = &self.live.shared.world().control;
        let (reason, detail) = (control.reason, control.detail);
        let (exchange, dead) = (control.exchange, control.dead);
        let memory = &parts.tree.processes[running].memory;
        if let Some(why) = why_declined(memory, self.live.shared.world())? {
            return Err(Unfit::Declined(why));
        }
        match reason {
            Reason::Over => return Ok(Told::Over),
            Reason::HandsOver => {
                return Ok(Told::HandsOver(
                    usize::try_from(detail).unwrap_or(usize::MAX),
                ));
            }
            Reason::Dies => {
                let registers = self.caller(parts, running, stopped)?;
                let number = i32::try_from(detail).unwrap_or(0);
                self.dies(parts, stopped, number, &registers)?;
            }
            Reason::ExchangeEnded if self.survey.is_some() => {
                let control = &mut self.live.shared.world_mut().control;
                control.arm_exchange = exchange + 1;
                if control.arm_exchange == control.session_exchanges {
                    return Ok(Told::Over);
                }
            }
            Reason::ExchangeEnded if dead == 0 || parts.tree.processes.len() > 1 => {
                if let Some(updater) = updater {
                    self.frames_rest(parts, updater, exchange, stopped)?;
                    if self.rest_is_known(parts, updater, exchange, stopped)? {
                        return Ok(Told::Over);
                    }
                    follow(self.live, updater);
                }
            }
            _ => {}
        }
        Ok(Told::GoesOn)
    }

    /// Looks at the end of an exchange whether the rest of the test is known; the test
    /// stops then.
    fn rest_is_known(
        &mut self,
        parts: &Parts<'_>,
        updater: &Updater<'_>,
        exchange: u32,
        running: &Stopped,
    ) -> Result<bool, Unfit> {
        let begun = Instant::now();
        let control = &self.live.shared.world().control;
        // Probe and stop follow the session.
        let left = control.session_exchanges.saturating_sub(exchange + 1) + 2;
        if updater.watches() || !self.live.ends.looks(left) {
            return Ok(false);
        }
        let Some(state) = self.state(parts, updater, running)? else {
            return Ok(false);
        };
        let counts = self.live.counts()?;
        let ends = &mut self.live.ends;
        match ends.is_in(exchange, state, counts, begun.elapsed()) {
            Found::GoesOn => Ok(false),
            Found::Stops(end) => {
                self.known = Some((exchange, end));
                Ok(true)
            }
        }
    }

    /// Registers of a process behind the call that it is making.
    pub(super) fn caller(
        &self,
        parts: &Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<libc::user_regs_struct, TraceeError> {
        let memory = &parts.tree.processes[process].memory;
        simulator::caller(memory, &self.live.rewritten, &stopped.registers()?)
    }

    /// The process that runs has forked.
    fn forked(
        &mut self,
        parts: &mut Parts<'_>,
        updater: Option<&mut Updater<'_>>,
        stopped: &Stopped,
        child: ProcessIndex,
        child_stopped: Stopped,
    ) -> Result<(), Unfit> {
        let parent = self.live.known.running;
        let known = self.live.shared.world().known().len();
        if child + 1 != known || child != self.live.members.len() {
            return Err(Unfit::Declined(
                "a process that is not simulated".to_owned(),
            ));
        }
        let registers = self.caller(parts, parent, stopped)?;
        let role = parts.name_child_at(parent, &registers);
        let control = &self.live.shared.world().control;
        let exchange = control.exchange;
        parts.notes.push(Note {
            role: role.clone(),
            born: exchange,
            ended: None,
            updated: parts.notes[parent].updated,
            fault: None,
        });
        if let Some(target) = &self.target {
            let wanted = target.exchange == exchange && target.role == role;
            let count = if wanted { target.index.into() } else { NEVER };
            counter::set(&parts.tree.processes[child].memory, 0, count)?;
            let world = self.live.shared.world_mut();
            world.processes[child].armed = count;
            world.processes[child].armed_in = exchange + 1;
            if target.role == role {
                world.control.arm_process = u32::try_from(child).unwrap_or(u32::MAX);
            }
            // What lies in its parent's memory lies in its own.
            let prepared = parts.tree.processes[parent].prepared.clone();
            parts.tree.processes[child].prepared = prepared;
        } else if self.survey.is_some() {
            counter::set(&parts.tree.processes[child].memory, 0, 1)?;
            self.live.shared.world_mut().processes[child].armed_in = exchange + 1;
        } else if let Some(updater) = updater {
            updater.forked(parts, (parent, 0), child, &child_stopped)?;
        }
        let pid = parts.tree.processes[child].pid;
        self.live.members.push(Member::new(pid, child_stopped));
        Ok(())
    }

    /// Whether the breakpoint stays, so that the thread has to step over it.
    fn breakpoint(
        &self,
        parts: &mut Parts<'_>,
        updater: Option<&mut Updater<'_>>,
        stopped: &Stopped,
        address: Address,
    ) -> Result<bool, Unfit> {
        let running = self.live.known.running;
        parts.exchange = self.live.shared.world().control.exchange;
        if let Some(updater) = updater {
            updater.breakpoint(parts, running, stopped, address)?;
        }
        Ok(parts.tree.processes[running].breakpoints.contains(address))
    }

    /// A signal is about to be delivered; returns what to deliver.
    fn signal(
        &mut self,
        parts: &mut Parts<'_>,
        stopped: &Stopped,
        number: i32,
    ) -> Result<i32, Unfit> {
        const EFAULT: u64 = (-14_i64).cast_unsigned();
        let running = self.live.known.running;
        let mut registers = stopped.registers()?;
        let fault = matches!(number, libc::SIGSEGV | libc::SIGBUS);
        if fault && simulator::is_inside(registers.rip) {
            // The server gave a call an address of nothing.
            let memory = &parts.tree.processes[running].memory;
            registers.rsp = simulator::frame_of(memory)?.0 - simulator::BELOW_FRAME;
            registers.rip = self.live.leave.0;
            registers.rax = EFAULT;
            stopped.set_registers(&registers)?;
            return Ok(0);
        }
        if usually_kills(number) {
            parts.notes[running].fault = Some(parts.fault_at(running, &registers));
        }
        let signals = &self.live.shared.world().processes[running].signals;
        if signals.handler(number.unsigned_abs()) > 1 {
            return Ok(number);
        }
        if self.target.is_some() {
            return Err(Unfit::Declined(crate::tracee::tree::signal_name(number)));
        }
        self.dies(parts, stopped, number, &registers)?;
        Ok(0)
    }

    /// A signal ends the process that runs: the run goes on without it.
    fn dies(
        &mut self,
        parts: &mut Parts<'_>,
        stopped: &Stopped,
        number: i32,
        registers: &libc::user_regs_struct,
    ) -> Result<(), TraceeError> {
        let running = self.live.known.running;
        if usually_kills(number) {
            parts.notes[running].fault = Some(parts.fault_at(running, registers));
        }
        self.live.shared.world_mut().processes[running].killed_by = number.unsigned_abs();
        let mut now = stopped.registers()?;
        now.rip = self.live.died.0;
        now.orig_rax = u64::MAX;
        stopped.set_registers(&now)
    }
}

/// What the simulator told.
enum Told {
    /// Nothing that stops the process.
    GoesOn,
    /// The run is over.
    Over,
    /// This process is to run.
    HandsOver(usize),
}

/// Has the simulator stop at the end of exchanges for as long as an old frame runs, or
/// the rest of the test may turn out to be known.
fn follow(live: &mut Live, updater: &Updater<'_>) {
    let stops = updater.runs_old() || live.ends.wants_ends();
    live.shared.world_mut().control.stop_at_exchange_end = u32::from(stops);
}

/// Applies the update at the point where a process stands; returns the signal to go on
/// with.
pub(super) fn update(
    parts: &mut Parts<'_>,
    live: &mut Live,
    updater: &mut Updater<'_>,
    process: ProcessIndex,
    stopped: &Stopped,
) -> Result<i32, Unfit> {
    let Some(function) = parts.entry_of(process, stopped)? else {
        return Err(Unfit::Declined("the point is no entry".to_owned()));
    };
    let signal = updater.entered(parts, process, 0, stopped, function)?;
    follow_frames(parts, &mut live.shared, updater, process)?;
    follow(live, updater);
    disarm(&mut live.shared, &parts.tree.processes[process].memory)?;
    Ok(signal)
}

pub(super) fn inside_simulator(stopped: &Stopped) -> Result<bool, TraceeError> {
    Ok(simulator::is_inside(stopped.registers()?.rip))
}

/// From now on no entry is counted down to a stop; the process at the point is the only
/// one that counts.
pub(super) fn disarm(shared: &mut SharedWorld, memory: &Memory) -> Result<(), TraceeError> {
    shared.world_mut().control.arm_exchange = u32::MAX;
    counter::set(memory, 0, NEVER)
}

/// Why the simulator cannot go on, if it cannot.
pub(super) fn why_declined(memory: &Memory, world: &World) -> Result<Option<String>, TraceeError> {
    let control = &world.control;
    Ok(match control.reason {
        Reason::UnknownCall => Some(crate::tracee::call_names::describe(
            control.detail,
            control.argument.cast_unsigned(),
        )),
        Reason::Declined => {
            let length = usize::try_from(control.argument).unwrap_or(0).min(256);
            let mut text = vec![0; length];
            memory.read(Address(control.detail.cast_unsigned()), &mut text)?;
            Some(String::from_utf8_lossy(&text).into_owned())
        }
        _ => None,
    })
}

/// Processor time used since the client last saw something.
struct Used {
    at: Option<(u64, std::time::Duration)>,
}

impl Used {
    fn look(&mut self, live: &Live, parts: &Parts<'_>) -> std::time::Duration {
        let progress = live.shared.world().transcript.length;
        let nanos: u64 = parts
            .tree
            .living()
            .filter_map(|(_, process)| {
                let path = format!("/proc/{}/schedstat", process.pid);
                let text = std::fs::read_to_string(path).ok()?;
                text.split_ascii_whitespace().next()?.parse::<u64>().ok()
            })
            .sum();
        let used = std::time::Duration::from_nanos(nanos);
        match self.at {
            Some((before, since)) if before == progress => used.saturating_sub(since),
            _ => {
                self.at = Some((progress, used));
                std::time::Duration::ZERO
            }
        }
    }
}
