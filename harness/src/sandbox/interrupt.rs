//! Notes SIGINT and SIGTERM, so that a study ends with what is done.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;

use super::SandboxError;

static FLAG: AtomicPtr<AtomicBool> = AtomicPtr::new(std::ptr::null_mut());

/// A process group that an interrupt at the terminal does not reach; 0 for none.
static FORWARD: AtomicI32 = AtomicI32::new(0);

/// Interrupts are passed on until it is dropped.
#[derive(Debug)]
pub struct Forwarded(());

/// Passes interrupts on to a process group, the last that was named.
#[must_use]
pub fn forward_to(group: Pid) -> Forwarded {
    FORWARD.store(group.as_raw(), Ordering::SeqCst);
    Forwarded(())
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        FORWARD.store(0, Ordering::SeqCst);
    }
}

/// Makes a write beyond the limit on file sizes (`ulimit -f`) an error, which can be
/// told, instead of a sudden end. A handler and not neglect: it does not reach the
/// programs that Kairos starts.
///
/// # Errors
/// When the handler cannot be installed.
pub fn outlive_file_limit() -> Result<(), SandboxError> {
    extern "C" fn nothing(_signal: i32) {}
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGXFSZ, &action) }
        .map(drop)
        .map_err(SandboxError::refused("sigaction"))
}

/// Sets `flag` when an interrupt arrives; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn note_in(flag: &'static AtomicBool) -> Result<(), SandboxError> {
    // The second one finds the default: the end.
    handle(flag, SaFlags::SA_RESTART | SaFlags::SA_RESETHAND)
}

/// Sets `flag` at every interrupt and goes on, for as long as another program has
/// the terminal.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn ignore_in(flag: &'static AtomicBool) -> Result<(), SandboxError> {
    handle(flag, SaFlags::SA_RESTART)
}

fn handle(flag: &'static AtomicBool, flags: SaFlags) -> Result<(), SandboxError> {
    FLAG.store(std::ptr::from_ref(flag).cast_mut(), Ordering::SeqCst);
    let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        unsafe { sigaction(signal, &action) }.map_err(SandboxError::refused("sigaction"))?;
    }
    Ok(())
}

extern "C" fn note(_signal: i32) {
    let flag = FLAG.load(Ordering::SeqCst);
    // SAFETY: the pointer is null or comes from a `&'static AtomicBool`.
    if let Some(flag) = unsafe { flag.as_ref() } {
        flag.store(true, Ordering::SeqCst);
    }
    let group = FORWARD.load(Ordering::SeqCst);
    if group > 1 {
        // SAFETY: kill may be called in a handler; it concerns no memory.
        unsafe { libc::kill(-group, libc::SIGTERM) };
    }
}
