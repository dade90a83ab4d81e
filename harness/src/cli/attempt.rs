//! `kairos try PAIR WORKLOAD POINT`: runs one update test and tells everything
//! about it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos::analysis::{StudiedSession, sessions};
use kairos::engine::kept::KeptFile;
use kairos::engine::{EngineWish, PointRequest, RemoteEngine};
use kairos::explain::{Account, account, logs, select, text};
use kairos::patch::Patch;
use kairos::study::engine::choose;
use kairos::study::prepare::PreparedPair;
use kairos::study::session::{PreparedSession, requests};
use kairos::study::sessions::first_processor;
use kairos::study::single;
use kairos::study::store::SessionRecord;
use kairos::subject::BuildOptions;
use kairos::trace::Scope;
use kairos::verdict::Observation;

use super::exit_code::ExitCode;
use super::{Project, debugger, print, width};

/// Arguments of `kairos try`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Update pair, `<subject>-<old>-<new>[-variant]`
    #[arg(value_name = "PAIR")]
    pair: String,
    /// Workload
    #[arg(value_name = "WORKLOAD")]
    workload: String,
    /// Update point, `role#n/thread@exchange:index`, a part of it that only one point
    /// has, or a function, whose first entry is meant
    #[arg(value_name = "POINT")]
    point: String,
    /// Which processes the update reaches: `process`, only the one at the point, or
    /// `tree`, every process of the server at once
    #[arg(long, default_value = "process", value_name = "SCOPE")]
    scope: Scope,
    /// Let points before the server is ready be points, too
    #[arg(long)]
    startup: bool,
    /// Stop at the point and apply nothing
    #[arg(long)]
    nothing: bool,
    /// How often the test is run
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Keep what the test left: the run folder's files, the server's output, replies
    /// in columns; in a new folder
    #[arg(long, value_name = "DIR", conflicts_with = "gdb")]
    keep: Option<PathBuf>,
    /// Stop right after the update with gdb attached; the session goes on when gdb
    /// lets the server go on, and everything ends with gdb
    #[arg(long, conflicts_with_all = ["json", "repeat"])]
    gdb: bool,
    /// Run this command in gdb, and leave it after the last (may be repeated)
    #[arg(long, value_name = "COMMAND", requires = "gdb")]
    gdb_command: Vec<String>,
    /// Which engine runs the test: `restart`, `fork-server`, `fork-snapshot`, `rollback`,
    /// or `auto`, the fastest that the session allows and that agrees with restart at sampled points
    #[arg(
        long,
        default_value = "restart",
        value_name = "ENGINE",
        conflicts_with = "gdb"
    )]
    engine: EngineWish,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
}

/// Runs the test.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    if arguments.gdb && !debugger::is_installed() {
        eprintln!("kairos: gdb is not installed; install the package `gdb`");
        return Ok(ExitCode::Machine);
    }
    if let Some(dir) = &arguments.keep {
        make_empty(dir)?;
    }
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.archives.clone())?;
    eprintln!("building {}", arguments.pair);
    let pair = single::pair(&catalogue, &arguments.pair, &build)?;
    let workload = super::workload(&pair, Some(&arguments.workload))?;
    let which = single::Which {
        workload: &workload,
        scope: arguments.scope,
        startup: arguments.startup,
    };
    eprintln!("tracing {} {workload}", pair.id);
    let executable = std::env::current_exe()?;
    let (session, mut engine) = single::session(&pair, &which, &executable, first_processor())?;
    if arguments.engine != EngineWish::default() {
        let chosen = choose(&session, &mut engine, arguments.engine)?;
        eprintln!("engine {}: {}", chosen.kind, chosen.why);
        if let Some(mismatch) = &chosen.mismatch {
            eprintln!("kairos: {mismatch}");
        }
    }
    let record = judged_by(&session, arguments.nothing);
    let (pairs, records) = ([pair.record()], [record]);
    let studied = sessions::studied(&pairs, &records)?;
    let Some(studied) = studied.first() else {
        bail!("the session has no trace");
    };
    let place = select::point(studied, &arguments.point)?;
    let request = requests(&studied.record.trace).swap_remove(place);
    let request = request.context("the point has no stack")?;
    let job = Job {
        arguments,
        pair: &pair,
        studied,
        place,
        request,
    };
    if arguments.gdb {
        job.debug(engine)
    } else {
        job.test(engine)
    }
}

/// Where nothing is applied, the old version alone says what is right.
fn judged_by(session: &PreparedSession, nothing: bool) -> SessionRecord {
    let mut record = session.record.clone();
    if nothing {
        record.new = record.old.clone();
        record.after_update.clear();
    }
    record
}

struct Job<'a> {
    arguments: &'a Arguments,
    pair: &'a PreparedPair<'a>,
    studied: &'a StudiedSession<'a>,
    place: usize,
    request: PointRequest,
}

