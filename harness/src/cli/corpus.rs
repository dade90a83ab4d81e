//! `kairos corpus`: runs the known-answer corpus, and compares.

use std::path::PathBuf;

use clap::Args;
use kairos::corpus::{self, CorpusError, Means, Report, case, table};
use kairos::report::export::{Exporter as _, Terminal};
use kairos::subject::{BuildOptions, catalogue};

use super::exit_code::ExitCode;
use super::progress::Bar;
use super::study::INTERRUPTED;
use super::{Project, print};

/// Arguments of `kairos corpus`.
#[derive(Args)]
pub struct Arguments {
    /// Cases to run [default: all]
    names: Vec<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Workers, each on a processor of its own [default: all processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Keep the records of the studies in this folder, for `kairos explain`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs `kairos corpus`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let root = catalogue::find_root(project.root.as_deref())?;
    let cases = case::cases(&root, &arguments.names)?;
    if cases.is_empty() {
        let folder = root.join(case::FOLDER).display().to_string();
        return Err(CorpusError::Empty(folder).into());
    }
    let build = BuildOptions::from_environment(Vec::new())?;
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let bar = Bar::new();
    let means = Means {
        build: &build,
        executable: std::env::current_exe()?,
        jobs: arguments.jobs.unwrap_or(build.jobs),
        out: arguments.out.as_deref(),
        progress: &bar,
        interrupted: &INTERRUPTED,
    };
    let report = corpus::run(&root, &cases, &means)?;
    bar.finish();
    // Only all cases together must reach everything.
    let whole = arguments.names.is_empty();
    if arguments.json {
        print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        print(&text(&report)?)?;
    }
    let unreached: Vec<&str> = report
        .unreached()
        .filter(|_| whole)
        .map(|one| one.kind)
        .collect();
    for kind in &unreached {
        eprintln!("kairos: no case has a point that is {kind}; the corpus must have one");
    }
    for disagreement in &report.disagreements {
        eprintln!("kairos: equivalent points disagree: {disagreement}");
    }
    Ok(if report.matches() && unreached.is_empty() {
        ExitCode::Success
    } else {
        ExitCode::Findings
    })
}

fn text(report: &Report) -> anyhow::Result<String> {
    let mut text = Terminal.export(&table::rules(report))?;
    let differences = table::differences(report);
    if !differences.is_empty() {
        text.extend(["\n", &differences]);
    }
    text.extend(["\n", &table::summary(report)]);
    Ok(text)
}
