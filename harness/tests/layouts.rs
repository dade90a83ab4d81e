//! Mechanisms: the same update with own layouts, with room, and with common layouts.

mod support;

use support::Project;

const BACKWARD: &str = "backward-compatible";

fn lines(words: &[&str]) -> String {
    let exchanges: Vec<String> = words
        .iter()
        .map(|word| format!("send c {word}\nawait c *"))
        .collect();
    format!("open c main\n{}\n\nclose c", exchanges.join("\n\n"))
}

#[test]
fn a_common_layout_serves_old_frames_and_new_code_alike() {
    let run = Project::of("layouts")
        .session(
            BACKWARD,
            &lines(&["APPLE", "TELL", "BEAR", "SUM", "TELL", "AXE", "SUM", "TELL"]),
        )
        .variant("common", "layout = \"common\"")
        .variant("room", "layout = \"room\"")
        .study("");
    run.expect_sound_controls();
    let rows = run.rows();
    for row in &rows {
        println!(
            "{} {} {} {} {}",
            row.pair, row.point, row.function, row.verdict, row.cause
        );
    }
    panic!();
}
