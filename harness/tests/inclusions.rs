//! Each policy allows what a stricter one allows: activeness, con-freeness by
//! whole functions, con-freeness; and activeness, activeness by the rest of each
//! function. Asserted at every point of traces.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kairos::policy::{Evaluator, Policy, activeness, activeness_rest, con_free};
use kairos::study::store::{PairRecord, SessionRecord};
use kairos::trace::Stack;
use support::Project;

/// One point: the function entered and who was asked, strictest first, with what
/// each said.
struct Asked {
    function: String,
    activeness: bool,
    rest: bool,
    coarse: bool,
    by_type: bool,
    by_member: bool,
}

fn lines<T: serde::de::DeserializeOwned>(path: &Path) -> Vec<T> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Asks the policies about every point and wait of a run's real pairs.
fn ask(dir: &Path) -> Vec<Asked> {
    let pairs: Vec<PairRecord> = lines(&dir.join("pairs.jsonl"));
    let sessions: Vec<SessionRecord> = lines(&dir.join("sessions.jsonl"));
    let mut asked = Vec::new();
    for session in &sessions {
        let pair = pairs
            .iter()
            .find(|pair| pair.pair == session.session.pair)
            .unwrap();
        let evaluator = Evaluator::new(&pair.patch, &pair.functions, &pair.manual, None);
        let trace = &session.trace;
        let stack = |index: &u32| &trace.stacks[usize::try_from(*index).unwrap()];
        for point in &trace.points {
            let stacks: Vec<&Stack> = std::iter::once(&point.stack)
                .chain(&point.other_stacks)
                .map(stack)
                .collect();
            let role = &point.id.role.role;
            let view = evaluator.view(role, Some(point.function), &stacks, None);
            let allows = |policy: &dyn Policy| policy.decide(&view).is_allowed();
            asked.push(Asked {
                function: evaluator.function_entered(point),
                activeness: allows(&activeness::Activeness),
                rest: allows(&activeness_rest::ActivenessRest),
                coarse: allows(&con_free::COARSE),
                by_type: allows(&con_free::BY_TYPE),
                by_member: allows(&con_free::BY_MEMBER),
            });
        }
    }
    asked
}

fn assert_inclusions(asked: &[Asked]) {
    assert!(!asked.is_empty());
    for Asked {
        function,
        activeness,
        rest,
        coarse,
        by_type,
        by_member,
    } in asked
    {
        assert!(!activeness || *coarse, "{function}: activeness, not coarse");
        assert!(!coarse || *by_type, "{function}: coarse, not by type");
        assert!(!by_type || *by_member, "{function}: by type, not by member");
        assert!(!activeness || *rest, "{function}: activeness, not its rest");
    }
}

fn project() -> Project {
    let exchange = |word: &str, count: u32| format!("send c {word}\nawait c lines {count}");
    let session = format!(
        "open c main\n{}\n\n{}\n\n{}\n\nclose c",
        exchange("early", 1),
        exchange("late", 1),
        exchange("begin", 2)
    );
    Project::of("types").session("conformable", &session)
}

