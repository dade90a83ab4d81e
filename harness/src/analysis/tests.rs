use proptest::prelude::*;

use super::fixture;
use super::summary::{GroupKind, SummaryRow};
use super::*;
use crate::policy::columns;
use crate::report::export::{Csv, Exporter as _};

fn analysed(sample: Option<usize>) -> Analysis {
    let runs = tempfile::tempdir().unwrap();
    let run = fixture::run(runs.path(), sample);
    analyse(&run, fixture::judge).unwrap()
}

fn header(table: &Table) -> String {
    table.header.join(", ")
}

#[test]
fn csv_headers_are_those_of_the_architecture() {
    let analysis = analysed(None);
    let tests = "pair, workload, scope, mechanism, role, thread, exchange, point, function, class, weight, verdict, cause, diverged_at, discriminating, new_code_entries, old_frame_ran, engine, repeats, wall_us";
    let policies: Vec<&str> = columns().collect();
    assert_eq!(
        header(&rows::table(&analysis.rows)),
        format!("{tests}, {}", policies.join(", "))
    );
    assert_eq!(
        header(&summary::table(&analysis.summary)),
        "pair, policy, population, tested, allowed, failures, failures_without_mixed, failures_allowed, passes_refused, delay_median_us, delay_p95_us, delay_max_us, never"
    );
}

#[test]
fn the_summary_of_the_fixture() {
    let text = Csv
        .export(&summary::table(&analysed(None).summary))
        .unwrap();
    insta::assert_snapshot!(text, @"");
}

#[test]
fn rows_of_the_first_pair() {
    let analysis = analysed(None);
    let first: Vec<TestRow> = analysis.rows.into_iter().take(9).collect();
    let text = Csv.export(&rows::table(&first)).unwrap();
    insta::assert_snapshot!(text, @"");
}

#[test]
fn refusals_effort_coverage_and_patches_of_the_fixture() {
    let analysis = analysed(None);
    let text: String = [
        refusals::table(&analysis.refusals),
        effort::table(&analysis.effort),
        coverage::table(&analysis.coverage),
        patches::table(&analysis.patches),
    ]
    .iter()
    .map(|table| Csv.export(table).unwrap() + "\n")
    .collect();
    insta::assert_snapshot!(text, @"");
}

#[test]
fn totals_leave_out_controls_and_unreached_pairs() {
    let summary = analysed(None).summary;
    let total = summary.totals.last().unwrap();
    assert_eq!((total.pairs, &total.kind), (3, &GroupKind::Total));
    assert_eq!(total.population, 3 * 17);
    let unreached: Vec<&str> = summary
        .pairs
        .iter()
        .filter(|group| group.unreached)
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(unreached, ["kvd-3-4"]);
}

#[test]
fn a_sample_keeps_the_population_and_every_manual_point() {
    let summary = analysed(Some(2)).summary;
    for group in summary.pairs.iter().chain(&summary.totals) {
        let weight = group.tally.weights.sum;
        assert!((weight - statistics::as_float(group.population)).abs() < 1e-9);
        assert!(group.tally.weights.count < group.population);
        let manual = &group.policies[2];
        assert_eq!(manual.policy, "manual");
        assert_eq!(manual.allowed, manual.tally.weights.count);
    }
}

#[test]
fn a_test_that_is_not_planned_is_an_error() {
    let runs = tempfile::tempdir().unwrap();
    let mut run = fixture::run(runs.path(), None);
    run.plan.remove(0);
    let error = analyse(&run, fixture::judge).unwrap_err();
    assert!(matches!(error, AnalysisError::NotPlanned(_)));
    run.pairs.clear();
    let error = analyse(&run, fixture::judge).unwrap_err();
    assert!(matches!(error, AnalysisError::NoPair(_)));
}

fn assert_consistent(row: &SummaryRow) {
    assert!(row.failures_allowed <= row.failures + 1e-9, "{row:?}");
    assert!(row.failures_without_mixed <= row.failures + 1e-9, "{row:?}");
    assert!(
        row.failures <= statistics::as_float(row.population) + 1e-9,
        "{row:?}"
    );
    assert!(
        row.allowed <= row.population && row.passes_refused >= 0.0,
        "{row:?}"
    );
    assert!(
        row.delay_median_us.unwrap_or(0.0) <= row.delay_p95_us.unwrap_or(f64::MAX),
        "{row:?}"
    );
    if row.policy == "any" {
        assert_eq!(row.allowed, row.population);
        assert_eq!(row.passes_refused, 0.0);
        assert!((row.failures_allowed - row.failures).abs() < 1e-9);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn summaries_are_consistent_whatever_the_verdicts(numbers in proptest::collection::vec(0usize..crate::verdict::Verdict::ALL.len(), 17 * 5), sample in proptest::option::of(0usize..20)) {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), sample);
        let next = std::cell::Cell::new(0);
        let judge = |session: &SessionRecord, point: &PointId, observation: &Observation| {
            let place = next.replace(next.get() + 1) % numbers.len();
            Judgement { verdict: crate::verdict::Verdict::ALL[numbers[place]], ..fixture::judge(session, point, observation) }
        };
        let analysis = analyse(&run, judge).unwrap();
        for row in summary::rows(&analysis.summary) {
            assert_consistent(&row);
        }
    }
}
