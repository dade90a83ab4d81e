//! Tiny servers whose verdict at every update point is known before the run.

mod support;

use support::rows::Row;
use support::{Project, Run};

const BACKWARD: &str = "backward-compatible";
const CONFORMABLE: &str = "conformable";

/// Exchanges that each send one line on connection `c` and await one; the first
/// opens it.
fn lines(words: &[&str]) -> String {
    let exchanges: Vec<String> = words
        .iter()
        .map(|word| format!("send c {word}\nawait c *"))
        .collect();
    format!("open c main\n{}\n\nclose c", exchanges.join("\n\n"))
}

/// What a test's replies in an exchange were.
fn replies<'a>(
    run: &'a std::collections::BTreeMap<String, serde_json::Value>,
    row: &Row,
    exchange: usize,
    connection: &str,
) -> &'a str {
    let (_, observation) = run
        .iter()
        .find(|(id, _)| id.ends_with(&format!("/{}", row.point)))
        .unwrap();
    observation["exchanges"][exchange]["replies"][connection]
        .as_str()
        .unwrap_or_default()
}

fn functions(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.function.as_str()).collect()
}

#[test]
fn work_that_moves_to_the_callee_runs_twice_between_the_two() {
    let run = Project::of("twice")
        .session(BACKWARD, &lines(&["ADD", "ADD", "TELL"]))
        .study("");
    let rows = run.expect(|row| match row.function.as_str() {
        "count" | "store" => "wrong",
        _ => "new",
    });
    assert_eq!(
        functions(&rows),
        ["add", "count", "store", "add", "count", "store", "tell"]
    );
    for row in rows.iter().filter(|row| row.verdict == "wrong") {
        assert_eq!(row.diverged_at, Some(2), "only TELL shows it: {row:?}");
        assert_eq!(row.activeness, "refused", "add is active: {row:?}");
    }
    assert!(rows.iter().all(|row| row.discriminating == 0));
}

#[test]
fn work_that_moves_to_the_caller_is_lost_between_the_two() {
    let run = Project::of("never")
        .session(BACKWARD, &lines(&["ADD", "TELL"]))
        .study("");
    let rows = run.expect(|row| match row.function.as_str() {
        "store" => "wrong",
        _ => "new",
    });
    assert_eq!(functions(&rows), ["add", "store", "count", "tell"]);
}

fn start_up(macro_name: &str) -> Project {
    Project::of("start_up").step(&format!("$CC {macro_name} -o tiny main.c"))
}

#[test]
fn missed_initialisation_crashes_and_names_the_function() {
    let run = start_up("-DCRASHES")
        .session(BACKWARD, &lines(&["GREET", "GREET"]))
        .study("");
    let rows = run.expect(|_| "crash");
    assert_eq!(rows.len(), 4);
    for row in &rows {
        assert_eq!(row.cause, "server killed by SIGSEGV in first_letter (new)");
        assert_eq!(row.diverged_at, Some(row.exchange));
    }
}

#[test]
fn an_exit_on_stale_state_is_an_exit() {
    let run = start_up("-DEXITS")
        .session(BACKWARD, &lines(&["VERSION", "GREET"]))
        .study("");
    let rows = run.expect(|_| "exit");
    assert_eq!(functions(&rows), ["version", "greet", "first_letter"]);
}

#[test]
fn stale_start_up_state_mixes_versions_and_a_transformer_rescues_it() {
    let project = start_up("")
        .session(
            CONFORMABLE,
            &lines(&["VERSION", "STORED", "VERSION", "STORED"]),
        )
        .transformed(
            "again",
            "void start(void);\nvoid kairos_transform(void) { start(); }\n",
        );
    let run = project.study("");
    run.expect(|row| match (row.pair.as_str(), row.exchange) {
        ("tiny-v1-v2-again", _) => "new",
        // The last exchange has only the stored text: old, where new was due.
        ("tiny-v1-v2", 3) => "new",
        _ => "mixed",
    });
}

