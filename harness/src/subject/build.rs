//! Builds a version by its recipe and keeps the result.
//!
//! A finished build lies in the cache under a key made of everything it
//! depends on: recipe, sources, flags, compiler. It is built where it stays,
//! so that recorded commands can be repeated, and counts as finished once
//! `build.json` is there; what an interrupted build left is built again.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::{self, Cache};
use super::compiler::Compiler;
use super::error::{AtFile, BuildError, FailedStep, SubjectError};
use super::manifest::{Step, Subject, Version, VersionSource};
use super::source::{self, Sources};
use super::{flags, program, record, rewritten, tool, wrapper};
use crate::rewrite::{self, Plan};
use crate::sandbox::guard;

pub use super::record::Unit;

/// How to build.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// Where archives come from.
    pub sources: Sources,
    /// Where builds are kept.
    pub cache: Cache,
    /// The compiler behind the wrapper.
    pub compiler: Compiler,
    /// The `kairos` binary, which is also the compiler wrapper.
    pub wrapper: PathBuf,
    /// Parallel jobs of a recipe (`$JOBS`).
    pub jobs: usize,
}

impl BuildOptions {
    /// This machine's cache, archives (`--archives`, else `KAIROS_ARCHIVES`)
    /// and compiler.
    ///
    /// # Errors
    /// If there is no usable compiler.
    pub fn from_environment(archives: Vec<PathBuf>) -> Result<Self, SubjectError> {
        let cache = Cache::from_environment();
        let wrapper = own_program().at("find", Path::new("/proc/self/exe"))?;
        Ok(Self {
            sources: Sources::from_environment(archives, cache.clone()),
            cache,
            compiler: Compiler::find()?,
            wrapper,
            jobs: std::thread::available_parallelism().map_or(1, Into::into),
        })
    }
}

/// The `kairos` binary: this program, or the one beside it if this is a test.
fn own_program() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own
        .parent()
        .filter(|folder| folder.ends_with("deps"))
        .and_then(Path::parent)
        .map(|folder| folder.join("kairos"))
        .filter(|path| path.is_file());
    Ok(beside.unwrap_or(own))
}

/// A version as built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltVersion {
    /// The version's label.
    pub label: String,
    /// The executable.
    pub program: PathBuf,
    /// The source tree that it was built in.
    pub tree: PathBuf,
    /// Hash of everything that the build depends on.
    pub key: String,
    /// The translation units of the program, sorted by object.
    pub units: Vec<Unit>,
    /// The real compiler.
    pub compiler: PathBuf,
    /// The flags that the wrapper added to each compilation.
    pub flags: Vec<String>,
}

impl BuiltVersion {
    /// Compiles a C file that is not the subject's with the same compiler and
    /// flags (a state transformer, say).
    ///
    /// # Errors
    /// [`BuildError::Extra`] with the compiler's output.
    pub fn compile_extra(
        &self,
        source: &Path,
        include: &[PathBuf],
        out: &Path,
    ) -> Result<(), SubjectError> {
        let mut command = tool::command(&self.compiler);
        for folder in include {
            command.arg("-I").arg(folder);
        }
        command
            .arg("-c")
            .arg(source)
            .arg("-o")
            .arg(out)
            // Line numbers are wanted here: nobody compares this object.
            .args(self.flags.iter().filter(|flag| *flag != "-D__LINE__=0"))
            .env("SOURCE_DATE_EPOCH", flags::SOURCE_DATE_EPOCH);
        let output = guard::output(&mut command).at("run", &self.compiler)?;
        if output.status.success() {
            return Ok(());
        }
        Err(BuildError::Extra {
            source_file: source.to_path_buf(),
            output: tool::tail(&tool::text(&output), 30),
        }
        .into())
    }
}

/// Files of one build's folder.
struct Layout {
    folder: PathBuf,
}

impl Layout {
    fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }
    fn log(&self) -> PathBuf {
        self.folder.join("build.log")
    }
    fn records(&self) -> PathBuf {
        self.folder.join("compilations.jsonl")
    }
    fn finished(&self) -> PathBuf {
        self.folder.join("build.json")
    }
    fn plan(&self) -> PathBuf {
        self.folder.join("plan.json")
    }
    fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// The finished build, if there is one.
    fn read(&self) -> Option<BuiltVersion> {
        let text = fs::read_to_string(self.finished()).ok()?;
        let built: BuiltVersion = serde_json::from_str(&text).ok()?;
        // A cache that was moved holds commands for paths that are gone.
        (built.tree == self.tree() && built.program.is_file()).then_some(built)
    }
}

/// Builds `version` of `subject`, or returns the build made before.
///
/// # Errors
/// Sources that cannot be had, a step that fails, or a program without the
/// symbols and debug information that an update needs.
pub fn build(
    subject: &Subject,
    version: &Version,
    options: &BuildOptions,
) -> Result<BuiltVersion, SubjectError> {
    build_rewritten(subject, version, options, &Plan::default())
}

