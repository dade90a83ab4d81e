//! A thread that is stopped, as a value: only it can be read, changed or resumed,
//! and resuming consumes it.

use std::cell::RefCell;

use libc::user_regs_struct;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::TraceeError;
use crate::binary::Address;

/// A thread in a ptrace stop.
#[derive(Debug)]
#[must_use = "a stopped thread must be resumed"]
pub struct Stopped {
    thread: Pid,
    /// The integer registers once they were read: nothing changes them but us.
    registers: RefCell<Option<Box<user_regs_struct>>>,
}

/// A thread that was resumed; the next wait may turn it into a stopped one.
#[derive(Debug)]
pub struct Running {
    /// Its number.
    pub thread: Pid,
}

/// How far a resumed thread runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// The next event.
    #[default]
    Event,
    /// The next event, or entry or exit of a system call.
    SystemCall,
    /// The next event or instruction.
    Step,
}

impl Stopped {
    /// Takes the wait status of `thread` as proof that it is stopped.
    pub(super) const fn reported(thread: Pid) -> Self {
        Self {
            thread,
            registers: RefCell::new(None),
        }
    }

    /// It ran meanwhile, and has stopped again.
    pub(super) fn ran(&self) {
        self.registers.take();
    }

    /// The thread's number.
    #[must_use]
    pub const fn thread(&self) -> Pid {
        self.thread
    }

