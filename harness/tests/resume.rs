//! Runs that are interrupted, killed, starved or shared out give the rows of an
//! undisturbed run, lose nothing, and leave nothing behind.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Project;
use support::leftovers::Before;
use support::table::without_time;

/// A server of one process whose points fail in two ways, under a session that a
/// worker needs several chunks for.
fn recursion() -> Project {
    Project::of("recursion").session(
        "conformable",
        "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c",
    )
}

/// Two workloads of a server that forks.
fn sessions() -> Project {
    let roles = "[[role]]\nname = \"listener\"\nfirst = true\n\
                 [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n";
    let one = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";
    let two = "open c main\nsend c A\nawait c *\n\nopen d main\nsend d B\nawait d *\n\n\
               send c C\nawait c *\n\nclose c\n\nsend d E\nawait d *\n\nclose d";
    Project::of("sessions")
        .manifest(roles)
        .workload("one", &support::script("conformable", one))
        .workload("two", &support::script("conformable", two))
}

const ARGUMENTS: &str = "--jobs 2 --repeat 2";

fn resume(project: &Project, name: &str) -> Command {
    let mut command = project.kairos();
    command
        .args(["study", "--jobs", "2", "--resume"])
        .arg(project.out(name));
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        told(&output)
    );
    output
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Waits until the child ends or the time is over; whether it ended.
fn ends_within(child: &Child, time: Duration) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::{AsFd, FromRawFd, OwnedFd};
    // SAFETY: a pidfd of a child that was not yet waited for, owned from here on.
    let pidfd = unsafe {
        let number = libc::syscall(libc::SYS_pidfd_open, child.id(), 0);
        OwnedFd::from_raw_fd(i32::try_from(number).unwrap())
    };
    let timeout = PollTimeout::try_from(time).unwrap();
    poll(
        &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
        timeout,
    )
    .unwrap()
        == 1
}

/// Moments that look random and are the same in every run of this test.
struct Moments(u64);

