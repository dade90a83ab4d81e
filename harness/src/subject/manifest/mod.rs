//! `subject.toml`: a program under study, its versions, and how to build and run it.
//!
//! [`Subject::load`] reads and checks a manifest; every error points at file,
//! line and column and says what to do. The format is in `docs/manifests.md`.

pub(crate) mod check;
mod check_profile;
pub(in crate::subject) mod check_rules;
mod check_run;
mod placeholder;
pub(crate) mod raw;
mod unfinished;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde::Serialize;

use super::error::{AtFile, SubjectError};
use super::place::Text;
use crate::state::Rules;

/// Name of a subject's manifest in its folder.
pub const MANIFEST: &str = "subject.toml";

/// A C program under study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its name, equal to its folder's.
    pub name: String,
    /// One sentence.
    pub about: String,
    /// The versions, oldest first.
    pub versions: Vec<Version>,
    /// How to build each of them.
    pub build: Build,
    /// How to run the program.
    pub run: Run,
    /// Other ways to run it, for the workloads that name them.
    pub profiles: Vec<Profile>,
    /// Its processes by what they do; the first matching rule names a child.
    pub roles: Vec<Role>,
    /// Where a developer would put update points.
    pub manual: Vec<ManualPoint>,
    /// Lines of the manifest that say so, without comments and blank lines.
    pub manual_lines: u32,
    /// Functions that `activeness_except_named` lets be active.
    pub except_named: Vec<String>,
    /// Text that differs between equal runs.
    pub volatile: Vec<Volatile>,
    /// Logs that are compared line by line: paths in the run folder, or
    /// `stdout` and `stderr`.
    pub logs: Vec<String>,
    /// What is compared after the stop.
    pub state: State,
    /// What types do not say about live state.
    pub rules: Rules,
    /// The recorded sessions.
    pub workloads: Workloads,
    /// The subject's folder.
    pub folder: PathBuf,
}

/// One version of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Version {
    /// Part of every identifier; without hyphens.
    pub label: String,
    /// One sentence; may be empty.
    pub about: String,
    /// Where its sources come from.
    pub source: VersionSource,
}

/// Where a version's sources come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VersionSource {
    /// An upstream archive, with a Debian patch queue on top or without.
    Archive {
        /// The upstream archive.
        archive: Archive,
        /// The patches applied to it.
        queue: Option<Queue>,
    },
    /// A source tree on disk.
    Folder(PathBuf),
}

/// An archive, named by its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// File name in a local folder of archives. The mirror may call it otherwise.
    pub file: String,
    /// SHA-256 of its bytes, in lower-case hexadecimal.
    pub sha256: String,
    /// The Debian source package that it belongs to.
    pub package: String,
}

/// A Debian patch queue (`debian/patches`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// The archive that holds `debian/`.
    pub archive: Archive,
    /// The last patch to apply; `None` for the whole queue.
    pub upto: Option<String>,
    /// Patches to leave out.
    pub without: Vec<String>,
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// Debian packages that the recipe needs.
    pub debian_packages: Vec<String>,
    /// Shell lines, in order.
    pub steps: Vec<Step>,
    /// The executable, relative to the source tree.
    pub program: PathBuf,
}

/// One step of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// A line (or several) for `sh -e`.
    pub command: String,
    /// Where the manifest says so, for errors.
    pub line: usize,
}

/// How to run the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// The ports, in the manifest's order; never empty where `{port}` is used.
    pub ports: Vec<Port>,
    /// Who the program believes to be.
    pub identity: Identity,
    /// When it is ready for clients.
    pub ready: Ready,
    /// The signal that asks the first process for an ordinary stop.
    #[serde(serialize_with = "signal_name")]
    pub stop: Signal,
    /// Environment variables, with placeholders. There are no others.
    pub environment: BTreeMap<String, String>,
    /// Folders created in the run folder before each start.
    pub folders: Vec<RunFolder>,
    /// Files written to the run folder before each start.
    pub files: Vec<RunFile>,
    /// Users beside those that every sandbox has.
    pub users: Vec<User>,
}

/// Another way to run the program, for the workloads that name it: what `[run]`
/// and the roles say where the profile says nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The name that workloads use.
    pub name: String,
    /// What is different, and why.
    pub about: String,
    /// How the program is run under this profile, in full.
    pub run: Run,
    /// Its processes under this profile.
    pub roles: Vec<Role>,
    /// The session replayed after each workload of this profile, if not the usual.
    pub probe: Option<String>,
}

/// How the program runs for one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting<'a> {
    /// How it is started.
    pub run: &'a Run,
    /// Its processes.
    pub roles: &'a [Role],
    /// The session replayed after the workload.
    pub probe: Option<&'a str>,
}

/// A user whom the program finds in its `/etc/passwd`. The user namespace holds
/// one user, so that all names share the number of the program's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password as `crypt(3)` encodes it.
    pub password: String,
    /// The home, with placeholders.
    pub home: String,
}

/// A named port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// The name that sessions use.
    pub name: String,
    /// The number; fixed, since every worker has a network of its own.
    pub number: u16,
}

/// Who the program believes to be, inside its own user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Identity {
    /// uid 1000 without capabilities.
    User,
    /// uid 0 of its user namespace.
    Root,
}

/// When a started program is ready for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    /// A socket listens on the port of this name.
    Listening(String),
    /// A line of stdout or stderr matches this regular expression.
    Output(String),
}

