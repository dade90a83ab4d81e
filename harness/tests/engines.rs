//! Engines differ in speed, never in what they observe: every test of the fork server
//! shows the same as restart's at the same point. Where a server cannot be copied it is
//! said why.

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Project, report_of};

/// The folder of archives, if it holds all these; says so otherwise.
fn archives(test: &str, files: &[&str]) -> Option<PathBuf> {
    let folder = std::env::var_os("KAIROS_ARCHIVES").map(PathBuf::from);
    let found = folder.filter(|folder| files.iter().all(|file| folder.join(file).is_file()));
    if found.is_none() {
        let files = files.join(", ");
        println!("skipped: {test}: KAIROS_ARCHIVES names no folder with {files}");
    }
    found
}

/// Compares engines at every point of the sessions of a tiny server.
fn compare_tiny(project: &Project) -> Value {
    project.write();
    report_of(
        project
            .kairos()
            .args(["bench", "--engines-only", "--json", "--every-point"])
            .args(["--subject", "tiny"]),
    )
}

/// Compares engines at points of a session of the project's own subjects.
fn compare(arguments: &str) -> Value {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    report_of(
        support::kairos()
            .arg("--root")
            .arg(root)
            // Builds serve all tests of this file, run after run.
            .env(
                "KAIROS_CACHE",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
            )
            .args(["bench", "--engines-only", "--json"])
            .args(arguments.split_ascii_whitespace()),
    )
}

/// Asserts that the fork server was used and every engine showed the same as restart
/// everywhere; returns at how many points.
fn agrees(arguments: &str) -> u64 {
    compared_without_difference(&compare(arguments))
}

fn compared_without_difference(report: &Value) -> u64 {
    let mut by_copies = None;
    for engine in report["engines"].as_array().unwrap() {
        let differences = engine["differences"].as_array().unwrap();
        assert!(
            differences.is_empty(),
            "{}: {differences:#?}",
            report["pair"]
        );
        if engine["engine"] == "fork-server" {
            by_copies = engine["compared"].as_u64();
            assert_eq!(engine["by_restart"], 0, "{engine}");
        }
    }
    by_copies.unwrap_or_else(|| panic!("{}", report["notes"]))
}

#[test]
fn an_update_without_a_transformer_shows_the_same_at_every_point() {
    assert!(agrees("--pair kvd-v1-v2 --workload numbers --every-point") > 300);
}

#[test]
fn an_update_with_a_transformer_shows_the_same_at_every_point() {
    assert!(agrees("--pair kvd-v2-v3 --workload admin --every-point") > 100);
}

#[test]
fn converting_live_state_shows_the_same_at_every_point() {
    assert!(agrees("--pair kvd-v8-v9 --workload post-update --every-point") > 100);
}

#[test]
fn the_control_arm_shows_the_same_at_every_point() {
    assert!(agrees("--pair kvd-v1-v7 --workload two-clients --control --every-point") > 100);
}

#[test]
fn a_planted_fault_shows_the_same_at_every_point() {
    let report = "--pair kvd-v1-v2 --workload numbers --planted-fault parse_number --every-point";
    assert!(agrees(report) > 100);
}

#[test]
fn real_servers_show_the_same_at_sampled_points() {
    let ngircd = ["ngircd_27.orig.tar.xz", "ngircd_28.orig.tar.xz"];
    if archives("ngircd", &ngircd).is_some() {
        assert_eq!(
            agrees("--engine fork-server --pair ngircd-27-28 --workload channel --tests 80"),
            80
        );
    }
    let vsftpd = ["vsftpd_3.0.5.orig.tar.gz", "vsftpd_3.0.5-1.tar.xz"];
    if archives("vsftpd", &vsftpd).is_some() {
        assert_eq!(
            agrees("--engine fork-server --pair vsftpd-q0040-q0050 --workload filters --tests 80"),
            80
        );
    }
    let lighttpd = ["lighttpd_1.4.79.orig.tar.xz", "lighttpd_1.4.85.orig.tar.xz"];
    if archives("lighttpd", &lighttpd).is_some() {
        let session = "--pair lighttpd-1.4.79-1.4.85-bare --workload files --tests 60";
        assert_eq!(agrees(&format!("--engine fork-server {session}")), 60);
    }
}

