//! A server that lives in a simulated world: started once, brought from point to point,
//! and put back after each test.

use kairos_simulator::client::Client;
use kairos_simulator::files::{Files, Path as WorldPath};
use kairos_simulator::layout;
use kairos_simulator::transcript::MOST_LOGS;
use kairos_simulator::world::{Awaited, Control, Phase, Reason, World};
use nix::unistd::Pid;

use super::Unfit;
use crate::binary::Address;
use crate::engine::parts::{Note, Parts};
use crate::engine::restart::Restart;
use crate::engine::server::{log_path, usually_kills};
use crate::engine::spec::Ready;
use crate::engine::updater::Updater;
use crate::engine::watch::Watcher;
use crate::sandbox::root::RUN_FOLDER;
use crate::sandbox::run_folder::{RunFolder, read_files};
use crate::tracee::apply::place_image;
use crate::tracee::counter::{self, GADGET, Instrument, NEVER};
use crate::tracee::intercept::{self, Rewritten};
use crate::tracee::simulator::{self, CONTROL};
use crate::tracee::tree::{Event, Stop, Tree, signal_name};
use crate::tracee::written::{self, Written};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::verdict::observation::{Ending, Stall};
use crate::workload::flat::{Flat, signal_number};
use crate::world::Limits;

/// Stands still before it is ready after which the server counts as never ready.
const MOST_LOOKS: u32 = 1000;

/// What the server starts with: counted entries, nothing else.
pub(super) struct Counting;

impl Watcher for Counting {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }
}

/// A point's place in the session, in the order in which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The exchange.
    pub exchange: u32,
    /// The entry within it, from 1.
    pub index: u32,
}

/// What must be put back beside memory.
struct Saved {
    registers: libc::user_regs_struct,
    extended: Vec<u8>,
    mask: u64,
}

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

/// A living server.
pub struct Live {
    /// Its process.
    pub(super) tree: Tree,
    pid: Pid,
    /// Where it stands; none at readiness.
    pub(super) place: Option<Place>,
    /// The thread, whenever it is stopped.
    stopped: Option<Stopped>,
    saved: Saved,
    pub(super) written: Written,
    rewritten: Rewritten,
    gate: Address,
    leave: Address,
    died: Address,
    flat: [Flat; 2],
    connections: [Vec<String>; 2],
    /// Files of the end state as they were before the session.
    pub(super) files: std::collections::BTreeMap<String, Vec<u8>>,
    busy: std::time::Duration,
    stop: String,
    _folder: RunFolder,
}

impl Drop for Live {
    fn drop(&mut self) {
        crate::sandbox::processes::end_all();
    }
}

/// The kernel refuses what rollback needs.
fn refused(error: TraceeError) -> Unfit {
    Unfit::Declined(error.to_string())
}

impl Live {
    pub(super) fn start(
        engine: &mut Restart,
        folder: RunFolder,
        pid: Pid,
        mut tree: Tree,
        stopped: Stopped,
    ) -> Result<Self, Unfit> {
        let role = engine.spec.roles.iter().find(|role| role.first);
        let role = role.map_or("server", |role| role.name.as_str());
        let flat = [
            Flat::new(&engine.script, role),
            engine
                .probe
                .as_ref()
                .map_or_else(Flat::default, |probe| Flat::new(probe, role)),
        ];
        if !simulator::fits(&[&flat[0], &flat[1]]) || engine.spec.logs.len() > MOST_LOGS {
            return Err(Unfit::Declined("a session of this size".to_owned()));
        }
        let entry = intercept::hide_fast_clock(&stopped, &tree.processes[0].memory)?;
        let stopped = run_to(&mut tree, pid, stopped, entry)?;
        let registers = stopped.registers()?;
        let memory = &tree.processes[0].memory;
        let code = simulator::Simulator::new();
        let scripts = code.load(&stopped, memory, GADGET, &[&flat[0], &flat[1]])?;
        let watch = written::open_watch(&stopped, GADGET, pid).map_err(refused)?;
        intercept::stop_other_calls(&stopped, memory, GADGET).map_err(refused)?;
        stopped.set_registers(&registers)?;
        let rewritten = engine.tools.interceptor.rewrite(pid, memory, code.gate)?;
        make_world(engine, memory, scripts)?;
        let names = |script: Option<&crate::workload::Script>| {
            script.map_or_else(Vec::new, |script| script.connections.clone())
        };
        let connections = [names(Some(&engine.script)), names(engine.probe.as_ref())];
        let wanted = |path: &str| engine.wanted_files.iter().any(|w| w.is_match(path));
        let files = read_files(&wanted);
        let readiness = &mut Readiness::new(&engine.spec.ready)?;
        let mut starting = Starting {
            tree: &mut tree,
            pid,
            gate: code.gate,
            stopped: Some(stopped),
        };
        starting.bring_to_readiness(readiness)?;
        let stopped = starting.stopped.take().ok_or_else(lost)?;
        if let Some(patch) = &engine.spec.patch {
            let before = Saved::of(&stopped)?;
            stopped.set_signal_mask(u64::MAX)?;
            let libraries = &mut engine.tools.libraries;
            let image = place_image(patch, &tree.processes[0], &stopped, libraries)?;
            before.restore(&stopped)?;
            tree.processes[0].image = Some(image);
        }
        let memory = &tree.processes[0].memory;
        let kept = layout::KEPT..layout::KEPT + layout::KEPT_LENGTH;
        let written = Written::watch(watch, pid, memory, &[kept]).map_err(refused)?;
        let saved = Saved::of(&stopped)?;
        Ok(Self {
            tree,
            pid,
            place: None,
            stopped: Some(stopped),
            saved,
            written,
            rewritten,
            gate: code.gate,
            leave: code.leave,
            died: code.died,
            flat,
            connections,
            files,
            busy: Limits::BASELINE.busy,
            stop: engine.spec.stop.clone(),
            _folder: folder,
        })
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.tree.processes[0].memory
    }

