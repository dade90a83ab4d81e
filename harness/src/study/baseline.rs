//! Runs of an unpatched version: made until they agree, and what disqualifies them.

use super::StudyError;
use crate::engine::RemoteEngine;
use crate::engine::spec::Which;
use crate::verdict::Observation;
use crate::verdict::difference::difference;
use crate::verdict::observation::{Ending, SeenProcess};
use crate::world::Limits;

/// How often each version is run unpatched; all runs must agree.
const BASELINE_RUNS: usize = 3;

/// Signals of a process that did what it must not.
const FAULTS: [&str; 5] = ["SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"];

/// What an error names.
pub(super) struct Place<'a> {
    pub(super) pair: &'a str,
    pub(super) workload: &'a str,
    pub(super) version: String,
    /// Whether the version runs with other layouts than its own.
    pub(super) rewritten: bool,
}

impl Place<'_> {
    /// That an unpatched server with other layouts dies is no baseline: the program may
    /// read a record by another one, which only one of the two follows.
    fn lives(&self, seen: &Observation) -> Result<(), StudyError> {
        let fatal = |process: &SeenProcess| match &process.ending {
            Ending::Killed(signal) if FAULTS.contains(&signal.as_str()) => Some(format!(
                "with the layouts of the pair's mechanism the unpatched server dies of {signal}{} in exchange {}; if it reads a record by another one, name both under `room` in pair.toml",
                process
                    .fault
                    .as_ref()
                    .map_or(String::new(), |fault| format!(" in `{}`", fault.function)),
                process.ended_in,
            )),
            _ => None,
        };
        match seen.processes.iter().find_map(fatal) {
            Some(message) if self.rewritten => Err(self.error(message)),
            _ => Ok(()),
        }
    }

    fn error(&self, message: String) -> StudyError {
        StudyError::Workload {
            pair: self.pair.to_owned(),
            workload: self.workload.to_owned(),
            version: self.version.clone(),
            message,
        }
    }

    pub(super) fn agree(
        &self,
        what: &str,
        expected: &Observation,
        seen: &Observation,
    ) -> Result<(), StudyError> {
        match difference(expected, seen) {
            None => Ok(()),
            Some(difference) => Err(self.error(format!(
                "{what} differs from an equal run {difference}; if the text is volatile, add a [[volatile]] rule to the subject's manifest"
            ))),
        }
    }
}

/// Runs one version until it is known to be stable: followed by ptrace, and
/// once left alone.
pub(super) fn baseline(
    engine: &mut RemoteEngine,
    version: Which,
    place: &Place<'_>,
) -> Result<(Observation, Limits), StudyError> {
    let mut run = |followed| {
        let run = engine
            .baseline(version, followed)
            .map_err(|error| place.error(error.to_string()))?;
        if let Some(stall) = &run.observation.stall {
            return Err(place.error(format!(
                "exchange {} did not finish: waited for {}; see what the server sends instead, and whether the script frames it",
                stall.exchange, stall.waiting_for
            )));
        }
        Ok(run)
    };
    let first = run(true)?;
    let mut pauses = first.longest;
    let mut first = first.observation;
    place.lives(&first)?;
    for _ in 1..BASELINE_RUNS {
        let again = run(true)?;
        pauses = pauses.longest(again.longest);
        place.agree("a second run", &first, &again.observation)?;
        collect_endings(&mut first, &again.observation);
    }
    let alone = run(false)?;
    pauses = pauses.longest(alone.longest);
    place.agree("a run without ptrace", &first, &alone.observation)?;
    first.output.clear();
    Ok((first, pauses))
}

/// Two equal runs may end a process in different ways where the server races with
/// itself: the baseline keeps each that was seen.
fn collect_endings(baseline: &mut Observation, again: &Observation) {
    for process in &again.processes {
        if !baseline.processes.contains(process) {
            baseline.processes.push(process.clone());
        }
    }
}
