//! `kairos diff RUN RUN`: what differs between two runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use kairos::analysis::{self, Analysis};
use kairos::explain::difference::{difference, tables};
use kairos::report::export::{Exporter as _, Terminal};
use kairos::study::session::judge_record;
use kairos::study::store::Run;

use super::exit_code::ExitCode;
use super::print;

/// Arguments of `kairos diff`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Folder of a run
    first: PathBuf,
    /// Folder of the run to compare it with
    second: PathBuf,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Compares two runs; results that differ are findings.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (first, second) = (read(&arguments.first)?, read(&arguments.second)?);
    let found = difference((&first.0.facts, &first.1), (&second.0.facts, &second.1));
    if arguments.json {
        print(&(serde_json::to_string_pretty(&found)? + "\n"))?;
    } else {
        let mut text = String::new();
        for table in tables(&found) {
            text.push_str(&Terminal.export(&table)?);
            text.push('\n');
        }
        let same = if found.same_results() {
            "Both runs show the same"
        } else {
            "The runs differ"
        };
        _ = writeln!(text, "{same}; {} tests are in both.", found.compared);
        print(&text)?;
    }
    Ok(if found.same_results() {
        ExitCode::Success
    } else {
        ExitCode::Findings
    })
}

fn read(dir: &Path) -> anyhow::Result<(Run, Analysis)> {
    let run = Run::load(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let analysis = analysis::analyse(&run, judge_record)
        .with_context(|| format!("cannot read `{}`", dir.display()))?;
    Ok((run, analysis))
}
