//! Going on with a run: everything that was chosen and prepared comes from its
//! records, and the project must still be the one that it was begun with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::StudyError;
use super::agreement::{gather, to_repeat};
use super::choice::ChosenPair;
use super::facts::kairos;
use super::hashes;
use super::plan::{Choice, PlannedTest, SessionKey};
use super::prepare::PreparedPair;
use super::session::{PreparedSession, restore};
use super::store::{MachineFacts, PairRecord, Run, RunFacts, RunOptions, RunStore};
use super::substitutes::substitutes;
use crate::subject::BuildOptions;

/// What a run holds already; nothing for a new one.
#[derive(Default)]
pub struct Recorded {
    /// Its sessions.
    pub sessions: BTreeMap<SessionKey, PreparedSession>,
    /// Identifiers of its finished tests.
    pub finished: BTreeSet<String>,
    /// Sessions of whose finished tests some want further ones: a leader was not found,
    /// or tests of one class differ and have not run again.
    pub unsettled: BTreeSet<SessionKey>,
    /// Sessions whose controls have been run.
    pub controlled: BTreeSet<SessionKey>,
    pairs: BTreeMap<String, PairRecord>,
}

/// What was chosen when the run in `dir` was begun.
///
/// # Errors
/// The run is of a Kairos that did not record it.
pub fn options(dir: &Path, facts: &RunFacts) -> Result<RunOptions, StudyError> {
    facts.options.clone().ok_or_else(|| {
        not_resumable(
            dir,
            "it was made by a Kairos that did not record what was chosen",
        )
    })
}

fn not_resumable(dir: &Path, why: &str) -> StudyError {
    StudyError::NotResumable {
        dir: dir.display().to_string(),
        why: why.to_owned(),
    }
}

/// Checks that manifests, workloads, transformers and sources are those that the
/// run was begun with.
///
/// # Errors
/// Names every file that differs.
pub fn check(dir: &Path, facts: &RunFacts, chosen: &[ChosenPair<'_>]) -> Result<(), StudyError> {
    let differences = hashes::differences(&facts.hashes, &hashes::of(chosen));
    if differences.is_empty() {
        return Ok(());
    }
    Err(StudyError::Changed {
        dir: dir.display().to_string(),
        differences,
    })
}

/// What is not the same as when the run was begun, and may matter: the user must
/// know, and may have reasons.
#[must_use]
pub fn warnings(facts: &RunFacts, build: &BuildOptions) -> Vec<String> {
    let mut warnings = Vec::new();
    let now = kairos();
    if now.revision != facts.kairos.revision || now.version != facts.kairos.version {
        let name = |facts: &super::store::KairosFacts| {
            let revision = facts.revision.as_deref().unwrap_or("unknown revision");
            format!("{} ({revision})", facts.version)
        };
        let (then, now) = (name(&facts.kairos), name(&now));
        warnings.push(format!(
            "the run was begun by Kairos {then}, and this is {now}: verdicts may be of both"
        ));
    }
    let now = MachineFacts::read(&build.compiler.version);
    for (what, then, now) in [
        ("kernel", &facts.machine.kernel, &now.kernel),
        ("processor", &facts.machine.processor, &now.processor),
    ] {
        if then != now {
            warnings.push(format!(
                "the run was begun on another machine ({what} {then}, here {now}): times are of both"
            ));
        }
    }
    warnings
}

impl Recorded {
    /// Reads what the run holds. Sessions and their plans are taken as recorded; a
    /// plan that was cut short is completed in the store.
    ///
    /// # Errors
    /// A file cannot be read, or the records do not fit together.
    pub fn read(store: &mut RunStore, options: &RunOptions) -> Result<Self, StudyError> {
        let dir = store.dir().to_owned();
        let run = Run::load(&dir)?;
        let pairs: BTreeMap<String, PairRecord> = run
            .pairs
            .into_iter()
            .map(|pair| (pair.pair.clone(), pair))
            .collect();
        let mut planned: BTreeSet<String> = run.plan.into_iter().map(|test| test.id).collect();
        let mut sessions = BTreeMap::new();
        for record in run.sessions {
            let key = record.session.clone();
            let choice = Choice::of(options);
            let session = pairs
                .get(&key.pair)
                .and_then(|pair| restore(pair, record, choice))
                .ok_or_else(|| not_resumable(&dir, "its sessions lack their limits"))?;
            let missing: Vec<_> = session
                .plan
                .iter()
                .filter(|test| !planned.remove(&test.id))
                .cloned()
                .collect();
            store.append_plan(&missing)?;
            sessions.insert(key, session);
        }
        // Lines of a session whose own line is missing are none of ours: a session
        // comes before its plan.
        if let Some(test) = planned.first() {
            return Err(not_resumable(
                &dir,
                &format!("its plan has the test {test}, which this Kairos does not plan"),
            ));
        }
        let unsettled = unsettled(store, &sessions, options)?;
        Ok(Self {
            sessions,
            unsettled,
            finished: store.finished()?,
            controlled: run
                .facts
                .controls
                .into_iter()
                .map(|control| control.session)
                .collect(),
            pairs,
        })
    }

    /// Records a pair that is prepared, or checks that it is the one recorded: the
    /// same sources under another compiler make another patch.
    ///
    /// # Errors
    /// It differs, or cannot be recorded.
    pub fn check_pair(
        &self,
        store: &mut RunStore,
        pair: &PreparedPair<'_>,
    ) -> Result<(), StudyError> {
        let record = pair.record();
        let Some(recorded) = self.pairs.get(&pair.id) else {
            return Ok(store.append_pair(&record)?);
        };
        if recorded.describes_the_same_as(&record) {
            return Ok(());
        }
        Err(StudyError::Changed {
            dir: store.dir().display().to_string(),
            differences: vec![format!(
                "the patch of {} as built differs: by another compiler, or by another Kairos",
                pair.id
            )],
        })
    }
}

/// Sessions that want tests beyond those planned, as the rounds of a study run them.
fn unsettled(
    store: &RunStore,
    sessions: &BTreeMap<SessionKey, PreparedSession>,
    options: &RunOptions,
) -> Result<BTreeSet<SessionKey>, StudyError> {
    let plan: Vec<&PlannedTest> = sessions.values().flat_map(|s| &s.plan).collect();
    let substitutes = substitutes(&plan, store.tests()?)?;
    let mut found: BTreeSet<SessionKey> =
        substitutes.into_iter().map(|test| test.session).collect();
    if options.repeat > 0 {
        let records = sessions.values().map(|session| &session.record);
        let compared = gather(records, &plan, store.tests()?)?;
        let again = to_repeat(&plan, &compared.classes, &BTreeSet::new());
        found.extend(again.into_iter().map(|test| test.session.clone()));
    }
    Ok(found)
}
