//! Fork snapshot: a server comes back to a point by a copy. The process that stands there
//! is copied, and the copy takes the update and finishes the session in the shared world;
//! then it is ended. The original does not run meanwhile. So nothing of it has to be put
//! back, and the kernel need not tell what was written.

use std::mem::replace;

use super::Unfit;
use super::live::{Live, lost, refused};
use super::members::Member;
use crate::binary::Address;
use crate::engine::EngineKind;
use crate::engine::fork_server::traits::check_memory;
use crate::engine::restart::Restart;
use crate::tracee::TraceeError;
use crate::tracee::copy::copy;
use crate::tracee::counter::COVERAGE;
use crate::tracee::tree::{Process, ProcessIndex, Tree};
use kairos_simulator::layout;
use nix::unistd::Pid;

/// How a server in a simulated world comes back to the point where it stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComingBack {
    /// What it wrote is put back.
    #[default]
    PutBack,
    /// A copy went on in its place.
    Copied,
}

impl ComingBack {
    /// That of an engine; none if its tests are not run in a simulated world.
    #[must_use]
    pub const fn of(kind: EngineKind) -> Option<Self> {
        match kind {
            EngineKind::Rollback => Some(Self::PutBack),
            EngineKind::ForkSnapshot => Some(Self::Copied),
            EngineKind::Restart | EngineKind::ForkServer => None,
        }
    }
}

/// A process that stands still while its copy goes on in its place.
pub(super) struct Original {
    at: ProcessIndex,
    member: Member,
    process: Process,
}

/// Checks that a process shares no memory but what Kairos shares with it, and that a copy
/// of it, if there are to be some, has all of its memory.
pub(super) fn check(pid: Pid, coming_back: ComingBack) -> Result<(), Unfit> {
    let declined = |why: &dyn std::fmt::Display| Unfit::Declined(why.to_string());
    let file = match coming_back {
        ComingBack::PutBack => "maps",
        // It also tells what `fork` leaves out.
        ComingBack::Copied => "smaps",
    };
    let maps = std::fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|e| declined(&e))?;
    check_memory(&maps, &[COVERAGE, Address(layout::SHARED)]).map_err(|why| declined(&why))
}

/// Why a point is left to another engine: copies of several processes would have to be
/// made at one moment.
pub(super) fn several() -> Unfit {
    Unfit::Declined("several processes live at the point".to_owned())
}

impl Live {
    /// Whether one process of the server lives, which is then the one that runs.
    pub(super) fn is_alone(&self) -> bool {
        let known = self.shared.world().known();
        known.iter().filter(|process| process.lives()).count() == 1
    }

    /// If the server comes back by a copy, lets one go on in its place from now on.
    pub(super) fn stand_aside(&mut self, tree: &mut Tree) -> Result<(), Unfit> {
        if self.coming_back != ComingBack::Copied {
            return Ok(());
        }
        if !self.is_alone() {
            return Err(several());
        }
        let at = self.known.running;
        let stopped = self.members[at].stopped.as_ref().ok_or_else(lost)?;
        let registers = stopped.registers()?;
        let copied = copy(stopped, &registers).map_err(refused)?;
        stopped.set_registers(&registers)?;
        let process = tree.replace(at, &copied)?;
        let own = Member::new(copied.thread(), copied);
        self.original = Some(Original {
            at,
            member: replace(&mut self.members[at], own),
            process,
        });
        Ok(())
    }

    /// Ends the copy that went on, if there is one: the original stands there again.
    pub(super) fn stand_back(&mut self, engine: &mut Restart) -> Result<(), TraceeError> {
        let Some(Original {
            at,
            member,
            process,
        }) = self.original.take()
        else {
            return Ok(());
        };
        let copied = replace(&mut self.members[at], member);
        engine.tools.unwinder.forget(copied.pid);
        engine.tools.libraries.forget(copied.pid);
        self.tree.put_back(at, process)
    }
}
