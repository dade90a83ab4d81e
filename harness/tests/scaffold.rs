//! `kairos subjects new`: what it refuses, that it never overwrites, and that of a
//! failure nothing is left. docs/tutorial.md shows the way to a working subject.

mod support;

use std::fs;
use std::path::Path;
use std::process::Output;

fn begin(root: &Path, arguments: &[&str]) -> Output {
    support::kairos()
        .arg("--root")
        .arg(root)
        .args(["subjects", "new"])
        .args(arguments)
        .current_dir(root)
        .output()
        .unwrap()
}

fn project() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in ["subjects", "update-pairs", "source"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    let makefile = "served: served.c\n\t$(CC) -o $@ $<\n";
    fs::write(root.path().join("source/Makefile"), makefile).unwrap();
    root
}

fn refused(root: &Path, arguments: &[&str], part: &str) {
    let output = begin(root, arguments);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(part), "{message}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn wrong_names_and_sources_are_refused_and_leave_nothing() {
    let project = project();
    let root = project.path();
    refused(root, &["a-b", "source"], "'a-b' cannot name a subject");
    refused(root, &["../x", "source"], "cannot name a subject");
    refused(
        root,
        &["served", "nowhere"],
        "neither a folder nor a tar archive",
    );
    refused(root, &["served", "."], "holds this project");
    refused(
        root,
        &["served", "source", "--second", "source/Makefile"],
        "neither a folder nor a tar archive",
    );
    assert!(names(&root.join("subjects")).is_empty());
    assert!(names(&root.join("update-pairs")).is_empty());
}

#[test]
fn nothing_is_overwritten() {
    let project = project();
    let root = project.path();
    assert!(begin(root, &["served", "source"]).status.success());
    let manifest = root.join("subjects/served/subject.toml");
    fs::write(&manifest, "mine").unwrap();
    refused(root, &["served", "source"], "exists already");
    assert_eq!(fs::read_to_string(&manifest).unwrap(), "mine");
    let pair = root.join("update-pairs/other-v1-v2");
    fs::create_dir(&pair).unwrap();
    let both = ["other", "source", "--second", "source"];
    refused(root, &both, "other-v1-v2 exists already");
    assert_eq!(names(&root.join("subjects")), ["served"]);
    assert!(names(&pair).is_empty());
}

/// Filled in by a person's least effort, one place after the other, the manifest is
/// accepted: there is no place that was not marked.
#[test]
fn each_place_is_refused_until_it_is_filled_in() {
    let project = project();
    let root = project.path();
    let both = ["served", "source", "--second", "source"];
    let begun = begin(root, &both);
    assert!(begun.status.success());
    let shown = String::from_utf8(begun.stdout).unwrap();
    assert!(shown.contains("guessed from Makefile"), "{shown}");
    assert!(
        shown.contains("kairos study --pair served-v1-v2"),
        "{shown}"
    );
    let manifest = root.join("subjects/served/subject.toml");
    let list = || {
        let mut command = support::kairos();
        command.arg("--root").arg(root).args(["subjects", "list"]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (mark, filled) in [
        ("fill in: what the server is, in one line", "a server"),
        (
            "fill in: arguments, such as -p {port} -l {run}/server.log",
            "{port}",
        ),
        ("main = 0", "main = 7000"),
    ] {
        let text = fs::read_to_string(&manifest).unwrap();
        let line = text.lines().position(|line| line.contains(mark)).unwrap() + 1;
        let message = list();
        assert!(
            message.contains(&format!("subject.toml:{line}:")),
            "{message}"
        );
        fs::write(&manifest, text.replacen(mark, filled, 1)).unwrap();
    }
    assert_eq!(list(), "");
}
