//! Mechanisms: the same update with own layouts, with room, and with common layouts;
//! with old entries redirected, and kept.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

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
    // With two layouts every point fails, since `main` and what it knows stay old;
    // only the last reply is right, of what was converted.
    let rows = run.expect(|row| match row.pair.as_str() {
        "tiny-v1-v2-common" => "new",
        _ if row.exchange == 7 => "new",
        _ => "wrong",
    });
    for pair in ["tiny-v1-v2", "tiny-v1-v2-common", "tiny-v1-v2-room"] {
        assert_eq!(rows.iter().filter(|row| row.pair == pair).count(), 13);
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

#[test]
fn a_global_that_was_never_written_keeps_what_old_frames_still_read() {
    let run = Project::of("gap")
        .session("conformable", &lines(&["TELL", "TELL", "TELL"]))
        .variant("common", "layout = \"common\"")
        .study("");
    // An old frame's reply is right too: it tells the old member's value.
    let rows = run.expect(|_| "new");
    assert_eq!(rows.len(), 2 * 6);
}

fn renamed(old: &str) -> Project {
    let rule = format!("[[renamed]]\nrecord = \"struct place\"\nold = {old:?}\nnew = \"column\"");
    Project::of("renamed")
        .session(BACKWARD, &lines(&["TELL", "TELL", "TELL"]))
        .variant("common", "layout = \"common\"")
        .rules(&rule)
}

#[test]
fn a_member_carries_on_under_another_name_where_a_person_says_so() {
    let run = renamed("y").study("");
    let rows = run.expect(|row| match (row.pair.as_str(), row.function.as_str()) {
        // An old frame goes on with the old layout.
        ("tiny-v1-v2", "touch") => "wrong",
        _ => "new",
    });
    assert_eq!(rows.len(), 2 * 9);
}

#[test]
fn a_renamed_member_that_no_version_has_is_told_with_its_place() {
    let project = renamed("z");
    project.write();
    let output = project
        .kairos()
        .args(["patch", "tiny-v1-v2"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let expected = "pair.toml:5: the old version has no member `z` in `struct place`";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn a_record_that_another_one_reads_must_keep_its_place() {
    let common = "layout = \"common\"";
    let named = format!("{common}\nroom = {{ \"struct item\" = \"is read by struct view\" }}");
    let project = Project::of("aliases")
        .session(BACKWARD, &lines(&["A", "B"]))
        .variant("common", common)
        .variant("named", &named);
    project.write();
    let output = project
        .study_command("apart", "--pair tiny-v1-v2-common")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    for part in [
        "on unpatched v2",
        "dies of SIGSEGV",
        "in exchange 0",
        "`room`",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let run = project.study_as("together", "--pair tiny-v1-v2-named");
    assert_eq!(run.rows().len(), 4);
    run.expect(|_| "new");
}

#[test]
fn old_callers_and_pointers_keep_the_callee_that_they_mean() {
    let mut project = Project::of("keep").variant("keep", "prototypes = \"keep\"");
    for caller in ["PAY", "TABLE", "REFUND", "POINTER"] {
        let session = support::script(BACKWARD, &lines(&[caller, caller]));
        project = project.workload(&caller.to_lowercase(), &session);
    }
    let run = project.study("");
    // Where the entry jumps, an old caller calls the new version with old arguments.
    let redirected = |row: &Row| match (row.workload.as_str(), row.function.as_str()) {
        ("pay" | "table" | "pointer", "note") | (_, "show") => "wrong",
        _ => "new",
    };
    let kept = |row: &Row| match (row.workload.as_str(), row.function.as_str()) {
        // An old `refund` takes its argument from what the update sets: it means the
        // new version if it has not read that yet, and the old one if it has.
        ("refund", "note") => "wrong",
        // New code that calls through a pointer which the process holds calls the old
        // version: what a transformer must set right. It shows in later exchanges.
        ("pointer", "by_pointer") => "wrong",
        ("pointer", _) if row.exchange == 0 => "wrong",
        _ => "new",
    };
    let rows = run.expect(|row| match row.pair.as_str() {
        "tiny-v1-v2-keep" => kept(row),
        _ => redirected(row),
    });
    assert_eq!(rows.len(), 2 * 4 * 6);
}

/// What `kairos patch PAIR --json` says of records, by their names.
fn outcomes(project: &Project, pair: &str) -> Vec<(String, String, u64)> {
    let mut command = project.kairos();
    let output = command.args(["patch", pair, "--json"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let records = facts["layouts"].as_array().unwrap();
    records
        .iter()
        .map(|record| {
            let outcome = match &record["outcome"] {
                serde_json::Value::String(outcome) => outcome.clone(),
                other => other.to_string(),
            };
            let name = record["name"].as_str().unwrap().to_owned();
            (name, outcome, record["size"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn each_record_gets_the_layout_that_it_can_have() {
    let room = "room = { \"struct stored\" = \"goes to a file\" }";
    let project = Project::of("records")
        .session(
            BACKWARD,
            "open c main\nsend c SUM\nawait c sum 395\n\nclose c",
        )
        .variant("common", &format!("layout = \"common\"\n{room}"))
        .variant("room", "layout = \"room\"");
    // Baselines pass: both rewritten versions add up what they should.
    let run = project.study("");
    run.expect_sound_controls();
    for row in run.rows().iter().filter(|row| row.pair != "tiny-v1-v2") {
        assert_eq!(row.verdict, "new", "{row:?}");
    }
    // The build itself compares layouts with the plan, or fails.
    let elided = "{\"room\":\"an initialiser leaves out braces (main.c:115)\"}";
    let flexible = "{\"own\":\"it ends in a flexible array, behind which nothing can lie\"}";
    let by_hand = "{\"room\":\"it is packed or aligned by hand\"}";
    let expected = [
        ("struct elided", elided, 16),
        ("struct inner", "common", 16),
        ("struct open", flexible, 4),
        ("struct outer", "common", 120),
        ("struct stored", "{\"room\":\"goes to a file\"}", 8),
        ("struct tail", "common", 16),
        ("struct wire", by_hand, 7),
        ("bits", "common", 4),
        ("union either", "{\"room\":\"it is a union\"}", 24),
    ];
    let found = outcomes(&project, "tiny-v1-v2-common");
    let found: Vec<(&str, &str, u64)> = found
        .iter()
        .map(|(name, outcome, size)| (name.as_str(), outcome.as_str(), *size))
        .collect();
    assert_eq!(found, expected);
    let room = outcomes(&project, "tiny-v1-v2-room");
    let room: Vec<(&str, u64)> = room
        .iter()
        .filter(|(_, outcome, _)| outcome == "{\"room\":null}")
        .map(|(name, _, size)| (name.as_str(), *size))
        .collect();
    let names = [
        "struct elided",
        "struct inner",
        "struct outer",
        "struct stored",
    ];
    let more = ["struct tail", "struct wire", "bits", "union either"];
    let sizes = [16, 16, 104, 8, 16, 7, 4, 24];
    let expected: Vec<(&str, u64)> = names.into_iter().chain(more).zip(sizes).collect();
    assert_eq!(room, expected);
}

/// Compiles `records.c` by the wrapper, with this plan, and returns the object's bytes
/// without debug information, and whether rewritten text was compiled.
fn compiled(plan: &str, debug: bool) -> (Vec<u8>, bool) {
    let folder = tempfile::tempdir().unwrap();
    let server = |name: &str| {
        let servers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        fs::copy(servers.join(name), folder.path().join(name)).unwrap();
    };
    server("records.c");
    server("line_server.h");
    let map = format!("-ffile-prefix-map={}=/src", folder.path().display());
    let path = folder.path().join("plan.json");
    fs::write(&path, plan).unwrap();
    let mut command = support::kairos();
    command
        .args(["__cc", "-c", "records.c", "-O1", "-g", "-o", "records.o"])
        .current_dir(folder.path())
        .env("KAIROS_CC_REAL", "gcc")
        .env("KAIROS_CC_FLAGS", format!("[{map:?}]"))
        .env("KAIROS_CC_LOG", folder.path().join("log"))
        .env("KAIROS_CC_PLAN", &path)
        .env("KAIROS_CC_TREE", folder.path());
    assert!(command.status().unwrap().success());
    let object = folder.path().join("records.o");
    if !debug {
        let mut strip = Command::new("objcopy");
        assert!(
            strip
                .arg("--strip-debug")
                .arg(&object)
                .status()
                .unwrap()
                .success()
        );
    }
    let bytes = fs::read(&object).unwrap();
    (bytes, folder.path().join("records.o.kairos.i").exists())
}

#[test]
fn an_object_of_rewritten_text_differs_by_its_layouts_only() {
    let record = |name: &str, items: &str| {
        let key = format!(r#"{{"tag":"struct","name":"{name}","file":"records.c"}}"#);
        format!(r#"{{"records":[{{"key":{key},"items":{items},"aligned":4}}]}}"#)
    };
    let same = r#"[{"member":0},{"member":1},{"member":2}]"#;
    let padded = r#"[{"member":0},{"member":1},{"member":2},{"gap":{"at":128,"bits":64}}]"#;
    let (own, _) = compiled("{\"records\":[]}", false);
    assert_eq!(
        compiled(&record("elided", same), false),
        (own.clone(), true)
    );
    let (rewritten, was) = compiled(&record("elided", padded), false);
    assert!(was);
    assert_ne!(rewritten, own, "padding must show");
    // A unit that defines no planned record is compiled as ever.
    let (with_debug, _) = compiled("{\"records\":[]}", true);
    let (untouched, was) = compiled(&record("absent", "[]"), true);
    assert!(!was && untouched == with_debug);
}
