//! What measures are added up from: weighted counts of outcomes.

use std::collections::BTreeMap;

use super::rows::{LEADER, Outcome, TestRow};
use super::statistics::{Share, Weights};
use crate::verdict::Verdict;

/// Weighted outcomes of some points that were judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// How many points were judged, and how many they stand for.
    pub weights: Weights,
    /// How many of them were tested; the others are judged from the test of another
    /// point of their class.
    pub tested: u64,
    /// For how many points each outcome stands.
    pub outcomes: BTreeMap<Outcome, f64>,
    /// How many of the tested points failed, not weighted.
    pub failed_tests: u64,
}

impl Tally {
    /// Adds one tested point.
    pub fn add(&mut self, row: &TestRow) {
        self.weights.add(row.weight);
        self.tested += u64::from(row.engine != LEADER);
        *self.outcomes.entry(row.outcome).or_default() += row.weight;
        self.failed_tests += u64::from(row.outcome.is_failure());
    }

    /// Adds all points of another tally.
    pub fn merge(&mut self, other: &Self) {
        self.weights.merge(&other.weights);
        self.tested += other.tested;
        self.failed_tests += other.failed_tests;
        for (outcome, weight) in &other.outcomes {
            *self.outcomes.entry(*outcome).or_default() += weight;
        }
    }

    /// For how many points the outcomes that `wanted` selects stand.
    pub fn sum(&self, wanted: impl Fn(Outcome) -> bool) -> f64 {
        self.outcomes
            .iter()
            .filter(|(outcome, _)| wanted(**outcome))
            .map(|(_, weight)| weight)
            .fold(0.0, |sum, weight| sum + weight)
    }

    /// Points at which the update fails.
    #[must_use]
    pub fn failures(&self) -> f64 {
        self.sum(Outcome::is_failure)
    }

    /// Points at which it fails by more than a mixture of versions. Published
    /// studies, which judged by the test's own oracle, could not see mixtures.
    #[must_use]
    pub fn failures_without_mixed(&self) -> f64 {
        self.sum(|outcome| outcome.is_failure() && outcome != Outcome::Verdict(Verdict::Mixed))
    }

    /// Points at which it is applied and nothing fails.
    #[must_use]
    pub fn passes(&self) -> f64 {
        self.sum(Outcome::is_pass)
    }

    /// Share of failing points, with its interval.
    #[must_use]
    pub fn failure_share(&self) -> Option<Share> {
        self.weights.share(self.failures())
    }
}
