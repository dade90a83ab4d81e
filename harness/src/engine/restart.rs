//! The restart engine: a new server for each run. It serves every subject, and is
//! the oracle for faster engines.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ftruncate;

use super::lifecycle::{Started, stop, wait_until_ready};
use super::names::FunctionNames;
use super::parts::Tools;
use super::server::{Frame, Server, log_path};
use super::spec::{SessionSpec, Which};
use super::updater::image_length;
use super::watch::Watcher;
use crate::binary::Address;
use crate::sandbox::root::{RUN_FOLDER, Root};
use crate::sandbox::run_folder::{RunFolder, read_files};
use crate::sandbox::{SandboxError, processes};
use crate::tracee::apply::coverage;
use crate::tracee::counter::Instrument;
use crate::tracee::spawn::{Descriptors, Program, SHARED_DESCRIPTOR, Tracing, start};
use crate::tracee::stamps::Stamp;
use crate::tracee::stopped::Until;
use crate::tracee::tree::Tree;
use crate::tracee::{Memory, Stopped, counter, stamps};
use crate::verdict::Observation;
use crate::verdict::observation::{Ending, SeenExchange, SeenProcess, Update};
use crate::workload::{Normaliser, Script};
use crate::world::{HostError, Limits, Played, play};

/// Process number before the subject's first, so that numbers repeat.
pub(super) const LAST_PID: u32 = 99;
/// End-state files longer than this are compared by their hash.
const LONGEST_FILE: usize = 4096;

/// Runs servers, one after the other, inside the sandbox it was made in.
pub struct Restart {
    pub(super) spec: SessionSpec,
    pub(super) root: Root,
    pub(super) script: Script,
    pub(super) probe: Option<Script>,
    pub(super) normaliser: Normaliser,
    pub(super) wanted_files: Vec<regex::Regex>,
    pub(super) names: FunctionNames,
    pads: Vec<Address>,
    pub(super) tools: Tools,
    pub(super) reports: SignalFd,
    pub(super) coverage: OwnedFd,
    stamps: File,
}

/// How a run is traced and limited.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Which version's program is started.
    pub version: Which,
    /// Whether ptrace follows it.
    pub tracing: Tracing,
    /// When it counts as stalled.
    pub limits: Limits,
}

/// What a run showed, and its longest pauses.
pub struct Run {
    /// The observation; its update is [`Update::None`] until the caller fills it in.
    pub observation: Observation,
    /// The longest pauses of session, probe and stop.
    pub longest: Limits,
}

impl Restart {
    /// Prepares runs of a session; the caller is process 1 of the sandbox.
    ///
    /// # Errors
    /// When a rule of the subject cannot be used or the machine refuses something.
    pub fn new(
        spec: SessionSpec,
        root: Root,
        script: Script,
        probe: Option<Script>,
    ) -> Result<Self, HostError> {
        let rules = spec
            .volatile
            .iter()
            .map(|(pattern, replace)| (pattern.as_str(), replace.as_str()));
        let normaliser = Normaliser::new(rules).map_err(|e| HostError::NotReady(e.to_string()))?;
        let wanted_files = spec
            .state_files
            .iter()
            .map(|pattern| glob(pattern))
            .collect::<Result<_, _>>()
            .map_err(|e: regex::Error| HostError::NotReady(e.to_string()))?;
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        let system = |operation| move |errno| HostError::System { operation, errno };
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None).map_err(system("sigprocmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let reports = SignalFd::with_flags(&signals, flags).map_err(system("signalfd"))?;
        let coverage = memfd_create("kairos-coverage", MFdFlags::MFD_CLOEXEC)
            .map_err(system("memfd_create"))?;
        let stamps =
            memfd_create("kairos-stamps", MFdFlags::MFD_CLOEXEC).map_err(system("memfd_create"))?;
        Ok(Self {
            stamps: File::from(stamps),
            names: FunctionNames::new(&spec.functions, spec.patch.as_ref()),
            pads: spec
                .functions
                .iter()
                .filter(|function| function.pad)
                .map(|function| function.entry)
                .collect(),
            tools: Tools::default(),
            spec,
            root,
            script,
            probe,
            normaliser,
            wanted_files,
            reports,
            coverage,
        })
    }

    /// Makes room for the stamps of the next run.
    ///
    /// # Errors
    /// When the machine has no memory for them.
    pub fn clear_stamps(&self) -> Result<(), HostError> {
        stamps::clear(&self.stamps).map_err(stamps_failed)
    }

    /// The stamps that the last run made.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn stamps(&self) -> Result<Vec<Stamp>, HostError> {
        stamps::read(&self.stamps, counter::CALL_LENGTH).map_err(stamps_failed)
    }

