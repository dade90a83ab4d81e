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
    let tests = "pair, workload, scope, mechanism, role, thread, exchange, point, function, class, weight, verdict, cause, diverged_at, discriminating, new_code_entries, old_frame_ran, engine, repeats, wall_us, instances, convert_us, gaps";
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
    insta::assert_snapshot!(text, @r#"
pair,policy,population,tested,allowed,failures,failures_without_mixed,failures_allowed,passes_refused,delay_median_us,delay_p95_us,delay_max_us,never
kvd-1-2,any,17,17,17,4,1,4,0,0,67,100,0.0000
kvd-1-2,activeness,17,17,13,4,1,1,1,0,101,200,0.0000
kvd-1-2,activeness_edited,17,17,13,4,1,1,1,0,101,200,0.0000
kvd-1-2,activeness_conservative,17,17,4,4,1,0,9,0,,200,0.3671
kvd-1-2,activeness_except_named,17,17,17,4,1,4,0,0,67,100,0.0000
kvd-1-2,activeness_rest,17,17,13,4,1,1,1,0,101,200,0.0000
kvd-1-2,con_free,17,17,17,4,1,4,0,0,67,100,0.0000
kvd-1-2,con_free_field,17,17,17,4,1,4,0,0,67,100,0.0000
kvd-1-2,manual,17,17,5,4,1,0,8,,,1000,0.6139
kvd-2-3,any,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,activeness,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,activeness_edited,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,activeness_conservative,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,activeness_except_named,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,activeness_rest,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,con_free,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,con_free_field,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-2-3,manual,17,17,5,0,0,0,11,,,1000,0.6139
kvd-2-3-bare,any,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,activeness,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,activeness_edited,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,activeness_conservative,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,activeness_except_named,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,activeness_rest,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,con_free,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,con_free_field,17,17,17,8,8,8,0,0,67,100,0.0000
kvd-2-3-bare,manual,17,17,5,8,8,0,0,,,1000,0.6139
kvd-3-4,any,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,activeness,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,activeness_edited,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,activeness_conservative,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,activeness_except_named,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,activeness_rest,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,con_free,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,con_free_field,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-3-4,manual,17,17,5,0,0,0,12,,,1000,0.6139
kvd-1-1-control,any,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-1-1-control,activeness,17,17,0,0,0,0,17,,,,1.0000
kvd-1-1-control,activeness_edited,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-1-1-control,activeness_conservative,17,17,0,0,0,0,17,,,,1.0000
kvd-1-1-control,activeness_except_named,17,17,5,0,0,0,12,0,201,300,0.0000
kvd-1-1-control,activeness_rest,17,17,0,0,0,0,17,,,,1.0000
kvd-1-1-control,con_free,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-1-1-control,con_free_field,17,17,17,0,0,0,0,0,67,100,0.0000
kvd-1-1-control,manual,17,17,5,0,0,0,12,,,1000,0.6139
total no-transformer,any,17,17,17,4,1,4,0,0,67,100,0.0000
total no-transformer,activeness,17,17,13,4,1,1,1,0,101,200,0.0000
total no-transformer,activeness_edited,17,17,13,4,1,1,1,0,101,200,0.0000
total no-transformer,activeness_conservative,17,17,4,4,1,0,9,0,,200,0.3671
total no-transformer,activeness_except_named,17,17,17,4,1,4,0,0,67,100,0.0000
total no-transformer,activeness_rest,17,17,13,4,1,1,1,0,101,200,0.0000
total no-transformer,con_free,17,17,17,4,1,4,0,0,67,100,0.0000
total no-transformer,con_free_field,17,17,17,4,1,4,0,0,67,100,0.0000
total no-transformer,manual,17,17,5,4,1,0,8,,,1000,0.6139
total with-transformer,any,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,activeness,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,activeness_edited,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,activeness_conservative,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,activeness_except_named,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,activeness_rest,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,con_free,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,con_free_field,17,17,17,0,0,0,0,0,67,100,0.0000
total with-transformer,manual,17,17,5,0,0,0,11,,,1000,0.6139
total lacking-transformer,any,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,activeness,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,activeness_edited,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,activeness_conservative,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,activeness_except_named,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,activeness_rest,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,con_free,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,con_free_field,17,17,17,8,8,8,0,0,67,100,0.0000
total lacking-transformer,manual,17,17,5,8,8,0,0,,,1000,0.6139
total,any,51,51,51,12,9,12,0,0,67,100,0.0000
total,activeness,51,51,47,12,9,9,1,0,75,200,0.0000
total,activeness_edited,51,51,47,12,9,9,1,0,75,200,0.0000
total,activeness_conservative,51,51,38,12,9,8,9,0,,200,0.1224
total,activeness_except_named,51,51,51,12,9,12,0,0,67,100,0.0000
total,activeness_rest,51,51,47,12,9,9,1,0,75,200,0.0000
total,con_free,51,51,51,12,9,12,0,0,67,100,0.0000
total,con_free_field,51,51,51,12,9,12,0,0,67,100,0.0000
total,manual,51,51,15,12,9,0,19,,,1000,0.6139
"#);
}

