//! The coordinator: prepares pairs and sessions, hands tests to workers, and
//! records what they observe. Sessions are planned in the catalogue's order and
//! tests in the trace's, whatever worker finishes first, so that the same study
//! gives the same files.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::controls::{self, Extent};
use super::plan::PlannedTest;
use super::prepare::{PreparedPair, prepare, prepare_control};
use super::progress::Progress;
use super::session::{self, Choice, PreparedSession};
use super::store::{
    Control, EngineChoice, KairosFacts, MachineFacts, RunFacts, RunStore, TestRecord,
};
use super::{StudyError, store::StoreError};
use crate::engine::{Engine, PointRequest, RemoteEngine};
use crate::policy::DEFINITION_OF_CHANGED;
use crate::subject::{BuildOptions, Catalogue, Pair, Subject};
use crate::trace::Scope;
use crate::verdict::Observation;
use crate::verdict::observation::Update;
use crate::workload::Script;

/// Tests that a worker takes at a time.
const CHUNK: usize = 16;

/// What to study.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these subjects; all if empty.
    pub subjects: Vec<String>,
    /// Only these pairs; all if empty.
    pub pairs: Vec<String>,
    /// Only these workloads; all if empty.
    pub workloads: Vec<String>,
    /// Points per role; all if none.
    pub sample: Option<usize>,
    /// Seed of samples.
    pub seed: u64,
    /// Which processes one update reaches; each scope is a session of its own.
    pub scopes: Vec<Scope>,
    /// Whether points before the server is ready are tested, too.
    pub startup: bool,
    /// Workers, each on a processor of its own.
    pub jobs: usize,
    /// How often a failing test is repeated.
    pub repeat: u32,
    /// Study the control arm of the chosen pairs' old versions instead.
    pub control: bool,
    /// How far the controls of each session go.
    pub extent: Extent,
    /// Folder for the results; a new one under `runs` if none.
    pub out: Option<PathBuf>,
    /// Folder of runs.
    pub runs: PathBuf,
    /// The `kairos` binary, which is also the worker.
    pub executable: PathBuf,
    /// The command line, for `run.json`.
    pub arguments: Vec<String>,
}

/// How a study ended.
#[derive(Debug)]
pub struct Outcome {
    /// Folder of the results.
    pub dir: PathBuf,
    /// Sessions that could not be run, and other things that went wrong.
    pub problems: Vec<StudyError>,
    /// Controls that were violated.
    pub violations: u64,
    /// Whether it was interrupted.
    pub interrupted: bool,
}

/// Runs a study. What was measured before an error or an interrupt stays.
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
    let chosen = choose(catalogue, options)?;
    let mut problems = Vec::new();
    let pairs = prepare_pairs(&chosen, build, options, progress, &mut problems);
    let mut store = RunStore::create(
        &options.runs,
        options.out.as_deref(),
        facts(options, build, &chosen),
    )?;
    for pair in &pairs {
        store.append_pair(&pair.record())?;
    }
    let sessions = prepare_sessions(&pairs, options, progress, interrupted, &mut problems);
    for (_, session, _) in &sessions {
        store.append_session(&session.record)?;
        store.append_plan(&session.plan)?;
    }
    let controls: Vec<Control> = sessions
        .iter()
        .flat_map(|(_, _, controls)| controls.clone())
        .collect();
    let violations = controls.iter().map(|control| control.violations).sum();
    store.update_facts(|facts| {
        facts.engines = sessions.iter().map(|(_, s, _)| engine_choice(s)).collect();
        facts.limits = sessions.iter().map(|(_, s, _)| limits(s)).collect();
        facts.controls = controls;
    })?;
    progress.planned(sessions.iter().map(|(_, s, _)| s.plan.len() as u64).sum());
    let dir = store.dir().to_owned();
    let tests = Tests {
        pairs: &pairs,
        sessions: &sessions,
        options,
        progress,
        interrupted,
        store: Mutex::new(store),
        failures: AtomicU64::new(0),
        problems: Mutex::new(problems),
    };
    tests.run()?;
    let problems = tests
        .problems
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for problem in &problems {
        progress.problem(&problem.to_string());
    }
    Ok(Outcome {
        dir,
        problems,
        violations,
        interrupted: interrupted.load(Ordering::Relaxed),
    })
}

