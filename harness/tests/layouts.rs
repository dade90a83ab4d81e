//! Mechanisms: the same update with own layouts, with room, and with common layouts;
//! with old entries redirected, and kept.

mod support;

use support::rows::Row;
use support::{Project, Run};

const BACKWARD: &str = "backward-compatible";

fn lines(words: &[&str]) -> String {
    let exchanges: Vec<String> = words
        .iter()
        .map(|word| format!("send c {word}\nawait c *"))
        .collect();
    format!("open c main\n{}\n\nclose c", exchanges.join("\n\n"))
}

/// Verdicts of one pair, in the order of the trace, each with the function entered.
fn verdicts<'a>(rows: &'a [Row], pair: &str) -> Vec<(&'a str, &'a str)> {
    rows.iter()
        .filter(|row| row.pair == pair)
        .map(|row| (row.function.as_str(), row.verdict.as_str()))
        .collect()
}

fn layouts() -> Project {
    let words = ["APPLE", "TELL", "BEAR", "SUM", "TELL", "AXE", "SUM", "TELL"];
    Project::of("layouts").session(BACKWARD, &lines(&words))
}

#[test]
fn a_common_layout_serves_old_frames_and_new_code_alike() {
    let project = layouts()
        .variant("common", "layout = \"common\"\nprototypes = \"keep\"")
        .variant("room", "layout = \"room\"");
    let run = project.study("");
    // With two layouts every point fails, since `main` and what it knows stay old.
    let rows = run.expect(|row| match row.pair.as_str() {
        "tiny-v1-v2-common" => "new",
        _ => "wrong",
    });
    for pair in ["tiny-v1-v2", "tiny-v1-v2-common", "tiny-v1-v2-room"] {
        assert_eq!(verdicts(&rows, pair).len(), 13);
    }
    // What changed is told by the versions' own types, whatever is built.
    for row in &rows {
        assert_eq!(row.activeness, "refused", "main is active: {row:?}");
    }
    let ids: Vec<String> = run.observations().into_keys().collect();
    for mechanism in ["own+redirect", "common+keep", "room+redirect"] {
        assert!(ids.iter().any(|id| id.contains(&format!("/{mechanism}/"))));
    }
    let control: Run = project.study_as("control", "--control --sample 6");
    let rows = control.expect(|_| "new");
    let mut pairs: Vec<&str> = rows.iter().map(|row| row.pair.as_str()).collect();
    pairs.dedup();
    assert_eq!(
        pairs,
        [
            "tiny-v1-v1-control",
            "tiny-v1-v2-common-control",
            "tiny-v1-v2-room-control"
        ]
    );
}

/// Verdicts of both forms of prototype handling: `(function, redirect, keep)`.
fn kept(words: &[&str]) -> Vec<(String, String, String)> {
    let run = Project::of("keep")
        .session(BACKWARD, &lines(words))
        .variant("keep", "prototypes = \"keep\"")
        .study("");
    run.expect_sound_controls();
    let rows = run.rows();
    let pairs = [
        verdicts(&rows, "tiny-v1-v2"),
        verdicts(&rows, "tiny-v1-v2-keep"),
    ];
    let [redirect, keep] = pairs;
    redirect
        .iter()
        .zip(keep)
        .map(|((function, one), (_, other))| {
            ((*function).to_owned(), (*one).to_owned(), other.to_owned())
        })
        .collect()
}

#[test]
fn an_old_caller_keeps_the_callee_that_it_means() {
    for caller in ["PAY", "TABLE", "REFUND"] {
        let found = kept(&[caller, caller]);
        assert_eq!(found.len(), 6, "{found:?}");
        for (function, redirect, keep) in found {
            // Redirected, an old caller calls the new version with old arguments. An old
            // `refund` takes its argument from what the update sets: it means the new
            // version if it has not read that yet, and the old one if it has.
            let (redirect_to, keep_to) = match (caller, function.as_str()) {
                ("PAY" | "TABLE", "note") | (_, "show") => ("wrong", "new"),
                ("REFUND", "note") => ("new", "wrong"),
                _ => ("new", "new"),
            };
            assert_eq!(
                (redirect.as_str(), keep.as_str()),
                (redirect_to, keep_to),
                "{caller} {function}"
            );
        }
    }
}

#[test]
fn a_pointer_that_the_process_holds_keeps_the_old_callee() {
    let found = kept(&["POINTER", "POINTER"]);
    let verdicts: Vec<(&str, &str, &str)> = found
        .iter()
        .map(|(function, redirect, keep)| (function.as_str(), redirect.as_str(), keep.as_str()))
        .collect();
    // New code that calls through it calls the old version: what a transformer must
    // set right. Only where no new caller follows it does not show.
    assert_eq!(
        verdicts,
        [
            ("by_pointer", "new", "wrong"),
            ("note", "wrong", "wrong"),
            ("show", "wrong", "wrong"),
            ("by_pointer", "new", "wrong"),
            ("note", "wrong", "new"),
            ("show", "wrong", "new"),
        ]
    );
}
