use std::fs::OpenOptions;
use std::io::Write;

use super::*;

fn record(test: &str) -> TestRecord {
    TestRecord {
        test: test.to_owned(),
        observations: Vec::new(),
        known_from: None,
        engine: "restart".to_owned(),
        wall_us: 4200,
    }
}

fn tests_of(dir: &Path) -> Vec<String> {
    Run::load(dir)
        .unwrap()
        .tests()
        .unwrap()
        .map(|record| record.unwrap().test)
        .collect()
}

#[test]
fn a_run_is_named_by_time_and_hash_and_read_back() {
    let runs = tempfile::tempdir().unwrap();
    let facts = RunFacts {
        arguments: vec!["study".to_owned()],
        seed: 7,
        ..RunFacts::default()
    };
    let mut store = RunStore::create(runs.path(), None, facts).unwrap();
    let name = store
        .dir()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let (time, hash) = name.split_once('-').unwrap();
    assert!(
        time.ends_with('Z') && time.contains('T') && hash.len() == 8,
        "{name}"
    );
    store.append_test(&record("a")).unwrap();
    store
        .update_facts(|facts| facts.class_disagreements = Some(0))
        .unwrap();
    let run = Run::load(store.dir()).unwrap();
    assert_eq!(run.facts.id, name);
    assert_eq!(run.facts.seed, 7);
    assert_eq!(run.facts.class_disagreements, Some(0));
    assert_eq!(tests_of(store.dir()), ["a"]);
}

#[test]
fn a_torn_last_line_is_left_out_and_cut_off_on_resumption() {
    let runs = tempfile::tempdir().unwrap();
    let mut store = RunStore::create(runs.path(), None, RunFacts::default()).unwrap();
    let dir = store.dir().to_owned();
    store.append_test(&record("a")).unwrap();
    drop(store);
    let mut file = OpenOptions::new()
        .append(true)
        .open(dir.join(TESTS))
        .unwrap();
    file.write_all(br#"{"test":"b","observ"#).unwrap();
    assert_eq!(tests_of(&dir), ["a"]);
    let mut store = RunStore::open(&dir).unwrap();
    store.append_test(&record("c")).unwrap();
    assert_eq!(tests_of(&dir), ["a", "c"]);
    assert_eq!(
        store.finished().unwrap(),
        BTreeSet::from(["a".to_owned(), "c".to_owned()])
    );
}

#[test]
fn a_damaged_line_in_the_middle_is_an_error_with_its_number() {
    let runs = tempfile::tempdir().unwrap();
    let mut store = RunStore::create(runs.path(), None, RunFacts::default()).unwrap();
    store.append_test(&record("a")).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(store.dir().join(TESTS))
        .unwrap();
    file.write_all(b"nonsense\n").unwrap();
    let error = store.finished().unwrap_err().to_string();
    assert!(error.contains("tests.jsonl`, line 2"), "{error}");
}

#[test]
fn foreign_and_used_folders_are_refused_clearly() {
    let runs = tempfile::tempdir().unwrap();
    let out = runs.path().join("out");
    fs::create_dir(&out).unwrap();
    drop(RunStore::create(runs.path(), Some(&out), RunFacts::default()).unwrap());
    let used = RunStore::create(runs.path(), Some(&out), RunFacts::default()).unwrap_err();
    assert!(used.to_string().contains("--resume"), "{used}");
    let foreign = RunStore::create(runs.path(), Some(runs.path()), RunFacts::default());
    assert!(foreign.unwrap_err().to_string().contains("is not empty"));
    let none = RunStore::open(runs.path()).unwrap_err();
    assert!(matches!(none, StoreError::NotARun(_)));
}

#[test]
fn a_second_writer_is_kept_out() {
    let runs = tempfile::tempdir().unwrap();
    let store = RunStore::create(runs.path(), None, RunFacts::default()).unwrap();
    assert!(matches!(
        RunStore::open(store.dir()),
        Err(StoreError::Busy(_))
    ));
}

#[test]
fn a_full_disk_names_the_file_and_what_to_do() {
    let mut full = LineFile::open(Path::new("/dev/full")).unwrap();
    let error = full.append(&record("a")).unwrap_err().to_string();
    assert!(
        error.contains("/dev/full") && error.contains("free some space"),
        "{error}"
    );
}

#[test]
fn divisions_follow_transformer_and_variant() {
    assert_eq!(Division::of("kvd-1-2", false), Division::NoTransformer);
    assert_eq!(Division::of("kvd-1-2", true), Division::WithTransformer);
    assert_eq!(
        Division::of("kvd-1-2-bare", false),
        Division::LackingTransformer
    );
}

#[test]
fn a_record_written_again_counts_once_as_written_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut file = LineFile::open(&path).unwrap();
    for record in [("a", 1), ("b", 2), ("a", 3)] {
        file.append(&record).unwrap();
    }
    let records: Vec<(String, u32)> =
        read_latest(&path, |record: &(String, u32)| record.0.clone()).unwrap();
    assert_eq!(records, [("a".to_owned(), 3), ("b".to_owned(), 2)]);
}
