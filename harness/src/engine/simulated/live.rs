//! A server that lives in a simulated world: started once, brought from point to point,
//! and put back after each test.
use super::Unfit;
use super::run::{Played, Run, disarm, handler, update, why_declined};
use super::starting::{Readiness, Starting, make_world, run_to};
use crate::binary::Address;
use crate::engine::parts::Parts;
use crate::engine::restart::Restart;
use crate::engine::updater::Updater;
use crate::sandbox::run_folder::{RunFolder, read_files};
use crate::tracee::apply::place_image;
use crate::tracee::counter::{self, GADGET, NEVER};
use crate::tracee::intercept::{self, Rewritten};
use crate::tracee::simulator::{self, CONTROL};
use crate::tracee::tree::{Event, Stop, Tree, signal_name};
use crate::tracee::written::{self, Written};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::verdict::observation::{Ending, Stall};
use crate::workload::flat::Flat;
use crate::world::Limits;
use kairos_simulator::client::Client;
use kairos_simulator::layout;
use kairos_simulator::transcript::MOST_LOGS;
use kairos_simulator::world::{Awaited, Control, Phase, World};
use nix::unistd::Pid;

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

/// A living server.
pub struct Live {
    /// Its process.
    pub(super) tree: Tree,
    pub(super) pid: Pid,
    /// Where it stands; none at readiness.
    pub(super) place: Option<Place>,
    /// The thread, whenever it is stopped.
    stopped: Option<Stopped>,
    saved: Saved,
    pub(super) written: Written,
    pub(super) rewritten: Rewritten,
    pub(super) gate: Address,
    pub(super) leave: Address,
    pub(super) died: Address,
    flat: [Flat; 2],
    connections: [Vec<String>; 2],
    /// Files of the end state as they were before the session.
    pub(super) files: std::collections::BTreeMap<String, Vec<u8>>,
    /// When a run counts as stalled, if the simulator knows it.
    pub(super) allowed: Option<Limits>,
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
            allowed: None,
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

    /// Processor time without progress after which a run counts as stalled.
    pub(super) fn busy(&self) -> std::time::Duration {
        self.allowed.unwrap_or(Limits::BASELINE).busy
    }

    /// Sets when a run counts as stalled.
    pub(super) fn allow(&mut self, limits: Limits) -> Result<(), TraceeError> {
        if self.allowed == Some(limits) {
            return Ok(());
        }
        self.allowed = Some(limits);
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let mut control = simulator::control(self.memory())?;
        control.most_idle = nanos(limits.waiting);
        control.most_idle_stopping = nanos(limits.stopping);
        simulator::write(self.memory(), CONTROL, &*control)
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
        simulator::arm(memory, to.exchange, u64::from(to.index))?;
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
                        let handled = handler(self.memory(), signal)? > 1;
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
        if self.place.is_none() {
            // Nothing was taken into the baseline since they were set.
            self.allowed = None;
        }
        Ok(())
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
            at_exchange_end: false,
        };
        let mut signal = 0;
        if let Some(updater) = &mut updater {
            signal = update(parts, updater, &stopped)?;
            run.follow(&parts.tree.processes[0].memory, updater)?;
        } else {
            let memory = &parts.tree.processes[0].memory;
            disarm(memory)?;
        }
        stopped.resume(parts.tree.until, signal)?;
        let (control, stopped) = run.go_on(parts, updater)?;
        let (ending, stall) = (run.ending, run.stall);
        self.stopped = Some(stopped);
        let stall = stall.or_else(|| self.stall(&control));
        let note = parts.notes[0].clone();
        Ok(Played {
            ending: ending.or_else(|| {
                (control.exited != 0 && control.dead != 0).then_some(Ending::Exited(control.status))
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
    pub(super) fn busy_stall(
        &self,
        memory: &Memory,
        control: &mut Control,
    ) -> Result<Stall, TraceeError> {
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

pub(super) fn lost() -> Unfit {
    Unfit::Declined("the server is gone".to_owned())
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
