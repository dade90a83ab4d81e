//! How long requests to update wait, in whole steps: points that pass, or
//! microseconds, with a weight for each length.

use std::collections::BTreeMap;

use super::statistics::as_float;

/// A distribution over whole numbers, and over requests that are never served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// How much the requests weigh that wait so long.
    served: BTreeMap<u64, u64>,
    /// How much those weigh that are never served.
    never: u64,
}

impl Steps {
    /// Adds requests of that weight; `delay` is none if they are never served.
    pub fn add(&mut self, delay: Option<u64>, weight: u64) {
        match delay {
            _ if weight == 0 => {}
            Some(delay) => *self.served.entry(delay).or_default() += weight,
            None => self.never += weight,
        }
    }

    /// Adds all requests of another distribution.
    pub fn merge(&mut self, other: &Self) {
        for (delay, weight) in &other.served {
            self.add(Some(*delay), *weight);
        }
        self.never += other.never;
    }

    /// Weight of all requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.served.values().sum::<u64>() + self.never
    }

    /// Share of the requests that are never served; none without requests.
    #[must_use]
    pub fn share_never(&self) -> Option<f64> {
        let total = self.total();
        (total > 0).then(|| as_float(self.never) / as_float(total))
    }

    /// The shortest delay that a share of `level` of the requests does not exceed;
    /// none if fewer are ever served.
    #[must_use]
    pub fn quantile(&self, level: f64) -> Option<u64> {
        let wanted = level * as_float(self.total());
        let mut reached = 0;
        self.served
            .iter()
            .find(|(_, weight)| {
                reached += **weight;
                as_float(reached) >= wanted
            })
            .map(|(delay, _)| *delay)
    }

    /// Share of the requests that wait for `limit` at most; none without requests.
    #[must_use]
    pub fn share_within(&self, limit: u64) -> Option<f64> {
        let total = self.total();
        let within: u64 = self.served.range(..=limit).map(|(_, weight)| weight).sum();
        (total > 0).then(|| as_float(within) / as_float(total))
    }

    /// The longest delay of a request that is served.
    #[must_use]
    pub fn longest(&self) -> Option<u64> {
        self.served.keys().next_back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_delays_that_occur() {
        let mut steps = Steps::default();
        for (delay, weight) in [(Some(0), 4), (Some(2), 4), (Some(7), 1), (None, 1)] {
            steps.add(delay, weight);
        }
        assert_eq!(steps.total(), 10);
        let levels = [0.1, 0.4, 0.5, 0.8, 0.9, 0.95];
        assert_eq!(
            levels.map(|level| steps.quantile(level)),
            [Some(0), Some(0), Some(2), Some(2), Some(7), None]
        );
        assert_eq!(steps.longest(), Some(7));
        assert_eq!(steps.share_never(), Some(0.1));
        assert_eq!(
            [0, 1, 2, 7].map(|limit| steps.share_within(limit)),
            [0.4, 0.4, 0.8, 0.9].map(Some)
        );
    }

    #[test]
    fn without_requests_nothing_is_known() {
        let mut steps = Steps::default();
        steps.add(Some(3), 0);
        assert_eq!(steps.total(), 0);
        assert_eq!((steps.quantile(0.5), steps.longest()), (None, None));
        assert_eq!((steps.share_never(), steps.share_within(9)), (None, None));
    }
}
