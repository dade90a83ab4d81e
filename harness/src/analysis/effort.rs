//! `effort.csv`: what each policy asks of a developer.

use std::collections::{BTreeMap, BTreeSet};

use super::sessions::StudiedSession;
use super::table::{Cell, Column, Table};
use crate::policy::{Decision, REGISTRY};
use crate::study::store::PairRecord;

/// Effort for one pair under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The pair, with scope and mechanism where they are not the usual ones.
    pub pair: String,
    /// The policy's column.
    pub policy: &'static str,
    /// Points named in the subject's manifest, for the manual policy.
    pub points_named: Option<usize>,
    /// Lines of the manifest that name them, for the manual policy; none where the
    /// run did not record it.
    pub annotation_lines: Option<u32>,
    /// Lines of the state transformer.
    pub transformer_lines: u32,
    /// Workloads traced.
    pub workloads: usize,
    /// Workloads in which the policy allows no point.
    pub without_point: BTreeSet<String>,
    /// Functions that block the points of those workloads, the most frequent
    /// first: candidates for extraction.
    pub blocking: Vec<String>,
}

const COLUMNS: [Column<Effort>; 9] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("policy", |row| Cell::text(row.policy)),
    ("points_named", |row| Cell::optional(row.points_named)),
    ("annotation_lines", |row| {
        Cell::optional(row.annotation_lines)
    }),
    ("transformer_lines", |row| {
        Cell::number(row.transformer_lines)
    }),
    ("workloads", |row| Cell::number(row.workloads)),
    ("workloads_without_point", |row| {
        Cell::number(row.without_point.len())
    }),
    ("names_of_those", |row| {
        let names: Vec<&str> = row.without_point.iter().map(String::as_str).collect();
        Cell::text(names.join(" "))
    }),
    ("blocking_functions", |row| {
        Cell::text(row.blocking.join(" "))
    }),
];

/// `effort.csv` as a table.
#[must_use]
pub fn table(rows: &[Effort]) -> Table {
    let title = "What each policy asks of a developer.";
    let mut table = Table::of("effort", title, &COLUMNS, rows);
    table.notes.push(
        "Points named and lines of annotation are those of `[[manual]]` in the subject's manifest, for all its pairs together. Where a policy allows no point of a workload, the functions that block it, the most frequent first, are candidates for extraction.".to_owned(),
    );
    table
}

/// Effort per pair and policy.
#[must_use]
pub fn effort(pairs: &[PairRecord], sessions: &[StudiedSession<'_>]) -> Vec<Effort> {
    let mut rows = Vec::new();
    for pair in pairs {
        let mut by_label: BTreeMap<String, Vec<&StudiedSession<'_>>> = BTreeMap::new();
        for session in sessions.iter().filter(|of| of.pair.pair == pair.pair) {
            let label = session.record.session.label();
            by_label.entry(label).or_default().push(session);
        }
        if by_label.is_empty() {
            by_label.insert(pair.pair.clone(), Vec::new());
        }
        for (label, sessions) in by_label {
            for policy in REGISTRY {
                rows.push(of_policy(&label, policy.column(), pair, &sessions));
            }
        }
    }
    rows
}

fn of_policy(
    label: &str,
    column: &'static str,
    pair: &PairRecord,
    sessions: &[&StudiedSession<'_>],
) -> Effort {
    let manual = column == "manual";
    let without: Vec<&StudiedSession<'_>> = sessions
        .iter()
        .filter(|session| {
            let points = session.record.trace.points.len();
            !(0..points).any(|index| session.evaluation.allows_point(index, column))
        })
        .copied()
        .collect();
    let names = |sessions: &[&StudiedSession<'_>]| -> BTreeSet<String> {
        sessions
            .iter()
            .map(|session| session.record.session.workload.clone())
            .collect()
    };
    Effort {
        pair: label.to_owned(),
        policy: column,
        points_named: manual.then_some(pair.manual.len()),
        annotation_lines: pair.annotation_lines.filter(|_| manual),
        transformer_lines: pair.transformer_lines,
        workloads: names(sessions).len(),
        without_point: names(&without),
        blocking: if manual {
            Vec::new()
        } else {
            blocking(&without, column)
        },
    }
}

fn blocking(sessions: &[&StudiedSession<'_>], column: &str) -> Vec<String> {
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
