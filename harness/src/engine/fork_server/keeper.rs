//! A started server that stands still and of which copies are made. It is a copy
//! itself, so that the number of the process that was started is free again: each
//! copy gets that number, and everything that the server knows of itself stays true.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use libc::user_regs_struct;
use nix::unistd::Pid;

use super::belongings::{Belongings, room};
use super::traits::Traits;
use super::unfit::{NoCopy, Unfit};
use crate::engine::lifecycle::{Started, wait_until_ready};
use crate::engine::restart::{LAST_PID, Mode, Restart};
use crate::engine::server::{Frame, Server};
use crate::engine::watch::Counting;
use crate::sandbox::processes;
use crate::sandbox::root::{PROGRAM_LINK, RUN_FOLDER};
use crate::sandbox::run_folder::RunFolder;
use crate::sandbox::saved_folder::{PutBack, SavedFolder};
use crate::tracee::batch::Batch;
use crate::tracee::copy::{before_call, copy};
use crate::tracee::stopped::Until;
use crate::tracee::tree::{ProcessIndex, Tree};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::world::HostError;

/// Number before the keeper's: no server meets it.
const LAST_PID_OF_KEEPER: u32 = 49;

/// A server's own clocks count seconds: copies of one that was started in another
/// second than now would see a tick that a fresh server does not. It is started anew
/// then, unless that took more than this part of the time since.
const MOST_TIME_FOR_STARTS: u32 = 20;

/// Everything on disk that a server may have written before it was ready.
const PLACES: [&str; 5] = [
    RUN_FOLDER,
    "/tmp",
    "/kairos/stdout",
    "/kairos/stderr",
    PROGRAM_LINK,
];

/// A started server of which copies are made.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    stopped: Stopped,
    /// What copies go on with.
    registers: user_regs_struct,
    belongings: Belongings,
    /// What each copy does before it goes on.
    calls: Vec<Batch>,
    files: SavedFolder,
    /// Put away when the keeper is.
    _folder: RunFolder,
    begun: Instant,
    cost: Duration,
    second: (u64, u64),
}

impl Keeper {
    /// Starts a server, waits until it is ready for clients, and keeps it so.
    ///
    /// # Errors
    /// When a copy of it would not be the same, or the harness fails. Nothing is left
    /// then.
    pub fn start(engine: &mut Restart, mode: &Mode) -> Result<Self, NoCopy> {
        let kept = Self::started(engine, mode);
        if kept.is_err() {
            processes::end_all();
        }
        kept
    }

    fn started(engine: &mut Restart, mode: &Mode) -> Result<Self, NoCopy> {
        let begun = Instant::now();
        let second = second();
        engine.forget_last_run()?;
        engine
            .root
            .set_last_pid(LAST_PID)
            .map_err(HostError::from)?;
        let folder = engine.make_folder(mode.version).map_err(HostError::from)?;
        let mut tree = ready(engine, mode)?;
        let first = only_process(&tree)?;
        let pid = tree.processes[first].pid;
        let mut held = tree.hold(&|_, _, _| true)?;
        let stopped = match (held.pop(), held.is_empty()) {
            (Some(thread), true) if !thread.has_reported() => thread.stopped,
            _ => return Err(Unfit::NotWaiting.into()),
        };
        let memory = &tree.processes[first].memory;
        let registers = before_call(&stopped, memory)?.ok_or(Unfit::NotWaiting)?;
        Traits::check(pid)?;
        let belongings = Belongings::of(pid)?;
        let traits = Traits::ask(&stopped, memory)?;
        let calls = calls(&belongings, &traits)?;
        let files = SavedFolder::take(&PLACES).map_err(Unfit::from)?;
        engine
            .root
            .set_last_pid(LAST_PID_OF_KEEPER)
            .map_err(HostError::from)?;
        let kept = copy(&stopped, &registers)?;
        let keeper = kept.thread();
        let memory = Memory::open(keeper)?;
        let mut leave = Batch::default();
        // The number of the first process names its session, too.
        leave.call("setsid", libc::SYS_setsid, &[]);
        leave.run(&kept, &memory)?;
        for batch in belongings.let_go() {
            batch.run(&kept, &memory)?;
        }
        if !processes::end_all_but(keeper) {
            return Err(Unfit::NotWaiting.into());
        }
        Ok(Self {
            pid: keeper,
            stopped: kept,
            registers,
            belongings,
            calls,
            files,
            _folder: folder,
            begun,
            cost: begun.elapsed(),
            second,
        })
    }