    /// Names of the connections of the session, or of its probe.
    pub(super) fn connections(&self, probe: bool) -> &[String] {
        &self.connections[usize::from(probe)]
    }

    /// Sets when a run counts as stalled.
    pub(super) fn allow(&mut self, limits: Limits) -> Result<(), TraceeError> {
        self.busy = limits.busy;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut control = simulator::control(self.memory())?;
        let wanted = (nanos(limits.waiting), nanos(limits.stopping));
        if (control.most_idle, control.most_idle_stopping) != wanted {
            (control.most_idle, control.most_idle_stopping) = wanted;
            simulator::write(self.memory(), CONTROL, &*control)?;
        }
        Ok(())
    }

    /// Brings the server to a point that it has not passed.
    pub(super) fn advance(&mut self, to: Place) -> Result<(), Unfit> {
        match self.place {
            Some(at) if at == to => {
                self.absorb()?;
                return Ok(());
            }
            Some(at) if at > to => return Err(Unfit::Passed),
            _ => {}
        }
        let same_exchange = self.place.filter(|at| at.exchange == to.exchange);
        let memory = self.memory();
        let mut control = simulator::control(memory)?;
        control.arm_exchange = to.exchange;
        control.arm_count = u64::from(to.index);
        control.stop_at_exchange_end = 0;
        simulator::write(memory, CONTROL, &*control)?;
        let count = same_exchange.map_or(NEVER, |at| u64::from(to.index - at.index));
        counter::set(memory, 0, count)?;
        let stopped = self.stopped.take().ok_or_else(lost)?;
        stopped.resume(self.tree.until, 0)?;
        loop {
            let stopped = match self.tree.wait(self.pid)? {
                Some(Event::Stopped { stopped, stop, .. }) => match stop {
                    Stop::Entry(_) => {
                        self.stopped = Some(stopped);
                        self.place = Some(to);
                        return Ok(self.absorb()?);
                    }
                    Stop::Filtered => {
                        intercept::redirect(&stopped, self.memory(), self.gate)?;
                        stopped
                    }
                    Stop::Signal(libc::SIGTRAP) => {
                        let control = simulator::control(self.memory())?;
                        return Err(Unfit::Declined(
                            match why_declined(self.memory(), &control)? {
                                Some(why) => why,
                                None => "the point is not reached".to_owned(),
                            },
                        ));
                    }
                    Stop::Signal(signal) => {
                        let handled = self.has_handler(signal)?;
                        if !handled {
                            return Err(Unfit::Declined(signal_name(signal)));
                        }
                        stopped.resume(self.tree.until, signal)?;
                        continue;
                    }
                    _ => stopped,
                },
                Some(_) => return Err(Unfit::Declined("the server ended".to_owned())),
                None => continue,
            };
            stopped.resume(self.tree.until, 0)?;
        }
    }

