//! Decides that a session stands still, by the subject's own clock: time counts
//! only while the server waits, or while it burns processor time, so that a busy
//! machine never looks like a stalled server.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::tracee::activity::{Activity, Reading};

/// How long a server may make no client-visible progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Waiting, in total, since the last progress.
    pub waiting: Duration,
    /// Processor time used since the last progress.
    pub busy: Duration,
    /// Waiting, in total, after it was asked to stop.
    #[serde(default = "unmeasured")]
    pub stopping: Duration,
}

/// Runs of before did not measure stops.
const fn unmeasured() -> Duration {
    Limits::BASELINE.stopping
}

/// A server that looks at a flag at its next tick stops within a second, but when
/// depends on how long the session took: what baselines waited may be far less.
const TICKS: Duration = Duration::from_secs(2);

impl Limits {
    /// Limits for a baseline, which has none of its own to go by: longer than any
    /// server's ordinary pause.
    pub const BASELINE: Self = Self {
        waiting: Duration::from_secs(10),
        busy: Duration::from_secs(10),
        stopping: Duration::from_secs(10),
    };

    /// Nothing, as a pause.
    pub const NONE: Self = Self {
        waiting: Duration::ZERO,
        busy: Duration::ZERO,
        stopping: Duration::ZERO,
    };

    /// Limits for tests, from the longest pauses of the baselines.
    #[must_use]
    pub fn from_longest(pauses: Self) -> Self {
        Self {
            waiting: pauses.waiting * 2 + Duration::from_millis(250),
            busy: pauses.busy * 20 + Duration::from_millis(500),
            stopping: pauses.stopping * 2 + TICKS,
        }
    }

    /// The limits that hold after the server was asked to stop.
    #[must_use]
    pub fn of_stop(self) -> Self {
        Self {
            waiting: self.stopping,
            ..self
        }
    }

    /// The pause of a stop as one among those of its run.
    #[must_use]
    pub fn from_stop(pause: Self) -> Self {
        Self {
            waiting: Duration::ZERO,
            busy: pause.busy,
            stopping: pause.waiting,
        }
    }

    /// The longer of each.
    #[must_use]
    pub fn longest(self, other: Self) -> Self {
        Self {
            waiting: self.waiting.max(other.waiting),
            busy: self.busy.max(other.busy),
            stopping: self.stopping.max(other.stopping),
        }
    }
}

/// Measures one pause.
#[derive(Debug)]
pub struct StallClock {
    waited: Duration,
    looked: Instant,
    slices: Option<u64>,
    used_before: Option<Duration>,
    used: Duration,
}

impl StallClock {
    /// Starts at a moment of progress.
    #[must_use]
    pub fn start() -> Self {
        Self {
            waited: Duration::ZERO,
            looked: Instant::now(),
            slices: None,
            used_before: None,
            used: Duration::ZERO,
        }
    }

    /// Takes a reading; time since the last one counts as waiting if no thread
    /// ran in between.
    pub fn look(&mut self, reading: &Reading) {
        let now = Instant::now();
        if reading.activity != Activity::Running && self.slices == Some(reading.slices) {
            self.waited += now - self.looked;
        }
        self.looked = now;
        self.slices = Some(reading.slices);
        let before = *self.used_before.get_or_insert(reading.used);
        self.used = reading.used.saturating_sub(before);
    }

    /// The pause so far.
    #[must_use]
    pub fn pause(&self) -> Limits {
        Limits {
            waiting: self.waited,
            busy: self.used,
            ..Limits::NONE
        }
    }

    /// Whether the pause exceeds `limits`, and if so whether the server was busy.
    #[must_use]
    pub fn exceeds(&self, limits: &Limits) -> Option<Stalled> {
        if self.used > limits.busy {
            Some(Stalled { busy: true })
        } else if self.waited > limits.waiting {
            Some(Stalled { busy: false })
        } else {
            None
        }
    }
}

/// A pause that was too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalled {
    /// Whether it burned processor time rather than waited.
    pub busy: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(activity: Activity, slices: u64, used: u64) -> Reading {
        Reading {
            activity,
            slices,
            used: Duration::from_millis(used),
        }
    }

    #[test]
    fn a_server_that_gets_no_processor_does_not_stall() {
        let mut clock = StallClock::start();
        for _ in 0..3 {
            std::thread::yield_now();
            clock.look(&reading(Activity::Running, 7, 5));
        }
        assert_eq!(clock.pause().waiting, Duration::ZERO);
        assert_eq!(clock.exceeds(&Limits::NONE), None);
    }

    #[test]
    fn burning_and_waiting_are_told_apart() {
        let mut clock = StallClock::start();
        clock.look(&reading(Activity::Running, 1, 5));
        clock.look(&reading(Activity::Running, 1, 900));
        let limits = Limits {
            waiting: Duration::from_secs(1),
            busy: Duration::from_millis(500),
            ..Limits::NONE
        };
        assert_eq!(clock.exceeds(&limits), Some(Stalled { busy: true }));
        let mut clock = StallClock::start();
        clock.look(&reading(Activity::Blocked, 1, 5));
        clock.look(&reading(Activity::Blocked, 1, 5));
        let limits = Limits {
            busy: Duration::from_secs(1),
            ..Limits::NONE
        };
        assert_eq!(clock.exceeds(&limits), Some(Stalled { busy: false }));
    }

    #[test]
    fn a_stop_may_take_longer_than_a_reply() {
        let milliseconds = Duration::from_millis;
        let replies = Limits {
            waiting: milliseconds(3),
            ..Limits::NONE
        };
        let stop = Limits::from_stop(Limits {
            waiting: milliseconds(900),
            ..Limits::NONE
        });
        let limits = Limits::from_longest(replies.longest(stop));
        assert_eq!(limits.waiting, milliseconds(256));
        assert_eq!(limits.of_stop().waiting, milliseconds(3800));
    }
}
