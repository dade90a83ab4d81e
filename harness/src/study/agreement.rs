//! Whether tests of equivalent points agree. Tests that differ within a class run
//! again before they count, so that a race in the server is told from a wrong class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plan::{PlannedTest, SessionKey};
use super::store::{StoreError, TestRecord};
use crate::equivalence::compare::{Member, Shown, Tested};

/// Tested members of each class, by session and class; places are those of the plan.
pub type ByClass<'a> = BTreeMap<(&'a SessionKey, &'a str), Tested>;

/// Gathers what the tests showed of classes that have several tested members.
///
/// # Errors
/// A record cannot be read.
pub fn gather<'a>(
    plan: &[&'a PlannedTest],
    tests: impl Iterator<Item = Result<TestRecord, StoreError>>,
) -> Result<ByClass<'a>, StoreError> {
    let mut sizes: HashMap<(&SessionKey, &str), usize> = HashMap::new();
    for test in plan.iter().filter(|test| test.tested) {
        *sizes.entry((&test.session, &test.class)).or_default() += 1;
    }
    let mut planned: HashMap<&str, (usize, &'a PlannedTest)> = HashMap::new();
    for (place, test) in plan.iter().enumerate() {
        if sizes.get(&(&test.session, &*test.class)) > Some(&1) {
            planned.insert(&test.id, (place, test));
        }
    }
    let mut found: ByClass<'a> = BTreeMap::new();
    for record in tests {
        let record = record?;
        let Some((place, test)) = planned.get(record.test.as_str()).copied() else {
            continue;
        };
        let class = found.entry((&test.session, &test.class)).or_default();
        class.add(Member {
            place,
            exchange: test.point.exchange,
            shown: record.observations.iter().filter_map(Shown::of).collect(),
        });
    }
    Ok(found)
}

/// Tests that must run again before they count, but for those that were tried, in the
/// order of the plan.
#[must_use]
pub fn to_repeat<'a>(
    plan: &[&'a PlannedTest],
    classes: &ByClass<'_>,
    tried: &BTreeSet<String>,
) -> Vec<&'a PlannedTest> {
    let doubtful = classes.values().flat_map(Tested::doubtful);
    let mut places: Vec<usize> = doubtful.map(|member| member.place).collect();
    places.sort_unstable();
    places
        .into_iter()
        .filter_map(|place| plan.get(place).copied())
        .filter(|test| !tried.contains(&test.id))
        .collect()
}

/// How many classes disagree.
#[must_use]
pub fn disagreements(classes: &ByClass<'_>) -> u64 {
    let disagree = classes.values().filter(|one| one.disagreement().is_some());
    disagree.fold(0, |count, _| count + 1)
}
