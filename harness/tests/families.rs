//! Servers of several processes in the simulated world: at every point of a session a
//! test by rollback shows what a test on real sockets shows, and what is known of the
//! server beforehand; also where tests go on alike and stop early.

mod support;

use serde_json::{Value, json};
use support::Project;

const ROLES: &str = "[[role]]\nname = \"listener\"\nfirst = true\n\
    [[role]]\nname = \"worker\"\nparent = \"keeper\"\n\
    [[role]]\nname = \"keeper\"\nparent = \"listener\"\n\
    [state]\nfiles = [\"**\"]\n";

/// Two families, one of which ends by a crash: numbers, descriptors passed on, folders,
/// alarms, ends and who is told of them.
const SESSION: &str = "open c main
send c who
await c my parent is *

send c ask
await c asked*

send c data
await c ready
open d other
send d over the other port
await c over*
finish d
await d eof

send c files
await c empty *

open e main
send e who
await e my parent is *

send c sleep
await c rang

send c ask
await c asked*

send e crash
await e worker died *
await e eof

send c leave
await c worker left *
await c eof
close c";

fn family() -> Project {
    Project::of("family")
        .manifest(ROLES)
        .session("conformable", SESSION)
}

/// Compares what rollback and restart show at every point of a project's session, and
/// returns how that went.
fn compared(project: &Project) -> Value {
    project.write();
    let output = project
        .kairos()
        .args(["bench", "--engines-only", "--json", "--every-point"])
        .args(["--subject", "tiny"])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {message}"));
    let engines = report["engines"].as_array().unwrap();
    let rollback = engines.iter().find(|engine| engine["engine"] == "rollback");
    let rollback = rollback.unwrap_or_else(|| panic!("{}", report["notes"]));
    assert_eq!(
        rollback["differences"],
        Value::Array(Vec::new()),
        "{report}"
    );
    assert_eq!(rollback["by_restart"], 0, "{report}");
    rollback.clone()
}

#[test]
fn a_family_of_processes_is_seen_alike_at_every_point() {
    let rollback = compared(&family());
    assert!(rollback["compared"].as_u64().unwrap() > 25, "{rollback}");
}

/// Nothing of this shows before the end of the session. Each note is made twice, so that
/// points in one exchange lie behind and before different notes.
const NOTES: &str = "open c main
send c heap
await c ok

send c frame
await c ok

send c file
await c ok

send c pipe
await c ok

send c rounding
await c ok

send c signals
await c ok

send c descriptors
await c ok

send c process
await c ok

send c heap
send c frame
send c file
send c pipe
await c ok
await c ok
await c ok
await c ok

send c tell
await c heap *
await c ok
close c";

#[test]
fn what_no_reply_has_shown_yet_keeps_tests_apart() {
    let project = Project::of("hidden")
        .step("$CC -o tiny main.c -lm")
        .manifest(
            "[[role]]\nname = \"server\"\nfirst = true\n\
             [[role]]\nname = \"keeper\"\nparent = \"server\"\n",
        )
        .session("conformable", NOTES);
    let rollback = compared(&project);
    assert!(rollback["compared"].as_u64().unwrap() > 20, "{rollback}");
    // Points between two notes need not be played to their end.
    assert!(rollback["stopped"].as_u64().unwrap() > 5, "{rollback}");
}

/// A client whose connection the server shuts down closes it at once.
fn turns() -> Project {
    Project::of("turns")
        .manifest("[[role]]\nname = \"server\"\nfirst = true\n[state]\nfiles = [\"**\"]\n")
        .session("conformable", "open c main\nsend c leave\nawait c eof")
}

#[test]
fn who_acts_when_is_seen_alike_at_every_point() {
    let rollback = compared(&turns());
    assert!(rollback["compared"].as_u64().unwrap() > 2, "{rollback}");
}

/// On real sockets, where it could be otherwise: a server that is at work sees no end of a
/// connection, and process 1 stops it.
#[test]
fn nobody_acts_before_the_server_waits() {
    let run = turns().study("--engine restart");
    let observations = run.observations();
    assert!(!observations.is_empty());
    for (place, observation) in observations {
        let notes = observation["files"]["notes"].as_str().unwrap();
        assert!(
            notes.ends_with("early 0\nasked by 1\n"),
            "{place:?}: {notes}"
        );
    }
}

/// What each process shows is known: the rows of a study by rollback say it.
#[test]
fn roles_and_endings_are_those_that_the_server_is_known_to_have() {
    let run = family().study("--engine rollback");
    let rows = run.rows();
    assert!(rows.iter().all(|row| row.engine == "rollback"));
    let (_, observation) = run.observations().into_iter().next().unwrap();
    let seen: Vec<Value> = observation["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|process| json!([process["role"], process["ending"]]))
        .collect();
    let known = json!([
        ["listener#1", { "killed": "SIGTERM" }],
        ["keeper#1", { "exited": 3 }],
        ["worker#1", { "exited": 3 }],
        ["keeper#2", { "exited": 20 }],
        ["worker#2", { "killed": "SIGABRT" }],
    ]);
    assert_eq!(Value::Array(seen), known);
}
