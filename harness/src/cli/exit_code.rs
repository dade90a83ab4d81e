//! What the exit status of `kairos` means.

use std::process::{ExitCode as ProcessExit, Termination};

use kairos::analysis::AnalysisError;
use kairos::corpus::CorpusError;
use kairos::explain::select::SelectError;
use kairos::recording::RecordError;
use kairos::report::ReportError;
use kairos::study::StudyError;
use kairos::study::store::StoreError;
use kairos::subject::SubjectError;
use kairos::subject::scaffold::ScaffoldError;

/// The exit status of every subcommand. The numbers are documented and stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code)] // documented as a whole, whichever subcommands exist
pub enum ExitCode {
    /// 0: it was done, and found what should be.
    Success = 0,
    /// 1: Kairos itself failed, in a way that has no number of its own.
    Fault = 1,
    /// 2: wrong arguments, or a wrong manifest, pair or session script.
    Usage = 2,
    /// 3: sources could not be had, or a version could not be built.
    Build = 3,
    /// 4: the machine refuses what Kairos needs; `kairos doctor` says what.
    Machine = 4,
    /// 5: it was done, and found failures: an update test that a study's own
    /// controls forbid, verdicts other than those asked for, runs that differ, or
    /// a recorded session that does not pass on an unpatched version.
    Findings = 5,
    /// 130: interrupted from the terminal; results so far are kept.
    Interrupted = 130,
}

impl ExitCode {
    /// The code for an error, by the first cause that has one.
    pub fn of(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| {
                if let Some(scaffold) = cause.downcast_ref::<ScaffoldError>()
                    && !matches!(scaffold, ScaffoldError::Subject(_))
                {
                    return Some(Self::Usage);
                }
                let subject = cause.downcast_ref().map(Self::of_subject);
                let study = || cause.downcast_ref().map(Self::of_study);
                let report = || cause.downcast_ref().map(Self::of_report);
                let select = || cause.downcast_ref().map(|_: &SelectError| Self::Usage);
                let store = || cause.downcast_ref().map(Self::of_store);
                let analysis = || match cause.downcast_ref() {
                    Some(AnalysisError::Store(error)) => Some(Self::of_store(error)),
                    _ => None,
                };
                let record = || cause.downcast_ref().map(Self::of_record);
                let corpus = || cause.downcast_ref().map(Self::of_corpus);
                subject
                    .or_else(study)
                    .or_else(report)
                    .or_else(record)
                    .or_else(corpus)
                    .or_else(select)
                    .or_else(store)
                    .or_else(analysis)
            })
            .unwrap_or(Self::Fault)
    }

    fn of_subject(error: &SubjectError) -> Self {
        match error {
            SubjectError::Manifest(_)
            | SubjectError::Unknown { .. }
            | SubjectError::NoProject { .. } => Self::Usage,
            SubjectError::Source(_) | SubjectError::Build(_) => Self::Build,
            SubjectError::File { .. } => Self::Fault,
        }
    }

    /// The code for what kept a study, or a part of it, from being run.
    pub fn of_study(error: &StudyError) -> Self {
        match error {
            StudyError::Subject(error) => Self::of_subject(error),
            StudyError::Script(_)
            | StudyError::Workload { .. }
            | StudyError::NoWorkload { .. }
            | StudyError::Nothing
            | StudyError::Renamed { .. }
            | StudyError::NotResumable { .. }
            | StudyError::Changed { .. }
            | StudyError::NotOneStudy(_) => Self::Usage,
            StudyError::Binary(_)
            | StudyError::Patch { .. }
            | StudyError::ConFree { .. }
            | StudyError::Layout { .. }
            | StudyError::Vanished { .. } => Self::Build,
            StudyError::NotRun { source, .. } => Self::of_study(source),
            StudyError::Store(error) => Self::of_store(error),
            StudyError::Engine(_)
            | StudyError::Doubt { .. }
            | StudyError::GivenUp(_)
            | StudyError::File { .. } => Self::Fault,
        }
    }

    fn of_record(error: &RecordError) -> Self {
        match error {
            RecordError::Name(_)
            | RecordError::Exists(_)
            | RecordError::Port { .. }
            | RecordError::Usage(_)
            | RecordError::Listen { .. }
            | RecordError::Client { .. } => Self::Usage,
            RecordError::Interrupted => Self::Interrupted,
            RecordError::Study(error) => Self::of_study(error),
            RecordError::Compose(_) | RecordError::Recorder(_) | RecordError::System(_) => {
                Self::Fault
            }
        }
    }

    fn of_corpus(error: &CorpusError) -> Self {
        match error {
            CorpusError::Subject(error) => Self::of_subject(error),
            CorpusError::Study(error) => Self::of_study(error),
            CorpusError::Binary(_) => Self::Build,
            CorpusError::Empty(_) => Self::Usage,
            CorpusError::Analysis(AnalysisError::Store(error)) => Self::of_store(error),
            CorpusError::Analysis(_) => Self::Fault,
            CorpusError::Interrupted => Self::Interrupted,
        }
    }

    fn of_report(error: &ReportError) -> Self {
        match error {
            ReportError::Store(error) | ReportError::Analysis(AnalysisError::Store(error)) => {
                Self::of_store(error)
            }
            _ => Self::Fault,
        }
    }

    /// The code for a folder of results: naming the wrong one is a wrong argument.
    fn of_store(error: &StoreError) -> Self {
        match error {
            StoreError::Foreign(_) | StoreError::Exists(_) | StoreError::NotARun(_) => Self::Usage,
            _ => Self::Fault,
        }
    }
}

impl Termination for ExitCode {
    fn report(self) -> ProcessExit {
        ProcessExit::from(self as u8)
    }
}
