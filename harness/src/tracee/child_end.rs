//! Lets a server see the end of its child as it does without a tracer.
//!
//! A process that ends first closes its descriptors, and then its parent is sent
//! `SIGCHLD`. On one processor the parent does not run between the two: when its read
//! of the child's end of a pipe returns, the signal is there as well. The signal of a
//! *traced* child waits until the tracer has taken its end (`wait_task_zombie` in the
//! kernel's `kernel/exit.c`), so that the parent would see the end of the pipe first,
//! nearly always. Servers that act on either then end otherwise: vsftpd's privileged
//! process by `die` where it is traced, and by the signal where it is not.
//!
//! So the parent is held while its child ends. Where it waits in a system call, it goes
//! back into that call and may return from it, but no further.

use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::sockopt::SockType;
use nix::sys::socket::{
    AddressFamily, SockType as Kind, SockaddrLike as _, SockaddrStorage, getsockname, getsockopt,
};
use nix::unistd::Pid;

use super::descriptors::Source;
use super::hold::{AT_CALL, Held, signal_pending};
use super::inject::wait_for;
use super::stopped::Until;
use super::tree::{Event, ProcessIndex, Tree, group_of};
use super::{Stopped, TraceeError};
use crate::binary::Address;

/// What a call that is made again answers to its tracer (`ERESTARTSYS` to
/// `ERESTART_RESTARTBLOCK` in the kernel's `include/linux/errno.h`).
const AGAIN: std::ops::RangeInclusive<i64> = -516..=-512;

impl Tree {
    /// A thread of a process is about to end: lets it.
    ///
    /// # Errors
    /// When tracing fails.
    pub(super) fn ends(
        &mut self,
        process: ProcessIndex,
        stopped: Stopped,
    ) -> Result<Option<Event>, TraceeError> {
        if stopped.thread() == self.processes[process].pid {
            self.processes[process].leaves = true;
        }
        let Some(parent) = self.parent_to_hold(process) else {
            stopped.resume(self.until, 0)?;
            return Ok(None);
        };
        let mut standing = Vec::new();
        let mut in_calls = Vec::new();
        for held in self.hold(&|other, _, _| other == parent)? {
            let held = self.without_interruption(held)?;
            if held.has_reported() || !self.waits_in_call(parent, &held)? {
                standing.push(held);
            } else {
                in_calls.extend(self.until_return(held.stopped)?);
            }
        }
        let ended = self.see_end(stopped);
        for thread in in_calls {
            self.go_on(thread)?;
        }
        self.release(standing)?;
        ended
    }

    /// The parent that is to see the end of `process` whole, if both are processes of
    /// one thread, nothing keeps the one from ending, and the other can be held.
    fn parent_to_hold(&self, process: ProcessIndex) -> Option<ProcessIndex> {
        /// More are a storm of forks, in which looking at all for each end takes too long.
        const MOST_PROCESSES: usize = 1000;
        let parent = self.processes[process].parent?;
        if self.processes.len() > MOST_PROCESSES {
            return None;
        }
        let has_one_thread = |process: ProcessIndex| self.processes[process].threads.len() == 1;
        // The first process of a namespace waits for the others in it, and one that
        // started a program for that program; where every instruction is watched, what is
        // held would not be seen.
        let has_descendants = self
            .living()
            .any(|(other, _)| self.descends_from(other, process));
        let lends_memory = self
            .living()
            .any(|(_, other)| other.parent == Some(parent) && other.borrows_memory);
        let holds = !self.steps
            && !lends_memory
            && has_one_thread(process)
            && has_one_thread(parent)
            && !has_descendants
            && !self.processes[parent].leaves
            && self.processes[parent].ending.is_none();
        holds.then_some(parent)
    }

    fn descends_from(&self, process: ProcessIndex, ancestor: ProcessIndex) -> bool {
        let mut parents = std::iter::successors(self.processes[process].parent, |p| {
            self.processes[*p].parent
        });
        parents.any(|parent| parent == ancestor)
    }

    /// Where system calls are watched, a thread that is held in one first reports that the
    /// call was interrupted, which it would not have been without us: takes that back.
    fn without_interruption(&mut self, held: Held) -> Result<Held, TraceeError> {
        let thread = held.stopped.thread();
        if self.until != Until::SystemCall || self.reported(thread) != Some(AT_CALL) {
            return Ok(held);
        }
        let answer = held.stopped.registers()?.rax.cast_signed();
        let waits = answer == -i64::from(libc::EINTR) && !signal_pending(thread);
        if !waits && !AGAIN.contains(&answer) {
            return Ok(held);
        }
        self.take_back(thread);
        held.without_report()
    }

