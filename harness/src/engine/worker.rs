//! The worker process: enters the sandbox once, then runs what it is asked to.

use std::cell::RefCell;
use std::io::{BufRead, Write};

use super::PointRequest;
use super::baseline::{baseline, time, trace};
use super::gdb;
use super::handover::{Held, PATIENCE};
use super::kept::{self, Kept};
use super::protocol::{Reply, Request};
use super::restart::{Mode, Restart};
use super::server::Server;
use super::spec::{SessionSpec, Which};
use super::stepper::stepped;
use super::updater::{AtPoint, Search, Updater};
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
    let mut engine = match prepared {
        Ok(engine) => engine,
        Err(message) => return say(output, &Reply::Failed(message)),
    };
    say(output, &Reply::Ready)?;
    let mut limits = engine.spec().limits;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_str(&line) {
            Err(error) => Reply::Failed(error.to_string()),
            Ok(Request::Limits(new)) => {
                limits = new;
                Reply::Ready
            }
            Ok(Request::Baseline { version, followed }) => {
                reply(baseline(&mut engine, version, followed), Reply::Baseline)
            }
            Ok(Request::Gdb(point)) => {
                reply(gdb::test(&mut engine, limits, &point), Reply::Observed)
            }
            Ok(Request::Spy { point }) => match spy(&mut engine, &point) {
                Ok(accesses) => Reply::Spied(accesses),
                Err(error) => Reply::Failed(error.to_string()),
            },
            Ok(Request::Step(wanted)) => reply(stepped(&mut engine, &wanted), Reply::Stepped),
            Ok(Request::Time) => reply(time(&mut engine), Reply::Timed),
            Ok(Request::Trace) => reply(trace(&mut engine), Reply::Traced),
            Ok(Request::Test { point, apply }) => reply(
                test(&mut engine, &tested(limits), &point, at_point(apply)),
                Reply::Observed,
            ),
            Ok(Request::Keep { point, apply }) => reply(
                keep(&mut engine, &tested(limits), &point, at_point(apply)),
                Reply::Kept,
            ),
            Ok(Request::Hold { point, apply }) => {
                let held = &mut |held| {
                    let _ = say(output, &Reply::Held(held));
                };
                reply(
                    hold(&mut engine, &point, at_point(apply), held),
                    Reply::Observed,
                )
            }
        };
        say(output, &reply)?;
    }
}

fn reply<T>(result: Result<T, HostError>, wrap: fn(Box<T>) -> Reply) -> Reply {
    match result {
        Ok(value) => wrap(Box::new(value)),
        Err(error) => Reply::Failed(error.to_string()),
    }
}

fn say(output: &mut dyn Write, reply: &Reply) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, reply)?;
    output.write_all(b"\n")?;
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

fn tested(limits: Limits) -> Mode {
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

/// Runs one update test: first by the point's index, then by its stack.
///
/// # Errors
/// When the harness or the machine fails.
pub fn test(
    engine: &mut Restart,
    mode: &Mode,
    point: &PointRequest,
    at_point: AtPoint,
) -> Result<Observation, HostError> {
    tries(point, at_point, None, &mut |updater| {
        Ok(engine.run(mode, updater, &mut |_| {})?.observation)
    })
}

/// Runs one update test and tells what its transformer read and wrote; none if the
/// update was not applied, or the transformer did not come to its end.
fn spy(engine: &mut Restart, point: &PointRequest) -> Result<Option<Vec<Access>>, HostError> {
    engine.tools.spy = Some(RefCell::default());
    let seen = test(engine, &tested(Limits::BASELINE), point, AtPoint::Apply);
    let accesses = engine.tools.spy.take().map(RefCell::into_inner);
    let applied = matches!(seen?.update, Update::Applied { .. });
    Ok(accesses.filter(|_| applied))
}

/// Runs one update test and reads the files that it leaves.
fn keep(
    engine: &mut Restart,
    mode: &Mode,
    point: &PointRequest,
    at_point: AtPoint,
) -> Result<Kept, HostError> {
    let mut files = Vec::new();
    let observation = tries(point, at_point, None, &mut |updater| {
        let finish = &mut |_: &Server<'_>| files = kept::collect();
        Ok(engine.run(mode, updater, finish)?.observation)
    })?;
    Ok(Kept { observation, files })
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
        let run = engine.run(&tested(PATIENCE), updater, &mut |_| {})?;
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
