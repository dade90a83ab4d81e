//! The table of a queue of updates: what each changes, which workloads enter it, how
//! its tests went, and what each policy allows.

use std::collections::BTreeSet;

use super::tables::{fraction, measures, share};
use crate::analysis::patches::PatchRow;
use crate::analysis::rows::{Outcome, TestRow};
use crate::analysis::summary::Group;
use crate::analysis::table::{Cell, percent};
use crate::analysis::{Analysis, Table};
use crate::policy::columns;
use crate::study::store::{Arm, Run};
use crate::verdict::Verdict;

const INERT: Outcome = Outcome::Verdict(Verdict::Inert);
/// Cause of an inert test whose new code ran although nothing new was seen.
const STALE: &str = "stale";

/// One row per update pair, in the order of the catalogue.
#[must_use]
pub fn pairs(run: &Run, analysis: &Analysis) -> Table {
    let mut groups: Vec<&Group> = analysis
        .summary
        .pairs
        .iter()
        .filter(|group| group.arm == Arm::Update)
        .collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let mut header: Vec<String> = [
        "pair",
        "changed",
        "edited",
        "entered by",
        "points",
        "tested",
    ]
    .map(str::to_owned)
    .to_vec();
    header.extend(["failing", "inert"].map(str::to_owned));
    header.extend(columns().map(str::to_owned));
    let rows = groups
        .iter()
        .map(|group| {
            let patch = patch(run, analysis, &group.name);
            let mut cells = vec![
                Cell::text(&group.name),
                Cell::optional(patch.map(|patch| patch.changed)),
                Cell::optional(patch.and_then(|patch| patch.edited)),
                entered_by(analysis, &group.name),
                Cell::number(group.population),
                Cell::number(group.tally.tested),
                share(group.tally.failure_share()),
                share(group.tally.weights.share(inert(group))),
            ];
            cells.extend(columns().map(|column| {
                let allowed = measures(group, column)
                    .and_then(|measures| fraction(measures.allowed, group.population));
                allowed.map_or(Cell::Empty, |share| Cell::number(percent(share)))
            }));
            cells
        })
        .collect();
    Table {
        name: "pairs".to_owned(),
        title: "Update pairs: functions changed, workloads that enter them, points, outcomes, and the share of the points that each policy allows.".to_owned(),
        header,
        rows,
        notes: notes(&groups, &analysis.rows),
    }
}

/// What the patch of a group's pair changes; the copies of a control arm count as
/// changed, as they do for policies.
fn patch<'a>(run: &Run, analysis: &'a Analysis, label: &str) -> Option<&'a PatchRow> {
    let sessions = run.sessions.iter().map(|record| &record.session);
    let session = sessions.into_iter().find(|of| of.label() == label)?;
    let mut patches = analysis.patches.iter();
    patches.find(|patch| patch.pair == session.pair)
}

/// How many of the workloads enter changed code.
fn entered_by(analysis: &Analysis, label: &str) -> Cell {
    let (mut all, mut entering) = (BTreeSet::new(), BTreeSet::new());
    for row in &analysis.coverage {
        if row.session.label() == label {
            all.insert(&row.session.workload);
            if row.entries > 0 {
                entering.insert(&row.session.workload);
            }
        }
    }
    Cell::text(match entering.len() {
        0 => format!("none of {}", all.len()),
        some => format!("{some} of {}", all.len()),
    })
}

fn inert(group: &Group) -> f64 {
    group.tally.outcomes.get(&INERT).copied().unwrap_or(0.0)
}

fn notes(groups: &[&Group], rows: &[TestRow]) -> Vec<String> {
    let mut notes = vec![
        "`changed` counts functions whose object code differs or that use what changed, `edited` those whose text differs; `entered by` counts the workloads that enter one of them or a deleted one before any update; below a policy stands the share of the points that it allows.".to_owned(),
        "`inert`: the versions differ on a later exchange, but none showed the new one. The update came after the last use of what it changes, or in a process that does not use it any more. Such a point says that the update was too late to matter, not that it was right there: it is counted apart.".to_owned(),
    ];
    let is_inert = |row: &&TestRow| row.outcome == INERT;
    let tested = rows.iter().filter(is_inert).count();
    if tested > 0 {
        let stale = |row: &&TestRow| row.cause == STALE;
        let stale = rows.iter().filter(is_inert).filter(stale).count();
        let mostly = groups.iter().filter(|group| {
            let share = group.tally.weights.share(inert(group));
            share.is_some_and(|share| share.value > 0.5)
        });
        let mostly: Vec<&str> = mostly.map(|group| group.name.as_str()).collect();
        let mut note = format!(
            "Of {tested} inert tests, {stale} are `stale`: new code ran, and no old frame excuses that nothing new was seen."
        );
        if !mostly.is_empty() {
            note.push_str(" More than half of the points are inert in ");
            note.push_str(&mostly.join(", "));
            note.push('.');
        }
        notes.push(note);
    }
    let unreached: Vec<&str> = groups
        .iter()
        .filter(|group| group.unreached)
        .map(|group| group.name.as_str())
        .collect();
    if !unreached.is_empty() {
        notes.push(format!(
            "Unreached, in no total: no workload enters the changed code of {}.",
            unreached.join(", ")
        ));
    }
    notes
}
