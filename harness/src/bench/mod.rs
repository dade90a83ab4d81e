//! What one update test costs: the same session played in several ways, in turns of a
//! few tests, so that whatever else the machine does hits all ways alike.

pub mod figures;
pub mod gdb;
pub mod jobs;
pub mod kept;
pub mod points;
pub mod stages;
pub mod way;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::engine::burden::Burden;
use crate::engine::gdb::GdbPoint;
use crate::engine::spec::{SessionSpec, Which};
use crate::engine::{EngineKind, EngineWish, PointRequest, RemoteEngine, Tested};
use crate::sandbox::namespaces::Pinned;
use crate::study::StudyError;
use crate::study::plan::Choice;
use crate::study::prepare::{PreparedPair, broken_patch, prepare, prepare_control_of};
use crate::study::progress::{Planned, Progress};
use crate::study::session::{self, PreparedSession};
use crate::study::sessions::processors;
use crate::subject::{BuildOptions, Catalogue, Pair};
use crate::trace::Scope;
use crate::verdict::Observation;

use figures::Times;
pub use figures::{Agreement, Difference, Report, Row};
use jobs::{JobsRow, Load};
use points::{neighbours, spread};
use stages::StageTimes;
pub use stages::{BurdenRow, EngineAgreement, StageRow};
pub use way::Way;

/// Tests of one way that follow each other, as they do in a study, before another way
/// has its turn at the same points.
const TURN: usize = 10;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The subject; that of `pair` if none, else kvd.
    pub subject: Option<String>,
    /// The update pair; the subject's first if none.
    pub pair: Option<String>,
    /// The workload; the pair's first if none.
    pub workload: Option<String>,
    /// Replace every function of the old version by a copy of itself instead.
    pub control: bool,
    /// Replace every function by a copy, but let this one return a wrong value.
    pub planted_fault: Option<String>,
    /// Tests of each way; one at every point if none.
    pub tests: Option<usize>,
    /// Whether the tests of a turn are at neighbouring points, as when every point is
    /// tested; else all are spread evenly.
    pub neighbours: bool,
    /// Measure engines only, and nothing that is no test.
    pub engines_only: bool,
    /// Whether to measure gdb too.
    pub gdb: bool,
    /// Bytes of memory that traced servers are given beyond their own.
    pub resident: u64,
    /// Workers whose throughput is measured beside one's; none if 1.
    pub jobs: usize,
    /// Which engines to measure beside restart: all that the session allows, or none.
    pub engine: EngineWish,
    /// The `kairos` binary, which is also the worker.
    pub executable: PathBuf,
}

/// A session that is ready to be measured.
pub struct Bench<'a> {
    pair: PreparedPair<'a>,
    session: PreparedSession,
    engine: RemoteEngine,
    /// A worker of its own for each further engine that the session allows, and for
    /// the floor: the other ways' servers would end the one that waits for tests.
    others: Vec<(Way, RemoteEngine)>,
    spec: SessionSpec,
    points: Vec<usize>,
    notes: Vec<String>,
}

