//! Engines differ in speed, never in what they observe: at every point of several
//! sessions of kvd, a test in a simulated world, by rollback or by fork snapshot, shows
//! what a test on real sockets shows.

mod support;

use std::path::{Path, PathBuf};

use kairos::engine::{EngineKind, PointRequest, RemoteEngine, SessionSpec, Tested};
use kairos::patch::Patch;
use kairos::study::engine::Comparison;
use kairos::study::prepare::{PreparedPair, broken_patch};
use kairos::study::session::PreparedSession;
use kairos::study::sessions::first_processor;
use kairos::study::single;
use kairos::subject::{BuildOptions, Catalogue};
use kairos::trace::Scope;
use kairos::verdict::difference::difference;

fn executable() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_kairos"))
}

fn catalogue() -> Catalogue {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Catalogue::open(root).unwrap()
}

fn build() -> BuildOptions {
    BuildOptions::from_environment(Vec::new()).unwrap()
}

/// A session with its points, and how workers of it are started.
struct Prepared {
    session: PreparedSession,
    spec: SessionSpec,
    requests: Vec<PointRequest>,
}

/// How tests by rollback compare with tests by restart.
#[derive(Debug, Default)]
struct Compared {
    points: usize,
    /// At how many both had to be asked again.
    repeated: usize,
    /// New code did what is not simulated there.
    by_restart: usize,
    differences: Vec<String>,
}

impl Prepared {
    /// With a patch of another new version than the pair's, which is then the old one.
    fn new(pair: &PreparedPair<'_>, workload: &str, patch: Option<&Patch>) -> Self {
        support::take_a_processor();
        let which = single::Which {
            workload,
            scope: Scope::Process,
            startup: false,
        };
        let (session, engine) =
            single::session(pair, &which, &executable(), first_processor()).unwrap();
        drop(engine);
        let used = patch.unwrap_or(&pair.patch);
        let mut spec = single::specification(pair, &which, used, first_processor()).unwrap();
        if patch.is_some() {
            spec.new = spec.old.clone();
        }
        let points = &session.record.trace.points;
        let requests = points
            .iter()
            .map(|point| session.request(&point.id).unwrap())
            .collect();
        Self {
            session,
            spec,
            requests,
        }
    }

    fn worker(&self) -> RemoteEngine {
        let mut worker = RemoteEngine::start(&executable(), &self.spec).unwrap();
        worker.set_limits(self.session.limits).unwrap();
        worker
    }

    /// A worker whose tests are run by rollback.
    fn simulated(&self) -> RemoteEngine {
        self.by(EngineKind::Rollback)
    }

    /// A worker whose tests are run by an engine.
    fn by(&self, kind: EngineKind) -> RemoteEngine {
        let mut worker = self.worker();
        assert_eq!(worker.use_engine(kind).unwrap(), None);
        worker
    }

    /// Runs tests of some points both ways, as a study does: where both show different
    /// things, they are asked again.
    fn compare(&self, requests: &[&PointRequest]) -> Compared {
        let (mut real, mut simulated) = (self.worker(), self.simulated());
        let mut comparison = Comparison::default();
        comparison.note(&self.session.record.old);
        let mut compared = Compared::default();
        for request in requests {
            let rolled = simulated.test(request, true).unwrap();
            if rolled.engine != EngineKind::Rollback {
                compared.by_restart += 1;
                continue;
            }
            let restarted = real.test(request, true).unwrap().observation;
            compared.points += 1;
            let ask = &mut |kind| {
                let worker = match kind {
                    EngineKind::Rollback => &mut simulated,
                    _ => &mut real,
                };
                Ok(worker.test(request, true)?.observation)
            };
            let seen = [&restarted, &rolled.observation];
            let told = comparison.differ(EngineKind::Rollback, seen, ask).unwrap();
            compared.repeated += usize::from(told.repeated);
            if let Some(difference) = told.difference {
                compared
                    .differences
                    .push(format!("{}: {difference}", request.id));
            }
        }
        compared
    }

    /// Runs every test by rollback and by restart; how many points were compared.
    fn agrees(&self) -> usize {
        self.agrees_by(EngineKind::Rollback)
    }

    /// Runs every test by an engine and by restart; how many points were compared.
    fn agrees_by(&self, kind: EngineKind) -> usize {
        let (mut real, mut simulated) = (self.worker(), self.by(kind));
        let alone = simulated.test(&self.requests[0], false).unwrap();
        assert_eq!(
            difference(&self.session.record.old, &alone.observation),
            None
        );
        for request in &self.requests {
            let restarted = real.test(request, true).unwrap().observation;
            let rolled = simulated.test(request, true).unwrap();
            assert_eq!(rolled.engine, kind, "{}", request.id);
            let rolled = rolled.observation;
            let difference = Comparison::default().apart(&restarted, &rolled);
            assert!(
                difference.is_none(),
                "{}: {difference:?}\n{kind} {rolled:#?}\nrestart {restarted:#?}",
                request.id
            );
        }
        self.requests.len()
    }
}

