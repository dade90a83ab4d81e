//! What one update test costs: the same session played in several ways, in turns,
//! so that whatever else the machine does hits all ways alike.

pub mod figures;
pub mod gdb;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::engine::gdb::GdbPoint;
use crate::engine::spec::SessionSpec;
use crate::engine::spec::Which;
use crate::engine::wanted::Wanted;
use crate::engine::{PointRequest, RemoteEngine};
use crate::study::StudyError;
use crate::study::prepare::{PreparedPair, prepare, prepare_control_of};
use crate::study::progress::{Planned, Progress};
use crate::study::session::{self, Choice, PreparedSession};
use crate::subject::{BuildOptions, Catalogue, Pair};
use crate::trace::Scope;
use crate::verdict::Observation;

use figures::Times;
pub use figures::{Agreement, Difference, Report, Row};

/// A way to play a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Start, session, probe and stop, left alone: what no test can do without.
    Untraced,
    /// A restart test that stops at the point and applies nothing.
    StopAndGo,
    /// A restart test.
    Restart,
    /// A test by rollback in a simulated world.
    Rollback,
    /// One by rollback that applies nothing: what no update can do without.
    Floor,
    /// A gdb batch script that does the same.
    Gdb,
}

impl Way {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::StopAndGo => "stop-and-go",
            Self::Restart => "restart",
            Self::Rollback => "rollback",
            Self::Floor => "floor",
            Self::Gdb => "gdb",
        }
    }
}

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
    /// Tests of each way.
    pub tests: usize,
    /// Whether to measure gdb too.
    pub gdb: bool,
    /// The `kairos` binary, which is also the worker.
    pub executable: PathBuf,
}

/// A session that is ready to be measured.
pub struct Bench<'a> {
    pair: PreparedPair<'a>,
    session: PreparedSession,
    engine: RemoteEngine,
    simulated: Simulated,
    /// Why points could not be tested by rollback.
    unfit: BTreeSet<String>,
    points: Vec<usize>,
}

/// Workers of their own for tests by rollback: a server that goes from point to point
/// must not be taken away for other tests.
enum Simulated {
    /// One that applies the update, and one that applies nothing.
    Fit {
        rollback: RemoteEngine,
        floor: RemoteEngine,
    },
    /// The session cannot be simulated, and why.
    Unfit(String),
}

