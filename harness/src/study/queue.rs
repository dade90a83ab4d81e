//! Hands tests to workers in chunks and records what they observe. A test is
//! recorded once nothing of it is left to do, and never otherwise: a test that an
//! interrupt or a fault of ours cuts short is run again as a whole by `--resume`.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::StudyError;
use super::plan::PlannedTest;
use super::prepare::PreparedPair;
use super::progress::Progress;
use super::session::PreparedSession;
use super::sessions::processors;
use super::store::{NotRun, RunStore, StoreError, TestRecord};
use crate::engine::{Engine, EngineKind, PointRequest, RemoteEngine, Tested};
use crate::verdict::Observation;
use crate::verdict::observation::Update;

/// Tests that a worker takes at a time.
const CHUNK: usize = 16;

/// Tests in a row that could not be run before a worker leaves the rest of a chunk
/// for another time: a machine that refuses every test must not take an hour to say
/// so.
const MOST_LOST_IN_A_ROW: u32 = 3;

/// A session and its tests that are still to be run.
pub struct Todo<'a> {
    /// The session.
    pub session: &'a PreparedSession,
    /// The tests, in the order of the trace.
    pub tests: Vec<&'a PlannedTest>,
    /// The engine that was chosen for it.
    pub engine: EngineKind,
}

/// Everything that running tests needs.
pub struct Queue<'a> {
    /// Pairs by their identifier.
    pub pairs: &'a BTreeMap<String, PreparedPair<'a>>,
    /// The sessions with their tests.
    pub todo: &'a [Todo<'a>],
    /// How often a failing test is repeated.
    pub repeat: u32,
    /// Records of the tests to be added to: then each test is repeated, whatever it
    /// showed before. None for tests that run for the first time.
    pub earlier: Option<&'a HashMap<String, TestRecord>>,
    /// The `kairos` binary.
    pub executable: &'a Path,
    /// Workers.
    pub jobs: usize,
    /// Hears of every test.
    pub progress: &'a dyn Progress,
    /// Ends the study after the tests at hand.
    pub interrupted: &'a AtomicBool,
    /// Where tests are recorded.
    pub store: Mutex<RunStore>,
    /// What went wrong.
    pub faults: Faults,
    /// Tests that failed so far.
    pub failures: AtomicU64,
}

/// What went wrong while tests were run.
#[derive(Default)]
pub struct Faults {
    problems: Mutex<Vec<StudyError>>,
    not_run: Mutex<Vec<NotRun>>,
}

impl Faults {
    /// A test showed what makes others doubtful.
    fn doubt(&self, test: &PlannedTest, why: String) {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(StudyError::Doubt {
                test: test.id.clone(),
                why,
            });
    }

    fn note(&self, tests: &[&PlannedTest], source: StudyError) {
        let why = source.to_string();
        let tests: Vec<String> = tests.iter().map(|test| test.id.clone()).collect();
        self.not_run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(tests.iter().map(|test| NotRun {
                test: test.clone(),
                why: why.clone(),
            }));
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(StudyError::NotRun {
                tests,
                source: Box::new(source),
            });
    }

    /// Takes everything out: problems for people, and the tests for `run.json`.
    #[must_use]
    pub fn into_parts(self) -> (Vec<StudyError>, Vec<NotRun>) {
        let inner = PoisonError::into_inner;
        let mut not_run = self.not_run.into_inner().unwrap_or_else(inner);
        not_run.sort_by(|one, other| one.test.cmp(&other.test));
        let problems = self.problems.into_inner();
        (problems.unwrap_or_else(PoisonError::into_inner), not_run)
    }
}

/// Some tests of a session, by its place in the queue and theirs in its order.
type Chunk = (usize, Range<usize>);

