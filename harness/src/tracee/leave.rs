//! Lets a server go on without us in the middle of a run, so that a debugger can
//! take our place: nothing that needs a tracer is left in it.

use super::tree::Tree;
use super::{Stopped, TraceeError, counter};
use crate::binary::Address;

impl Tree {
    /// Detaches from every process. The process of `at_entry`, which was stopped by
    /// its counter at the entry of `function`, stays stopped by SIGSTOP there, as
    /// if the counting call had not been made. Counters must never trap any more.
    ///
    /// # Errors
    /// When a thread cannot be stopped or read.
    pub fn leave(&mut self, at_entry: &Stopped, function: Address) -> Result<(), TraceeError> {
        let others = self.hold(&|_, _, thread| thread != at_entry.thread())?;
        for other in &others {
            // One that has just reached a breakpoint executes what was under it.
            let mut registers = other.stopped.registers()?;
            let before = Address(registers.rip.wrapping_sub(1));
            if self.processes[other.process].breakpoints.contains(before) {
                registers.rip = before.0;
                other.stopped.set_registers(&registers)?;
            }
        }
        for process in self.processes.iter_mut().filter(|p| p.ending.is_none()) {
            process.breakpoints.clear_all(&process.memory)?;
        }
        let mut registers = counter::at_entry(&at_entry.registers()?, function);
        // Behind the counting call: at the jump to the new version, if any.
        registers.rip += counter::CALL_LENGTH;
        at_entry.set_registers(&registers)?;
        at_entry.detach(libc::SIGSTOP)?;
        for other in others {
            match other.stopped.detach(other.signal()) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