#[test]
fn a_reply_that_nobody_gives_is_a_stall_in_bounded_time() {
    let run = Project::of("stall")
        .session(BACKWARD, &lines(&["ONE", "TWO"]))
        .study("");
    let rows = run.expect(|row| match row.function.as_str() {
        "work" => "stall",
        _ => "new",
    });
    assert_eq!(functions(&rows), ["request", "work", "request", "work"]);
    for row in rows.iter().filter(|row| row.verdict == "stall") {
        assert_eq!(row.diverged_at, Some(row.exchange));
        assert!(row.cause.starts_with("waiting"), "{}", row.cause);
        assert!(row.wall_us < 30_000_000, "{} µs", row.wall_us);
    }
}

fn end_state(step: &str, manifest: &str) -> Run {
    Project::of("end_state")
        .step(step)
        .manifest(&format!(
            "[[role]]\nname = \"server\"\nfirst = true\n{manifest}"
        ))
        .session(BACKWARD, &lines(&["ADD"]))
        .study("")
}

#[test]
fn a_log_that_is_wrong_behind_right_replies_is_state() {
    let run = end_state("$CC -DTO_LOG -o tiny main.c", "[[log]]\npath = \"notes\"\n");
    let rows = run.expect(|row| match row.function.as_str() {
        "note" | "store" => "state",
        _ => "new",
    });
    assert_eq!(functions(&rows), ["add", "note", "store", "save"]);
    assert!(
        rows.iter()
            .all(|r| r.verdict != "state" || r.cause == "log")
    );
}

#[test]
fn a_file_that_is_wrong_behind_right_replies_is_state() {
    let run = end_state("$CC -o tiny main.c", "[state]\nfiles = [\"total\"]\n");
    let rows = run.expect(|row| match row.function.as_str() {
        "note" | "store" => "state",
        _ => "new",
    });
    assert_eq!(functions(&rows), ["add", "note", "store", "save"]);
    assert!(
        rows.iter()
            .all(|r| r.verdict != "state" || r.cause == "file total")
    );
}

#[test]
fn a_loop_that_never_returns_makes_the_update_inert() {
    let exchange = |word: &str| format!("send c {word}\nawait c lines 2");
    let session = format!(
        "open c main\n{}\n\n{}\n\nclose c",
        exchange("A"),
        exchange("B")
    );
    let run = Project::of("loop").session(CONFORMABLE, &session).study("");
    let rows = run.expect(|row| match row.exchange {
        0 => "inert",
        // No later exchange tells the versions apart.
        _ => "new",
    });
    assert_eq!(functions(&rows), ["echo", "echo"]);
    assert!(rows.iter().all(|row| row.activeness == "refused"));
    assert_eq!(rows[0].discriminating, 1);
    assert_eq!(rows[0].new_code_entries, 0);
}

#[test]
fn a_reply_of_both_versions_is_mixed_in_flight() {
    let exchange = "send c LIST\nawait c lines 3";
    let session = format!("open c main\n{exchange}\n\n{exchange}\n\nclose c");
    let run = Project::of("list").session(CONFORMABLE, &session).study("");
    let rows = run.expect(|row| match row.function.as_str() {
        "item" => "mixed",
        _ => "new",
    });
    assert_eq!(
        functions(&rows),
        [
            "list", "header", "item", "item", "list", "header", "item", "item"
        ]
    );
    for row in rows.iter().filter(|row| row.verdict == "mixed") {
        assert_eq!(row.cause, "in-flight");
        assert_eq!(row.diverged_at, Some(row.exchange));
        assert_eq!(row.activeness, "allowed", "no changed function is active");
    }
}

#[test]
fn a_loop_that_ends_with_its_connection_is_late() {
    let session = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c\n\n\
                   open d main\nsend d C\nawait d *\n\nsend d D\nawait d *\n\nclose d";
    let run = Project::of("session_loop")
        .session(CONFORMABLE, session)
        .study("");
    run.expect(|row| match (row.function.as_str(), row.exchange) {
        ("session", _) => "new",
        // The old reply of the exchange in flight may be old as a whole; the
        // next one of the connection is excused.
        ("tick", 0) => "late",
        ("tick", 1) => "new",
        ("tick", 3) => "inert",
        _ => "new",
    });
}