#[test]
fn rows_of_the_first_pair() {
    let analysis = analysed(None);
    let first: Vec<TestRow> = analysis.rows.into_iter().take(9).collect();
    let text = Csv.export(&rows::table(&first)).unwrap();
    insta::assert_snapshot!(text, @"
    pair,workload,scope,mechanism,role,thread,exchange,point,function,class,weight,verdict,cause,diverged_at,discriminating,new_code_entries,old_frame_ran,engine,repeats,wall_us,instances,convert_us,gaps,activeness,activeness_edited,activeness_conservative,activeness_except_named,activeness_rest,con_free,con_free_field,manual
    kvd-1-2,basic,process,own+redirect,listener,0,0,listener#1/0@0:1,accept,listener#1/0@0:1,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,allowed,allowed,allowed,allowed,allowed,allowed
    kvd-1-2,basic,process,own+redirect,session,0,0,session#1/0@0:1,serve,session#1/0@0:1,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,allowed,allowed,allowed,allowed,allowed,allowed
    kvd-1-2,basic,process,own+redirect,session,0,0,session#1/0@0:2,parse,session#1/0@0:2,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,allowed,allowed,allowed,allowed,allowed,refused
    kvd-1-2,basic,process,own+redirect,session,0,0,session#1/0@0:3,note,session#1/0@0:3,1,late,,,2,2,true,restart,0,4200,,,,refused,refused,refused,allowed,refused,allowed,allowed,refused
    kvd-1-2,basic,process,own+redirect,session,0,0,session#1/0@0:4,reply,session#1/0@0:4,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,allowed,allowed,allowed,allowed,allowed,refused
    kvd-1-2,basic,process,own+redirect,session,0,1,session#1/0@1:1,serve,session#1/0@1:1,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,refused,allowed,allowed,allowed,allowed,allowed
    kvd-1-2,basic,process,own+redirect,session,0,1,session#1/0@1:2,parse,session#1/0@1:2,1,new,,,2,2,false,restart,0,4200,,,,allowed,allowed,refused,allowed,allowed,allowed,allowed,refused
    kvd-1-2,basic,process,own+redirect,session,0,1,session#1/0@1:3,note,session#1/0@1:3,1,mixed,in-flight,1,2,2,false,restart,2,4200,,,,refused,refused,refused,allowed,refused,allowed,allowed,refused
    kvd-1-2,basic,process,own+redirect,session,0,1,session#1/0@1:4,reply,session#1/0@1:4,1,wrong,,1,2,2,false,restart,2,4200,,,,allowed,allowed,refused,allowed,allowed,allowed,allowed,refused
    ");
}

#[test]
#[allow(clippy::too_many_lines)] // one row a policy
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
    insta::assert_snapshot!(text, @"
    pair,policy,reason,function,points
    kvd-1-1-control,activeness,changed-on-stack,serve,8
    kvd-1-1-control,activeness,changed-on-stack,main,5
    kvd-1-1-control,activeness,changed-on-stack,parse,4
    kvd-1-1-control,activeness_conservative,changed-on-stack,serve,8
    kvd-1-1-control,activeness_conservative,changed-on-stack,main,5
    kvd-1-1-control,activeness_conservative,changed-on-stack,parse,4
    kvd-1-1-control,activeness_except_named,changed-on-stack,serve,12
    kvd-1-1-control,activeness_rest,rest-differs,serve,8
    kvd-1-1-control,activeness_rest,rest-differs,main,5
    kvd-1-1-control,activeness_rest,rest-differs,parse,4
    kvd-1-1-control,manual,not-manual-entry,note,4
    kvd-1-1-control,manual,not-manual-entry,parse,4
    kvd-1-1-control,manual,not-manual-entry,reply,4
    kvd-1-2,activeness,changed-on-stack,parse,4
    kvd-1-2,activeness_conservative,word-into-changed,parse,9
    kvd-1-2,activeness_conservative,changed-on-stack,parse,4
    kvd-1-2,activeness_edited,edited-on-stack,parse,4
    kvd-1-2,activeness_rest,rest-differs,parse,4
    kvd-1-2,manual,not-manual-entry,note,4
    kvd-1-2,manual,not-manual-entry,parse,4
    kvd-1-2,manual,not-manual-entry,reply,4
    kvd-2-3,manual,not-manual-entry,note,4
    kvd-2-3,manual,not-manual-entry,parse,4
    kvd-2-3,manual,not-manual-entry,reply,4
    kvd-2-3-bare,manual,not-manual-entry,note,4
    kvd-2-3-bare,manual,not-manual-entry,parse,4
    kvd-2-3-bare,manual,not-manual-entry,reply,4
    kvd-3-4,manual,not-manual-entry,note,4
    kvd-3-4,manual,not-manual-entry,parse,4
    kvd-3-4,manual,not-manual-entry,reply,4

    pair,policy,points_named,annotation_lines,transformer_lines,workloads,workloads_without_point,names_of_those,blocking_functions
    kvd-1-2,activeness,,,0,1,0,,
    kvd-1-2,activeness_edited,,,0,1,0,,
    kvd-1-2,activeness_conservative,,,0,1,0,,
    kvd-1-2,activeness_except_named,,,0,1,0,,
    kvd-1-2,activeness_rest,,,0,1,0,,
    kvd-1-2,con_free,,,0,1,0,,
    kvd-1-2,con_free_field,,,0,1,0,,
    kvd-1-2,manual,2,10,0,1,0,,
    kvd-2-3,activeness,,,12,1,0,,
    kvd-2-3,activeness_edited,,,12,1,0,,
    kvd-2-3,activeness_conservative,,,12,1,0,,
    kvd-2-3,activeness_except_named,,,12,1,0,,
    kvd-2-3,activeness_rest,,,12,1,0,,
    kvd-2-3,con_free,,,12,1,0,,
    kvd-2-3,con_free_field,,,12,1,0,,
    kvd-2-3,manual,2,10,12,1,0,,
    kvd-2-3-bare,activeness,,,0,1,0,,
    kvd-2-3-bare,activeness_edited,,,0,1,0,,
    kvd-2-3-bare,activeness_conservative,,,0,1,0,,
    kvd-2-3-bare,activeness_except_named,,,0,1,0,,
    kvd-2-3-bare,activeness_rest,,,0,1,0,,
    kvd-2-3-bare,con_free,,,0,1,0,,
    kvd-2-3-bare,con_free_field,,,0,1,0,,
    kvd-2-3-bare,manual,2,10,0,1,0,,
    kvd-3-4,activeness,,,0,1,0,,
    kvd-3-4,activeness_edited,,,0,1,0,,
    kvd-3-4,activeness_conservative,,,0,1,0,,
    kvd-3-4,activeness_except_named,,,0,1,0,,
    kvd-3-4,activeness_rest,,,0,1,0,,
    kvd-3-4,con_free,,,0,1,0,,
    kvd-3-4,con_free_field,,,0,1,0,,
    kvd-3-4,manual,2,10,0,1,0,,
    kvd-1-1-control,activeness,,,0,1,1,basic,serve main parse
    kvd-1-1-control,activeness_edited,,,0,1,0,,
    kvd-1-1-control,activeness_conservative,,,0,1,1,basic,serve main parse
    kvd-1-1-control,activeness_except_named,,,0,1,0,,
    kvd-1-1-control,activeness_rest,,,0,1,1,basic,serve main parse
    kvd-1-1-control,con_free,,,0,1,0,,
    kvd-1-1-control,con_free_field,,,0,1,0,,
    kvd-1-1-control,manual,2,10,0,1,0,,

    pair,workload,function,change,entries,tests
    kvd-1-2,basic,parse,changed,4,17
    kvd-1-2,basic,reply,changed,4,0
    kvd-2-3,basic,legacy,deleted,0,0
    kvd-2-3,basic,note,changed,4,0
    kvd-2-3-bare,basic,legacy,deleted,0,0
    kvd-2-3-bare,basic,note,changed,4,0
    kvd-3-4,basic,legacy,changed,0,0
    kvd-1-1-control,basic,accept,identical,1,0
    kvd-1-1-control,basic,legacy,identical,0,0
    kvd-1-1-control,basic,main,identical,0,0
    kvd-1-1-control,basic,note,identical,4,0
    kvd-1-1-control,basic,parse,identical,4,17
    kvd-1-1-control,basic,reply,identical,4,0
    kvd-1-1-control,basic,serve,identical,4,0

    pair,division,changed,rebuilt,edited,added,deleted,data_added,data_reinitialised,data_carried,data_renewed,changed_types,changed_prototypes,warnings,gaps
    kvd-1-2,no-transformer,2,0,1,0,0,0,0,0,0,0,0,0,
    kvd-2-3,with-transformer,1,0,1,0,1,0,0,0,0,0,0,0,
    kvd-2-3-bare,lacking-transformer,1,0,1,0,1,0,0,0,0,0,0,0,
    kvd-3-4,no-transformer,1,0,1,0,0,0,0,0,0,0,0,0,
    kvd-1-1-control,no-transformer,7,0,0,0,0,0,0,0,0,0,0,0,
    ");
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
        let manual = group.policies.last().unwrap();
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
        assert!(row.passes_refused.abs() < 1e-9);
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

#[test]
fn an_update_under_two_mechanisms_is_compared_over_what_both_ran() {
    let runs = tempfile::tempdir().unwrap();
    let mut run = fixture::run(runs.path(), None);
    let names = |run: &crate::study::store::Run| -> Vec<(String, String, usize)> {
        let sessions = sessions::studied(&run.pairs, &run.sessions).unwrap();
        mechanisms::compared(&sessions)
            .into_iter()
            .map(|side| (side.name, side.mechanism, side.sessions.len()))
            .collect()
    };
    let side = |mechanism: &str| ("kvd-2-3".to_owned(), mechanism.to_owned(), 1);
    let with_and_without = [side("own+redirect"), side("own+redirect, no transformer")];
    assert_eq!(names(&run), with_and_without);

    for record in &mut run.sessions {
        if record.session.pair == "kvd-2-3-bare" {
            "common+keep".clone_into(&mut record.session.mechanism);
        }
    }
    let by_mechanism = [side("common+keep, no transformer"), side("own+redirect")];
    assert_eq!(names(&run), by_mechanism);

    for record in &mut run.sessions {
        if record.session.pair == "kvd-2-3-bare" {
            "another".clone_into(&mut record.session.workload);
        }
    }
    assert_eq!(names(&run), [], "no workload that both ran");
}