impl<'a> Bench<'a> {
    /// Builds the pair, and runs the session's baselines and trace.
    ///
    /// # Errors
    /// When a name does not exist, a build fails or the session cannot be run.
    pub fn prepare(
        catalogue: &'a Catalogue,
        build: &BuildOptions,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Self, StudyError> {
        let chosen = choose(catalogue, options)?;
        let subject = catalogue.subject(&chosen.subject)?;
        progress.stage(&format!("building {}", chosen.id));
        let mut pair = prepare(subject, chosen, build)?;
        let workload = workload(&pair, options.workload.as_deref())?;
        if options.control || options.planted_fault.is_some() {
            pair = prepare_control_of(subject, chosen, vec![workload.clone()], build)?;
        }
        if let Some(function) = &options.planted_fault {
            pair.patch = broken_patch(&pair.id, &pair.old, function)?.patch;
        }
        progress.stage(&format!("tracing {} {workload}", pair.id));
        let key = pair.key(&workload, Scope::Process);
        // One processor for tracer and tracee, as in a study.
        let spec = SessionSpec {
            resident: options.resident,
            ..pair.session(&key, false, &pair.patch, processor())?
        };
        let mut engine = RemoteEngine::start(&options.executable, &spec)?;
        let session = session::prepare(&pair, key, &spec, &mut engine, Choice::ALL)?;
        let points = {
            let all = session.record.trace.points.len();
            let count = options.tests.unwrap_or(all);
            if options.neighbours {
                neighbours(all, count, TURN)
            } else {
                spread(all, count)
            }
        };
        if points.is_empty() {
            return Err(StudyError::Workload {
                pair: pair.id,
                workload,
                version: chosen.old.clone(),
                message: "the session has no update point".to_owned(),
            });
        }
        let mut notes = Vec::new();
        if options.resident > 0 {
            let mib = options.resident >> 20;
            notes.push(format!(
                "traced servers hold {mib} MiB beyond their own; untraced and gdb's do not"
            ));
        }
        let mut others = Vec::new();
        for kind in EngineKind::FASTER {
            if ![EngineWish::Auto, EngineWish::Just(kind)].contains(&options.engine) {
                continue;
            }
            let ways = [Way::of(kind), Way::Floor];
            let with_floor = kind == EngineKind::Rollback && !options.engines_only;
            for way in &ways[..=usize::from(with_floor)] {
                let mut worker = RemoteEngine::start(&options.executable, &spec)?;
                worker.set_limits(session.limits)?;
                match worker.use_engine(kind)? {
                    None => others.push((*way, worker)),
                    Some(why) => {
                        notes.push(format!("{kind}: not measured: {why}"));
                        break;
                    }
                }
            }
        }
        Ok(Self {
            pair,
            session,
            engine,
            others,
            spec,
            points,
            notes,
        })
    }

    /// The gdb batch file of the `number`-th measured point.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub fn gdb_script(&self, number: usize) -> Result<String, String> {
        gdb::applies(&self.pair.patch)?;
        let point = self.points.get(number);
        let point = point
            .and_then(|point| self.gdb_point(*point))
            .ok_or("the point is not in the trace")?;
        let program = crate::engine::spec::SessionSpec::inside(Which::New).join(
            self.pair
                .new
                .program
                .strip_prefix(&self.pair.new.tree)
                .unwrap_or(&self.pair.new.program),
        );
        Ok(crate::engine::gdb::script::script(
            &point,
            &self.pair.patch,
            &program,
        ))
    }

    /// Measures all ways, in turns of a few tests. An interrupt ends it with what is done.
    ///
    /// # Errors
    /// When the harness or the machine fails.
    pub fn run(
        mut self,
        options: &Options,
        progress: &dyn Progress,
        interrupted: &AtomicBool,
    ) -> Result<Report, StudyError> {
        let mut ways = vec![Way::Restart];
        if !options.engines_only {
            ways.splice(0..0, [Way::Untraced, Way::StopAndGo]);
        }
        let mut notes = std::mem::take(&mut self.notes);
        ways.extend(self.others.iter().map(|(way, _)| *way));
        let mut stages = StageTimes::default();
        let baseline = &self.session.record.old;
        let mut engines: Vec<EngineAgreement> = EngineKind::FASTER
            .into_iter()
            .filter(|kind| ways.contains(&Way::of(*kind)))
            .map(|kind| EngineAgreement::of(kind, baseline))
            .collect();
        if options.gdb {
            match gdb::applies(&self.pair.patch).and_then(|()| gdb::usable()) {
                Ok(()) => ways.push(Way::Gdb),
                Err(why) => notes.push(why),
            }
        }
        let mut times = Times::default();
        let mut agreement = Agreement::default();
        progress.planned(&Planned {
            tests: (self.points.len() * ways.len()) as u64,
            finished: 0,
            // Known only when the ways have been timed.
            estimate: std::time::Duration::ZERO,
            jobs: 1,
        });
        // Files that only one way reads must be in memory for all of them.
        for way in &ways {
            self.play(*way, self.points[0], &mut StageTimes::default())?;
        }
        let pinned = Pinned::to(self.spec.processor);
        let mut burdens = Vec::new();
        let mut played = 0;
        let points = self.points.clone();
        let warm = points.len().div_ceil(TURN) / 10;
        for (round, points) in points.chunks(TURN).enumerate() {
            if round == warm {
                burdens.extend(self.burdens(played)?);
            }
            let mut seen: Vec<Vec<(Way, Tested)>> = points.iter().map(|_| Vec::new()).collect();
            for turn in 0..ways.len() {
                // Another way begins each round: none always follows the same one.
                let way = ways[(round + turn) % ways.len()];
                for (point, seen) in points.iter().zip(&mut seen) {
                    if interrupted.load(Ordering::Relaxed) {
                        break;
                    }
                    let begun = Instant::now();
                    let tested = self.play(way, *point, &mut stages)?;
                    // What an engine left to restart is not its time.
                    if way.engine().is_none_or(|kind| kind == tested.engine) {
                        times.add(way, begun.elapsed());
                    }
                    seen.push((way, tested));
                    progress.tested(agreement.differing());
                    played += usize::from(way == Way::Restart);
                }
            }
            for (point, seen) in points.iter().zip(&seen) {
                self.compare(*point, seen, &mut agreement);
                self.compare_engines(*point, seen, &mut engines)?;
            }
        }
        burdens.extend(self.burdens(played)?);
        drop(pinned);
        let jobs = self.measure_jobs(options, progress)?;
        let record = &self.session.record;
        Ok(Report {
            jobs,
            burdens,
            subject: self.pair.subject.name.clone(),
            pair: self.pair.id.clone(),
            workload: record.session.workload.clone(),
            points: record.trace.points.len(),
            resident_mib: self.spec.resident >> 20,
            neighbours: options.neighbours,
            rows: times.rows(&self.pair.subject.name, &ways),
            stages: stages.rows(),
            engines,
            agreement: ways.contains(&Way::Gdb).then_some(agreement),
            notes,
        })
    }

