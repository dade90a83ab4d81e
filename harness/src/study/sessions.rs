//! Prepares the sessions of a study, several at a time, and records each as soon
//! as those before it are: what is recorded when a study is killed need not be run
//! again.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::StudyError;
use super::controls::{self, Extent};
use super::engine::{self, Chosen};
use super::plan::{Choice, SessionKey};
use super::prepare::PreparedPair;
use super::progress::Progress;
use super::session::{self, PreparedSession};
use super::store::{Control, EngineChoice, RunOptions};
use crate::engine::{EngineKind, EngineWish, RemoteEngine, SessionSpec};
use crate::workload::Script;

/// What to do for one session before its tests.
pub struct Task {
    /// Which session.
    pub key: SessionKey,
    /// The session, if an earlier run has recorded it.
    pub recorded: Option<PreparedSession>,
    /// Whether its controls are still to be run, and by us.
    pub controls: bool,
    /// The engine that runs them.
    pub engine: EngineKind,
}

/// A session that is ready for its tests.
pub struct Ready {
    /// The session.
    pub session: PreparedSession,
    /// Whether it was recorded before.
    pub restored: bool,
    /// Its controls, if they were run now.
    pub controls: Vec<Control>,
    /// Its engine, if it was chosen now.
    pub engine: Option<EngineChoice>,
}

/// What preparation needs besides the tasks.
pub struct Preparation<'a> {
    /// Pairs by their identifier; tasks of others are passed over.
    pub pairs: &'a BTreeMap<String, PreparedPair<'a>>,
    /// What the study chose.
    pub options: &'a RunOptions,
    /// The `kairos` binary.
    pub executable: &'a Path,
    /// Workers.
    pub jobs: usize,
    /// Hears what is being done.
    pub progress: &'a dyn Progress,
    /// Ends preparation after the sessions at hand.
    pub interrupted: &'a AtomicBool,
}

/// Takes sessions as they become ready, in the order of the tasks.
pub type Sink<'a> = dyn FnMut(Ready) -> Result<(), StudyError> + Send + 'a;

impl Preparation<'_> {
    /// Prepares all sessions. What keeps one of them from being run is returned; the
    /// others go on.
    ///
    /// # Errors
    /// When `sink` fails.
    pub fn run(
        &self,
        tasks: Vec<Task>,
        sink: &mut Sink<'_>,
    ) -> Result<Vec<StudyError>, StudyError> {
        let tasks: Vec<Mutex<Option<Task>>> = tasks
            .into_iter()
            .map(|task| Mutex::new(Some(task)))
            .collect();
        let ordered = Mutex::new(Ordered {
            next: 0,
            waiting: HashMap::new(),
            problems: Vec::new(),
            failed: None,
            sink,
        });
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for processor in processors(self.jobs) {
                let (tasks, ordered, next) = (&tasks, &ordered, &next);
                scope.spawn(move || {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(slot) = tasks.get(place) else {
                            return;
                        };
                        let task = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                        let Some(task) = task else { return };
                        if self.interrupted.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.ready(task, processor);
                        let mut ordered = ordered.lock().unwrap_or_else(PoisonError::into_inner);
                        ordered.take(place, result);
                        if ordered.failed.is_some() {
                            return;
                        }
                    }
                });
            }
        });
        let mut ordered = ordered.into_inner().unwrap_or_else(PoisonError::into_inner);
        ordered.flush();
        match ordered.failed {
            Some(error) => Err(error),
            None => Ok(ordered.problems),
        }
    }

    /// None for a session whose pair could not be prepared, which was told already.
    fn ready(&self, task: Task, processor: usize) -> Option<Result<Ready, StudyError>> {
        let Some(pair) = self.pairs.get(&task.key.pair) else {
            // Recorded, and nothing is left to do that would need its builds.
            return task.recorded.map(|session| {
                Ok(Ready {
                    session,
                    restored: true,
                    controls: Vec::new(),
                    engine: None,
                })
            });
        };
        Some(self.prepare(task, pair, processor))
    }

    fn prepare(
        &self,
        task: Task,
        pair: &PreparedPair<'_>,
        processor: usize,
    ) -> Result<Ready, StudyError> {
        let restored = task.recorded.is_some();
        if !restored || task.controls {
            let what = if restored { "controlling" } else { "tracing" };
            let Task { key, .. } = &task;
            self.progress
                .stage(&format!("{what} {} {}", key.label(), key.workload));
        }
        let (session, engine) = if let Some(session) = task.recorded {
            (session, None)
        } else {
            let (session, chosen) =
                prepare(pair, task.key, self.options, self.executable, processor)?;
            self.tell(&session, &chosen);
            let engine = chosen.record(&session);
            (session, Some(engine))
        };
        let controls = if task.controls {
            let extent = self.options.extent;
            controls::run(
                pair,
                &session,
                (self.executable, task.engine),
                processor,
                extent,
            )?
        } else {
            Vec::new()
        };
        Ok(Ready {
            session,
            restored,
            controls,
            engine,
        })
    }

    /// Says which engine runs a session where that is not what is always so.
    fn tell(&self, session: &PreparedSession, chosen: &Chosen) {
        if self.options.engine == EngineWish::default() {
            return;
        }
        let key = &session.record.session;
        let of = format!("{} {}", key.label(), key.workload);
        self.progress
            .stage(&format!("{of}: engine {}: {}", chosen.kind, chosen.why));
        if let Some(mismatch) = &chosen.mismatch {
            self.progress.problem(&format!("{of}: {mismatch}"));
        }
    }
}