fn choose<'a>(
    catalogue: &'a Catalogue,
    options: &Options,
) -> Result<Vec<(&'a Subject, &'a Pair)>, StudyError> {
    // A name that does not exist is a mistake, not an empty choice.
    for name in &options.subjects {
        catalogue.subject(name)?;
    }
    for id in &options.pairs {
        catalogue.pair(id)?;
    }
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
    let chosen: Vec<_> = catalogue
        .pairs
        .iter()
        .filter(|pair| wanted(&options.pairs, &pair.id) && wanted(&options.subjects, &pair.subject))
        .map(|pair| Ok((catalogue.subject(&pair.subject)?, pair)))
        .collect::<Result<_, StudyError>>()?;
    if chosen.is_empty() {
        return Err(StudyError::Nothing);
    }
    Ok(chosen)
}

fn prepare_pairs<'a>(
    chosen: &[(&'a Subject, &Pair)],
    build: &BuildOptions,
    options: &Options,
    progress: &dyn Progress,
    problems: &mut Vec<StudyError>,
) -> Vec<PreparedPair<'a>> {
    let mut prepared = Vec::new();
    let mut seen = BTreeSet::new();
    for (subject, pair) in chosen {
        let result = if options.control {
            if !seen.insert((subject.name.clone(), pair.old.clone())) {
                continue;
            }
            progress.stage(&format!("building {} {}", subject.name, pair.old));
            let workloads = subject.workloads.study.clone();
            prepare_control(subject, &pair.old, workloads, build)
        } else {
            progress.stage(&format!("building {}", pair.id));
            prepare(subject, pair, build)
        };
        match result {
            Ok(pair) => prepared.push(pair),
            Err(error) => problems.push(error),
        }
    }
    prepared
}

type Ready = (usize, PreparedSession, Vec<Control>);

/// Prepares all sessions, several at a time, and returns them in order.
fn prepare_sessions(
    pairs: &[PreparedPair<'_>],
    options: &Options,
    progress: &dyn Progress,
    interrupted: &AtomicBool,
    problems: &mut Vec<StudyError>,
) -> Vec<Ready> {
    let wanted = |name: &str| {
        options.workloads.is_empty() || options.workloads.iter().any(|wanted| wanted == name)
    };
    let tasks: Vec<(usize, &str, Scope)> = pairs
        .iter()
        .enumerate()
        .flat_map(|(index, pair)| {
            let workloads = pair.workloads.iter().filter(|name| wanted(name));
            workloads.flat_map(move |workload| {
                let scopes = options.scopes.iter();
                scopes.map(move |scope| (index, workload.as_str(), *scope))
            })
        })
        .collect();
    let results: Vec<Mutex<Option<Result<Ready, StudyError>>>> =
        tasks.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for processor in processors(options.jobs) {
            let (next, results, tasks) = (&next, &results, &tasks);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let (Some((pair, workload, scope)), Some(slot)) =
                        (tasks.get(at), results.get(at))
                    else {
                        return;
                    };
                    if interrupted.load(Ordering::Relaxed) {
                        return;
                    }
                    let prepared = &pairs[*pair];
                    progress.stage(&format!("tracing {} {workload}", prepared.id));
                    let result = prepare_session(prepared, workload, *scope, processor, options)
                        .map(|(session, controls)| (*pair, session, controls));
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                }
            });
        }
    });
    let mut ready = Vec::new();
    for slot in results {
        match slot.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(Ok(session)) => ready.push(session),
            Some(Err(error)) => problems.push(error),
            None => {}
        }
    }
    ready
}

