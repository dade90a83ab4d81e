//! Holds threads still while code changes under them, or while their stacks are
//! looked at, and lets them go on as if nothing had been.

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::inject::wait_for;
use super::stopped::Until;
use super::tree::{ProcessIndex, Tree};
use super::{Stopped, TraceeError};

/// The status of a thread that stopped at the beginning or the end of a system call.
pub(super) const AT_CALL: i32 = (libc::SIGTRAP | 0x80) << 8 | 0x7f;

/// A thread that is held still beside the one that everything is about.
#[derive(Debug)]
pub struct Held {
    /// Its process.
    pub process: ProcessIndex,
    /// The thread within it, by order of creation.
    pub thread: u32,
    /// The handle.
    pub stopped: Stopped,
    /// The status of a stop that it made for a reason of its own and that is still to
    /// be handled: then handling it resumes the thread.
    reported: Option<i32>,
}

impl Held {
    /// Whether it stands inside a system call such as `fork`, whose return would be
    /// lost if a function were called in it now.
    #[must_use]
    pub fn is_inside_call(&self) -> bool {
        let event = self.reported.map(|status| status >> 16);
        event.is_some_and(|event| event != 0 && event != libc::PTRACE_EVENT_STOP)
    }
}

impl Held {
    /// Whether it had stopped for a reason of its own before it was held.
    #[must_use]
    pub const fn has_reported(&self) -> bool {
        self.reported.is_some()
    }

    /// The same thread without what it reported, which was that its call is interrupted:
    /// it makes the call again.
    ///
    /// # Errors
    /// When it is gone.
    pub(super) fn without_report(self) -> Result<Self, TraceeError> {
        restart_call(&self.stopped)?;
        Ok(Self {
            reported: None,
            ..self
        })
    }

    /// The signal that was about to be delivered to it (0: none).
    pub(super) fn signal(&self) -> i32 {
        match self.reported {
            Some(status) if status >> 16 == 0 => match libc::WSTOPSIG(status) {
                signal if signal & !0x80 == libc::SIGTRAP => 0,
                signal => signal,
            },
            _ => 0,
        }
    }
}

impl Tree {
    /// Stops every living thread that `wanted` selects, and waits until it has
    /// stopped. What a thread reports meanwhile is kept for [`Tree::poll`].
    ///
    /// # Errors
    /// When a thread cannot be stopped.
    pub fn hold(
        &mut self,
        wanted: &dyn Fn(ProcessIndex, u32, Pid) -> bool,
    ) -> Result<Vec<Held>, TraceeError> {
        let threads: Vec<(ProcessIndex, u32, Pid)> = self
            .living()
            .flat_map(|(process, traced)| {
                let threads = traced.threads.iter();
                threads.map(move |thread| (process, thread.ordinal, thread.id))
            })
            .filter(|(process, ordinal, id)| wanted(*process, *ordinal, *id))
            .collect();
        let mut held = Vec::new();
        for (process, thread, id) in threads {
            let reported = self.reported(id);
            if reported.is_some() {
                // It stopped before, and nobody has looked at it yet.
                held.push(Held {
                    process,
                    thread,
                    stopped: Stopped::reported(id),
                    reported,
                });
                continue;
            }
            match ptrace::interrupt(id) {
                Err(Errno::ESRCH) => continue,
                result => result.map_err(TraceeError::from_errno("PTRACE_INTERRUPT", id))?,
            }
            let status = wait_for(id)?;
            let interrupted =
                status >> 16 == libc::PTRACE_EVENT_STOP && libc::WSTOPSIG(status) == libc::SIGTRAP;
            if !interrupted {
                self.report_later(id, status);
            }
            if libc::WIFSTOPPED(status) {
                let stopped = Stopped::reported(id);
                if interrupted {
                    restart_call(&stopped)?;
                }
                held.push(Held {
                    process,
                    thread,
                    stopped,
                    reported: (!interrupted).then_some(status),
                });
            }
        }
        Ok(held)
    }

    /// Lets held threads go on; those that reported something go on when it is
    /// handled.
    ///
    /// # Errors
    /// When tracing fails; a thread that is gone is none.
    pub fn release(&self, held: Vec<Held>) -> Result<(), TraceeError> {
        for thread in held {
            if thread.reported.is_some() {
                continue;
            }
            match thread.stopped.resume(self.until, 0) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Tree {
    /// Lets held threads go on and sees each that was held in a system call back into
    /// it: outside, a signal that comes next would not end the call, as it does in a
    /// server that stands still.
    ///
    /// # Errors
    /// When tracing fails; a thread that is gone is none.
    pub fn release_into_calls(&mut self, held: Vec<Held>) -> Result<(), TraceeError> {
        for thread in held {
            match self.release_into_call(thread) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn release_into_call(&mut self, held: Held) -> Result<(), TraceeError> {
        let in_call = held.stopped.registers()?.orig_rax.cast_signed() >= 0;
        if held.reported.is_some() || !in_call {
            return self.release(vec![held]);
        }
        self.into_call(held.stopped)
    }

    /// Lets a thread go on that is about to make a system call, and sees it into the
    /// call.
    ///
    /// # Errors
    /// When tracing fails.
    pub fn into_call(&mut self, stopped: Stopped) -> Result<(), TraceeError> {
        if let Some(inside) = self.enter_call(stopped)? {
            inside.resume(self.until, 0)?;
        }
        Ok(())
    }

    /// Lets a thread go on to where its call begins; none if something else stopped it,
    /// which [`Tree::poll`] tells.
    pub(super) fn enter_call(&mut self, stopped: Stopped) -> Result<Option<Stopped>, TraceeError> {
        let id = stopped.thread();
        stopped.resume(Until::SystemCall, 0)?;
        let status = wait_for(id)?;
        if status == AT_CALL {
            return Ok(Some(Stopped::reported(id)));
        }
        self.report_later(id, status);
        Ok(None)
    }
}

/// A wait such as `epoll_wait` answers a stop with EINTR, which the subject would
/// never see without us: start the call again. With a signal pending the answer may
/// be the subject's own, and stands.
fn restart_call(stopped: &Stopped) -> Result<(), TraceeError> {
    let mut registers = stopped.registers()?;
    let interrupted = i64::from(libc::EINTR).wrapping_neg();
    let in_call = registers.orig_rax.cast_signed() >= 0;
    if in_call && registers.rax.cast_signed() == interrupted && !signal_pending(stopped.thread()) {
        registers.rax = registers.orig_rax;
        registers.rip -= 2;
        stopped.set_registers(&registers)?;
    }
    Ok(())
}

/// Whether a signal that the thread does not block waits to be delivered to it.
pub(super) fn signal_pending(thread: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let set = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
            .unwrap_or(0)
    };
    (set("SigPnd") | set("ShdPnd")) & !set("SigBlk") != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pending_for_a_thread_at_peace() {
        assert!(!signal_pending(nix::unistd::getpid()));
    }
}
