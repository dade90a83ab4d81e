//! Runs the tests of a study in rounds: all that are left of the plan, then members of
//! classes whose leaders were not found again, then tests that differ within a class,
//! once more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::StudyError;
use super::agreement::{disagreements, gather, to_repeat};
use super::facts::engine_of;
use super::plan::PlannedTest;
use super::prepare::PreparedPair;
use super::progress::Progress;
use super::queue::{Faults, Queue, Todo};
use super::session::PreparedSession;
use super::store::{NotRun, RunFacts, RunStore, TestRecord};
use super::substitutes::substitutes;

/// What all rounds share.
pub struct Rounds<'a> {
    /// Pairs by their identifier.
    pub pairs: &'a BTreeMap<String, PreparedPair<'a>>,
    /// The sessions.
    pub sessions: &'a [PreparedSession],
    /// How often a failing test is repeated.
    pub repeat: u32,
    /// Workers.
    pub jobs: usize,
    /// The `kairos` binary.
    pub executable: &'a Path,
    /// Hears of every test.
    pub progress: &'a dyn Progress,
    /// Ends the study after the tests at hand.
    pub interrupted: &'a AtomicBool,
    /// What went wrong so far.
    pub problems: Vec<StudyError>,
}

impl<'a> Rounds<'a> {
    /// Runs all rounds, the first with `todo`.
    ///
    /// # Errors
    /// When a result cannot be recorded or read.
    pub fn run(&mut self, store: RunStore, todo: &[Todo<'_>]) -> Result<RunStore, StudyError> {
        let store = self.queue(store, todo, None)?;
        let store = self.substitute(store)?;
        self.repeat_doubtful(store)
    }

    fn plan(&self) -> Vec<&'a PlannedTest> {
        let sessions = self.sessions.iter();
        sessions.flat_map(|session| &session.plan).collect()
    }

    fn goes_on(&self) -> bool {
        !self.interrupted.load(Ordering::Relaxed)
    }

    /// Runs tests; with their earlier records, once more.
    fn queue(
        &mut self,
        store: RunStore,
        todo: &[Todo<'_>],
        earlier: Option<&HashMap<String, TestRecord>>,
    ) -> Result<RunStore, StudyError> {
        let queue = Queue {
            pairs: self.pairs,
            todo,
            repeat: self.repeat,
            earlier,
            executable: self.executable,
            jobs: self.jobs,
            progress: self.progress,
            interrupted: self.interrupted,
            store: Mutex::new(store),
            faults: Faults::default(),
            failures: AtomicU64::new(0),
        };
        queue.run()?;
        let store = queue.store.into_inner();
        let mut store = store.unwrap_or_else(PoisonError::into_inner);
        let (problems, not_run) = queue.faults.into_parts();
        self.problems.extend(problems);
        store.update_facts(|facts| facts.not_run = with_latest(&facts.not_run, not_run))?;
        Ok(store)
    }

    /// The tests by session, where these can be run.
    fn by_session<'t>(&self, facts: &RunFacts, tests: &[&'t PlannedTest]) -> Vec<Todo<'t>>
    where
        Self: 't,
    {
        let able =
            |session: &&PreparedSession| self.pairs.contains_key(&session.record.session.pair);
        let sessions = self.sessions.iter().filter(able);
        sessions
            .map(|session| Todo {
                engine: engine_of(facts, &session.record.session),
                session,
                tests: tests
                    .iter()
                    .filter(|test| test.session == session.record.session)
                    .copied()
                    .collect(),
            })
            .filter(|todo| !todo.tests.is_empty())
            .collect()
    }

    /// Tests further members of classes whose tested points were not found again.
    fn substitute(&mut self, mut store: RunStore) -> Result<RunStore, StudyError> {
        let plan = self.plan();
        while self.goes_on() {
            let substitutes = substitutes(&plan, store.tests()?)?;
            if substitutes.is_empty() {
                break;
            }
            store.append_plan(&substitutes)?;
            let tests: Vec<&PlannedTest> = substitutes.iter().collect();
            let todo = self.by_session(store.facts(), &tests);
            if todo.is_empty() {
                break;
            }
            let before = store.finished()?.len();
            store = self.queue(store, &todo, None)?;
            // What cannot be run now is not tried for ever.
            if store.finished()?.len() == before {
                break;
            }
        }
        Ok(store)
    }

    /// Runs tests again that differ from others of their class, until it is known
    /// whether they always do.
    fn repeat_doubtful(&mut self, mut store: RunStore) -> Result<RunStore, StudyError> {
        let sessions = self.sessions;
        let plan = self.plan();
        let mut tried = BTreeSet::new();
        while self.repeat > 0 && self.goes_on() {
            let records = sessions.iter().map(|session| &session.record);
            let compared = gather(records, &plan, store.tests()?)?;
            let counted = disagreements(&compared.classes);
            store.update_facts(|facts| counted.record(facts))?;
            let again = to_repeat(&plan, &compared.classes, &tried);
            if again.is_empty() {
                break;
            }
            self.progress.stage(&format!(
                "running {} tests again that differ from others of their class",
                again.len()
            ));
            tried.extend(again.iter().map(|test| test.id.clone()));
            let mut earlier = HashMap::new();
            for record in store.tests()? {
                let record = record?;
                if tried.contains(&record.test) {
                    earlier.insert(record.test.clone(), record);
                }
            }
            let todo = self.by_session(store.facts(), &again);
            store = self.queue(store, &todo, Some(&earlier))?;
        }
        Ok(store)
    }
}

/// Tests that could not be run, now or in an earlier part of the run.
fn with_latest(before: &[NotRun], now: Vec<NotRun>) -> Vec<NotRun> {
    let all = before.iter().cloned().chain(now);
    let latest: BTreeMap<String, NotRun> = all.map(|one| (one.test.clone(), one)).collect();
    latest.into_values().collect()
}