    /// Compares what engines showed of one test, and asks them again where they differ.
    fn compare_engines(
        &mut self,
        point: usize,
        seen: &[(Way, Tested)],
        engines: &mut [EngineAgreement],
    ) -> Result<(), StudyError> {
        let by = |wanted: Way| seen.iter().find(|(way, _)| *way == wanted);
        let id = self.session.record.trace.points[point].id.clone();
        for agreement in engines {
            let kind = agreement.engine;
            if let (Some((_, restart)), Some((_, tested))) = (by(Way::Restart), by(Way::of(kind))) {
                agreement.by_restart += u64::from(tested.engine != kind);
                agreement.stopped += u64::from(tested.known_from.is_some());
                let doubt = tested.doubt.iter();
                let doubt = doubt.map(|doubt| format!("{id}: {doubt}"));
                agreement.differences.extend(doubt);
                let ask = &mut |kind| {
                    let again = self.play(Way::of(kind), point, &mut StageTimes::default())?;
                    Ok(again.observation)
                };
                agreement.add(&id, [&restart.observation, &tested.observation], ask)?;
            }
        }
        Ok(())
    }

    fn play(
        &mut self,
        way: Way,
        point: usize,
        stages: &mut StageTimes,
    ) -> Result<Tested, StudyError> {
        let request = self.request(point)?;
        let untimed = |observation| Tested {
            observation,
            engine: EngineKind::Restart,
            instead: None,
            known_from: None,
            doubt: None,
            spent: Vec::new(),
        };
        let tested = match way {
            Way::Untraced => untimed(self.engine.baseline(Which::Old, false)?.observation),
            Way::StopAndGo => self.engine.test(&request, false)?,
            Way::Restart => self.engine.test(&request, true)?,
            Way::ForkServer | Way::ForkSnapshot | Way::Rollback | Way::Floor => {
                let mut others = self.others.iter_mut();
                let worker = others.find(|(of, _)| *of == way);
                let (_, worker) = worker.ok_or(StudyError::Nothing)?;
                worker.test(&request, way != Way::Floor)?
            }
            Way::Gdb => {
                let point = self.gdb_point(point).ok_or(StudyError::Nothing)?;
                untimed(self.engine.gdb(&point)?)
            }
        };
        stages.add(way, &tested.spent);
        Ok(tested)
    }

    /// What Kairos itself takes after so many tests.
    fn burdens(&mut self, tests: usize) -> Result<Vec<BurdenRow>, StudyError> {
        let row = |process: &str, burden: Burden| BurdenRow {
            process: process.to_owned(),
            tests,
            resident_kib: burden.resident_kib,
            descriptors: burden.descriptors,
        };
        let mut rows = vec![
            row("coordinator", Burden::own()),
            row(Way::Restart.name(), self.engine.burden()?),
        ];
        for (way, worker) in &mut self.others {
            rows.push(row(way.name(), worker.burden()?));
        }
        Ok(rows)
    }