/// Builds `version` with its records declared as `plan` says: the recipe runs as it
/// is, and the compiler wrapper compiles rewritten text. An empty plan is the
/// version's own build.
///
/// # Errors
/// As [`build`], and a record that cannot be rewritten.
pub fn build_rewritten(
    subject: &Subject,
    version: &Version,
    options: &BuildOptions,
    plan: &Plan,
) -> Result<BuiltVersion, SubjectError> {
    let key = key(subject, version, &options.compiler, plan)?;
    let name = format!("{}-{}-{}", subject.name, version.label, &key[..16]);
    let layout = Layout {
        folder: options.cache.builds().join(&name),
    };
    if let Some(built) = layout.read() {
        return Ok(built);
    }
    let _lock = options.cache.lock(&name)?;
    if let Some(built) = layout.read() {
        return Ok(built);
    }
    cache::remove(&layout.folder)?;
    cache::create(&layout.folder)?;
    options.sources.tree(subject, version, &layout.tree())?;
    let flags = flags_in(&layout.tree(), &options.compiler);
    install_wrapper(&layout.bin(), &options.wrapper)?;
    let plan_path = layout.plan();
    fs::write(&plan_path, plan_text(plan)?).at("write", &plan_path)?;
    for (index, step) in subject.build.steps.iter().enumerate() {
        run_step(subject, version, options, &layout, &flags, index, step)?;
    }
    let built = BuiltVersion {
        label: version.label.clone(),
        program: layout.tree().join(&subject.build.program),
        units: units(subject, version, &layout)?,
        tree: layout.tree(),
        key,
        compiler: options.compiler.path.clone(),
        flags,
    };
    finish(&layout, &built)?;
    Ok(built)
}

/// Whether `version` is built already.
///
/// # Errors
/// If the version's folder cannot be read.
pub fn is_built(
    subject: &Subject,
    version: &Version,
    options: &BuildOptions,
) -> Result<bool, SubjectError> {
    let key = key(subject, version, &options.compiler, &Plan::default())?;
    let name = format!("{}-{}-{}", subject.name, version.label, &key[..16]);
    let folder = options.cache.builds().join(name);
    Ok(Layout { folder }.read().is_some())
}

/// Hash of everything that a build depends on.
fn key(
    subject: &Subject,
    version: &Version,
    compiler: &Compiler,
    plan: &Plan,
) -> Result<String, SubjectError> {
    let mut hasher = Sha256::new();
    let mut add = |text: &str| {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    add(&flags::REVISION.to_string());
    add(flags::SOURCE_DATE_EPOCH);
    add(&compiler.path.to_string_lossy());
    add(&compiler.version);
    compiler.flags.iter().for_each(|flag| add(flag));
    add("steps");
    subject
        .build
        .steps
        .iter()
        .for_each(|step| add(&step.command));
    add(&subject.build.program.to_string_lossy());
    match &version.source {
        VersionSource::Archive { archive, queue } => {
            add(&archive.sha256);
            if let Some(queue) = queue {
                add(&queue.archive.sha256);
                add(queue.upto.as_deref().unwrap_or("\0all"));
                queue.without.iter().for_each(|patch| add(patch));
            }
        }
        VersionSource::Folder(folder) => {
            source::exists(folder, subject, version)?;
            for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
                let entry = entry.map_err(std::io::Error::from).at("list", folder)?;
                let path = entry.path();
                let inside = path.strip_prefix(folder).unwrap_or(path);
                add(&inside.to_string_lossy());
                if entry.file_type().is_file() {
                    let mode = path.metadata().at("inspect", path)?.permissions().mode();
                    add(if mode & 0o100 == 0 { "file" } else { "program" });
                    add(&source::sha256(path)?);
                } else if entry.file_type().is_symlink() {
                    add(&fs::read_link(path).at("read", path)?.to_string_lossy());
                }
            }
        }
    }
    if !plan.is_empty() {
        hasher.update(rewrite::REVISION.to_le_bytes());
        hasher.update(plan_text(plan)?);
    }
    Ok(source::hexadecimal(&hasher.finalize()))
}

fn plan_text(plan: &Plan) -> Result<Vec<u8>, SubjectError> {
    serde_json::to_vec(plan)
        .map_err(std::io::Error::other)
        .at("write", Path::new("plan.json"))
}

fn flags_in(tree: &Path, compiler: &Compiler) -> Vec<String> {
    let mut flags = compiler.flags.clone();
    flags.push(flags::map_tree(tree));
    flags
}

