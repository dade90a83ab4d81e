//! `refusals.csv`: why policies refuse, over all points of the traces.

use std::collections::BTreeMap;

use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::policy::{Decision, ReasonKind};

/// How many points of a pair one policy refuses for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The pair.
    pub pair: String,
    /// The policy's column.
    pub policy: String,
    /// Kind of reason.
    pub kind: ReasonKind,
    /// The function that blocks the update.
    pub function: String,
    /// Points, over all workloads.
    pub points: u64,
}

const COLUMNS: [Column<Refusal>; 5] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("policy", |row| Cell::text(&row.policy)),
    ("reason", |row| Cell::text(row.kind.name())),
    ("function", |row| Cell::text(&row.function)),
    ("points", |row| Cell::number(row.points)),
];

/// `refusals.csv` as a table.
#[must_use]
pub fn table(rows: &[Refusal]) -> Table {
    let title = "Why policies refuse points, and the functions that block them.";
    Table::of("refusals", title, &COLUMNS, rows)
}

/// Counts refusals per pair, policy, reason and function, most frequent first
/// within a pair and policy.
#[must_use]
pub fn refusals(sessions: &[StudiedSession<'_>]) -> Vec<Refusal> {
    let mut counts: BTreeMap<(String, &str, ReasonKind, &str), u64> = BTreeMap::new();
    for session in sessions {
        let label = session.record.session.label();
        for index in 0..session.record.trace.points.len() {
            for (column, decision) in session.evaluation.of_point(index).into_iter().flatten() {
                if let Decision::Refused(reason) = decision {
                    let key = (
                        label.clone(),
                        column.as_str(),
                        reason.kind,
                        reason.function.as_str(),
                    );
                    *counts.entry(key).or_default() += 1;
                }
            }
        }
    }
    let mut refusals: Vec<Refusal> = counts
        .into_iter()
        .map(|((pair, policy, kind, function), points)| Refusal {
            pair,
            policy: policy.to_owned(),
            kind,
            function: function.to_owned(),
            points,
        })
        .collect();
    refusals.sort_by(|a, b| {
        (&a.pair, &a.policy)
            .cmp(&(&b.pair, &b.policy))
            .then(b.points.cmp(&a.points))
    });
    refusals
}
