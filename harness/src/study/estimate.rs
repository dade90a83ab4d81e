//! How long tests will take: what an ordinary test of each session took when its
//! session was prepared, times the tests that are left, shared among the workers.
//! It leaves out what cannot be known before: failing tests are repeated, and a
//! test that stalls waits for its limit.

use std::time::Duration;

use super::sessions::processors;
use super::store::SessionRecord;

/// The time that `tests` more tests of a session take, one after the other.
#[must_use]
pub fn of_session(record: &SessionRecord, tests: u64) -> Duration {
    // A run of a Kairos that did not measure it: a test costs little more than the
    // baseline, as `kairos bench` shows.
    let test = record.test_us.unwrap_or(record.old.wall_us);
    Duration::from_micros(test.saturating_mul(tests))
}

/// The same for all, shared among workers: two on one processor gain nothing.
#[must_use]
pub fn shared(total: Duration, jobs: usize) -> Duration {
    let mut processors = processors(jobs);
    processors.sort_unstable();
    processors.dedup();
    total / u32::try_from(processors.len().max(1)).unwrap_or(u32::MAX)
}

/// A duration as people say it: a second at least, two units at most, no false
/// precision.
#[must_use]
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round().max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "durations are positive, and fractions are not spoken"
    )]
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600, seconds / 60);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{minutes} min {} s", seconds % 60),
        6_000..=172_799 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spoken_in_two_units() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(spoken(0), "1 s");
        assert_eq!(spoken(44), "44 s");
        assert_eq!(spoken(754), "12 min 34 s");
        assert_eq!(spoken(3_600 * 7 + 60 * 5), "7 h 5 min");
        assert_eq!(spoken(86_400 * 3 + 3_600), "3 d 1 h");
    }
}
