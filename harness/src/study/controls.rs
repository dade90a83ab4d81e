//! The controls that every study runs: an update that changes nothing must not
//! fail, stopping must change nothing, and a broken update must be caught.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::StudyError;
use super::prepare::{PreparedPair, broken_patch, control_patch};
use super::session::PreparedSession;
use super::store::Control;
use crate::engine::{EngineKind, PointRequest, RemoteEngine};
use crate::trace::{Point, Trace};
use crate::verdict::observation::Update;
use crate::verdict::{Expected, Observation, Verdict, judge};

/// How many points each control tests in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extent {
    /// The control arm: every function replaced by its copy.
    pub control_arm: usize,
    /// Stopping and applying nothing.
    pub apply_nothing: usize,
    /// The planted fault.
    pub sensitivity: usize,
}

impl Default for Extent {
    fn default() -> Self {
        Self {
            control_arm: 8,
            apply_nothing: 3,
            sensitivity: 4,
        }
    }
}

/// How often a planted fault must show at one point before it is relied on.
const SURE: u32 = 3;

/// Functions tried as planted fault before the control gives up on a session.
const MOST_CANDIDATES: usize = 12;

/// Runs the three controls of one session, by the binary and the engine that run its
/// tests.
///
/// # Errors
/// When a control's patch cannot be built, or the harness fails.
pub fn run(
    pair: &PreparedPair<'_>,
    session: &PreparedSession,
    (executable, kind): (&std::path::Path, EngineKind),
    processor: usize,
    extent: Extent,
) -> Result<Vec<Control>, StudyError> {
    let arm = Arm {
        pair,
        session,
        executable,
        kind,
        processor,
    };
    let mut controls = arm.without_change(extent)?;
    controls.push(arm.sensitivity(extent.sensitivity)?);
    Ok(controls)
}

struct Arm<'a> {
    pair: &'a PreparedPair<'a>,
    session: &'a PreparedSession,
    executable: &'a std::path::Path,
    /// The engine that runs the session's tests: it is what is controlled.
    kind: EngineKind,
    processor: usize,
}

impl Arm<'_> {
    fn trace(&self) -> &Trace {
        &self.session.record.trace
    }

    fn engine(&self, patch: &crate::patch::Patch) -> Result<RemoteEngine, StudyError> {
        let mut spec =
            self.pair
                .session(&self.session.record.session, false, patch, self.processor)?;
        // Also for a program that executes itself the new version is the old one.
        spec.new = spec.old.clone();
        let mut engine = RemoteEngine::start(self.executable, &spec)?;
        engine.set_limits(self.session.limits)?;
        engine.use_engine(self.kind)?;
        Ok(engine)
    }

    /// Judges against the old version alone: an update to it must show nothing else.
    /// A point that was not found again shows nothing either way.
    fn violation(&self, request: &PointRequest, seen: &Observation) -> Option<String> {
        let old = &self.session.record.old;
        let expected = Expected {
            old,
            new: old,
            after_update: &std::collections::BTreeMap::new(),
            writers: &[],
        };
        let judgement = judge(&expected, &request.id, seen);
        let not_found = judgement.verdict == Verdict::NotReached;
        (!judgement.verdict.is_pass() && !not_found).then(|| {
            format!(
                "{} {} at {}",
                judgement.verdict, judgement.cause, request.id
            )
        })
    }

    fn control(&self, name: &str, tests: usize, violations: &[String], note: &str) -> Control {
        let note = if violations.is_empty() {
            note.to_owned()
        } else {
            violations.join("; ")
        };
        Control {
            name: name.to_owned(),
            session: self.session.record.session.clone(),
            tests: tests as u64,
            violations: violations.len() as u64,
            note,
        }
    }

    fn without_change(&self, extent: Extent) -> Result<Vec<Control>, StudyError> {
        let patch = control_patch(&self.pair.id, &self.pair.old)?.patch;
        let mut engine = self.engine(&patch)?;
        let mut controls = Vec::new();
        for (name, apply, count) in [
            ("control-arm", true, extent.control_arm),
            ("apply-nothing", false, extent.apply_nothing),
        ] {
            let points = self.spread(count, |_| true);
            let mut violations = Vec::new();
            for point in &points {
                let seen = engine.test(point, apply)?.observation;
                violations.extend(self.violation(point, &seen));
            }
            controls.push(self.control(name, points.len(), &violations, ""));
        }
        Ok(controls)
    }

    /// Plants a fault in a function that shows, and wants it caught at every point
    /// before its first use, the entry itself included: it is redirected there.
    fn sensitivity(&self, count: usize) -> Result<Control, StudyError> {
        if self.trace().points.is_empty() {
            return Ok(self.control("sensitivity", 0, &[], "the session has no points"));
        }
        for (function, used_at) in self.candidates() {
            let patch = broken_patch(&self.pair.id, &self.pair.old, &function)?.patch;
            let mut engine = self.engine(&patch)?;
            let used = &self.trace().points[used_at];
            let before: Vec<PointRequest> = self.spread(count, |point| {
                point.id.role == used.id.role && !self.follows(point, used_at)
            });
            let Some(probe) = before.first() else {
                continue;
            };
            // Its value may not matter here, or only in a race with the client:
            // another's will.
            let mut surely = true;
            for _ in 0..SURE {
                let seen = engine.test(probe, true)?.observation;
                surely = surely && self.violation(probe, &seen).is_some();
            }
            if !surely {
                continue;
            }
            let mut missed = Vec::new();
            for point in &before {
                let seen = engine.test(point, true)?.observation;
                let found = !matches!(seen.update, Update::NotReached { .. });
                if found && self.violation(point, &seen).is_none() {
                    missed.push(format!(
                        "a broken {function} was not caught at {}",
                        point.id
                    ));
                }
            }
            return Ok(self.control(
                "sensitivity",
                before.len(),
                &missed,
                &format!("broken {function}"),
            ));
        }
        let missed = vec!["no function could be found whose breaking shows".to_owned()];
        Ok(self.control("sensitivity", 0, &missed, ""))
    }

    fn follows(&self, point: &Point, other: usize) -> bool {
        let other = &self.trace().points[other];
        (point.id.exchange, point.id.index) > (other.id.exchange, other.id.index)
    }

    /// Functions by how well the place of their first use suits a planted fault, with
    /// that place.
    fn candidates(&self) -> Vec<(String, usize)> {
        let mut first_use = HashMap::new();
        for (place, point) in self.trace().points.iter().enumerate() {
            first_use.entry(point.function).or_insert(place);
        }
        let mut candidates: Vec<(String, usize)> = first_use
            .into_iter()
            .filter_map(|(entry, place)| {
                let function = self.pair.functions.iter().find(|f| f.entry == entry)?;
                Some((function.name.clone(), place))
            })
            .collect();
        // Late enough for many points to come before it, but not in the tear-down of
        // connections, where what shows is often a race; the name settles ties.
        let best = self.trace().points.len() * 2 / 3;
        candidates.sort_by_key(|(name, place)| (place.abs_diff(best), name.clone()));
        candidates.truncate(MOST_CANDIDATES);
        candidates
    }

    /// Points spread evenly over those that `wanted` accepts.
    fn spread(&self, count: usize, wanted: impl Fn(&Point) -> bool) -> Vec<PointRequest> {
        let points: Vec<&Point> = self.trace().points.iter().filter(|p| wanted(p)).collect();
        let count = count.min(points.len());
        (0..count)
            .filter_map(|index| {
                let place = (2 * index + 1) * points.len() / (2 * count);
                self.session.request(&points[place].id)
            })
            .collect()
    }
}
