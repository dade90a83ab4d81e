//! Joins the folders of one study's parts into one. Nothing is lost: what does not
//! fit the joined run is kept beside it with the reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::agreement::Disagreements;
use super::plan::{PlannedTest, SessionKey};
use super::store::lines::LineFile;
use super::store::{PairRecord, Run, RunFacts, RunStore, SessionRecord, TestRecord};
use super::{StudyError, facts, hashes};
use crate::trace::{PointId, Trace, fingerprint};
use crate::verdict::difference::difference;

/// Tests that do not fit the joined run, one a line.
pub const LEFT_OUT: &str = "left-out.jsonl";

/// A test that is not in the joined run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Name of the run that it comes from.
    pub run: String,
    /// Why it does not fit.
    pub why: String,
    /// What was seen of it.
    #[serde(flatten)]
    pub record: TestRecord,
}

/// What was joined.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Folder of the joined run.
    pub dir: PathBuf,
    /// Tests in it.
    pub tests: u64,
    /// Tests of its plan.
    pub planned: u64,
    /// Tests that several parts had, with equal observations, and that count once.
    pub twice: u64,
    /// How many tests were left out, by reason; they are in [`LEFT_OUT`].
    pub left_out: BTreeMap<String, u64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Joins the runs in `parts` into a new one in `out`. A session is taken from the
/// first part that has it; tests of other parts fit it if their points are in its
/// trace with equal stacks.
///
/// # Errors
/// When the parts are not of one study, or a file cannot be read or written.
pub fn merge(out: &Path, parts: &[PathBuf]) -> Result<Merged, StudyError> {
    let runs: Vec<Run> = parts
        .iter()
        .map(|part| Run::load(part))
        .collect::<Result<_, _>>()?;
    let Some(first) = runs.first() else {
        return Err(StudyError::NotOneStudy("no run is named".to_owned()));
    };
    let mut merged = Merged::default();
    for other in &runs[1..] {
        same_study(first, other)?;
        merged.warnings.extend(warnings(first, other));
    }
    let joined = Joined::of(&runs)?;
    let mut store = RunStore::create(out, Some(out), joined_facts(&runs))?;
    store.dir().clone_into(&mut merged.dir);
    for (_, record) in &joined.pairs {
        store.append_pair(record)?;
    }
    for session in &joined.sessions {
        store.append_session(session.record)?;
        store.append_plan(&session.plan)?;
        let tested = session.plan.iter().filter(|test| test.tested);
        merged.planned += tested.fold(0, |count, _| count + 1);
    }
    let mut seen: HashMap<String, [u8; 32]> = HashMap::new();
    let mut left_out = None;
    for run in &runs {
        let fits = joined.fitting(run);
        for record in run.tests()? {
            let record = record?;
            let hash = hash_of(&record);
            let why = match seen.get(&record.test) {
                Some(before) if *before == hash => {
                    merged.twice += 1;
                    continue;
                }
                Some(_) => Some("another part saw something else of it".to_owned()),
                None => fits.refuses(&record.test),
            };
            let Some(why) = why else {
                store.append_test(&record)?;
                seen.insert(record.test, hash);
                continue;
            };
            *merged.left_out.entry(why.clone()).or_default() += 1;
            let file = match &mut left_out {
                Some(file) => file,
                none => none.insert(LineFile::open(&merged.dir.join(LEFT_OUT))?),
            };
            file.append(&LeftOut {
                run: run.facts.id.clone(),
                why,
                record,
            })?;
        }
    }
    merged.tests = seen.len() as u64;
    let disagreements = Disagreements::of(&Run::load(&merged.dir)?)?;
    store.update_facts(|facts| {
        disagreements.record(facts);
        facts.not_run.retain(|test| !seen.contains_key(&test.test));
    })?;
    store.sync()?;
    Ok(merged)
}

fn same_study(one: &Run, other: &Run) -> Result<(), StudyError> {
    let differ = |what: &str| {
        let (one, other) = (one.dir().display(), other.dir().display());
        StudyError::NotOneStudy(format!("{one} and {other} {what}"))
    };
    if one.facts.options.is_none() || other.facts.options.is_none() {
        return Err(differ(
            "are not both of a Kairos that records what was chosen",
        ));
    }
    if one.facts.options != other.facts.options {
        return Err(differ(
            "were begun with other arguments; see `options` in their run.json",
        ));
    }
    let differences = hashes::differences(&one.facts.hashes, &other.facts.hashes);
    if !differences.is_empty() {
        let list = differences.join("\n  ");
        return Err(differ(&format!("were begun with other files:\n  {list}")));
    }
    Ok(())
}

fn warnings(one: &Run, other: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    if one.facts.kairos != other.facts.kairos {
        warnings.push(format!(
            "{} and {} are of different builds of Kairos",
            one.dir().display(),
            other.dir().display()
        ));
    }
    warnings
}

/// What a test shows, whatever it took.
fn hash_of(record: &TestRecord) -> [u8; 32] {
    let mut observations = record.observations.clone();
    for observation in &mut observations {
        observation.wall_us = 0;
    }
    let text = serde_json::to_vec(&observations).unwrap_or_default();
    Sha256::digest(&text).into()
}