    /// Whether a thread that was held stood in a system call, which it will make again.
    fn waits_in_call(&self, process: ProcessIndex, held: &Held) -> Result<bool, TraceeError> {
        const SYSCALL: [u8; 2] = [0x0f, 0x05];
        let registers = held.stopped.registers()?;
        if registers.orig_rax.cast_signed() < 0 {
            return Ok(false);
        }
        if AGAIN.contains(&registers.rax.cast_signed()) {
            return Ok(true);
        }
        let mut code = [0; 2];
        let memory = &self.processes[process].memory;
        Ok(registers.rax == registers.orig_rax
            && memory.read(Address(registers.rip), &mut code).is_ok()
            && code == SYSCALL)
    }

    /// Lets a thread go back into its call, to stop when it returns; none if something
    /// else stopped it, which [`Tree::poll`] tells.
    fn until_return(&mut self, stopped: Stopped) -> Result<Option<Pid>, TraceeError> {
        let thread = stopped.thread();
        let Some(inside) = self.enter_call(stopped)? else {
            return Ok(None);
        };
        inside.resume(Until::SystemCall, 0)?;
        Ok(Some(thread))
    }

    /// Lets a thread go that was to stop when its call returns, now that its process was
    /// told of the child's end; if it has not returned yet, that stop is dropped when it
    /// comes.
    fn go_on(&mut self, thread: Pid) -> Result<(), TraceeError> {
        let mut status = 0;
        // SAFETY: waitpid writes one int.
        let answer = unsafe {
            libc::waitpid(
                thread.as_raw(),
                &raw mut status,
                libc::__WALL | libc::WNOHANG,
            )
        };
        match Errno::result(answer) {
            Ok(0) if self.until == Until::SystemCall => {}
            Ok(0) => {
                self.returning.insert(thread);
            }
            Ok(_) if status == AT_CALL => match self.returned(Stopped::reported(thread)) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            },
            Ok(_) => self.report_later(thread, status),
            Err(errno) => return Err(TraceeError::from_errno("waitpid", thread)(errno)),
        }
        Ok(())
    }

    /// Lets a thread that has returned from its call go on.
    fn returned(&mut self, stopped: Stopped) -> Result<(), TraceeError> {
        put_signal_first(&stopped)?;
        if self.until == Until::SystemCall {
            self.report_later(stopped.thread(), AT_CALL);
            return Ok(());
        }
        stopped.resume(self.until, 0).map(drop)
    }

    /// Lets a process of one thread end, and takes its end.
    fn see_end(&mut self, stopped: Stopped) -> Result<Option<Event>, TraceeError> {
        let thread = stopped.thread();
        stopped.resume(Until::Event, 0)?;
        loop {
            let status = wait_for(thread)?;
            if !libc::WIFSTOPPED(status) {
                return Ok(self.ended(thread, status));
            }
            Stopped::reported(thread).resume(Until::Event, 0)?;
        }
    }
}

/// No signal moves a process that has stopped because it is about to end: nobody who waits
/// for the end of all would see it go.
impl Drop for Tree {
    fn drop(&mut self) {
        for thread in self.about_to_end() {
            let _ = nix::sys::ptrace::cont(thread, None);
        }
    }
}

/// Most calls that wait look at what they wait for first, and at signals only if there is
/// nothing. A read of a local stream that had to wait looks at signals first
/// (`unix_stream_read_generic` in the kernel's `net/unix/af_unix.c`): it would have been
/// interrupted. It saw the end of the stream, so that nothing is lost if it did not.
fn put_signal_first(stopped: &Stopped) -> Result<(), TraceeError> {
    const ERESTARTSYS: u64 = 512;
    const READS: [i64; 4] = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
    ];
    let mut registers = stopped.registers()?;
    let saw_end = READS.contains(&registers.orig_rax.cast_signed()) && registers.rax == 0;
    let thread = stopped.thread();
    if saw_end && signal_pending(thread) && is_local_stream(thread, registers.rdi)? {
        registers.rax = ERESTARTSYS.wrapping_neg();
        stopped.set_registers(&registers)?;
    }
    Ok(())
}

/// Whether a descriptor of a thread's process is a local stream socket.
fn is_local_stream(thread: Pid, number: u64) -> Result<bool, TraceeError> {
    let Ok(number) = i32::try_from(number) else {
        return Ok(false);
    };
    let process = group_of(thread).unwrap_or(thread);
    let Ok(descriptor) = Source::open(process)?.duplicate(number) else {
        return Ok(false);
    };
    let named = getsockname::<SockaddrStorage>(descriptor.as_raw_fd());
    let is_local = named.is_ok_and(|name| name.family() == Some(AddressFamily::Unix));
    Ok(is_local && getsockopt(&descriptor, SockType).is_ok_and(|kind| kind == Kind::Stream))
}