impl Simulated {
    fn start(options: &Options, spec: &SessionSpec) -> Result<Self, StudyError> {
        let mut rollback = RemoteEngine::start(&options.executable, spec)?;
        if let Err(why) = rollback.simulate()? {
            return Ok(Self::Unfit(why));
        }
        let floor = RemoteEngine::start(&options.executable, spec)?;
        Ok(Self::Fit { rollback, floor })
    }
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
        if options.control {
            pair = prepare_control_of(subject, chosen, vec![workload.clone()], build)?;
        }
        progress.stage(&format!("tracing {} {workload}", pair.id));
        let key = pair.key(&workload, Scope::Process);
        // One processor for tracer and tracee, as in a study.
        let spec = pair.session(&key, false, &pair.patch, processor())?;
        let mut engine = RemoteEngine::start(&options.executable, &spec)?;
        let all = Choice {
            sample: None,
            seed: 1,
            engine: Wanted::Restart,
        };
        let session = session::prepare(&pair, key, &spec, &mut engine, all)?;
        let mut simulated = Simulated::start(options, &spec)?;
        if let Simulated::Fit { rollback, floor } = &mut simulated {
            rollback.set_limits(session.limits)?;
            floor.set_limits(session.limits)?;
        }
        let points = spread(session.record.trace.points.len(), options.tests);
        if points.is_empty() {
            return Err(StudyError::Workload {
                pair: pair.id,
                workload,
                version: chosen.old.clone(),
                message: "the session has no update point".to_owned(),
            });
        }
        Ok(Self {
            pair,
            session,
            engine,
            simulated,
            unfit: BTreeSet::new(),
            points,
        })
    }

    /// The gdb batch file of the `number`-th measured point.
    #[must_use]
    pub fn gdb_script(&self, number: usize) -> Option<String> {
        let point = self.gdb_point(*self.points.get(number)?)?;
        let program = crate::engine::spec::SessionSpec::inside(Which::New).join(
            self.pair
                .new
                .program
                .strip_prefix(&self.pair.new.tree)
                .unwrap_or(&self.pair.new.program),
        );
        Some(crate::engine::gdb::script::script(
            &point,
            &self.pair.patch,
            &program,
        ))
    }

    /// Measures all ways, in turns. An interrupt ends it with what is done.
    ///
    /// # Errors
    /// When the harness or the machine fails.
    pub fn run(
        mut self,
        options: &Options,
        progress: &dyn Progress,
        interrupted: &AtomicBool,
    ) -> Result<Report, StudyError> {
        let mut ways = vec![Way::Untraced, Way::StopAndGo, Way::Restart];
        let mut notes = Vec::new();
        match &self.simulated {
            Simulated::Fit { .. } => ways.extend([Way::Rollback, Way::Floor]),
            Simulated::Unfit(why) => notes.push(format!("no rollback: {why}")),
        }
        if options.gdb {
            match gdb::usable() {
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
            self.play(*way, self.points[0])?;
        }
        for (round, point) in self.points.clone().into_iter().enumerate() {
            let mut seen = (None, None);
            for turn in 0..ways.len() {
                if interrupted.load(Ordering::Relaxed) {
                    break;
                }
                // Another way begins each round: none always follows the same one.
                let way = ways[(round + turn) % ways.len()];
                let begun = Instant::now();
                let observation = self.play(way, point)?;
                if observation.is_some() {
                    times.add(way, begun.elapsed());
                }
                match way {
                    Way::Restart => seen.0 = observation,
                    Way::Gdb => seen.1 = observation,
                    Way::Untraced | Way::StopAndGo | Way::Rollback | Way::Floor => {}
                }
                progress.tested(agreement.differing());
            }
            if let (Some(restart), Some(gdb)) = seen {
                self.compare(point, &restart, gdb, &mut agreement);
            }
        }
        let unfit = self.unfit.iter();
        notes.extend(unfit.map(|why| format!("some points not by rollback: {why}")));
        let record = &self.session.record;
        Ok(Report {
            subject: self.pair.subject.name.clone(),
            pair: self.pair.id.clone(),
            workload: record.session.workload.clone(),
            points: record.trace.points.len(),
            rows: times.rows(&self.pair.subject.name, &ways),
            agreement: ways.contains(&Way::Gdb).then_some(agreement),
            notes,
        })
    }

    fn play(&mut self, way: Way, point: usize) -> Result<Option<Observation>, StudyError> {
        let observation = match way {
            Way::Untraced => self.engine.baseline(Which::Old, false)?.observation,
            Way::StopAndGo => self.engine.test(&self.request(point)?, false)?,
            Way::Restart => self.engine.test(&self.request(point)?, true)?,
            Way::Rollback | Way::Floor => {
                let request = self.request(point)?;
                let Simulated::Fit { rollback, floor } = &mut self.simulated else {
                    return Ok(None);
                };
                let (engine, apply) = match way {
                    Way::Rollback => (rollback, true),
                    _ => (floor, false),
                };
                return Ok(match engine.roll(&request, apply)? {
                    Ok(seen) => Some(seen),
                    Err(why) => {
                        self.unfit.insert(why);
                        None
                    }
                });
            }
            Way::Gdb => {
                let point = self.gdb_point(point).ok_or(StudyError::Nothing)?;
                self.engine.gdb(&point)?
            }
        };
        Ok(Some(observation))
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

    /// Judges what gdb's test showed to clients, in files and logs. What a script
    /// cannot know is taken from the restart test of the same point: whether old
    /// frames ran and new code was entered, and what became of forked processes.
    fn compare(
        &self,
        point: usize,
        restart: &Observation,
        mut gdb: Observation,
        agreement: &mut Agreement,
    ) {
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

/// `count` numbers below `all`, evenly spread; with more tests than points they
/// come round again.
fn spread(all: usize, count: usize) -> Vec<usize> {
    if all == 0 {
        return Vec::new();
    }
    if count > all {
        return (0..count).map(|number| number % all).collect();
    }
    (0..count)
        .map(|number| (2 * number + 1) * all / (2 * count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_spread_over_the_session() {
        assert_eq!(spread(100, 4), [12, 37, 62, 87]);
        assert_eq!(spread(3, 3), [0, 1, 2]);
        assert_eq!(spread(2, 3), [0, 1, 0]);
        assert!(spread(0, 3).is_empty());
    }
}
