//! The command line: one file per subcommand. Each parses its arguments, calls
//! the library, prints, and says how it ended.

mod attempt;
mod bench;
mod cc;
mod corpus;
mod debugger;
mod diff;
mod doctor;
pub mod exit_code;
mod explain;
mod merge;
mod patch;
mod plan;
mod progress;
mod record;
mod report;
mod selection;
mod study;
mod subjects;
mod trace;
mod types;
mod worker;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use kairos::explain::select::SelectError;
use kairos::sandbox::{guard, interrupt};
use kairos::study::prepare::PreparedPair;
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
    /// What a study would run, and how long that takes; with --out, prepare it
    Plan(plan::Arguments),
    /// Join shards and unfinished runs of one study into one run
    Merge(merge::Arguments),
    /// What an update changes, and what to look out for
    Patch(patch::PatchArgs),
    /// Record a real client's session as a workload
    Record(record::Arguments),
    /// Run one update test and tell everything about it
    Try(attempt::Arguments),
    /// Why a test failed or a point was refused, from a run's records
    Explain(explain::Arguments),
    /// What the old version does in a session: processes, exchanges, update points
    Trace(trace::Arguments),
    /// What differs between two runs
    Diff(diff::Arguments),
    /// Run the known-answer corpus: what is predicted beside what is observed
    Corpus(corpus::Arguments),
    /// What one update test costs, beside an untraced run and a gdb script
    Bench(bench::Arguments),
    /// Make a run's tables and plots again from its records
    Report(report::ReportArgs),
    /// Check whether this machine can run studies, and how to mend it if not
    Doctor(doctor::Arguments),
}

impl Command {
    /// Whether it may run recipes and compilers, which must not outlive it.
    const fn builds(&self) -> bool {
        !matches!(
            self,
            Self::Merge(_) | Self::Report(_) | Self::Doctor(_) | Self::Explain(_) | Self::Diff(_)
        )
    }
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
    if second.as_deref() == Some(guard::SUBCOMMAND.as_ref()) {
        return match guard::serve(&mut std::io::stdin().lock(), &mut std::io::stdout()) {
            Ok(()) => ExitCode::Success,
            Err(_) => ExitCode::Fault,
        };
    }
    if second.as_deref() == Some(kairos::recording::worker::RECORDER_COMMAND.as_ref()) {
        return worker::record();
    }
    let cli = Cli::parse();
    let result = run_command(cli);
    guard::end();
    result.unwrap_or_else(|error| {
        eprintln!("kairos: {error:#}");
        ExitCode::of(&error)
    })
}

fn run_command(cli: Cli) -> anyhow::Result<ExitCode> {
    interrupt::outlive_file_limit()?;
    if cli.command.builds() {
        let executable = std::env::current_exe()?;
        guard::start(&executable).context("cannot prepare a folder for temporary files")?;
    }
    match cli.command {
        Command::Subjects(arguments) => subjects::run(&arguments, &cli.project),
        Command::Study(arguments) => study::run(&arguments, &cli.project),
        Command::Plan(arguments) => plan::run(&arguments, &cli.project),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Patch(arguments) => patch::run(&arguments, &cli.project),
        Command::Corpus(arguments) => corpus::run(&arguments, &cli.project),
        Command::Bench(arguments) => bench::run(&arguments, &cli.project),
        Command::Record(arguments) => record::run(&arguments, &cli.project),
        Command::Try(arguments) => attempt::run(&arguments, &cli.project),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Trace(arguments) => trace::run(&arguments, &cli.project),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    }
}

/// Prints to standard output; a reader that has seen enough is no error.
fn print(text: &str) -> std::io::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Characters of a line of the terminal.
fn width() -> u16 {
    comfy_table::Table::new()
        .width()
        .unwrap_or(kairos::explain::WIDTH)
}

/// The workload of that name; a pair that has one only needs no name.
fn workload(pair: &PreparedPair<'_>, name: Option<&str>) -> anyhow::Result<String> {
    let known = &pair.workloads;
    match (name, known.as_slice()) {
        (None, [only]) => Ok(only.clone()),
        (Some(name), _) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => bail!(SelectError::None {
            query: name.to_owned(),
            advice: format!(
                "the pair {} has the workloads {}",
                pair.id,
                known.join(", ")
            ),
        }),
        (None, _) => bail!(SelectError::Missing(format!(
            "name a workload of the pair {}: {}",
            pair.id,
            known.join(", ")
        ))),
    }
}