impl Moments {
    fn next(&mut self, most: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        most.mul_f64(f64::from(u32::try_from(self.0 >> 33).unwrap()) / f64::from(1_u32 << 31))
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_gives_the_rows_of_an_undisturbed_one() {
    let project = sessions();
    project.write();
    let begun = std::time::Instant::now();
    let whole = project.study_as("whole", ARGUMENTS);
    let took = begun.elapsed();
    // From nothing: builds are killed, too.
    fs::remove_dir_all(project.root().join("cache")).unwrap();
    let before = Before::look();
    let mut moments = Moments(7);
    let mut kills = 0;
    for _ in 0..6 {
        let begun = project.out("killed").join("run.json").exists();
        let mut command = if begun {
            resume(&project, "killed")
        } else {
            project.study_command("killed", ARGUMENTS)
        };
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if !ends_within(&child, moments.next(took.mul_f64(0.7))) {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        kills += u32::from(status.signal() == Some(libc::SIGKILL));
        before.compare(&project);
    }
    assert!(kills >= 3, "only {kills} of 6 runs were killed");
    let output = succeeds(&mut resume(&project, "killed"));
    println!("{}", told(&output));
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("killed"))
    );
    before.compare(&project);
}

#[test]
fn an_interrupted_run_says_how_to_go_on_and_ends_as_an_undisturbed_one() {
    let project = recursion();
    let whole = project.study(ARGUMENTS);
    let mut child = project
        .study_command("interrupted", ARGUMENTS)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = String::new();
    while !lines.contains(" of ") {
        use std::io::BufRead as _;
        assert_ne!(reader.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    kill(pid(&child), Signal::SIGTERM).unwrap();
    child.stderr = Some(reader.into_inner());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", told(&output));
    let dir = project.out("interrupted");
    let how = format!("kairos study --resume {}", dir.display());
    assert!(told(&output).contains(&how), "{}", told(&output));
    let output = succeeds(&mut resume(&project, "interrupted"));
    assert!(
        told(&output).contains("are done already"),
        "{}",
        told(&output)
    );
    assert_eq!(without_time(&whole.dir), without_time(&dir));
    // Once more: nothing is left, and nothing changes.
    let output = succeeds(&mut resume(&project, "interrupted"));
    assert!(told(&output).contains("no update tests are left"));
    assert_eq!(without_time(&whole.dir), without_time(&dir));
}

#[test]
fn workers_that_are_killed_cost_no_test() {
    let project = recursion();
    let whole = project.study(ARGUMENTS);
    let mut child = project
        .study_command("struck", ARGUMENTS)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = String::new();
    let mut struck = 0;
    loop {
        use std::io::BufRead as _;
        if reader.read_line(&mut lines).unwrap() == 0 {
            break;
        }
        let testing = lines
            .lines()
            .last()
            .is_some_and(|line| line.contains(" of "));
        if testing && struck < 3 {
            // Its own sandbox's first process: with it everything of the sandbox ends.
            let workers = support::leftovers::processes(&project);
            if let Some(worker) = workers.iter().find(|line| line.contains("__worker")) {
                let (number, _) = worker.split_once(':').unwrap();
                let _ = kill(Pid::from_raw(number.parse().unwrap()), Signal::SIGKILL);
                struck += 1;
            }
        }
    }
    assert!(child.wait().unwrap().success(), "{lines}");
    assert!(struck > 0, "{lines}");
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("struck"))
    );
}

#[test]
fn parts_of_a_plan_join_to_the_whole() {
    let project = sessions();
    let whole = project.study(ARGUMENTS);
    let planned = project.out("planned");
    let output = succeeds(
        project
            .kairos()
            .args(["plan", "--jobs", "2", "--json", "--out"])
            .arg(&planned),
    );
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = without_time(&whole.dir).len() - 1;
    assert_eq!(shown["tests"], rows, "{shown}");
    assert!(
        shown["estimated_seconds"].as_f64().unwrap() > 0.0,
        "{shown}"
    );
    assert_eq!(shown["rows"].as_array().unwrap().len(), 4, "{shown}");
    let mut sizes = Vec::new();
    for part in 1..=3 {
        let name = format!("part{part}");
        let dir = project.out(&name);
        succeeds(Command::new("cp").arg("-r").arg(&planned).arg(&dir));
        succeeds(
            resume(&project, &name)
                .arg("--shard")
                .arg(format!("{part}/3")),
        );
        sizes.push(
            fs::read_to_string(dir.join("tests.jsonl"))
                .unwrap()
                .lines()
                .count(),
        );
    }
    assert_eq!(sizes.iter().sum::<usize>(), rows, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    // Part 2 twice: its tests count once.
    let merge = |out: &str, parts: &[&str]| {
        let mut command = project.kairos();
        command.arg("merge").arg(project.out(out));
        command.args(parts.iter().map(|part| project.out(part)));
        command.output().unwrap()
    };
    let output = merge("joined", &["part1", "part2", "part3", "part2"]);
    assert!(output.status.success(), "{}", told(&output));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let twice = format!(
        "{rows} of {rows} tests from 4 runs; {} were in more",
        sizes[1]
    );
    assert!(printed.contains(&twice), "{printed}");
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("joined"))
    );
    // Controls of each session were run by one part.
    let facts = |name: &str| -> serde_json::Value {
        let text = fs::read_to_string(project.out(name).join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(
        facts("joined")["controls"].as_array().unwrap().len(),
        facts("run")["controls"].as_array().unwrap().len()
    );
    // Without part 3 the rest is missing, and can be run in place.
    let output = merge("rest", &["part1", "part2"]);
    assert!(told(&output).contains("--resume"), "{}", told(&output));
    succeeds(&mut resume(&project, "rest"));
    assert_eq!(without_time(&whole.dir), without_time(&project.out("rest")));
}

#[test]
fn what_does_not_fit_the_joined_run_is_kept_beside_it() {
    let project = recursion();
    project.study(ARGUMENTS);
    succeeds(
        Command::new("cp")
            .arg("-r")
            .arg(project.out("run"))
            .arg(project.out("other")),
    );
    // In the other run one test showed something else, and one is of another plan.
    let path = project.out("other").join("tests.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines[0] = lines[0].replacen(
        "\"stall\":null",
        "\"stall\":{\"exchange\":0,\"waiting_for\":\"x\",\"busy\":false}",
        1,
    );
    lines[1] = lines[1].replacen("\"test\":\"", "\"test\":\"else-", 1);
    assert_ne!(lines.join("\n"), text.trim_end());
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let output = succeeds(
        project
            .kairos()
            .arg("merge")
            .args(["joined", "run", "other"].map(|name| project.out(name))),
    );
    let told = told(&output);
    for why in ["another part saw something else", "it is in no plan"] {
        assert!(
            told.contains(&format!("1 tests were left out: {why}")),
            "{told}"
        );
    }
    assert_eq!(
        without_time(&project.out("run")),
        without_time(&project.out("joined"))
    );
    let kept = fs::read_to_string(project.out("joined").join("left-out.jsonl")).unwrap();
    assert_eq!(kept.lines().count(), 2);
}

#[test]
fn a_changed_project_and_other_choices_are_refused_by_name() {
    let project = recursion();
    project.study("--sample 1");
    let again = |arguments: &[&str]| resume(&project, "run").args(arguments).output().unwrap();
    let output = again(&["--pair", "tiny-v1-v2"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        told(&output).contains("cannot be used with '--pair"),
        "{}",
        told(&output)
    );
    for file in [
        "subjects/tiny/subject.toml",
        "subjects/tiny/workloads/session.session",
        "subjects/tiny/v2/main.c",
        "update-pairs/tiny-v1-v2/pair.toml",
    ] {
        let path = project.root().join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
        let output = again(&[]);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("{file} has changed");
        assert!(told(&output).contains(&expected), "{}", told(&output));
        fs::write(&path, text).unwrap();
    }
    assert!(again(&[]).status.success());
}

#[test]
fn a_missing_manifest_is_named() {
    let project = recursion();
    project.write();
    fs::remove_file(project.root().join("subjects/tiny/subject.toml")).unwrap();
    let output = project.study_command("run", "").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = told(&output);
    assert!(
        told.contains("subjects/tiny/subject.toml is missing"),
        "{told}"
    );
}

#[test]
fn two_at_once_share_cache_and_processors_but_no_folder() {
    let project = recursion();
    project.write();
    let before = Before::look();
    let start = |name: &str| {
        project
            .study_command(name, ARGUMENTS)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Nothing is built yet: both need the same builds at once.
    let children = ["one", "two", "one"].map(start);
    let ends = children.map(|child| child.wait_with_output().unwrap());
    let refused: Vec<_> = ends.iter().filter(|end| !end.status.success()).collect();
    assert_eq!(refused.len(), 1, "{:?}", ends.each_ref().map(told));
    let why = told(refused[0]);
    assert!(
        why.contains("another Kairos is writing") || why.contains("holds a run already"),
        "{why}"
    );
    assert_eq!(
        without_time(&project.out("one")),
        without_time(&project.out("two"))
    );
    before.compare(&project);
}

/// Whether this machine lets a test have namespaces to change; says so if not.
fn can_unshare(test: &str) -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("{test}: skipped, this machine does not let tests make namespaces");
    }
    can
}

/// Runs shell lines as root of a user namespace of their own, with `kairos` and the
/// project's folder as `$1` and `$2`.
fn in_namespace(project: &Project, lines: &str) -> Output {
    let study = project.kairos();
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            lines,
            "sh",
        ])
        .arg(study.get_program())
        .arg(project.root());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn a_full_disk_loses_nothing() {
    if !can_unshare("a_full_disk_loses_nothing") {
        return;
    }
    let project = recursion();
    let whole = project.study(ARGUMENTS);
    // Room for everything but half of the tests, in pages.
    let pages = |name: &str| {
        fs::metadata(whole.dir.join(name))
            .unwrap()
            .len()
            .div_ceil(4096)
    };
    let others: u64 = ["pairs.jsonl", "sessions.jsonl", "plan.jsonl"]
        .map(pages)
        .iter()
        .sum();
    let size = (others + 2 * pages("run.json") + pages("tests.jsonl").div_ceil(2)) * 4;
    let lines = format!(
        "mkdir -p $2/out/small && mount -t tmpfs -o size={size}k small $2/out/small || exit 99
         $1 --root $2 study --out $2/out/small/run --jobs 1 --repeat 2
         echo first $?
         wc -l < $2/out/small/run/tests.jsonl
         mount -o remount,size=64m $2/out/small || exit 99
         $1 --root $2 study --resume $2/out/small/run --jobs 1 > $2/out/second
         echo second $?
         cp -r $2/out/small/run $2/out/filled"
    );
    let output = in_namespace(&project, &lines);
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), told(&output));
    assert!(printed.starts_with("first 1\n"), "{printed}{told}");
    assert!(printed.contains("second 0\n"), "{printed}{told}");
    assert!(
        told.contains("free some space and go on with --resume"),
        "{told}"
    );
    let kept: usize = printed.lines().nth(1).unwrap().trim().parse().unwrap();
    assert!(kept > 0, "{printed}");
    assert!(
        told.contains(&format!("{kept} are done already")),
        "{kept}: {told}"
    );
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("filled"))
    );
}

