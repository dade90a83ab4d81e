//! From a program that was just executed to a server that is ready, in a world made
//! for it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Unfit;
use super::live::lost;
use super::run::{inside_simulator, why_declined};
use crate::binary::Address;
use crate::engine::restart::Restart;
use crate::engine::server::log_path;
use crate::engine::spec::Ready;
use crate::engine::watch::Watcher;
use crate::sandbox::root::RUN_FOLDER;
use crate::tracee::Stopped;
use crate::tracee::counter::{Instrument, NEVER};
use crate::tracee::intercept::{self};
use crate::tracee::shared_world::SharedWorld;
use crate::tracee::tree::{Event, Stop, Tree, signal_name};
use crate::workload::flat::signal_number;
use kairos_simulator::cache::Path as WorldPath;
use kairos_simulator::world::{Reason, World};
use nix::unistd::Pid;

/// Stands still before it is ready after which the server counts as never ready.
const MOST_LOOKS: u32 = 1000;

/// What the server starts with: counted entries, nothing else.
pub(super) struct Counting;

impl Watcher for Counting {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }
}

/// Runs a process that was just executed to where its own code begins.
pub(super) fn run_to(
    tree: &mut Tree,
    pid: Pid,
    stopped: Stopped,
    entry: Address,
) -> Result<Stopped, Unfit> {
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

pub(super) fn make_world(
    engine: &Restart,
    world: &mut World,
    scripts: [kairos_simulator::script::Placed; 2],
) -> Result<(), Unfit> {
    let control = &mut world.control;
    let exchanges = engine.script.exchanges.len();
    control.session_exchanges = u32::try_from(exchanges).unwrap_or(u32::MAX);
    control.has_probe = u32::from(engine.probe.is_some());
    control.arm_exchange = u32::MAX;
    control.arm_count = NEVER;
    control.stop_signal = signal_number(&engine.spec.stop);
    control.random = 0x6b61_6972_6f73;
    control.scripts = scripts;
    // Files of the run folder were written just now, and may tell so.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    control.epoch = now.map_or(0, |now| now.as_secs() + 1);
    let first = &mut world.processes[0];
    first.umask = umask();
    first.folder = path(RUN_FOLDER)?;
    for (place, log) in world.logs.iter_mut().zip(&engine.spec.logs) {
        *place = path(&log_path(log))?;
    }
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
pub(super) struct Readiness {
    port: Option<u16>,
    output: Option<regex::Regex>,
}

impl Readiness {
    pub(super) fn new(ready: &Ready) -> Result<Self, Unfit> {
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

    fn is_shown(&self, shared: &SharedWorld) -> bool {
        match (self.port, &self.output) {
            (Some(port), _) => shared.world().network.listener(port).is_some(),
            (_, Some(pattern)) => {
                let output = super::seen::output(shared);
                output.values().any(|text| pattern.is_match(text))
            }
            _ => true,
        }
    }
}

/// A server on its way to readiness.
pub(super) struct Starting<'t> {
    pub tree: &'t mut Tree,
    pub shared: &'t mut SharedWorld,
    pub pid: Pid,
    pub gate: Address,
    pub stopped: Option<Stopped>,
}

impl Starting<'_> {
    pub(super) fn bring_to_readiness(&mut self, ready: &Readiness) -> Result<(), Unfit> {
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
                    if let Some(why) = why_declined(memory, self.shared.world())? {
                        return Err(Unfit::Declined(why));
                    }
                    match self.shared.world().control.reason {
                        Reason::Sealed => {
                            self.stopped = Some(stopped);
                            return Ok(());
                        }
                        Reason::Still if ready.is_shown(self.shared) => {
                            self.shared.world_mut().control.sealed = 1;
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
