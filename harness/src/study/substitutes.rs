//! Which points are tested in place of leaders that were not found again. Pure.

use std::collections::HashMap;

use super::plan::{PlannedTest, SessionKey};
use super::store::{StoreError, TestRecord};
use crate::verdict::observation::Update;

/// Members of a class that are tried in place of its leader.
const MOST: usize = 3;

/// What is known of a class of which something was tested.
#[derive(Default)]
struct Tried<'a> {
    /// Whether any of its points was reached.
    reached: bool,
    /// Its points that were tested though they were not planned to be.
    substitutes: Vec<&'a str>,
}

/// For each class of which no tested point was reached the next that stands in for its
/// leader, as a test of its own; none where enough were tried.
///
/// # Errors
/// A record cannot be read.
pub fn substitutes(
    plan: &[&PlannedTest],
    tests: impl Iterator<Item = Result<TestRecord, StoreError>>,
) -> Result<Vec<PlannedTest>, StoreError> {
    let planned: HashMap<&str, &PlannedTest> = plan.iter().map(|test| (&*test.id, *test)).collect();
    let mut classes: HashMap<(&SessionKey, &str), Tried<'_>> = HashMap::new();
    for record in tests {
        let record = record?;
        let Some(test) = planned.get(&*record.test) else {
            continue;
        };
        let tried = classes.entry((&test.session, &test.class)).or_default();
        let mut seen = record.observations.iter();
        tried.reached |= seen.any(|seen| !matches!(seen.update, Update::NotReached { .. }));
        if !test.tested && !tried.substitutes.contains(&&*test.id) {
            tried.substitutes.push(&test.id);
        }
    }
    let lost = |tried: &Tried<'_>| !tried.reached && tried.substitutes.len() < MOST;
    classes.retain(|_, tried| lost(tried));
    let mut found = Vec::new();
    for test in plan.iter().filter(|test| !test.tested) {
        let class = (&test.session, &*test.class);
        let is_next = classes
            .get(&class)
            .is_some_and(|tried| !tried.substitutes.contains(&&*test.id));
        if is_next {
            classes.remove(&class);
            found.push(PlannedTest {
                tested: true,
                ..(*test).clone()
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::trace::Scope;
    use crate::verdict::Observation;

    /// The point with this index, of the class that this other one leads.
    fn planned(workload: &str, index: u32, leader: u32, tested: bool) -> PlannedTest {
        let session = SessionKey {
            pair: "pair".to_owned(),
            workload: workload.to_owned(),
            scope: Scope::Process,
            mechanism: "own+redirect".to_owned(),
        };
        let point = format!("server#1/0@0:{index}").parse().unwrap();
        PlannedTest {
            id: session.test_id(&point),
            session,
            point,
            function: "f".to_owned(),
            class: format!("server#1/0@0:{leader}"),
            tested,
            weight: 1.0,
            decisions: crate::policy::Decisions::default(),
        }
    }

    /// An engine that reaches some points and loses others.
    struct Engine {
        reaches: fn(u32) -> bool,
        records: Vec<TestRecord>,
    }

    impl Engine {
        fn run(&mut self, test: &PlannedTest) {
            let update = if (self.reaches)(test.point.index) {
                Update::None
            } else {
                let reason = "another function is entered there".to_owned();
                Update::NotReached { reason }
            };
            let observation = Observation {
                update,
                ..Observation::default()
            };
            self.records.push(TestRecord {
                test: test.id.clone(),
                observations: vec![observation],
                known_from: None,
                engine: EngineKind::Restart.name().to_owned(),
                wall_us: 0,
            });
        }

        /// Indexes of the points that stand in for leaders, round by round.
        fn rounds(mut self, plan: &[PlannedTest]) -> Vec<Vec<(String, u32)>> {
            let plan: Vec<&PlannedTest> = plan.iter().collect();
            for test in plan.iter().filter(|test| test.tested) {
                self.run(test);
            }
            let mut rounds = Vec::new();
            loop {
                let records = self.records.iter().cloned().map(Ok);
                let found = substitutes(&plan, records).unwrap();
                if found.is_empty() {
                    return rounds;
                }
                assert!(found.iter().all(|test| test.tested));
                for test in &found {
                    self.run(test);
                }
                let of = |test: &PlannedTest| (test.session.workload.clone(), test.point.index);
                rounds.push(found.iter().map(of).collect());
            }
        }
    }

    /// Two classes, of points 0 to 4 and 5 to 9, of which leaders are tested.
    fn plan(workload: &str) -> Vec<PlannedTest> {
        (0..10)
            .map(|index| planned(workload, index, index / 5 * 5, index % 5 == 0))
            .collect()
    }

    fn rounds(reaches: fn(u32) -> bool) -> Vec<Vec<(String, u32)>> {
        let records = Vec::new();
        Engine { reaches, records }.rounds(&plan("one"))
    }

    fn one(index: u32) -> (String, u32) {
        ("one".to_owned(), index)
    }

    #[test]
    fn a_leader_that_was_reached_needs_nobody() {
        assert!(rounds(|_| true).is_empty());
        assert!(rounds(|index| index % 5 == 0).is_empty());
    }

    #[test]
    fn the_next_member_stands_in_for_a_lost_leader() {
        assert_eq!(rounds(|index| index != 5), [vec![one(6)]]);
        let second = [vec![one(1), one(6)], vec![one(7)]];
        assert_eq!(rounds(|index| ![0, 5, 6].contains(&index)), second);
    }

    #[test]
    fn three_are_tried_at_most() {
        let three = [vec![one(1)], vec![one(2)], vec![one(3)]];
        assert_eq!(rounds(|index| index > 3), three);
    }

    #[test]
    fn classes_of_other_sessions_are_others() {
        let mut both = plan("one");
        both.extend(plan("two"));
        // Only the second session's leader is tested and lost.
        both.iter_mut()
            .take(10)
            .for_each(|test| test.tested = test.point.index == 5);
        let engine = Engine {
            reaches: |index| index != 0,
            records: Vec::new(),
        };
        assert_eq!(engine.rounds(&both), [vec![("two".to_owned(), 1)]]);
    }

    #[test]
    fn a_further_member_that_was_reached_serves_the_class() {
        let mut checked = plan("one");
        checked[1].tested = true;
        let engine = Engine {
            reaches: |index| index != 0,
            records: Vec::new(),
        };
        assert!(engine.rounds(&checked).is_empty());
    }
}
