//! Equivalent points: one test of a class shows what tests of all its points show, and
//! each rule that keeps points apart is needed.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use kairos::analysis::{StudiedSession, sessions};
use kairos::equivalence::classes::Input;
use kairos::equivalence::{Classes, Conflict, Rules};
use kairos::policy::ChangedRanges;
use kairos::study::agreement::{Disagreements, disagreements, gather};
use kairos::study::plan::PlannedTest;
use kairos::study::progress::Quiet;
use kairos::study::store::{Run as Records, TestRecord};
use kairos::subject::cache::Cache;
use kairos::subject::{BuildOptions, Catalogue};
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

/// A server most of whose functions have nothing to do with the update, which changes
/// one of them and gives a global another initial value.
fn equivalent() -> Project {
    let roles = "[[role]]\nname = \"server\"\nfirst = true\n\
                 [[role]]\nname = \"child\"\nparent = \"server\"\n";
    let words = [
        "LINES", "HELLO", "LINES", "LIMIT", "RAISE", "LINES", "LIMIT", "FORK", "LINES", "HELLO",
    ];
    let answered = |word: &&str| **word != *"RAISE";
    let mut session = "open c main\n".to_owned();
    for (number, word) in words.iter().enumerate() {
        let _ = writeln!(session, "send c {word}");
        if answered(word) {
            session += "await c *\n";
        }
        if number + 1 < words.len() && answered(word) {
            session += "\n";
        }
    }
    Project::of("equivalent")
        .manifest(roles)
        .session("conformable", &(session + "\nclose c"))
}

#[test]
fn leaders_speak_for_all_points() {
    let project = equivalent();
    let (tested, judged) = agrees(&project);
    assert!(judged > tested, "{tested} tested, {judged} judged");
    let touched = touched(&project.out("all"));
    assert!(touched > 0, "no step touches what is replaced");
}

#[test]
fn leaders_of_servers_that_fail_or_fork_speak_for_all_points() {
    for project in [recursion(), runs::sessions()] {
        let (tested, judged) = agrees(&project);
        assert!(tested > 0 && judged > 0, "{tested} tested, {judged} judged");
    }
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
    let compared = gather(run.sessions.iter(), &plan, run.tests().unwrap()).unwrap();
    disagreements(&compared.classes).all
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
fn without_one_of_the_rules_points_disagree() {
    let needed = [
        (equivalent(), vec![Conflict::Entry, Conflict::State]),
        // No signal tells this one of its children.
        (runs::sessions(), vec![Conflict::Fork]),
    ];
    for (project, rules) in needed {
        let run = project.study("--repeat 2");
        assert_eq!(without(&run.dir, Conflict::Begin), 0);
        for rule in rules {
            assert!(without(&run.dir, rule) > 0, "without {rule}");
        }
    }
}

/// The last test of a run whose point does not lead its class.
fn last_member(dir: &Path) -> String {
    let records = Records::load(dir).unwrap();
    let mut led = records.plan.iter();
    let member = led.rfind(|test| test.class != test.point.to_string());
    member.unwrap().id.clone()
}

/// Changes the records of a run's tests.
fn edit(dir: &Path, mut change: impl FnMut(&mut serde_json::Value)) {
    let tests = dir.join("tests.jsonl");
    let text = std::fs::read_to_string(&tests).unwrap();
    let changed: Vec<String> = text
        .lines()
        .map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            change(&mut record);
            record.to_string() + "\n"
        })
        .collect();
    std::fs::write(&tests, changed.concat()).unwrap();
}

/// A run that disagrees is told of, and reports find it again in the records.
#[test]
fn disagreements_are_findings() {
    let project = equivalent();
    let run = project.study("--repeat 2");
    // Another observation in place of one member's.
    let member = last_member(&run.dir);
    edit(&run.dir, |record| {
        if record["test"] == member {
            for seen in record["observations"].as_array_mut().unwrap() {
                seen["new_entries"]["greeting"] = 77.into();
            }
        }
    });
    let output = kairos().arg("report").arg(&run.dir).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let table = std::fs::read_to_string(run.dir.join("tables/disagreements.md")).unwrap();
    assert!(table.contains("greeting 0 against 77"), "{table}");
    let classes = std::fs::read_to_string(run.dir.join("classes.csv")).unwrap();
    assert!(classes.contains("differ"), "{classes}");
}

