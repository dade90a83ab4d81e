//! What the files of a run hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::EngineWish;
use crate::equivalence::Touched;
use crate::patch::Patch;
use crate::policy::{FunctionTable, ManualPoint};
use crate::study::controls::Extent;
use crate::study::plan::{Population, SessionKey};
use crate::study::shard::Shard;
use crate::trace::{Scope, Trace};
use crate::verdict::Observation;
use crate::world::Limits;

/// `run.json`: what makes the run repeatable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Name of the run; filled in by [`super::RunStore::create`].
    #[serde(default)]
    pub id: String,
    /// UTC time of its start; filled in by [`super::RunStore::create`].
    #[serde(default)]
    pub started: String,
    /// Command line after the program's name.
    pub arguments: Vec<String>,
    /// What was chosen, for going on with the run; none in runs of a Kairos that
    /// could not.
    #[serde(default)]
    pub options: Option<RunOptions>,
    /// The part of the tests that this folder is for, if not all.
    #[serde(default)]
    pub shard: Option<Shard>,
    /// All sessions of the study in the catalogue's order, which tables follow.
    #[serde(default)]
    pub sessions: Vec<SessionKey>,
    /// Seed of samples.
    pub seed: u64,
    /// Points per (pair, workload, role) if the run samples.
    pub sample: Option<usize>,
    /// Which Kairos ran.
    pub kairos: KairosFacts,
    /// On what.
    pub machine: MachineFacts,
    /// SHA-256 of each source archive and manifest, by path relative to the study.
    pub hashes: BTreeMap<String, String>,
    /// The definition of "changed function" in force.
    pub definition_of_changed: String,
    /// The engine of each session, and why.
    pub engines: Vec<EngineChoice>,
    /// Limits in force, by name with its unit (`stall_us`).
    pub limits: BTreeMap<String, serde_json::Value>,
    /// How the controls went.
    pub controls: Vec<Control>,
    /// Tests that could not be run; going on with the run tries them again.
    #[serde(default)]
    pub not_run: Vec<NotRun>,
    /// Names of the runs that were merged into this one.
    #[serde(default)]
    pub merged_from: Vec<String>,
    /// Equivalence classes whose members' observations differ; none as long as nothing
    /// was compared.
    pub class_disagreements: Option<u64>,
    /// Those of them that may be races, as the tests that differ have not run again: the
    /// run was interrupted, or repeats nothing.
    #[serde(default)]
    pub unconfirmed_disagreements: u64,
}

/// What was chosen to be studied: everything of the command line that shapes the
/// results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOptions {
    /// Names of the pairs, in order.
    pub pairs: Vec<String>,
    /// Only these workloads; all if empty.
    pub workloads: Vec<String>,
    /// Points per role; all if none.
    pub sample: Option<usize>,
    /// Whether every point is tested, and the classes of equivalent points checked.
    /// Runs that do not say so are of a Kairos that knew no classes and tested all.
    pub exhaustive: Option<bool>,
    /// Points of each class that are tested besides its leader.
    pub check_members: usize,
    /// Seed of samples.
    pub seed: u64,
    /// Which processes one update reaches.
    pub scopes: Vec<Scope>,
    /// Whether points before the server is ready are tested, too.
    pub startup: bool,
    /// How often a failing test is repeated.
    pub repeat: u32,
    /// Whether the control arm is studied.
    pub control: bool,
    /// How far the controls of each session go.
    pub extent: Extent,
    /// Which engine was to run the tests.
    pub engine: EngineWish,
}

/// A test that could not be run, by a fault of Kairos or of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotRun {
    /// Identifier in the plan.
    pub test: String,
    /// What went wrong.
    pub why: String,
}

/// The build of Kairos that made a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KairosFacts {
    /// Version of the crate.
    pub version: String,
    /// Git revision, if it was built or run in a repository.
    pub revision: Option<String>,
    /// Whether the working tree differed from that revision.
    pub dirty: Option<bool>,
}

/// The machine that a run was made on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Kernel release.
    pub kernel: String,
    /// Model of the processor.
    pub processor: String,
    /// Number of processors.
    pub processors: u32,
    /// Version line of the compiler that built the subjects.
    pub compiler: String,
}

impl MachineFacts {
    /// Reads kernel and processor from `/proc`; unknown ones stay empty.
    #[must_use]
    pub fn read(compiler: &str) -> Self {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let processors = text("/proc/cpuinfo");
        let model = processors
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == "model name")
            .map(|(_, value)| value.trim().to_owned());
        let number = processors
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count();
        Self {
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: model.unwrap_or_default(),
            processors: u32::try_from(number).unwrap_or(u32::MAX),
            compiler: compiler.to_owned(),
        }
    }
}

/// The engine that ran a session's tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineChoice {
    /// Which session.
    #[serde(flatten)]
    pub session: SessionKey,
    /// Name of the engine.
    pub engine: String,
    /// Why this one and none that is faster.
    pub why: String,
}

/// How one control of one session went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// `control-arm`, `apply-nothing` or `sensitivity`.
    pub name: String,
    /// Which session.
    #[serde(flatten)]
    pub session: SessionKey,
    /// Tests run.
    pub tests: u64,
    /// Tests that did not show what the control demands.
    pub violations: u64,
    /// What the violations were, for a person.
    pub note: String,
}