/// A folder in the run folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFolder {
    /// Relative to the run folder.
    pub path: PathBuf,
    /// Permission bits, if not the default.
    pub mode: Option<u32>,
}

/// A file in the run folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunFile {
    /// Relative to the run folder.
    pub path: PathBuf,
    /// What it holds.
    pub content: FileContent,
    /// Permission bits, if not the default.
    pub mode: Option<u32>,
}

/// What a file of the run folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileContent {
    /// This text, with placeholders.
    Text(String),
    /// The bytes of this file, as they are.
    Source(PathBuf),
}

/// A rule that names processes, or threads, by what they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Role {
    /// The role's name. Several rules may share one.
    pub name: String,
    /// The process that Kairos starts; then nothing else is set.
    pub first: bool,
    /// Role of the parent.
    pub parent: Option<String>,
    /// An own function on the parent's stack at the fork.
    pub forked_in: Option<String>,
    /// The rule names threads started in `forked_in` instead of processes.
    pub threads: bool,
}

/// An update point that a developer would place: an entry of `entry` whose
/// direct caller is `looping`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManualPoint {
    /// The role that runs the loop.
    pub role: String,
    /// The function with the main loop (`loop` in the manifest).
    #[serde(rename = "loop")]
    pub looping: String,
    /// The first own function called in each iteration.
    pub entry: String,
    /// Why there.
    pub why: String,
}

/// Text that differs between equal runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volatile {
    /// A valid regular expression.
    pub pattern: String,
    /// What replaces a match; `$1` and `${name}` insert groups.
    pub replace: String,
    /// Why it differs.
    pub why: String,
    /// Functions that are entered as often as the text is long, or as its digits are
    /// many: how often is no difference, whether at all is one.
    pub functions: Vec<String>,
}

/// What is compared after the stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Globs relative to the run folder.
    pub files: Vec<String>,
}

/// The recorded sessions of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workloads {
    /// Those that the study runs, in order.
    pub study: Vec<String>,
    /// The session replayed after each of them, before the stop.
    pub probe: Option<String>,
}

/// Values of the placeholders in a manifest.
#[derive(Debug, Clone, Copy)]
pub struct Placeholders<'a> {
    /// `{run}`: the run folder as the program sees it.
    pub run: &'a str,
    /// `{program}`: the executable.
    pub program: &'a str,
}

impl Subject {
    /// Reads and checks `folder/subject.toml`.
    ///
    /// # Errors
    /// [`SubjectError::Manifest`] with place and advice, or an unreadable file.
    pub fn load(folder: &Path) -> Result<Self, SubjectError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        Self::parse(&text, &path)
    }

    /// Reads a manifest's text; `path` is where it lies (its folder is the
    /// subject's) and what errors name.
    ///
    /// # Errors
    /// [`SubjectError::Manifest`] with place and advice.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SubjectError> {
        let place = Text { path, text };
        let raw: raw::Manifest = toml::from_str(text).map_err(|error| place.syntax(&error))?;
        unfinished::refuse(&place)?;
        Ok(check::subject(raw, &place)?)
    }

    /// The manifest's path.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }

    /// The version with this label.
    ///
    /// # Errors
    /// [`SubjectError::Unknown`] naming the labels that exist.
    pub fn version(&self, label: &str) -> Result<&Version, SubjectError> {
        self.versions
            .iter()
            .find(|version| version.label == label)
            .ok_or_else(|| SubjectError::Unknown {
                kind: "version",
                name: format!("{} {label}", self.name),
                known: self
                    .versions
                    .iter()
                    .map(|version| version.label.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// How the program runs for a workload that names this profile; `None` if there
    /// is no such profile.
    #[must_use]
    pub fn setting(&self, profile: Option<&str>) -> Option<Setting<'_>> {
        let usual = self.workloads.probe.as_deref();
        let Some(name) = profile else {
            return Some(Setting {
                run: &self.run,
                roles: &self.roles,
                probe: usual,
            });
        };
        self.profiles
            .iter()
            .find(|profile| profile.name == name)
            .map(|profile| Setting {
                run: &profile.run,
                roles: &profile.roles,
                probe: profile.probe.as_deref().or(usual),
            })
    }

    /// The script of a workload.
    #[must_use]
    pub fn workload(&self, name: &str) -> PathBuf {
        self.folder
            .join("workloads")
            .join(format!("{name}.session"))
    }
}

impl Run {
    /// The number of the port of this name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports
            .iter()
            .find(|port| port.name == name)
            .map(|port| port.number)
    }

    /// Every port's number by its name.
    #[must_use]
    pub fn named_ports(&self) -> BTreeMap<String, u16> {
        self.ports
            .iter()
            .map(|port| (port.name.clone(), port.number))
            .collect()
    }

    /// `text` with its placeholders replaced. Braces that form no placeholder
    /// stay as they are; loading a manifest refused unknown placeholders.
    #[must_use]
    pub fn expand(&self, text: &str, values: Placeholders<'_>) -> String {
        placeholder::expand(text, &self.ports, values)
    }
}

impl VersionSource {
    /// The archives that this version is made of.
    pub fn archives(&self) -> impl Iterator<Item = &Archive> {
        let (upstream, queue) = match self {
            Self::Archive { archive, queue } => {
                (Some(archive), queue.as_ref().map(|queue| &queue.archive))
            }
            Self::Folder(_) => (None, None),
        };
        upstream.into_iter().chain(queue)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde asks for
fn signal_name<S: serde::Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(signal.as_str())
}
