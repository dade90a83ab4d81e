//! Instances of changed records, found and converted in tiny servers: at every point
//! new code must be able to go on with what old code built.

mod support;

use support::rows::Row;
use support::{Project, Run};

const BACKWARD: &str = "backward-compatible";

/// Exchanges that each send one line and await so many; the first opens the
/// connection.
fn lines(words: &[(&str, usize)]) -> String {
    let exchanges: Vec<String> = words
        .iter()
        .map(|(word, replies)| format!("send c {word}{}", "\nawait c *".repeat(*replies)))
        .collect();
    format!("open c main\n{}\n\nclose c", exchanges.join("\n\n"))
}

/// What became of live state in each test, with its row.
fn states(run: &Run) -> Vec<(Row, serde_json::Value)> {
    let observations = run.observations();
    let rows = run.rows().into_iter();
    rows.map(|row| {
        let found = observations
            .iter()
            .find(|(id, _)| id.contains(&row.pair) && id.ends_with(&format!("/{}", row.point)));
        let (_, observation) = found.unwrap();
        let state = observation["update"]["state"].clone();
        (row, state)
    })
    .collect()
}

fn count(state: &serde_json::Value, record: &str) -> u64 {
    state["instances"][record].as_u64().unwrap_or(0)
}

#[test]
fn a_list_in_the_heap_and_a_record_in_a_frame_are_found_and_converted_everywhere() {
    let run = Project::of("state_list")
        .session(
            BACKWARD,
            &lines(&[("1", 1), ("2", 1), ("SUM", 2), ("3", 1), ("SUM", 2)]),
        )
        .study("");
    for (row, state) in states(&run) {
        println!("{row:?}\n  {state}");
    }
    run.expect(|_| "new");
}