fn prepare_session(
    pair: &PreparedPair<'_>,
    workload: &str,
    scope: Scope,
    processor: usize,
    options: &Options,
) -> Result<(PreparedSession, Vec<Control>), StudyError> {
    let key = pair.key(workload, scope);
    let spec = pair.session(&key, options.startup, &pair.patch, processor)?;
    // A wrong script is the user's: told here, before a worker fails at it.
    for script in [Some(&spec.workload), spec.probe.as_ref()]
        .into_iter()
        .flatten()
    {
        Script::read(script, &spec.ports)?;
    }
    let mut engine = RemoteEngine::start(&options.executable, &spec)?;
    let choice = Choice {
        sample: options.sample,
        seed: options.seed,
    };
    let session = session::prepare(pair, key, &spec, &mut engine, choice)?;
    drop(engine);
    let controls = controls::run(
        pair,
        &session,
        &options.executable,
        processor,
        options.extent,
    )?;
    Ok((session, controls))
}

/// Processors that this process may use, one for each job.
fn processors(jobs: usize) -> Vec<usize> {
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

struct Tests<'a> {
    pairs: &'a [PreparedPair<'a>],
    sessions: &'a [Ready],
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupted: &'a AtomicBool,
    store: Mutex<RunStore>,
    failures: AtomicU64,
    problems: Mutex<Vec<StudyError>>,
}

impl Tests<'_> {
    fn run(&self) -> Result<(), StoreError> {
        let chunks: Vec<(usize, &[PlannedTest])> = self
            .sessions
            .iter()
            .enumerate()
            .flat_map(|(index, (_, session, _))| {
                session.plan.chunks(CHUNK).map(move |chunk| (index, chunk))
            })
            .collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let workers: Vec<_> = processors(self.options.jobs)
                .into_iter()
                .map(|processor| {
                    let (chunks, next) = (&chunks, &next);
                    scope.spawn(move || self.work(processor, chunks, next))
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
    }

    /// One worker's share: chunk after chunk, keeping the engine while the session
    /// stays the same. The thread lives as long as its engines.
    fn work(
        &self,
        processor: usize,
        chunks: &[(usize, &[PlannedTest])],
        next: &AtomicUsize,
    ) -> Result<(), StoreError> {
        let mut current: Option<(usize, RemoteEngine)> = None;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((session, tests)) = chunks.get(at) else {
                return Ok(());
            };
            if current.as_ref().is_none_or(|(of, _)| of != session) {
                current = None;
                match self.engine(*session, processor) {
                    Ok(engine) => current = Some((*session, engine)),
                    Err(error) => self.note(error),
                }
            }
            let Some((_, engine)) = &mut current else {
                continue;
            };
            if self.interrupted.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Err(error) = self.chunk(&self.sessions[*session].1, engine, tests) {
                match error {
                    StudyError::Store(error) => return Err(error),
                    other => self.note(StudyError::Test {
                        test: tests[0].id.clone(),
                        source: Box::new(other),
                    }),
                }
                // The worker may be in any state: start a fresh one.
                current = None;
            }
        }
    }

    fn engine(&self, session: usize, processor: usize) -> Result<RemoteEngine, StudyError> {
        let (pair, session, _) = &self.sessions[session];
        let pair = &self.pairs[*pair];
        let spec = pair.session(&session.record.session, false, &pair.patch, processor)?;
        let mut engine = RemoteEngine::start(&self.options.executable, &spec)?;
        engine.set_limits(session.limits)?;
        Ok(engine)
    }

    /// Runs some tests of a session, and repeats those that fail. A test is recorded
    /// as soon as nothing of it is left to do.
    fn chunk(
        &self,
        session: &PreparedSession,
        engine: &mut dyn Engine,
        tests: &[PlannedTest],
    ) -> Result<(), StudyError> {
        let requests: Vec<PointRequest> = tests
            .iter()
            .map(|test| session.request(&test.point).ok_or(StudyError::Nothing))
            .collect::<Result<_, _>>()?;
        let mut failing: Vec<(usize, Vec<Observation>)> = Vec::new();
        let mut written = Ok(());
        let name = engine.name();
        engine.run(&requests, &mut |position, seen| {
            let test = &tests[position];
            if self.options.repeat > 0 && session.judge(&test.point, &seen).verdict.is_failure() {
                failing.push((position, vec![seen]));
            } else if written.is_ok() {
                written = self.append(test, name, vec![seen], session);
            }
            self.go_on()
        })?;
        written?;
        let again: Vec<PointRequest> = failing
            .iter()
            .map(|(position, _)| requests[*position].clone())
            .collect();
        for _ in 0..self.options.repeat {
            if self.go_on().is_break() {
                break;
            }
            engine.run(&again, &mut |position, seen| {
                // A repeat that misses the point says nothing about it.
                if !matches!(seen.update, Update::NotReached { .. }) {
                    failing[position].1.push(seen);
                }
                self.go_on()
            })?;
        }
        for (position, observations) in failing {
            self.append(&tests[position], name, observations, session)?;
        }
        Ok(())
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
        engine: &str,
        mut observations: Vec<Observation>,
        session: &PreparedSession,
    ) -> Result<(), StoreError> {
        let failed = observations
            .first()
            .is_some_and(|seen| session.judge(&test.point, seen).verdict.is_failure());
        let failures = self
            .failures
            .fetch_add(u64::from(failed), Ordering::Relaxed)
            + u64::from(failed);
        if !failed {
            // Nobody looks into these, and there are many.
            for seen in &mut observations {
                seen.output.clear();
            }
        }
        let record = TestRecord {
            test: test.id.clone(),
            wall_us: observations.iter().map(|seen| seen.wall_us).sum(),
            observations,
            engine: engine.to_owned(),
        };
        self.store
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append_test(&record)?;
        self.progress.tested(failures);
        Ok(())
    }

    fn note(&self, problem: StudyError) {
        self.problems
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }
}

