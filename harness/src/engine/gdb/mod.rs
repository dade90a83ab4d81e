//! The way a user would take today without Kairos: gdb in batch mode stops the
//! server at the point and a script applies the patch. It serves `kairos bench` as
//! a measure of cost and as an independent check of verdicts, and no study.

pub mod script;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::parts::Parts;
use super::restart::{Mode, Restart};
use super::spec::Which;
use super::watch::Watcher;
use crate::binary::Address;
use crate::sandbox::SandboxError;
use crate::trace::{PointId, Stack, Trace};
use crate::tracee::activity::all_threads;
use crate::tracee::spawn::Tracing;
use crate::verdict::Observation;
use crate::verdict::entries::Entries;
use crate::verdict::observation::Update;
use crate::world::{HostError, Limits};

/// The debugger, on the machine and in the sandbox alike.
pub const GDB: &str = "/usr/bin/gdb";
/// Folder inside the sandbox for what gdb reads and writes.
const FOLDER: &str = "/kairos/gdb";
/// Longest time that gdb may take to attach and to set its breakpoint.
const LONGEST_START: Duration = Duration::from_secs(60);

/// A point as gdb can find it: by counting entries of its function from the moment
/// when the server is ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GdbPoint {
    /// The point.
    pub id: PointId,
    /// Function entered.
    pub function: String,
    /// Its entry.
    pub entry: Address,
    /// Which of its entries by the point's thread, from 1.
    pub nth: u64,
    /// gdb's number of the process, by order of creation from 1.
    pub inferior: usize,
    /// Stack in the trace.
    pub stack: Stack,
}

impl GdbPoint {
    /// Describes the point at `index` of a trace; `name` names functions. None if
    /// its process or stack is not in the trace.
    #[must_use]
    pub fn of(trace: &Trace, index: usize, name: &dyn Fn(Address) -> String) -> Option<Self> {
        let point = trace.points.get(index)?;
        let same = |other: &crate::trace::Point| {
            other.function == point.function
                && other.id.role == point.id.role
                && other.id.thread == point.id.thread
                && other.id.exchange.is_some()
        };
        let before = trace.points[..index].iter().filter(|p| same(p)).count();
        let process = trace
            .processes
            .iter()
            .position(|process| process.role == point.id.role)?;
        Some(Self {
            id: point.id.clone(),
            function: name(point.function),
            entry: point.function,
            nth: before as u64 + 1,
            inferior: process + 1,
            stack: trace
                .stacks
                .get(usize::try_from(point.stack).ok()?)?
                .clone(),
        })
    }
}

/// What the script wrote down.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Report {
    /// Microseconds that applying took.
    Applied(f64),
    /// The point did not come.
    Missed(String),
    /// gdb could not do a step.
    Failed(String),
}

/// Runs one update test by gdb. Old frames are not followed and new entries not
/// counted: no user's script would.
///
/// # Errors
/// When gdb cannot be started or the harness or the machine fails.
pub fn test(
    engine: &mut Restart,
    limits: Limits,
    point: &GdbPoint,
) -> Result<Observation, HostError> {
    let folder = Path::new(FOLDER);
    let file = |name: &str, content: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(SandboxError::file("write", path.display()))
    };
    std::fs::create_dir_all(folder).map_err(SandboxError::file("create", FOLDER))?;
    let _ = std::fs::remove_file(folder.join(script::REPORT));
    let spec = engine.spec();
    let patch = spec
        .patch
        .as_ref()
        .ok_or_else(|| HostError::NotReady("the session has no patch to apply".to_owned()))?;
    let program = spec.program_inside(Which::New);
    file(
        script::FILE,
        script::script(point, patch, &program).as_bytes(),
    )?;
    file(script::IMAGE, &patch.image)?;
    let mode = Mode {
        version: Which::Old,
        tracing: Tracing::None,
        limits: Limits {
            // What gdb computes at a stop must not make the server look busy.
            busy: Limits::BASELINE.busy,
            ..limits
        },
    };
    let mut debugger = Debugger::default();
    let run = engine.run(&mode, &mut debugger, &mut |_| {})?;
    Ok(Observation {
        update: update(point, folder, debugger.said()),
        old_frame_exchanges: BTreeSet::new(),
        new_entries: Entries::default(),
        ..run.observation
    })
}

