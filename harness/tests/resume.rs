//! Runs that are interrupted or killed, or whose workers are, give the rows of an
//! undisturbed run and leave nothing behind.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::leftovers::Before;
use support::runs::{ARGUMENTS, recursion, resume, sessions, succeeds, told};
use support::table::without_time;

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
    let whole = project.study(&format!("{ARGUMENTS} --engine restart"));
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
