//! `kairos report`: makes a run's tables and plots again from its records.

use std::path::PathBuf;

use anyhow::Context as _;

use kairos::report::plot::timeline::Timelines;
use kairos::report::{self, ReportOptions, export::Exporter as _, export::Terminal, tables};
use kairos::study::session::judge_record;

use super::exit_code::ExitCode;
use super::study::tell_disagreements;

/// Makes a run's tables and plots again from its records
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of the run, such as results/runs/20260131T120000Z-1a2b3c4d
    pub run: PathBuf,
    /// How many sessions to draw as time lines, those with most failures first, or
    /// `all`
    #[arg(long, default_value_t, value_name = "N")]
    pub timelines: Timelines,
    /// Print the summary as JSON instead of the study's table
    #[arg(long)]
    pub json: bool,
    /// Write the files, print nothing
    #[arg(long, short)]
    pub quiet: bool,
}

/// Judges the run again, writes its report, and prints the study's table.
pub fn run(arguments: &ReportArgs) -> anyhow::Result<ExitCode> {
    let dir = &arguments.run;
    let options = ReportOptions {
        timelines: arguments.timelines,
    };
    let (_, analysis) = report::regenerate_with(dir, options, judge_record)
        .with_context(|| format!("cannot report on `{}`", dir.display()))?;
    let disagreements = analysis.classes.disagree();
    tell_disagreements(disagreements);
    let code = if disagreements.all > 0 {
        ExitCode::Findings
    } else {
        ExitCode::Success
    };
    if arguments.quiet {
        return Ok(code);
    }
    if arguments.json {
        let rows = kairos::analysis::summary::rows(&analysis.summary);
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(code);
    }
    print!("{}", Terminal.export(&tables::study(&analysis.summary))?);
    println!("\ntables and plots: {}", dir.display());
    Ok(code)
}
