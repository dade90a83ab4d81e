//! Measures over the store of a run. Pure: the same records give the same
//! numbers, and nothing here formats them for a reader.

pub mod cells;
pub mod classes;
pub mod course;
pub mod coverage;
pub mod delay;
pub mod delay_rows;
pub mod disagreements;
pub mod effort;
#[cfg(test)]
pub(crate) mod fixture;
pub mod live_state;
pub mod mechanisms;
pub mod patches;
pub mod refusals;
pub mod rows;
pub mod session_delay;
pub mod sessions;
pub mod statistics;
pub mod steps;
pub mod summary;
pub mod table;
pub mod timeline;

pub use rows::{Outcome, TestRow};
pub use sessions::StudiedSession;
pub use summary::Summary;
pub use table::Table;

use crate::study::store::{Arm, Run, SessionRecord, StoreError};
use crate::trace::PointId;
use crate::verdict::{Judgement, Observation};

/// Why a run cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// Its files cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record refers to a pair that the run does not describe.
    #[error("pairs.jsonl lacks the pair `{0}`, to which a session belongs")]
    NoPair(String),
    /// A finished test is not in the plan.
    #[error("plan.jsonl lacks the test `{0}`, which tests.jsonl holds")]
    NotPlanned(String),
    /// A test belongs to a session that the run does not describe.
    #[error("sessions.jsonl lacks the session of the test `{0}`")]
    NoSession(String),
    /// A test's point is not in its session's trace.
    #[error("the session's trace lacks the point of the test `{0}`")]
    NoPoint(String),
}

/// Everything that tables and plots show of a run.
#[derive(Debug)]
pub struct Analysis {
    /// One row per tested point.
    pub rows: Vec<TestRow>,
    /// Classes of equivalent points.
    pub classes: classes::Measured,
    /// Measures per pair, per role and in total.
    pub summary: Summary,
    /// How long requests to update wait.
    pub delays: Vec<delay_rows::DelayRow>,
    /// Every session from its first point to its last.
    pub timelines: Vec<timeline::Timeline>,
    /// Reasons of refusal.
    pub refusals: Vec<refusals::Refusal>,
    /// Which changed functions ran.
    pub coverage: Vec<coverage::Coverage>,
    /// What each patch changes.
    pub patches: Vec<patches::PatchRow>,
    /// Instances of changed records that updates converted.
    pub live_state: Vec<live_state::Converted>,
    /// What each policy costs a developer.
    pub effort: Vec<effort::Effort>,
}

/// Judges and measures a run.
///
/// `judge` turns an observation at a point into a verdict.
///
/// # Errors
/// A file cannot be read, or records do not fit together.
pub fn analyse<J>(run: &Run, judge: J) -> Result<Analysis, AnalysisError>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    let sessions = sessions::studied(&run.pairs, &run.sessions)?;
    let mut ran = coverage::NewCode::default();
    let rows = rows::rows(&run.plan, &sessions, run.tests()?, &mut ran, judge)?;
    let coverage = coverage::coverage(&sessions, &ran);
    let (by_policy, delays) = delay_rows::measure(&sessions);
    let summary = summary::summarise(&sessions, &rows, &by_policy, &coverage);
    let classes = classes::measure(run, &sessions, &rows)?;
    Ok(Analysis {
        classes,
        delays,
        timelines: timeline::timelines(&sessions, &rows),
        refusals: refusals::refusals(&sessions),
        patches: patches::patches(&run.pairs),
        effort: effort::effort(&run.pairs, &sessions),
        live_state: live_state::converted(&rows),
        rows,
        summary,
        coverage,
    })
}

/// Whether a pair of that arm counts in totals.
#[must_use]
pub const fn counts(arm: Arm) -> bool {
    matches!(arm, Arm::Update)
}

#[cfg(test)]
mod tests;
