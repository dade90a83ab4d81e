//! The study: which tests to run, the coordinator that runs them, and the store
//! that keeps what was seen.

pub mod controls;
pub mod plan;
pub mod prepare;
pub mod progress;
pub mod run;
pub mod sample;
pub mod session;
pub mod store;

use crate::binary::BinaryError;
use crate::confree::ConFreeError;
use crate::engine::EngineError;
use crate::patch::PatchError;
use crate::subject::SubjectError;
use crate::workload::script::ScriptError;

pub use run::{Options, Outcome, run};

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
        source: ConFreeError,
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
    #[error("tests from {test}: {source}")]
    Test {
        /// The first of them.
        test: String,
        /// Why.
        source: Box<StudyError>,
    },
    /// A file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Nothing to do.
    #[error("no update pair matches; `kairos subjects list` shows what there is")]
    Nothing,
}
