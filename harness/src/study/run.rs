//! The coordinator: begins a run or goes on with one, prepares pairs and sessions,
//! and has the tests run that are left. Sessions are planned in the catalogue's
//! order and tests in the trace's, whatever worker finishes first, so that the same
//! study gives the same records, undisturbed or not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::agreement::Disagreements;
use super::choice::{self, ChosenPair};
use super::options::{Options, Outcome};
use super::plan::{PlannedTest, SessionKey};
use super::prepare::PreparedPair;
use super::progress::{Planned, Progress};
use super::queue::Todo;
use super::resume::{self, Recorded};
use super::rounds::Rounds;
use super::session::PreparedSession;
use super::sessions::{Preparation, Ready, Task, wants_controls};
use super::store::{NotRun, PairRecord, Run, RunOptions, RunStore};
use super::{StudyError, estimate, facts, shard};
use crate::engine::EngineKind;
use crate::subject::{BuildOptions, Catalogue};

/// Runs a study, or goes on with one. What was measured before an error or an
/// interrupt stays.
///
/// # Errors
/// When nothing could be prepared or the results cannot be written.
pub fn run(
    catalogue: &Catalogue,
    build: &BuildOptions,
    options: &Options,
    progress: &dyn Progress,
    interrupted: &AtomicBool,
) -> Result<Outcome, StudyError> {
    let mut study = Study::begin(catalogue, build, options, progress, interrupted)?;
    let controls = wants_controls(study.options.extent);
    let pairs = study.prepare_pairs(build, controls)?;
    // All sessions are recorded before the first control runs: they cost the most.
    let mut sessions = Vec::new();
    study.prepare_sessions(&pairs, &mut |ready| sessions.push(ready))?;
    if controls {
        sessions = study.run_controls(&pairs, sessions)?;
    }
    study.run_tests(&pairs, &sessions)
}

/// What a study would run.
pub struct Plan {
    /// Folder of the prepared run, if it was asked for.
    pub dir: Option<PathBuf>,
    /// The pairs.
    pub pairs: Vec<PairRecord>,
    /// The sessions with their tests.
    pub sessions: Vec<PreparedSession>,
    /// Sessions that could not be prepared, and other things that went wrong.
    pub problems: Vec<StudyError>,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Prepares everything of a study but its controls and tests. With a folder for
/// results the sessions are recorded there: copies of it are resumed elsewhere, part
/// by part.
///
/// # Errors
/// As [`run`].
pub fn plan(
    catalogue: &Catalogue,
    build: &BuildOptions,
    options: &Options,
    progress: &dyn Progress,
    interrupted: &AtomicBool,
) -> Result<Plan, StudyError> {
    let mut study = if options.out.is_some() {
        Study::begin(catalogue, build, options, progress, interrupted)?
    } else {
        Study::without_store(catalogue, options, progress, interrupted)?
    };
    let pairs = study.prepare_pairs(build, false)?;
    let mut sessions = Vec::new();
    study.prepare_sessions(&pairs, &mut |ready| sessions.push(ready))?;
    Ok(Plan {
        dir: study.store.map(|store| store.dir().to_owned()),
        pairs: pairs.values().map(PreparedPair::record).collect(),
        sessions,
        problems: study.problems,
        interrupted: interrupted.load(Ordering::Relaxed),
    })
}

struct Study<'a> {
    /// What was chosen, now or when the run was begun.
    options: RunOptions,
    chosen: Vec<ChosenPair<'a>>,
    recorded: Recorded,
    /// None for a plan that is only shown.
    store: Option<RunStore>,
    /// How to run it now.
    now: &'a Options,
    progress: &'a dyn Progress,
    interrupted: &'a AtomicBool,
    problems: Vec<StudyError>,
}

impl<'a> Study<'a> {
    fn begin(
        catalogue: &'a Catalogue,
        build: &BuildOptions,
        now: &'a Options,
        progress: &'a dyn Progress,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, StudyError> {
        let Some(dir) = &now.resume else {
            let mut study = Self::without_store(catalogue, now, progress, interrupted)?;
            let facts = facts::of_new_run(now, &study.options, build, &study.chosen);
            study.store = Some(RunStore::create(&now.runs, now.out.as_deref(), facts)?);
            return Ok(study);
        };
        let mut store = RunStore::open(dir)?;
        let options = resume::options(dir, store.facts())?;
        let chosen = choice::chosen(catalogue, &options)?;
        resume::check(dir, store.facts(), &chosen)?;
        for warning in resume::warnings(store.facts(), build) {
            progress.problem(&warning);
        }
        let recorded = Recorded::read(&mut store, &options)?;
        if now.shard.is_some() {
            store.update_facts(|facts| facts.shard = now.shard)?;
        }
        Ok(Self {
            options,
            chosen,
            recorded,
            store: Some(store),
            now,
            progress,
            interrupted,
            problems: Vec::new(),
        })
    }