/// Two releases of a real server: at every return address the syntax tree covers
/// what padding shows, and at every point the policies include each other. The
/// builds take most of a minute, so that it runs when it is asked for.
#[test]
#[ignore = "builds three releases of lighttpd: KAIROS_ARCHIVES=DIR cargo test --test inclusions -- --ignored"]
fn lighttpd_is_covered_and_its_policies_include_each_other() {
    assert!(
        std::env::var_os("KAIROS_ARCHIVES").is_some(),
        "KAIROS_ARCHIVES names no folder of archives"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cache: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    for pair in ["lighttpd-1.4.79-1.4.85-bare", "lighttpd-1.4.69-1.4.79-bare"] {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("run");
        let output = support::kairos()
            .arg("--root")
            .arg(root)
            .env("KAIROS_CACHE", &cache)
            .args(["study", "--pair", pair, "--workload", "files"])
            .args(["--sample", "1", "--shard", "1/100", "--out"])
            .arg(&out)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        let pairs: Vec<PairRecord> = lines(&out.join("pairs.jsonl"));
        let uses = pairs[0].patch.uses.as_ref().unwrap();
        let sites: usize = uses.functions.values().map(|f| f.sites.len()).sum();
        assert!(sites > 5000, "{sites}");
        if uses.finders.len() == 3 {
            assert_eq!(uses.uncovered(), []);
        }
        let asked = ask(&out);
        assert_inclusions(&asked);
        let count = |allows: fn(&Asked) -> bool| asked.iter().filter(|point| allows(point)).count();
        println!(
            "{pair}: {sites} return addresses; {} points; activeness {}, its rest {}, \
             con-freeness by functions {}, by types {}, by members {}",
            asked.len(),
            count(|point| point.activeness),
            count(|point| point.rest),
            count(|point| point.coarse),
            count(|point| point.by_type),
            count(|point| point.by_member),
        );
    }
}

#[test]
fn what_can_still_follow_decides() {
    let run = project().study("");
    let mut reader = csv::Reader::from_path(run.dir.join("tests.csv")).unwrap();
    let rows: Vec<BTreeMap<String, String>> =
        reader.deserialize().map(|row| row.unwrap()).collect();
    let of = |function: &str| -> Vec<[&str; 3]> {
        rows.iter()
            .filter(|row| row["function"] == function)
            .map(|row| {
                ["activeness", "activeness_rest", "con_free"].map(|column| row[column].as_str())
            })
            .collect()
    };
    for redirected in ["early", "late", "begin"] {
        assert_eq!(of(redirected), [["allowed"; 3]], "{redirected}");
    }
    assert_eq!(
        of("answer"),
        [
            // In `early`: what it used is behind it.
            ["refused", "allowed", "allowed"],
            // In `late`: it counts afterwards.
            ["refused", "refused", "refused"],
            // In `begin`, twice: the rest is the same, no type matters.
            ["refused", "allowed", "allowed"],
            ["refused", "allowed", "allowed"],
        ]
    );
    let refusals = std::fs::read_to_string(run.dir.join("refusals.csv")).unwrap();
    assert!(refusals.contains("uses-changed-type"), "{refusals}");
    let asked = ask(&run.dir);
    assert_inclusions(&asked);
    let count = |allows: fn(&Asked) -> bool| asked.iter().filter(|point| allows(point)).count();
    // The inclusions are strict here, so that the test says something.
    assert!(count(|p| p.activeness) < count(|p| p.rest));
    assert!(count(|p| p.coarse) < count(|p| p.by_type));
    assert!(count(|p| p.by_type) < asked.len());
}

#[test]
fn policies_include_each_other_at_every_point_of_kvd() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let cache: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let output = support::kairos()
        .arg("--root")
        .arg(root)
        .env("KAIROS_CACHE", cache)
        .args([
            "study",
            "--pair",
            "kvd-v1-v7",
            "--workload",
            "two-clients",
            "--sample",
            "1",
        ])
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    let asked = ask(&out);
    assert_inclusions(&asked);
    assert!(asked.iter().any(|point| point.by_type && !point.activeness));
}

/// A run of a real pair with as few tests as can be, if its archives can be had: what
/// matters here is its trace and its table of uses.
fn run_of_real_pair(pair: &str, workload: &str, archives: &[&str]) -> Option<tempfile::TempDir> {
    let folder = std::env::var_os("KAIROS_ARCHIVES").map(PathBuf::from);
    let found = folder.filter(|folder| archives.iter().all(|file| folder.join(file).is_file()));
    let Some(found) = found else {
        let files = archives.join(", ");
        println!("skipped: {pair}: KAIROS_ARCHIVES names no folder with {files}");
        return None;
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let run = tempfile::tempdir().unwrap();
    let cache: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let output = support::kairos()
        .arg("--root")
        .arg(root)
        .env("KAIROS_CACHE", cache)
        .args(["study", "--pair", pair, "--workload", workload])
        .args(["--sample", "1", "--shard", "1/100", "--archives"])
        .arg(found)
        .arg("--out")
        .arg(run.path().join("run"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    Some(run)
}

/// The inclusions, and that the syntax tree sees what padding shows, of one real pair.
fn assert_sound(dir: &Path) {
    let asked = ask(dir);
    assert_inclusions(&asked);
    assert!(asked.iter().any(|point| point.by_type));
    let pairs: Vec<PairRecord> = lines(&dir.join("pairs.jsonl"));
    let table = pairs.iter().find_map(|pair| pair.patch.uses.as_ref());
    let table = table.expect("a table of uses");
    if table.finders.iter().any(|finder| finder.contains("clang")) {
        assert_eq!(table.uncovered(), []);
        assert!(table.users().len() > 100);
    } else {
        println!("skipped: what the syntax tree sees: there is no libclang");
    }
}

#[test]
fn policies_include_each_other_at_every_point_of_memcached() {
    let archives = [
        "memcached_1.6.38.orig.tar.xz",
        "memcached_1.6.45.orig.tar.xz",
    ];
    if !Path::new("/usr/include/event.h").is_file() {
        println!("skipped: memcached needs the Debian package libevent-dev");
        return;
    }
    if let Some(run) = run_of_real_pair("memcached-1.6.38-1.6.45-bare", "meta", &archives) {
        assert_sound(&run.path().join("run"));
    }
}