impl Queue<'_> {
    /// Runs all tests, or until an interrupt.
    ///
    /// # Errors
    /// When a result cannot be recorded. Everything recorded before stays.
    pub fn run(&self) -> Result<(), StoreError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for (place, todo) in self.todo.iter().enumerate() {
            let count = todo.tests.len();
            let starts = (0..count).step_by(CHUNK);
            chunks.extend(starts.map(|start| (place, start..count.min(start + CHUNK))));
        }
        let orders: Vec<Order<'_>> = self.todo.iter().map(|_| Order::new()).collect();
        let next = AtomicUsize::new(0);
        let full = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let workers: Vec<_> = processors(self.jobs)
                .into_iter()
                .map(|processor| {
                    let (chunks, orders, next, full) = (&chunks, &orders, &next, &full);
                    scope.spawn(move || {
                        let mut worker = Worker {
                            queue: self,
                            processor,
                            engine: None,
                            lost_in_a_row: 0,
                        };
                        let result = worker.work((chunks, orders), next, full);
                        full.fetch_or(result.is_err(), Ordering::Relaxed);
                        result
                    })
                })
                .collect();
            let mut result = Ok(());
            for worker in workers {
                match worker.join() {
                    Ok(ended) => result = result.and(ended),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            result
        })
    }

    /// An interrupt ends a study after the test at hand: a chunk of stalls takes long.
    fn go_on(&self) -> ControlFlow<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn append(
        &self,
        test: &PlannedTest,
        ran: Ran,
        mut observations: Vec<Observation>,
        failed: bool,
    ) -> Result<(), StoreError> {
        if !failed {
            // Nobody looks into these, and there are many.
            for seen in &mut observations {
                seen.output.clear();
            }
        }
        let failed = u64::from(failed);
        let failures = self.failures.fetch_add(failed, Ordering::Relaxed) + failed;
        let record = TestRecord {
            test: test.id.clone(),
            wall_us: observations.iter().map(|seen| seen.wall_us).sum(),
            observations,
            engine: ran.engine.name().to_owned(),
            known_from: ran.known_from,
        };
        self.store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append_test(&record)?;
        self.progress.tested(failures);
        Ok(())
    }
}

/// The tests of a session in the order in which they are run, which the first worker
/// that comes to it finds out.
type Order<'a> = OnceLock<Vec<&'a PlannedTest>>;

/// One worker's thread. It lives as long as its engines, which the kernel kills
/// with it.
struct Worker<'a> {
    queue: &'a Queue<'a>,
    processor: usize,
    /// The engine at hand and its session's place in the queue.
    engine: Option<(usize, RemoteEngine)>,
    /// Tests of its session that could not be run since the last that could.
    lost_in_a_row: u32,
}

/// How a test was run the first time.
#[derive(Clone, Copy)]
struct Ran {
    engine: EngineKind,
    known_from: Option<u32>,
}

/// Takes finished tests at the given positions.
type Sink<'a> = dyn FnMut(usize, Tested) -> Result<(), StoreError> + 'a;

impl<'a> Worker<'a> {
    /// Chunk after chunk, keeping the engine while the session stays the same.
    fn work(
        &mut self,
        (chunks, orders): (&[Chunk], &[Order<'a>]),
        next: &AtomicUsize,
        full: &AtomicBool,
    ) -> Result<(), StoreError> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((place, range)) = chunks.get(at) else {
                return Ok(());
            };
            // Where one cannot record, the others need not go on.
            if self.queue.go_on().is_break() || full.load(Ordering::Relaxed) {
                return Ok(());
            }
            if self.engine.as_ref().is_none_or(|(of, _)| of != place) {
                self.engine = None;
                self.lost_in_a_row = 0;
            }
            let tests = orders[*place].get_or_init(|| self.order(*place));
            self.chunk(*place, &tests[range.clone()])?;
        }
    }