    fn without_store(
        catalogue: &'a Catalogue,
        now: &'a Options,
        progress: &'a dyn Progress,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, StudyError> {
        let pairs = choice::pairs(catalogue, now)?;
        let options = now.recorded(pairs.iter().map(|pair| pair.id.clone()).collect());
        Ok(Self {
            chosen: choice::chosen(catalogue, &options)?,
            options,
            recorded: Recorded::default(),
            store: None,
            now,
            progress,
            interrupted,
            problems: Vec::new(),
        })
    }

    fn engine_of(&self, session: &SessionKey) -> EngineKind {
        let store = self.store.as_ref();
        store.map_or_else(EngineKind::default, |store| {
            facts::engine_of(store.facts(), session)
        })
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The part of the tests that this run is for.
    fn shard(&self) -> Option<shard::Shard> {
        self.now
            .shard
            .or_else(|| self.store.as_ref().and_then(|store| store.facts().shard))
    }

    /// Controls of a session belong to one part as a whole.
    fn lacks_controls(&self, session: &SessionKey) -> bool {
        let id = format!("{}/{}", session.label(), session.workload);
        !self.recorded.controlled.contains(session) && shard::takes(self.shard(), &id)
    }

    fn is_left(&self, test: &PlannedTest) -> bool {
        test.tested
            && shard::takes(self.shard(), &test.id)
            && !self.recorded.finished.contains(&test.id)
    }

    /// Whether anything of the session is left to do that needs its builds.
    fn needs_builds(&self, session: &SessionKey, controls: bool) -> bool {
        let recorded = self.recorded.sessions.get(session);
        recorded.is_none_or(|recorded| recorded.plan.iter().any(|test| self.is_left(test)))
            || self.recorded.unsettled.contains(session)
            || (controls && self.lacks_controls(session))
    }

    fn prepare_pairs(
        &mut self,
        build: &BuildOptions,
        controls: bool,
    ) -> Result<BTreeMap<String, PreparedPair<'a>>, StudyError> {
        let mut prepared = BTreeMap::new();
        for pair in &self.chosen {
            let sessions = choice::sessions(std::slice::from_ref(pair), &self.options);
            let needed = |key: &SessionKey| self.needs_builds(key, controls);
            if !sessions.iter().any(needed) {
                continue;
            }
            if self.is_interrupted() {
                break;
            }
            self.progress.stage(&format!("building {}", pair.id));
            match pair.prepare(build) {
                Ok(pair) => {
                    if let Some(store) = &mut self.store {
                        self.recorded.check_pair(store, &pair)?;
                    }
                    prepared.insert(pair.id.clone(), pair);
                }
                // An interrupt at the terminal ends a compiler, too.
                Err(_) if self.is_interrupted() => break,
                Err(error) => self.problems.push(error),
            }
        }
        Ok(prepared)
    }

    fn prepare_sessions(
        &mut self,
        pairs: &BTreeMap<String, PreparedPair<'a>>,
        take: &mut (dyn FnMut(PreparedSession) + Send),
    ) -> Result<(), StudyError> {
        let keys = choice::sessions(&self.chosen, &self.options);
        let tasks = keys
            .into_iter()
            .map(|key| Task {
                controls: false,
                engine: EngineKind::Restart,
                recorded: self.recorded.sessions.remove(&key),
                key,
            })
            .collect();
        self.work_on(pairs, tasks, take)
    }

    fn run_controls(
        &mut self,
        pairs: &BTreeMap<String, PreparedPair<'a>>,
        sessions: Vec<PreparedSession>,
    ) -> Result<Vec<PreparedSession>, StudyError> {
        let tasks = sessions
            .into_iter()
            .map(|session| Task {
                key: session.record.session.clone(),
                controls: self.lacks_controls(&session.record.session),
                engine: self.engine_of(&session.record.session),
                recorded: Some(session),
            })
            .collect();
        let mut controlled = Vec::new();
        self.work_on(pairs, tasks, &mut |session| controlled.push(session))?;
        Ok(controlled)
    }

