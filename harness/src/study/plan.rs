//! Which update tests a study runs: pairs × workloads × leaders of classes of
//! equivalent points, or every point, or a sample of the points.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::sample::{sample, stratum_seed};
use super::store::RunOptions;
use crate::equivalence::{Class, Classes};
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
    /// Class of equivalent points, by its leader; in a sample, and where no classes
    /// could be computed, the point's own id.
    pub class: String,
    /// Whether it is tested itself; otherwise its class's leader speaks for it.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub tested: bool,
    /// How many points of its (pair, workload, role) it stands for.
    pub weight: f64,
    /// What each policy says, by column.
    pub decisions: Decisions,
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde asks for
const fn is_yes(tested: &bool) -> bool {
    *tested
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
    /// Classes of equivalent points, where they could be computed.
    pub classes: Option<&'a Classes>,
    /// How points are chosen.
    pub choice: Choice,
}

/// How points are chosen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Points per role, manual points and loop heads not counted; all if none.
    pub sample: Option<usize>,
    /// Whether every point is tested, and not only the leaders of classes.
    pub exhaustive: bool,
    /// Points of each class that are tested besides its leader.
    pub check_members: usize,
    /// Seed of the study.
    pub seed: u64,
}

impl Choice {
    /// Every point.
    pub const ALL: Self = Self {
        sample: None,
        exhaustive: true,
        check_members: 0,
        seed: 0,
    };

    /// The choice that a run recorded.
    #[must_use]
    pub fn of(options: &RunOptions) -> Self {
        Self {
            sample: options.sample,
            exhaustive: options.exhaustive.unwrap_or(true),
            check_members: options.check_members,
            seed: options.seed,
        }
    }
}

/// The tests of one session, in the order in which the trace reaches their points.
/// Points for which their class's leader speaks are among them.
#[must_use]
pub fn plan_session(input: &PlanInput<'_>) -> Vec<PlannedTest> {
    let Some(count) = input.choice.sample else {
        return plan_all(input);
    };
    let mut weights: Vec<(usize, f64)> = by_role(input.trace)
        .into_iter()
        .flat_map(|(role, points)| sample_role(input, role, &points, count))
        .collect();
    weights.sort_by_key(|(index, _)| *index);
    weights
        .into_iter()
        .filter_map(|(index, weight)| planned_test(input, index, weight))
        .collect()
}

fn plan_all(input: &PlanInput<'_>) -> Vec<PlannedTest> {
    let points = &input.trace.points;
    let mut plan: Vec<PlannedTest> = (0..points.len())
        .filter_map(|index| planned_test(input, index, 1.0))
        .collect();
    let classes = input.classes.map_or(&[][..], |classes| &classes.classes);
    for class in classes {
        let leader = points[class.leader()].id.to_string();
        let checked = checked_members(input, class, &leader);
        for (number, member) in class.members.iter().enumerate() {
            if let Some(test) = plan.get_mut(*member) {
                test.class.clone_from(&leader);
                test.tested = input.choice.exhaustive || number == 0 || checked.contains(&number);
            }
        }
    }
    plan
}

/// Which members of a class are tested besides its leader, by their place in it.
fn checked_members(input: &PlanInput<'_>, class: &Class, leader: &str) -> BTreeSet<usize> {
    let count = input.choice.check_members;
    let others = class.members.len() - 1;
    if count == 0 || others == 0 || input.choice.exhaustive {
        return BTreeSet::new();
    }
    let SessionKey {
        pair,
        workload,
        scope,
        mechanism,
    } = input.session;
    let stratum = [pair, mechanism, scope.name(), workload, leader];
    sample(
        &vec![false; others],
        count,
        stratum_seed(input.choice.seed, &stratum),
    )
    .into_iter()
    .map(|taken| taken.index + 1)
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
    sample(&always, count, stratum_seed(input.choice.seed, &stratum))
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
        tested: true,
        weight,
        decisions: input.evaluation.of_point(index)?.clone(),
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
