//! The command line: one file per subcommand. Each parses its arguments, calls
//! the library, prints, and says how it ended.

mod cc;
mod doctor;
pub mod exit_code;
mod patch;
mod report;
mod study;
mod subjects;
mod types;
mod worker;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kairos::subject::doctor::probe;
use kairos::subject::{Catalogue, catalogue, wrapper};

use exit_code::ExitCode;

/// Finds out when a running C server can safely be updated.
#[derive(Parser)]
#[command(
    name = "kairos",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    project: Project,
    #[command(subcommand)]
    command: Command,
}

/// Which project the command is about.
#[derive(Args)]
pub struct Project {
    /// The project: the folder that holds subjects/ and update-pairs/
    /// [default: `KAIROS_ROOT`, or the nearest such folder]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
}

impl Project {
    /// Reads all subjects and pairs.
    pub fn open(&self) -> anyhow::Result<Catalogue> {
        let root = catalogue::find_root(self.root.as_deref())?;
        Ok(Catalogue::open(&root)?)
    }
}

#[derive(Subcommand)]
enum Command {
    /// The programs under study: list them, fetch their sources, build them
    Subjects(subjects::Arguments),
    /// Run update tests, compare policies, write tables and plots
    Study(study::Arguments),
    /// What an update changes, and what to look out for
    Patch(patch::PatchArgs),
    /// Make a run's tables and plots again from its records
    Report(report::ReportArgs),
    /// Check whether this machine can run studies, and how to mend it if not
    Doctor(doctor::Arguments),
}

/// Runs the command line and says how it ended.
pub fn run() -> ExitCode {
    let mut arguments = std::env::args_os();
    let second = arguments.by_ref().nth(1);
    // Not clap's business: every argument belongs to the compiler.
    if second.as_deref() == Some(wrapper::SUBCOMMAND.as_ref()) {
        return cc::run(arguments.collect::<Vec<OsString>>());
    }
    if second.as_deref() == Some(probe::SUBCOMMAND.as_ref()) {
        return doctor::probe(arguments.next().as_deref());
    }
    if second.as_deref() == Some(kairos::engine::remote::WORKER_COMMAND.as_ref()) {
        return worker::run();
    }
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Subjects(arguments) => subjects::run(&arguments, &cli.project),
        Command::Study(arguments) => study::run(&arguments, &cli.project),
        Command::Patch(arguments) => patch::run(&arguments, &cli.project),
        Command::Report(arguments) => report::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("kairos: {error:#}");
        ExitCode::of(&error)
    })
}
