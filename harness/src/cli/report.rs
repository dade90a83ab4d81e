//! `kairos report`: makes a run's tables and plots again from its records.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::report::{self, export::Exporter as _, export::Terminal, tables};
use crate::study::store::SessionRecord;
use crate::trace::PointId;
use crate::verdict::{Judgement, Observation};

/// Makes a run's tables and plots again from its records
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// Folder of the run, such as results/runs/20260131T120000Z-1a2b3c4d
    pub run: PathBuf,
    /// Print the summary as JSON instead of the study's table
    #[arg(long)]
    pub json: bool,
    /// Write the files, print nothing
    #[arg(long, short)]
    pub quiet: bool,
}

/// Judges the run again with `judge`, writes its report, and prints the study's table.
///
/// # Errors
/// The run cannot be read, or the report cannot be written.
pub fn run<J>(arguments: &ReportArgs, judge: J) -> anyhow::Result<()>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    let dir = &arguments.run;
    let (_, analysis) = report::regenerate(dir, judge)
        .with_context(|| format!("cannot report on `{}`", dir.display()))?;
    if arguments.quiet {
        return Ok(());
    }
    if arguments.json {
        let rows = crate::analysis::summary::rows(&analysis.summary);
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    print!("{}", Terminal.export(&tables::study(&analysis.summary))?);
    println!("\ntables and plots: {}", dir.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture;

    #[test]
    fn a_run_is_reported_and_a_folder_without_one_is_named() {
        let runs = tempfile::tempdir().unwrap();
        let mut arguments = ReportArgs {
            run: fixture::run(runs.path(), None).dir().to_owned(),
            json: false,
            quiet: true,
        };
        run(&arguments, fixture::judge).unwrap();
        assert!(arguments.run.join("tables/study.md").exists());
        arguments.run = runs.path().to_owned();
        let error = format!("{:#}", run(&arguments, fixture::judge).unwrap_err());
        assert!(error.contains("holds no Kairos run"), "{error}");
    }
}
