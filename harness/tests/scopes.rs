//! Which processes an update reaches, from when on points are tested, and what a
//! trace records of threads and times.

mod support;

use support::Project;
use support::rows::Row;

const PROTOCOL: &str = "[[role]]\nname = \"front\"\nfirst = true\n\
                        [[role]]\nname = \"helper\"\nparent = \"front\"\nforked_in = \"start_helper\"\n";
const ASK_TWICE: &str = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";
const TWO_SESSIONS: &str = "open c main\nsend c A\nawait c *\n\nopen d main\nsend d B\nawait d *\n\n\
                            send c C\nawait c *\n\nsend d D\nawait d *\n\nclose c\nclose d";

fn protocol() -> Project {
    Project::of("protocol")
        .manifest(PROTOCOL)
        .session("backward-compatible", ASK_TWICE)
}

#[test]
fn sides_of_a_protocol_that_are_updated_apart_do_not_understand_each_other() {
    let rows = protocol().study("").expect(|_| "wrong");
    assert!(
        rows.iter().all(|row| row.activeness == "allowed"),
        "each process's own stack is free of changed functions: {rows:#?}"
    );
    let functions: Vec<_> = rows.iter().map(|row| row.function.as_str()).collect();
    assert_eq!(functions, ["ask", "answer", "ask", "answer"]);
}

#[test]
fn sides_that_are_updated_at_once_do_unless_a_request_is_under_way() {
    let run = protocol().study("--scope tree");
    let rows = run.expect(|row| match row.function.as_str() {
        "answer" => "wrong",
        _ => "new",
    });
    for row in &rows {
        let expected = match row.function.as_str() {
            "answer" => "refused",
            _ => "allowed",
        };
        assert_eq!(row.activeness, expected, "`ask` waits meanwhile: {row:?}");
    }
    let observations = run.observations();
    assert!(observations.keys().all(|id| id.contains("/tree/")));
    for observation in observations.values() {
        let processes = observation["processes"].as_array().unwrap();
        assert!(processes.iter().all(|process| process["updated"] == true));
    }
}

#[test]
fn both_scopes_are_tests_of_their_own_in_one_run() {
    let rows = protocol().study("--scope process --scope tree").rows();
    let wrong = rows.iter().filter(|row| row.verdict == "wrong").count();
    assert_eq!((rows.len(), wrong), (8, 6), "{rows:#?}");
}

#[test]
fn an_update_of_the_tree_reaches_every_process_that_lives_and_is_born() {
    let run = Project::of("sessions")
        .manifest(
            "[[role]]\nname = \"listener\"\nfirst = true\n\
             [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n",
        )
        .session("conformable", TWO_SESSIONS)
        .study("--scope tree");
    let rows = run.expect(|_| "new");
    let seen = run.observations();
    for row in &rows {
        let (_, observation) = seen
            .iter()
            .find(|(id, _)| id.ends_with(&format!("/{}", row.point)))
            .unwrap();
        let exchanges = observation["exchanges"].as_array().unwrap();
        for (number, exchange) in exchanges.iter().enumerate().take(4) {
            let connection = if number % 2 == 0 { "c" } else { "d" };
            let reply = exchange["replies"][connection].as_str().unwrap();
            if number > usize::try_from(row.exchange).unwrap() {
                assert_eq!(reply, "new\n", "exchange {number} after {row:?}");
            }
        }
    }
}

fn start_fails(how: &str) -> Vec<Row> {
    let run = Project::of("start_fails")
        .step(&format!("$CC -D{how} -o tiny main.c"))
        .session("backward-compatible", ASK_TWICE)
        .study("--startup");
    let expected = match how {
        "CRASHES" => "crash",
        "EXITS" => "exit",
        _ => "stall",
    };
    run.expect(|row| match row.function.as_str() {
        "use" => expected,
        _ => "new",
    })
}

#[test]
fn an_update_at_start_up_is_judged_like_any_other() {
    for how in ["CRASHES", "EXITS", "WAITS"] {
        let rows = start_fails(how);
        let points: Vec<_> = rows
            .iter()
            .map(|row| (row.point.as_str(), row.function.as_str()))
            .collect();
        assert_eq!(
            points,
            [
                ("server#1/0@start:1", "main"),
                ("server#1/0@start:2", "prepare"),
                ("server#1/0@start:3", "use"),
                // The C library's headers define them for `htons` and `htonl`.
                ("server#1/0@start:4", "__bswap_16"),
                ("server#1/0@start:5", "__bswap_32"),
                ("server#1/0@0:1", "greet"),
                ("server#1/0@1:1", "greet")
            ]
        );
    }
}

#[test]
fn start_up_has_no_points_unless_asked_for() {
    let run = Project::of("start_fails")
        .step("$CC -DEXITS -o tiny main.c")
        .session("backward-compatible", ASK_TWICE)
        .study("");
    assert_eq!(run.expect(|_| "new").len(), 2);
}

#[test]
fn a_trace_has_the_stacks_of_all_threads_and_times_of_all_points() {
    let session = "open c main\nsend c A\nawait c *\n\nopen d other\nsend d B\nawait d *\n\n\
                   send c C\nawait c *\n\nsend d D\nawait d *\n\nclose c\nclose d";
    let run = Project::of("threads")
        .step("$CC -pthread -o tiny main.c")
        .session("conformable", session)
        .study("");
    let text = std::fs::read_to_string(run.dir.join("sessions.jsonl")).unwrap();
    let record: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let trace = &record["trace"];
    let points = trace["points"].as_array().unwrap();
    assert!(!points.is_empty());
    let mut last = 0;
    for point in points {
        assert_eq!(
            point["other_stacks"].as_array().unwrap().len(),
            2,
            "{point}"
        );
        assert!(point["words"].is_number(), "{point}");
        let time = point["time_us"].as_u64().unwrap();
        assert!(time >= last, "{point} after {last}");
        last = time;
    }
    let stacks = trace["stacks"].as_array().unwrap();
    assert!(stacks.iter().all(|stack| stack["complete"] == true));
    for wait in trace["waits"].as_array().unwrap() {
        assert!(wait["span_us"].is_array(), "{wait}");
    }
}