    /// What the server wrote since it was last put back belongs to this place.
    fn absorb(&mut self) -> Result<(), TraceeError> {
        let memory = &self.tree.processes[0].memory;
        self.written.absorb(self.pid, memory)?;
        if let Some(stopped) = &self.stopped {
            self.saved = Saved::of(stopped)?;
        }
        Ok(())
    }

    /// Puts the server back to where it stood.
    pub(super) fn go_back(&mut self) -> Result<(), TraceeError> {
        let process = &mut self.tree.processes[0];
        process.breakpoints = crate::tracee::breakpoint::Breakpoints::default();
        self.written.put_back(self.pid, &process.memory)?;
        if let Some(stopped) = &self.stopped {
            self.saved.restore(stopped)?;
        }
        Ok(())
    }

    fn has_handler(&self, signal: i32) -> Result<bool, TraceeError> {
        let handlers = std::mem::offset_of!(World, signals)
            + std::mem::offset_of!(kairos_simulator::signals::Signals, handlers);
        let at = layout::WORLD + handlers as u64 + 8 * u64::from(signal.unsigned_abs());
        Ok(self.memory().word(Address(at))? > 1)
    }

    /// Lets the server go on to the end of the run. `parts` have its process.
    pub(super) fn play(
        &mut self,
        parts: &mut Parts<'_>,
        mut updater: Option<&mut Updater<'_>>,
    ) -> Result<Played, Unfit> {
        let stopped = self.stopped.take().ok_or_else(lost)?;
        let mut run = Run {
            live: self,
            ending: None,
            stall: None,
        };
        let mut signal = 0;
        if let Some(updater) = &mut updater {
            signal = run.update(parts, updater, &stopped)?;
        } else {
            let memory = &parts.tree.processes[0].memory;
            disarm(memory)?;
        }
        stopped.resume(parts.tree.until, signal)?;
        let (control, stopped) = run.to_the_end(parts, updater)?;
        let (ending, stall) = (run.ending, run.stall);
        self.stopped = Some(stopped);
        let stall = stall.or_else(|| self.stall(&control));
        let note = parts.notes[0].clone();
        Ok(Played {
            ending: ending.or_else(|| {
                (control.exited != 0 && control.dead != 0).then(|| Ending::Exited(control.status))
            }),
            control,
            stall,
            note,
        })
    }

    /// The stall that ended a run.
    fn stall(&self, control: &Control) -> Option<Stall> {
        let waiting_for = match control.stalled {
            Awaited::Nothing => return None,
            Awaited::Stopping => format!("the server to stop after {}", self.stop),
            awaited => self.describe(awaited, control),
        };
        Some(Stall {
            exchange: control.exchange,
            waiting_for,
            busy: false,
        })
    }

    fn describe(&self, awaited: Awaited, control: &Control) -> String {
        let probe = control.exchange >= control.session_exchanges;
        let names = self.connections(probe);
        let at = usize::try_from(control.stalled_connection).unwrap_or(0);
        let name = names.get(at).map_or("?", String::as_str);
        match awaited {
            Awaited::Reply => format!("a reply on {name}"),
            Awaited::Reading => format!("the server to read from {name}"),
            _ => "the server to come to rest".to_owned(),
        }
    }

    /// What the client waits for while the server burns processor time.
    fn busy_stall(&self, memory: &Memory, control: &mut Control) -> Result<Stall, TraceeError> {
        let at = layout::WORLD + std::mem::offset_of!(World, client) as u64;
        let client: Box<Client> = simulator::read(memory, Address(at))?;
        let probe = control.phase == Phase::Probe;
        let script = self.flat[usize::from(probe)].script();
        let step = client.action(&script);
        let waiting_for = if control.phase == Phase::Stop {
            format!("the server to stop after {}", self.stop)
        } else {
            use kairos_simulator::script::Kind;
            let awaited = match step.map(|step| step.kind) {
                Some(Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd) => {
                    Awaited::Reply
                }
                Some(Kind::Send) => Awaited::Reading,
                _ => Awaited::Rest,
            };
            control.stalled_connection = step.map_or(0, |step| step.connection);
            self.describe(awaited, control)
        };
        Ok(Stall {
            exchange: control.exchange,
            waiting_for,
            busy: true,
        })
    }
}

/// One run from a point to its end.
struct Run<'l> {
    live: &'l Live,
    ending: Option<Ending>,
    stall: Option<Stall>,
}

