//! Notes SIGINT and SIGTERM, so that a study ends with what is done.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::SandboxError;

static FLAG: AtomicPtr<AtomicBool> = AtomicPtr::new(std::ptr::null_mut());

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
}
