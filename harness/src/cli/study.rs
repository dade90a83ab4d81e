//! `kairos study`: runs update tests, and reports on them.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::Args;
use kairos::report::{self, export::Exporter as _, export::Terminal, tables};
use kairos::study::agreement::Disagreements;
use kairos::study::session::judge_record;
use kairos::study::shard::Shard;
use kairos::study::{self, Outcome, StudyError};
use kairos::subject::BuildOptions;
use kairos::subject::doctor::{self, Severity};

use super::Project;
use super::exit_code::ExitCode;
use super::progress::Bar;
use super::selection::{self, Means, Selection};

/// Arguments of `kairos study`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Run only part k of n of the tests, dealt out by a hash of their identifiers;
    /// `kairos merge` joins the parts
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
    /// Go on with the run in this folder, interrupted, killed or only planned; what
    /// was chosen then stays, so only --jobs, --shard and --archives may be given
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = [
            "subject", "pair", "workload", "sample", "exhaustive", "check_members", "seed",
            "scope", "startup", "repeat", "control", "engine", "out",
        ]
    )]
    resume: Option<PathBuf>,
    /// Folder for the results [default: a new one under results/runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    means: Means,
}

/// Set by SIGINT and SIGTERM: the study ends after the tests at hand.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs `kairos study`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.means.archives.clone())?;
    let mut options = selection::options(&arguments.selection, &arguments.means, &catalogue.root)?;
    options.shard = arguments.shard;
    options.resume.clone_from(&arguments.resume);
    options.out.clone_from(&arguments.out);
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let bar = Bar::new();
    let outcome = study::run(&catalogue, &build, &options, &bar, &INTERRUPTED)?;
    bar.finish();
    let (_, analysis) = report::regenerate(&outcome.dir, judge_record)?;
    print!("{}", Terminal.export(&tables::study(&analysis.summary))?);
    println!("\nresults, tables and plots: {}", outcome.dir.display());
    tell_what_is_left(&outcome);
    if outcome.violations > 0 {
        eprintln!(
            "kairos: {} control tests were violated: do not trust this run; see tables/controls.md",
            outcome.violations
        );
    }
    tell_disagreements(outcome.disagreements);
    Ok(if outcome.interrupted {
        ExitCode::Interrupted
    } else if outcome.violations > 0 || outcome.disagreements.all > 0 {
        ExitCode::Findings
    } else {
        problems(&outcome.problems)
    })
}

pub(super) fn tell_disagreements(found: Disagreements) {
    let Disagreements { all, unconfirmed } = found;
    if all == 0 {
        return;
    }
    let races = match unconfirmed {
        0 => String::new(),
        some => format!(" (in {some} of them the tests that differ have not run again)"),
    };
    eprintln!(
        "kairos: in {all} classes equivalent points show different things{races}; see tables/disagreements.md"
    );
}

fn tell_what_is_left(outcome: &Outcome) {
    let Outcome {
        finished, planned, ..
    } = outcome;
    let how = format!("kairos study --resume {}", outcome.dir.display());
    if outcome.interrupted {
        eprintln!("kairos: interrupted; {finished} tests are recorded; go on with\n  {how}");
    } else if finished < planned {
        let left = planned - finished;
        eprintln!("kairos: {left} of {planned} tests are not done; try them again with\n  {how}");
    }
}

/// The exit code for what could not be run. Where a worker failed, the machine may
/// be why: then the checks that it fails are shown.
pub(super) fn problems(problems: &[StudyError]) -> ExitCode {
    let Some(first) = problems.first() else {
        return ExitCode::Success;
    };
    let worker_failed = problems
        .iter()
        .any(|problem| matches!(problem, StudyError::Engine(_) | StudyError::Workload { .. }));
    if worker_failed && let Ok(executable) = std::env::current_exe() {
        let failed: Vec<_> = doctor::checks(&executable)
            .into_iter()
            .filter(|check| !check.ok && check.severity == Severity::Required)
            .collect();
        for check in &failed {
            eprintln!(
                "kairos: this machine: {}: {}; needed: {}; {}",
                check.name, check.found, check.needed, check.mend
            );
        }
        if !failed.is_empty() {
            return ExitCode::Machine;
        }
    }
    ExitCode::of_study(first)
}