#[test]
fn a_limit_on_file_sizes_and_a_read_only_place_are_told() {
    let project = recursion();
    project.study("--sample 1");
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 2; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_kairos"))
        .arg("--root")
        .arg(project.root())
        .arg("study")
        .arg("--out")
        .arg(project.out("limited"))
        .env("KAIROS_CACHE", project.root().join("cache"))
        .env("TMPDIR", project.temporary())
        .env(support::TOKEN, project.root())
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1), "{}", told(&limited));
    assert!(told(&limited).contains("ulimit -f"), "{}", told(&limited));
    let output = project
        .kairos()
        .args(["study", "--out", "/proc/kairos"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("cannot create `/proc/kairos`"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_machine_without_user_namespaces_is_told_what_to_change() {
    if !can_unshare("a_machine_without_user_namespaces_is_told_what_to_change") {
        return;
    }
    let project = recursion();
    project.study("--sample 1");
    // The setting belongs to the namespace, and to what is made inside it.
    let lines = "echo 0 > /proc/sys/user/max_user_namespaces || exit 99
                 exec $1 --root $2 study --out $2/out/refused";
    let output = in_namespace(&project, lines);
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert!(
        told(&output).contains("/proc/sys/user/max_user_namespaces is 0"),
        "{}",
        told(&output)
    );
}

/// Whether the bound on processes belongs to the sandbox (Linux 6.14 and later).
fn bounds_processes() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6_u32), Some(14))
}