#[test]
fn further_members_are_tested_and_compared() {
    let project = equivalent();
    let run = project.study("--repeat 2 --check-members 1");
    let (tested, judged) = engines(&run.dir);
    let led = project.study_as("led", &format!("--repeat 2 {LEADERS}"));
    let (leaders, _) = engines(&led.dir);
    assert!(tested > leaders && judged > 0, "{tested} of {leaders}");
    assert_eq!(run.facts()["class_disagreements"], 0);
    assert_eq!(judged_rows(&run.dir), judged_rows(&led.dir));
}

/// What is interrupted before differing tests have run again says so, and going on with
/// it finds that one run was the odd one.
#[test]
fn differences_of_an_interrupted_run_are_not_confirmed() {
    let project = equivalent();
    let run = project.study("--repeat 2");
    let member = last_member(&run.dir);
    edit(&run.dir, |record| {
        if record["test"] == member {
            let seen = record["observations"].as_array_mut().unwrap();
            seen.truncate(1);
            seen[0]["new_entries"]["greeting"] = 77.into();
        }
    });
    let go_on = |interrupted: bool| {
        let catalogue = Catalogue::open(project.root()).unwrap();
        let build = BuildOptions {
            cache: Cache::at(project.root().join("cache")),
            ..BuildOptions::from_environment(Vec::new()).unwrap()
        };
        let kairos = Path::new(env!("CARGO_BIN_EXE_kairos"));
        let mut options = support::options(&project, kairos);
        options.resume = Some(run.dir.clone());
        let interrupted = AtomicBool::new(interrupted);
        kairos::study::run(&catalogue, &build, &options, &Quiet, &interrupted).unwrap()
    };
    let counted = |all, unconfirmed| Disagreements { all, unconfirmed };
    assert_eq!(go_on(true).disagreements, counted(1, 1));
    let facts = run.facts();
    assert_eq!(facts["class_disagreements"], 1);
    assert_eq!(facts["unconfirmed_disagreements"], 1);
    let output = kairos().arg("report").arg(&run.dir).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("have not run again"), "{told}");
    assert_eq!(go_on(false).disagreements, counted(0, 0));
    let facts = run.facts();
    assert_eq!(facts["class_disagreements"], 0);
    assert_eq!(facts["unconfirmed_disagreements"], 0);
    let tests = Records::load(&run.dir).unwrap();
    let tests = tests.tests().unwrap().map(Result::unwrap);
    let again = tests.filter(|test| test.test == member);
    assert!(again.map(|test| test.observations.len()).max() > Some(1));
}

/// A leader that no run reaches again is replaced by the next member of its class.
#[test]
fn a_lost_leader_is_substituted() {
    let project = equivalent();
    project.write();
    let all = project.study_as("all", "--repeat 2");
    let led = project.study_as("led", &format!("--repeat 2 {LEADERS}"));
    let records = Records::load(&led.dir).unwrap();
    let next = |class: &str, from: usize| -> Option<&PlannedTest> {
        let others = records.plan.iter().filter(|test| test.class == class);
        others
            .filter(|test| test.point.to_string() != class)
            .nth(from)
    };
    let leader = records
        .plan
        .iter()
        .find(|test| test.tested && next(&test.class, 3).is_some())
        .unwrap();
    edit(&led.dir, |record| {
        if record["test"] == leader.id {
            for seen in record["observations"].as_array_mut().unwrap() {
                let update = r#"{"outcome": "not-reached", "reason": "another function"}"#;
                seen["update"] = serde_json::from_str(update).unwrap();
            }
        }
    });
    let tested = |dir: &Path| engines(dir).0;
    let before = tested(&led.dir);
    runs::succeeds(&mut runs::resume(&project, "led"));
    assert_eq!(tested(&led.dir), before + 1);
    let second = next(&leader.class, 0).unwrap();
    let finished = Records::load(&led.dir).unwrap();
    let of_second = |test: &TestRecord| test.test == second.id;
    assert!(
        finished
            .tests()
            .unwrap()
            .map(Result::unwrap)
            .any(|test| of_second(&test))
    );
    // The class is judged as if it had been tested point by point.
    let (whole, led) = (judged_rows(&all.dir), judged_rows(&led.dir));
    let lost = leader.point.to_string();
    for (expected, seen) in whole.iter().zip(&led) {
        if seen.0 == lost {
            assert_eq!(seen.1, "not-reached");
        } else {
            assert_eq!(seen, expected);
        }
    }
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
