//! What tests of long studies share: two projects, and going on with their runs.

use std::process::{Command, Output};

use super::{Project, script};

/// A server of one process whose points fail in two ways, under a session that a
/// worker needs several chunks for.
pub fn recursion() -> Project {
    Project::of("recursion").session(
        "conformable",
        "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c",
    )
}

/// Two workloads of a server that forks.
pub fn sessions() -> Project {
    let roles = "[[role]]\nname = \"listener\"\nfirst = true\n\
                 [[role]]\nname = \"session\"\nparent = \"listener\"\nforked_in = \"begin\"\n";
    let one = "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c";
    let two = "open c main\nsend c A\nawait c *\n\nopen d main\nsend d B\nawait d *\n\n\
               send c C\nawait c *\n\nclose c\n\nsend d E\nawait d *\n\nclose d";
    Project::of("sessions")
        .manifest(roles)
        .workload("one", &script("conformable", one))
        .workload("two", &script("conformable", two))
}

/// How their studies are run.
pub const ARGUMENTS: &str = "--jobs 2 --repeat 2";

/// `kairos study --resume` of the run in `out(name)`.
pub fn resume(project: &Project, name: &str) -> Command {
    let mut command = project.kairos();
    command
        .args(["study", "--jobs", "2", "--resume"])
        .arg(project.out(name));
    command
}

/// What was printed to standard error.
pub fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command that must end well.
pub fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        told(&output)
    );
    output
}