/// Prepares one session on a worker of its own.
///
/// # Errors
/// When the workload does not pass on one of the unpatched versions, when equal
/// runs differ, or when the harness fails.
pub fn prepare(
    pair: &PreparedPair<'_>,
    key: SessionKey,
    options: &RunOptions,
    executable: &Path,
    processor: usize,
) -> Result<(PreparedSession, Chosen), StudyError> {
    let spec = pair.session(&key, options.startup, &pair.patch, processor)?;
    check_scripts(&spec)?;
    let mut engine = RemoteEngine::start(executable, &spec)?;
    let choice = Choice::of(options);
    let session = session::prepare(pair, key, &spec, &mut engine, choice)?;
    let chosen = engine::choose(&session, &mut engine, options.engine)?;
    Ok((session, chosen))
}

/// A wrong script is the user's: told here, before a worker fails at it.
fn check_scripts(spec: &SessionSpec) -> Result<(), StudyError> {
    for script in [Some(&spec.workload), spec.probe.as_ref()]
        .into_iter()
        .flatten()
    {
        Script::read(script, &spec.ports)?;
    }
    Ok(())
}

/// Hands results on in the order of their tasks, whichever comes first.
struct Ordered<'a, 'b> {
    next: usize,
    waiting: HashMap<usize, Option<Result<Ready, StudyError>>>,
    problems: Vec<StudyError>,
    failed: Option<StudyError>,
    sink: &'a mut Sink<'b>,
}

impl Ordered<'_, '_> {
    fn take(&mut self, place: usize, result: Option<Result<Ready, StudyError>>) {
        self.waiting.insert(place, result);
        while let Some(result) = self.waiting.remove(&self.next) {
            self.next += 1;
            self.hand_on(result);
        }
    }

    /// An interrupt leaves gaps; what is ready behind them is worth keeping.
    fn flush(&mut self) {
        let mut left: Vec<_> = self.waiting.drain().collect();
        left.sort_by_key(|(place, _)| *place);
        for (_, result) in left {
            self.hand_on(result);
        }
    }

    fn hand_on(&mut self, result: Option<Result<Ready, StudyError>>) {
        match result {
            Some(Ok(ready)) if self.failed.is_none() => {
                self.failed = (self.sink)(ready).err();
            }
            Some(Err(error)) => self.problems.push(error),
            _ => {}
        }
    }
}

/// Whether the session's controls are to be run: a part of an extent that is 0 is
/// not wanted.
#[must_use]
pub const fn wants_controls(extent: Extent) -> bool {
    extent.control_arm + extent.apply_nothing + extent.sensitivity > 0
}

/// The first processor that this process may use.
#[must_use]
pub fn first_processor() -> usize {
    processors(1).first().copied().unwrap_or(0)
}

/// Processors that this process may use, one for each job.
#[must_use]
pub fn processors(jobs: usize) -> Vec<usize> {
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .map(|set| {
            (0..nix::sched::CpuSet::count())
                .filter(|processor| set.is_set(*processor).unwrap_or(false))
                .collect::<Vec<_>>()
        })
        .unwrap_or_default();
    let allowed = if allowed.is_empty() { vec![0] } else { allowed };
    allowed.iter().copied().cycle().take(jobs.max(1)).collect()
}
