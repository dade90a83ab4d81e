//! `kairos try --gdb`: a debugger on the server, right after the update.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, bail};
use kairos::engine::handover::number_outside;
use kairos::engine::{Holding, PointRequest, RemoteEngine};
use kairos::patch::{IMAGE_BASE, Patch, debug::symbol_file};
use kairos::sandbox::interrupt;
use kairos::subject::flags::MAPPED_TREE;
use kairos::verdict::observation::Update;

use super::exit_code::ExitCode;

/// What gdb is told of.
pub struct Subject<'a> {
    /// Build tree of the old version.
    pub tree: &'a Path,
    /// Its program.
    pub program: &'a Path,
    /// The update, if it is applied.
    pub patch: Option<&'a Patch>,
}

/// Interrupts at the terminal are for gdb.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether gdb can be started.
pub fn is_installed() -> bool {
    Command::new("gdb")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs the test up to the update, lets gdb have the server, and ends everything
/// with gdb.
pub fn debug(
    mut engine: RemoteEngine,
    point: &PointRequest,
    subject: &Subject<'_>,
    commands: &[String],
) -> anyhow::Result<ExitCode> {
    let held = match engine.hold(point, subject.patch.is_some())? {
        Holding::Held(held) => held,
        Holding::Missed(seen) => match seen.update {
            Update::NotApplied { reason } => bail!("the update could not be applied: {reason}"),
            Update::NotReached { reason } => bail!("the point was not found: {reason}"),
            Update::None | Update::Applied { .. } => bail!("the server was not held"),
        },
    };
    let result = number_outside(engine.process_id(), held.process)
        .context("the held process cannot be found in /proc")
        .and_then(|process| {
            eprintln!(
                "{} (process {process}) is stopped at {}; `continue` lets the session go on, and everything ends with gdb",
                held.role, point.id
            );
            for other in &held.others {
                eprintln!("{other} goes on");
            }
            gdb(process, subject, commands)
        });
    engine.abandon();
    result
}

fn gdb(process: i32, subject: &Subject<'_>, commands: &[String]) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut script = vec![
        "set confirm off".to_owned(),
        format!("set sysroot /proc/{process}/root"),
        format!(
            "set substitute-path {MAPPED_TREE} {}",
            subject.tree.display()
        ),
        format!("file {}", subject.program.display()),
        format!("attach {process}"),
        // The stop that it waits in is not worth another one.
        "handle SIGSTOP nostop noprint nopass".to_owned(),
    ];
    if let Some(patch) = subject.patch {
        let symbols = folder.path().join("patch.o");
        std::fs::write(&symbols, symbol_file(patch)?)
            .with_context(|| format!("cannot write `{}`", symbols.display()))?;
        script.push(format!(
            "add-symbol-file {} {IMAGE_BASE}",
            symbols.display()
        ));
    }
    script.push("backtrace".to_owned());
    let path = folder.path().join("attach.gdb");
    std::fs::write(&path, script.join("\n") + "\n")
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    let mut command = Command::new("gdb");
    command
        .args(["-q", "-iex", "set debuginfod enabled off", "-x"])
        .arg(&path);
    if !commands.is_empty() {
        command.arg("-batch").stdin(Stdio::null());
        for one in commands {
            command.args(["-ex", one]);
        }
    }
    interrupt::ignore_in(&INTERRUPTED)?;
    let status = command.status().context("cannot start gdb")?;
    if status.success() {
        Ok(ExitCode::Success)
    } else {
        bail!("gdb ended with {status}")
    }
}
