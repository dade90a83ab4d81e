//! Sessions with their pair and with every policy's decisions over their trace.

use std::collections::{BTreeMap, HashMap};

use super::AnalysisError;
use crate::equivalence::Classes;
use crate::policy::{Evaluation, Evaluator};
use crate::study::session::classes;
use crate::study::store::{PairRecord, SessionRecord};
use crate::trace::PointId;

/// One session, its pair, and what the policies say of its trace. Decisions are
/// made anew, so that a policy built after the run has its column too.
pub struct StudiedSession<'a> {
    /// The session as stored.
    pub record: &'a SessionRecord,
    /// Its pair.
    pub pair: &'a PairRecord,
    /// The pair's policies.
    pub evaluator: Evaluator<'a>,
    /// Their decisions.
    pub evaluation: Evaluation,
    /// Its classes of equivalent points; none in runs that did not record what they
    /// depend on.
    pub classes: Option<Classes>,
    points: HashMap<&'a PointId, usize>,
}

impl StudiedSession<'_> {
    /// Index of a point in the session's trace.
    #[must_use]
    pub fn index_of(&self, point: &PointId) -> Option<usize> {
        self.points.get(point).copied()
    }
}

/// Joins sessions with their pairs.
///
/// # Errors
/// A session's pair is missing.
pub fn studied<'a>(
    pairs: &'a [PairRecord],
    sessions: &'a [SessionRecord],
) -> Result<Vec<StudiedSession<'a>>, AnalysisError> {
    let by_name: BTreeMap<&str, &PairRecord> = pairs
        .iter()
        .map(|pair| (pair.pair.as_str(), pair))
        .collect();
    sessions
        .iter()
        .map(|record| {
            let name = &record.session.pair;
            let pair = by_name
                .get(name.as_str())
                .ok_or_else(|| AnalysisError::NoPair(name.clone()))?;
            let evaluator = Evaluator::new(
                &pair.patch,
                &pair.functions,
                &pair.manual,
                pair.except_named.as_deref(),
            );
            Ok(StudiedSession {
                evaluation: evaluator.evaluate(&record.trace),
                classes: classes(
                    &pair.patch,
                    &pair.functions,
                    &record.trace,
                    record.session.scope,
                    record.touched.as_ref(),
                ),
                points: record
                    .trace
                    .points
                    .iter()
                    .enumerate()
                    .map(|(index, point)| (&point.id, index))
                    .collect(),
                record,
                pair,
                evaluator,
            })
        })
        .collect()
}