    fn work_on(
        &mut self,
        pairs: &BTreeMap<String, PreparedPair<'a>>,
        tasks: Vec<Task>,
        take: &mut (dyn FnMut(PreparedSession) + Send),
    ) -> Result<(), StudyError> {
        let preparation = Preparation {
            pairs,
            options: &self.options,
            executable: &self.now.executable,
            jobs: self.now.jobs,
            progress: self.progress,
            interrupted: self.interrupted,
        };
        let store = &mut self.store;
        let problems = preparation.run(tasks, &mut |ready| {
            if let Some(store) = store {
                record_session(store, &ready)?;
            }
            take(ready.session);
            Ok(())
        })?;
        self.problems.extend(problems);
        Ok(())
    }

    fn run_tests(
        mut self,
        pairs: &BTreeMap<String, PreparedPair<'a>>,
        sessions: &[PreparedSession],
    ) -> Result<Outcome, StudyError> {
        let Some(mut store) = self.store.take() else {
            return Err(StudyError::Nothing);
        };
        let shard = self.now.shard.or(store.facts().shard);
        let is_ours = |test: &&PlannedTest| test.tested && shard::takes(shard, &test.id);
        let mut planned = 0;
        let mut todo = Vec::new();
        let mut time = Duration::ZERO;
        for session in sessions {
            let tests: Vec<_> = session.plan.iter().filter(is_ours).collect();
            planned += count(tests.len());
            let finished = &self.recorded.finished;
            let left = tests
                .into_iter()
                .filter(|test| !finished.contains(&test.id));
            let tests: Vec<_> = left.collect();
            if !tests.is_empty() && pairs.contains_key(&session.record.session.pair) {
                time += estimate::of_session(&session.record, count(tests.len()));
                todo.push(Todo {
                    engine: facts::engine_of(store.facts(), &session.record.session),
                    session,
                    tests,
                });
            }
        }
        let tests = todo.iter().map(|todo| count(todo.tests.len())).sum();
        let dir = store.dir().to_owned();
        if !self.is_interrupted() {
            self.progress.planned(&Planned {
                tests,
                finished: planned - tests,
                estimate: estimate::shared(time, self.now.jobs),
                jobs: self.now.jobs,
            });
            let mut rounds = Rounds {
                pairs,
                sessions,
                repeat: self.options.repeat,
                jobs: self.now.jobs,
                executable: &self.now.executable,
                progress: self.progress,
                interrupted: self.interrupted,
                problems: Vec::new(),
            };
            store = rounds.run(store, &todo)?;
            self.problems.extend(rounds.problems);
        }
        // Also of sessions that an interrupt kept from being taken up again.
        let disagreements = Disagreements::of(&Run::load(&dir)?)?;
        let finished = store.finished()?;
        store.update_facts(|facts| {
            disagreements.record(facts);
            let not_run = std::mem::take(&mut facts.not_run);
            let is_left = |one: &NotRun| !finished.contains(&one.test);
            facts.not_run = not_run.into_iter().filter(is_left).collect();
        })?;
        store.sync()?;
        for problem in &self.problems {
            self.progress.problem(&problem.to_string());
        }
        let violations = |control: &super::store::Control| control.violations;
        Ok(Outcome {
            dir,
            violations: store.facts().controls.iter().map(violations).sum(),
            disagreements,
            interrupted: self.is_interrupted(),
            planned,
            finished: sessions
                .iter()
                .flat_map(|session| &session.plan)
                .filter(|test| is_ours(test) && finished.contains(&test.id))
                .fold(0, |count, _| count + 1),
            problems: self.problems,
        })
    }
}

/// The session's line comes first: its plan can be made again from it.
fn record_session(store: &mut RunStore, ready: &Ready) -> Result<(), StudyError> {
    if !ready.restored {
        store.append_session(&ready.session.record)?;
        store.append_plan(&ready.session.plan)?;
    }
    if !ready.restored || !ready.controls.is_empty() {
        let engine = ready.engine.as_ref();
        store.update_facts(|facts| {
            facts.controls.extend(ready.controls.iter().cloned());
            facts::add_session(facts, &ready.session, engine);
        })?;
    }
    Ok(())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
