//! A server that lives in a simulated world: started once, brought from point to point,
//! where it stands again after each test.
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::copies::{self, ComingBack, Original};
use super::known_ends::{Counts, KnownEnds};
use super::members::{Member, Saved};
use super::run::{Played, Reached, Run, disarm, update};
use super::starting::{Readiness, Starting, make_world, run_to};
use super::{Unfit, seen};
use crate::binary::Address;
use crate::engine::names::RoleCounts;
use crate::engine::parts::{Note, Parts};
use crate::engine::restart::Restart;
use crate::engine::updater::Updater;
use crate::sandbox::run_folder::{RunFolder, read_files};
use crate::trace::RoleInstance;
use crate::tracee::counter::{self, GADGET, NEVER};
use crate::tracee::intercept::{self, Rewritten};
use crate::tracee::prepared::Prepared;
use crate::tracee::shared_world::{SharedWorld, Snapshot};
use crate::tracee::simulator;
use crate::tracee::ticks::Ticks;
use crate::tracee::tree::Tree;
use crate::tracee::write_watch;
use crate::tracee::{Stopped, TraceeError};
use crate::verdict::observation::Stall;
use crate::workload::flat::Flat;
use crate::world::Limits;
use kairos_simulator::layout;
use kairos_simulator::transcript::MOST_LOGS;
use kairos_simulator::world::{Awaited, Phase};
use nix::unistd::Pid;

/// A point's place in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The exchange.
    pub exchange: u32,
    /// The process.
    pub role: RoleInstance,
    /// The entry of that process within the exchange, from 1.
    pub index: u32,
}

/// What is known of the processes at one moment.
#[derive(Clone, Default)]
pub(super) struct Known {
    /// Notes on them, by position.
    pub notes: Vec<Note>,
    /// How many there are of each role.
    pub roles: RoleCounts,
    /// Which of them runs.
    pub running: usize,
}

/// A living server.
pub struct Live {
    /// Its processes.
    pub(super) tree: Tree,
    pub(super) members: Vec<Member>,
    /// How it comes back to where it stood.
    pub(super) coming_back: ComingBack,
    /// What a copy goes on in the place of, while one does.
    pub(super) original: Option<Original>,
    pub(super) known: Known,
    /// Where it stands; none at readiness.
    pub(super) place: Option<Place>,
    pub(super) shared: SharedWorld,
    snapshot: Snapshot,
    /// What was known at the snapshot.
    before: Known,
    pub(super) rewritten: Rewritten,
    pub(super) gate: Address,
    pub(super) leave: Address,
    pub(super) died: Address,
    flat: [Flat; 2],
    connections: [Vec<String>; 2],
    /// Files of the end state as they were before the session.
    pub(super) files: std::collections::BTreeMap<String, Vec<u8>>,
    pub(super) busy: std::time::Duration,
    /// How its tests went on from where they were.
    pub(super) ends: KnownEnds,
    /// Counts of entries of new functions, which all its processes share, and how many
    /// bytes of them are in use.
    coverage: (OwnedFd, usize),
    stop: String,
    /// Lets a wait for a server that is busy come to its end.
    _ticks: Ticks,
    _folder: RunFolder,
}

impl Drop for Live {
    fn drop(&mut self) {
        crate::sandbox::processes::end_all();
    }
}

/// The kernel refuses what it takes to come back.
pub(super) fn refused(error: TraceeError) -> Unfit {
    Unfit::Declined(error.to_string())
}

impl Live {
    pub(super) fn start(
        engine: &mut Restart,
        coming_back: ComingBack,
        folder: RunFolder,
        mut shared: SharedWorld,
        (pid, mut tree, stopped): (Pid, Tree, Stopped),
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
        let watch = (coming_back == ComingBack::PutBack)
            .then(|| write_watch::open_watch(&stopped, GADGET, pid).map_err(refused))
            .transpose()?;
        intercept::stop_other_calls(&stopped, memory, GADGET).map_err(refused)?;
        stopped.set_registers(&registers)?;
        let rewritten = engine.tools.interceptor.rewrite(pid, memory, code.gate)?;
        engine.tools.unwinder.know(rewritten.clone());
        make_world(engine, shared.world_mut(), scripts)?;
        shared.world_mut().rests.noting = code.noting.0;
        let names = |script: Option<&crate::workload::Script>| {
            script.map_or_else(Vec::new, |script| script.connections.clone())
        };
        let connections = [names(Some(&engine.script)), names(engine.probe.as_ref())];
        let wanted = |path: &str| engine.wanted_files.iter().any(|w| w.is_match(path));
        let files = read_files(&wanted);
        let readiness = &mut Readiness::new(&engine.spec.ready)?;
        let mut starting = Starting {
            tree: &mut tree,
            shared: &mut shared,
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
            let prepared = Prepared::of(patch, &tree.processes[0], &stopped, libraries)?;
            before.restore(&stopped)?;
            tree.processes[0].prepared = Some(Rc::new(prepared));
        }
        let mut first = Member::new(pid, stopped);
        copies::check(pid, coming_back)?;
        if let Some(watch) = watch {
            first.keep(&tree.processes[0], watch).map_err(refused)?;
        }
        let mut roles = crate::engine::names::RoleNames::new(&engine.spec.roles);
        let note = Note {
            role: roles.first(),
            born: 0,
            ended: None,
            updated: false,
            fault: None,
        };
        let known = Known {
            notes: vec![note],
            roles: roles.into_counts(),
            running: 0,
        };
        let mut snapshot = Snapshot::default();
        snapshot.take(&shared);
        Ok(Self {
            tree,
            members: vec![first],
            coming_back,
            original: None,
            before: known.clone(),
            known,
            place: None,
            shared,
            snapshot,
            rewritten,
            gate: code.gate,
            leave: code.leave,
            died: code.died,
            flat,
            connections,
            files,
            busy: Limits::BASELINE.busy,
            ends: KnownEnds::default(),
            coverage: seen::coverage_of(engine)?,
            stop: engine.spec.stop.clone(),
            _ticks: Ticks::start(),
            _folder: folder,
        })
    }

