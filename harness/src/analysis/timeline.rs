//! A session from its first point to its last: which process reached each point,
//! how its update test ended, and which policies allow it.

use std::collections::{BTreeMap, HashMap};

use super::rows::{Outcome, TestRow};
use super::sessions::StudiedSession;
use crate::policy::columns;
use crate::study::plan::SessionKey;
use crate::study::store::Arm;
use crate::trace::{PointId, RoleInstance};

/// One session, ready to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// Pair, workload, scope and mechanism.
    pub session: SessionKey,
    /// What its pair is for.
    pub arm: Arm,
    /// Processes with points, in order of creation.
    pub lanes: Vec<RoleInstance>,
    /// Columns of the policies, in order.
    pub policies: Vec<&'static str>,
    /// Points in order of execution.
    pub points: Vec<TimelinePoint>,
    /// Labels of the exchanges.
    pub exchanges: Vec<String>,
    /// Failing tests.
    pub failures: u64,
}

/// One point of a time line.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelinePoint {
    /// Which of the lanes.
    pub lane: usize,
    /// During which exchange; none before the server is ready.
    pub exchange: Option<u32>,
    /// How its test ended; none if it was not tested.
    pub outcome: Option<Outcome>,
    /// Which of the policies allow it.
    pub allowed: Vec<bool>,
}

/// Time lines of all sessions, in their order.
#[must_use]
pub fn timelines(sessions: &[StudiedSession<'_>], rows: &[TestRow]) -> Vec<Timeline> {
    let mut outcomes: HashMap<&SessionKey, HashMap<&PointId, Outcome>> = HashMap::new();
    for row in rows {
        let of_session = outcomes.entry(&row.session).or_default();
        of_session.insert(&row.point, row.outcome);
    }
    sessions
        .iter()
        .map(|session| {
            let of_session = outcomes.get(&session.record.session);
            timeline(session, |point| of_session?.get(point).copied())
        })
        .collect()
}

fn timeline(
    session: &StudiedSession<'_>,
    outcome: impl Fn(&PointId) -> Option<Outcome>,
) -> Timeline {
    let trace = &session.record.trace;
    let has_points = |role: &RoleInstance| trace.points.iter().any(|point| point.id.role == *role);
    let lanes: Vec<RoleInstance> = trace
        .processes
        .iter()
        .map(|process| process.role.clone())
        .filter(has_points)
        .collect();
    let places: BTreeMap<&RoleInstance, usize> = lanes
        .iter()
        .enumerate()
        .map(|(place, role)| (role, place))
        .collect();
    let policies: Vec<&'static str> = columns().collect();
    let points: Vec<TimelinePoint> = trace
        .points
        .iter()
        .enumerate()
        .filter_map(|(index, point)| {
            Some(TimelinePoint {
                lane: *places.get(&point.id.role)?,
                exchange: point.id.exchange,
                outcome: outcome(&point.id),
                allowed: policies
                    .iter()
                    .map(|column| session.evaluation.allows_point(index, column))
                    .collect(),
            })
        })
        .collect();
    let failed = |point: &&TimelinePoint| point.outcome.is_some_and(Outcome::is_failure);
    let failures = points.iter().filter(failed).count();
    Timeline {
        session: session.record.session.clone(),
        arm: session.pair.arm,
        policies,
        exchanges: trace
            .exchanges
            .iter()
            .map(|exchange| exchange.label.clone())
            .collect(),
        failures: u64::try_from(failures).unwrap_or(u64::MAX),
        lanes,
        points,
    }
}
