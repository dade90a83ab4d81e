//! `kairos subjects`: list the programs under study, fetch and build them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use kairos::subject::cache::Cache;
use kairos::subject::catalogue;
use kairos::subject::scaffold::{self, Scaffold};
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
    /// Begin a subject: write what can be guessed from its sources
    New {
        /// Its name: letters, digits and underscores
        #[arg(value_name = "NAME")]
        name: String,
        /// Source tree (copied beside the manifest) or archive of the first version
        #[arg(value_name = "SOURCE")]
        source: PathBuf,
        /// The same of a second version: begins an update pair, too
        #[arg(long, value_name = "SOURCE2")]
        second: Option<PathBuf>,
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
    match &arguments.action {
        Action::New {
            name,
            source,
            second,
        } => {
            // Other manifests may be unfinished: they are not read.
            let root = catalogue::find_root(project.root.as_deref())?;
            let request = scaffold::Request {
                name: name.clone(),
                source: source.clone(),
                second: second.clone(),
            };
            let text = begun(&root, name, &scaffold::create(&root, &request)?);
            std::io::stdout().lock().write_all(text.as_bytes())?;
        }
        Action::List { json } => list(&project.open()?, *json)?,
        Action::Fetch {
            selection,
            archives,
        } => fetch(&project.open()?, selection, archives)?,
        Action::Build {
            selection,
            archives,
            json,
        } => build_all(&project.open()?, selection, archives, *json)?,
    }
    Ok(ExitCode::Success)
}

/// Says what was written and what to do next.
fn begun(root: &Path, name: &str, scaffold: &Scaffold) -> String {
    use std::fmt::Write as _;
    let short = |path: &Path| {
        path.strip_prefix(root)
            .unwrap_or(path)
            .display()
            .to_string()
    };
    let mut text = format!(
        "{}: begun; its recipe is guessed from {}\n",
        short(&scaffold.subject),
        scaffold.recipe.found
    );
    if let Some(pair) = &scaffold.pair {
        let _ = writeln!(text, "{}: begun", short(pair));
    }
    text.push_str("Fill in:\n");
    for (path, line, wanted) in &scaffold.open {
        let _ = writeln!(text, "  {}:{line}: {wanted}", short(path));
    }
    let _ = writeln!(text, "Then:\n  kairos subjects build --subject {name}");
    let _ = match scaffold.pair.as_ref().and_then(|pair| pair.file_name()) {
        Some(pair) => {
            let pair = pair.to_string_lossy();
            writeln!(text, "  kairos patch {pair}\n  kairos study --pair {pair}")
        }
        None => writeln!(
            text,
            "  add a second [[version]] and update-pairs/{name}-OLD-NEW/pair.toml (docs/manifests.md)"
        ),
    };
    text
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
