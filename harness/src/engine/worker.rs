//! The worker process: enters the sandbox once, then runs what it is asked to.

use std::cell::RefCell;
use std::io::{BufRead, Write};

use super::baseline::{baseline, time, trace};
use super::burden::Burden;
use super::fork_server::ForkServer;
use super::fork_server::unfit::NoCopy;
use super::gdb;
use super::handover::{Held, PATIENCE};
use super::kept::{self, Kept};
use super::protocol::{Reply, Request};
use super::restart::{Mode, Restart, Run};
use super::server::Server;
use super::shortened::Last;
use super::simulated::{self, ComingBack, Simulation};
use super::spec::{SessionSpec, Which};
use super::stepper::stepped;
use super::updater::{AtPoint, Search, Updater};
use super::{EngineKind, PointRequest, Tested};
use crate::sandbox::root::{self, Mounted};
use crate::sandbox::{descriptors, namespaces};
use crate::tracee::access::Access;
use crate::tracee::spawn::Tracing;
use crate::verdict::Observation;
use crate::verdict::observation::Update;
use crate::workload::Script;
use crate::world::{HostError, Limits};

/// Tries to find a point again before it counts as not reached.
const MOST_TRIES: u32 = 3;

/// Serves requests from `input` until it ends. The first line is the session's
/// specification.
///
/// # Errors
/// When input or output breaks; everything else is reported in replies.
pub fn serve(input: &mut dyn BufRead, output: &mut dyn Write) -> std::io::Result<()> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    let prepared = serde_json::from_str::<SessionSpec>(&line)
        .map_err(|e| e.to_string())
        .and_then(|spec| prepare(spec).map_err(|e| e.to_string()));
    let mut worker = match prepared {
        Ok(engine) => Worker {
            limits: engine.spec().limits,
            engine,
            forks: ForkServer::default(),
            simulation: Simulation::default(),
            kind: EngineKind::Restart,
            last: Last::default(),
        },
        Err(message) => return say(output, &Reply::Failed(message)),
    };
    say(output, &Reply::Ready)?;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str(&line) {
            Err(error) => Reply::Failed(error.to_string()),
            Ok(request) => worker.answer(request, output),
        };
        say(output, &reply)?;
    }
}

/// The engines of one session.
struct Worker {
    engine: Restart,
    forks: ForkServer,
    simulation: Simulation,
    /// Which of them runs tests.
    kind: EngineKind,
    limits: Limits,
    /// What its last test showed, as the coordinator knows it.
    last: Last,
}

impl Worker {
    fn answer(&mut self, request: Request, output: &mut dyn Write) -> Reply {
        let keeps = matches!(
            request,
            Request::Test { .. } | Request::Keep { .. } | Request::Burden
        );
        if !keeps {
            // Only tests are run on copies, and in a simulated world.
            self.forget();
        }
        let engine = &mut self.engine;
        match request {
            Request::Burden => Reply::Burden(Burden::own()),
            Request::Limits(limits) => {
                self.limits = limits;
                Reply::Ready
            }
            Request::Use(kind) => self.use_engine(kind),
            Request::Baseline { version, followed } => {
                reply(baseline(engine, version, followed), Reply::Baseline)
            }
            Request::Gdb(point) => reply(gdb::test(engine, self.limits, &point), Reply::Observed),
            Request::Time => reply(time(engine), Reply::Timed),
            Request::Trace => reply(trace(engine), Reply::Traced),
            Request::Order(points) => Reply::Ordered(self.simulation.order(&points)),
            Request::Test { point, apply } => match self.tested(&point, at_point(apply)) {
                Ok(tested) => Reply::Tested(Box::new(self.last.shorten(tested))),
                Err(error) => Reply::Failed(error.to_string()),
            },
            Request::Spy { point } => match self.spy(&point) {
                Ok(accesses) => Reply::Spied(accesses),
                Err(error) => Reply::Failed(error.to_string()),
            },
            Request::Step(wanted) => reply(stepped(engine, &wanted), Reply::Stepped),
            Request::Keep { point, apply } => {
                reply(self.keep(&point, at_point(apply)), Reply::Kept)
            }
            Request::Hold { point, apply } => {
                let held = &mut |held| {
                    let _ = say(output, &Reply::Held(held));
                };
                reply(hold(engine, &point, at_point(apply), held), Reply::Observed)
            }
        }
    }

