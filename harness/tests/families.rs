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

/// What a process that is born behind the point remembers, on its stack or elsewhere,
/// keeps tests apart; else they need not be played to their end.
#[test]
fn what_a_process_born_behind_the_point_remembers_keeps_tests_apart() {
    let on_stack = "    char byte, kept = '?';\n";
    for kept in [on_stack, "    static char kept = '?';\n    char byte;\n"] {
        let mut project = hidden_alone();
        assert_eq!(project.source.matches(on_stack).count(), 1);
        project.source = project.source.replace(on_stack, kept);
        let rollback = by_rollback(&project);
        assert!(rollback["stopped"].as_u64().unwrap() > 5, "{rollback}");
    }
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

const ROLES_OF_SESSIONS: &str = "[[role]]\nname = \"listener\"\nfirst = true\n\
    [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n";

const TWO_SESSIONS: &str = "open c main\nsend c A\nawait c *\n\nclose c\n\n\
    open d main\nsend d B\nawait d *\n\nclose d";

/// A server that forks a process for each connection: at the entries of its listener no
/// other process lives, at those of a session two do.
#[test]
fn a_copy_is_made_where_one_process_lives_and_forks_behind_the_point() {
    let project = Project::of("sessions")
        .manifest(ROLES_OF_SESSIONS)
        .session("conformable", TWO_SESSIONS);
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

/// A server that makes a process for each connection, in namespaces of its own.
fn apart(identity: &'static str) -> Project {
    let mut project = Project::of("sessions")
        .manifest(ROLES_OF_SESSIONS)
        .session("conformable", TWO_SESSIONS);
    project.identity = identity;
    let header = "#include \"line_server.h\"\n";
    let with_clone = format!("{header}#include <sched.h>\n#include <sys/syscall.h>\n");
    let clones = "syscall(SYS_clone, CLONE_NEWIPC | CLONE_NEWNET | SIGCHLD, NULL)";
    for (from, to) in [(header, with_clone.as_str()), ("fork()", clones)] {
        assert_eq!(project.source.matches(from).count(), 1);
        project.source = project.source.replace(from, to);
    }
    project
}

/// Nothing of the session differs in such namespaces.
#[test]
fn a_child_in_namespaces_of_its_own_is_a_child() {
    let seen = by_rollback(&apart("root"));
    assert!(seen["compared"].as_u64().unwrap() > 4, "{seen}");
}

#[test]
fn who_may_not_make_namespaces_is_refused() {
    by_rollback(&apart("user"));
}

#[test]
fn what_goes_out_from_a_network_of_its_own_is_not_simulated() {
    let mut project = apart("root");
    let (serves, connects) = (
        "    while (next_line(fd, line, sizeof line))\n",
        "    close(socket(AF_INET, SOCK_STREAM, 0));\n    \
         while (next_line(fd, line, sizeof line))\n",
    );
    assert_eq!(project.source.matches(serves).count(), 1);
    project.source = project.source.replace(serves, connects);
    project.write();
    let bench = ["bench", "--engines-only", "--json", "--tests", "1"];
    let report = report_of(project.kairos().args(bench).args(["--subject", "tiny"]));
    let notes = report["notes"].to_string();
    let why = "rollback: not measured: a socket in a network of its own";
    assert!(notes.contains(why), "{notes}");
}

/// Who is known by which number, inside and outside.
#[test]
fn a_namespace_of_process_numbers_is_seen_alike_at_every_point() {
    let mut project = Project::of("numbers")
        .manifest(
            "[[role]]\nname = \"listener\"\nfirst = true\n\
             [[role]]\nname = \"first\"\nparent = \"listener\"\n\
             [[role]]\nname = \"middle\"\nparent = \"first\"\n\
             [[role]]\nname = \"last\"\nparent = \"middle\"\n\
             [state]\nfiles = [\"**\"]\n",
        )
        .session(
            "conformable",
            "open c main\nsend c family\nawait c *\nawait c ok\n\n\
             open d main\nsend d family\nawait d *\nawait d ok\n\n\
             send c leave\nawait c *\nawait c ok\n\nclose c\n\nclose d",
        );
    project.identity = "root";
    let rollback = compared(&project, "rollback");
    let number = |name: &str| rollback[name].as_u64().unwrap();
    // A signal may interrupt the listener elsewhere.
    assert!(number("by_restart") <= 2, "{rollback}");
    assert!(number("compared") > 10, "{rollback}");
    let run = project.study_as("known", "--engine rollback");
    let (_, seen) = run.observations().into_iter().next().unwrap();
    let shown = seen["exchanges"][0]["replies"]["c"].as_str().unwrap();
    for known in [
        "first 1",
        "its parent 0",
        "group 0",
        "forked 2",
        "child 3",
        "child's parent 1",
        "can kill it 0",
        "can ask for 2 -1",
        "ended 2",
        "signal from 3",
        "its parent then 1",
        "left to it 3",
    ] {
        assert!(shown.lines().any(|line| line == known), "{known}: {shown}");
    }
}

#[test]
fn the_mode_of_a_file_that_was_there_is_seen_alike_at_every_point() {
    let rollback = by_rollback(&Project::of("modes").session(
        "conformable",
        "open c main\nsend c tell\nawait c *\nawait c ok\n\n\
         send c change\nawait c *\nawait c ok\n\n\
         send c tell\nawait c *\nawait c ok\n\n\
         send c change open\nawait c *\nawait c ok\n\n\
         send c tell\nawait c *\nawait c ok\n\nclose c",
    ));
    assert!(rollback["compared"].as_u64().unwrap() > 10, "{rollback}");
}

#[test]
fn a_folder_is_listed_in_one_order_at_every_point() {
    let exchange = |line: &str| format!("send c {line}\nawait c *\nawait c ok\n\n");
    let lines = ["list", "create", "remove", "again", "rename"].map(exchange);
    let session = format!("open c main\n{}close c", lines.concat());
    let rollback = by_rollback(&Project::of("listing").session("conformable", &session));
    assert!(rollback["compared"].as_u64().unwrap() > 10, "{rollback}");
}

/// A traced server is slow, and what it notes of that is short.
#[test]
fn a_point_is_found_behind_a_loop_with_another_number_of_turns() {
    let project = Project::of("digits")
        .manifest("[[role]]\nname = \"server\"\nfirst = true\n")
        .session("conformable", "open c main\nsend c A\nawait c *\n\nclose c");
    let rollback = by_rollback(&project);
    assert!(rollback["compared"].as_u64().unwrap() > 105, "{rollback}");
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

/// A server that sees the end of a child for each line that it reads.
fn child_end(session: &str) -> Project {
    let roles = "[[role]]\nname = \"server\"\nfirst = true\n\
        [[role]]\nname = \"child\"\nparent = \"server\"\n";
    Project::of("child_end")
        .manifest(roles)
        .session("conformable", session)
}

const READ_AND_POLL: &str = "open c main\nsend c again\nawait c *\n\n\
    send c poll\nawait c *\n\nclose c";

/// What restart shows in an exchange, at all points alike but for the version.
fn seen_by_restart(session: &str, exchange: usize) -> String {
    let run = child_end(session).study("--engine restart");
    let seen: std::collections::BTreeSet<String> = run
        .observations()
        .values()
        .map(|observation| &observation["exchanges"][exchange]["replies"]["c"])
        .map(|reply| reply.as_str().unwrap().replace("then seen", "seen"))
        .collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.into_iter().next().unwrap()
}

/// The kernel tells a parent of a traced child's end only once the tracer knows it: what
/// the call returned, and whether the signal was there.
#[test]
fn a_parent_sees_the_whole_end_of_its_child() {
    assert_eq!(seen_by_restart(READ_AND_POLL, 0), "seen 1\n");
    assert_eq!(seen_by_restart(READ_AND_POLL, 1), "seen 11\n");
}

#[test]
fn a_read_that_waits_for_a_local_stream_is_interrupted() {
    let session = "open c main\nsend c interrupted\nawait c *\n\nclose c";
    assert_eq!(seen_by_restart(session, 0), "seen -9\n");
}

/// One point is restart's: the handler that runs before a read is made again, whose frame
/// below stands at the call and not behind it.
#[test]
fn the_end_of_a_child_is_seen_alike_at_every_point() {
    let rollback = compared(&child_end(READ_AND_POLL), "rollback");
    assert_eq!(rollback["by_restart"], 1, "{rollback}");
    assert_eq!(rollback["compared"], 9, "{rollback}");
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