fn update(point: &GdbPoint, folder: &Path, said: String) -> Update {
    let report = std::fs::read(folder.join(script::REPORT))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match report {
        Some(Report::Applied(apply_us)) => Update::Applied {
            function: point.function.clone(),
            stack: point.stack.clone(),
            tries: 1,
            drifted: false,
            apply_us,
            state: None,
        },
        Some(Report::Missed(reason)) => Update::NotReached { reason },
        Some(Report::Failed(reason)) => Update::NotApplied { reason },
        None => Update::NotApplied {
            reason: format!("gdb reported nothing; it said: {said}"),
        },
    }
}

/// Lets gdb attach as soon as the server is ready.
#[derive(Default)]
struct Debugger {
    gdb: Option<Child>,
    said: Vec<u8>,
}

impl Debugger {
    /// What gdb wrote to standard error; its last words too, once it has ended.
    fn said(&mut self) -> String {
        if let Some(mut errors) = self.gdb.as_mut().and_then(|gdb| gdb.stderr.take()) {
            let _ = errors.read_to_end(&mut self.said);
        }
        String::from_utf8_lossy(&self.said).trim().to_owned()
    }

    fn wait_until_attached(&mut self, errors: &mut ChildStderr) -> Result<(), HostError> {
        let begun = Instant::now();
        let mut buffer = [0; 4096];
        while !contains(&self.said, script::ATTACHED.as_bytes()) {
            let left = LONGEST_START.saturating_sub(begun.elapsed());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut waiting = [PollFd::new(errors.as_fd(), PollFlags::POLLIN)];
            match poll(&mut waiting, timeout) {
                Ok(1..) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                _ => return Err(self.failed("did not attach in time")),
            }
            match errors.read(&mut buffer) {
                Ok(count @ 1..) => self.said.extend_from_slice(&buffer[..count]),
                _ => return Err(self.failed("ended before it had attached")),
            }
        }
        Ok(())
    }

    fn failed(&self, how: &str) -> HostError {
        let said = String::from_utf8_lossy(&self.said);
        HostError::NotReady(format!("gdb {how}; it said:\n{}", said.trim()))
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

impl Watcher for Debugger {
    fn exchange_begins(&mut self, _parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        if number != 0 || self.gdb.is_some() {
            return Ok(());
        }
        // Numbers of processes ascend from the first one's in every run.
        let first = all_threads()
            .into_iter()
            .map(|(process, _)| process)
            .min()
            .unwrap_or_else(|| Pid::from_raw(0));
        // gdb learns of its server's stops by SIGCHLD, and would inherit that the
        // worker blocks it.
        let mut children = SigSet::empty();
        children.add(Signal::SIGCHLD);
        let mask = |how| {
            sigprocmask(how, Some(&children), None).map_err(|errno| HostError::System {
                operation: "sigprocmask",
                errno,
            })
        };
        mask(SigmaskHow::SIG_UNBLOCK)?;
        let started = Command::new(GDB)
            .args(script::ARGUMENTS)
            .arg("-p")
            .arg(first.to_string())
            .arg("-x")
            .arg(Path::new(FOLDER).join(script::FILE))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C")
            .env("HOME", "/home/kairos")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        mask(SigmaskHow::SIG_BLOCK)?;
        let mut gdb =
            started.map_err(|error| HostError::NotReady(format!("cannot start {GDB}: {error}")))?;
        let errors = gdb.stderr.take();
        self.gdb = Some(gdb);
        if let Some(mut errors) = errors {
            self.wait_until_attached(&mut errors)?;
            if let Some(gdb) = &mut self.gdb {
                gdb.stderr = Some(errors);
            }
        }
        Ok(())
    }
}
