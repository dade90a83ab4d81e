//! Copies a stopped process by a `clone` injected into it: the copy becomes a child
//! of the process's own parent, so that the process never hears of it.

use std::mem::replace;

use libc::user_regs_struct;

use super::counter::GADGET;
use super::inject::{accepted, system_call, wait_for};
use super::tree::{Process, ProcessIndex, Thread, Tree};
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

/// What the kernel leaves in `rax` of a thread that it took out of a system call in
/// order to stop it (`-EINTR`, and the kernel's own `ERESTARTSYS`, `ERESTARTNOINTR`,
/// `ERESTARTNOHAND` and `ERESTART_RESTARTBLOCK`).
const INTERRUPTED: [i64; 5] = [-4, -512, -513, -514, -516];

/// The instruction that makes a system call.
const CALL: [u8; 2] = [0x0f, 0x05];

/// The registers of a thread that was stopped while it waited in a system call, such
/// that a copy makes that call anew: what the kernel remembers of a call to be
/// restarted is not copied. None if it did not wait in a call.
///
/// # Errors
/// When the thread is gone.
pub fn before_call(
    stopped: &Stopped,
    memory: &Memory,
) -> Result<Option<user_regs_struct>, TraceeError> {
    let mut registers = stopped.registers()?;
    if registers.orig_rax.cast_signed() < 0 {
        return Ok(None);
    }
    if INTERRUPTED.contains(&registers.rax.cast_signed()) {
        registers.rax = registers.orig_rax;
        registers.rip -= CALL.len() as u64;
    }
    // Where it was held, the call may have been set to start again already.
    let mut code = [0; CALL.len()];
    memory.read(Address(registers.rip), &mut code)?;
    if code != CALL || registers.rax != registers.orig_rax {
        return Ok(None);
    }
    registers.orig_rax = u64::MAX;
    Ok(Some(registers))
}

/// Makes a copy of a process that has one thread, which is stopped, and gives the
/// copy `registers`. The original keeps the registers of the injected call.
///
/// # Errors
/// When the process is gone or the kernel refuses another one.
pub fn copy(stopped: &Stopped, registers: &user_regs_struct) -> Result<Stopped, TraceeError> {
    let flags = i64::from(libc::CLONE_PARENT | libc::SIGCHLD).cast_unsigned();
    let answer = system_call(stopped, GADGET, libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?;
    accepted("clone in the process", stopped.thread(), answer)?;
    let child = nix::unistd::Pid::from_raw(i32::try_from(answer).unwrap_or(0));
    let status = wait_for(child)?;
    if !libc::WIFSTOPPED(status) {
        return Err(TraceeError::Gone {
            operation: "copying a process",
            pid: child,
        });
    }
    let copied = Stopped::reported(child);
    copied.set_registers(registers)?;
    Ok(copied)
}

impl Tree {
    /// Has a copy of a process's only thread be that process from now on, and returns
    /// what it was.
    ///
    /// # Errors
    /// When the copy's memory cannot be opened.
    pub fn replace(
        &mut self,
        process: ProcessIndex,
        copied: &Stopped,
    ) -> Result<Process, TraceeError> {
        let pid = copied.thread();
        let memory = Memory::open(pid)?;
        let now = &mut self.processes[process];
        self.threads.remove(&now.pid);
        self.threads.insert(pid, (process, 0));
        let copy = Process {
            pid,
            parent: now.parent,
            threads: vec![Thread {
                id: pid,
                ordinal: 0,
            }],
            threads_ever: 1,
            memory,
            breakpoints: now.breakpoints.clone(),
            counted: now.counted,
            borrows_memory: false,
            prepared: now.prepared.clone(),
            leaves: false,
            ending: None,
        };
        Ok(replace(now, copy))
    }

    /// Ends such a copy, and has the process be what it was.
    ///
    /// # Errors
    /// When the copy's end cannot be waited for.
    pub fn put_back(&mut self, process: ProcessIndex, before: Process) -> Result<(), TraceeError> {
        if self.processes[process].ending.is_none() {
            self.end(process)?;
        }
        let copy = &mut self.processes[process];
        self.threads.insert(before.pid, (process, 0));
        *copy = before;
        Ok(())
    }
}
