//! Intervals of weighted shares.

/// An estimated share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// The estimate, between 0 and 1.
    pub value: f64,
    /// The interval; none if every point was tested, so that nothing was estimated.
    pub interval: Option<(f64, f64)>,
}

/// Sums over weighted observations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weights {
    /// Number of observations.
    pub count: u64,
    /// Sum of their weights.
    pub sum: f64,
    /// Sum of the squares of their weights.
    pub squares: f64,
}

impl Weights {
    /// Adds an observation.
    pub fn add(&mut self, weight: f64) {
        self.count += 1;
        self.sum += weight;
        self.squares += weight * weight;
    }

    /// Adds all observations of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The share that observations of weight `part` have, with Wilson's interval
    /// over Kish's effective sample size; none without observations.
    #[must_use]
    pub fn share(&self, part: f64) -> Option<Share> {
        if self.sum <= 0.0 {
            return None;
        }
        let value = (part / self.sum).clamp(0.0, 1.0);
        // Every weight is at least 1: a sum equal to the count means that each
        // point stands for itself alone.
        let census = (self.sum - as_float(self.count)).abs() < 1e-9;
        let effective = self.sum * self.sum / self.squares;
        Some(Share {
            value,
            interval: (!census).then(|| wilson(value, effective)),
        })
    }
}

/// Wilson's 95 % interval (JASA 22, 1927) of a share seen in `size` observations.
#[must_use]
pub fn wilson(share: f64, size: f64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let z2 = Z * Z / size;
    let centre = share + z2 / 2.0;
    let half = (share * (1.0 - share) * z2 + z2 * z2 / 4.0).sqrt();
    let limit = |value: f64| (value / (1.0 + z2)).clamp(0.0, 1.0);
    (limit(centre - half), limit(centre + half))
}

/// A count as a number to calculate with.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "no study counts beyond 2^52 points or microseconds"
)]
pub const fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wilson_gives_the_textbook_interval() {
        let (low, high) = wilson(0.1, 50.0);
        assert!(
            (low - 0.0435).abs() < 5e-4 && (high - 0.2136).abs() < 5e-4,
            "{low} {high}"
        );
    }

    #[test]
    fn a_census_has_no_interval() {
        let mut weights = Weights::default();
        (0..4).for_each(|_| weights.add(1.0));
        let share = weights.share(1.0).unwrap();
        assert_eq!((share.value, share.interval), (0.25, None));
        assert_eq!(Weights::default().share(0.0), None);
    }

    proptest! {
        #[test]
        fn an_interval_holds_its_estimate(share in 0.0f64..=1.0, size in 1.0f64..1e6) {
            let (low, high) = wilson(share, size);
            prop_assert!(low <= share + 1e-9 && share <= high + 1e-9);
        }
    }
}
