//! The forms of activeness on a tiny server, from the manifest to the tables.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use support::Project;

/// Replaces text in a file of the project, which must have it.
fn edit(project: &Project, file: &str, from: &str, to: &str) {
    let path = project.root().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// What each policy says of each row, by column.
fn decisions(dir: &Path, column: &str) -> Vec<String> {
    csv::Reader::from_path(dir.join("tests.csv"))
        .unwrap()
        .deserialize::<BTreeMap<String, String>>()
        .map(|row| row.unwrap()[column].clone())
        .collect()
}

/// `serve` never returns. A macro changes it, but nobody edited it; `echo` was
/// edited, but its code is the same.
fn project() -> Project {
    let exchange = |word: &str| format!("send c {word}\nawait c lines 2");
    let session = format!(
        "open c main\n{}\n\n{}\n\nclose c",
        exchange("A"),
        exchange("B")
    );
    let project = Project::of("loop").session("conformable", &session);
    project.write();
    edit(
        &project,
        "subjects/tiny/v2/main.c",
        "{ say(fd, line); }",
        "{ say((fd), line); }",
    );
    project
}

#[test]
fn the_forms_of_activeness_differ_where_they_should() {
    let project = project();
    edit(
        &project,
        "subjects/tiny/subject.toml",
        "[[version]]",
        "except_named = [\"serve\", \"nobody\"]\n[[version]]",
    );
    let run = project.study_as("run", "");
    let all = |dir: &Path, column: &str, expected: &str| {
        assert_eq!(decisions(dir, column), [expected; 2], "{column}");
    };
    all(&run.dir, "activeness", "refused");
    all(&run.dir, "activeness_conservative", "refused");
    all(&run.dir, "activeness_except_named", "allowed");
    // `echo` is entered, and its old code runs although it was edited.
    all(&run.dir, "activeness_edited", "refused");
    let refusals = fs::read_to_string(run.dir.join("refusals.csv")).unwrap();
    assert!(refusals.contains("entered-not-redirected"), "{refusals}");

    let patch = project
        .kairos()
        .args(["patch", "tiny-v1-v2"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&patch.stdout);
    assert!(told.contains("functions changed (1): serve"), "{told}");
    assert!(told.contains("functions edited (text) (1): echo"), "{told}");
    assert!(
        told.contains("unknown-exception: `except_named` names nobody"),
        "{told}"
    );

    // A run from before these policies reports, and its new columns refuse.
    let pairs = run.dir.join("pairs.jsonl");
    let old: Vec<String> = fs::read_to_string(&pairs)
        .unwrap()
        .lines()
        .map(|line| {
            let mut pair: Value = serde_json::from_str(line).unwrap();
            pair.as_object_mut()
                .unwrap()
                .remove("except_named")
                .unwrap();
            let patch = pair["patch"].as_object_mut().unwrap();
            patch.remove("edited").unwrap();
            format!("{pair}\n")
        })
        .collect();
    fs::write(&pairs, old.concat()).unwrap();
    let report = project
        .kairos()
        .arg("report")
        .arg(&run.dir)
        .output()
        .unwrap();
    assert!(report.status.success(), "{report:?}");
    all(&run.dir, "activeness_edited", "refused");
    all(&run.dir, "activeness_except_named", "refused");
    let refusals = fs::read_to_string(run.dir.join("refusals.csv")).unwrap();
    for reason in ["edited-not-recorded", "names-not-recorded"] {
        assert!(refusals.contains(reason), "{refusals}");
    }
}

#[test]
fn a_pair_may_name_other_exceptions_and_a_macro_is_no_edit() {
    let project = project();
    edit(
        &project,
        "subjects/tiny/subject.toml",
        "[[version]]",
        "except_named = [\"serve\"]\n[[version]]",
    );
    edit(
        &project,
        "subjects/tiny/v2/main.c",
        "{ say((fd), line); }",
        "{\n  /* as it was */ say( fd,line );\n}",
    );
    edit(
        &project,
        "update-pairs/tiny-v1-v2/pair.toml",
        "new = ",
        "except_named = []\nnew = ",
    );
    let run = project.study_as("run", "");
    assert_eq!(decisions(&run.dir, "activeness"), ["refused"; 2]);
    assert_eq!(
        decisions(&run.dir, "activeness_except_named"),
        ["refused"; 2]
    );
    assert_eq!(decisions(&run.dir, "activeness_edited"), ["allowed"; 2]);
}