#[test]
fn kairos_itself_does_not_grow_with_the_tests() {
    let project = Project::of("stall").session("conformable", SESSION);
    project.write();
    let report = report_of(
        project
            .kairos()
            .args(["bench", "--engines-only", "--json", "--tests", "300"])
            .args(["--subject", "tiny", "--control"]),
    );
    let burdens = report["burdens"].as_array().unwrap();
    let (early, late) = burdens.split_at(burdens.len() / 2);
    // The coordinator, restart, the fork server, and rollback where the kernel allows it.
    assert!(early.len() >= 3, "{report}");
    for (early, late) in early.iter().zip(late) {
        assert_eq!(early["process"], late["process"]);
        let of = |row: &Value, field: &str| row[field].as_u64().unwrap();
        let open = |row| of(row, "descriptors");
        // A server that is kept, or is not at the moment, makes the difference of a few.
        assert!(open(late) <= open(early) + 8, "{early} {late}");
        let resident = |row| of(row, "resident_kib");
        assert!(resident(late) <= resident(early) + 4096, "{early} {late}");
    }
}

const SESSION: &str = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";

/// Numbers, sockets, pipes, counters, timers, positions: each reply tells of them.
const BELONGINGS: &str = "open c main
send c A
await c *

signal server SIGUSR1

send c B
await c *

send c shut
await c *

open d main
await d eof

close c";

#[test]
fn a_copy_has_what_a_fresh_server_has_and_shares_none_of_it() {
    let mut project = Project::of("belongings").session("conformable", BELONGINGS);
    project
        .manifest
        .push_str("[[log]]\npath = \"server.log\"\n[state]\nfiles = [\"**\"]\n");
    let report = compare_tiny(&project);
    assert!(compared_without_difference(&report) > 10);
}

#[test]
fn what_cannot_be_copied_is_named() {
    let why = |project: &Project| {
        let report = compare_tiny(project);
        let notes = report["notes"].as_array().unwrap().iter();
        let mut notes = notes.map(|note| note.as_str().unwrap());
        let of_copies = notes.find(|note| note.starts_with("fork-server"));
        of_copies.unwrap_or_else(|| panic!("{report}")).to_owned()
    };
    let mut threads = Project::of("threads").session("conformable", SESSION);
    threads.step = "$CC -pthread -o tiny main.c".to_owned();
    let said = why(&threads);
    assert!(said.contains("threads"), "{said}");
    let mut locked = Project::of("belongings").session("conformable", BELONGINGS);
    let source = &locked.source;
    let source = source.replace(
        "    close(file);\n    if (pipe2",
        "    lockf(file, F_LOCK, 0);\n    if (pipe2",
    );
    assert_ne!(source, locked.source);
    locked.source = source;
    let said = why(&locked);
    assert!(said.contains("holds a lock by descriptor"), "{said}");
}

#[test]
fn a_study_says_which_engine_ran_and_why() {
    let project = Project::of("stall").session("conformable", SESSION);
    project.write();
    let run = |engine: &str| {
        let out = project.out(engine);
        let output = project
            .kairos()
            .args(["study", "--exhaustive", "--engine", engine, "--out"])
            .arg(&out)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{message}");
        let facts = std::fs::read(out.join("run.json")).unwrap();
        let facts: Value = serde_json::from_slice(&facts).unwrap();
        (
            facts["engines"][0].clone(),
            support::rows::read(&out),
            message,
        )
    };
    let (chosen, rows, message) = run("fork-server");
    assert_eq!(chosen["engine"], "fork-server", "{chosen}");
    assert!(message.contains("engine fork-server"), "{message}");
    assert!(rows.iter().all(|row| row.engine == "fork-server"));
    let (chosen, restarted, _) = run("restart");
    assert_eq!(chosen["engine"], "restart", "{chosen}");
    let verdicts = |rows: &[support::rows::Row]| -> Vec<String> {
        rows.iter().map(|row| row.verdict.clone()).collect()
    };
    assert_eq!(verdicts(&rows), verdicts(&restarted));
    let (chosen, _, _) = run("auto");
    assert!(
        chosen["why"].as_str().unwrap().contains("restart"),
        "{chosen}"
    );
}
