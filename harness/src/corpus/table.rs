//! A run of the corpus for people: predicted beside observed, then what differs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::compare::{Policies, RuleResult};
use super::run::{CaseResult, Report};
use crate::analysis::Table;
use crate::analysis::table::{Cell, Column};
use crate::policy::columns;

/// A rule with its case.
type Row<'r> = (&'r CaseResult, &'r RuleResult);

const fn columns_of_rules<'r>() -> [Column<Row<'r>>; 9] {
    [
        ("case", |(case, _)| Cell::text(&case.case)),
        ("variant", |(_, rule)| {
            Cell::text(rule.variant.as_deref().unwrap_or("all"))
        }),
        ("rule", |(_, rule)| Cell::text(&rule.rule)),
        ("points", |(_, rule)| Cell::number(rule.points)),
        ("predicted", |(_, rule)| Cell::text(rule.predicted.verdict)),
        ("observed", |(_, rule)| {
            Cell::text(seen(&rule.verdicts, |v| (*v).to_owned()))
        }),
        ("policies", |(_, rule)| {
            Cell::text(short(&rule.predicted.allowed))
        }),
        ("observed", |(_, rule)| {
            Cell::text(seen(&rule.allowed, short))
        }),
        ("", |(_, rule)| {
            Cell::text(match (rule.matches(), rule.points) {
                (true, _) => "match",
                (false, 0) => "NO POINT",
                (false, _) => "DIFFERENCE",
            })
        }),
    ]
}

/// All rules of all cases.
#[must_use]
pub fn rules(report: &Report) -> Table {
    let rows: Vec<Row<'_>> = report
        .cases
        .iter()
        .flat_map(|case| case.comparison.rules.iter().map(move |rule| (case, rule)))
        .collect();
    let title = "What was predicted, and what was observed beside it.";
    let mut table = Table::of("corpus", title, &columns_of_rules(), &rows);
    let legend: Vec<String> = (1..)
        .zip(columns())
        .map(|(number, column)| format!("{number} {column}"))
        .collect();
    table.notes.push(format!(
        "policies that allow the points: {}",
        legend.join(", ")
    ));
    table
}

/// What was observed, most frequent values with their number if there are several.
fn seen<T>(counts: &BTreeMap<T, usize>, shown: impl Fn(&T) -> String) -> String {
    match counts.iter().collect::<Vec<_>>().as_slice() {
        [(only, _)] => shown(only),
        several => several
            .iter()
            .map(|(value, count)| format!("{count} × {}", shown(value)))
            .collect::<Vec<_>>()
            .join("; "),
    }
}

/// A digit for each policy that allows, `-` for each that refuses.
fn short(policies: &Policies) -> String {
    (1..)
        .zip(columns())
        .map(|(number, column): (usize, _)| {
            if policies.0.contains(column) {
                number.to_string()
            } else {
                "-".to_owned()
            }
        })
        .collect()
}

/// Everything that is not as it should be, a line each; empty if all is well.
#[must_use]
pub fn differences(report: &Report) -> String {
    let mut text = String::new();
    for case in &report.cases {
        let name = &case.case;
        for rule in &case.comparison.rules {
            of_rule(&mut text, name, rule);
        }
        for seen in &case.comparison.unmatched {
            _ = writeln!(
                text,
                "{name} {}: no rule predicts {} at {}: {} {}, allowed by {}",
                seen.variant,
                seen.function,
                seen.point,
                seen.verdict,
                seen.cause,
                String::from(Policies(seen.allowed.clone()))
            );
        }
        if case.controlled == 0 {
            _ = writeln!(text, "{name}: no point of the control arm was tested");
        }
        for violation in &case.violations {
            _ = writeln!(text, "{name}: {violation}");
        }
    }
    text
}

fn of_rule(text: &mut String, case: &str, rule: &RuleResult) {
    let RuleResult { line, why, .. } = rule;
    if rule.points == 0 {
        let rule = &rule.rule;
        _ = writeln!(
            text,
            "{case}: no point meets the rule at line {line} first: {rule} ({why})"
        );
    }
    for difference in &rule.differences {
        let what: Vec<String> = difference
            .what
            .iter()
            .map(|one| format!("{} {} instead of {}", one.of, one.observed, one.predicted))
            .collect();
        _ = writeln!(
            text,
            "{case} {}: {} at {}: {} (line {line}: {why})",
            difference.variant,
            difference.function,
            difference.point,
            what.join("; "),
        );
    }
}

/// The cases in a few lines: how many match, and what was reached.
#[must_use]
pub fn summary(report: &Report) -> String {
    let rules = || report.cases.iter().flat_map(|case| &case.comparison.rules);
    let points: usize = rules().map(|rule| rule.points).sum();
    let controlled: usize = report.cases.iter().map(|case| case.controlled).sum();
    let mut text = format!(
        "{} of {} cases match: {} of {} rules, {points} points, {controlled} of the control arm.\n",
        report.cases.iter().filter(|case| case.matches()).count(),
        report.cases.len(),
        rules().filter(|rule| rule.matches()).count(),
        rules().count(),
    );
    for kind in &report.reached {
        let cases = kind.cases.len();
        _ = writeln!(
            text,
            "{}: {} points of {cases} cases",
            kind.kind, kind.points
        );
    }
    text
}
