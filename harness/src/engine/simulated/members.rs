//! The processes of a server that lives in a simulated world, as Kairos holds them:
//! one runs at a time, the others stand still. And what it takes to put one back.

use nix::unistd::Pid;

use super::state::{apart, stack_of};
use crate::tracee::counter::GADGET;
use crate::tracee::tree::Process;
use crate::tracee::write_watch;
use crate::tracee::written::Written;
use crate::tracee::{Stopped, TraceeError};
use kairos_simulator::layout;

/// What must be put back of a process beside memory.
pub(super) struct Saved {
    registers: libc::user_regs_struct,
    extended: Vec<u8>,
    mask: u64,
}

impl Saved {
    pub(super) fn of(stopped: &Stopped) -> Result<Self, TraceeError> {
        Ok(Self {
            registers: stopped.registers()?,
            extended: stopped.extended_state()?,
            mask: stopped.signal_mask()?,
        })
    }

    pub(super) fn restore(&self, stopped: &Stopped) -> Result<(), TraceeError> {
        stopped.set_extended_state(&self.extended)?;
        stopped.set_signal_mask(self.mask)?;
        stopped.set_registers(&self.registers)
    }
}

/// A process.
pub(super) struct Member {
    /// Its number.
    pub pid: Pid,
    /// Its thread, whenever it stands still; none either once it has ended for good.
    pub stopped: Option<Stopped>,
    /// Whether it ended on the way to the point, and is no more.
    pub gone: bool,
    /// Whether it ran since it was last put back, or taken as it is.
    pub ran: bool,
    pub(super) kept: Option<Kept>,
}

/// What is kept of a process in order to put it back.
pub(super) struct Kept {
    saved: Saved,
    /// Its memory.
    pub written: Written,
    /// The stack of its thread, if it is known.
    pub stack: Option<std::ops::Range<u64>>,
}

impl Member {
    /// One that nothing is kept of yet.
    pub(super) const fn new(pid: Pid, stopped: Stopped) -> Self {
        Self {
            pid,
            stopped: Some(stopped),
            gone: false,
            ran: true,
            kept: None,
        }
    }

    /// One that has ended for good.
    pub(super) const fn gone(pid: Pid) -> Self {
        Self {
            pid,
            stopped: None,
            gone: true,
            ran: false,
            kept: None,
        }
    }

    /// Begins to watch what it writes, by a watch that was opened in it before.
    pub(super) fn keep(
        &mut self,
        process: &Process,
        watch: std::os::fd::OwnedFd,
    ) -> Result<(), TraceeError> {
        let Some(stopped) = &self.stopped else {
            return Ok(());
        };
        let kept = layout::KEPT..layout::KEPT + layout::KEPT_LENGTH;
        let stack = stack_of(self.pid);
        let apart = apart(stack.clone());
        let written = Written::watch(watch, self.pid, &process.memory, &[kept], apart)?;
        self.kept = Some(Kept {
            saved: Saved::of(stopped)?,
            written,
            stack,
        });
        self.ran = false;
        Ok(())
    }

    /// What it wrote belongs to the place where the server stands now.
    pub(super) fn absorb(&mut self, process: &Process) -> Result<(), TraceeError> {
        let Some(stopped) = &self.stopped else {
            return Ok(());
        };
        match &mut self.kept {
            None => {
                let now = Saved::of(stopped)?;
                let watch = write_watch::open_watch(stopped, GADGET, self.pid)?;
                now.restore(stopped)?;
                return self.keep(process, watch);
            }
            Some(kept) if self.ran => {
                kept.written.absorb(self.pid, &process.memory)?;
                kept.saved = Saved::of(stopped)?;
            }
            Some(_) => {}
        }
        self.ran = false;
        Ok(())
    }

    /// Puts it back to where it stood.
    pub(super) fn go_back(&mut self, process: &mut Process) -> Result<(), TraceeError> {
        if !self.ran {
            return Ok(());
        }
        process.breakpoints = crate::tracee::breakpoint::Breakpoints::default();
        if let (Some(stopped), Some(kept)) = (&self.stopped, &mut self.kept) {
            kept.written.put_back(self.pid, &process.memory)?;
            kept.saved.restore(stopped)?;
        }
        self.ran = false;
        Ok(())
    }
}