#[test]
fn a_bug_fix_is_new_everywhere() {
    let run = Project::of("data")
        .session(CONFORMABLE, &lines(&["HOURS", "ONE", "HOURS"]))
        .study("");
    let rows = run.expect(|_| "new");
    let discriminating: Vec<u32> = rows.iter().map(|row| row.discriminating).collect();
    assert_eq!(functions(&rows), ["hours", "look_up", "hours"]);
    assert_eq!(discriminating, [1, 1, 0]);
    assert!(rows.iter().all(|row| row.new_code_entries > 0));
}

#[test]
fn a_table_that_grows_is_found_by_code_that_did_not_change() {
    let run = Project::of("data")
        .session(CONFORMABLE, &lines(&["ONE", "SIX", "TWO", "SIX"]))
        .study("");
    let rows = run.expect(|_| "new");
    assert_eq!(functions(&rows), ["look_up"; 4]);
}

#[test]
fn an_initialiser_is_replaced_unless_the_program_has_written_the_variable() {
    let run = Project::of("data")
        .session(CONFORMABLE, &lines(&["LIMIT", "LIMIT", "SET 9", "LIMIT"]))
        .study("");
    let rows = run.expect(|_| "new");
    assert_eq!(
        functions(&rows),
        ["tell_limit", "tell_limit", "set_limit", "tell_limit"]
    );
}

#[test]
fn a_static_local_is_kept() {
    let run = Project::of("data")
        .session(CONFORMABLE, &lines(&["TICKET", "TICKET", "TICKET"]))
        .study("");
    run.expect(|_| "new");
}

#[test]
fn every_activation_of_a_recursion_counts() {
    let run = Project::of("recursion")
        .session(CONFORMABLE, &lines(&["WEIGH", "WEIGH"]))
        .study("");
    let rows = run.rows();
    assert_eq!(
        functions(&rows),
        ["tell", "weigh", "weigh", "weigh", "weigh"].repeat(2)
    );
    let verdicts: Vec<&str> = rows.iter().map(|row| row.verdict.as_str()).collect();
    // All new; one old, two new; two old, one new; three old and the last, which adds nothing.
    assert_eq!(verdicts, ["new", "new", "wrong", "wrong", "new"].repeat(2));
    let allowed: Vec<bool> = rows.iter().map(|r| r.activeness == "allowed").collect();
    assert_eq!(allowed, [true, true, false, false, false].repeat(2));
    run.expect_sound_controls();
}

#[test]
fn a_callback_changes_between_two_calls_by_the_library() {
    let run = Project::of("sort")
        .session(CONFORMABLE, &lines(&["SORT", "SORT"]))
        .study("");
    let rows = run.rows();
    assert_eq!(
        functions(&rows),
        ["sort", "order", "order", "order"].repeat(2)
    );
    // The library merges [2] with the sorted [1, 3]: 2 1 3 and 1 3 2 are no version's.
    let verdicts: Vec<&str> = rows.iter().map(|row| row.verdict.as_str()).collect();
    assert_eq!(verdicts, ["new", "new", "wrong", "wrong"].repeat(2));
    assert!(
        rows.iter().all(|row| row.activeness == "allowed"),
        "an incomplete stack would refuse"
    );
    run.expect_sound_controls();
}

const SESSIONS: &str = "[[role]]\nname = \"listener\"\nfirst = true\n\
                        [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n";
const TWO_SESSIONS: &str = "open c main\nsend c A\nawait c *\n\nopen d main\nsend d B\nawait d *\n\n\
                            send c C\nawait c *\n\nsend d D\nawait d *\n\nclose c\nclose d";

