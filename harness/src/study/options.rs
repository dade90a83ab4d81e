//! What to study and how, as the command line says it.

use std::path::PathBuf;

use super::StudyError;
use super::agreement::Disagreements;
use super::controls::Extent;
use super::shard::Shard;
use super::store::RunOptions;
use crate::engine::EngineWish;
use crate::trace::Scope;

/// What to study.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these subjects; all if empty.
    pub subjects: Vec<String>,
    /// Only these pairs; all if empty.
    pub pairs: Vec<String>,
    /// Only these workloads; all if empty.
    pub workloads: Vec<String>,
    /// Points per role; all if none.
    pub sample: Option<usize>,
    /// Test every point, and check the classes of equivalent points.
    pub exhaustive: bool,
    /// Points of each class to test besides its leader.
    pub check_members: usize,
    /// Seed of samples and of members.
    pub seed: u64,
    /// Which processes one update reaches; each scope is a session of its own.
    pub scopes: Vec<Scope>,
    /// Whether points before the server is ready are tested, too.
    pub startup: bool,
    /// Workers, each on a processor of its own.
    pub jobs: usize,
    /// How often a failing test is repeated.
    pub repeat: u32,
    /// Study the control arm of the chosen pairs' old versions instead.
    pub control: bool,
    /// How far the controls of each session go.
    pub extent: Extent,
    /// Which engine runs the tests.
    pub engine: EngineWish,
    /// Run only this part of the tests and controls.
    pub shard: Option<Shard>,
    /// Go on with the run in this folder: what was chosen then replaces everything
    /// above but workers and shard.
    pub resume: Option<PathBuf>,
    /// Folder for the results; a new one under `runs` if none.
    pub out: Option<PathBuf>,
    /// Folder of runs.
    pub runs: PathBuf,
    /// The `kairos` binary, which is also the worker.
    pub executable: PathBuf,
    /// The command line, for `run.json`.
    pub arguments: Vec<String>,
}

impl Options {
    /// What of it shapes the results, with the names of the chosen pairs.
    #[must_use]
    pub fn recorded(&self, pairs: Vec<String>) -> RunOptions {
        RunOptions {
            pairs,
            workloads: self.workloads.clone(),
            sample: self.sample,
            exhaustive: Some(self.exhaustive),
            check_members: self.check_members,
            seed: self.seed,
            scopes: self.scopes.clone(),
            startup: self.startup,
            repeat: self.repeat,
            control: self.control,
            extent: self.extent,
            engine: self.engine,
        }
    }
}

/// How a study ended.
#[derive(Debug)]
pub struct Outcome {
    /// Folder of the results.
    pub dir: PathBuf,
    /// Sessions that could not be run, and other things that went wrong.
    pub problems: Vec<StudyError>,
    /// Controls that were violated.
    pub violations: u64,
    /// Classes in which tests of equivalent points disagree.
    pub disagreements: Disagreements,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// Planned tests of the run, or of its shard.
    pub planned: u64,
    /// How many of them are recorded.
    pub finished: u64,
}