    /// An engine is in use only once it has shown that it can be.
    fn use_engine(&mut self, kind: EngineKind) -> Reply {
        self.kind = EngineKind::Restart;
        let unfit = match kind {
            EngineKind::Restart => None,
            EngineKind::ForkServer => {
                let mode = mode_of_tests(self.limits);
                match self.forks.prepare(&mut self.engine, &mode) {
                    Ok(_) => None,
                    Err(NoCopy::Unfit(unfit)) => Some(unfit.to_string()),
                    Err(NoCopy::Host(error)) => return Reply::Failed(error.to_string()),
                }
            }
            EngineKind::ForkSnapshot | EngineKind::Rollback => {
                let coming_back = ComingBack::of(kind).unwrap_or_default();
                match self.simulation.prepare(&mut self.engine, coming_back) {
                    Ok(()) => None,
                    Err(simulated::Unfit::Host(error)) => return Reply::Failed(error.to_string()),
                    Err(unfit) => Some(unfit.to_string()),
                }
            }
        };
        match unfit {
            None => {
                self.kind = kind;
                Reply::Ready
            }
            Some(why) => Reply::Unfit(why),
        }
    }

    /// Lets go of servers that wait for tests: another one is about to start.
    fn forget(&mut self) {
        self.forks.forget();
        self.simulation.forget();
    }

    /// Runs one update test by the engine in use, or by restart where that cannot.
    fn tested(&mut self, point: &PointRequest, at_point: AtPoint) -> Result<Tested, HostError> {
        let mut instead = None;
        if ComingBack::of(self.kind).is_some() {
            let (engine, limits) = (&mut self.engine, self.limits);
            match self.simulation.test(engine, limits, point, at_point) {
                Ok(rolled) => {
                    return Ok(Tested {
                        observation: rolled.observation,
                        engine: self.kind,
                        instead,
                        known_from: rolled.known_from,
                        doubt: rolled.doubt,
                        spent: rolled.spent,
                    });
                }
                Err(simulated::Unfit::Host(error)) => return Err(error),
                // New code may do what is not simulated.
                Err(unfit) => instead = Some(unfit.to_string()),
            }
        }
        let tested = self.test(point, at_point, &mut |_| {})?;
        Ok(Tested { instead, ..tested })
    }

