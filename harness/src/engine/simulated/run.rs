//! One run of a server in a simulated world, from a point to its end: what it stops
//! for, and what becomes of it.

use super::Unfit;
use super::live::Live;
use crate::binary::Address;
use crate::engine::parts::{Note, Parts};
use crate::engine::server::usually_kills;
use crate::engine::updater::Updater;
use crate::engine::watch::Watcher as _;
use crate::tracee::counter::{self, NEVER};
use crate::tracee::intercept::{self};
use crate::tracee::simulator::{self, CONTROL};
use crate::tracee::tree::{Event, Stop, signal_name};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::verdict::observation::{Ending, Stall};
use kairos_simulator::layout;
use kairos_simulator::world::{Control, Reason, World};
use nix::unistd::Pid;

/// How a run went.
pub(super) struct Played {
    /// The state at its end.
    pub control: Box<Control>,
    /// The stall, if it ended by one.
    pub stall: Option<Stall>,
    /// What is known of the process.
    pub note: Note,
    /// How it ended, if it did.
    pub ending: Option<Ending>,
}

/// One run from a point to its end.
pub(super) struct Run<'l> {
    pub live: &'l Live,
    pub ending: Option<Ending>,
    pub stall: Option<Stall>,
    /// Whether the simulator stops when an exchange ends.
    pub at_exchange_end: bool,
}

impl Run<'_> {
    /// Has the simulator stop at the end of exchanges for as long as an old frame runs.
    pub(super) fn follow(
        &mut self,
        memory: &Memory,
        updater: &Updater<'_>,
    ) -> Result<(), TraceeError> {
        let wanted = updater.runs_old();
        if wanted != self.at_exchange_end {
            self.at_exchange_end = wanted;
            let at = CONTROL.plus(std::mem::offset_of!(Control, stop_at_exchange_end) as u64);
            memory.write(at, &u32::from(wanted).to_le_bytes())?;
        }
        Ok(())
    }

    /// Goes on until the run is over.
    pub(super) fn go_on(
        &mut self,
        parts: &mut Parts<'_>,
        mut updater: Option<&mut Updater<'_>>,
    ) -> Result<(Box<Control>, Stopped), Unfit> {
        let ticks = crate::tracee::ticks::Ticks::start();
        let mut used = Used::new(self.live.pid);
        loop {
            let event = parts.tree.wait(self.live.pid)?;
            let (stopped, stop) = match event {
                Some(Event::Stopped { stopped, stop, .. }) => (stopped, stop),
                Some(_) => return Err(Unfit::Declined("the server ended or forked".to_owned())),
                None => {
                    let memory = &parts.tree.processes[0].memory;
                    if used.look(memory)? > self.live.busy() {
                        let stopped = parts.tree.interrupt(self.live.pid)?;
                        let memory = &parts.tree.processes[0].memory;
                        let mut control = simulator::control(memory)?;
                        self.stall = Some(self.live.busy_stall(memory, &mut control)?);
                        drop(ticks);
                        return Ok((control, stopped));
                    }
                    continue;
                }
            };
            let mut signal = 0;
            match stop {
                Stop::Filtered => {
                    let memory = &parts.tree.processes[0].memory;
                    intercept::redirect(&stopped, memory, self.live.gate)?;
                }
                Stop::Breakpoint(address) => {
                    let stays = breakpoint(parts, updater.as_deref_mut(), &stopped, address)?;
                    if let Some(updater) = &updater {
                        self.follow(&parts.tree.processes[0].memory, updater)?;
                    }
                    if stays {
                        parts.tree.step_over(0, stopped, address)?;
                        continue;
                    }
                }
                Stop::Signal(libc::SIGTRAP) if inside_simulator(&stopped)? => {
                    let memory = &parts.tree.processes[0].memory;
                    let control = simulator::control(memory)?;
                    if let Some(why) = why_declined(memory, &control)? {
                        return Err(Unfit::Declined(why));
                    }
                    match control.reason {
                        Reason::Over => return Ok((control, stopped)),
                        Reason::Dies => {
                            let registers = self.caller(parts, &stopped, &control)?;
                            let number = i32::try_from(control.detail).unwrap_or(0);
                            self.dies(parts, &stopped, number, &registers)?;
                        }
                        // Nothing runs on in a server that has ended.
                        Reason::ExchangeEnded if control.dead == 0 => {
                            let registers = self.caller(parts, &stopped, &control)?;
                            if let Some(updater) = &mut updater {
                                let walk = parts.walk_from(0, &registers);
                                updater.ended_with(parts, control.exchange, &walk)?;
                                self.follow(&parts.tree.processes[0].memory, updater)?;
                            }
                        }
                        _ => {}
                    }
                }
                Stop::Signal(number) => signal = self.signal(parts, &stopped, number)?,
                Stop::Entry(_)
                | Stop::ThreadStarted
                | Stop::Executed
                | Stop::SystemCall
                | Stop::Stepped => {}
            }
            stopped.resume(parts.tree.until, signal)?;
        }
    }

    fn caller(
        &self,
        parts: &Parts<'_>,
        stopped: &Stopped,
        control: &Control,
    ) -> Result<libc::user_regs_struct, TraceeError> {
        let memory = &parts.tree.processes[0].memory;
        simulator::caller(memory, control, &self.live.rewritten, &stopped.registers()?)
    }

    /// A signal is about to be delivered; returns what to deliver.
    fn signal(
        &mut self,
        parts: &mut Parts<'_>,
        stopped: &Stopped,
        number: i32,
    ) -> Result<i32, Unfit> {
        const EFAULT: u64 = (-14_i64).cast_unsigned();
        let mut registers = stopped.registers()?;
        let fault = matches!(number, libc::SIGSEGV | libc::SIGBUS);
        if fault && simulator::is_inside(registers.rip) {
            // The server gave a call an address of nothing.
            let memory = &parts.tree.processes[0].memory;
            let control = simulator::control(memory)?;
            registers.rsp = control.frame - simulator::BELOW_FRAME;
            registers.rip = self.live.leave.0;
            registers.rax = EFAULT;
            stopped.set_registers(&registers)?;
            return Ok(0);
        }
        if usually_kills(number) {
            parts.notes[0].fault = Some(parts.fault_at(0, &registers));
        }
        let handlers = handler(&parts.tree.processes[0].memory, number)?;
        if handlers > 1 {
            return Ok(number);
        }
        self.dies(parts, stopped, number, &registers)?;
        Ok(0)
    }

    /// A signal ends the server: the run goes on without it.
    fn dies(
        &mut self,
        parts: &mut Parts<'_>,
        stopped: &Stopped,
        number: i32,
        registers: &libc::user_regs_struct,
    ) -> Result<(), TraceeError> {
        if usually_kills(number) {
            parts.notes[0].fault = Some(parts.fault_at(0, registers));
        }
        self.ending = Some(Ending::Killed(signal_name(number)));
        let mut now = stopped.registers()?;
        now.rip = self.live.died.0;
        now.orig_rax = u64::MAX;
        stopped.set_registers(&now)
    }
}

