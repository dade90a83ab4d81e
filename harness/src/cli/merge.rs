//! `kairos merge`: joins the parts of one study into one run.

use std::path::PathBuf;

use clap::Args;
use kairos::report::{self, export::Exporter as _, export::Terminal, tables};
use kairos::study::merge::{LEFT_OUT, merge};
use kairos::study::session::judge_record;

use super::exit_code::ExitCode;

/// Arguments of `kairos merge`.
#[derive(Args)]
pub struct Arguments {
    /// Folder for the joined run; it must be new or empty
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// Folders of the parts: shards, or runs that were not finished. Where they
    /// differ the first counts
    #[arg(value_name = "DIR", required = true)]
    parts: Vec<PathBuf>,
}

/// Runs `kairos merge`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let merged = merge(&arguments.out, &arguments.parts)?;
    for warning in &merged.warnings {
        eprintln!("kairos: {warning}");
    }
    let (_, analysis) = report::regenerate(&merged.dir, judge_record)?;
    print!("{}", Terminal.export(&tables::study(&analysis.summary))?);
    let dir = merged.dir.display();
    println!("\nresults, tables and plots: {dir}");
    println!(
        "{} of {} tests from {} runs; {} were in more than one",
        merged.tests,
        merged.planned,
        arguments.parts.len(),
        merged.twice
    );
    for (why, count) in &merged.left_out {
        eprintln!("kairos: {count} tests were left out: {why}; they are kept in {dir}/{LEFT_OUT}");
    }
    if merged.tests < merged.planned {
        eprintln!(
            "kairos: {} tests are not done; run them with\n  kairos study --resume {dir}",
            merged.planned - merged.tests
        );
    }
    Ok(ExitCode::Success)
}