/// All points of some sessions of a pair, or of the control arm over its old version.
fn pair_agrees(name: &str, workloads: &[&str]) {
    let (catalogue, build) = (catalogue(), build());
    let pair = single::pair(&catalogue, name, &build).unwrap();
    for workload in workloads {
        let points = Prepared::new(&pair, workload, None).agrees();
        println!("{name} {workload}: {points} points agree");
        assert!(points > 100, "{points}");
    }
}

#[test]
fn a_plain_update_is_seen_alike() {
    pair_agrees("kvd-v1-v2", &["basic", "numbers"]);
}

/// Copies of a server that stands at the point, all of whose tests go to their ends.
#[test]
fn a_copy_at_each_point_is_seen_alike() {
    let (catalogue, build) = (catalogue(), build());
    for (name, workload) in [
        ("kvd-v1-v2", "numbers"),
        ("kvd-v8-v9", "two-clients"),
        ("kvd-v9-v10", "two-clients"),
    ] {
        let pair = single::pair(&catalogue, name, &build).unwrap();
        let prepared = Prepared::new(&pair, workload, None);
        let points = prepared.agrees_by(EngineKind::ForkSnapshot);
        println!("{name} {workload}: {points} points agree");
        assert!(points > 100, "{points}");
    }
}

#[test]
fn a_transformer_is_seen_alike() {
    pair_agrees("kvd-v2-v3", &["post-update"]);
}

#[test]
fn converted_live_state_is_seen_alike() {
    pair_agrees("kvd-v8-v9", &["two-clients"]);
}

/// Old frames of a server that crashes run no more, whatever the client still does.
#[test]
fn crashes_are_seen_alike() {
    pair_agrees("kvd-v9-v10", &["two-clients"]);
}

#[test]
fn the_control_arm_is_seen_alike() {
    pair_agrees("kvd-v1-v1-control", &["errors"]);
}

#[test]
fn a_planted_fault_is_seen_alike() {
    let (catalogue, build) = (catalogue(), build());
    let pair = single::pair(&catalogue, "kvd-v1-v2", &build).unwrap();
    for function in ["table_get", "client_append", "free_slot"] {
        let broken = broken_patch(&pair.id, &pair.old, function).unwrap();
        let prepared = Prepared::new(&pair, "basic", Some(&broken.patch));
        let points = prepared.agrees();
        println!("broken {function}: {points} points agree");
    }
}

/// Resident kilobytes and open descriptors of a process.
fn usage(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0);
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count();
    (resident, open)
}

fn only_child(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap();
    let mut children = children.split_ascii_whitespace();
    let only = children.next().unwrap().parse().unwrap();
    assert_eq!(children.next(), None, "{pid} has more than one child");
    only
}

/// Worker and server neither grow nor keep anything open, however many tests one
/// server lives through, and no process is left.
#[test]
fn many_tests_leave_nothing_behind() {
    for kind in [EngineKind::Rollback, EngineKind::ForkSnapshot] {
        leave_nothing_behind(kind);
    }
}

fn leave_nothing_behind(kind: EngineKind) {
    const ROUNDS: usize = 8;
    let (catalogue, build) = (catalogue(), build());
    let pair = single::pair(&catalogue, "kvd-v1-v2", &build).unwrap();
    let prepared = Prepared::new(&pair, "basic", None);
    let mut engine = prepared.by(kind);
    let round = |engine: &mut RemoteEngine| {
        for request in prepared.requests.iter().step_by(2) {
            let tested = engine.test(request, true).unwrap();
            assert_eq!(tested.engine, kind, "{}", request.id);
        }
    };
    round(&mut engine);
    let worker = only_child(engine.process_id());
    let before = usage(worker);
    for _ in 0..ROUNDS {
        round(&mut engine);
    }
    let after = usage(worker);
    // Of its copies none is left.
    let server = usage(only_child(worker));
    println!("{kind}: worker: {before:?} then {after:?} (KB, descriptors); server: {server:?}");
    assert!(after.0 < before.0 + 4096, "{before:?} {after:?}");
    assert_eq!(after.1, before.1);
}

/// The cells of `tests.csv` by column, one row per point.
fn rows(dir: &Path) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(dir.join("tests.csv")).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