/// What a pair is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// A real update, counted in totals.
    #[default]
    Update,
    /// Every function replaced by an identical copy.
    Control,
    /// A new version that is broken on purpose.
    Sensitivity,
}

/// How an update pair stands to state transformation. Policies are compared
/// separately over each, or "manual never fails" would be true by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Division {
    /// It needs none.
    NoTransformer,
    /// It has one.
    WithTransformer,
    /// It lacks one that it would need (variant `bare`).
    LackingTransformer,
}

impl Division {
    /// All divisions, in the order of tables.
    pub const ALL: [Self; 3] = [
        Self::NoTransformer,
        Self::WithTransformer,
        Self::LackingTransformer,
    ];

    /// The division of a pair by its name and by whether its patch has a transformer.
    #[must_use]
    pub fn of(pair: &str, has_transformer: bool) -> Self {
        let bare = pair.splitn(4, '-').nth(3).is_some_and(|variant| {
            variant == "bare" || variant.starts_with("bare-") || variant.ends_with("-bare")
        });
        match (has_transformer, bare) {
            (true, _) => Self::WithTransformer,
            (false, true) => Self::LackingTransformer,
            (false, false) => Self::NoTransformer,
        }
    }

    /// The name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoTransformer => "no-transformer",
            Self::WithTransformer => "with-transformer",
            Self::LackingTransformer => "lacking-transformer",
        }
    }
}

/// A line of `pairs.jsonl`: what policies and tables need to know of an update,
/// so that neither asks for the binaries again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PairRecord {
    /// The pair, with its variant.
    pub pair: String,
    /// Its subject.
    pub subject: String,
    /// What it is for.
    #[serde(default)]
    pub arm: Arm,
    /// The patch, without its image.
    pub patch: Patch,
    /// Functions of the old program.
    pub functions: FunctionTable,
    /// Points that the subject's manifest names.
    pub manual: Vec<ManualPoint>,
    /// Lines of the manifest that name them; none in runs that did not count them.
    #[serde(default)]
    pub annotation_lines: Option<u32>,
    /// Functions that the manifest lets be active; none in runs that did not
    /// record them.
    #[serde(default)]
    pub except_named: Option<Vec<String>>,
    /// Lines of `transform.c`, 0 without one.
    #[serde(default)]
    pub transformer_lines: u32,
    /// SHA-256 of the patch's image, which is not stored.
    #[serde(default)]
    pub image_sha256: String,
}

impl PairRecord {
    /// Whether two records are of the same builds and the same patch.
    #[must_use]
    pub fn describes_the_same_as(&self, other: &Self) -> bool {
        let text = |record| serde_json::to_value(record).ok();
        self.image_sha256 == other.image_sha256 && text(self) == text(other)
    }

    /// How the pair stands to state transformation.
    #[must_use]
    pub fn division(&self) -> Division {
        Division::of(&self.pair, self.patch.transformer.is_some())
    }
}

/// The right reply after an update on state that old code built; it replaces
/// the new baseline's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterUpdate {
    /// Exchange, from 0.
    pub exchange: u32,
    /// Connection.
    pub connection: String,
    /// The whole reply.
    pub text: String,
}

/// A line of `sessions.jsonl`: everything that verdicts and measures need of one
/// session besides the tests' observations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Pair, workload, scope and mechanism.
    #[serde(flatten)]
    pub session: SessionKey,
    /// What the workload specifies: `backward-compatible`, `post-update` or
    /// `conformable`.
    pub specification: String,
    /// Baseline of the unpatched old server.
    pub old: Observation,
    /// Baseline of the unpatched new server.
    pub new: Observation,
    /// Replies that a step demands after an update.
    #[serde(default)]
    pub after_update: Vec<AfterUpdate>,
    /// The old server's trace: exchanges and writers, processes, points with
    /// stacks and times, waits.
    pub trace: Trace,
    /// All points of each role, and how many each policy allowed when planned.
    #[serde(default)]
    pub populations: Vec<Population>,
    /// When its tests count as stalled; none in runs of a Kairos that kept them
    /// elsewhere.
    #[serde(default)]
    pub limits: Option<Limits>,
    /// Which steps touch the state of the update; none where it touches none, and in a
    /// sample.
    #[serde(default)]
    pub touched: Option<Touched>,
    /// Wall-clock time in microseconds of an ordinary test, measured by stopping at
    /// a few points and applying nothing.
    #[serde(default)]
    pub test_us: Option<u64>,
}

/// A line of `tests.jsonl`: what was seen of one planned test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestRecord {
    /// Identifier in the plan.
    pub test: String,
    /// What was seen, once per run of the test: failing tests are repeated twice.
    pub observations: Vec<Observation>,
    /// Engine that ran it.
    pub engine: String,
    /// The exchange at whose end the first run was in a state from which an earlier test
    /// had been observed to its end: what follows is that one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_from: Option<u32>,
    /// Wall-clock time in microseconds, repeats included.
    pub wall_us: u64,
}