    /// The integer registers.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn registers(&self) -> Result<user_regs_struct, TraceeError> {
        if let Some(registers) = &*self.registers.borrow() {
            return Ok(**registers);
        }
        let registers = ptrace::getregs(self.thread)
            .map_err(TraceeError::from_errno("PTRACE_GETREGS", self.thread))?;
        self.registers.replace(Some(Box::new(registers)));
        Ok(registers)
    }

    /// Replaces the integer registers.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set_registers(&self, registers: &user_regs_struct) -> Result<(), TraceeError> {
        // The kernel may not take all of it as it is.
        self.registers.take();
        ptrace::setregs(self.thread, *registers)
            .map_err(TraceeError::from_errno("PTRACE_SETREGS", self.thread))
    }

    /// The address whose access gave the signal that it stopped for; none if the
    /// signal was not for an access.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn fault_address(&self) -> Result<Option<Address>, TraceeError> {
        let signal = ptrace::getsiginfo(self.thread)
            .map_err(TraceeError::from_errno("PTRACE_GETSIGINFO", self.thread))?;
        // Positive codes are the kernel's own; others come from `kill` and its like.
        let faulted = signal.si_signo == libc::SIGSEGV && signal.si_code > 0;
        // SAFETY: the kernel fills in the address for every SIGSEGV of its own.
        Ok(faulted.then(|| Address(unsafe { signal.si_addr() } as u64)))
    }

    /// The message of the event it stopped for: a new process's number, say.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn event_message(&self) -> Result<u64, TraceeError> {
        ptrace::getevent(self.thread)
            .map(i64::cast_unsigned)
            .map_err(TraceeError::from_errno("PTRACE_GETEVENTMSG", self.thread))
    }

    /// Resumes, delivering `signal` (0: none).
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn resume(self, until: Until, signal: i32) -> Result<Running, TraceeError> {
        let request = match until {
            Until::Event => libc::PTRACE_CONT,
            Until::SystemCall => libc::PTRACE_SYSCALL,
            Until::Step => libc::PTRACE_SINGLESTEP,
        };
        self.request(request, signal)
    }

    /// Executes one instruction.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn step(self) -> Result<Running, TraceeError> {
        self.request(libc::PTRACE_SINGLESTEP, 0)
    }

    /// Leaves a group-stopped thread stopped, but able to report its continuation.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn stay_stopped(self) -> Result<Running, TraceeError> {
        self.request(libc::PTRACE_LISTEN, 0)
    }

    /// Has calls that a seccomp filter marks reported as stops, too.
    ///
    /// # Errors
    /// When the thread is gone.
    pub(super) fn follow_filter(&self) -> Result<(), TraceeError> {
        let options = super::spawn::FOLLOW | ptrace::Options::PTRACE_O_TRACESECCOMP;
        ptrace::setoptions(self.thread, options)
            .map_err(TraceeError::from_errno("PTRACE_SETOPTIONS", self.thread))
    }

    /// Has its end, and that of every process it starts, reported before it begins.
    ///
    /// # Errors
    /// When the thread is gone.
    pub(super) fn follow_end(&self) -> Result<(), TraceeError> {
        let options = super::spawn::FOLLOW | ptrace::Options::PTRACE_O_TRACEEXIT;
        ptrace::setoptions(self.thread, options)
            .map_err(TraceeError::from_errno("PTRACE_SETOPTIONS", self.thread))
    }

    /// Lets go of the thread for good, delivering `signal` (0: none).
    ///
    /// # Errors
    /// When the thread is gone.
    pub(super) fn detach(&self, signal: i32) -> Result<(), TraceeError> {
        let signal = nix::sys::signal::Signal::try_from(signal).ok();
        ptrace::detach(self.thread, signal)
            .map_err(TraceeError::from_errno("PTRACE_DETACH", self.thread))
    }

    // nix takes only signals that it has a name for; a subject may use any.
    fn request(self, request: libc::c_uint, signal: i32) -> Result<Running, TraceeError> {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests use no memory of ours; the data word is a signal number.
        let answer =
            unsafe { libc::ptrace(request, self.thread.as_raw(), none, i64::from(signal)) };
        Errno::result(answer)
            .map(|_| Running {
                thread: self.thread,
            })
            .map_err(TraceeError::from_errno("resuming", self.thread))
    }

    /// The signals it blocks, as a bit set.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn signal_mask(&self) -> Result<u64, TraceeError> {
        let mut mask = 0_u64;
        // SAFETY: the kernel writes the eight bytes of the mask.
        let answer = unsafe {
            libc::ptrace(
                libc::PTRACE_GETSIGMASK,
                self.thread.as_raw(),
                size_of::<u64>(),
                &raw mut mask,
            )
        };
        Errno::result(answer)
            .map(|_| mask)
            .map_err(TraceeError::from_errno("PTRACE_GETSIGMASK", self.thread))
    }

    /// Replaces the set of blocked signals.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set_signal_mask(&self, mask: u64) -> Result<(), TraceeError> {
        // SAFETY: the kernel reads the eight bytes of the mask.
        let answer = unsafe {
            libc::ptrace(
                libc::PTRACE_SETSIGMASK,
                self.thread.as_raw(),
                size_of::<u64>(),
                &raw const mask,
            )
        };
        Errno::result(answer)
            .map(drop)
            .map_err(TraceeError::from_errno("PTRACE_SETSIGMASK", self.thread))
    }

    /// What calls preserve of the floating-point unit: how it rounds, and which
    /// exceptions it raises (the x87 control word, and `MXCSR`).
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn floating_control(&self) -> Result<(u16, u32), TraceeError> {
        // SAFETY: a plain structure of numbers, which the kernel fills.
        let (answer, state) = unsafe {
            let mut state: libc::user_fpregs_struct = std::mem::zeroed();
            let none = std::ptr::null_mut::<libc::c_void>();
            let request = libc::PTRACE_GETFPREGS;
            let answer = libc::ptrace(request, self.thread.as_raw(), none, &raw mut state);
            (answer, state)
        };
        Errno::result(answer)
            .map(|_| (state.cwd, state.mxcsr))
            .map_err(TraceeError::from_errno("PTRACE_GETFPREGS", self.thread))
    }

    /// The extended (floating-point and vector) state, as the kernel lays it out.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn extended_state(&self) -> Result<Vec<u8>, TraceeError> {
        let mut state = vec![0_u8; 16 * 1024];
        let mut area = libc::iovec {
            iov_base: state.as_mut_ptr().cast(),
            iov_len: state.len(),
        };
        self.register_set(libc::PTRACE_GETREGSET, &mut area)?;
        state.truncate(area.iov_len);
        Ok(state)
    }

    /// Puts back what [`Stopped::extended_state`] read.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set_extended_state(&self, state: &[u8]) -> Result<(), TraceeError> {
        let mut area = libc::iovec {
            iov_base: state.as_ptr().cast_mut().cast(),
            iov_len: state.len(),
        };
        self.register_set(libc::PTRACE_SETREGSET, &mut area)
    }

    fn register_set(
        &self,
        request: libc::c_uint,
        area: &mut libc::iovec,
    ) -> Result<(), TraceeError> {
        const NT_X86_XSTATE: usize = 0x202;
        // SAFETY: `area` describes memory that lives through the call; SETREGSET only reads it.
        let answer = unsafe {
            libc::ptrace(
                request,
                self.thread.as_raw(),
                NT_X86_XSTATE,
                std::ptr::from_mut(area),
            )
        };
        Errno::result(answer)
            .map(drop)
            .map_err(TraceeError::from_errno(
                "PTRACE_GETREGSET/SETREGSET",
                self.thread,
            ))
    }
}
