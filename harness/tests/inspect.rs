//! Looking into tests: `kairos explain`, `try`, `trace`, `diff`, and the logs of a
//! run, on tiny servers whose failures are known.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::leftovers::Before;
use support::{Project, Run};

const BACKWARD: &str = "backward-compatible";

/// Exchanges that each send one line on connection `c` and await one.
fn lines(words: &[&str]) -> String {
    let exchanges: Vec<String> = words
        .iter()
        .map(|word| format!("send c {word}\nawait c *"))
        .collect();
    format!("open c main\n{}\n\nclose c", exchanges.join("\n\n"))
}

/// An update between `add` and `store` makes `TELL` (exchange 2) say 3, not 2.
fn twice() -> Project {
    Project::of("twice").session(BACKWARD, &lines(&["ADD", "ADD", "TELL"]))
}

fn kairos(project: &Project, arguments: &[&str]) -> Output {
    project.kairos().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).unwrap()
}

fn expect_usage(output: &Output, part: &str) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains(part), "{message}");
}

fn dir(run: &Run) -> &str {
    run.dir.to_str().unwrap()
}

#[test]
fn explain_names_the_exchange_the_frame_and_the_policy() {
    let project = twice();
    let run = project.study("");
    let point = &run
        .rows()
        .into_iter()
        .find(|row| row.function == "store")
        .unwrap()
        .point;
    let explained = json(&kairos(&project, &["explain", dir(&run), point, "--json"]));
    let account = &explained[0];
    assert_eq!(account["verdict"], "wrong");
    assert_eq!(account["function"], "store");
    assert_eq!(account["active"], serde_json::json!(["add"]));
    assert_eq!(account["entered_before"], serde_json::json!({"add": 1}));
    let stack: Vec<&str> = account["stack"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|frame| frame["function"].as_str())
        .collect();
    assert_eq!(stack[..3], ["store", "add", "main"]);
    let policies = account["policies"].as_array().unwrap();
    let activeness = policies
        .iter()
        .find(|line| line["policy"] == "activeness")
        .unwrap();
    assert_eq!(activeness["decision"], "refused");
    assert_eq!(activeness["function"], "add");
    assert_eq!(activeness["frame"], 1);
    let seen = &account["runs"][0];
    assert_eq!(seen["first"], 2);
    let row = &seen["columns"][0]["rows"][0];
    assert_eq!(row["like"], "neither");
    assert_eq!(row["old"], "total 2\n");
    assert_eq!(row["new"], "total 2\n");
    assert_eq!(row["seen"], "total 3\n");
    // Both entries of `count` and of `store` fail in the same way.
    assert_eq!(account["frequency"]["same"], 4);
    assert_eq!(account["frequency"]["tested"], 7);

    let words = text(&kairos(&project, &["explain", dir(&run), point]));
    let command = format!("kairos try tiny-v1-v2 session '{point}'");
    for part in [
        "wrong at exchange 2",
        "changed function `add` is active in frame 1",
        "total 3",
        "version-inconsistent sequence",
        &command,
    ] {
        assert!(words.contains(part), "'{part}' is not in:\n{words}");
    }
}

#[test]
fn explain_finds_tests_by_what_one_types() {
    let project = twice();
    let run = project.study("");
    let causes = json(&kairos(&project, &["explain", dir(&run), "--json"]));
    assert_eq!(causes.as_array().unwrap().len(), 1);
    assert_eq!(causes[0]["tests"], 4);
    let first = causes[0]["first"].as_str().unwrap();
    let by = |arguments: &[&str]| {
        let mut all = vec!["explain", dir(&run), "--json"];
        all.extend(arguments);
        json(&kairos(&project, &all))[0]["test"].clone()
    };
    assert_eq!(by(&[first]), first);
    assert_eq!(by(&["--verdict", "wrong", "--first"]), first);
    assert_eq!(by(&["count", "--first"]), first);
    // What passes can be asked for, too.
    assert_ne!(by(&["tell"]), first);
    let ask = |query: &[&str]| {
        let mut all = vec!["explain", dir(&run)];
        all.extend(query);
        kairos(&project, &all)
    };
    expect_usage(&ask(&["count"]), "--first");
    expect_usage(&ask(&["nothing"]), "there is no `nothing`");
    expect_usage(&ask(&["--verdict", "bad"]), "there are: crash");
    let nowhere = kairos(&project, &["explain", "nowhere"]);
    expect_usage(&nowhere, "holds no Kairos run");
}

