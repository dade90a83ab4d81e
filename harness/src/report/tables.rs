//! The tables of a report: data for other programs, and the study for people.

use std::collections::BTreeMap;

use super::pairs_table::pairs;
use super::plot::style::policy_label;
use crate::analysis::delay::Delays;
use crate::analysis::rows::Outcome;
use crate::analysis::statistics::{Share, as_float};
use crate::analysis::summary::{Group, GroupKind, PolicyMeasures};
use crate::analysis::table::{Cell, estimate, percent};
use crate::analysis::{Analysis, Summary, Table};
use crate::analysis::{
    classes, coverage, delay_rows, disagreements, effort, live_state, patches, refusals, rows,
    summary,
};
use crate::policy::{ANY, REGISTRY};
use crate::study::store::{Arm, Run};

/// The files `*.csv`: every number, for other programs.
#[must_use]
pub fn data(analysis: &Analysis) -> Vec<Table> {
    vec![
        rows::table(&analysis.rows),
        summary::table(&analysis.summary),
        refusals::table(&analysis.refusals),
        effort::table(&analysis.effort),
        patches::table(&analysis.patches),
        coverage::table(&analysis.coverage),
        delay_rows::table(&analysis.delays),
        live_state::table(&analysis.live_state),
        classes::table(&analysis.classes),
    ]
}

/// The files of `tables/`.
#[must_use]
pub fn for_people(run: &Run, analysis: &Analysis) -> Vec<Table> {
    vec![
        study(&analysis.summary),
        pairs(run, analysis),
        mechanisms(&analysis.summary),
        roles(&analysis.summary),
        delays(&analysis.summary),
        controls(run, &analysis.summary),
        failures(&analysis.rows),
        refusals::table(&analysis.refusals),
        effort::table(&analysis.effort),
        patches::table(&analysis.patches),
        coverage::table(&analysis.coverage),
        live_state::table(&analysis.live_state),
        classes::reduction_table(&analysis.classes.reductions),
        disagreements::table(&analysis.classes),
    ]
}

/// The study's table: verdicts per pair, and what each policy allows and lets fail.
#[must_use]
pub fn study(summary: &Summary) -> Table {
    // A run of the control arm alone shows its own pairs; beside updates they have
    // the table of controls.
    let has_updates = summary.pairs.iter().any(|group| group.arm == Arm::Update);
    let groups: Vec<&Group> = summary
        .pairs
        .iter()
        .filter(|group| !has_updates || group.arm == Arm::Update)
        .chain(summary.totals.iter().filter(|_| has_updates))
        .collect();
    let title = "Verdicts per update pair, and what each policy allows and lets fail.";
    let mut table = groups_table("study", title, &["pair"], &groups, |group| {
        vec![Cell::text(&group.name)]
    });
    let unreached: Vec<&str> = groups
        .iter()
        .filter(|group| group.unreached)
        .map(|group| group.name.as_str())
        .collect();
    if !unreached.is_empty() {
        table.notes.push(format!(
            "Unreached, in no total: no workload enters the changed code of {}.",
            unreached.join(", ")
        ));
    }
    table
}

/// The same by role: the listener holds few points and some of the worst failures.
#[must_use]
pub fn roles(summary: &Summary) -> Table {
    let groups: Vec<&Group> = summary
        .roles
        .iter()
        .filter(|group| group.arm == Arm::Update)
        .collect();
    let title = "Verdicts per update pair and role.";
    groups_table("roles", title, &["pair", "role"], &groups, |group| {
        let role = match &group.kind {
            GroupKind::Role(role) => Cell::text(role),
            _ => Cell::Empty,
        };
        vec![Cell::text(&group.name), role]
    })
}

/// The same for updates that were applied by more than one mechanism, side by side.
#[must_use]
pub fn mechanisms(summary: &Summary) -> Table {
    let groups: Vec<&Group> = summary.mechanisms.iter().collect();
    let title = "Verdicts per mechanism, of updates that were applied by more than one.";
    let leading = ["update", "mechanism"];
    groups_table("mechanisms", title, &leading, &groups, |group| {
        let mechanism = match &group.kind {
            GroupKind::Mechanism(mechanism) => Cell::text(mechanism),
            _ => Cell::Empty,
        };
        vec![Cell::text(&group.name), mechanism]
    })
}