    /// Counts of entries of new functions as they stand.
    pub(super) fn counts(&self) -> Result<Counts, Unfit> {
        seen::read_counts(&self.coverage)
    }

    /// Forgets the entries of new functions that were counted before.
    pub(super) fn clear_counts(&self) -> Result<(), Unfit> {
        seen::clear_counts(&self.coverage)
    }

    /// Names of the connections of the session, or of its probe.
    pub(super) fn connections(&self, probe: bool) -> &[String] {
        &self.connections[usize::from(probe)]
    }

    /// Sets when a run counts as stalled.
    pub(super) fn allow(&mut self, limits: Limits) {
        self.busy = limits.busy;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let wanted = (nanos(limits.waiting), nanos(limits.stopping));
        let control = &mut self.shared.world_mut().control;
        if (control.most_idle, control.most_idle_stopping) != wanted {
            (control.most_idle, control.most_idle_stopping) = wanted;
            self.snapshot.take(&self.shared);
        }
    }

    /// Whether a place lies behind the one where the server stands.
    fn has_passed(&self, to: &Place, parts: &Parts<'_>) -> Result<bool, TraceeError> {
        let (notes, tree) = (&parts.notes, &parts.tree);
        let world = self.shared.world();
        if world.control.exchange != to.exchange || self.place.is_none() {
            return Ok(self.place.is_some() && world.control.exchange > to.exchange);
        }
        let Some(at) = notes.iter().position(|n| n.role == to.role) else {
            return Ok(false);
        };
        if !world.known()[at].lives() {
            return Ok(true);
        }
        Ok(self
            .entered(at, tree)?
            .is_some_and(|count| count >= u64::from(to.index)))
    }

    /// How many functions a living process has entered in the exchange under way; none
    /// if it has not run in it.
    fn entered(&self, at: usize, tree: &Tree) -> Result<Option<u64>, TraceeError> {
        let world = self.shared.world();
        let process = &world.known()[at];
        if process.armed_in != world.control.exchange + 1 {
            return Ok(None);
        }
        let left = counter::get(&tree.processes[at].memory, 0)?;
        Ok(Some(process.armed.wrapping_sub(left)))
    }

    /// Brings the server to a point that it has not passed. `parts` have its processes.
    pub(super) fn advance(&mut self, parts: &mut Parts<'_>, to: &Place) -> Result<(), Unfit> {
        if self.place.as_ref() == Some(to) {
            self.absorb(&mut parts.tree)?;
            return Ok(());
        }
        if self.has_passed(to, parts)? {
            return Err(Unfit::Passed);
        }
        match self.go_to(parts, to)? {
            Reached::Entry => {}
            Reached::Over => {
                return Err(Unfit::Elsewhere("the point is not reached".to_owned()));
            }
        }
        self.place = Some(to.clone());
        Ok(self.absorb(&mut parts.tree)?)
    }

