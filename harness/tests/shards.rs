//! A study that is planned once and shared out: its parts join to the whole.

mod support;

use std::fs;
use std::process::Command;

use support::runs::{ARGUMENTS, recursion, resume, sessions, succeeds, told};
use support::table::without_time;

#[test]
fn parts_of_a_plan_join_to_the_whole() {
    let project = sessions();
    let whole = project.study(ARGUMENTS);
    let planned = project.out("planned");
    let output = succeeds(
        project
            .kairos()
            .args(["plan", "--exhaustive", "--jobs", "2", "--json", "--out"])
            .arg(&planned),
    );
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = without_time(&whole.dir).len() - 1;
    assert_eq!(shown["tests"], rows, "{shown}");
    assert!(
        shown["estimated_seconds"].as_f64().unwrap() > 0.0,
        "{shown}"
    );
    assert_eq!(shown["rows"].as_array().unwrap().len(), 4, "{shown}");
    let mut sizes = Vec::new();
    for part in 1..=3 {
        let name = format!("part{part}");
        let dir = project.out(&name);
        succeeds(Command::new("cp").arg("-r").arg(&planned).arg(&dir));
        succeeds(
            resume(&project, &name)
                .arg("--shard")
                .arg(format!("{part}/3")),
        );
        sizes.push(
            fs::read_to_string(dir.join("tests.jsonl"))
                .unwrap()
                .lines()
                .count(),
        );
    }
    assert_eq!(sizes.iter().sum::<usize>(), rows, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    // Part 2 twice: its tests count once.
    let merge = |out: &str, parts: &[&str]| {
        let mut command = project.kairos();
        command.arg("merge").arg(project.out(out));
        command.args(parts.iter().map(|part| project.out(part)));
        command.output().unwrap()
    };
    let output = merge("joined", &["part1", "part2", "part3", "part2"]);
    assert!(output.status.success(), "{}", told(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let twice = format!(
        "{rows} of {rows} tests from 4 runs; {} were in more",
        sizes[1]
    );
    assert!(printed.contains(&twice), "{printed}");
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("joined"))
    );
    // Controls of each session were run by one part.
    let facts = |name: &str| -> serde_json::Value {
        let text = fs::read_to_string(project.out(name).join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(
        facts("joined")["controls"].as_array().unwrap().len(),
        facts("run")["controls"].as_array().unwrap().len()
    );
    // Without part 3 the rest is missing, and can be run in place.
    let output = merge("rest", &["part1", "part2"]);
    assert!(told(&output).contains("--resume"), "{}", told(&output));
    succeeds(&mut resume(&project, "rest"));
    assert_eq!(without_time(&whole.dir), without_time(&project.out("rest")));
}

#[test]
fn what_does_not_fit_the_joined_run_is_kept_beside_it() {
    let project = recursion();
    project.study(ARGUMENTS);
    succeeds(
        Command::new("cp")
            .arg("-r")
            .arg(project.out("run"))
            .arg(project.out("other")),
    );
    // In the other run one test showed something else, and one is of another plan.
    let path = project.out("other").join("tests.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[0] = lines[0].replacen(
        "\"stall\":null",
        "\"stall\":{\"exchange\":0,\"waiting_for\":\"x\",\"busy\":false}",
        1,
    );
    lines[1] = lines[1].replacen("\"test\":\"", "\"test\":\"else-", 1);
    assert_ne!(lines.join("\n"), text.trim_end());
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let output = succeeds(
        project
            .kairos()
            .arg("merge")
            .args(["joined", "run", "other"].map(|name| project.out(name))),
    );
    let told = told(&output);
    for why in ["another part saw something else", "it is in no plan"] {
        assert!(
            told.contains(&format!("1 tests were left out: {why}")),
            "{told}"
        );
    }
    assert_eq!(
        without_time(&project.out("run")),
        without_time(&project.out("joined"))
    );
    let kept = fs::read_to_string(project.out("joined").join("left-out.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 2);
}
