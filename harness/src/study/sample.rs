//! `--sample N`: which points of one (pair, workload, role) are tested, and how
//! many points each of them stands for.

use sha2::{Digest, Sha256};

/// A point taken into the sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// Index of the point within its stratum.
    pub index: usize,
    /// How many points of the stratum it stands for.
    pub weight: f64,
}

/// Takes every point that `always` marks, with weight 1, and `count` of the
/// others: they are cut into `count` stretches of (almost) equal length, and of
/// each stretch one point, chosen by the seed, stands for all. So the sample is
/// spread evenly, no rhythm of the program can hide from it, and estimates are
/// unbiased; weights add up to the population exactly.
#[must_use]
pub fn sample(always: &[bool], count: usize, seed: u64) -> Vec<Taken> {
    let others: Vec<usize> = (0..always.len()).filter(|index| !always[*index]).collect();
    let count = match count.min(others.len()) {
        // Points left out altogether would make every estimate wrong.
        0 if !others.is_empty() => 1,
        count => count,
    };
    let mut random = SplitMix(seed);
    let mut taken: Vec<Taken> = (0..always.len())
        .filter(|index| always[*index])
        .map(|index| Taken { index, weight: 1.0 })
        .collect();
    for stretch in 0..count {
        let from = stretch * others.len() / count;
        let to = (stretch + 1) * others.len() / count;
        taken.push(Taken {
            index: others[from + random.below(to - from)],
            weight: as_weight(to - from),
        });
    }
    taken.sort_by_key(|taken| taken.index);
    taken
}

/// A seed of its own for each stratum, so that adding a pair or a workload to a
/// study leaves the samples of the others as they were.
#[must_use]
pub fn stratum_seed(seed: u64, stratum: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for part in stratum {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no session has 2^52 update points"
)]
const fn as_weight(points: usize) -> f64 {
    points as f64
}

/// Steele, Lea and Flood's `SplitMix64`: small, and the same on every platform and
/// in every release, which a sample that others repeat must be.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which must not be 0.
    fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.next()) * u128::try_from(limit).unwrap_or(1);
        usize::try_from(wide >> 64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn weights_add_up_to_the_population(always in proptest::collection::vec(prop::bool::weighted(0.1), 0..400), count in 0usize..60, seed: u64) {
            let taken = sample(&always, count, seed);
            let sum: f64 = taken.iter().map(|taken| taken.weight).sum();
            prop_assert!((sum - as_weight(always.len())).abs() < 1e-9);
        }

        #[test]
        fn marked_points_are_taken_with_weight_one(always in proptest::collection::vec(any::<bool>(), 0..200), count in 0usize..60, seed: u64) {
            let taken = sample(&always, count, seed);
            for (index, _) in always.iter().enumerate().filter(|(_, always)| **always) {
                let expected = Taken { index, weight: 1.0 };
                prop_assert!(taken.contains(&expected));
            }
        }

        #[test]
        fn the_sample_is_ascending_of_the_right_size_and_repeatable(always in proptest::collection::vec(prop::bool::weighted(0.2), 1..200), count in 1usize..60, seed: u64) {
            let taken = sample(&always, count, seed);
            prop_assert!(taken.windows(2).all(|pair| pair[0].index < pair[1].index));
            let marked = always.iter().filter(|always| **always).count();
            prop_assert_eq!(taken.len(), marked + count.min(always.len() - marked));
            prop_assert_eq!(sample(&always, count, seed), taken);
        }
    }

    #[test]
    fn the_sample_is_spread_and_moves_with_the_seed() {
        let always = [false; 100];
        let indices = |seed| -> Vec<usize> {
            sample(&always, 10, seed)
                .iter()
                .map(|taken| taken.index)
                .collect()
        };
        for (stretch, index) in indices(1).into_iter().enumerate() {
            assert_eq!(index / 10, stretch);
        }
        assert_ne!(indices(1), indices(2));
    }

    #[test]
    fn strata_have_seeds_of_their_own() {
        let seed = stratum_seed(7, &["tiny-1-2", "basic", "session"]);
        assert_eq!(seed, stratum_seed(7, &["tiny-1-2", "basic", "session"]));
        assert_ne!(seed, stratum_seed(8, &["tiny-1-2", "basic", "session"]));
        assert_ne!(seed, stratum_seed(7, &["tiny-1-2", "basics", "ession"]));
    }
}