/// A study of failing updates by rollback: each failing test is repeated ten times, no
/// row is flaky, and all rows are those of restart.
#[test]
fn failures_repeat_and_rows_are_those_of_restart() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let study = |engine: &str| {
        let out = folder.path().join(engine);
        let output = support::kairos()
            .arg("--root")
            .arg(root)
            .args(["study", "--pair", "kvd-v6-v7-bare", "--workload", "bulk"])
            .args(["--sample", "40", "--jobs", "1", "--repeat", "10"])
            .args(["--engine", engine, "--out"])
            .arg(&out)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        let facts = std::fs::read_to_string(out.join("run.json")).unwrap();
        let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
        (rows(&out), facts["engines"][0].clone())
    };
    let (mut rolled, why) = study("auto");
    assert_eq!(why["engine"], "rollback", "{why}");
    assert!(rolled.iter().any(|row| row["verdict"] == "wrong"));
    for row in &rolled {
        assert_eq!(row["engine"], "rollback", "{row:?}");
        assert_ne!(row["verdict"], "flaky", "{row:?}");
    }
    let (mut restarted, _) = study("restart");
    for row in rolled.iter_mut().chain(&mut restarted) {
        for differs in ["engine", "wall_us", "convert_us"] {
            row.remove(differs);
        }
    }
    assert_eq!(rolled, restarted);
}

