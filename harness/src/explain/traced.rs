//! A trace for people: processes, exchanges, functions, stacks, waits, points.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::exchanges::label;
use super::stack;
use crate::analysis::StudiedSession;
use crate::analysis::Table;
use crate::analysis::table::Cell;
use crate::trace::{Point, RoleInstance, Trace};

/// Processes with their lifetimes.
#[must_use]
pub fn processes(trace: &Trace) -> Table {
    let points = count_by(&trace.points, |point| &point.id.role);
    let moment =
        |exchange: Option<u32>| exchange.map_or_else(|| Cell::text("the stop"), Cell::text);
    table(
        "processes",
        "Processes of the server",
        &[
            "process",
            "forked by",
            "born in exchange",
            "after entries",
            "lives until",
            "threads",
            "points",
        ],
        trace
            .processes
            .iter()
            .map(|process| {
                vec![
                    Cell::text(&process.role),
                    process
                        .parent
                        .as_ref()
                        .map_or_else(|| Cell::text("Kairos"), Cell::text),
                    Cell::number(process.born),
                    Cell::number(process.born_at),
                    moment(process.ended),
                    Cell::number(process.threads),
                    Cell::number(points.get(&process.role).copied().unwrap_or(0)),
                ]
            })
            .collect(),
    )
}

fn count_by<'a, K>(points: &'a [Point], key: impl Fn(&'a Point) -> &'a K) -> BTreeMap<&'a K, u64>
where
    K: Ord + 'a,
{
    let mut counts = BTreeMap::new();
    for point in points {
        *counts.entry(key(point)).or_insert(0) += 1;
    }
    counts
}

/// Exchanges with points per role and who wrote to the client.
#[must_use]
pub fn exchanges(trace: &Trace) -> Table {
    let roles: BTreeSet<&str> = trace
        .processes
        .iter()
        .map(|process| process.role.role.as_str())
        .collect();
    let mut counts: BTreeMap<(Option<u32>, &str), u64> = BTreeMap::new();
    for point in &trace.points {
        let key = (point.id.exchange, point.id.role.role.as_str());
        *counts.entry(key).or_insert(0) += 1;
    }
    let mut header = vec!["exchange", "label"];
    header.extend(&roles);
    header.push("written by");
    let row = |exchange: Option<u32>, name: String, writers: &BTreeSet<RoleInstance>| {
        let mut cells = vec![
            exchange.map_or_else(|| Cell::text("start"), Cell::number),
            Cell::text(name),
        ];
        cells.extend(
            roles
                .iter()
                .map(|role| Cell::number(counts.get(&(exchange, *role)).copied().unwrap_or(0))),
        );
        let writers: Vec<String> = writers.iter().map(ToString::to_string).collect();
        cells.push(Cell::text(writers.join(" ")));
        cells
    };
    let mut rows = Vec::new();
    if trace.points.iter().any(|point| point.id.exchange.is_none()) {
        rows.push(row(
            None,
            "before the server is ready".to_owned(),
            &BTreeSet::new(),
        ));
    }
    for (index, exchange) in trace.exchanges.iter().chain(&trace.probe).enumerate() {
        let probe = if index < trace.exchanges.len() {
            ""
        } else {
            " (probe)"
        };
        rows.push(row(
            u32::try_from(index).ok(),
            format!("{}{probe}", label(trace, index)),
            &exchange.writers,
        ));
    }
    table(
        "exchanges",
        "Exchanges, with update points of each role",
        &header,
        rows,
    )
}

/// Functions by how often they are entered, and what the update does to them.
#[must_use]
pub fn functions(studied: &StudiedSession<'_>) -> Table {
    let trace = &studied.record.trace;
    let mut counts: BTreeMap<String, (u64, &Point)> = BTreeMap::new();
    for point in &trace.points {
        let name = studied.evaluator.function_entered(point);
        counts.entry(name).or_insert((0, point)).0 += 1;
    }
    let mut functions: Vec<_> = counts.into_iter().collect();
    functions.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let rows = functions.into_iter().map(|(name, (count, first))| {
        let change = studied
            .evaluator
            .changed()
            .find(first.function)
            .map_or("", |found| stack::change(&found.change));
        vec![
            Cell::text(name),
            Cell::number(count),
            Cell::text(&first.id),
            Cell::text(change),
        ]
    });
    table(
        "functions",
        "Functions by entries",
        &["function", "entries", "first point", "update"],
        rows.collect(),
    )
}

/// Waits: where threads stood when the server came to rest.
#[must_use]
pub fn waits(studied: &StudiedSession<'_>) -> Table {
    let trace = &studied.record.trace;
    let rows = trace.waits.iter().map(|wait| {
        let inner = usize::try_from(wait.stack)
            .ok()
            .and_then(|index| trace.stacks.get(index))
            .map(|stack| stack::named(stack, &studied.pair.functions, studied.evaluator.changed()))
            .unwrap_or_default();
        let names: Vec<&str> = inner
            .iter()
            .filter_map(|frame| frame.function.as_deref())
            .collect();
        vec![
            Cell::text(&wait.role),
            Cell::number(wait.thread),
            Cell::number(wait.exchange),
            Cell::text(names.join(" < ")),
        ]
    });
    table(
        "waits",
        "Waits: where threads stood when the server came to rest",
        &[
            "process",
            "thread",
            "after exchange",
            "own functions on the stack",
        ],
        rows.collect(),
    )
}

/// Every point, with what each policy says.
#[must_use]
pub fn points(studied: &StudiedSession<'_>) -> Table {
    let columns: Vec<&str> = crate::policy::columns().collect();
    let mut header = vec!["point", "function", "stack"];
    header.extend(&columns);
    let points = studied.record.trace.points.iter().enumerate();
    let rows = points.map(|(place, point)| {
        let mut cells = vec![
            Cell::text(&point.id),
            Cell::text(studied.evaluator.function_entered(point)),
            Cell::number(point.stack),
        ];
        cells.extend(columns.iter().map(|column| {
            Cell::text(if studied.evaluation.allows_point(place, column) {
                "allowed"
            } else {
                "refused"
            })
        }));
        cells
    });
    table("points", "Update points", &header, rows.collect())
}

/// Distinct stacks with the number of points that have them.
#[must_use]
pub fn stacks(studied: &StudiedSession<'_>) -> String {
    let trace = &studied.record.trace;
    let counts = count_by(&trace.points, |point| &point.stack);
    let mut text = format!("Distinct stacks: {}\n", trace.stacks.len());
    for (index, one) in trace.stacks.iter().enumerate() {
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let points = counts.get(&number).copied().unwrap_or(0);
        let incomplete = if one.complete { "" } else { ", incomplete" };
        _ = writeln!(text, "stack {index}: {points} points{incomplete}");
        let frames = stack::named(one, &studied.pair.functions, studied.evaluator.changed());
        text.push_str(&stack::render(&frames, "  "));
    }
    text
}

fn table(name: &str, title: &str, header: &[&str], rows: Vec<Vec<Cell>>) -> Table {
    Table {
        name: name.to_owned(),
        title: title.to_owned(),
        header: header.iter().map(|name| (*name).to_owned()).collect(),
        rows,
        notes: Vec::new(),
    }
}