fn groups_table(
    name: &str,
    title: &str,
    leading: &[&str],
    groups: &[&Group],
    lead: impl Fn(&Group) -> Vec<Cell>,
) -> Table {
    let outcomes: Vec<Outcome> = Outcome::TABLE_ORDER
        .into_iter()
        .filter(|outcome| {
            groups
                .iter()
                .any(|group| group.tally.outcomes.contains_key(outcome))
        })
        .collect();
    let mut header: Vec<String> = leading.iter().map(|name| (*name).to_owned()).collect();
    header.extend(["points", "tested"].map(str::to_owned));
    header.extend(outcomes.iter().map(Outcome::to_string));
    header.push("failing".to_owned());
    header.extend(REGISTRY.iter().map(|policy| policy_label(policy.column())));
    let rows = groups
        .iter()
        .map(|group| {
            let mut cells = lead(group);
            cells.push(Cell::number(group.population));
            cells.push(Cell::number(group.tally.tested));
            cells.extend(outcomes.iter().map(|outcome| {
                let weight = group.tally.outcomes.get(outcome).copied();
                Cell::estimate(weight.unwrap_or(0.0))
            }));
            cells.push(share(group.tally.failure_share()));
            cells.extend(
                REGISTRY
                    .iter()
                    .map(|policy| policy_cell(group, measures(group, policy.column()))),
            );
            cells
        })
        .collect();
    let sampled = groups.iter().any(|group| {
        let failing = group.tally.failure_share();
        failing.is_some_and(|share| share.interval.is_some())
    });
    let mut notes = vec![
        "Verdicts are counts of points; `failing` is the share of the points. Where fewer were `tested` and nothing was sampled, the others are judged from the test of an equivalent point. A policy's column holds the share of the points that it allows, and behind the slash how many of these fail. AS: activeness safety.".to_owned(),
    ];
    if sampled {
        notes.push(
            "Counts are weighted estimates from a sample; brackets hold 95 % intervals (Wilson)."
                .to_owned(),
        );
    }
    Table {
        name: name.to_owned(),
        title: title.to_owned(),
        header,
        rows,
        notes,
    }
}

/// Measures of one policy in a group.
#[must_use]
pub fn measures<'g>(group: &'g Group, column: &str) -> Option<&'g PolicyMeasures> {
    group
        .policies
        .iter()
        .find(|measures| measures.policy == column)
}

/// The share of the points that a policy allows, and how many of these fail.
fn policy_cell(group: &Group, measures: Option<&PolicyMeasures>) -> Cell {
    let Some(measures) = measures else {
        return Cell::Empty;
    };
    let Some(allowed) = fraction(measures.allowed, group.population) else {
        return Cell::Empty;
    };
    let untested = measures.tally.weights.count == 0 && measures.allowed > 0;
    let failing = if untested {
        "?".to_owned()
    } else {
        let interval = measures
            .tally
            .failure_share()
            .and_then(|share| share.interval);
        let failures = estimate(measures.tally.failures());
        match interval {
            None => failures,
            Some((low, high)) => {
                let points = measures.tally.weights.sum;
                format!("{failures} [{:.0}, {:.0}]", low * points, high * points)
            }
        }
    };
    Cell::number(format!("{} / {failing}", percent(allowed)))
}

pub(super) fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| as_float(part) / as_float(whole))
}

pub(super) fn share(share: Option<Share>) -> Cell {
    share.map_or(Cell::Empty, |share| {
        let value = percent(share.value);
        Cell::number(match share.interval {
            None => value,
            Some((low, high)) => {
                format!("{value} [{:.1}, {:.1}]", low * 100.0, high * 100.0)
            }
        })
    })
}

/// How long updates wait under each policy.
#[must_use]
pub fn delays(summary: &Summary) -> Table {
    let header = [
        "pair",
        "policy",
        "allows",
        "median ms",
        "95 % ms",
        "longest ms",
        "never",
        "median points",
        "95 % points",
        "longest points",
        "never from a point",
    ];
    let rows = summary
        .pairs
        .iter()
        .filter(|group| group.arm == Arm::Update)
        .chain(&summary.totals)
        .flat_map(|group| group.policies.iter().map(move |measures| (group, measures)))
        .map(|(group, measures)| {
            let allowed = fraction(measures.allowed, group.population);
            let mut cells = vec![
                Cell::text(&group.name),
                Cell::text(measures.policy),
                allowed.map_or(Cell::Empty, |share| Cell::number(percent(share))),
            ];
            cells.extend(delay_cells(measures));
            cells
        })
        .collect();
    Table {
        name: "delays".to_owned(),
        title: "Time until a policy allows an update that is asked for at a uniformly random moment of the session, and points that pass if it is asked for at a uniformly random point.".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        rows,
        notes: vec![
            "Empty where the traces have no times for what the policy waits for, and for a quantile that falls among requests never served. A wait of the server serves a request like a point if the policy allows the stack that it waits with. `delays.csv` has every session and role.".to_owned(),
        ],
    }
}