    /// Lets the server go on until it reaches a point, or to the end of the run.
    fn go_to(&mut self, parts: &mut Parts<'_>, to: &Place) -> Result<Reached, Unfit> {
        let at = parts.notes.iter().position(|note| note.role == to.role);
        let exchange = self.shared.world().control.exchange;
        let now = exchange == to.exchange && self.place.is_some();
        for (process, traced) in parts.tree.processes.iter().enumerate() {
            if now && !self.members[process].gone {
                let count = if Some(process) == at {
                    to.index.into()
                } else {
                    NEVER
                };
                self.rearm(process, &traced.memory, count)?;
            }
        }
        let control = &mut self.shared.world_mut().control;
        control.arm_exchange = to.exchange;
        control.arm_process = at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX);
        control.arm_count = u64::from(to.index);
        control.stop_at_exchange_end = 0;
        let mut run = Run {
            live: self,
            target: Some(to.clone()),
            stall: None,
            survey: None,
            known: None,
        };
        run.go_on(parts, None)
    }

    /// Lets the counter of a process reach zero at its `count`th entry of the exchange
    /// under way, if it has run in it.
    fn rearm(
        &mut self,
        at: usize,
        memory: &crate::tracee::Memory,
        count: u64,
    ) -> Result<(), TraceeError> {
        let world = self.shared.world_mut();
        let exchange = world.control.exchange + 1;
        let process = &mut world.processes[at];
        if process.armed_in == exchange && process.armed != count {
            let left = counter::get(memory, 0)?;
            let entered = process.armed.wrapping_sub(left);
            process.armed = count;
            counter::set(memory, 0, count - entered)?;
        }
        Ok(())
    }

    /// What the server wrote since it was last put back belongs to this place.
    fn absorb(&mut self, tree: &mut Tree) -> Result<(), TraceeError> {
        if self.coming_back == ComingBack::PutBack {
            for (member, process) in self.members.iter_mut().zip(&tree.processes) {
                member.absorb(process)?;
            }
        }
        self.snapshot.take(&self.shared);
        Ok(())
    }

    /// Takes what is known at this place, for later to come back to.
    pub(super) fn remember(&mut self) {
        self.before = self.known.clone();
    }

    /// Puts the server back to where it stood.
    pub(super) fn go_back(&mut self, engine: &mut Restart) -> Result<(), TraceeError> {
        self.known = Known::default();
        let first = self.before.notes.len();
        for member in self.members.drain(first.min(self.members.len())..) {
            engine.tools.unwinder.forget(member.pid);
            engine.tools.libraries.forget(member.pid);
        }
        self.tree.end_from(first)?;
        match self.coming_back {
            ComingBack::PutBack => {
                for (member, process) in self.members.iter_mut().zip(&mut self.tree.processes) {
                    member.go_back(process)?;
                }
            }
            ComingBack::Copied => self.stand_back(engine)?,
        }
        self.snapshot.put_back(&mut self.shared);
        self.known = self.before.clone();
        Ok(())
    }

    /// Lets the server go on to the end of the run. `parts` have its processes.
    pub(super) fn play(
        &mut self,
        parts: &mut Parts<'_>,
        mut updater: Option<&mut Updater<'_>>,
    ) -> Result<Played, Unfit> {
        self.stand_aside(&mut parts.tree)?;
        let running = self.known.running;
        let mut signal = 0;
        if let Some(updater) = &mut updater {
            let stopped = self.members[running].stopped.take().ok_or_else(lost)?;
            signal = update(parts, self, updater, running, &stopped)?;
            self.members[running].stopped = Some(stopped);
        } else {
            disarm(&mut self.shared, &parts.tree.processes[running].memory)?;
        }
        let mut run = Run {
            live: self,
            target: None,
            stall: None,
            survey: None,
            known: None,
        };
        let from = run.live.shared.world().control.exchange;
        run.go_on_with(parts, updater, signal)?;
        let stall = run.stall.take();
        let known = run.known.take();
        if known.is_none() {
            let exchange = self.shared.world().control.exchange;
            self.ends.played(exchange.saturating_sub(from));
        }
        let stall = stall.or_else(|| self.stall());
        Ok(Played {
            stall,
            notes: parts.notes.clone(),
            known,
        })
    }

    /// The stall that ended a run.
    fn stall(&self) -> Option<Stall> {
        let control = &self.shared.world().control;
        let waiting_for = match control.stalled {
            Awaited::Nothing => return None,
            Awaited::Stopping => format!("the server to stop after {}", self.stop),
            awaited => self.describe(awaited, control.stalled_connection),
        };
        Some(Stall {
            exchange: control.exchange,
            waiting_for,
            busy: false,
        })
    }

    fn describe(&self, awaited: Awaited, connection: u32) -> String {
        let control = &self.shared.world().control;
        let probe = control.exchange >= control.session_exchanges;
        let names = self.connections(probe);
        let at = usize::try_from(connection).unwrap_or(0);
        let name = names.get(at).map_or("?", String::as_str);
        match awaited {
            Awaited::Reply => format!("a reply on {name}"),
            Awaited::Reading => format!("the server to read from {name}"),
            _ => "the server to come to rest".to_owned(),
        }
    }

    /// What the client waits for while the server burns processor time.
    pub(super) fn busy_stall(&self) -> Stall {
        use kairos_simulator::script::Kind;
        let world = self.shared.world();
        let probe = world.control.phase == Phase::Probe;
        let script = self.flat[usize::from(probe)].script();
        let step = world.client.action(&script);
        let waiting_for = if world.control.phase == Phase::Stop {
            format!("the server to stop after {}", self.stop)
        } else {
            let awaited = match step.map(|step| step.kind) {
                Some(Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd) => {
                    Awaited::Reply
                }
                Some(Kind::Send) => Awaited::Reading,
                _ => Awaited::Rest,
            };
            self.describe(awaited, step.map_or(0, |step| step.connection))
        };
        Stall {
            exchange: world.control.exchange,
            waiting_for,
            busy: true,
        }
    }
}

pub(super) fn lost() -> Unfit {
    Unfit::Declined("the server is gone".to_owned())
}

const _: () = assert!(layout::NEVER == NEVER);