    /// The session's specification.
    #[must_use]
    pub fn spec(&self) -> &SessionSpec {
        &self.spec
    }

    /// The session script.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The probe session's script.
    #[must_use]
    pub fn probe(&self) -> Option<&Script> {
        self.probe.as_ref()
    }

    /// Runs the session once. `finish` sees the server when session, probe and
    /// stop are over, before everything is taken away.
    ///
    /// # Errors
    /// When the harness or the machine fails, or the server never becomes ready.
    pub fn run(
        &mut self,
        mode: &Mode,
        watcher: &mut dyn Watcher,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Run, HostError> {
        let begun = Instant::now();
        self.tools.activities.forget();
        self.tools.unwinder.forget_processes();
        self.tools.libraries.forget_processes();
        self.root.set_last_pid(LAST_PID)?;
        clear(&self.coverage)?;
        let folder =
            RunFolder::create(&self.spec.entries, &self.spec.program_inside(mode.version))?;
        let result = self.run_in_folder(mode, watcher, finish);
        processes::end_all();
        drop(folder);
        let mut run = result?;
        if let Some(patch) = &self.spec.patch {
            run.observation.new_entries = coverage(patch, &read_counts(&self.coverage));
        }
        run.observation.wall_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Ok(run)
    }

    fn run_in_folder(
        &mut self,
        mode: &Mode,
        watcher: &mut dyn Watcher,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Run, HostError> {
        let (root, tree) = self.start(mode, watcher)?;
        let session_exchanges = u32::try_from(self.script.exchanges.len()).unwrap_or(u32::MAX);
        let frame = Frame {
            normaliser: &self.normaliser,
            reports: &self.reports,
            session_exchanges,
        };
        let mut server = Server::new(
            &self.spec,
            &self.names,
            &mut self.tools,
            watcher,
            &frame,
            root,
            tree,
        );
        let mut local_ports = 0;
        let mut played = match wait_until_ready(&mut server, &self.spec.ready, &mode.limits)? {
            Started::Ready(pause) => {
                server.ready()?;
                let mut played =
                    play(&self.script, &mut server, &mode.limits, 0, &mut local_ports)?;
                if self.spec.startup {
                    played.longest = played.longest.longest(pause);
                }
                played
            }
            Started::Failed(_, stall) if server.watcher.has_updated() => Played {
                exchanges: Vec::new(),
                stall,
                longest: mode.limits,
            },
            Started::Failed(what, _) => return Err(HostError::NotReady(what)),
        };
        // A server that never was ready has no session to be probed after.
        let was_ready = server.parts.ready;
        if let (Some(probe), None, true) = (&self.probe, &played.stall, was_ready) {
            let probed = play(
                probe,
                &mut server,
                &mode.limits,
                session_exchanges,
                &mut local_ports,
            )?;
            played = both(played, probed, self.script.exchanges.len());
        }
        if played.stall.is_none() {
            let (stall, pause) = stop(&mut server, &self.spec, &mode.limits)?;
            played.stall = stall;
            played.longest = played.longest.longest(pause);
            server.stopped_logs();
        }
        finish(&server);
        let wanted = |path: &str| self.wanted_files.iter().any(|w| w.is_match(path));
        let files = read_files(&wanted)
            .into_iter()
            .map(|(path, content)| (path, summarise(&self.normaliser, &content)))
            .collect();
        Ok(Run {
            longest: played.longest,
            observation: Observation {
                update: Update::None,
                exchanges: exchanges(&self.normaliser, &played, &server.logs),
                session_exchanges,
                processes: seen_processes(&server),
                files,
                stall: played.stall,
                new_entries: BTreeMap::new(),
                old_frame_exchanges: std::collections::BTreeSet::new(),
                wall_us: 0,
                output: last_output(),
            },
        })
    }

    pub(super) fn start(
        &mut self,
        mode: &Mode,
        watcher: &dyn Watcher,
    ) -> Result<(nix::unistd::Pid, Option<Tree>), HostError> {
        let (root, traced) = self.start_stopped(mode, watcher)?;
        let Some((tree, stopped)) = traced else {
            return Ok((root, None));
        };
        stopped.resume(tree.until, 0)?;
        Ok((root, Some(tree)))
    }

    /// Starts the server; a traced one stands at its first instruction.
    pub(super) fn start_stopped(
        &mut self,
        mode: &Mode,
        watcher: &dyn Watcher,
    ) -> Result<(nix::unistd::Pid, Option<(Tree, Stopped)>), HostError> {
        let open = |path: &str, write: bool| -> Result<File, HostError> {
            let mut options = File::options();
            if write {
                options.append(true).create(true)
            } else {
                options.read(true)
            };
            if write {
                // A fresh file: the last run's descriptors must not share it.
                let _ = std::fs::remove_file(path);
            }
            Ok(options
                .open(path)
                .map_err(SandboxError::file("open", path))?)
        };
        let input = open("/dev/null", false)?;
        let output = open("/kairos/stdout", true)?;
        let error = open("/kairos/stderr", true)?;
        let instrument = watcher
            .instrument()
            .filter(|_| mode.tracing == Tracing::Seized);
        let program = Program {
            arguments: &self.spec.command,
            environment: &self.spec.environment,
            directory: Path::new(RUN_FOLDER),
        };
        let descriptors = Descriptors {
            input: input.as_fd(),
            output: output.as_fd(),
            error: error.as_fd(),
            shared: instrument.map(|instrument| match instrument {
                Instrument::Count => self.coverage.as_fd(),
                Instrument::Stamp => self.stamps.as_fd(),
            }),
        };
        let root = start(&program, &descriptors, mode.tracing)?;
        if mode.tracing == Tracing::None {
            return Ok((root, None));
        }
        let until = if watcher.sees_system_calls() {
            Until::SystemCall
        } else {
            Until::Event
        };
        let (mut tree, stopped) = Tree::start(root, &self.spec.command[0], until)?;
        fix_random_bytes(root, &tree.processes[0].memory)?;
        if let Some(instrument) = instrument {
            let memory = &tree.processes[0].memory;
            counter::install(
                &stopped,
                memory,
                &self.pads,
                image_length(&self.spec),
                instrument,
                SHARED_DESCRIPTOR,
            )?;
            counter::adopt(&stopped, memory, 0, 0, watcher.starting_count(&self.spec))?;
            tree.processes[0].counted = true;
        }
        Ok((root, Some((tree, stopped))))
    }
}

/// The end of what the server printed, bounded: thousands of tests may fail.
fn last_output() -> BTreeMap<String, String> {
    const MOST_BYTES: usize = 8 << 10;
    ["stdout", "stderr"]
        .into_iter()
        .filter_map(|name| {
            let bytes = std::fs::read(log_path(name)).ok()?;
            let end = &bytes[bytes.len().saturating_sub(MOST_BYTES)..];
            let text = String::from_utf8_lossy(end).into_owned();
            (!text.is_empty()).then(|| (name.to_owned(), text))
        })
        .collect()
}

/// The kernel gives each program sixteen random bytes, from which the library
/// makes its stack guard; equal bytes keep runs equal.
fn fix_random_bytes(root: nix::unistd::Pid, memory: &Memory) -> Result<(), HostError> {
    const AT_RANDOM: u64 = 25;
    let auxiliary = std::fs::read(format!("/proc/{root}/auxv")).unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    let place = auxiliary
        .chunks_exact(16)
        .find(|entry| word(&entry[..8]) == AT_RANDOM)
        .map(|entry| word(&entry[8..]));
    if let Some(place) = place {
        memory.write(Address(place), b"kairos: no luck!")?;
    }
    Ok(())
}

fn stamps_failed(error: std::io::Error) -> HostError {
    HostError::System {
        operation: "using the buffer of stamps",
        errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    }
}

pub(super) fn clear(coverage: &OwnedFd) -> Result<(), HostError> {
    for length in [0, counter::COVERAGE_LENGTH] {
        ftruncate(coverage, i64::try_from(length).unwrap_or(0)).map_err(|errno| {
            HostError::System {
                operation: "ftruncate",
                errno,
            }
        })?;
    }
    Ok(())
}

fn read_counts(coverage: &OwnedFd) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let mut counts = vec![0; usize::try_from(counter::COVERAGE_LENGTH).unwrap_or(0)];
    if let Ok(file) = coverage.try_clone().map(File::from) {
        let _ = file.read_exact_at(&mut counts, 0);
    }
    counts
}

fn both(mut session: Played, probe: Played, session_exchanges: usize) -> Played {
    session
        .exchanges
        .resize_with(session_exchanges, BTreeMap::new);
    session.exchanges.extend(probe.exchanges);
    session.stall = probe.stall;
    session.longest = session.longest.longest(probe.longest);
    session
}

fn exchanges(
    normaliser: &Normaliser,
    played: &Played,
    logs: &[BTreeMap<String, String>],
) -> Vec<SeenExchange> {
    let count = played.exchanges.len().max(logs.len());
    (0..count)
        .map(|index| SeenExchange {
            replies: played
                .exchanges
                .get(index)
                .into_iter()
                .flatten()
                .map(|(name, bytes)| (name.clone(), normaliser.apply(bytes)))
                .collect(),
            logs: logs.get(index).cloned().unwrap_or_default(),
        })
        .collect()
}

fn seen_processes(server: &Server<'_>) -> Vec<SeenProcess> {
    if server.parts.tree.processes.is_empty() {
        return vec![SeenProcess {
            role: server.parts.notes[0].role.clone(),
            updated: false,
            ended_in: server.parts.exchange,
            ending: server.root_ending().cloned().unwrap_or(Ending::Outlived),
            fault: None,
        }];
    }
    server
        .parts
        .tree
        .processes
        .iter()
        .zip(&server.parts.notes)
        .map(|(process, note)| SeenProcess {
            role: note.role.clone(),
            updated: note.updated,
            ended_in: note.ended.unwrap_or(server.parts.exchange),
            ending: process.ending.clone().unwrap_or(Ending::Outlived),
            fault: note.fault.clone().filter(|_| process.ending.is_some()),
        })
        .collect()
}

pub(super) fn summarise(normaliser: &Normaliser, content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let is_text = std::str::from_utf8(content).is_ok();
    if is_text && content.len() <= LONGEST_FILE {
        return normaliser.apply(content);
    }
    let normalised = if is_text {
        normaliser.apply(content).into_bytes()
    } else {
        content.to_vec()
    };
    let hash = Sha256::digest(&normalised);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<{} bytes, SHA-256 {hex}>", normalised.len())
}

/// `*` within a folder, `**` across folders.
fn glob(pattern: &str) -> Result<regex::Regex, regex::Error> {
    let escaped = regex::escape(pattern)
        .replace(r"\*\*", "\u{0}")
        .replace(r"\*", "[^/]*")
        .replace('\u{0}', ".*")
        .replace(r"\?", "[^/]");
    regex::Regex::new(&format!("^{escaped}$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_a_folder_unless_doubled() {
        let one = glob("ftp/*.txt").unwrap();
        assert!(one.is_match("ftp/a.txt"));
        assert!(!one.is_match("ftp/up/a.txt"));
        assert!(glob("ftp/**").unwrap().is_match("ftp/up/a.txt"));
    }
}