fn joined_facts(runs: &[Run]) -> RunFacts {
    let mut joined = runs[0].facts.clone();
    joined.shard = None;
    joined.merged_from = runs.iter().map(|run| run.facts.id.clone()).collect();
    for run in &runs[1..] {
        let have: BTreeSet<SessionKey> = sessions_of(&joined.controls, |c| &c.session);
        let more = run.facts.controls.iter();
        let more = more.filter(|control| !have.contains(&control.session));
        joined.controls.extend(more.cloned());
        let have: BTreeSet<SessionKey> = sessions_of(&joined.engines, |e| &e.session);
        let more = run.facts.engines.iter();
        let more = more.filter(|engine| !have.contains(&engine.session));
        joined.engines.extend(more.cloned());
        for (name, limit) in &run.facts.limits {
            let known = joined.limits.entry(name.clone());
            known.or_insert_with(|| limit.clone());
        }
        joined.not_run.extend(run.facts.not_run.iter().cloned());
    }
    facts::sort(&mut joined);
    joined
}

fn sessions_of<T>(all: &[T], session: impl Fn(&T) -> &SessionKey) -> BTreeSet<SessionKey> {
    all.iter().map(|one| session(one).clone()).collect()
}

/// The session that the joined run has, and its plan.
struct JoinedSession<'a> {
    record: &'a SessionRecord,
    plan: Vec<PlannedTest>,
}

struct Joined<'a> {
    pairs: Vec<(&'a str, &'a PairRecord)>,
    sessions: Vec<JoinedSession<'a>>,
}

impl<'a> Joined<'a> {
    /// Pairs must agree; of sessions the first counts.
    fn of(runs: &'a [Run]) -> Result<Self, StudyError> {
        let mut pairs: Vec<(&str, &PairRecord)> = Vec::new();
        let mut sessions: Vec<JoinedSession<'_>> = Vec::new();
        for run in runs {
            for pair in &run.pairs {
                match pairs.iter().find(|(name, _)| *name == pair.pair) {
                    None => pairs.push((&pair.pair, pair)),
                    Some((_, known)) if known.describes_the_same_as(pair) => {}
                    Some(_) => {
                        return Err(StudyError::NotOneStudy(format!(
                            "the patch of {} in {} is not that of the runs before it: built by another compiler or by another Kairos",
                            pair.pair,
                            run.dir().display()
                        )));
                    }
                }
            }
            for record in &run.sessions {
                let known = |session: &JoinedSession<'_>| session.record.session == record.session;
                if !sessions.iter().any(known) {
                    let plan = run.plan.iter();
                    sessions.push(JoinedSession {
                        record,
                        plan: plan
                            .filter(|test| test.session == record.session)
                            .cloned()
                            .collect(),
                    });
                }
            }
        }
        Ok(Self { pairs, sessions })
    }

    /// Which tests of `run` fit.
    fn fitting(&self, run: &'a Run) -> Fitting<'a> {
        let mut fitting = Fitting::default();
        let theirs: BTreeMap<&SessionKey, &SessionRecord> = run
            .sessions
            .iter()
            .map(|record| (&record.session, record))
            .collect();
        for session in &self.sessions {
            let ours = session.record;
            let Some(theirs) = theirs.get(&ours.session) else {
                continue;
            };
            let baseline = difference(&ours.old, &theirs.old)
                .or_else(|| difference(&ours.new, &theirs.new))
                .is_some();
            let (our_places, their_places) = (places(&ours.trace), places(&theirs.trace));
            for test in &session.plan {
                let place = our_places.get(&test.point);
                let fit = if baseline {
                    Some("its part has other baselines")
                } else if place == their_places.get(&test.point) {
                    None
                } else {
                    Some("its point has another stack in the joined session")
                };
                fitting.known.insert(test.id.clone(), fit);
            }
        }
        for test in &run.plan {
            fitting.theirs.insert(&test.id);
        }
        fitting
    }
}

/// How each point of a trace is recognised.
fn places(trace: &Trace) -> HashMap<&PointId, (u64, u32)> {
    let prints: Vec<u64> = trace.stacks.iter().map(fingerprint).collect();
    trace
        .points
        .iter()
        .map(|point| {
            let stack = usize::try_from(point.stack).unwrap_or(usize::MAX);
            let print = prints.get(stack).copied().unwrap_or_default();
            (&point.id, (print, point.occurrence))
        })
        .collect()
}

/// Which tests of a run fit the joined one, and why others do not.
#[derive(Default)]
struct Fitting<'a> {
    known: HashMap<String, Option<&'static str>>,
    theirs: BTreeSet<&'a str>,
}

impl Fitting<'_> {
    fn refuses(&self, test: &str) -> Option<String> {
        match self.known.get(test) {
            Some(fit) => fit.map(str::to_owned),
            None if self.theirs.contains(test) => {
                Some("the joined session does not have its point".to_owned())
            }
            None => Some("it is in no plan".to_owned()),
        }
    }
}
