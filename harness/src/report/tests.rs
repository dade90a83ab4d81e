use super::export::Terminal;
use super::*;
use crate::analysis::fixture;

#[test]
#[allow(clippy::too_many_lines)] // one row a policy
fn the_study_table_for_people() {
    let runs = tempfile::tempdir().unwrap();
    let run = fixture::run(runs.path(), None);
    let analysis = analysis::analyse(&run, fixture::judge).unwrap();
    let text = Markdown.export(&tables::study(&analysis.summary)).unwrap();
    insta::assert_snapshot!(text, @"
    Verdicts per update pair, and what each policy allows and lets fail.

    | pair                      | points | tested | crash | wrong | mixed | inert | late | new | flaky | not-applied | failing | activeness (AS) |  AS edited | AS conservative | AS except named |    AS rest |   con-free | con-free field |   manual |
    |---------------------------|-------:|-------:|------:|------:|------:|------:|-----:|----:|------:|------------:|--------:|----------------:|-----------:|----------------:|----------------:|-----------:|-----------:|---------------:|---------:|
    | kvd-1-2                   |     17 |     17 |     0 |     1 |     3 |     1 |    1 |  11 |     0 |           0 |    24 % |        76 % / 1 |   76 % / 1 |        24 % / 0 |       100 % / 4 |   76 % / 1 |  100 % / 4 |      100 % / 4 | 29 % / 0 |
    | kvd-2-3                   |     17 |     17 |     0 |     0 |     0 |     0 |    0 |  16 |     1 |           0 |     0 % |       100 % / 0 |  100 % / 0 |       100 % / 0 |       100 % / 0 |  100 % / 0 |  100 % / 0 |      100 % / 0 | 29 % / 0 |
    | kvd-2-3-bare              |     17 |     17 |     8 |     0 |     0 |     0 |    0 |   5 |     0 |           4 |    47 % |       100 % / 8 |  100 % / 8 |       100 % / 8 |       100 % / 8 |  100 % / 8 |  100 % / 8 |      100 % / 8 | 29 % / 0 |
    | kvd-3-4                   |     17 |     17 |     0 |     0 |     0 |     0 |    0 |  17 |     0 |           0 |     0 % |       100 % / 0 |  100 % / 0 |       100 % / 0 |       100 % / 0 |  100 % / 0 |  100 % / 0 |      100 % / 0 | 29 % / 0 |
    | total no-transformer      |     17 |     17 |     0 |     1 |     3 |     1 |    1 |  11 |     0 |           0 |    24 % |        76 % / 1 |   76 % / 1 |        24 % / 0 |       100 % / 4 |   76 % / 1 |  100 % / 4 |      100 % / 4 | 29 % / 0 |
    | total with-transformer    |     17 |     17 |     0 |     0 |     0 |     0 |    0 |  16 |     1 |           0 |     0 % |       100 % / 0 |  100 % / 0 |       100 % / 0 |       100 % / 0 |  100 % / 0 |  100 % / 0 |      100 % / 0 | 29 % / 0 |
    | total lacking-transformer |     17 |     17 |     8 |     0 |     0 |     0 |    0 |   5 |     0 |           4 |    47 % |       100 % / 8 |  100 % / 8 |       100 % / 8 |       100 % / 8 |  100 % / 8 |  100 % / 8 |      100 % / 8 | 29 % / 0 |
    | total                     |     51 |     51 |     8 |     1 |     3 |     1 |    1 |  32 |     1 |           4 |    24 % |      92.2 % / 9 | 92.2 % / 9 |        75 % / 8 |      100 % / 12 | 92.2 % / 9 | 100 % / 12 |     100 % / 12 | 29 % / 0 |

    Verdicts are counts of points; `failing` is the share of the points. Where fewer were `tested` and nothing was sampled, the others are judged from the test of an equivalent point. A policy's column holds the share of the points that it allows, and behind the slash how many of these fail. AS: activeness safety.

    Unreached, in no total: no workload enters the changed code of kvd-3-4.
    ");
    let text = Markdown.export(&tables::failures(&analysis.rows)).unwrap();
    insta::assert_snapshot!(text, @r#"
Failing and flaky tests by cause, with the first point of each.

| pair         | verdict | cause                     | tests | workload | first point     | function | allowed by                                                                                                           |
|--------------|---------|---------------------------|------:|----------|-----------------|----------|----------------------------------------------------------------------------------------------------------------------|
| kvd-1-2      | wrong   |                           |     1 | basic    | session#1/0@1:4 | reply    | activeness activeness_edited activeness_except_named activeness_rest con_free con_free_field                         |
| kvd-1-2      | mixed   | in-flight                 |     3 | basic    | session#1/0@1:3 | note     | activeness_except_named con_free con_free_field                                                                      |
| kvd-2-3      | flaky   | stall, new, new           |     1 | basic    | session#1/0@2:2 | parse    | activeness activeness_conservative activeness_edited activeness_except_named activeness_rest con_free con_free_field |
| kvd-2-3-bare | crash   | killed by SIGSEGV in note |     8 | basic    | session#1/0@0:3 | note     | activeness activeness_conservative activeness_edited activeness_except_named activeness_rest con_free con_free_field |
"#);
    let text = Markdown.export(&tables::delays(&analysis.summary)).unwrap();
    insta::assert_snapshot!(text, @r#"
Time until a policy allows an update that is asked for at a uniformly random moment of the session, and points that pass if it is asked for at a uniformly random point.

| pair                      | policy                  | allows | median ms | 95 % ms | longest ms | never | median points | 95 % points | longest points | never from a point |
|---------------------------|-------------------------|-------:|----------:|--------:|-----------:|------:|--------------:|------------:|---------------:|-------------------:|
| kvd-1-2                   | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-1-2                   | activeness              |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| kvd-1-2                   | activeness_edited       |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| kvd-1-2                   | activeness_conservative |   24 % |     0.000 |         |      0.200 |  37 % |               |             |              1 |               71 % |
| kvd-1-2                   | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-1-2                   | activeness_rest         |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| kvd-1-2                   | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-1-2                   | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-1-2                   | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| kvd-2-3                   | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | activeness              |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | activeness_edited       |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | activeness_conservative |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | activeness_rest         |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3                   | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| kvd-2-3-bare              | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | activeness              |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | activeness_edited       |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | activeness_conservative |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | activeness_rest         |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-2-3-bare              | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| kvd-3-4                   | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | activeness              |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | activeness_edited       |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | activeness_conservative |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | activeness_rest         |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| kvd-3-4                   | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| total no-transformer      | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total no-transformer      | activeness              |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total no-transformer      | activeness_edited       |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total no-transformer      | activeness_conservative |   24 % |     0.000 |         |      0.200 |  37 % |               |             |              1 |               71 % |
| total no-transformer      | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total no-transformer      | activeness_rest         |   76 % |     0.000 |   0.101 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total no-transformer      | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total no-transformer      | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total no-transformer      | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| total with-transformer    | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | activeness              |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | activeness_edited       |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | activeness_conservative |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | activeness_rest         |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total with-transformer    | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| total lacking-transformer | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | activeness              |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | activeness_edited       |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | activeness_conservative |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | activeness_rest         |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total lacking-transformer | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |
| total                     | any                     |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total                     | activeness              | 92.2 % |     0.000 |   0.075 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total                     | activeness_edited       | 92.2 % |     0.000 |   0.075 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total                     | activeness_conservative |   75 % |     0.000 |         |      0.200 |  12 % |             0 |             |              1 |               24 % |
| total                     | activeness_except_named |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total                     | activeness_rest         | 92.2 % |     0.000 |   0.075 |      0.200 |   0 % |             0 |           1 |              1 |                0 % |
| total                     | con_free                |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total                     | con_free_field          |  100 % |     0.000 |   0.067 |      0.100 |   0 % |             0 |           0 |              0 |                0 % |
| total                     | manual                  |   29 % |           |         |      1.000 |  61 % |             2 |             |              3 |               18 % |

Empty where the traces have no times for what the policy waits for, and for a quantile that falls among requests never served. A wait of the server serves a request like a point if the policy allows the stack that it waits with. `delays.csv` has every session and role.
"#);
    assert!(
        Terminal
            .export(&tables::study(&analysis.summary))
            .unwrap()
            .contains("kvd-2-3-bare")
    );
}

#[test]
fn the_study_table_of_a_sample_has_intervals() {
    let runs = tempfile::tempdir().unwrap();
    let run = fixture::run(runs.path(), Some(3));
    let analysis = analysis::analyse(&run, fixture::judge).unwrap();
    let text = Markdown.export(&tables::study(&analysis.summary)).unwrap();
    insta::assert_snapshot!(text, @"
    Verdicts per update pair, and what each policy allows and lets fail.

    | pair                      | points | tested | crash | wrong | new | not-applied |           failing |     activeness (AS) |           AS edited |   AS conservative |    AS except named |             AS rest |           con-free |     con-free field |   manual |
    |---------------------------|-------:|-------:|------:|------:|----:|------------:|------------------:|--------------------:|--------------------:|------------------:|-------------------:|--------------------:|-------------------:|-------------------:|---------:|
    | kvd-1-2                   |     17 |      8 |     0 |     4 |  13 |           0 |  24 % [5.1, 63.9] |    76 % / 4 [1, 11] |    76 % / 4 [1, 11] |   24 % / 0 [0, 4] |  100 % / 4 [1, 11] |    76 % / 4 [1, 11] |  100 % / 4 [1, 11] |  100 % / 4 [1, 11] | 29 % / 0 |
    | kvd-2-3                   |     17 |      8 |     0 |     0 |  17 |           0 |   0 % [0.0, 41.3] |    100 % / 0 [0, 7] |    100 % / 0 [0, 7] |  100 % / 0 [0, 7] |   100 % / 0 [0, 7] |    100 % / 0 [0, 7] |   100 % / 0 [0, 7] |   100 % / 0 [0, 7] | 29 % / 0 |
    | kvd-2-3-bare              |     17 |      8 |     8 |     0 |   5 |           4 | 47 % [16.2, 80.4] |   100 % / 8 [3, 14] |   100 % / 8 [3, 14] | 100 % / 8 [3, 14] |  100 % / 8 [3, 14] |   100 % / 8 [3, 14] |  100 % / 8 [3, 14] |  100 % / 8 [3, 14] | 29 % / 0 |
    | kvd-3-4                   |     17 |      8 |     0 |     0 |  17 |           0 |   0 % [0.0, 41.3] |    100 % / 0 [0, 7] |    100 % / 0 [0, 7] |  100 % / 0 [0, 7] |   100 % / 0 [0, 7] |    100 % / 0 [0, 7] |   100 % / 0 [0, 7] |   100 % / 0 [0, 7] | 29 % / 0 |
    | total no-transformer      |     17 |      8 |     0 |     4 |  13 |           0 |  24 % [5.1, 63.9] |    76 % / 4 [1, 11] |    76 % / 4 [1, 11] |   24 % / 0 [0, 4] |  100 % / 4 [1, 11] |    76 % / 4 [1, 11] |  100 % / 4 [1, 11] |  100 % / 4 [1, 11] | 29 % / 0 |
    | total with-transformer    |     17 |      8 |     0 |     0 |  17 |           0 |   0 % [0.0, 41.3] |    100 % / 0 [0, 7] |    100 % / 0 [0, 7] |  100 % / 0 [0, 7] |   100 % / 0 [0, 7] |    100 % / 0 [0, 7] |   100 % / 0 [0, 7] |   100 % / 0 [0, 7] | 29 % / 0 |
    | total lacking-transformer |     17 |      8 |     8 |     0 |   5 |           4 | 47 % [16.2, 80.4] |   100 % / 8 [3, 14] |   100 % / 8 [3, 14] | 100 % / 8 [3, 14] |  100 % / 8 [3, 14] |   100 % / 8 [3, 14] |  100 % / 8 [3, 14] |  100 % / 8 [3, 14] | 29 % / 0 |
    | total                     |     51 |     24 |     8 |     4 |  35 |           4 |  24 % [9.4, 47.7] | 92.2 % / 12 [5, 24] | 92.2 % / 12 [5, 24] |  75 % / 8 [3, 19] | 100 % / 12 [5, 24] | 92.2 % / 12 [5, 24] | 100 % / 12 [5, 24] | 100 % / 12 [5, 24] | 29 % / 0 |

    Verdicts are counts of points; `failing` is the share of the points. Where fewer were `tested` and nothing was sampled, the others are judged from the test of an equivalent point. A policy's column holds the share of the points that it allows, and behind the slash how many of these fail. AS: activeness safety.

    Counts are weighted estimates from a sample; brackets hold 95 % intervals (Wilson).

    Unreached, in no total: no workload enters the changed code of kvd-3-4.
    ");
}

#[test]
fn a_report_is_the_same_when_made_again_and_leaves_nothing_old() {
    let runs = tempfile::tempdir().unwrap();
    let run = fixture::run(runs.path(), None);
    regenerate(run.dir(), fixture::judge).unwrap();
    let files = || -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
        walkdir::WalkDir::new(run.dir())
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect()
    };
    let before = files();
    fs::write(run.dir().join("plots/verdicts-9.svg"), "old").unwrap();
    fs::remove_file(run.dir().join("summary.csv")).unwrap();
    regenerate(run.dir(), fixture::judge).unwrap();
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        files().keys().collect::<Vec<_>>()
    );
    assert_eq!(before, files());
    let png = &before[&run.dir().join("plots/verdicts.png")];
    assert_eq!(&png[..4], b"\x89PNG");
}
