//! Equivalent points: one test of a class shows what tests of all its points show, and
//! each rule that keeps points apart is needed.

mod support;

use std::path::Path;

use kairos::analysis::{StudiedSession, sessions};
use kairos::equivalence::classes::Input;
use kairos::equivalence::{Classes, Conflict, Rules};
use kairos::policy::ChangedRanges;
use kairos::study::agreement::{disagreements, gather};
use kairos::study::plan::PlannedTest;
use kairos::study::store::Run as Records;
use support::rows::{self, Row};
use support::runs::{self, recursion};
use support::{LEADERS, Project, kairos};

/// What must not depend on whether a point was tested itself.
fn judged(rows: &[Row]) -> Vec<(String, String, String, u32)> {
    rows.iter()
        .map(|row| {
            let cause = row.cause.clone();
            let verdict = row.verdict.clone();
            (row.point.clone(), verdict, cause, row.discriminating)
        })
        .collect()
}

/// How many rows name each engine.
fn engines(dir: &Path) -> (usize, usize) {
    let text = std::fs::read_to_string(dir.join("tests.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let column = reader.headers().unwrap().iter().position(|h| h == "engine");
    let column = column.unwrap();
    let engines: Vec<String> = reader
        .records()
        .map(|record| record.unwrap()[column].to_owned())
        .collect();
    let judged = engines.iter().filter(|engine| *engine == "leader").count();
    (engines.len() - judged, judged)
}

/// Studies a project by leaders and by all points, and compares. Returns how many points
/// were tested and how many were not.
fn agrees(project: &Project) -> (usize, usize) {
    project.write();
    let all = project.study_as("all", "--repeat 2");
    let led = project.study_as("led", &format!("--repeat 2 {LEADERS}"));
    assert_eq!(judged(&all.rows()), judged(&led.rows()));
    assert_eq!(all.facts()["class_disagreements"], 0);
    let (tested, judged) = engines(&led.dir);
    assert_eq!(engines(&all.dir), (tested + judged, 0));
    (tested, judged)
}

#[test]
fn leaders_of_a_server_that_fails_speak_for_all_points() {
    let (tested, judged) = agrees(&recursion());
    assert!(tested > 0 && judged > 0, "{tested} tested, {judged} judged");
}

#[test]
fn leaders_of_a_server_that_forks_speak_for_all_points() {
    let (tested, judged) = agrees(&runs::sessions());
    assert!(judged > tested, "{tested} tested, {judged} judged");
}

/// A server whose data an update replaces: who touches them is measured.
fn data() -> Project {
    Project::of("data").session(
        "conformable",
        "open c main\nsend c ONE\nawait c *\n\nsend c LIMIT\nawait c *\n\n\
         send c SET 9\nawait c *\n\nsend c LIMIT\nawait c *\n\nsend c TICKET\nawait c *\n\n\
         send c SIX\nawait c *\n\nclose c",
    )
}

#[test]
fn leaders_of_an_update_that_replaces_data_speak_for_all_points() {
    let project = data();
    let (tested, judged) = agrees(&project);
    assert!(tested > 0 && judged > 0, "{tested} tested, {judged} judged");
    let touched = touched(&project.out("all"));
    assert!(touched > 0, "no step touches what is replaced");
}

/// How many steps of a run's sessions touch state.
fn touched(dir: &Path) -> usize {
    let run = Records::load(dir).unwrap();
    let touched = run.sessions.iter().filter_map(|s| s.touched.as_ref());
    touched.map(|touched| touched.steps.len()).sum()
}

/// How many classes of a run disagree if one rule is off.
fn without(dir: &Path, rule: Conflict) -> u64 {
    let run = Records::load(dir).unwrap();
    let studied = sessions::studied(&run.pairs, &run.sessions).unwrap();
    let mut plan: Vec<PlannedTest> = run.plan.clone();
    for test in &mut plan {
        let session = studied
            .iter()
            .find(|session| session.record.session == test.session)
            .unwrap();
        let classes = classes(session, &Rules::without(rule));
        let place = session.index_of(&test.point).unwrap();
        let leader = classes.of_point(place).unwrap().leader();
        test.class = session.record.trace.points[leader].id.to_string();
    }
    let plan: Vec<&PlannedTest> = plan.iter().collect();
    disagreements(&gather(&plan, run.tests().unwrap()).unwrap())
}

fn classes(session: &StudiedSession<'_>, rules: &Rules) -> Classes {
    let patch = &session.pair.patch;
    Classes::of(&Input {
        trace: &session.record.trace,
        scope: session.record.session.scope,
        functions: &session.pair.functions,
        changed: &ChangedRanges::of(patch),
        touches: patch.touches.as_ref().unwrap(),
        touched: session.record.touched.as_ref(),
        rules,
    })
    .unwrap()
}

#[test]
fn without_the_rule_of_entries_points_disagree() {
    let project = recursion();
    let run = project.study("--repeat 2");
    assert_eq!(without(&run.dir, Conflict::Begin), 0);
    assert!(without(&run.dir, Conflict::Entry) > 0);
}

#[test]
fn without_the_rule_of_state_points_disagree() {
    let project = data();
    let run = project.study("--repeat 2");
    assert_eq!(without(&run.dir, Conflict::Begin), 0);
    assert!(without(&run.dir, Conflict::State) > 0);
}

#[test]
fn without_the_rule_of_forks_points_disagree() {
    let project = runs::sessions();
    let run = project.study("--repeat 2");
    assert_eq!(without(&run.dir, Conflict::Begin), 0);
    assert!(without(&run.dir, Conflict::Fork) > 0);
}

/// A run that disagrees is told of, and reports find it again in the records.
#[test]
fn disagreements_are_findings() {
    let project = recursion();
    let run = project.study("--repeat 2");
    // Records of another test in place of one member's.
    let tests = run.dir.join("tests.jsonl");
    let text = std::fs::read_to_string(&tests).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (tested, _) = engines(&run.dir);
    assert_eq!(lines.len(), tested);
    let changed = text.replace("\"new_entries\":{}", "\"new_entries\":{\"f\":1}");
    let half = lines.len() / 2;
    let mixed: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(number, line)| {
            let other = changed.lines().nth(number).unwrap();
            let line = if number % 2 == half % 2 { other } else { *line };
            line.to_owned() + "\n"
        })
        .collect();
    std::fs::write(&tests, mixed.concat()).unwrap();
    let output = kairos().arg("report").arg(&run.dir).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let table = std::fs::read_to_string(run.dir.join("tables/disagreements.md")).unwrap();
    assert!(table.contains("new f"), "{table}");
    let classes = std::fs::read_to_string(run.dir.join("classes.csv")).unwrap();
    assert!(classes.contains("differ"), "{classes}");
}

#[test]
fn further_members_are_tested_and_compared() {
    let project = recursion();
    let run = project.study("--repeat 2 --check-members 1");
    let (tested, judged) = engines(&run.dir);
    let led = project.study_as("led", &format!("--repeat 2 {LEADERS}"));
    let (leaders, _) = engines(&led.dir);
    assert!(tested > leaders && judged > 0, "{tested} of {leaders}");
    assert_eq!(run.facts()["class_disagreements"], 0);
    assert_eq!(judged_rows(&run.dir), judged_rows(&led.dir));
}

fn judged_rows(dir: &Path) -> Vec<(String, String, String, u32)> {
    judged(&rows::read(dir))
}

#[test]
fn the_corpus_of_the_project_has_no_disagreement_under_any_case() {
    // `kairos corpus` tests every point and fails where classes disagree; what it would
    // find without the rule of entries shows that it looks.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folder = tempfile::tempdir().unwrap();
    let output = kairos()
        .arg("--root")
        .arg(root)
        .args([
            "corpus",
            "runs_twice",
            "qsort_callback",
            "static_local_survives",
            "--out",
        ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let run = folder.path().join("update-process");
    assert_eq!(without(&run, Conflict::Begin), 0);
    assert!(without(&run, Conflict::Entry) > 0);
}