#[test]
fn try_reproduces_the_verdict_of_the_study() {
    let project = twice();
    let run = project.study("");
    let before = Before::look();
    for row in run.rows() {
        let (function, point) = (row.function.as_str(), row.point.as_str());
        if !["store", "tell"].contains(&function) {
            continue;
        }
        let tried = json(&kairos(
            &project,
            &["try", "tiny-v1-v2", "session", point, "--json"],
        ));
        assert_eq!(tried["verdict"], row.verdict.as_str(), "{point}");
        assert_eq!(tried["cause"], row.cause.as_str(), "{point}");
        assert_eq!(
            tried["runs"][0]["diverged_at"].as_u64(),
            row.diverged_at.map(u64::from)
        );
    }
    // A function means its first entry.
    let tried = json(&kairos(
        &project,
        &[
            "try",
            "tiny-v1-v2",
            "session",
            "store",
            "--json",
            "--repeat",
            "2",
        ],
    ));
    assert_eq!(tried["function"], "store");
    assert_eq!(tried["point"], "server#1/0@0:3");
    assert_eq!(tried["runs"].as_array().unwrap().len(), 2);
    let nothing = json(&kairos(
        &project,
        &[
            "try",
            "tiny-v1-v2",
            "session",
            "store",
            "--json",
            "--nothing",
        ],
    ));
    assert_eq!(nothing["verdict"], "new");
    let wrong = kairos(&project, &["try", "tiny-v1-v2", "session", "nobody"]);
    expect_usage(&wrong, "kairos trace tiny-v1-v2 session --points");
    let wrong = kairos(&project, &["try", "tiny-v1-v2", "none", "store"]);
    expect_usage(&wrong, "has the workloads session");
    before.compare(&project);
}

#[test]
fn try_keeps_what_the_test_left() {
    let project = Project::of("end_state")
        .manifest("[[role]]\nname = \"server\"\nfirst = true\n[state]\nfiles = [\"total\"]\n")
        .session(BACKWARD, &lines(&["ADD"]));
    project.write();
    let kept = project.out("kept");
    let arguments = ["try", "tiny-v1-v2", "session", "store", "--keep"];
    let mut all = arguments.to_vec();
    all.push(kept.to_str().unwrap());
    let words = text(&kairos(&project, &all));
    assert!(words.contains("state"), "{words}");
    let read = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
    assert_eq!(read("files/total"), "total 2\n");
    assert!(read("replies.txt").contains("file total"));
    assert!(read("stack.txt").contains("store"));
    assert!(read("observation.json").contains("\"wall_us\""));
    assert_eq!(read("stdout"), "");
    // Nothing is overwritten.
    let again = kairos(&project, &all);
    assert!(!again.status.success());
    let message = String::from_utf8_lossy(&again.stderr);
    assert!(message.contains("is not empty"), "{message}");
}

