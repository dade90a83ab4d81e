//! Servers that fork without end, stop, hide, kill or fill the disk: Kairos judges
//! them in bounded time and leaves no process, mount or file behind, also when it is
//! itself killed.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Project;
use support::leftovers::Before;

const SESSION: &str = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";

fn hostile(kind: &str) -> Project {
    Project::of("hostile")
        .step(&format!("$CC -w -DKIND={kind} -o tiny main.c"))
        .manifest("[[role]]\nname = \"server\"\nfirst = true\n[state]\nfiles = [\"big*\"]\n")
        .session("backward-compatible", SESSION)
}

/// Waits for the child; one that takes longer than any test may is a hang.
fn ended(mut child: Child, project: &Project) -> Output {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (sender, receiver) = mpsc::channel();
    let stderr = child.stderr.take();
    let waiting = std::thread::spawn(move || {
        let mut output = child.wait_with_output().unwrap();
        if let Some(mut stderr) = stderr {
            use std::io::Read as _;
            let _ = stderr.read_to_end(&mut output.stderr);
        }
        let _ = sender.send(output);
    });
    let output = receiver.recv_timeout(Duration::from_secs(90));
    if output.is_err() {
        // Ours, and not yet waited for: its number cannot be another's.
        let _ = kill(pid, Signal::SIGKILL);
    }
    let _ = waiting.join();
    output.unwrap_or_else(|_| {
        panic!(
            "kairos hangs; processes: {:?}",
            support::leftovers::processes(project)
        )
    })
}

/// Runs a study of a server that misbehaves in update tests, and returns the
/// verdicts of its two points.
fn verdicts(kind: &str) -> Vec<(String, String)> {
    let project = hostile(kind);
    project.write();
    let before = Before::look();
    let child = project
        .study_command("run", "")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = ended(child, &project);
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    before.compare(&project);
    let rows = support::rows::read(&project.out("run"));
    assert_eq!(rows.len(), 2);
    rows.into_iter()
        .map(|row| (row.verdict, row.cause))
        .collect()
}

/// Checks both points' verdict and a part of its cause.
fn expect(kind: &str, verdict: &str, cause: &str) {
    for (seen, why) in verdicts(kind) {
        assert_eq!(seen, verdict, "{why}");
        assert!(why.contains(cause), "{why}");
    }
}

#[test]
fn a_fork_storm_is_a_stall() {
    expect("FORKS", "stall", "busy");
}

#[test]
fn a_server_that_stops_itself_is_a_stall() {
    expect("STOPS", "stall", "waiting");
}

#[test]
fn a_server_that_ignores_its_stop_is_a_stall() {
    expect("IGNORES_TERM", "stall", "to stop after SIGTERM");
}

#[test]
fn endless_output_is_cut_and_crashes() {
    expect("TALKS", "crash", "SIGXFSZ");
}

#[test]
fn a_server_that_closes_every_descriptor_ends() {
    expect("CLOSES", "exit", "");
}

#[test]
fn a_daemon_that_hides_in_a_session_of_its_own_outlives_the_stop() {
    expect("DAEMON", "state", "outlived the stop");
}

#[test]
fn killing_everything_in_reach_kills_only_the_server() {
    expect("KILLS", "crash", "SIGKILL");
}

#[test]
fn taking_all_ports_hurts_nobody_else() {
    expect("TAKES_PORTS", "new", "");
}

#[test]
fn huge_files_are_cut_and_found_in_the_end_state() {
    expect("FILLS_DISK", "state", "file big0");
}

#[test]
fn another_program_in_the_servers_place_is_a_stall() {
    expect("EXECUTES", "stall", "");
}

/// Runs a study of a server that does not come up, and returns what was printed.
fn refused(kind: &str) -> String {
    let project = hostile(kind);
    project.write();
    let before = Before::look();
    let child = project
        .study_command("run", "")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = ended(child, &project);
    before.compare(&project);
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).unwrap()
}

fn expect_message(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
}

const PLACE: [&str; 2] = ["pair tiny-v1-v2, workload session", "on unpatched v1"];

#[test]
fn a_server_that_crashes_at_its_start_is_told_with_its_signal() {
    let message = refused("CRASHES_AT_START");
    expect_message(&message, &PLACE);
    expect_message(&message, &["ended before it was ready", "SIGABRT"]);
}

#[test]
fn a_server_that_exits_at_once_is_told_with_its_status_and_output() {
    let message = refused("EXITS_AT_START");
    expect_message(&message, &PLACE);
    expect_message(
        &message,
        &["ended before it was ready", "7", "no configuration"],
    );
}

#[test]
fn a_server_that_never_becomes_ready_is_given_up() {
    let message = refused("NEVER_READY");
    expect_message(&message, &PLACE);
    expect_message(&message, &["did not become ready", "waiting for nothing"]);
}

/// Starts a study and returns it once it has printed a line that contains `moment`,
/// with the lines up to there.
fn started(project: &Project, moment: &str) -> (Child, String) {
    let mut child = project
        .study_command("run", "")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stderr.take().unwrap());
    let mut lines = String::new();
    while !lines
        .lines()
        .last()
        .is_some_and(|line| line.contains(moment))
    {
        assert_ne!(reader.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    // Kairos must be able to go on printing.
    child.stderr = Some(reader.into_inner());
    (child, lines)
}

#[test]
fn killing_kairos_at_any_moment_takes_everything_with_it() {
    // A daemon that ignores signals is what would be left most easily.
    let project = hostile("DAEMON");
    project.write();
    for moment in ["tracing", "update tests", "1 of 2"] {
        let before = Before::look();
        let (mut child, _) = started(&project, moment);
        child.kill().unwrap();
        child.wait().unwrap();
        before.compare(&project);
        std::fs::remove_dir_all(project.out("run")).ok();
    }
}

/// A server whose every second point stalls: tests that take their time.
fn slow() -> Project {
    let exchanges = ["send c A\nawait c *"; 6].join("\n\n");
    Project::of("stall").session(
        "backward-compatible",
        &format!("open c main\n{exchanges}\n\nclose c"),
    )
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    let project = slow();
    project.write();
    let before = Before::look();
    let (child, lines) = started(&project, "2 of 12");
    assert!(lines.contains("12 update tests"), "{lines}");
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let output = ended(child, &project);
    assert_eq!(output.status.code(), Some(130));
    before.compare(&project);
    let report = project
        .kairos()
        .arg("report")
        .arg(project.out("run"))
        .output()
        .unwrap();
    assert!(report.status.success(), "{report:?}");
    let rows = support::rows::read(&project.out("run"));
    assert!(
        (2..12).contains(&rows.len()),
        "{rows:#?}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
