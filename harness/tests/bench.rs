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
    assert!(output.status.success(), "{stderr}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let ways: Vec<&str> = rows.iter().map(|r| r["engine"].as_str().unwrap()).collect();
    if std::path::Path::new("/usr/bin/gdb").exists() {
        assert_eq!(
            ways,
            ["untraced", "stop-and-go", "restart", "fork-server", "gdb"],
            "{report}"
        );
        assert_eq!(report["agreement"]["compared"], 3, "{report}");
        assert_eq!(report["agreement"]["differences"], serde_json::json!([]));
    } else {
        assert_eq!(ways, ["untraced", "stop-and-go", "restart", "fork-server"]);
        let note = report["notes"][0].as_str().unwrap();
        assert!(note.contains("install the Debian package gdb"), "{note}");
    }
    assert_eq!(report["engines"]["compared"], 3, "{report}");
    assert_eq!(report["engines"]["differences"], serde_json::json!([]));
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
