//! Prepares one session on its own, for looking into single tests: no run, no
//! store, no controls.

use std::path::Path;

use super::StudyError;
use super::plan::Choice;
use super::prepare::{PreparedPair, prepare, prepare_control, prepare_control_of};
use super::session::{self, PreparedSession};
use crate::engine::{RemoteEngine, SessionSpec};
use crate::patch::Patch;
use crate::subject::{BuildOptions, Catalogue};
use crate::trace::Scope;
use crate::workload::Script;

/// Builds the pair of that name; the control arm over a version is
/// `<subject>-<version>-<version>-control`, or `<pair>-control` under the pair's own
/// mechanism, as studies name it.
///
/// # Errors
/// When there is no such pair, or it cannot be built.
pub fn pair<'a>(
    catalogue: &'a Catalogue,
    name: &str,
    build: &BuildOptions,
) -> Result<PreparedPair<'a>, StudyError> {
    let of_control = || {
        let mut parts = name.strip_suffix("-control")?.rsplitn(3, '-');
        let (new, old, subject) = (parts.next()?, parts.next()?, parts.next()?);
        let subject = catalogue.subject(subject).ok()?;
        (old == new).then_some((subject, old))
    };
    if let Some(pair) = name.strip_suffix("-control")
        && let Ok(pair) = catalogue.pair(pair)
    {
        let subject = catalogue.subject(&pair.subject)?;
        return prepare_control_of(subject, pair, subject.workloads.study.clone(), build);
    }
    match (catalogue.pair(name), of_control()) {
        (Ok(pair), _) => prepare(catalogue.subject(&pair.subject)?, pair, build),
        (Err(_), Some((subject, label))) => {
            prepare_control(subject, label, subject.workloads.study.clone(), build)
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// What distinguishes a session of a pair.
#[derive(Clone, Debug)]
pub struct Which<'a> {
    /// The workload.
    pub workload: &'a str,
    /// Which processes one update reaches.
    pub scope: Scope,
    /// Whether points before the server is ready are points, too.
    pub startup: bool,
}

/// What workers of one session of `pair` need. A wrong script is the user's: it is
/// told here, before a worker fails at it.
///
/// # Errors
/// When the pair has no such workload, or its script or a file cannot be read.
pub fn specification(
    pair: &PreparedPair<'_>,
    which: &Which<'_>,
    patch: &Patch,
    processor: usize,
) -> Result<SessionSpec, StudyError> {
    let key = pair.key(which.workload, which.scope);
    let spec = pair.session(&key, which.startup, patch, processor)?;
    for script in [Some(&spec.workload), spec.probe.as_ref()]
        .into_iter()
        .flatten()
    {
        Script::read(script, &spec.ports)?;
    }
    Ok(spec)
}

/// Runs baselines and trace of one session and returns it with an engine that is
/// ready for its tests.
///
/// # Errors
/// As [`specification`] and [`session::prepare`].
pub fn session(
    pair: &PreparedPair<'_>,
    which: &Which<'_>,
    executable: &Path,
    processor: usize,
) -> Result<(PreparedSession, RemoteEngine), StudyError> {
    let spec = specification(pair, which, &pair.patch, processor)?;
    let mut engine = RemoteEngine::start(executable, &spec)?;
    let key = pair.key(which.workload, which.scope);
    // Any point may be asked for, so none is left out.
    let session = session::prepare(pair, key, &spec, &mut engine, Choice::ALL)?;
    Ok((session, engine))
}
