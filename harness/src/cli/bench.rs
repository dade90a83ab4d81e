//! `kairos bench`: what one update test costs.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use anyhow::Context as _;
use clap::Args;
use kairos::bench::{Bench, Options, Report, kept};
use kairos::engine::EngineWish;
use kairos::report::export::{Csv, Exporter as _, Markdown, Terminal};
use kairos::report::plot::{cost, raster};
use kairos::study::progress::{Planned, Progress};
use kairos::subject::BuildOptions;

use super::Project;
use super::exit_code::ExitCode;

/// Arguments of `kairos bench`.
#[derive(Args)]
pub struct Arguments {
    /// The subject [default: that of the pair, or kvd]
    #[arg(long, value_name = "NAME")]
    subject: Option<String>,
    /// The update pair [default: the subject's first]
    #[arg(long, value_name = "PAIR")]
    pair: Option<String>,
    /// The workload [default: the pair's first]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Replace every function of the pair's old version by a copy of itself
    /// instead of applying the pair's update
    #[arg(long)]
    control: bool,
    /// Let this function of the pair's old version return a wrong value instead, and
    /// every other one be a copy of itself
    #[arg(long, value_name = "FUNCTION")]
    planted_fault: Option<String>,
    /// One test of each way at every point of the session
    #[arg(long, conflicts_with = "tests")]
    every_point: bool,
    /// Run tests only: leave out gdb and the ways that are no test
    #[arg(long)]
    engines_only: bool,
    /// Tests of each way, at points spread evenly over the session
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tests: u32,
    /// Let the tests of a turn be at ten neighbouring points, as when every point is
    /// tested; the turns are spread evenly
    #[arg(long)]
    neighbours: bool,
    /// Leave out gdb, which takes hundreds of times longer
    #[arg(long)]
    no_gdb: bool,
    /// Also measure how many tests a second so many workers finish, beside one
    #[arg(long, default_value_t = 1, value_name = "N")]
    jobs: usize,
    /// Which engines are measured: `restart` alone, one more (`fork-server`,
    /// `fork-snapshot`, `rollback`), or `auto`, all that the session allows
    #[arg(long, default_value = "auto", value_name = "ENGINE")]
    engine: EngineWish,
    /// Print the gdb batch file of the first measured point instead of measuring
    #[arg(long)]
    print_gdb_script: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also write bench.json and bench.md into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// MiB of memory that traced servers are given beyond their own
    #[arg(long, default_value_t = 0, value_name = "MIB", value_parser = clap::value_parser!(u32).range(..=4096))]
    resident: u32,
    /// Measure nothing: set benches beside each other that were kept in folders of this
    /// one by `--out`, in a table and figures that are written there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["out", "json"])]
    draw: Option<PathBuf>,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
}

/// Set by SIGINT and SIGTERM: the bench ends with what it has.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs `kairos bench`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    if let Some(folder) = &arguments.draw {
        return draw(folder);
    }
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.archives.clone())?;
    let options = Options {
        subject: arguments.subject.clone(),
        pair: arguments.pair.clone(),
        workload: arguments.workload.clone(),
        control: arguments.control,
        planted_fault: arguments.planted_fault.clone(),
        tests: if arguments.every_point {
            None
        } else {
            Some(usize::try_from(arguments.tests)?)
        },
        neighbours: arguments.neighbours,
        engines_only: arguments.engines_only,
        gdb: !arguments.no_gdb && !arguments.engines_only,
        engine: arguments.engine,
        jobs: arguments.jobs,
        resident: u64::from(arguments.resident) << 20,
        executable: std::env::current_exe()?,
    };
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let bench = Bench::prepare(&catalogue, &build, &options, &Lines)?;
    if arguments.print_gdb_script {
        let script = bench.gdb_script(0).map_err(anyhow::Error::msg)?;
        print!("{script}");
        return Ok(ExitCode::Success);
    }
    let report = bench.run(&options, &Lines, &INTERRUPTED)?;
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(out) = &arguments.out {
        keep(out, &report, &json)?;
    }
    if arguments.json {
        println!("{json}");
    } else {
        print!("{}", Terminal.export(&report.table())?);
        print!("\n{}", Terminal.export(&report.stage_table())?);
    }
    let disagree = report.disagrees();
    Ok(if INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed) {
        ExitCode::Interrupted
    } else if disagree {
        ExitCode::Findings
    } else {
        ExitCode::Success
    })
}

fn keep(out: &std::path::Path, report: &Report, json: &str) -> anyhow::Result<()> {
    let refused = || format!("cannot write into {}", out.display());
    std::fs::create_dir_all(out).with_context(refused)?;
    std::fs::write(out.join("bench.json"), format!("{json}\n")).with_context(refused)?;
    let markdown =
        Markdown.export(&report.table())? + "\n" + &Markdown.export(&report.stage_table())?;
    std::fs::write(out.join("bench.md"), markdown).with_context(refused)
}

/// Sets kept benches beside each other.
fn draw(folder: &std::path::Path) -> anyhow::Result<ExitCode> {
    let kept = kept::read(folder)?;
    let table = kept::table(&kept);
    let refused = || format!("cannot write into {}", folder.display());
    std::fs::write(folder.join("cost.md"), Markdown.export(&table)?).with_context(refused)?;
    std::fs::write(folder.join("cost.csv"), Csv.export(&table)?).with_context(refused)?;
    for figure in cost::figures(&kept) {
        let svg = cost::draw(&figure).map_err(anyhow::Error::msg)?;
        let png = raster::png(&svg).map_err(anyhow::Error::msg)?;
        let path = |extension| folder.join(figure.name).with_extension(extension);
        std::fs::write(path("svg"), &svg).with_context(refused)?;
        std::fs::write(path("png"), &png).with_context(refused)?;
    }
    print!("{}", Terminal.export(&table)?);
    Ok(ExitCode::Success)
}

/// Says on standard error what takes long.
struct Lines;

impl Progress for Lines {
    fn stage(&self, what: &str) {
        eprintln!("{what}");
    }

    fn planned(&self, planned: &Planned) {
        eprintln!("{} runs", planned.tests);
    }

    fn tested(&self, _failures: u64) {}

    fn problem(&self, what: &str) {
        eprintln!("kairos: {what}");
    }
}
