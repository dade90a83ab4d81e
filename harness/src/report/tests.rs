use super::export::Terminal;
use super::*;
use crate::analysis::fixture;

#[test]
fn the_study_table_for_people() {
    let runs = tempfile::tempdir().unwrap();
    let run = fixture::run(runs.path(), None);
    let analysis = analysis::analyse(&run, fixture::judge).unwrap();
    let text = Markdown.export(&tables::study(&analysis.summary)).unwrap();
    insta::assert_snapshot!(text, @"");
    let text = Markdown.export(&tables::failures(&analysis.rows)).unwrap();
    insta::assert_snapshot!(text, @"");
    let text = Markdown.export(&tables::delays(&analysis.summary)).unwrap();
    insta::assert_snapshot!(text, @"");
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
    insta::assert_snapshot!(text, @"");
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
