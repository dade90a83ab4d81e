//! Wakes a wait that takes long, so that its caller can look at the clock: a signal to
//! ourselves that does nothing else.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Microseconds between two of them.
const EVERY: i64 = 50_000;

/// While it lives, blocking calls of this process are interrupted now and then.
#[derive(Debug)]
pub struct Ticks(());

extern "C" fn nothing(_: i32) {}

impl Ticks {
    /// Begins.
    #[must_use]
    pub fn start() -> Self {
        let action = SigAction::new(
            SigHandler::Handler(nothing),
            SaFlags::empty(),
            SigSet::empty(),
        );
        // SAFETY: the handler does nothing.
        let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
        set(EVERY);
        Self(())
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        set(0);
    }
}

fn set(every: i64) {
    let span = libc::timeval {
        tv_sec: 0,
        tv_usec: every,
    };
    let timer = libc::itimerval {
        it_interval: span,
        it_value: span,
    };
    // SAFETY: reads one structure.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
}