impl Run<'_> {
    fn update(
        &mut self,
        parts: &mut Parts<'_>,
        updater: &mut Updater<'_>,
        stopped: &Stopped,
    ) -> Result<i32, Unfit> {
        let Some(function) = parts.entry_of(0, stopped)? else {
            return Err(Unfit::Declined("the point is no entry".to_owned()));
        };
        let signal = updater.entered(parts, 0, 0, stopped, function)?;
        let memory = &parts.tree.processes[0].memory;
        if updater.follows() {
            let at = CONTROL.plus(std::mem::offset_of!(Control, stop_at_exchange_end) as u64);
            memory.write(at, &1_u32.to_le_bytes())?;
        }
        disarm(memory)?;
        Ok(signal)
    }

    fn to_the_end(
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
                    if used.look(memory)? > self.live.busy {
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
                    if self.breakpoint(parts, updater.as_deref_mut(), &stopped, address)? {
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
                        Reason::ExchangeEnded => {
                            let registers = self.caller(parts, &stopped, &control)?;
                            if let Some(updater) = &mut updater {
                                let walk = parts.walk_from(0, &registers);
                                updater.ended_with(parts, control.exchange, &walk)?;
                            }
                        }
                        _ => {}
                    }
                }
                Stop::Signal(number) => signal = self.signal(parts, &stopped, number)?,
                Stop::Entry(_) | Stop::ThreadStarted | Stop::Executed | Stop::SystemCall => {}
            }
            stopped.resume(parts.tree.until, signal)?;
        }
    }

    /// Whether the breakpoint stays, so that the thread has to step over it.
    fn breakpoint(
        &self,
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

fn handler(memory: &Memory, signal: i32) -> Result<u64, TraceeError> {
    let handlers = std::mem::offset_of!(World, signals)
        + std::mem::offset_of!(kairos_simulator::signals::Signals, handlers);
    memory.word(Address(
        layout::WORLD + handlers as u64 + 8 * u64::from(signal.unsigned_abs()),
    ))
}

fn inside_simulator(stopped: &Stopped) -> Result<bool, TraceeError> {
    Ok(simulator::is_inside(stopped.registers()?.rip))
}

/// From now on no entry is counted down to a stop.
fn disarm(memory: &Memory) -> Result<(), TraceeError> {
    let at = CONTROL.plus(std::mem::offset_of!(Control, arm_exchange) as u64);
    memory.write(at, &u32::MAX.to_le_bytes())?;
    counter::set(memory, 0, NEVER)
}

fn lost() -> Unfit {
    Unfit::Declined("the server is gone".to_owned())
}

/// Why the simulator cannot go on, if it cannot.
fn why_declined(memory: &Memory, control: &Control) -> Result<Option<String>, TraceeError> {
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

impl Saved {
    fn of(stopped: &Stopped) -> Result<Self, TraceeError> {
        Ok(Self {
            registers: stopped.registers()?,
            extended: stopped.extended_state()?,
            mask: stopped.signal_mask()?,
        })
    }

    fn restore(&self, stopped: &Stopped) -> Result<(), TraceeError> {
        stopped.set_extended_state(&self.extended)?;
        stopped.set_signal_mask(self.mask)?;
        stopped.set_registers(&self.registers)
    }
}

/// Runs a process that was just executed to where its own code begins.
fn run_to(tree: &mut Tree, pid: Pid, stopped: Stopped, entry: Address) -> Result<Stopped, Unfit> {
    let process = &mut tree.processes[0];
    process.breakpoints.set(&process.memory, entry)?;
    stopped.resume(tree.until, 0)?;
    loop {
        match tree.wait(pid)? {
            Some(Event::Stopped {
                stopped,
                stop: Stop::Breakpoint(_),
                ..
            }) => {
                let process = &mut tree.processes[0];
                process.breakpoints.clear(&process.memory, entry)?;
                return Ok(stopped);
            }
            Some(Event::Stopped { stopped, stop, .. }) => {
                let signal = if let Stop::Signal(signal) = stop {
                    signal
                } else {
                    0
                };
                stopped.resume(tree.until, signal)?;
            }
            Some(_) => return Err(lost()),
            None => {}
        }
    }
}

fn make_world(
    engine: &Restart,
    memory: &Memory,
    scripts: [kairos_simulator::script::Placed; 2],
) -> Result<(), Unfit> {
    let mut control = simulator::control(memory)?;
    let exchanges = |script: &crate::workload::Script| {
        u32::try_from(script.exchanges.len()).unwrap_or(u32::MAX)
    };
    control.stack = layout::STACK_TOP;
    control.session_exchanges = exchanges(&engine.script);
    control.has_probe = u32::from(engine.probe.is_some());
    control.arm_exchange = u32::MAX;
    control.arm_count = NEVER;
    control.stop_signal = signal_number(&engine.spec.stop);
    control.random = 0x6b61_6972_6f73;
    control.scripts = scripts;
    simulator::write(memory, CONTROL, &*control)?;
    let at = |offset: usize| Address(layout::WORLD + offset as u64);
    let files_at = at(std::mem::offset_of!(World, files));
    let mut files: Box<Files> = simulator::read(memory, files_at)?;
    files.umask = umask();
    files.folder = path(RUN_FOLDER)?;
    simulator::write(memory, files_at, &*files)?;
    let logs_at = at(std::mem::offset_of!(World, logs));
    let mut logs: Box<[WorldPath; MOST_LOGS]> = simulator::read(memory, logs_at)?;
    for (place, log) in logs.iter_mut().zip(&engine.spec.logs) {
        *place = path(&log_path(log))?;
    }
    simulator::write(memory, logs_at, &*logs)?;
    Ok(())
}

fn path(text: &str) -> Result<WorldPath, Unfit> {
    WorldPath::resolve(b"/", text.as_bytes()).map_err(|why| Unfit::Declined(why.0.to_owned()))
}

/// Permission bits that new files do not get: the server inherits ours.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))
        .and_then(|value| u32::from_str_radix(value.trim(), 8).ok())
        .unwrap_or(0o022)
}

/// What shows readiness.
struct Readiness {
    port: Option<u16>,
    output: Option<regex::Regex>,
}

impl Readiness {
    fn new(ready: &Ready) -> Result<Self, Unfit> {
        Ok(match ready {
            Ready::Listening(port) => Self {
                port: Some(*port),
                output: None,
            },
            Ready::Output(pattern) => Self {
                port: None,
                output: Some(
                    regex::Regex::new(&format!("(?m){pattern}"))
                        .map_err(|error| Unfit::Declined(error.to_string()))?,
                ),
            },
        })
    }

    fn is_shown(&self, memory: &Memory) -> Result<bool, TraceeError> {
        match (self.port, &self.output) {
            (Some(port), _) => super::seen::listens(memory, port),
            (_, Some(pattern)) => {
                let output = super::seen::output(memory)?;
                Ok(output.values().any(|text| pattern.is_match(text)))
            }
            _ => Ok(true),
        }
    }
}

/// A server on its way to readiness.
struct Starting<'t> {
    tree: &'t mut Tree,
    pid: Pid,
    gate: Address,
    stopped: Option<Stopped>,
}

