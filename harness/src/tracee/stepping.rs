//! Executes single instructions of a tree's threads, above all those under
//! breakpoints that stay set.

use super::inject::wait_for;
use super::poison::step_and_wait;
use super::tree::{ProcessIndex, Tree};
use super::{Stopped, TraceeError, counter, watchpoint};
use crate::binary::Address;

impl Tree {
    /// Executes the instruction under a breakpoint that was not meant for this
    /// thread or frame, and leaves the breakpoint set. The process's other threads are
    /// held meanwhile: one that passed there would not be seen.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn step_over(
        &mut self,
        process: ProcessIndex,
        stopped: Stopped,
        address: Address,
    ) -> Result<(), TraceeError> {
        let thread = stopped.thread();
        let held = self.hold(&|other, _, id| other == process && id != thread)?;
        let stepped = self.step_alone(process, stopped, address);
        self.release(held)?;
        stepped
    }

    fn step_alone(
        &mut self,
        process: ProcessIndex,
        stopped: Stopped,
        address: Address,
    ) -> Result<(), TraceeError> {
        if let Some(stopped) = self.step_once(process, stopped, address)? {
            stopped.resume(self.until, 0)?;
        }
        Ok(())
    }

    /// Executes the instruction under a breakpoint, in a process whose other threads
    /// stand still, and leaves the breakpoint set; returns the thread, or none if it
    /// stopped for something else, which [`Tree::poll`] tells.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn step_once(
        &mut self,
        process: ProcessIndex,
        stopped: Stopped,
        address: Address,
    ) -> Result<Option<Stopped>, TraceeError> {
        let thread = stopped.thread();
        let process = &mut self.processes[process];
        process.breakpoints.clear(&process.memory, address)?;
        let status = step_and_wait(stopped)?;
        if !libc::WIFSTOPPED(status) {
            self.report_later(thread, status);
            return Ok(None);
        }
        process.breakpoints.set(&process.memory, address)?;
        let stepped = Stopped::reported(thread);
        if status >> 8 == libc::SIGTRAP && !watchpoint::has_touched(&stepped)? {
            return Ok(Some(stepped));
        }
        self.report_later(thread, status);
        Ok(None)
    }

    /// Executes one instruction and returns the thread, or none if it stopped for
    /// something else, which [`Tree::poll`] tells.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn step_on(&mut self, stopped: Stopped) -> Result<Option<Stopped>, TraceeError> {
        let thread = stopped.thread();
        stopped.step()?;
        let status = wait_for(thread)?;
        let plain = libc::WIFSTOPPED(status) && status >> 8 == libc::SIGTRAP;
        if plain && !counter::is_after_trap(&Stopped::reported(thread).registers()?) {
            return Ok(Some(Stopped::reported(thread)));
        }
        self.report_later(thread, status);
        Ok(None)
    }
}
