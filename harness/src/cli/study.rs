//! `kairos study`: runs update tests, and reports on them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kairos::report::{self, export::Exporter as _, export::Terminal, tables};
use kairos::study::progress::Progress;
use kairos::study::session::judge_record;
use kairos::study::{self, Options, StudyError, controls::Extent};
use kairos::subject::BuildOptions;
use kairos::subject::doctor::{self, Severity};
use kairos::trace::Scope;

use super::Project;
use super::exit_code::ExitCode;

/// Arguments of `kairos study`.
#[derive(Args)]
pub struct Arguments {
    /// Only this subject (may be repeated)
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// Only this update pair (may be repeated)
    #[arg(long, value_name = "PAIR")]
    pair: Vec<String>,
    /// Only this workload (may be repeated)
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Test so many points per pair, workload and role, evenly spread; manual
    /// points and loop heads are always added [default: every point]
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Seed of the sample
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Which processes one update reaches: `process`, only the one at the point, or
    /// `tree`, every process of the server at once (may be repeated)
    #[arg(long, default_value = "process", value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// Test the points before the server is ready, too
    #[arg(long)]
    startup: bool,
    /// Workers, each on a processor of its own [default: all processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// How often a failing test is repeated
    #[arg(long, default_value_t = 2, value_name = "N")]
    repeat: u32,
    /// Study the control arm (old to old) of the chosen pairs' old versions
    /// instead of the updates
    #[arg(long)]
    control: bool,
    /// Folder for the results [default: a new one under results/runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
}

/// Set by SIGINT and SIGTERM: the study ends after the tests at hand.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs `kairos study`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.archives.clone())?;
    let options = Options {
        subjects: arguments.subject.clone(),
        pairs: arguments.pair.clone(),
        workloads: arguments.workload.clone(),
        sample: arguments.sample,
        seed: arguments.seed,
        scopes: arguments.scope.clone(),
        startup: arguments.startup,
        jobs: arguments
            .jobs
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)),
        repeat: arguments.repeat,
        control: arguments.control,
        extent: Extent::default(),
        out: arguments.out.clone(),
        runs: catalogue.root.join("results").join("runs"),
        executable: std::env::current_exe()?,
        arguments: std::env::args().skip(1).collect(),
    };
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let bar = Bar::new();
    let outcome = study::run(&catalogue, &build, &options, &bar, &INTERRUPTED)?;
    bar.finish();
    let (_, analysis) = report::regenerate(&outcome.dir, judge_record)?;
    print!("{}", Terminal.export(&tables::study(&analysis.summary))?);
    println!("\nresults, tables and plots: {}", outcome.dir.display());
    if outcome.violations > 0 {
        eprintln!(
            "kairos: {} control tests were violated: do not trust this run; see tables/controls.md",
            outcome.violations
        );
    }
    Ok(if outcome.interrupted {
        ExitCode::Interrupted
    } else if outcome.violations > 0 {
        ExitCode::Findings
    } else {
        problems(&outcome.problems)
    })
}

/// The exit code for what could not be run. Where a worker failed, the machine may
/// be why: then the checks that it fails are shown.
fn problems(problems: &[StudyError]) -> ExitCode {
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

/// A progress bar on a terminal, plain lines elsewhere.
struct Bar {
    bar: ProgressBar,
    done: AtomicU64,
    total: AtomicU64,
}

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn stage(&self, what: &str) {
        if self.is_hidden() {
            eprintln!("{what}");
        } else {
            self.bar.set_message(what.to_owned());
        }
    }

    fn planned(&self, tests: u64) {
        self.total.store(tests, Ordering::Relaxed);
        if self.is_hidden() {
            eprintln!("{tests} update tests");
            return;
        }
        self.bar.set_length(tests);
        self.bar.set_position(0);
        self.bar.reset_eta();
        let style = ProgressStyle::with_template(
            "{bar:32} {pos}/{len} tests, {per_sec}, {eta} left; {msg}",
        );
        if let Ok(style) = style {
            self.bar.set_style(style);
        }
        self.bar.set_message("0 failed");
    }

    fn tested(&self, failures: u64) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let total = self.total.load(Ordering::Relaxed);
        if !self.is_hidden() {
            self.bar.set_position(done);
            self.bar.set_message(format!("{failures} failed"));
        } else if done == total || done.is_multiple_of((total / 10).max(1)) {
            eprintln!("{done} of {total} tests, {failures} failed");
        }
    }

    fn problem(&self, what: &str) {
        self.bar.suspend(|| eprintln!("kairos: {what}"));
    }
}
