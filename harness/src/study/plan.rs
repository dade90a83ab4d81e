//! Which update tests a study runs: pairs × workloads × points, or a sample of
//! the points.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::sample::{sample, stratum_seed};
use crate::policy::{Decision, Decisions, Evaluation, Evaluator, columns};
use crate::trace::{PointId, Scope, Trace};

/// The usual mechanism: each object has its own layout per version, and old entries
/// jump to the new code.
pub const DEFAULT_MECHANISM: &str = "own+redirect";

/// What identifies a session of the study: everything but the point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionKey {
    /// Update pair, with its variant.
    pub pair: String,
    /// Workload.
    pub workload: String,
    /// Which processes the update reaches.
    pub scope: Scope,
    /// How code and data are updated, such as `own+redirect`.
    pub mechanism: String,
}

impl SessionKey {
    /// The stable identifier of the test at `point`: pair, mechanism, scope,
    /// workload and point.
    #[must_use]
    pub fn test_id(&self, point: &PointId) -> String {
        let Self {
            pair,
            workload,
            scope,
            mechanism,
        } = self;
        format!("{pair}/{mechanism}/{scope}/{workload}/{point}")
    }

    /// The pair as tables name it: scope and mechanism are added where they are
    /// not the usual ones, so that rows of one run never share a name.
    #[must_use]
    pub fn label(&self) -> String {
        self.labelled(&self.pair)
    }

    /// `name` with scope and mechanism where they are not the usual ones.
    #[must_use]
    pub fn labelled(&self, name: &str) -> String {
        let scope = (self.scope != Scope::default()).then_some(self.scope.name());
        let mechanism = (self.mechanism != DEFAULT_MECHANISM).then_some(self.mechanism.as_str());
        let unusual: Vec<&str> = scope.into_iter().chain(mechanism).collect();
        if unusual.is_empty() {
            name.to_owned()
        } else {
            format!("{name} ({})", unusual.join(", "))
        }
    }
}

/// One update test to be run: a line of `plan.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedTest {
    /// Stable identifier, independent of engine and run.
    pub id: String,
    /// Pair, workload, scope and mechanism.
    #[serde(flatten)]
    pub session: SessionKey,
    /// Where the update is applied.
    pub point: PointId,
    /// Function entered there.
    pub function: String,
    /// Equivalence class; the point's own id until classes exist.
    pub class: String,
    /// How many points of its (pair, workload, role) it stands for.
    pub weight: f64,
    /// What each policy says, by column.
    pub decisions: Decisions,
}

impl PlannedTest {
    /// The test's identifier as a folder name, for `logs/`.
    #[must_use]
    pub fn folder_name(&self) -> String {
        self.id.replace('/', ",")
    }
}

/// All points of one role in a trace, whether sampled or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Population {
    /// Pair, workload, scope and mechanism.
    #[serde(flatten)]
    pub session: SessionKey,
    /// Role, not its instance.
    pub role: String,
    /// How many points the trace has.
    pub points: u64,
    /// How many of them each policy allows, by column.
    pub allowed: BTreeMap<String, u64>,
}

/// What to plan one session from.
#[derive(Clone, Copy)]
pub struct PlanInput<'a> {
    /// Pair, workload, scope and mechanism.
    pub session: &'a SessionKey,
    /// The old version's trace.
    pub trace: &'a Trace,
    /// The pair's policies.
    pub evaluator: &'a Evaluator<'a>,
    /// Their decisions over the trace.
    pub evaluation: &'a Evaluation,
    /// Points per role, manual points and loop heads not counted; all if none.
    pub sample: Option<usize>,
    /// Seed of the study.
    pub seed: u64,
}

/// The tests of one session, in the order in which the trace reaches their points.
#[must_use]
pub fn plan_session(input: &PlanInput<'_>) -> Vec<PlannedTest> {
    let mut weights: Vec<(usize, f64)> = match input.sample {
        None => (0..input.trace.points.len())
            .map(|index| (index, 1.0))
            .collect(),
        Some(count) => by_role(input.trace)
            .into_iter()
            .flat_map(|(role, points)| sample_role(input, role, &points, count))
            .collect(),
    };
    weights.sort_by_key(|(index, _)| *index);
    weights
        .into_iter()
        .filter_map(|(index, weight)| planned_test(input, index, weight))
        .collect()
}

/// Points and allowed points of every role in the trace, exactly.
#[must_use]
pub fn populations(
    session: &SessionKey,
    trace: &Trace,
    evaluation: &Evaluation,
) -> Vec<Population> {
    by_role(trace)
        .into_iter()
        .map(|(role, points)| Population {
            session: session.clone(),
            role: role.to_owned(),
            points: count(points.len()),
            allowed: columns()
                .map(|column| {
                    let allowed = points
                        .iter()
                        .filter(|index| evaluation.allows_point(**index, column));
                    (column.to_owned(), count(allowed.count()))
                })
                .collect(),
        })
        .collect()
}

fn by_role(trace: &Trace) -> BTreeMap<&str, Vec<usize>> {
    let mut roles: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, point) in trace.points.iter().enumerate() {
        roles.entry(&point.id.role.role).or_default().push(index);
    }
    roles
}

fn sample_role(
    input: &PlanInput<'_>,
    role: &str,
    points: &[usize],
    count: usize,
) -> Vec<(usize, f64)> {
    let always: Vec<bool> = points
        .iter()
        .map(|index| {
            let manual = input
                .evaluation
                .of_point(*index)
                .and_then(|decisions| decisions.get("manual"))
                .is_some_and(Decision::is_allowed);
            manual
                || input
                    .evaluator
                    .is_loop_head(&input.trace.points[*index], input.trace)
        })
        .collect();
    let SessionKey {
        pair,
        workload,
        scope,
        mechanism,
    } = input.session;
    let stratum = [pair, mechanism, scope.name(), workload, role];
    sample(&always, count, stratum_seed(input.seed, &stratum))
        .into_iter()
        .map(|taken| (points[taken.index], taken.weight))
        .collect()
}

fn planned_test(input: &PlanInput<'_>, index: usize, weight: f64) -> Option<PlannedTest> {
    let point = input.trace.points.get(index)?;
    Some(PlannedTest {
        id: input.session.test_id(&point.id),
        session: input.session.clone(),
        point: point.id.clone(),
        function: input.evaluator.function_entered(point),
        class: point.id.to_string(),
        weight,
        decisions: input.evaluation.of_point(index)?.clone(),
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
