//! `effort.csv`: what each policy asks of a developer.

use std::collections::{BTreeMap, BTreeSet};

use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::policy::{Decision, REGISTRY};
use crate::study::store::PairRecord;

/// Effort for one pair under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The pair.
    pub pair: String,
    /// The policy's column.
    pub policy: &'static str,
    /// Points named in the subject's manifest, for the manual policy.
    pub points_named: Option<usize>,
    /// Lines of the state transformer.
    pub transformer_lines: u32,
    /// Workloads traced.
    pub workloads: usize,
    /// Workloads in which the policy allows no point.
    pub workloads_without_point: usize,
    /// Functions that block the points of those workloads, the most frequent
    /// first: candidates for extraction.
    pub blocking: Vec<String>,
}

const COLUMNS: [Column<Effort>; 7] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("policy", |row| Cell::text(row.policy)),
    ("points_named", |row| Cell::optional(row.points_named)),
    ("transformer_lines", |row| {
        Cell::number(row.transformer_lines)
    }),
    ("workloads", |row| Cell::number(row.workloads)),
    ("workloads_without_point", |row| {
        Cell::number(row.workloads_without_point)
    }),
    ("blocking_functions", |row| {
        Cell::text(row.blocking.join(" "))
    }),
];

/// `effort.csv` as a table.
#[must_use]
pub fn table(rows: &[Effort]) -> Table {
    let title = "What each policy asks of a developer.";
    Table::of("effort", title, &COLUMNS, rows)
}

/// Effort per pair and policy.
#[must_use]
pub fn effort(pairs: &[PairRecord], sessions: &[StudiedSession<'_>]) -> Vec<Effort> {
    let mut rows = Vec::new();
    for pair in pairs {
        let of_pair: Vec<&StudiedSession<'_>> = sessions
            .iter()
            .filter(|session| session.pair.pair == pair.pair)
            .collect();
        for policy in REGISTRY {
            let column = policy.column();
            let without: Vec<&&StudiedSession<'_>> = of_pair
                .iter()
                .filter(|session| {
                    let points = session.record.trace.points.len();
                    !(0..points).any(|index| session.evaluation.allows_point(index, column))
                })
                .collect();
            let names = |sessions: &mut dyn Iterator<Item = &StudiedSession<'_>>| {
                sessions
                    .map(|session| session.record.session.workload.clone())
                    .collect::<BTreeSet<_>>()
                    .len()
            };
            rows.push(Effort {
                pair: pair.pair.clone(),
                policy: column,
                points_named: (column == "manual").then_some(pair.manual.len()),
                transformer_lines: pair.transformer_lines,
                workloads: names(&mut of_pair.iter().copied()),
                workloads_without_point: names(&mut without.iter().map(|session| **session)),
                blocking: if column == "manual" {
                    Vec::new()
                } else {
                    blocking(&without, column)
                },
            });
        }
    }
    rows
}

fn blocking(sessions: &[&&StudiedSession<'_>], column: &str) -> Vec<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for session in sessions {
        for index in 0..session.record.trace.points.len() {
            if let Some(Decision::Refused(reason)) = session
                .evaluation
                .of_point(index)
                .and_then(|decisions| decisions.get(column))
                && !reason.function.is_empty()
            {
                *counts.entry(&reason.function).or_default() += 1;
            }
        }
    }
    let mut counts: Vec<(&str, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, points)| std::cmp::Reverse(*points));
    counts
        .into_iter()
        .map(|(name, _)| name.to_owned())
        .collect()
}