/// Files of a folder and below, with their content.
fn tree(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn failing_tests_have_logs_that_a_report_makes_again() {
    let project = Project::of("prints").session(BACKWARD, &lines(&["ONE", "TWO"]));
    let run = project.study("");
    let rows = run.rows();
    assert!(rows.iter().all(|row| row.verdict == "crash"), "{rows:?}");
    let logs = run.dir.join("logs");
    let files = tree(&logs);
    let all = |name: &str| -> Vec<&str> {
        let of_name = files.iter().filter(|(path, _)| path.ends_with(name));
        of_name.map(|(_, text)| text.as_str()).collect()
    };
    assert_eq!(all("output.txt").len(), rows.len());
    assert!(all("output.txt")[0].contains("serving ONE\nnever started\n"));
    assert!(all("fault.txt")[0].contains("killed by SIGABRT"));
    assert!(all("fault.txt")[0].contains("serve (new)"));
    assert!(all("stack.txt")[0].starts_with("#0  serve"));
    assert!(all("replies.txt")[0].contains("<RESET>") || all("replies.txt")[0].contains("<EOF>"));
    assert!(all("README.txt")[0].contains("crash server killed by SIGABRT"));
    fs::remove_dir_all(&logs).unwrap();
    text(&kairos(&project, &["report", dir(&run)]));
    assert_eq!(tree(&logs), files);
}

#[test]
fn what_passing_tests_printed_is_not_stored() {
    let project = Project::of("prints").session(BACKWARD, &lines(&["ONE"]));
    let run = project.study("--control");
    let records = fs::read_to_string(run.dir.join("tests.jsonl")).unwrap();
    assert!(
        !records.is_empty() && !records.contains("serving"),
        "{records}"
    );
    assert_eq!(tree(&run.dir.join("logs")).len(), 1);
}

#[test]
fn a_run_is_the_same_as_itself_and_differs_from_another() {
    let project = twice();
    let run = project.study("");
    let same = kairos(&project, &["diff", dir(&run), dir(&run)]);
    assert!(text(&same).contains("Both runs show the same; 7 tests are in both."));
    let sampled = project.study_as("sampled", "--sample 2");
    let other = kairos(&project, &["diff", dir(&run), dir(&sampled), "--json"]);
    assert_eq!(other.status.code(), Some(5));
    let difference: Value = serde_json::from_slice(&other.stdout).unwrap();
    let tested = sampled.rows().len();
    assert_eq!(difference["compared"], tested);
    assert_eq!(difference["only_first"]["count"], 7 - tested);
    assert_eq!(difference["only_second"]["count"], 0);
    assert_eq!(difference["verdicts"], serde_json::json!([]));
    assert!(difference["facts"].to_string().contains("sample"));

    // A test that ends in another way is counted by both verdicts.
    let changed = project.study_as("changed", "");
    let records = fs::read_to_string(changed.dir.join("tests.jsonl")).unwrap();
    fs::write(
        changed.dir.join("tests.jsonl"),
        records.replace("total 3", "total 2"),
    )
    .unwrap();
    let other = kairos(&project, &["diff", dir(&run), dir(&changed), "--json"]);
    let difference: Value = serde_json::from_slice(&other.stdout).unwrap();
    let verdicts = &difference["verdicts"][0];
    assert_eq!(verdicts["from"], "wrong");
    assert_eq!(verdicts["to"], "new");
    assert_eq!(verdicts["count"], 4);
    assert_ne!(difference["summary"], serde_json::json!([]));
}

#[test]
fn a_trace_tells_processes_exchanges_functions_and_points() {
    let project = twice();
    let run = project.study("");
    let recorded = json(&kairos(
        &project,
        &["trace", "tiny-v1-v2", "session", "--json"],
    ));
    let stored = json(&kairos(&project, &["trace", dir(&run), "--json"]));
    let points = |trace: &Value| -> Vec<String> {
        let points = trace["points"].as_array().unwrap();
        points.iter().map(|point| point["id"].to_string()).collect()
    };
    assert_eq!(points(&recorded).len(), 7);
    assert_eq!(points(&recorded), points(&stored));
    let words = text(&kairos(
        &project,
        &["trace", "tiny-v1-v2", "--points", "--stacks"],
    ));
    for part in [
        "server#1",
        "7 update points",
        "server#1/0@0:3",
        "tell",
        "changed",
        "stack 0",
    ] {
        assert!(words.contains(part), "'{part}' is not in:\n{words}");
    }
}

#[test]
fn gdb_finds_the_server_right_after_the_update() {
    let installed = std::process::Command::new("gdb").arg("--version").output();
    if installed.is_err() {
        eprintln!("skipped gdb_finds_the_server_right_after_the_update: gdb is not installed");
        return;
    }
    let project = twice();
    project.write();
    let before = Before::look();
    let output = kairos(
        &project,
        &[
            "try",
            "tiny-v1-v2",
            "session",
            "store",
            "--gdb",
            "--gdb-command",
            "print total",
            "--gdb-command",
            "break store_new",
            "--gdb-command",
            "continue",
            "--gdb-command",
            "backtrace",
        ],
    );
    let words = text(&output);
    let frames: Vec<&str> = words.lines().filter(|line| line.starts_with('#')).collect();
    // At the point: before `store`, called by the old `add`, which has counted.
    assert!(frames[0].contains("store ("), "{words}");
    assert!(frames[1].contains("add ("), "{words}");
    assert!(words.contains("$1 = 1"), "{words}");
    // Then in the new code, of the same callers.
    let new = frames.iter().position(|frame| frame.contains("store_new"));
    let new = new.unwrap_or_else(|| panic!("{words}"));
    assert!(frames[new + 1].contains("add ("), "{words}");
    assert!(frames[new + 2].contains("main ("), "{words}");
    before.compare(&project);
}
