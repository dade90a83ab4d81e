//! Whether tests of equivalent points agree. Tests that differ within a class run
//! again before they count, so that a race in the server is told from a wrong class.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::plan::{PlannedTest, SessionKey};
use super::store::{Run, RunFacts, SessionRecord, StoreError, TestRecord};
use crate::equivalence::compare::{Member, Shown, Tested};
use crate::verdict::alike::Endings;

/// What tests showed of classes that have several tested members.
#[derive(Debug, Default)]
pub struct Compared<'a> {
    /// Those members, by session and class; places are those of the plan.
    pub classes: ByClass<'a>,
    /// How processes of each session end without an update.
    pub endings: BTreeMap<&'a SessionKey, Endings>,
}

/// Tested members of each class, by session and class.
pub type ByClass<'a> = BTreeMap<(&'a SessionKey, &'a str), Tested>;

/// Gathers what the tests of these sessions showed.
///
/// # Errors
/// A record cannot be read.
pub fn gather<'a>(
    sessions: impl Iterator<Item = &'a SessionRecord>,
    plan: &[&'a PlannedTest],
    tests: impl Iterator<Item = Result<TestRecord, StoreError>>,
) -> Result<Compared<'a>, StoreError> {
    let mut endings: BTreeMap<&SessionKey, Endings> = BTreeMap::new();
    for session in sessions {
        let known = endings.entry(&session.session).or_default();
        known.note(&session.old);
        known.note(&session.new);
    }
    let mut sizes: HashMap<(&SessionKey, &str), usize> = HashMap::new();
    for test in plan.iter().filter(|test| test.tested) {
        *sizes.entry((&test.session, &test.class)).or_default() += 1;
    }
    let several = |test: &PlannedTest| sizes.get(&(&test.session, &*test.class)) > Some(&1);
    let planned: HashMap<&str, (usize, &'a PlannedTest)> = plan
        .iter()
        .enumerate()
        .map(|(place, test)| (&*test.id, (place, *test)))
        .collect();
    let mut classes: ByClass<'a> = BTreeMap::new();
    for record in tests {
        let record = record?;
        let Some((place, test)) = planned.get(record.test.as_str()).copied() else {
            continue;
        };
        let known = endings.entry(&test.session).or_default();
        record.observations.iter().for_each(|seen| known.note(seen));
        if several(test) {
            let class = classes.entry((&test.session, &test.class)).or_default();
            class.add(Member {
                place,
                exchange: test.point.exchange,
                shown: record.observations.iter().filter_map(Shown::of).collect(),
            });
        }
    }
    for ((session, _), class) in &mut classes {
        if let Some(known) = endings.get(session) {
            class.settle(known);
        }
    }
    Ok(Compared { classes, endings })
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disagreements {
    /// All of them.
    pub all: u64,
    /// Those that may be a race still, as the tests that differ have not run again.
    pub unconfirmed: u64,
}

/// Counts classes that disagree.
#[must_use]
pub fn disagreements(classes: &ByClass<'_>) -> Disagreements {
    let mut found = Disagreements::default();
    for class in classes.values().filter(|one| one.disagreement().is_some()) {
        found.all += 1;
        found.unconfirmed += u64::from(!class.is_confirmed());
    }
    found
}

impl Disagreements {
    /// Counts them in all that a run holds so far.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn of(run: &Run) -> Result<Self, StoreError> {
        let plan: Vec<&PlannedTest> = run.plan.iter().collect();
        let compared = gather(run.sessions.iter(), &plan, run.tests()?)?;
        Ok(disagreements(&compared.classes))
    }

    /// Writes the numbers into `run.json`.
    pub fn record(self, facts: &mut RunFacts) {
        facts.class_disagreements = Some(self.all);
        facts.unconfirmed_disagreements = self.unconfirmed;
    }
}
