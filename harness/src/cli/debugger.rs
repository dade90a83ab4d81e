//! `kairos try --gdb`: a debugger on the server, right after the update.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
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
use nix::sys::memfd::{MFdFlags, memfd_create};

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

/// The worker's number in its own process namespace.
const WORKER: i32 = 1;

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
    let outside = |inside| number_outside(engine.process_id(), inside);
    let result = outside(held.process)
        .zip(outside(WORKER))
        .context("the held process cannot be found in /proc")
        .and_then(|(process, root)| {
            eprintln!(
                "{} (process {process}) is stopped at {}; `continue` lets the session go on, and everything ends with gdb",
                held.role, point.id
            );
            for other in &held.others {
                eprintln!("{other} goes on");
            }
            gdb(process, root, subject, commands)
        });
    engine.abandon();
    result
}

/// Runs gdb on a process; `root` is one that sees the sandbox's files, for the
/// server may have changed its own root.
fn gdb(
    process: i32,
    root: i32,
    subject: &Subject<'_>,
    commands: &[String],
) -> anyhow::Result<ExitCode> {
    let mut script = vec![
        "set confirm off".to_owned(),
        format!("set sysroot /proc/{root}/root"),
        format!(
            "set substitute-path {MAPPED_TREE} \"{}\"",
            subject.tree.display()
        ),
        format!("file \"{}\"", subject.program.display()),
        format!("attach {process}"),
        // The stop that it waits in is not worth another one.
        "handle SIGSTOP nostop noprint nopass".to_owned(),
    ];
    let symbols = subject.patch.map(in_memory).transpose()?;
    if let Some(symbols) = &symbols {
        script.push(format!(
            "add-symbol-file /proc/{}/fd/{} {IMAGE_BASE}",
            std::process::id(),
            symbols.as_raw_fd()
        ));
    }
    script.push("backtrace".to_owned());
    let mut command = Command::new("gdb");
    command.args(["-q", "-iex", "set debuginfod enabled off"]);
    if !commands.is_empty() {
        command.arg("-batch").stdin(Stdio::null());
    }
    for one in script.iter().chain(commands) {
        command.args(["-ex", one]);
    }
    interrupt::ignore_in(&INTERRUPTED)?;
    let status = command.status().context("cannot start gdb")?;
    if status.success() {
        Ok(ExitCode::Success)
    } else {
        bail!("gdb ended with {status}")
    }
}

/// The symbols of an update in a file that ends with us, however we end.
fn in_memory(patch: &Patch) -> anyhow::Result<File> {
    let descriptor = memfd_create("kairos-patch", MFdFlags::MFD_CLOEXEC)
        .context("cannot make a file in memory")?;
    let mut file = File::from(descriptor);
    file.write_all(&symbol_file(patch)?)
        .context("cannot write to a file in memory")?;
    Ok(file)
}
