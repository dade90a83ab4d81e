//! What people read of a run: tables and plots. Everything here is made again
//! from the run's records by `kairos report DIR`.

pub mod export;
pub mod latex;
pub mod logs;
pub mod pairs_table;
pub mod plot;
pub mod suspected;
pub mod tables;

use std::fs;
use std::path::{Path, PathBuf};

use crate::analysis::{self, Analysis, AnalysisError, Table};
use crate::study::store::{Run, SessionRecord, StoreError};
use crate::trace::PointId;
use crate::verdict::{Judgement, Observation};

use export::{Csv, Exporter, Markdown};
use latex::Latex;
use plot::timeline::Timelines;

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run cannot be analysed.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// A file of the report cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A table cannot be formatted.
    #[error("cannot format the table `{table}`: {source}")]
    Format {
        /// The table.
        table: String,
        /// Why not.
        source: csv::Error,
    },
    /// A plot cannot be drawn.
    #[error("cannot draw the plot `{plot}`: {reason}")]
    Plot {
        /// The plot.
        plot: String,
        /// Why not.
        reason: String,
    },
}

/// What a report may have more or less of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportOptions {
    /// Which sessions are drawn as time lines.
    pub timelines: Timelines,
}

/// Reads, judges and measures the run in `dir` and writes its report there.
///
/// # Errors
/// The run cannot be read or does not fit together, or a file cannot be written.
pub fn regenerate<J>(dir: &Path, judge: J) -> Result<(Run, Analysis), ReportError>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    regenerate_with(dir, ReportOptions::default(), judge)
}

/// The same with other options than the usual ones.
///
/// # Errors
/// As [`regenerate`].
pub fn regenerate_with<J>(
    dir: &Path,
    options: ReportOptions,
    judge: J,
) -> Result<(Run, Analysis), ReportError>
where
    J: Fn(&SessionRecord, &PointId, &Observation) -> Judgement,
{
    let run = Run::load(dir).map_err(AnalysisError::from)?;
    let analysis = analysis::analyse(&run, judge)?;
    write(&run, &analysis, options)?;
    Ok((run, analysis))
}

/// Writes every file of the report: `*.csv`, `tables/*.md|tex|csv`,
/// `plots/*.svg|png`, `logs/`.
///
/// # Errors
/// A file cannot be formatted or written.
pub fn write(run: &Run, analysis: &Analysis, options: ReportOptions) -> Result<(), ReportError> {
    let dir = run.dir();
    for table in tables::data(analysis) {
        export(&table, &Csv, &dir.join(format!("{}.csv", table.name)))?;
    }
    let folder = fresh_folder(dir, "tables")?;
    let formats: [(&str, &dyn Exporter); 3] = [("md", &Markdown), ("tex", &Latex), ("csv", &Csv)];
    let suspected = suspected::suspected(run, &analysis.rows)?;
    for table in tables::for_people(run, analysis)
        .into_iter()
        .chain([suspected])
    {
        for (ending, exporter) in formats {
            let path = folder.join(format!("{}.{ending}", table.name));
            export(&table, exporter, &path)?;
        }
    }
    let folder = fresh_folder(dir, "plots")?;
    for plot in plot::plots(analysis, options.timelines)? {
        write_file(
            &folder.join(format!("{}.svg", plot.name)),
            plot.svg.as_bytes(),
        )?;
        write_file(&folder.join(format!("{}.png", plot.name)), &plot.png)?;
    }
    logs::write(run, &analysis.rows)
}

fn export(table: &Table, exporter: &dyn Exporter, path: &Path) -> Result<(), ReportError> {
    let text = exporter
        .export(table)
        .map_err(|source| ReportError::Format {
            table: table.name.clone(),
            source,
        })?;
    write_file(path, text.as_bytes())
}

/// A folder of the report, emptied: a figure of an earlier report that this one
/// does not have must not stay behind.
fn fresh_folder(dir: &Path, name: &str) -> Result<PathBuf, ReportError> {
    let folder = dir.join(name);
    let emptied = match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(&folder),
    };
    emptied.map_err(|source| StoreError::io("empty", &folder, source))?;
    Ok(folder)
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    fs::write(path, content).map_err(|source| StoreError::io("write", path, source))?;
    Ok(())
}

#[cfg(test)]
mod tests;
