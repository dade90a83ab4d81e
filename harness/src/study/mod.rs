//! The study: which tests to run, the coordinator that runs them, and the store
//! that keeps what was seen.

pub mod agreement;
pub mod baseline;
pub mod choice;
pub mod controls;
pub mod engine;
pub mod estimate;
pub mod facts;
pub mod hashes;
pub mod merge;
pub mod options;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod queue;
pub mod resume;
pub mod rounds;
pub mod run;
pub mod sample;
pub mod session;
pub mod sessions;
pub mod setting;
pub mod shard;
pub mod single;
pub mod store;
pub mod substitutes;
pub mod touched;
pub mod versions;

use crate::binary::BinaryError;
use crate::confree::ConFreeError;
use crate::engine::EngineError;
use crate::patch::PatchError;
use crate::subject::SubjectError;
use crate::workload::script::ScriptError;

pub use options::{Options, Outcome};
pub use run::{plan, run};

/// What can keep a study, or one session of it, from being run.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A manifest, a source or a build.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A built program.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// A session script.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The results.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A worker.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A patch.
    #[error("pair {pair}: {source}")]
    Patch {
        /// The pair.
        pair: String,
        /// What is wrong with it.
        source: PatchError,
    },
    /// What old code uses of what an update changes.
    #[error("pair {pair}: {source}")]
    ConFree {
        /// The pair.
        pair: String,
        /// What is wrong.
        source: Box<ConFreeError>,
    },
    /// A rule about a renamed member that a version does not have.
    #[error("pair {pair}: {missing}")]
    Renamed {
        /// The pair.
        pair: String,
        /// What is missing, and where the rule is written.
        missing: crate::state::renamed::NoSuchMember,
    },
    /// A rewritten build that is not as planned.
    #[error("pair {pair}: {source}; name the record under `room` in pair.toml, with a reason")]
    Layout {
        /// The pair.
        pair: String,
        /// What differs.
        source: crate::mechanism::Mismatch,
    },
    /// Something of the old version's own build that its rewritten build lacks.
    #[error("pair {pair}: the rewritten build of the old version lacks {name}")]
    Vanished {
        /// The pair.
        pair: String,
        /// A function or variable.
        name: String,
    },
    /// A workload that does not do on an unpatched server.
    #[error("pair {pair}, workload {workload}, on unpatched {version}: {message}")]
    Workload {
        /// The pair.
        pair: String,
        /// The workload.
        workload: String,
        /// The version.
        version: String,
        /// What happened and what to do.
        message: String,
    },
    /// Some tests could not be run.
    #[error(
        "{}: {source}; `kairos study --resume` tries again",
        tests_named(tests)
    )]
    NotRun {
        /// Their identifiers.
        tests: Vec<String>,
        /// Why.
        source: Box<StudyError>,
    },
    /// A test showed what makes others doubtful.
    #[error(
        "{test}: {why}; what tests of this session by rollback took over from each other is \
         in doubt: run it with --engine restart, and report this"
    )]
    Doubt {
        /// The test.
        test: String,
        /// What it showed.
        why: String,
    },
    /// A worker ended a session for good.
    #[error("given up after {0} tests in a row that could not be run")]
    GivenUp(u32),
    /// A run whose folder does not say how to go on with it.
    #[error("`{dir}` cannot be resumed: {why}; start again with another --out")]
    NotResumable {
        /// The folder.
        dir: String,
        /// What is missing.
        why: String,
    },
    /// The project is not the one that a run was begun with.
    #[error(
        "`{dir}` was begun with other files:\n  {}\n  put them back, or start again with another --out: tests of both would not be comparable",
        differences.join("\n  ")
    )]
    Changed {
        /// The folder of the run.
        dir: String,
        /// What differs, a file or a build each.
        differences: Vec<String>,
    },
    /// Runs that are not parts of one study.
    #[error("cannot merge: {0}")]
    NotOneStudy(String),
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A workload that none of the chosen pairs is studied with.
    #[error("none of the chosen pairs has the workload `{workload}`; they have {known}")]
    NoWorkload {
        /// The workload.
        workload: String,
        /// Those that they have.
        known: String,
    },
    /// Nothing to do.
    #[error("no update pair matches; `kairos subjects list` shows what there is")]
    Nothing,
}

/// The first few tests by name, and how many there are.
fn tests_named(tests: &[String]) -> String {
    const SHOWN: usize = 8;
    if let [test] = tests {
        return format!("the test {test} could not be run");
    }
    let more = tests.len().saturating_sub(SHOWN);
    let shown = tests[..tests.len() - more].join(", ");
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more, named in run.json"),
    };
    format!("{} tests could not be run ({shown}{more})", tests.len())
}
