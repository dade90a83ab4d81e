//! One session, ready for single tests: what looking into a failing test needs.

use std::path::Path;

use super::StudyError;
use super::choice::ChosenPair;
use super::plan::PlannedTest;
use super::prepare::PreparedPair;
use super::session::{Choice, PreparedSession, restore};
use super::sessions::{prepare, processors};
use super::store::{RunOptions, SessionRecord};
use crate::engine::RemoteEngine;
use crate::subject::BuildOptions;
use crate::trace::{PointId, Scope};
use crate::verdict::{Judgement, Observation};

/// A session with a worker of its own. The thread that made it must outlive it: the
/// kernel kills the worker with that thread.
pub struct OneSession<'a> {
    /// Its pair with both builds.
    pub pair: PreparedPair<'a>,
    /// The session with baselines, trace and all its tests.
    pub session: PreparedSession,
    engine: RemoteEngine,
}

impl<'a> OneSession<'a> {
    /// Builds the pair and runs baselines and trace of one of its workloads.
    ///
    /// # Errors
    /// When a build, the workload or the harness fails.
    pub fn prepare(
        chosen: &ChosenPair<'a>,
        workload: &str,
        scope: Scope,
        options: &RunOptions,
        build: &BuildOptions,
        executable: &Path,
    ) -> Result<Self, StudyError> {
        let pair = chosen.prepare(build)?;
        let processor = processors(1)[0];
        let key = pair.key(workload, scope);
        let session = prepare(&pair, key, options, executable, processor)?;
        Self::with(pair, session, executable)
    }

    /// Takes baselines and trace from a run's record, so that what is seen is what
    /// the run saw.
    ///
    /// # Errors
    /// When a build or the harness fails, or the record is of a Kairos that did not
    /// keep the session's limits.
    pub fn of_record(
        chosen: &ChosenPair<'a>,
        record: SessionRecord,
        build: &BuildOptions,
        executable: &Path,
    ) -> Result<Self, StudyError> {
        let pair = chosen.prepare(build)?;
        let every = Choice {
            sample: None,
            seed: 0,
        };
        let session =
            restore(&pair.record(), record, every).ok_or_else(|| StudyError::NotResumable {
                dir: pair.id.clone(),
                why: "its session lacks the limits of its tests".to_owned(),
            })?;
        Self::with(pair, session, executable)
    }

    fn with(
        pair: PreparedPair<'a>,
        session: PreparedSession,
        executable: &Path,
    ) -> Result<Self, StudyError> {
        let key = &session.record.session;
        let spec = pair.session(key, false, &pair.patch, processors(1)[0])?;
        let mut engine = RemoteEngine::start(executable, &spec)?;
        engine.set_limits(session.limits)?;
        Ok(Self {
            pair,
            session,
            engine,
        })
    }

    /// The planned test at a point; none if the trace does not have it.
    #[must_use]
    pub fn planned(&self, point: &PointId) -> Option<&PlannedTest> {
        self.session.plan.iter().find(|test| test.point == *point)
    }

    /// Applies the update at a point of the trace and judges what happens.
    ///
    /// # Errors
    /// When the trace does not have the point, or the harness fails.
    pub fn test(&mut self, point: &PointId) -> Result<(Observation, Judgement), StudyError> {
        let request = self.session.request(point).ok_or(StudyError::Nothing)?;
        let seen = self.engine.test(&request, true)?;
        let judgement = self.session.judge(point, &seen);
        Ok((seen, judgement))
    }
}
