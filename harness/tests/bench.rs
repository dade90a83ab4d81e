//! `kairos bench` on a tiny server: every way is measured, and gdb's verdicts are
//! the restart engine's, where gdb is installed.

mod support;

use support::Project;

const SESSION: &str = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";

#[test]
fn every_way_is_measured_and_gdb_agrees() {
    let project = Project::of("stall").session("conformable", SESSION);
    project.write();
    let out = project.out("bench");
    let output = project
        .kairos()
        .args([
            "bench",
            "--subject",
            "tiny",
            "--tests",
            "3",
            "--json",
            "--out",
        ])
        .arg(&out)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stderr}{stdout}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let ways: Vec<&str> = rows.iter().map(|r| r["engine"].as_str().unwrap()).collect();
    let notes: Vec<&str> = report["notes"]
        .as_array()
        .map(|notes| notes.iter().map(|note| note.as_str().unwrap()).collect())
        .unwrap_or_default();
    let mut expected = vec!["untraced", "stop-and-go", "restart"];
    // An old kernel cannot tell which pages were written; the note says so.
    match notes.iter().find(|note| note.starts_with("rollback")) {
        None => expected.extend(["rollback", "floor"]),
        Some(note) => assert!(
            note.contains("userfaultfd") || note.contains("UFFDIO") || note.contains("PAGEMAP"),
            "{note}"
        ),
    }
    expected.extend(["fork-snapshot", "fork-server"]);
    let unable = |note: &&str| note.contains("it cannot write this processor's registers");
    if notes.iter().any(unable) {
        assert_eq!(ways, expected, "{report}");
    } else if std::path::Path::new("/usr/bin/gdb").exists() {
        expected.push("gdb");
        assert_eq!(ways, expected, "{report}");
        assert_eq!(report["agreement"]["compared"], 3, "{report}");
        assert_eq!(report["agreement"]["differences"], serde_json::json!([]));
    } else {
        assert_eq!(ways, expected, "{report}");
        let told = |note: &&str| note.contains("install the Debian package gdb");
        assert!(notes.iter().any(told), "{notes:?}");
    }
    for engine in report["engines"].as_array().unwrap() {
        assert_eq!(engine["compared"], 3, "{report}");
        assert_eq!(engine["differences"], serde_json::json!([]));
    }
    let stages = report["stages"].as_array().unwrap();
    for engine in ["restart", "fork-server"] {
        let of_engine = |row: &&serde_json::Value| row["engine"] == engine;
        assert_eq!(stages.iter().filter(of_engine).count(), 10, "{report}");
    }
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap();
        assert_eq!(row["tests"], 3);
        assert!(number("us_p10") <= number("us_median"));
        assert!(number("us_median") <= number("us_p90"));
    }
    assert!(out.join("bench.md").is_file() && out.join("bench.json").is_file());
}

#[test]
fn the_script_is_shown_and_unknown_names_are_refused() {
    let project = Project::of("stall").session("conformable", SESSION);
    project.write();
    let run = |arguments: &[&str]| {
        project
            .kairos()
            .arg("bench")
            .args(arguments)
            .output()
            .unwrap()
    };
    let shown = run(&["--pair", "tiny-v1-v2", "--print-gdb-script"]);
    let script = String::from_utf8(shown.stdout).unwrap();
    assert!(
        script.contains("gdb.Breakpoint") && script.contains("JUMPS = ["),
        "{script}"
    );
    let unknown = run(&["--subject", "tiny", "--workload", "none"]);
    assert_eq!(unknown.status.code(), Some(2));
    let message = String::from_utf8_lossy(&unknown.stderr);
    assert!(message.contains("no workload is named 'none'"), "{message}");
}

#[test]
fn a_script_that_would_have_to_convert_live_state_is_declined() {
    let project = Project::of("renamed").session("backward-compatible", SESSION);
    project.write();
    let run = |arguments: &[&str]| {
        let mut command = project.kairos();
        command.arg("bench").args(arguments).output().unwrap()
    };
    let why = "gdb: not measured: tiny-v1-v2 converts live state (struct place), which a batch \
               script does not";
    let shown = run(&["--subject", "tiny", "--print-gdb-script"]);
    let stderr = String::from_utf8_lossy(&shown.stderr);
    assert!(!shown.status.success() && stderr.contains(why), "{stderr}");
    let measured = run(&[
        "--subject",
        "tiny",
        "--tests",
        "1",
        "--json",
        "--engine",
        "restart",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
    assert_eq!(report["notes"], serde_json::json!([why]), "{report}");
    assert_eq!(report["rows"].as_array().unwrap().len(), 3, "{report}");
}
