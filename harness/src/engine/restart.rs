//! The restart engine: a new server for each run. It serves every subject, and is
//! the oracle for faster engines.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, ftruncate};

use super::counted::Counted;
use super::names::FunctionNames;
use super::parts::Tools;
use super::server::{Frame, Server};
use super::serving::{Served, Service};
use super::spec::{SessionSpec, Which};
use super::stages::{Spent, Stage, StageClock};
use super::updater::image_length;
use super::watch::Watcher;
use crate::binary::Address;
use crate::sandbox::root::{RUN_FOLDER, Root};
use crate::sandbox::run_folder::{RunFolder, Temporary};
use crate::sandbox::{SandboxError, processes};
use crate::tracee::counter::Instrument;
use crate::tracee::spawn::{Descriptors, Program, SHARED_DESCRIPTOR, Tracing, start};
use crate::tracee::stamps::Stamp;
use crate::tracee::stopped::Until;
use crate::tracee::tree::Tree;
use crate::tracee::{Memory, Stopped, counter, resident, stamps};
use crate::verdict::Observation;
use crate::workload::{Normaliser, Script};
use crate::world::{HostError, Limits};

/// Process number before the subject's first, so that numbers repeat.
pub(super) const LAST_PID: u32 = 99;

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
    /// What is counted there.
    pub(super) counted: Counted,
    stamps: File,
    temporary: Temporary,
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
    /// Where its time went.
    pub spent: Spent,
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
            .map(|pattern| super::serving::glob(pattern))
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
            counted: Counted::of(spec.patch.as_ref(), &spec.varying),
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
            temporary: Temporary::default(),
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
        let mut clock = StageClock::start();
        self.forget_last_run()?;
        self.root.set_last_pid(LAST_PID)?;
        let folder = self.make_folder(mode.version)?;
        clock.over(Stage::Folder);
        let result = self.run_in_folder(mode, watcher, &mut clock, finish);
        processes::end_all();
        drop(folder);
        clock.over(Stage::CleanUp);
        Ok(self.finish_run(result?, begun, clock))
    }

    /// Makes the run folder for a version.
    pub(super) fn make_folder(&mut self, version: Which) -> Result<RunFolder, SandboxError> {
        let program = self.spec.program_inside(version);
        RunFolder::create(&self.spec.entries, &program, &mut self.temporary)
    }

    /// Empties everything that a run shares with the one before.
    pub(super) fn forget_last_run(&mut self) -> Result<(), HostError> {
        self.tools.activities.forget();
        self.tools.unwinder.forget_processes();
        self.tools.libraries.forget_processes();
        clear(&self.coverage)
    }

    /// Adds what is known of a run once all its processes are gone.
    pub(super) fn finish_run(&mut self, served: Served, begun: Instant, clock: StageClock) -> Run {
        let Served {
            mut observation,
            longest,
        } = served;
        observation.new_entries = self.counted.entries(&read_counts(&self.coverage));
        observation.wall_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Run {
            observation,
            longest,
            spent: clock.into_spent(),
        }
    }

    fn run_in_folder(
        &mut self,
        mode: &Mode,
        watcher: &mut dyn Watcher,
        clock: &mut StageClock,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Served, HostError> {
        let (root, tree) = self.start(mode, watcher)?;
        clock.over(Stage::Start);
        self.serve((root, tree, None), mode, watcher, clock, finish)
    }

    /// Lets a server serve whose first process is `root`, followed in `tree` if it is
    /// traced; of a copy its first thread comes along.
    pub(super) fn serve(
        &mut self,
        (root, tree, copied): (Pid, Option<Tree>, Option<Stopped>),
        mode: &Mode,
        watcher: &mut dyn Watcher,
        clock: &mut StageClock,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Served, HostError> {
        let service = Service {
            spec: &self.spec,
            script: &self.script,
            probe: self.probe.as_ref(),
            normaliser: &self.normaliser,
            wanted_files: &self.wanted_files,
        };
        let frame = Frame {
            normaliser: &self.normaliser,
            reports: &self.reports,
            session_exchanges: service.session_exchanges(),
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
        service.serve(&mut server, copied, mode, clock, finish)
    }

    pub(super) fn start(
        &mut self,
        mode: &Mode,
        watcher: &dyn Watcher,
    ) -> Result<(Pid, Option<Tree>), HostError> {
        let (root, traced) = self.start_stopped(mode, watcher, None)?;
        let Some((tree, stopped)) = traced else {
            return Ok((root, None));
        };
        stopped.resume(tree.until, 0)?;
        Ok((root, Some(tree)))
    }

    /// Starts the server; a traced one stands at its first instruction. It inherits the
    /// memory of the simulated world that it is to live in, if there is one.
    pub(super) fn start_stopped(
        &mut self,
        mode: &Mode,
        watcher: &dyn Watcher,
        world: Option<BorrowedFd<'_>>,
    ) -> Result<(Pid, Option<(Tree, Stopped)>), HostError> {
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
            world,
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
        tree.whole_ends = world.is_none();
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
            if self.spec.resident > 0 {
                resident::give(&stopped, memory, self.spec.resident)?;
            }
            tree.processes[0].counted = true;
        }
        Ok((root, Some((tree, stopped))))
    }
}

/// The kernel gives each program sixteen random bytes, from which the library
/// makes its stack guard; equal bytes keep runs equal.
fn fix_random_bytes(root: Pid, memory: &Memory) -> Result<(), HostError> {
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
