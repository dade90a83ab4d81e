//! All that a worker needs to run tests of one (pair, workload, scope).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::binary::Address;
use crate::patch::Patch;
use crate::sandbox::namespaces::Identity;
use crate::sandbox::root::SandboxUser;
use crate::sandbox::run_folder::Entry;
use crate::trace::Scope;
use crate::world::Limits;

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The version that is updated.
    Old,
    /// The version that it is updated to.
    New,
}

/// A built version on the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VersionSpec {
    /// Its label.
    pub label: String,
    /// Its build tree.
    pub tree: PathBuf,
    /// Its program, inside the tree.
    pub program: PathBuf,
}

/// An event that shows the server to be ready.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// A socket listens on this port.
    Listening(u16),
    /// A line of standard output or error matches this regular expression.
    Output(String),
}

/// How a forked process gets its role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoleRule {
    /// The role's name.
    pub name: String,
    /// Whether it is the role of the process that Kairos starts.
    pub first: bool,
    /// Role of the parent.
    pub parent: Option<String>,
    /// Own function on the parent's stack at the fork.
    pub forked_in: Option<String>,
}

/// An own function of the old version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnFunction {
    /// Its name.
    pub name: String,
    /// Its entry.
    pub entry: Address,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it has an entry pad, so that its entries are update points.
    pub pad: bool,
}

/// Everything about the session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionSpec {
    /// Processor that tracer and tracees share.
    pub processor: usize,
    /// As whom the subject runs.
    pub identity: Identity,
    /// Users beside those of every sandbox.
    pub users: Vec<SandboxUser>,
    /// The old version.
    pub old: VersionSpec,
    /// The new version.
    pub new: VersionSpec,
    /// Arguments; `{program}` and `{run}` are resolved.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Named ports.
    pub ports: BTreeMap<String, u16>,
    /// What shows readiness.
    pub ready: Ready,
    /// Signal that asks for the ordinary stop.
    pub stop: String,
    /// Content of the run folder.
    pub entries: Vec<Entry>,
    /// Naming of processes.
    pub roles: Vec<RoleRule>,
    /// Rules for volatile text: pattern and replacement.
    pub volatile: Vec<(String, String)>,
    /// Functions that are entered now more, now less often, as volatile text has it: of
    /// their entries only whether there are any is observed.
    #[serde(default)]
    pub varying: BTreeSet<String>,
    /// Logs, relative to the run folder, or `stdout`, `stderr`.
    pub logs: Vec<String>,
    /// Patterns of end-state files, relative to the run folder.
    pub state_files: Vec<String>,
    /// Which processes one update reaches.
    pub scope: Scope,
    /// Whether the trace has points before the server is ready, too.
    pub startup: bool,
    /// The session script.
    pub workload: PathBuf,
    /// The probe session script.
    pub probe: Option<PathBuf>,
    /// Own functions of the old version, ascending by entry.
    pub functions: Vec<OwnFunction>,
    /// The update.
    pub patch: Option<Patch>,
    /// The update's code image.
    pub image: Vec<u8>,
    /// How long a test may make no progress.
    pub limits: Limits,
    /// Bytes of memory that a traced server is given beyond its own; 0 but in a bench.
    #[serde(default)]
    pub resident: u64,
}

impl SessionSpec {
    /// A version's specification.
    #[must_use]
    pub fn version(&self, which: Which) -> &VersionSpec {
        match which {
            Which::Old => &self.old,
            Which::New => &self.new,
        }
    }

    /// Where a version's tree is found inside the sandbox.
    #[must_use]
    pub fn inside(which: Which) -> &'static Path {
        Path::new(match which {
            Which::Old => "/kairos/old",
            Which::New => "/kairos/new",
        })
    }

    /// A version's program inside the sandbox.
    #[must_use]
    pub fn program_inside(&self, which: Which) -> PathBuf {
        let version = self.version(which);
        let relative = version
            .program
            .strip_prefix(&version.tree)
            .unwrap_or(&version.program);
        Self::inside(which).join(relative)
    }
}