    /// Runs one update test on a server of its own: first by the point's index, then
    /// by its stack.
    fn test(
        &mut self,
        point: &PointRequest,
        at_point: AtPoint,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Tested, HostError> {
        let mut by = (EngineKind::Restart, Vec::new());
        let observation = tries(point, at_point, None, &mut |updater| {
            let (run, engine) = self.run(updater, finish)?;
            by = (engine, run.spent);
            Ok(run.observation)
        })?;
        Ok(Tested {
            observation,
            engine: by.0,
            instead: None,
            known_from: None,
            doubt: None,
            spent: by.1,
        })
    }

    fn run(
        &mut self,
        updater: &mut Updater<'_>,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<(Run, EngineKind), HostError> {
        let mode = mode_of_tests(self.limits);
        if self.kind == EngineKind::ForkServer {
            match self.forks.run(&mut self.engine, &mode, updater, finish) {
                Ok(run) => return Ok((run, EngineKind::ForkServer)),
                Err(NoCopy::Host(error)) => return Err(error),
                // It was fit when it was chosen: this start went another way.
                Err(NoCopy::Unfit(_)) => {}
            }
        }
        self.forget();
        let run = self.engine.run(&mode, updater, finish)?;
        Ok((run, EngineKind::Restart))
    }

    /// Runs one update test on a new server and tells what its transformer read and
    /// wrote; none if the update was not applied, or the transformer did not come to
    /// its end.
    fn spy(&mut self, point: &PointRequest) -> Result<Option<Vec<Access>>, HostError> {
        self.kind = EngineKind::Restart;
        self.engine.tools.spy = Some(RefCell::default());
        // A transformer that is stepped takes its time.
        let limits = std::mem::replace(&mut self.limits, Limits::BASELINE);
        let tested = self.test(point, AtPoint::Apply, &mut |_| {});
        self.limits = limits;
        let accesses = self.engine.tools.spy.take().map(RefCell::into_inner);
        let applied = matches!(tested?.observation.update, Update::Applied { .. });
        Ok(accesses.filter(|_| applied))
    }

    /// Runs one update test and reads the files that it leaves.
    fn keep(&mut self, point: &PointRequest, at_point: AtPoint) -> Result<Kept, HostError> {
        let mut files = Vec::new();
        let tested = self.test(point, at_point, &mut |_| files = kept::collect())?;
        Ok(Kept {
            observation: tested.observation,
            files,
        })
    }
}

fn reply<T>(result: Result<T, HostError>, wrap: fn(Box<T>) -> Reply) -> Reply {
    match result {
        Ok(value) => wrap(Box::new(value)),
        Err(error) => Reply::Failed(error.to_string()),
    }
}

fn say(output: &mut dyn Write, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// Reads what must be read from the machine, then leaves it for the sandbox.
fn prepare(mut spec: SessionSpec) -> Result<Restart, Box<dyn std::error::Error>> {
    if let Some(patch) = &mut spec.patch {
        patch.image = std::mem::take(&mut spec.image);
    }
    let script = Script::read(&spec.workload, &spec.ports)?;
    let probe = spec
        .probe
        .as_ref()
        .map(|path| Script::read(path, &spec.ports))
        .transpose()?;
    enter(spec, script, probe)
}

/// Leaves the machine for the sandbox of a session; everything that is read from
/// the machine must have been read.
///
/// # Errors
/// When the machine refuses something or a rule of the subject cannot be used.
pub fn enter(
    spec: SessionSpec,
    script: Script,
    probe: Option<Script>,
) -> Result<Restart, Box<dyn std::error::Error>> {
    descriptors::raise_limit();
    namespaces::pin_to(spec.processor)?;
    namespaces::enter(spec.identity)?;
    let builds: Vec<Mounted> = [Which::Old, Which::New]
        .into_iter()
        .map(|which| Mounted {
            outside: spec.version(which).tree.clone(),
            inside: SessionSpec::inside(which).to_owned(),
        })
        .collect();
    let root = root::enter(spec.identity, &spec.users, &builds)?;
    Ok(Restart::new(spec, root, script, probe)?)
}

fn mode_of_tests(limits: Limits) -> Mode {
    Mode {
        version: Which::Old,
        tracing: Tracing::Seized,
        limits,
    }
}

fn at_point(apply: bool) -> AtPoint {
    if apply {
        AtPoint::Apply
    } else {
        AtPoint::Nothing
    }
}

/// Runs one update test up to the update, and says `held` once the server is left
/// to a debugger; the session goes on for as long as that takes.
fn hold(
    engine: &mut Restart,
    point: &PointRequest,
    at_point: AtPoint,
    held: &mut dyn FnMut(Held),
) -> Result<Observation, HostError> {
    let run = &mut |updater: &mut Updater<'_>| {
        let run = engine.run(&mode_of_tests(PATIENCE), updater, &mut |_| {})?;
        Ok(run.observation)
    };
    tries(point, at_point, Some(held), run)
}

/// Seeks a point until it is found: first by its index, then by its stack.
fn tries(
    point: &PointRequest,
    at_point: AtPoint,
    mut announce: Option<&mut dyn FnMut(Held)>,
    run: &mut dyn FnMut(&mut Updater<'_>) -> Result<Observation, HostError>,
) -> Result<Observation, HostError> {
    let mut tries = 1;
    loop {
        let search = if tries == 1 {
            Search::Index
        } else {
            Search::Stack
        };
        let mut updater = Updater::new(point, search, at_point, tries);
        if let Some(announce) = &mut announce {
            updater.announce = Some(&mut **announce);
        }
        let observation = run(&mut updater)?;
        let missed = matches!(updater.update, Update::NotReached { .. });
        if missed && tries < MOST_TRIES {
            tries += 1;
            continue;
        }
        return Ok(Observation {
            update: updater.update,
            old_frame_exchanges: updater.old_frame_exchanges,
            ..observation
        });
    }
}