impl Job<'_> {
    fn test(&self, mut engine: RemoteEngine) -> anyhow::Result<ExitCode> {
        let apply = !self.arguments.nothing;
        let mut observations = Vec::new();
        let mut kept = Vec::new();
        for _ in 0..self.arguments.repeat {
            if self.arguments.keep.is_some() {
                let run = engine.keep(&self.request, apply)?;
                observations.push(run.observation);
                kept.push(run.files);
            } else {
                observations.push(engine.test(&self.request, apply)?.observation);
            }
        }
        drop(engine);
        let account = account(self.studied, self.place, &observations)
            .context("the point is not in the trace")?;
        if let Some(dir) = &self.arguments.keep {
            self.keep(dir, &observations, &kept)?;
        }
        if self.arguments.json {
            print(&(serde_json::to_string_pretty(&account)? + "\n"))?;
        } else {
            print(&self.human(&account))?;
        }
        Ok(ExitCode::Success)
    }

    fn human(&self, account: &Account) -> String {
        let mut text = built(self.pair);
        if self.arguments.nothing {
            text.push_str("nothing is applied; judged against the old version alone\n");
        }
        text.push('\n');
        text.push_str(&text::render(account, None, width()));
        if let Some(dir) = &self.arguments.keep {
            _ = writeln!(text, "kept in {}", dir.display());
        }
        text
    }

    /// Writes what each run left; of several, each into a folder of its number.
    fn keep(
        &self,
        dir: &Path,
        observations: &[Observation],
        kept: &[Vec<KeptFile>],
    ) -> anyhow::Result<()> {
        for (number, (seen, files)) in observations.iter().zip(kept).enumerate() {
            let folder = if observations.len() == 1 {
                dir.to_owned()
            } else {
                dir.join((number + 1).to_string())
            };
            let one = std::slice::from_ref(seen);
            let Some(account) = account(self.studied, self.place, one) else {
                continue;
            };
            for file in logs::files(self.studied, &account, seen, None) {
                // The whole of it is kept as `stdout` and `stderr`.
                if file.name != "output.txt" {
                    write(&folder.join(file.name), file.text.as_bytes())?;
                }
            }
            let json = serde_json::to_vec_pretty(seen)?;
            write(&folder.join("observation.json"), &json)?;
            for file in files {
                keep_file(&folder, file)?;
            }
        }
        Ok(())
    }

    fn debug(&self, engine: RemoteEngine) -> anyhow::Result<ExitCode> {
        let subject = debugger::Subject {
            tree: &self.pair.old.tree,
            program: &self.pair.old.program,
            patch: (!self.arguments.nothing).then_some(&self.pair.patch),
        };
        debugger::debug(engine, &self.request, &subject, &self.arguments.gdb_command)
    }
}

/// What was built, in a few lines.
fn built(pair: &PreparedPair<'_>) -> String {
    let patch: &Patch = &pair.patch;
    let mut text = format!(
        "{}: {} {} → {}\n",
        pair.id, pair.subject.name, pair.old.label, pair.new.label
    );
    let mut list = |what: &str, names: Vec<&str>| {
        const MOST: usize = 12;
        if names.is_empty() {
            return;
        }
        let shown = names[..names.len().min(MOST)].join(" ");
        let more = if names.len() > MOST { " …" } else { "" };
        _ = writeln!(text, "  {what} ({}): {shown}{more}", names.len());
    };
    list(
        "functions replaced",
        patch
            .redirects
            .iter()
            .map(|redirect| redirect.function.name.as_str())
            .collect(),
    );
    list(
        "functions added",
        patch
            .added
            .iter()
            .map(|a| a.function.name.as_str())
            .collect(),
    );
    list(
        "functions deleted",
        patch
            .deleted
            .iter()
            .map(|d| d.function.name.as_str())
            .collect(),
    );
    let transformer = match (&patch.transformer, pair.transformer_lines) {
        (Some(_), lines) => format!("state transformer of {lines} lines"),
        (None, _) => "no state transformer".to_owned(),
    };
    _ = writeln!(
        text,
        "  image of {} bytes, {transformer}",
        patch.image.len()
    );
    text
}

fn make_empty(dir: &Path) -> anyhow::Result<()> {
    let context = || format!("cannot keep anything in `{}`", dir.display());
    fs::create_dir_all(dir).with_context(context)?;
    if fs::read_dir(dir).with_context(context)?.next().is_some() {
        bail!(
            "`{}` is not empty; name a new folder for --keep",
            dir.display()
        );
    }
    Ok(())
}

/// A subject names its files: none may leave the folder.
fn keep_file(folder: &Path, file: &KeptFile) -> anyhow::Result<()> {
    let relative = Path::new(&file.path);
    let inside = relative
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Ok(());
    }
    let path = folder.join(relative);
    write(&path, &file.content)?;
    if file.length > file.content.len() as u64 {
        eprintln!(
            "kairos: {} was cut: it has {} bytes",
            path.display(),
            file.length
        );
    }
    // Readable at least: one wants to look at it, and to remove it.
    let permissions = fs::Permissions::from_mode(file.mode | 0o600);
    fs::set_permissions(&path, permissions)
        .with_context(|| format!("cannot keep `{}`", path.display()))
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, content))
        .with_context(|| format!("cannot write `{}`", path.display()))
}
