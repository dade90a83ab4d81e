//! How long requests to update wait, as times: the distribution over a request at
//! a uniformly random moment of some stretch of time.

use super::statistics::as_float;

/// Delays of requests over some stretch of time, all in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// Time during which a request is served at once.
    pub at_once: u64,
    /// Stretches at whose end a request made within them is served.
    pub gaps: Vec<u64>,
    /// Time during which a request is never served.
    pub never: u64,
}

impl Delays {
    /// Delays over `life`, served during `allowed` (in any order, overlapping
    /// freely; an instant is a stretch of length 0).
    #[must_use]
    pub fn over(life: (u64, u64), mut allowed: Vec<(u64, u64)>) -> Self {
        allowed.sort_unstable();
        let mut delays = Self::default();
        let mut now = life.0;
        for (from, to) in allowed {
            let (from, to) = (from.clamp(life.0, life.1), to.clamp(life.0, life.1));
            if from > now {
                delays.gaps.push(from - now);
                now = from;
            }
            if to > now {
                delays.at_once += to - now;
                now = to;
            }
        }
        delays.never = life.1.saturating_sub(now);
        delays
    }

    /// Adds the requests of another stretch of time.
    pub fn merge(&mut self, other: &Self) {
        self.at_once += other.at_once;
        self.gaps.extend_from_slice(&other.gaps);
        self.never += other.never;
    }

    /// Length of the stretch of time: how many requests there could be, one per
    /// microsecond.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.at_once + self.gaps.iter().sum::<u64>() + self.never
    }

    /// Share of the requests that are never served; none without any time.
    #[must_use]
    pub fn share_never(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| as_float(self.never) / as_float(total))
    }

    /// The delay that a share of `level` of the requests does not exceed; none if
    /// fewer are ever served.
    #[must_use]
    pub fn quantile(&self, level: f64) -> Option<f64> {
        let wanted = level * as_float(self.total());
        let mut served = as_float(self.at_once);
        if self.total() == 0 || as_float(self.total() - self.never) < wanted {
            return None;
        }
        let mut gaps = self.gaps.clone();
        gaps.sort_unstable();
        let mut delay = 0.0;
        for (place, gap) in gaps.iter().enumerate() {
            // Up to the next longer gap, served time grows by one microsecond per
            // microsecond of delay and gap that is at least that long.
            let growing = as_float(u64::try_from(gaps.len() - place).unwrap_or(u64::MAX));
            let gap = as_float(*gap);
            if served + growing * (gap - delay) >= wanted {
                return Some(delay + ((wanted - served) / growing).max(0.0));
            }
            served += growing * (gap - delay);
            delay = gap;
        }
        Some(delay)
    }

    /// Share of the requests that are served within `limit` microseconds; none
    /// without any time.
    #[must_use]
    pub fn share_within(&self, limit: f64) -> Option<f64> {
        let total = self.total();
        let waiting = self.gaps.iter().map(|gap| as_float(*gap).min(limit));
        let served = as_float(self.at_once) + waiting.sum::<f64>();
        (total > 0).then(|| served / as_float(total))
    }

    /// The longest delay of a request that is served.
    #[must_use]
    pub fn longest(&self) -> Option<u64> {
        let none_served = self.at_once == 0 && self.gaps.is_empty();
        (!none_served).then(|| self.gaps.iter().copied().max().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn points_and_waits_cut_a_life_into_gaps() {
        let delays = Delays::over((0, 100), vec![(60, 90), (10, 10), (20, 20), (20, 20)]);
        assert_eq!(
            delays,
            Delays {
                at_once: 30,
                gaps: vec![10, 10, 40],
                never: 10
            }
        );
        assert_eq!(delays.share_never(), Some(0.1));
        assert_eq!(delays.longest(), Some(40));
        // Half of 100: 30 at once, 3 gaps serve 3 µs each µs.
        assert!((delays.quantile(0.5).unwrap() - 20.0 / 3.0).abs() < 1e-9);
        assert!((delays.quantile(0.9).unwrap() - 40.0).abs() < 1e-9);
        assert_eq!(delays.quantile(0.95), None);
        assert_eq!(delays.quantile(0.3), Some(0.0));
        let within = [0.0, 10.0, 20.0, 40.0, 1e9].map(|limit| delays.share_within(limit));
        assert_eq!(within, [0.3, 0.6, 0.7, 0.9, 0.9].map(Some));
    }

    #[test]
    fn nothing_allowed_is_never() {
        let delays = Delays::over((5, 25), Vec::new());
        assert_eq!(delays.share_never(), Some(1.0));
        assert_eq!((delays.quantile(0.5), delays.longest()), (None, None));
        assert_eq!(Delays::default().share_never(), None);
    }

    proptest! {
        #[test]
        fn every_microsecond_is_accounted_for(life in (0u64..1000, 0u64..1000), allowed in proptest::collection::vec((0u64..1200, 0u64..50), 0..30)) {
            let life = (life.0.min(life.1), life.0.max(life.1));
            let allowed = allowed.into_iter().map(|(from, length)| (from, from + length)).collect();
            prop_assert_eq!(Delays::over(life, allowed).total(), life.1 - life.0);
        }

        #[test]
        fn quantiles_rise(gaps in proptest::collection::vec(1u64..1000, 1..20), at_once in 0u64..1000) {
            let delays = Delays { at_once, gaps, never: 0 };
            let quantiles: Vec<f64> = [0.1, 0.5, 0.9, 0.95, 1.0].iter().filter_map(|level| delays.quantile(*level)).collect();
            prop_assert_eq!(quantiles.len(), 5);
            prop_assert!(quantiles.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6));
            prop_assert!(quantiles[4] <= as_float(delays.longest().unwrap_or(0)) + 1e-6);
        }
    }
}