#[test]
fn a_fork_storm_with_few_open_files_is_a_stall() {
    if !bounds_processes() {
        eprintln!("a_fork_storm_with_few_open_files_is_a_stall: skipped, needs Linux 6.14");
        return;
    }
    let project = Project::of("hostile")
        .step("$CC -w -DKIND=FORKS -o tiny main.c")
        .session(
            "backward-compatible",
            "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c",
        );
    project.write();
    let before = Before::look();
    let study = project.study_command("run", "");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 1024; exec \"$@\"", "sh"])
        .arg(study.get_program())
        .args(study.get_args());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    succeeds(&mut command);
    let rows = support::rows::read(&project.out("run"));
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row.verdict, "stall", "{}", row.cause);
    }
    before.compare(&project);
}

/// A study through the library, whose workers are started by a script that refuses
/// while a file is there: from the moment that tests begin.
#[test]
fn tests_that_could_not_be_run_are_named_and_tried_again() {
    use kairos::study::progress::{Planned, Progress};
    use kairos::subject::cache::Cache;
    use kairos::subject::{BuildOptions, Catalogue};

    struct Refuse<'a>(&'a Path);
    impl Progress for Refuse<'_> {
        fn stage(&self, _what: &str) {}
        fn planned(&self, _planned: &Planned) {
            fs::write(self.0, "").unwrap();
        }
        fn tested(&self, _failures: u64) {}
        fn problem(&self, _what: &str) {}
    }

    let project = recursion();
    let whole = project.study(ARGUMENTS);
    let (script, refusing) = (
        project.root().join("worker"),
        project.root().join("refusing"),
    );
    let text = format!(
        "#!/bin/sh\ntest -e {} && exit 1\nexec {} \"$@\"\n",
        refusing.display(),
        env!("CARGO_BIN_EXE_kairos")
    );
    fs::write(&script, text).unwrap();
    succeeds(Command::new("chmod").arg("+x").arg(&script));
    let catalogue = Catalogue::open(project.root()).unwrap();
    let build = BuildOptions {
        cache: Cache::at(project.root().join("cache")),
        ..BuildOptions::from_environment(Vec::new()).unwrap()
    };
    let mut options = support::options(&project, &script);
    options.out = Some(project.out("refused"));
    let interrupted = std::sync::atomic::AtomicBool::new(false);
    let run = |options: &kairos::study::Options, progress: &dyn Progress| {
        kairos::study::run(&catalogue, &build, options, progress, &interrupted).unwrap()
    };
    let outcome = run(&options, &Refuse(&refusing));
    let tests = without_time(&whole.dir).len() as u64 - 1;
    assert_eq!((outcome.planned, outcome.finished), (tests, 0));
    let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("could not be run"), "{problems:?}");
    let facts = fs::read_to_string(project.out("refused").join("run.json")).unwrap();
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["not_run"].as_array().unwrap().len() as u64, tests);
    fs::remove_file(&refusing).unwrap();
    options.resume = options.out.take();
    let outcome = run(&options, &kairos::study::progress::Quiet);
    assert_eq!((outcome.planned, outcome.finished), (tests, tests));
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    succeeds(project.kairos().arg("report").arg(project.out("refused")));
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("refused"))
    );
}