/// A project with one pair of a real server, whose only workload is the beginning of one
/// of its sessions; none if its sources cannot be had.
fn shortened(
    name: &str,
    archives: &[&str],
    workload: &str,
    exchanges: usize,
) -> Option<tempfile::TempDir> {
    let sources = std::env::var_os("KAIROS_ARCHIVES").map(PathBuf::from);
    if !sources.is_some_and(|folder| archives.iter().all(|file| folder.join(file).is_file())) {
        println!("skipped: {name}: KAIROS_ARCHIVES names no folder with {archives:?}");
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let project = tempfile::tempdir().unwrap();
    let subject = name.split('-').next().unwrap();
    for folder in [
        format!("subjects/{subject}"),
        format!("update-pairs/{name}"),
    ] {
        support::copy_folder(&root.join(&folder), &project.path().join(&folder));
    }
    let folder = project.path().join("subjects").join(subject);
    let session = folder.join(format!("workloads/{workload}.session"));
    let text = std::fs::read_to_string(&session).unwrap();
    let parts: Vec<&str> = text.split("\nexchange ").collect();
    std::fs::write(&session, parts[..=exchanges].join("\nexchange ")).unwrap();
    Some(project)
}

/// Of the beginning of a session of a real server most points are tested by rollback,
/// and those that are sampled show what restart shows.
fn real_server_agrees(project: &tempfile::TempDir, name: &str, workload: &str) {
    const SAMPLED: usize = 30;
    const TRACES: usize = 4;
    let catalogue = Catalogue::open(project.path()).unwrap();
    let build = build();
    let pair = single::pair(&catalogue, name, &build).unwrap();
    // What comes behind a tick of the second in its exchange is left to restart: a trace
    // of a busy machine has one in many exchanges, and is taken again.
    let mut mostly_by_rollback = (0..TRACES).map(|_| {
        let prepared = Prepared::new(&pair, workload, None);
        let all = &prepared.requests;
        let chosen: Vec<_> = all.iter().step_by(all.len() / SAMPLED).collect();
        let compared = prepared.compare(&chosen);
        println!("{name} {workload}: of {} points {compared:?}", chosen.len());
        assert!(compared.differences.is_empty(), "{compared:?}");
        compared.points * 2 >= chosen.len()
    });
    assert!(mostly_by_rollback.any(|mostly| mostly));
}

#[test]
fn ngircd_and_its_resolvers_are_seen_alike() {
    let archives = ["ngircd_27.orig.tar.xz", "ngircd_28.orig.tar.xz"];
    if let Some(project) = shortened("ngircd-27-28", &archives, "operator", 6) {
        real_server_agrees(&project, "ngircd-27-28", "operator");
    }
}

#[test]
fn lighttpd_and_its_clock_are_seen_alike() {
    let name = "lighttpd-1.4.79-1.4.85-bare";
    let archives = ["lighttpd_1.4.79.orig.tar.xz", "lighttpd_1.4.85.orig.tar.xz"];
    if let Some(project) = shortened(name, &archives, "files", 4) {
        real_server_agrees(&project, name, "files");
    }
}

/// A session that a person names, and which of its points.
struct Chosen {
    pair: String,
    workload: String,
    /// Moments of points, such as `15:318`, and exchanges; all if none is named.
    named: Vec<String>,
    /// Every how many-th of these is tested.
    step: usize,
}

impl Chosen {
    /// As the environment has it; none if no session is named.
    fn by_a_person() -> Option<Self> {
        let session = std::env::var("KAIROS_SESSION").ok()?;
        let (pair, workload) = session.split_once(' ').expect("PAIR WORKLOAD");
        let named = std::env::var("KAIROS_POINTS").unwrap_or_default();
        Some(Self {
            pair: pair.to_owned(),
            workload: workload.to_owned(),
            named: named.split_whitespace().map(str::to_owned).collect(),
            step: std::env::var("KAIROS_STEP").map_or(1, |step| step.parse().unwrap()),
        })
    }

    fn wants(&self, point: &PointRequest) -> bool {
        let id = &point.id;
        let moment = format!("{}:{}", id.moment(), id.index);
        let named = |name: &String| *name == moment || *name == id.moment();
        self.named.is_empty() || self.named.iter().any(named)
    }
}

/// Milliseconds of processor time that a worker and all its children took that are no
/// more.
fn taken(engine: &RemoteEngine) -> u64 {
    let worker = only_child(engine.process_id());
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = fields
        .split_ascii_whitespace()
        .skip(11)
        .take(4)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    // The kernel counts a hundred in a second, wherever it runs.
    ticks * 10
}

/// Tests points, and says what a test took.
fn measured(
    prepared: &Prepared,
    worker: &mut RemoteEngine,
    points: &[(&PointRequest, &str)],
) -> Vec<Tested> {
    let begun = (taken(worker), std::time::Instant::now());
    let tests = points.iter().map(|(point, _)| worker.test(point, true));
    let tested: Vec<_> = tests.map(Result::unwrap).collect();
    // The server that was kept ends, and counts.
    worker.set_limits(prepared.session.limits).unwrap();
    let count = u32::try_from(points.len().max(1)).unwrap();
    let processor = std::time::Duration::from_millis(taken(worker) - begun.0) / count;
    let wall = begun.1.elapsed() / count;
    println!("a test took {processor:?} of processor time, {wall:?} in all");
    tested
}

/// For people: of the session `KAIROS_SESSION` (`PAIR WORKLOAD`) every `KAIROS_STEP`th
/// point, or of those that `KAIROS_POINTS` names (`2:257 15`: a point and an exchange): which ones rollback
/// cannot run, and why; what the others show by rollback and by restart, where both are
/// asked again as a study does; and what either way takes.
#[test]
#[ignore = "needs KAIROS_SESSION"]
fn how_a_session_compares() {
    let Some(chosen) = Chosen::by_a_person() else {
        return;
    };
    let (catalogue, build) = (catalogue(), build());
    let pair = single::pair(&catalogue, &chosen.pair, &build).unwrap();
    let prepared = Prepared::new(&pair, &chosen.workload, None);
    let function = |entry| {
        let known = pair.functions.iter().find(|f| f.entry == entry);
        known.map_or("?", |f| f.name.as_str())
    };
    let traced = &prepared.session.record.trace.points;
    let all = prepared.requests.iter().zip(traced);
    let wanted: Vec<_> = all
        .filter(|(request, _)| chosen.wants(request))
        .map(|(request, point)| (request, function(point.function)))
        .step_by(chosen.step)
        .collect();
    let mut simulated = prepared.simulated();
    print!("rollback: ");
    let rolled = measured(&prepared, &mut simulated, &wanted);
    print!("restart: ");
    let mut real = prepared.worker();
    let restarted = measured(&prepared, &mut real, &wanted);

    let mut comparison = Comparison::default();
    comparison.note(&prepared.session.record.old);
    for seen in &restarted {
        comparison.note(&seen.observation);
    }
    let mut fallen = std::collections::BTreeMap::<&str, Vec<String>>::new();
    let (mut compared, mut again, mut differences) = (0, Vec::new(), Vec::new());
    for (((request, function), rolled), restarted) in wanted.iter().zip(&rolled).zip(&restarted) {
        let place = format!("{} {function}", request.id);
        if rolled.engine != EngineKind::Rollback {
            let why = rolled.instead.as_deref().unwrap_or("?");
            fallen.entry(why).or_default().push(place);
            continue;
        }
        compared += 1;
        let ask = &mut |kind| {
            let worker = match kind {
                EngineKind::Rollback => &mut simulated,
                _ => &mut real,
            };
            Ok(worker.test(request, true)?.observation)
        };
        let seen = [&restarted.observation, &rolled.observation];
        let told = comparison.differ(EngineKind::Rollback, seen, ask).unwrap();
        if told.repeated {
            let first = comparison.apart(&restarted.observation, &rolled.observation);
            again.extend(first.map(|what| format!("{place}: {what}")));
        }
        differences.extend(told.difference.map(|what| format!("{place}: {what}")));
    }
    for (why, points) in &fallen {
        println!("{} fall back: {why}", points.len());
        for point in points.iter().step_by(points.len().div_ceil(20)) {
            println!("    {point}");
        }
    }
    println!("{} asked again:", again.len());
    for difference in &again {
        println!("    {difference}");
    }
    println!(
        "{} {}: of {} points {compared} by rollback, {} of them differ:",
        chosen.pair,
        chosen.workload,
        wanted.len(),
        differences.len()
    );
    for difference in &differences {
        println!("    {difference}");
    }
    assert!(differences.is_empty());
}
