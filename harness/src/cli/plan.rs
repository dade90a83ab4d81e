//! `kairos plan`: what a study would run, and how long that takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kairos::analysis::classes::{self, Reduction, reduction_table};
use kairos::analysis::table::Cell;
use kairos::analysis::{Table, sessions};
use kairos::policy::columns;
use kairos::report::export::{Exporter as _, Terminal};
use kairos::study::estimate::{of_session, shared, spoken};
use kairos::study::plan::PlannedTest;
use kairos::study::session::PreparedSession;
use kairos::study::store::SessionRecord;
use kairos::study::{self, Options, run::Plan};
use kairos::subject::BuildOptions;
use serde::Serialize;

use super::Project;
use super::exit_code::ExitCode;
use super::progress::Bar;
use super::selection::{self, Means, Selection};
use super::study::{INTERRUPTED, problems};

/// Arguments of `kairos plan`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    selection: Selection,
    /// Write a run folder with builds, baselines, traces and plan, and without tests;
    /// it, or copies of it for each shard, is run by `kairos study --resume`
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Show how many classes the points make, how many tests that saves, and why classes
    /// begin
    #[arg(long)]
    classes: bool,
    /// Print the plan as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    means: Means,
}

/// One role of one session.
#[derive(Serialize)]
struct Row {
    pair: String,
    workload: String,
    scope: String,
    role: String,
    /// Update points of the trace.
    points: u64,
    /// Points that are tested.
    tests: u64,
    /// Points that each policy allows.
    allowed: BTreeMap<String, u64>,
    /// Estimated time of the tests on one worker.
    seconds: f64,
}

/// The whole plan as `--json` prints it.
#[derive(Serialize)]
struct Shown {
    rows: Vec<Row>,
    points: u64,
    tests: u64,
    jobs: usize,
    /// Estimated time of all tests on so many workers, without repeats and stalls.
    estimated_seconds: f64,
    /// Classes of equivalent points, by pair.
    classes: Vec<Reduction>,
    /// Sessions that could not be prepared.
    problems: Vec<String>,
}

/// Runs `kairos plan`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.means.archives.clone())?;
    let mut options = selection::options(&arguments.selection, &arguments.means, &catalogue.root)?;
    options.out.clone_from(&arguments.out);
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let bar = Bar::new();
    let plan = study::plan(&catalogue, &build, &options, &bar, &INTERRUPTED)?;
    bar.finish();
    for problem in &plan.problems {
        eprintln!("kairos: {problem}");
    }
    let shown = shown(&plan, &options)?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
    } else {
        print!("{}", Terminal.export(&table(&shown))?);
        if arguments.classes {
            print!("\n{}", Terminal.export(&reduction_table(&shown.classes))?);
        }
    }
    if plan.interrupted {
        eprintln!("kairos: interrupted; the plan is not complete");
        return Ok(ExitCode::Interrupted);
    }
    if let Some(dir) = &plan.dir {
        let dir = dir.display();
        eprintln!(
            "the run is prepared; start it, or a copy of it, with\n  kairos study --resume {dir}"
        );
    }
    Ok(problems(&plan.problems))
}

fn shown(plan: &Plan, options: &Options) -> anyhow::Result<Shown> {
    let rows: Vec<Row> = plan.sessions.iter().flat_map(rows).collect();
    let time = plan.sessions.iter().map(|session| {
        let tests = session.plan.iter().filter(|test| test.tested);
        of_session(&session.record, tests.fold(0, |count, _| count + 1))
    });
    let records: Vec<SessionRecord> = plan.sessions.iter().map(|s| s.record.clone()).collect();
    Ok(Shown {
        classes: classes::planned(&sessions::studied(&plan.pairs, &records)?),
        points: rows.iter().map(|row| row.points).sum(),
        tests: rows.iter().map(|row| row.tests).sum(),
        rows,
        jobs: options.jobs,
        estimated_seconds: shared(time.sum(), options.jobs).as_secs_f64(),
        problems: plan.problems.iter().map(ToString::to_string).collect(),
    })
}

fn rows(session: &PreparedSession) -> Vec<Row> {
    let key = &session.record.session;
    let populations = session.record.populations.iter();
    populations
        .map(|population| {
            let of_role =
                |test: &&PlannedTest| test.tested && test.point.role.role == population.role;
            let tests = session
                .plan
                .iter()
                .filter(of_role)
                .fold(0, |count, _| count + 1);
            Row {
                pair: key.pair.clone(),
                workload: key.workload.clone(),
                scope: key.scope.name().to_owned(),
                role: population.role.clone(),
                points: population.points,
                tests,
                allowed: population.allowed.clone(),
                seconds: of_session(&session.record, tests).as_secs_f64(),
            }
        })
        .collect()
}

/// The plan for people.
fn table(shown: &Shown) -> Table {
    let mut header: Vec<String> = ["pair", "workload", "scope", "role", "points", "tests"]
        .map(str::to_owned)
        .to_vec();
    header.extend(columns().map(|column| format!("{column} allows")));
    header.push("time".to_owned());
    let rows = shown.rows.iter().map(|row| {
        let mut cells = vec![
            Cell::text(&row.pair),
            Cell::text(&row.workload),
            Cell::text(&row.scope),
            Cell::text(&row.role),
            Cell::number(row.points),
            Cell::number(row.tests),
        ];
        cells.extend(columns().map(|column| Cell::optional(row.allowed.get(column))));
        cells.push(Cell::Number(spoken(Duration::from_secs_f64(row.seconds))));
        cells
    });
    let workers = if shown.jobs == 1 { "worker" } else { "workers" };
    Table {
        name: "plan".to_owned(),
        title: "Update points and tests of each session; time on one worker.".to_owned(),
        header,
        rows: rows.collect(),
        notes: vec![format!(
            "{} tests of {} points: about {} on {} {workers}. An estimate from a few runs of each session; tests that fail are repeated, and tests that stall wait for their limit: both come on top.",
            shown.tests,
            shown.points,
            spoken(Duration::from_secs_f64(shown.estimated_seconds)),
            shown.jobs,
        )],
    }
}
