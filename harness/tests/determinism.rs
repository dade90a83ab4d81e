//! The same study gives the same rows: again, with more workers, on a busy machine.

mod support;

use std::process::{Child, Command, Stdio};

use support::table::without_time;
use support::{Project, Run};

const ROLES: &str = "[[role]]\nname = \"listener\"\nfirst = true\n\
                     [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n";

/// Processes, and a changed reply.
fn sessions() -> Project {
    Project::of("sessions").manifest(ROLES).session(
        "conformable",
        "open c main\nsend c A\nawait c *\n\nopen d main\nsend d B\nawait d *\n\n\
         send c C\nawait c *\n\nsend d D\nawait d *\n\nclose c\n\nsend d E\nawait d *\n\nclose d",
    )
}

/// Failures of two kinds.
fn recursion() -> Project {
    Project::of("recursion").session(
        "conformable",
        "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c",
    )
}

/// What must agree.
fn table(run: &Run) -> Vec<Vec<String>> {
    without_time(&run.dir)
}

fn agree(project: &Project) {
    project.write();
    let first = table(&project.study_as("first", "--jobs 1 --repeat 2"));
    let again = table(&project.study_as("again", "--jobs 1 --repeat 2"));
    assert_eq!(first, again, "a second run differs");
    let two = table(&project.study_as("two", "--jobs 2 --repeat 2"));
    assert_eq!(first, two, "two workers differ");
    let _load = Load::on_every_processor();
    let loaded = table(&project.study_as("loaded", "--jobs 2 --repeat 2"));
    assert_eq!(first, loaded, "a busy machine differs");
}

#[test]
fn a_server_of_several_processes_repeats() {
    agree(&sessions());
}

#[test]
fn failures_repeat() {
    agree(&recursion());
}

#[test]
fn the_control_arm_never_fails() {
    for project in [sessions(), recursion()] {
        let run = project.study("--control");
        let rows = run.expect(|_| "new");
        assert!(rows.iter().all(|row| row.pair == "tiny-v1-v1-control"));
        assert!(rows.iter().any(|row| row.new_code_entries > 0));
    }
}

#[test]
fn the_planted_fault_is_tried_and_caught() {
    let run = recursion().study("--sample 2");
    let facts = run.facts();
    let controls = facts["controls"].as_array().unwrap();
    let named: Vec<_> = controls
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(named, ["control-arm", "apply-nothing", "sensitivity"]);
    for control in controls {
        assert_ne!(control["tests"], 0, "{control}");
        assert_eq!(control["violations"], 0, "{control}");
    }
    assert!(controls[2]["note"].as_str().unwrap().starts_with("broken "));
}

/// Busy loops, ended with it.
struct Load(Vec<Child>);

impl Load {
    fn on_every_processor() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let spawn = || {
            Command::new("sh")
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .unwrap()
        };
        Self((0..count).map(|_| spawn()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