    /// Throughput of several workers, of each engine that was measured.
    fn measure_jobs(
        &self,
        options: &Options,
        progress: &dyn Progress,
    ) -> Result<Vec<JobsRow>, StudyError> {
        let processors = processors(options.jobs);
        if processors.len() < 2 {
            return Ok(Vec::new());
        }
        let points: Vec<PointRequest> = self
            .points
            .iter()
            .map(|point| self.request(*point))
            .collect::<Result<_, _>>()?;
        let load = Load {
            executable: &options.executable,
            spec: &self.spec,
            limits: self.session.limits,
            points: &points,
            processors: &processors,
        };
        let mut rows = Vec::new();
        for kind in [EngineKind::Restart].into_iter().chain(EngineKind::FASTER) {
            let way = Way::of(kind);
            if way == Way::Restart || self.others.iter().any(|(of, _)| *of == way) {
                progress.stage(&format!("{} workers of {kind}", processors.len()));
                rows.extend(load.measure(kind)?);
            }
        }
        Ok(rows)
    }

    fn request(&self, point: usize) -> Result<PointRequest, StudyError> {
        let id = &self.session.record.trace.points[point].id;
        self.session.request(id).ok_or(StudyError::Nothing)
    }

    fn gdb_point(&self, point: usize) -> Option<GdbPoint> {
        let name = |address| {
            let functions = &self.pair.functions;
            functions
                .iter()
                .find(|function| function.entry == address)
                .map_or_else(|| address.to_string(), |function| function.name.clone())
        };
        GdbPoint::of(&self.session.record.trace, point, &name)
    }

    /// Judges what gdb's test of a point showed to clients, in files and logs. What a
    /// script cannot know is taken from the restart test of the same point: whether old
    /// frames ran and new code was entered, and what became of forked processes.
    fn compare(&self, point: usize, seen: &[(Way, Tested)], agreement: &mut Agreement) {
        let by = |wanted: Way| {
            let played = seen.iter().find(|(way, _)| *way == wanted);
            played.map(|(_, tested)| &tested.observation)
        };
        let (Some(restart), Some(gdb)) = (by(Way::Restart), by(Way::Gdb)) else {
            return;
        };
        let mut gdb = gdb.clone();
        let id = &self.session.record.trace.points[point].id;
        gdb.old_frame_exchanges
            .clone_from(&restart.old_frame_exchanges);
        gdb.new_entries.clone_from(&restart.new_entries);
        let first = gdb.processes.first().cloned();
        gdb.processes.clone_from(&restart.processes);
        if let (Some(taken), Some(first)) = (gdb.processes.first_mut(), first) {
            taken.ended_in = first.ended_in;
            taken.ending = first.ending;
        }
        let judge = |seen: &Observation| self.session.judge(id, seen);
        agreement.add(id, &judge(restart), &judge(&gdb));
    }
}

fn choose<'a>(catalogue: &'a Catalogue, options: &Options) -> Result<&'a Pair, StudyError> {
    if let Some(id) = &options.pair {
        let pair = catalogue.pair(id)?;
        if let Some(subject) = &options.subject {
            catalogue.subject(subject)?;
            if *subject != pair.subject {
                return Err(StudyError::Nothing);
            }
        }
        return Ok(pair);
    }
    let subject = options.subject.as_deref().unwrap_or("kvd");
    catalogue.subject(subject)?;
    catalogue
        .pairs
        .iter()
        .find(|pair| pair.subject == subject)
        .ok_or(StudyError::Nothing)
}

/// The workload asked for, or the pair's first.
fn workload(pair: &PreparedPair<'_>, wanted: Option<&str>) -> Result<String, StudyError> {
    let known = &pair.workloads;
    match wanted {
        None => known.first().cloned().ok_or(StudyError::Nothing),
        Some(name) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) => Err(crate::subject::SubjectError::Unknown {
            kind: "workload",
            name: name.to_owned(),
            known: known.join(", "),
        }
        .into()),
    }
}

/// The first processor that this process may use.
fn processor() -> usize {
    nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))
        .ok()
        .and_then(|set| {
            (0..nix::sched::CpuSet::count()).find(|cpu| set.is_set(*cpu).unwrap_or(false))
        })
        .unwrap_or(0)
}
