//! `kairos subjects`: list the programs under study, fetch and build them.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use kairos::subject::cache::Cache;
use kairos::subject::source::Sources;
use kairos::subject::{BuildOptions, Catalogue, Subject, Version, build};

use super::Project;
use super::exit_code::ExitCode;

/// Arguments of `kairos subjects`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List subjects with their versions and workloads
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Get the source archives and verify them
    Fetch {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        archives: Archives,
    },
    /// Build versions, or say that they are built
    Build {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        archives: Archives,
        /// As JSON: the built versions with their programs and units
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Selection {
    /// Only this subject (may be repeated)
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// Only this version (may be repeated)
    #[arg(long, value_name = "LABEL")]
    version: Vec<String>,
}

#[derive(Args)]
struct Archives {
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
}

/// Runs `kairos subjects`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    match &arguments.action {
        Action::List { json } => list(&catalogue, *json)?,
        Action::Fetch {
            selection,
            archives,
        } => fetch(&catalogue, selection, archives)?,
        Action::Build {
            selection,
            archives,
            json,
        } => build_all(&catalogue, selection, archives, *json)?,
    }
    Ok(ExitCode::Success)
}

fn list(catalogue: &Catalogue, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&catalogue.subjects)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["subject", "versions", "workloads", "pairs", "about"]);
    for subject in &catalogue.subjects {
        let pairs = catalogue
            .pairs
            .iter()
            .filter(|pair| pair.subject == subject.name)
            .count();
        table.add_row([
            subject.name.clone(),
            subject.versions.len().to_string(),
            subject.workloads.study.join(" "),
            pairs.to_string(),
            subject.about.clone(),
        ]);
    }
    println!("{}", table.trim_fmt());
    Ok(())
}

/// The versions asked for. A label that no chosen subject has is an error.
fn selected<'a>(
    catalogue: &'a Catalogue,
    selection: &Selection,
) -> anyhow::Result<Vec<(&'a Subject, &'a Version)>> {
    let subjects: Vec<&Subject> = if selection.subject.is_empty() {
        catalogue.subjects.iter().collect()
    } else {
        selection
            .subject
            .iter()
            .map(|name| catalogue.subject(name))
            .collect::<Result<_, _>>()?
    };
    for label in &selection.version {
        let mut known = subjects.iter().map(|subject| subject.version(label));
        if !known.any(|found| found.is_ok())
            && let Some(subject) = subjects.first()
        {
            subject.version(label)?;
        }
    }
    Ok(subjects
        .into_iter()
        .flat_map(|subject| {
            subject
                .versions
                .iter()
                .map(move |version| (subject, version))
        })
        .filter(|(_, version)| {
            selection.version.is_empty() || selection.version.contains(&version.label)
        })
        .collect())
}

fn fetch(catalogue: &Catalogue, selection: &Selection, archives: &Archives) -> anyhow::Result<()> {
    let sources = Sources::from_environment(archives.archives.clone(), Cache::from_environment());
    let mut done = std::collections::BTreeSet::new();
    for (subject, version) in selected(catalogue, selection)? {
        for archive in version.source.archives() {
            if done.insert(archive.sha256.clone()) {
                let path = sources
                    .archive(archive, &subject.manifest())
                    .with_context(|| format!("{} {}", subject.name, version.label))?;
                println!("{}  {}", archive.sha256, path.display());
            }
        }
    }
    Ok(())
}

fn build_all(
    catalogue: &Catalogue,
    selection: &Selection,
    archives: &Archives,
    json: bool,
) -> anyhow::Result<()> {
    let options = BuildOptions::from_environment(archives.archives.clone())?;
    let mut all = Vec::new();
    for (subject, version) in selected(catalogue, selection)? {
        let start = Instant::now();
        let was_built = build::is_built(subject, version, &options)?;
        let built = kairos::subject::build(subject, version, &options)?;
        let how = if was_built {
            "in the cache".to_owned()
        } else {
            format!("built in {:.1} s", start.elapsed().as_secs_f64())
        };
        if !json {
            println!(
                "{} {}: {} units, {how}: {}",
                subject.name,
                version.label,
                built.units.len(),
                built.program.display()
            );
        }
        all.push(built);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(())
}
