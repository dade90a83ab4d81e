//! The known-answer corpus: tiny servers whose right verdicts and policy answers
//! are written down before they are run. It is run by the machinery of the study,
//! so that a difference between what is predicted and what is observed is a defect
//! of Kairos, or of the reasoning. The format of a case is in `docs/corpus.md`.

pub mod case;
pub mod check;
pub mod compare;
pub mod expand;
pub mod observed;
mod raw;
pub mod reach;
pub mod run;
pub mod table;

use crate::analysis::AnalysisError;
use crate::binary::BinaryError;
use crate::study::StudyError;
use crate::study::store::StoreError;
use crate::subject::SubjectError;

pub use case::Case;
pub use run::{Means, Report, run};

/// Why the corpus cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A case or its build.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A program that was built of a case.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// A study of the cases.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// The records of a study.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// Ended from the terminal.
    #[error("interrupted")]
    Interrupted,
}

impl From<StoreError> for CorpusError {
    fn from(error: StoreError) -> Self {
        Self::Analysis(error.into())
    }
}
