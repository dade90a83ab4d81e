//! Servers of several processes in the simulated world: at every point of a session a
//! test by rollback, or by fork snapshot where one process lives, shows what a test on
//! real sockets shows, and what is known of the server beforehand; also where tests go on
//! alike and stop early.

mod support;

use serde_json::{Value, json};
use support::{Project, compared, report_of};

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

/// Compares rollback with restart at every point; it leaves none to restart.
fn by_rollback(project: &Project) -> Value {
    let rollback = compared(project, "rollback");
    assert_eq!(rollback["by_restart"], 0, "{rollback}");
    rollback
}

#[test]
fn a_family_of_processes_is_seen_alike_at_every_point() {
    let rollback = by_rollback(&family());
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

fn hidden() -> Project {
    Project::of("hidden")
        .step("$CC -o tiny main.c -lm")
        .manifest(
            "[[role]]\nname = \"server\"\nfirst = true\n\
             [[role]]\nname = \"keeper\"\nparent = \"server\"\n",
        )
        .session("conformable", NOTES)
}

#[test]
fn what_no_reply_has_shown_yet_keeps_tests_apart() {
    let rollback = by_rollback(&hidden());
    assert!(rollback["compared"].as_u64().unwrap() > 20, "{rollback}");
    // Points between two notes need not be played to their end.
    assert!(rollback["stopped"].as_u64().unwrap() > 5, "{rollback}");
}

/// The same, but for the process that remembers: it is forked when something is first
/// noted in it, so that the server is alone before.
fn hidden_alone() -> Project {
    let mut project = hidden();
    let eager = "        if (socketpair(AF_UNIX, SOCK_STREAM, 0, child) != 0)
            abort();
        if (fork() == 0) {
            close(fd);
            close(child[0]);
            keep(child[1]);
        }
        close(child[1]);
";
    let when_noted = "static void note_in_process(void)
{
";
    let forks = "static void begin(void)
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, child) != 0)
        abort();
    if (fork() == 0) {
        close(child[0]);
        keep(child[1]);
    }
    close(child[1]);
}

static void note_in_process(void)
{
    if (child[0] == 0)
        begin();
";
    for (from, to) in [(eager, ""), (when_noted, forks)] {
        assert_eq!(project.source.matches(from).count(), 1);
        project.source = project.source.replace(from, to);
    }
    project
}

#[test]
fn a_copy_has_all_that_no_reply_has_shown_yet() {
    let copied = compared(&hidden_alone(), "fork-snapshot");
    let number = |name: &str| copied[name].as_u64().unwrap();
    assert!(number("compared") - number("by_restart") > 20, "{copied}");
    // In the exchanges behind the fork two processes live.
    assert!(number("by_restart") > 0, "{copied}");
    assert_eq!(copied["stopped"], 0, "{copied}");
}

/// A server that forks a process for each connection: at the entries of its listener no
/// other process lives, at those of a session two do.
#[test]
fn a_copy_is_made_where_one_process_lives_and_forks_behind_the_point() {
    let project = Project::of("sessions")
        .manifest(
            "[[role]]\nname = \"listener\"\nfirst = true\n\
             [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n",
        )
        .session(
            "conformable",
            "open c main\nsend c A\nawait c *\n\nclose c\n\n\
             open d main\nsend d B\nawait d *\n\nclose d",
        );
    let copied = compared(&project, "fork-snapshot");
    let number = |name: &str| copied[name].as_u64().unwrap();
    assert!(number("by_restart") > 0, "{copied}");
    assert!(number("compared") - number("by_restart") >= 2, "{copied}");
    let run = project.study_as("copied", "--engine fork-snapshot");
    for row in run.rows() {
        let alone = row.role == "listener";
        let engine = if alone { "fork-snapshot" } else { "restart" };
        assert_eq!(row.engine, engine, "{row:?}");
    }
}

/// Where a family lives, its points are restart's, and show the same. Nobody sleeps for
/// a real second here: every point is tested on real sockets twice.
#[test]
fn a_family_of_processes_is_left_to_restart() {
    let awake = SESSION.replace("send c sleep\nawait c rang\n\n", "");
    assert!(awake.len() < SESSION.len());
    let project = Project::of("family")
        .manifest(ROLES)
        .session("conformable", &awake);
    let copied = compared(&project, "fork-snapshot");
    assert!(copied["by_restart"].as_u64().unwrap() > 20, "{copied}");
}

/// Memory that a server shares would be written by copies, and is not put back.
#[test]
fn a_server_that_shares_memory_is_left_to_restart() {
    let mut project =
        Project::of("stall").session("conformable", "open c main\nsend c A\nawait c *\n\nclose c");
    let (opens, shares) = (
        "    int listener = listen_on(7000);\n",
        "    int listener = listen_on(7000);\n    int *shared = mmap(NULL, 4096, PROT_READ | \
         PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);\n    *shared = 1;\n",
    );
    assert_eq!(project.source.matches(opens).count(), 1);
    let header = "#include \"line_server.h\"\n";
    let with_map = format!("{header}#include <sys/mman.h>\n");
    let source = project.source.replace(header, &with_map);
    project.source = source.replace(opens, shares);
    project.write();
    let report = report_of(
        project
            .kairos()
            .args(["bench", "--engines-only", "--json", "--tests", "1"])
            .args(["--subject", "tiny"]),
    );
    let notes = report["notes"].to_string();
    for engine in ["rollback", "fork-snapshot", "fork-server"] {
        let why = format!("{engine}: not measured: it shares writable memory (");
        assert!(notes.contains(&why), "{notes}");
    }
}

/// A client whose connection the server shuts down closes it at once.
fn turns() -> Project {
    Project::of("turns")
        .manifest("[[role]]\nname = \"server\"\nfirst = true\n[state]\nfiles = [\"**\"]\n")
        .session("conformable", "open c main\nsend c leave\nawait c eof")
}

#[test]
fn who_acts_when_is_seen_alike_at_every_point() {
    let rollback = by_rollback(&turns());
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