    /// The tests of a session in the order in which its engine goes from point to point;
    /// those that it does not meet, which are run by another, come last.
    fn order(&mut self, place: usize) -> Vec<&'a PlannedTest> {
        let Todo {
            session,
            tests,
            engine,
        } = &self.queue.todo[place];
        if !matches!(engine, EngineKind::Rollback | EngineKind::ForkSnapshot) {
            return tests.clone();
        }
        let all: Vec<usize> = (0..tests.len()).collect();
        let places = requests(session, tests, &all)
            .and_then(|requests| Ok(self.engine(place)?.order(requests)?));
        // A worker that fails says so when it is to run them.
        let Ok(places) = places else {
            return tests.clone();
        };
        let mut placed: Vec<_> = places.into_iter().zip(tests).collect();
        placed.sort_by_key(|(place, _)| (place.is_none(), *place));
        placed.into_iter().map(|(_, test)| *test).collect()
    }

    /// Runs some tests of a session, and repeats those that fail.
    fn chunk(&mut self, place: usize, tests: &[&PlannedTest]) -> Result<(), StoreError> {
        let queue = self.queue;
        let session = queue.todo[place].session;
        let mut failing: BTreeMap<usize, (Ran, Vec<Observation>)> = BTreeMap::new();
        let all: Vec<usize> = (0..tests.len()).collect();
        let first_time = queue.earlier.is_none();
        for (position, test) in tests.iter().enumerate() {
            if let Some(record) = queue.earlier.and_then(|earlier| earlier.get(&test.id)) {
                let ran = Ran {
                    engine: EngineKind::of_name(&record.engine).unwrap_or_default(),
                    known_from: record.known_from,
                };
                failing.insert(position, (ran, record.observations.clone()));
            }
        }
        let all = if first_time { &all[..] } else { &[] };
        self.pass(place, tests, all, &mut |position, tested| {
            let (test, seen) = (tests[position], tested.observation);
            let ran = Ran {
                engine: tested.engine,
                known_from: tested.known_from,
            };
            if let Some(why) = tested.doubt {
                queue.faults.doubt(test, why);
            }
            let fails = session.judge(&test.point, &seen).verdict.is_failure();
            if queue.repeat > 0 && fails {
                failing.insert(position, (ran, vec![seen]));
                Ok(())
            } else {
                queue.append(test, ran, vec![seen], fails)
            }
        })?;
        // The repeats of a test follow each other: a server that is put back after each
        // test cannot go back to an earlier point.
        let repeats = usize::try_from(queue.repeat).unwrap_or(0);
        let again: Vec<usize> = failing
            .keys()
            .flat_map(|position| std::iter::repeat_n(*position, repeats))
            .collect();
        let lost = self.pass(place, tests, &again, &mut |position, tested| {
            if let Some(why) = tested.doubt {
                queue.faults.doubt(tests[position], why);
            }
            // A repeat that misses the point says nothing about it.
            if !matches!(tested.observation.update, Update::NotReached { .. })
                && let Some((_, observations)) = failing.get_mut(&position)
            {
                observations.push(tested.observation);
            }
            Ok(())
        })?;
        for position in lost {
            failing.remove(&position);
        }
        if !again.is_empty() && queue.go_on().is_break() {
            return Ok(());
        }
        for (position, (ran, observations)) in failing {
            let test = tests[position];
            let failed = observations
                .first()
                .is_some_and(|seen| session.judge(&test.point, seen).verdict.is_failure());
            queue.append(test, ran, observations, failed)?;
        }
        Ok(())
    }

    /// Runs the tests at `positions` once, or until an interrupt, and returns those
    /// that could not be run: each was tried again with a fresh worker.
    fn pass(
        &mut self,
        place: usize,
        tests: &[&PlannedTest],
        positions: &[usize],
        sink: &mut Sink<'_>,
    ) -> Result<Vec<usize>, StoreError> {
        let queue = self.queue;
        let session = queue.todo[place].session;
        let mut lost = Vec::new();
        let mut left = positions;
        let mut tried = None;
        while !left.is_empty() && queue.go_on().is_continue() {
            let mut done = 0;
            let mut written = Ok(());
            let result = requests(session, tests, left).and_then(|requests| {
                let engine = self.engine(place)?;
                engine.run(&requests, &mut |at, tested| {
                    done = at + 1;
                    written = sink(left[at], tested);
                    match written {
                        Ok(()) => queue.go_on(),
                        Err(_) => ControlFlow::Break(()),
                    }
                })?;
                Ok(())
            });
            written?;
            let Err(error) = result else { break };
            // The worker may be in any state: the next test gets a fresh one.
            self.engine = None;
            if done > 0 {
                self.lost_in_a_row = 0;
            }
            left = &left[done..];
            let Some(culprit) = left.first() else { break };
            if tried.replace(*culprit) != Some(*culprit) {
                continue;
            }
            queue.faults.note(&[tests[*culprit]], error);
            lost.push(*culprit);
            left = &left[1..];
            self.lost_in_a_row += 1;
            if self.lost_in_a_row >= MOST_LOST_IN_A_ROW && !left.is_empty() {
                let rest: Vec<&PlannedTest> = left.iter().map(|at| tests[*at]).collect();
                let given_up = StudyError::GivenUp(self.lost_in_a_row);
                queue.faults.note(&rest, given_up);
                lost.extend(left);
                break;
            }
        }
        Ok(lost)
    }

    /// The engine at hand, or a fresh one.
    fn engine(&mut self, place: usize) -> Result<&mut RemoteEngine, StudyError> {
        let engine = match self.engine.take() {
            Some((of, engine)) if of == place => engine,
            _ => self.start(place)?,
        };
        Ok(&mut self.engine.insert((place, engine)).1)
    }

    fn start(&self, place: usize) -> Result<RemoteEngine, StudyError> {
        let Todo {
            session, engine, ..
        } = &self.queue.todo[place];
        let (session, kind) = (*session, *engine);
        let key = &session.record.session;
        let pair = self.queue.pairs.get(&key.pair).ok_or(StudyError::Nothing)?;
        let spec = pair.session(key, false, &pair.patch, self.processor)?;
        let mut engine = RemoteEngine::start(self.queue.executable, &spec)?;
        engine.set_limits(session.limits)?;
        // Each test tells which engine ran it, should this one be refused here.
        engine.use_engine(kind)?;
        Ok(engine)
    }
}

/// How an engine finds the tests at `positions`.
fn requests(
    session: &PreparedSession,
    tests: &[&PlannedTest],
    positions: &[usize],
) -> Result<Vec<PointRequest>, StudyError> {
    positions
        .iter()
        .map(|position| session.request(&tests[*position].point))
        .collect::<Option<_>>()
        .ok_or(StudyError::Nothing)
}