/// Puts the wrapper into `bin` as `cc` and as `gcc`, for recipes that name the
/// compiler themselves.
fn install_wrapper(bin: &Path, kairos: &Path) -> Result<(), SubjectError> {
    cache::create(bin)?;
    let quoted = kairos.to_string_lossy().replace('\'', r"'\''");
    let script = format!(
        "#!/bin/sh\nexec '{quoted}' {} \"$@\"\n",
        wrapper::SUBCOMMAND
    );
    for name in ["cc", "gcc"] {
        let path = bin.join(name);
        fs::write(&path, &script).at("write", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at("write", &path)?;
    }
    Ok(())
}

fn run_step(
    subject: &Subject,
    version: &Version,
    options: &BuildOptions,
    layout: &Layout,
    flags: &[String],
    index: usize,
    step: &Step,
) -> Result<(), SubjectError> {
    let log_path = layout.log();
    let log = File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .at("open", &log_path)?;
    let errors = log.try_clone().at("open", &log_path)?;
    let start = log.metadata().at("inspect", &log_path)?.len();
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let search = std::iter::once(layout.bin()).chain(std::env::split_paths(&path));
    let search = std::env::join_paths(search)
        .map_err(std::io::Error::other)
        .at("search", &layout.bin())?;
    let flags_text = serde_json::to_string(flags)
        .map_err(std::io::Error::other)
        .at("write", &layout.folder)?;
    let mut command = tool::command("sh");
    // Nothing of the caller's environment but the search path reaches a recipe.
    command
        .env_clear()
        .env("PATH", search)
        .env("HOME", &layout.folder)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", flags::SOURCE_DATE_EPOCH)
        // By name, not by path: programs print how they were built.
        .env("CC", "cc")
        .env("JOBS", options.jobs.to_string())
        .env(wrapper::LOG, layout.records())
        .env(wrapper::REAL, &options.compiler.path)
        .env(wrapper::FLAGS, flags_text)
        .env(rewritten::PLAN, layout.plan())
        .env(rewritten::TREE, layout.tree())
        .args(["-e", "-c", &step.command])
        .current_dir(layout.tree())
        .stdout(Stdio::from(log))
        .stderr(Stdio::from(errors));
    let status = guard::status(&mut command).at("run", Path::new("sh"))?;
    if status.success() {
        return Ok(());
    }
    let output = fs::read(&log_path).at("read", &log_path)?;
    let start = usize::try_from(start).unwrap_or(0).min(output.len());
    let output = String::from_utf8_lossy(&output[start..]);
    let failed = FailedStep {
        subject: subject.name.clone(),
        version: version.label.clone(),
        number: index + 1,
        manifest: subject.manifest(),
        line: step.line,
        command: step.command.trim_end().to_owned(),
        status: status.to_string(),
        tail: tool::tail(&without_own_warnings(&output), 30),
        log: log_path,
        packages: packages(subject),
    };
    Err(BuildError::Step(Box::new(failed)).into())
}

/// Our `-D__LINE__=0` draws a warning per file, which gcc cannot be kept from.
fn without_own_warnings(output: &str) -> String {
    output
        .lines()
        .filter(|line| !line.contains("\"__LINE__\" redefined"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn packages(subject: &Subject) -> String {
    let packages = &subject.build.debian_packages;
    if packages.is_empty() {
        return String::new();
    }
    format!(
        "\n  the recipe needs these Debian packages: apt-get install {}",
        packages.join(" ")
    )
}

fn units(subject: &Subject, version: &Version, layout: &Layout) -> Result<Vec<Unit>, SubjectError> {
    let unusable = |wrong: String, mend: String| BuildError::Unusable {
        subject: subject.name.clone(),
        version: version.label.clone(),
        wrong,
        mend,
        log: layout.log(),
    };
    let tree = layout.tree();
    let program = tree.join(&subject.build.program);
    let sources = program::sources(&program).map_err(|wrong| unusable(wrong.wrong, wrong.mend))?;
    let log = layout.records();
    let records = record::read(&log).at("read", &log)?;
    let (units, missing) = record::units(&records, &tree, &record::normal(&program), &sources);
    if missing.is_empty() {
        return Ok(units);
    }
    let wrong = format!(
        "no recorded object for {} of the {} sources of the program: {}",
        missing.len(),
        sources.len(),
        missing.join(", ")
    );
    let mend = "compile each source through $CC and keep the objects";
    Err(unusable(wrong, mend.to_owned()).into())
}

/// Marks the build as finished, in one step.
fn finish(layout: &Layout, built: &BuiltVersion) -> Result<(), SubjectError> {
    let path = layout.finished();
    let text = serde_json::to_string_pretty(built)
        .map_err(std::io::Error::other)
        .at("write", &path)?;
    let part = layout.folder.join("build.json.part");
    fs::write(&part, text).at("write", &part)?;
    fs::rename(&part, &path).at("write", &path)
}
