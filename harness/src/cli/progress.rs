//! How a study's progress is shown: a bar on a terminal, plain lines elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use kairos::study::estimate::spoken;
use kairos::study::progress::{Planned, Progress};

/// Without a terminal a line comes with every tenth of the tests, and at least so
/// often.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// A bar on a terminal, lines elsewhere.
pub struct Bar {
    bar: ProgressBar,
    done: AtomicU64,
    total: AtomicU64,
    lines: Mutex<Lines>,
}

/// When lines were printed.
struct Lines {
    begun: Instant,
    last: Instant,
}

impl Bar {
    /// Begins to show.
    pub fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        let begun = Instant::now();
        Self {
            bar,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            lines: Mutex::new(Lines { begun, last: begun }),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// A line of progress, if it is time for one.
    fn lines(&self, done: u64, failures: u64) {
        let total = self.total.load(Ordering::Relaxed);
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let tenth = done.is_multiple_of((total / 10).max(1));
        if done != total && !tenth && lines.last.elapsed() < LONGEST_SILENCE {
            return;
        }
        lines.last = Instant::now();
        let elapsed = lines.begun.elapsed();
        let left = total.saturating_sub(done);
        eprintln!(
            "{done} of {total} tests, {failures} failed, {}",
            match left {
                0 => format!("took {}", spoken(elapsed)),
                _ => format!(
                    "{}, {} left",
                    rate(done, elapsed),
                    spoken(rest(done, left, elapsed))
                ),
            }
        );
    }
}

fn rate(done: u64, elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis().max(1);
    let tenths = u128::from(done) * 10_000 / milliseconds;
    if tenths >= 100 {
        format!("{}/s", tenths / 10)
    } else {
        format!("{}.{}/s", tenths / 10, tenths % 10)
    }
}

/// What the rest takes if it goes on as before.
fn rest(done: u64, left: u64, elapsed: Duration) -> Duration {
    let nanoseconds = elapsed.as_nanos() * u128::from(left) / u128::from(done.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// `8080 update tests on 2 workers, about 44 s`.
fn announced(planned: &Planned) -> String {
    let Planned {
        tests,
        finished,
        estimate,
        jobs,
    } = planned;
    let before = match finished {
        0 => String::new(),
        _ => format!(", {finished} are done already"),
    };
    if *tests == 0 {
        return format!("no update tests are left{before}");
    }
    let workers = if *jobs == 1 { "worker" } else { "workers" };
    format!(
        "{tests} update tests{before}; on {jobs} {workers} about {}, and longer where tests fail (they are repeated) or stall",
        spoken(*estimate)
    )
}

impl Progress for Bar {
    fn stage(&self, what: &str) {
        if self.bar.is_hidden() {
            eprintln!("{what}");
        } else {
            self.bar.set_message(what.to_owned());
        }
    }

    fn planned(&self, planned: &Planned) {
        self.total.store(planned.tests, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.line(&announced(planned));
        let begun = Instant::now();
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = Lines { begun, last: begun };
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(planned.tests);
        self.bar.set_position(0);
        self.bar.reset_eta();
        let style = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} tests, {per_sec}, {eta} left; {msg}",
        );
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
        self.bar.set_message("0 failed");
    }

    fn tested(&self, failures: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if self.bar.is_hidden() {
            self.lines(done, failures);
        } else {
            self.bar.set_position(done);
            self.bar.set_message(format!("{failures} failed"));
        }
    }

    fn problem(&self, what: &str) {
        self.line(&format!("kairos: {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_keep_a_digit_only_where_it_matters() {
        assert_eq!(rate(7, Duration::from_secs(2)), "3.5/s");
        assert_eq!(rate(400, Duration::from_secs(2)), "200/s");
        assert_eq!(
            rest(100, 300, Duration::from_secs(2)),
            Duration::from_secs(6)
        );
    }

    #[test]
    fn what_is_done_and_what_it_will_take_is_announced() {
        let planned = Planned {
            tests: 12,
            finished: 3,
            estimate: Duration::from_secs(5),
            jobs: 1,
        };
        assert_eq!(
            announced(&planned),
            "12 update tests, 3 are done already; on 1 worker about 5 s, and longer where tests fail (they are repeated) or stall"
        );
    }
}