/// Applies the update at the point where the server stands; returns the signal to go
/// on with.
pub(super) fn update(
    parts: &mut Parts<'_>,
    updater: &mut Updater<'_>,
    stopped: &Stopped,
) -> Result<i32, Unfit> {
    let Some(function) = parts.entry_of(0, stopped)? else {
        return Err(Unfit::Declined("the point is no entry".to_owned()));
    };
    let signal = updater.entered(parts, 0, 0, stopped, function)?;
    disarm(&parts.tree.processes[0].memory)?;
    Ok(signal)
}

/// Whether the breakpoint stays, so that the thread has to step over it.
fn breakpoint(
    parts: &mut Parts<'_>,
    updater: Option<&mut Updater<'_>>,
    stopped: &Stopped,
    address: Address,
) -> Result<bool, Unfit> {
    let memory = &parts.tree.processes[0].memory;
    parts.exchange = simulator::control(memory)?.exchange;
    if let Some(updater) = updater {
        updater.breakpoint(parts, 0, stopped, address)?;
    }
    Ok(parts.tree.processes[0].breakpoints.contains(address))
}

pub(super) fn handler(memory: &Memory, signal: i32) -> Result<u64, TraceeError> {
    let handlers = std::mem::offset_of!(World, signals)
        + std::mem::offset_of!(kairos_simulator::signals::Signals, handlers);
    memory.word(Address(
        layout::WORLD + handlers as u64 + 8 * u64::from(signal.unsigned_abs()),
    ))
}

pub(super) fn inside_simulator(stopped: &Stopped) -> Result<bool, TraceeError> {
    Ok(simulator::is_inside(stopped.registers()?.rip))
}

/// From now on no entry is counted down to a stop.
pub(super) fn disarm(memory: &Memory) -> Result<(), TraceeError> {
    let at = CONTROL.plus(std::mem::offset_of!(Control, arm_exchange) as u64);
    memory.write(at, &u32::MAX.to_le_bytes())?;
    counter::set(memory, 0, NEVER)
}

/// Why the simulator cannot go on, if it cannot.
pub(super) fn why_declined(
    memory: &Memory,
    control: &Control,
) -> Result<Option<String>, TraceeError> {
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
    pid: Pid,
    at: Option<(u64, std::time::Duration)>,
}

impl Used {
    const fn new(pid: Pid) -> Self {
        Self { pid, at: None }
    }

    fn look(&mut self, memory: &Memory) -> Result<std::time::Duration, TraceeError> {
        let length = std::mem::offset_of!(World, transcript);
        let progress = memory.word(Address(layout::WORLD + length as u64))?;
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid));
        let nanos = text
            .ok()
            .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let used = std::time::Duration::from_nanos(nanos);
        match self.at {
            Some((before, since)) if before == progress => Ok(used.saturating_sub(since)),
            _ => {
                self.at = Some((progress, used));
                Ok(std::time::Duration::ZERO)
            }
        }
    }
}
