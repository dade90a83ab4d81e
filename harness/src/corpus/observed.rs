//! From the records of a study to what was observed at each point, as rules of the
//! corpus speak of it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::analysis::coverage::NewCode;
use crate::analysis::{AnalysisError, Outcome, StudiedSession, rows, sessions};
use crate::policy::{Functions as _, lookup_address};
use crate::study::session::judge_record;
use crate::study::store::Run;
use crate::trace::{Point, PointId, Scope};

/// One tested point of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// The case.
    pub case: String,
    /// Its variant.
    pub variant: String,
    /// Which processes the update reached.
    pub scope: Scope,
    /// The point.
    pub point: PointId,
    /// Function entered.
    pub function: String,
    /// The program's own function that called it; none where a library did.
    pub caller: Option<String>,
    /// Verdict, or flaky.
    #[serde(serialize_with = "name")]
    pub verdict: Outcome,
    /// The verdict's cause; may be empty.
    pub cause: String,
    /// First exchange that left the expected versions.
    pub diverged_at: Option<u32>,
    /// Columns of the policies that allow the point.
    pub allowed: BTreeSet<&'static str>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde asks for
fn name<S: serde::Serializer>(verdict: &Outcome, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

/// Everything that a run observed, in the order of its plan.
///
/// # Errors
/// When its records cannot be read or do not fit together.
pub fn observed(run: &Run) -> Result<Vec<Observed>, AnalysisError> {
    let sessions = sessions::studied(&run.pairs, &run.sessions)?;
    let mut ran = NewCode::default();
    let rows = rows::rows(&run.plan, &sessions, run.tests()?, &mut ran, judge_record)?;
    rows.into_iter()
        .map(|row| {
            let session = sessions
                .iter()
                .find(|session| session.record.session == row.session)
                .ok_or_else(|| AnalysisError::NoSession(row.point.to_string()))?;
            let place = session
                .index_of(&row.point)
                .ok_or_else(|| AnalysisError::NoPoint(row.point.to_string()))?;
            let case = session.pair.subject.clone();
            let variant = row.session.pair.strip_prefix(&format!("{case}-old-new-"));
            Ok(Observed {
                variant: variant.unwrap_or_default().to_owned(),
                case,
                scope: row.session.scope,
                caller: caller(session, &session.record.trace.points[place]),
                point: row.point,
                function: row.function,
                verdict: row.outcome,
                cause: row.cause,
                diverged_at: row.diverged_at,
                allowed: row.allowed_by,
            })
        })
        .collect()
}

/// The program's own function that called the one entered.
fn caller(session: &StudiedSession<'_>, point: &Point) -> Option<String> {
    let stack = usize::try_from(point.stack).ok()?;
    let frame = session.record.trace.stacks.get(stack)?.frames.get(1)?;
    let name = session.pair.functions.lookup(lookup_address(*frame, 1))?;
    Some(name.name.clone())
}