fn delay_cells(measures: &PolicyMeasures) -> [Cell; 8] {
    let milliseconds =
        |time: Option<f64>| Cell::optional(time.map(|time| format!("{:.3}", time / 1000.0)));
    let times = measures.times();
    let longest = times.and_then(Delays::longest).map(as_float);
    let points = &measures.at_point.points;
    [
        milliseconds(times.and_then(|times| times.quantile(0.5))),
        milliseconds(times.and_then(|times| times.quantile(0.95))),
        milliseconds(longest),
        Cell::optional(times.and_then(Delays::share_never).map(percent)),
        Cell::optional(points.quantile(0.5)),
        Cell::optional(points.quantile(0.95)),
        Cell::optional(points.longest()),
        Cell::optional(points.share_never().map(percent)),
    ]
}

/// How the controls went: as `run.json` records them, and as the control arms'
/// own tests were judged.
#[must_use]
pub fn controls(run: &Run, summary: &Summary) -> Table {
    let recorded = run.facts.controls.iter().map(|control| {
        vec![
            Cell::text(control.session.label()),
            Cell::text(&control.session.workload),
            Cell::text(&control.name),
            Cell::number(control.tests),
            Cell::number(control.violations),
            Cell::text(&control.note),
        ]
    });
    let arms = summary
        .pairs
        .iter()
        .filter(|group| group.arm != Arm::Update)
        .map(|group| {
            let failing = group.tally.failed_tests;
            let (name, violations, note) = match group.arm {
                Arm::Sensitivity => (
                    "sensitivity",
                    Cell::Empty,
                    format!("caught at {failing} points"),
                ),
                Arm::Control | Arm::Update => ("control-arm", Cell::number(failing), String::new()),
            };
            vec![
                Cell::text(&group.name),
                Cell::Empty,
                Cell::text(name),
                Cell::number(group.tally.tested),
                violations,
                Cell::text(note),
            ]
        });
    let header = ["pair", "workload", "control", "tests", "violations", "note"];
    Table {
        name: "controls".to_owned(),
        title: "Controls: identical copies must never fail, applying nothing must change nothing, a broken version must be caught.".to_owned(),
        header: header.map(str::to_owned).to_vec(),
        rows: recorded.chain(arms).collect(),
        notes: Vec::new(),
    }
}

/// What failed, by cause: the first place to look at.
#[must_use]
pub fn failures(rows: &[rows::TestRow]) -> Table {
    let mut causes: BTreeMap<(String, Outcome, &str), (u64, &rows::TestRow)> = BTreeMap::new();
    for row in rows {
        if row.outcome.is_failure() || row.outcome == Outcome::Flaky {
            let key = (row.session.label(), row.outcome, row.cause.as_str());
            causes.entry(key).or_insert((0, row)).0 += 1;
        }
    }
    let allowed_by = |row: &rows::TestRow| {
        let columns: Vec<&str> = row.allowed_by.iter().copied().collect();
        if columns.is_empty() {
            ANY.column().to_owned()
        } else {
            columns.join(" ")
        }
    };
    Table {
        name: "failures".to_owned(),
        title: "Failing and flaky tests by cause, with the first point of each.".to_owned(),
        header: [
            "pair",
            "verdict",
            "cause",
            "tests",
            "workload",
            "first point",
            "function",
            "allowed by",
        ]
        .map(str::to_owned)
        .to_vec(),
        rows: causes
            .into_iter()
            .map(|((pair, outcome, cause), (tests, first))| {
                vec![
                    Cell::text(pair),
                    Cell::text(outcome),
                    Cell::text(cause),
                    Cell::number(tests),
                    Cell::text(&first.session.workload),
                    Cell::text(&first.point),
                    Cell::text(&first.function),
                    Cell::text(allowed_by(first)),
                ]
            })
            .collect(),
        notes: Vec::new(),
    }
}