impl Starting<'_> {
    fn bring_to_readiness(&mut self, ready: &Readiness) -> Result<(), Unfit> {
        let mut looks = 0;
        loop {
            let stopped = self.stopped.take().ok_or_else(lost)?;
            stopped.resume(self.tree.until, 0)?;
            let event = loop {
                if let Some(event) = self.tree.wait(self.pid)? {
                    break event;
                }
            };
            let Event::Stopped { stopped, stop, .. } = event else {
                return Err(Unfit::Declined(
                    "fork(2) or an end before it was ready".to_owned(),
                ));
            };
            let memory = &self.tree.processes[0].memory;
            match stop {
                Stop::Filtered => intercept::redirect(&stopped, memory, self.gate)?,
                Stop::Signal(libc::SIGTRAP) if inside_simulator(&stopped)? => {
                    let mut control = simulator::control(memory)?;
                    if let Some(why) = why_declined(memory, &control)? {
                        return Err(Unfit::Declined(why));
                    }
                    match control.reason {
                        Reason::Sealed => {
                            self.stopped = Some(stopped);
                            return Ok(());
                        }
                        Reason::Still if ready.is_shown(memory)? => {
                            control.sealed = 1;
                            simulator::write(memory, CONTROL, &*control)?;
                        }
                        Reason::Still if looks < MOST_LOOKS => looks += 1,
                        _ => {
                            return Err(Unfit::Declined("it does not become ready".to_owned()));
                        }
                    }
                }
                Stop::Signal(number) => {
                    return Err(Unfit::Declined(format!(
                        "{} before it was ready",
                        signal_name(number)
                    )));
                }
                _ => {}
            }
            self.stopped = Some(stopped);
        }
    }
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
