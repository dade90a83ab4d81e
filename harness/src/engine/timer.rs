//! Watches a run in order to time it: entries are stamped in the process, and
//! nothing stops but forks and new threads.

use std::time::Instant;

use super::parts::Parts;
use super::watch::Watcher;
use crate::tracee::counter::Instrument;
use crate::tracee::stamps;
use crate::world::HostError;

/// Notes when exchanges begin and end, by the clock of the stamps.
pub struct Timer {
    /// Time stamps at the beginnings and ends of exchanges.
    exchanges: Vec<(u64, u64)>,
    began: (Instant, u64),
}

impl Default for Timer {
    fn default() -> Self {
        Self {
            exchanges: Vec::new(),
            began: (Instant::now(), stamps::now()),
        }
    }
}

/// Turns time stamps into microseconds since the server was ready.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    ready: u64,
    ticks_per_microsecond: f64,
}

impl Clock {
    /// The time of a stamp; negative before the server was ready.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // a session is shorter than 2^52 ticks
    pub fn microseconds(&self, ticks: u64) -> f64 {
        let since = ticks.wrapping_sub(self.ready).cast_signed();
        since as f64 / self.ticks_per_microsecond
    }
}

impl Timer {
    /// The clock of this run. Ask when the run is over: the longer, the more exact.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn clock(&self) -> Clock {
        let ticks = stamps::now().wrapping_sub(self.began.1) as f64;
        let microseconds = self.began.0.elapsed().as_secs_f64() * 1e6;
        Clock {
            ready: self.exchanges.first().map_or(self.began.1, |first| first.0),
            ticks_per_microsecond: ticks / microseconds.max(1.0),
        }
    }

    /// Beginning and end of each exchange of the session, in microseconds.
    #[must_use]
    pub fn exchanges(&self, clock: Clock) -> Vec<(f64, f64)> {
        let span =
            |(begin, end): &(u64, u64)| (clock.microseconds(*begin), clock.microseconds(*end));
        self.exchanges.iter().map(span).collect()
    }
}

impl Watcher for Timer {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Stamp)
    }

    fn exchange_begins(&mut self, _parts: &mut Parts<'_>, _number: u32) -> Result<(), HostError> {
        let now = stamps::now();
        self.exchanges.push((now, now));
        Ok(())
    }

    fn exchange_ended(&mut self, _parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(exchange) = self.exchanges.get_mut(at) {
            exchange.1 = stamps::now();
        }
        Ok(())
    }
}