#[test]
fn an_update_reaches_one_process_and_the_children_it_forks_later() {
    let run = Project::of("sessions")
        .manifest(SESSIONS)
        .session(CONFORMABLE, TWO_SESSIONS)
        .study("");
    let rows = run.expect(|_| "new");
    let seen = run.observations();
    for row in &rows {
        let last = |exchange, connection| replies(&seen, row, exchange, connection);
        let expected = match (
            row.role.as_str(),
            &row.point[..row.point.find('/').unwrap()],
        ) {
            ("listener", _) if row.exchange == 0 => ["new\n"; 2],
            ("listener", _) | (_, "session#2") => ["old\n", "new\n"],
            _ => ["new\n", "old\n"],
        };
        assert_eq!([last(2, "c"), last(3, "d")], expected, "{row:?}");
    }
    let roles: std::collections::BTreeSet<_> = rows
        .iter()
        .map(|row| row.point.split('/').next().unwrap())
        .collect();
    assert_eq!(roles.len(), 3, "{roles:?}");
}

#[test]
fn a_program_that_executes_itself_after_the_update_starts_the_new_version() {
    let run = Project::of("sessions")
        .manifest(SESSIONS)
        .step("$CC -DEXECUTES -o tiny main.c")
        .session(CONFORMABLE, TWO_SESSIONS)
        .study("");
    let rows = run.expect(|_| "new");
    let seen = run.observations();
    let begins: Vec<_> = rows.iter().filter(|row| row.function == "begin").collect();
    assert_eq!(begins.len(), 2);
    for row in begins {
        let first = if row.exchange == 0 { "new\n" } else { "old\n" };
        assert_eq!(replies(&seen, row, 2, "c"), first, "{row:?}");
        assert_eq!(replies(&seen, row, 3, "d"), "new\n", "{row:?}");
    }
}

#[test]
fn a_signal_handler_has_points_and_a_transformer_keeps_out_of_it() {
    let transformer = "#include <stdio.h>\nextern int made_by_transformer;\n\
                       void kairos_transform(void)\n{\n    char text[20];\n\
                       \n    made_by_transformer = snprintf(text, sizeof text, \"%d\", made_by_transformer);\n}\n";
    let session = "open c main\nsend c A\nawait c *\n\nsignal server SIGUSR1\n\n\
                   send c B\nawait c *\n\nclose c";
    let run = Project::of("handler")
        .session(CONFORMABLE, session)
        .transformed("library", transformer)
        .study("");
    let rows = run.expect(|row| match (row.pair.as_str(), row.function.as_str()) {
        ("tiny-v1-v2-library", "on_signal" | "set_mark") => "not-applied",
        _ => "new",
    });
    let in_handler: Vec<&Row> = rows
        .iter()
        .filter(|row| matches!(row.function.as_str(), "on_signal" | "set_mark"))
        .collect();
    assert_eq!(in_handler.len(), 4);
    for row in in_handler {
        assert_eq!(row.activeness, "allowed", "the stack is walked: {row:?}");
        if row.verdict == "not-applied" {
            assert!(row.cause.contains("snprintf"), "{}", row.cause);
            assert!(row.cause.contains("signal handler"), "{}", row.cause);
        }
    }
}

#[test]
fn other_threads_do_not_notice_the_update() {
    let session = "open c main\nsend c A\nawait c *\n\nopen d other\nsend d B\nawait d *\n\n\
                   send c C\nawait c *\n\nsend d D\nawait d *\n\nclose c\nclose d";
    let run = Project::of("threads")
        .step("$CC -pthread -o tiny main.c")
        .session(CONFORMABLE, session)
        .study("");
    let rows = run.expect(|_| "new");
    let threads: std::collections::BTreeSet<u32> = rows.iter().map(|row| row.thread).collect();
    assert_eq!(threads.into_iter().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_deleted_function_in_a_table_mixes_versions() {
    let run = Project::of("registered")
        .session(CONFORMABLE, &lines(&["FIRST", "SECOND", "FIRST"]))
        .study("");
    let rows = run.expect(|row| match row.exchange {
        0 => "mixed",
        _ => "new",
    });
    assert_eq!(
        functions(&rows),
        ["tell_first", "tell_second", "tell_first"]
    );
}

#[test]
fn a_server_that_stops_at_its_next_tick_does_not_stall() {
    let run = Project::of("ticks")
        .session(CONFORMABLE, &lines(&["TELL", "TELL"]))
        .study("");
    let rows = run.expect(|_| "new");
    // The handler of the stop is entered after the session: no point.
    assert_eq!(functions(&rows), ["answer", "answer"]);
}
