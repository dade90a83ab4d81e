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

/// Where no active code goes on with an old layout, all must go well: `sound` says
/// where. Own layouts cannot help the rest.
fn expect_new_where(run: &Run, sound: impl Fn(&Row) -> bool) -> Vec<(Row, serde_json::Value)> {
    let states = states(run);
    for (row, state) in &states {
        assert!(state.is_object(), "no state at {row:?}");
        if sound(row) {
            assert_eq!(row.verdict, "new", "{row:?}\n{state}");
        }
    }
    let sound = states.iter().filter(|(row, _)| sound(row)).count();
    assert!(sound > 3, "only {sound} points are sound");
    run.expect_sound_controls();
    states
}

/// `main` only passes on where its record is; `add` and `sum` do not go on with a
/// record after what they call last.
fn enters_from_main(row: &Row) -> bool {
    ["command", "add", "sum"].contains(&row.function.as_str())
}

fn list(step: &str) -> Project {
    Project::of("state_list").step(step).session(
        BACKWARD,
        &lines(&[("1", 1), ("2", 1), ("SUM", 2), ("3", 1), ("SUM", 2)]),
    )
}

/// Entries that the list has at a point of the session: those of the exchanges
/// before, and in an exchange that adds one, that of the function which links it.
fn linked(row: &Row) -> u64 {
    let before = [0, 1, 2, 2, 3][usize::try_from(row.exchange).unwrap()];
    before + u64::from(row.function == "link_entry")
}

#[test]
fn a_list_in_the_heap_and_a_record_in_a_frame_are_converted_in_place() {
    let run = list("$CC -o tiny main.c").study("");
    for (row, state) in expect_new_where(&run, enters_from_main) {
        assert_eq!(count(&state, "struct server"), 1, "{row:?}\n{state}");
        assert_eq!(
            count(&state, "struct entry"),
            linked(&row),
            "{row:?}\n{state}"
        );
        assert_eq!(state["moved"], 0);
        assert_eq!(state["problems"].as_array().unwrap().len(), 0, "{state}");
    }
}

const EACH: &str = r#"
#include "kairos_transform.h"
static void check(struct kairos_old_entry *old, struct kairos_new_entry *new)
{
    if (old->value != new->value || old->tag != new->tag)
        __builtin_trap();
    new->room[5] = old->tag;
}
void kairos_transform(void) { kairos_each_entry(check); }
"#;

#[test]
fn entries_that_grow_move_and_every_pointer_follows() {
    let project = list("$CC -DGROWS -o tiny main.c").transformed("each", EACH);
    let run = project.study("");
    for (row, state) in expect_new_where(&run, enters_from_main) {
        assert_eq!(
            count(&state, "struct entry"),
            linked(&row),
            "{row:?}\n{state}"
        );
        assert_eq!(
            state["moved"].as_u64().unwrap(),
            linked(&row),
            "{row:?}\n{state}"
        );
    }
}

const RULES: &str = r#"
[[array]]
of = "struct table.buckets"
length = "1 << power"
[[union]]
of = "struct holder.is.node"
when = "kind"
is = [2]
"#;

#[test]
fn trees_tables_cycles_and_unions_lead_to_every_instance() {
    let words = [
        ("n5", 1),
        ("n3", 1),
        ("n8", 1),
        ("i5", 1),
        ("i9", 1),
        ("i8", 1),
        ("h4", 1),
        ("h5", 1),
        ("?", 2),
        ("n4", 1),
        ("i1", 1),
        ("h6", 1),
        ("?", 2),
    ];
    // Nodes and items that the server counted before each exchange; the root is one.
    let nodes = [0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6].map(|n| n + 1);
    let items = [0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4];
    let run = Project::of("state_graph")
        .rules(RULES)
        .session(BACKWARD, &lines(&words))
        .study("");
    for (row, state) in expect_new_where(&run, |row| row.activeness == "allowed") {
        let exchange = usize::try_from(row.exchange).unwrap();
        if row.function != "command" {
            continue;
        }
        assert_eq!(
            count(&state, "struct node"),
            nodes[exchange],
            "{row:?}\n{state}"
        );
        assert_eq!(
            count(&state, "struct stamp"),
            nodes[exchange],
            "{row:?}\n{state}"
        );
        assert_eq!(
            count(&state, "struct item"),
            items[exchange],
            "{row:?}\n{state}"
        );
    }
}

#[test]
fn a_record_that_grows_in_a_frame_moves_and_the_frame_keeps_the_old_one() {
    let run = list("$CC -DFRAME_GROWS -o tiny main.c").study("--sample 6");
    for (row, state) in states(&run) {
        assert_eq!(count(&state, "struct server"), 1, "{row:?}\n{state}");
        assert_eq!(state["moved"], 1, "{row:?}\n{state}");
    }
    run.expect_sound_controls();
}

#[test]
fn flexible_arrays_constants_and_pointers_into_arrays_keep_their_meaning() {
    let rules = "[[array]]\nof = \"cells\"\nlength = \"used\"\n";
    let words = [
        ("twelve letters", 1),
        ("a7", 1),
        ("a9", 1),
        ("k1", 1),
        ("?", 4),
        ("a5", 1),
        ("?", 4),
    ];
    let run = Project::of("state_kinds")
        .rules(rules)
        .session(BACKWARD, &lines(&words))
        .study("");
    let cells = [0, 0, 1, 2, 2, 2, 3, 3];
    for (row, state) in expect_new_where(&run, |row| row.activeness == "allowed") {
        if row.function == "command" {
            let exchange = usize::try_from(row.exchange).unwrap();
            assert_eq!(
                count(&state, "struct cell"),
                cells[exchange],
                "{row:?}\n{state}"
            );
            assert_eq!(
                count(&state, "struct text"),
                u64::from(exchange > 0),
                "{row:?}\n{state}"
            );
            assert_eq!(count(&state, "struct tally"), 1, "{row:?}\n{state}");
        }
    }
}

/// A bundle of slots that a thread allocates: the first command makes it, and each adds
/// a slot before it asks for the sum.
fn bundle() -> Project {
    let words = [("1", 1), ("20", 1), ("300", 1), ("4000", 1)];
    Project::of("state_bundle")
        .step("$CC -pthread -o tiny main.c")
        .session("conformable", &lines(&words))
}

fn slots(row: &Row) -> u64 {
    u64::from(row.exchange) + u64::from(row.function == "sum")
}

#[test]
fn elements_of_a_flexible_array_in_the_arena_of_a_thread_are_converted_in_place() {
    let rules = "[[array]]\nof = \"struct bundle.slots\"\nlength = \"used\"\n";
    let run = bundle().rules(rules).study("");
    for (row, state) in expect_new_where(&run, |row| row.function != "main") {
        let slots = slots(&row);
        assert_eq!(count(&state, "struct slot"), slots, "{row:?}\n{state}");
        assert_eq!(state["moved"], 0, "{row:?}\n{state}");
        assert_eq!(state["problems"].as_array().unwrap().len(), 0, "{state}");
    }
}

#[test]
fn elements_of_a_flexible_array_of_unknown_length_fill_their_allocation() {
    let run = bundle().study("");
    for (row, state) in expect_new_where(&run, |row| row.function != "main") {
        // 32 of 16 bytes fit into what was allocated, and those of 24 do not.
        let bundles = slots(&row).min(1);
        assert_eq!(
            count(&state, "struct slot"),
            32 * bundles,
            "{row:?}\n{state}"
        );
        assert_eq!(state["moved"], bundles, "{row:?}\n{state}");
        assert_eq!(state["problems"].as_array().unwrap().len(), 0, "{state}");
    }
}
