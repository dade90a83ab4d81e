//! Lets a server go on without us in the middle of a run, so that a debugger can
//! take our place: nothing that needs a tracer is left in it.

use nix::errno::Errno;
use nix::sys::ptrace;

use super::inject::wait_for;
use super::tree::{ProcessIndex, Tree, restart_call};
use super::{Stopped, TraceeError, counter};
use crate::binary::Address;

impl Tree {
    /// Detaches from every process. That of `at_entry`, whose thread was stopped by
    /// its counter at the entry of `function`, stays stopped by SIGSTOP there, as
    /// if the counting call had not been made. Counters must never trap any more.
    ///
    /// # Errors
    /// When a thread cannot be stopped or read.
    pub fn release(
        &mut self,
        held: ProcessIndex,
        at_entry: &Stopped,
        function: Address,
    ) -> Result<(), TraceeError> {
        let living: Vec<ProcessIndex> = self.living().map(|(index, _)| index).collect();
        for index in living {
            let process = &mut self.processes[index];
            let threads: Vec<_> = process.threads.iter().map(|thread| thread.id).collect();
            let mut stopped = Vec::new();
            for thread in threads {
                if thread == at_entry.thread() {
                    continue;
                }
                match ptrace::interrupt(thread) {
                    Err(Errno::ESRCH) => continue,
                    result => {
                        result.map_err(TraceeError::from_errno("PTRACE_INTERRUPT", thread))?;
                    }
                }
                if libc::WIFSTOPPED(wait_for(thread)?) {
                    let handle = Stopped::reported(thread);
                    restart_call(&handle)?;
                    let mut registers = handle.registers()?;
                    let before = Address(registers.rip.wrapping_sub(1));
                    if process.breakpoints.contains(before) {
                        registers.rip = before.0;
                        handle.set_registers(&registers)?;
                    }
                    stopped.push(handle);
                }
            }
            process.breakpoints.clear_all(&process.memory)?;
            if index == held {
                let mut registers = counter::at_entry(&at_entry.registers()?, function);
                // Behind the counting call: at the jump to the new version, if any.
                registers.rip += counter::CALL_LENGTH;
                at_entry.set_registers(&registers)?;
                at_entry.detach(libc::SIGSTOP)?;
            }
            for thread in stopped {
                thread.detach(0)?;
            }
        }
        Ok(())
    }
}