fn engine_choice(session: &PreparedSession) -> EngineChoice {
    EngineChoice {
        session: session.record.session.clone(),
        engine: "restart".to_owned(),
        why: "the only engine built so far".to_owned(),
    }
}

fn limits(session: &PreparedSession) -> (String, serde_json::Value) {
    let key = &session.record.session;
    let limits = serde_json::json!({
        "waiting_us": session.limits.waiting.as_micros(),
        "busy_us": session.limits.busy.as_micros(),
    });
    (format!("{}/{}", key.pair, key.workload), limits)
}

fn facts(options: &Options, build: &BuildOptions, chosen: &[(&Subject, &Pair)]) -> RunFacts {
    RunFacts {
        arguments: options.arguments.clone(),
        seed: options.seed,
        sample: options.sample,
        kairos: kairos_facts(),
        machine: MachineFacts::read(&build.compiler.version),
        hashes: hashes(chosen),
        definition_of_changed: DEFINITION_OF_CHANGED.to_owned(),
        ..RunFacts::default()
    }
}

fn kairos_facts() -> KairosFacts {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    KairosFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(&["rev-parse", "HEAD"]),
        dirty: git(&["status", "--porcelain"]).map(|text| !text.is_empty()),
    }
}

/// SHA-256 of the manifests and of the archives that they name.
fn hashes(chosen: &[(&Subject, &Pair)]) -> std::collections::BTreeMap<String, String> {
    use sha2::{Digest, Sha256};
    let mut hashes = std::collections::BTreeMap::new();
    for (subject, pair) in chosen {
        let manifests = [
            (
                format!("subjects/{}/subject.toml", subject.name),
                subject.manifest(),
            ),
            (
                format!("update-pairs/{}/pair.toml", pair.id),
                pair.manifest(),
            ),
        ];
        for (name, path) in manifests {
            if let Ok(content) = std::fs::read(path) {
                let hex = Sha256::digest(&content)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                hashes.insert(name, hex);
            }
        }
        let used = |label: &str| label == pair.old || label == pair.new;
        for version in subject.versions.iter().filter(|v| used(&v.label)) {
            for archive in version.source.archives() {
                hashes.insert(archive.file.clone(), archive.sha256.clone());
            }
        }
    }
    hashes
}