    /// Makes a copy that is about to wait for clients.
    ///
    /// # Errors
    /// When it cannot be made what the server was.
    pub fn copy(&self, engine: &mut Restart) -> Result<(Tree, Stopped), NoCopy> {
        engine
            .root
            .set_last_pid(LAST_PID)
            .map_err(HostError::from)?;
        let copied = copy(&self.stopped, &self.registers)?;
        let number = LAST_PID + 1;
        if copied.thread().as_raw().cast_unsigned() != number {
            return Err(Unfit::Refused(TraceeError::Refused {
                operation: "giving a copy the number of the first process",
                pid: copied.thread(),
                errno: nix::errno::Errno::EEXIST,
            })
            .into());
        }
        let mut tree = Tree::of_copy(&copied, Until::Event)?;
        tree.whole_ends = true;
        for batch in &self.calls {
            batch.run(&copied, &tree.processes[0].memory)?;
        }
        copied.set_registers(&self.registers)?;
        Ok((tree, copied))
    }

    /// Ends everything that a copy left and puts back what it changed; tells whether
    /// further copies can be made.
    #[must_use]
    pub fn put_back(&self) -> bool {
        processes::end_all_but(self.pid)
            && self.belongings.put_back().is_ok()
            && matches!(
                self.files.put_back(self.belongings.inodes()),
                Ok(PutBack::Done)
            )
    }

    /// Whether a fresh server would see another time.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        second() != self.second && self.begun.elapsed() > self.cost * MOST_TIME_FOR_STARTS
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        processes::end_all();
    }
}

/// Starts the server and waits until it is ready.
fn ready(engine: &mut Restart, mode: &Mode) -> Result<Tree, NoCopy> {
    let mut watcher = Counting;
    let (root, tree) = engine.start(mode, &watcher)?;
    let frame = Frame {
        normaliser: &engine.normaliser,
        reports: &engine.reports,
        session_exchanges: 0,
    };
    let mut server = Server::new(
        &engine.spec,
        &engine.names,
        &mut engine.tools,
        &mut watcher,
        &frame,
        root,
        tree,
    );
    match wait_until_ready(&mut server, &engine.spec.ready, &mode.limits)? {
        Started::Ready(_) => Ok(server.parts.tree),
        Started::Failed(what, _) => Err(HostError::NotReady(what).into()),
    }
}

/// The only process that the server ever had, with one thread.
fn only_process(tree: &Tree) -> Result<ProcessIndex, Unfit> {
    let [process] = &tree.processes[..] else {
        return Err(Unfit::Processes(tree.processes.len().saturating_sub(1)));
    };
    if process.threads.len() != 1 {
        return Err(Unfit::Threads(process.threads.len()));
    }
    if process.counted {
        Ok(0)
    } else {
        Err(Unfit::Executed)
    }
}

/// What each copy does before it goes on.
fn calls(belongings: &Belongings, traits: &Traits) -> Result<Vec<Batch>, Unfit> {
    let mut batches = vec![Batch::default()];
    batches[0].call("setsid in a copy", libc::SYS_setsid, &[]);
    belongings.make(&mut batches)?;
    let (calls, bytes) = traits.room();
    traits.give(room(&mut batches, calls, bytes));
    Ok(batches)
}

/// The second of the day's clock and of the one that only goes forward.
fn second() -> (u64, u64) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let forward = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    (
        since.map_or(0, |since| since.as_secs()),
        forward.map_or(0, |time| time.tv_sec().cast_unsigned()),
    )
}
