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
            let verdict = format!("{} {}", seen.verdict, seen.cause);
            let policies = String::from(Policies(seen.allowed.clone()));
            _ = writeln!(
                text,
                "{name} {}: no rule predicts {} at {}: {}, allowed by [{policies}]",
                seen.variant,
                seen.function,
                seen.point,
                verdict.trim_end(),
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

#[cfg(test)]
mod tests {
    use super::super::compare::tests::{of_function, seen};
    use super::super::compare::{Comparison, compare};
    use super::*;
    use crate::analysis::Outcome;
    use crate::report::export::{Exporter as _, Markdown};
    use crate::verdict::Verdict;

    fn report(comparison: Comparison, violations: Vec<String>) -> Report {
        Report {
            disagreements: Vec::new(),
            cases: vec![CaseResult {
                case: "tiny".to_owned(),
                about: "about".to_owned(),
                cause: "none".to_owned(),
                comparison,
                controlled: 2,
                violations,
                mistaken: Vec::new(),
            }],
            reached: Vec::new(),
        }
    }

    const NEW: Outcome = Outcome::Verdict(Verdict::New);
    const WRONG: Outcome = Outcome::Verdict(Verdict::Wrong);

    #[test]
    fn everything_that_is_not_as_it_should_be_has_a_line() {
        let rules = [of_function("f", NEW), of_function("g", NEW)];
        let points = [
            seen("bare", "f", NEW, &["activeness"]),
            seen("bare", "f", WRONG, &["activeness", "con_free"]),
            seen("bare", "h", WRONG, &["con_free"]),
        ];
        let violations = vec!["control arm: crash at server#1/0@0:1".to_owned()];
        let report = report(compare(&rules, &points), violations);
        assert!(!report.matches());
        insta::assert_snapshot!(differences(&report), @"
        tiny bare: f at server#1/0@2:1: verdict wrong instead of new; con_free allowed instead of refused (line 7: because)
        tiny: no point meets the rule at line 7 first: function g (because)
        tiny bare: no rule predicts h at server#1/0@2:1: wrong, allowed by [con_free]
        tiny: control arm: crash at server#1/0@0:1
        ");
        insta::assert_snapshot!(summary(&report), @"0 of 1 cases match: 0 of 2 rules, 2 points, 2 of the control arm.");
        let table = Markdown.export(&rules_without_notes(&report)).unwrap();
        insta::assert_snapshot!(table, @"
        What was predicted, and what was observed beside it.

        | case | variant | rule       | points | predicted | observed           | policies | observed                   |            |
        |------|---------|------------|-------:|-----------|--------------------|----------|----------------------------|------------|
        | tiny | all     | function f |      2 | new       | 1 × new; 1 × wrong | 1------- | 1 × 1-------; 1 × 1----6-- | DIFFERENCE |
        | tiny | all     | function g |      0 | new       |                    | 1------- |                            | NO POINT   |
        ");
    }

    fn rules_without_notes(report: &Report) -> Table {
        let mut table = super::rules(report);
        table.notes.clear();
        table
    }

    #[test]
    fn nothing_is_said_where_all_is_well_and_a_dirty_control_arm_is_a_difference() {
        let rules = [of_function("f", NEW)];
        let points = [seen("bare", "f", NEW, &["activeness"])];
        let clean = report(compare(&rules, &points), Vec::new());
        assert!(clean.matches());
        assert_eq!(differences(&clean), "");
        let mut dirty = report(compare(&rules, &points), vec!["crash".to_owned()]);
        assert!(!dirty.matches());
        dirty.cases[0].violations.clear();
        assert!(dirty.matches());
        dirty.cases[0].controlled = 0;
        assert!(
            !dirty.matches(),
            "a control arm without points shows nothing"
        );
    }
}
