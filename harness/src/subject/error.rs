//! What can go wrong between a manifest and a built program.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Any error of this module.
#[derive(Debug, Error)]
pub enum SubjectError {
    /// A manifest is wrong.
    #[error(transparent)]
    Manifest(Box<ManifestError>),
    /// Something was asked for that no manifest describes.
    #[error("no {kind} is named '{name}'\n  there are: {known}")]
    Unknown {
        /// Subject, version or pair.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The project's folders were not found.
    #[error(
        "no project here: neither {start} nor a folder above it holds both subjects/ and update-pairs/\n  \
         run Kairos inside its project, or name the project with --root or KAIROS_ROOT"
    )]
    NoProject {
        /// Where the search began.
        start: PathBuf,
    },
    /// Sources could not be had, verified or prepared.
    #[error(transparent)]
    Source(Box<SourceError>),
    /// A version could not be built.
    #[error(transparent)]
    Build(Box<BuildError>),
    /// The machine refused an operation on a file.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<ManifestError> for SubjectError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(Box::new(error))
    }
}

impl From<SourceError> for SubjectError {
    fn from(error: SourceError) -> Self {
        Self::Source(Box::new(error))
    }
}

impl From<BuildError> for SubjectError {
    fn from(error: BuildError) -> Self {
        Self::Build(Box::new(error))
    }
}

/// Names the operation and the file of an I/O error.
pub(crate) trait AtFile<T> {
    /// Turns the error into [`SubjectError::File`].
    fn at(self, action: &'static str, path: &Path) -> Result<T, SubjectError>;
}

impl<T, E: Into<io::Error>> AtFile<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, SubjectError> {
        self.map_err(|source| SubjectError::File {
            action,
            path: path.to_path_buf(),
            source: source.into(),
        })
    }
}

/// A wrong manifest: where, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct ManifestError {
    /// The manifest.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text.
    pub excerpt: String,
    /// What is wrong.
    pub wrong: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(
            f,
            "{}:{}:{}: {}",
            self.file.display(),
            self.line,
            self.column,
            self.wrong
        )?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.excerpt)?;
        writeln!(f, "{margin} | {}^", " ".repeat(self.column - 1))?;
        write!(f, "{margin} = {}", self.mend)
    }
}

/// Sources that cannot be had or do not fit.
#[derive(Debug, Error)]
pub enum SourceError {
    /// An archive's bytes are not those the manifest names.
    #[error(
        "{file}: wrong contents\n  expected SHA-256 {expected}\n  found    SHA-256 {found}\n  \
         {origin}; remove or replace that file, or correct sha256 in {manifest} if the archive is right"
    )]
    HashMismatch {
        /// The archive as found on disk.
        file: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What the file has.
        found: String,
        /// Where the file came from.
        origin: String,
        /// The subject's manifest.
        manifest: PathBuf,
    },
    /// No source has the archive.
    #[error(
        "cannot get {file} (source package {package}):\n{tried}\n  \
         put the archive into a folder and name that with --archives or KAIROS_ARCHIVES"
    )]
    NotFound {
        /// Name of the archive.
        file: String,
        /// Its source package.
        package: String,
        /// One line for each place that was tried.
        tried: String,
    },
    /// A folder with a version's source tree does not exist.
    #[error(
        "the source tree {folder} of {subject} {version} does not exist\n  correct `folder` in the manifest"
    )]
    NoFolder {
        /// The tree.
        folder: PathBuf,
        /// Subject.
        subject: String,
        /// Version label.
        version: String,
    },
    /// An archive cannot be unpacked.
    #[error("cannot unpack {file}:\n{output}")]
    Unpack {
        /// The archive.
        file: PathBuf,
        /// What tar said.
        output: String,
    },
    /// The queue holds no such patch.
    #[error(
        "the patch queue of {file} has no patch '{patch}' (named by `{key}`)\n  it has: {known}"
    )]
    NoSuchPatch {
        /// The queue's archive.
        file: String,
        /// The name in the manifest.
        patch: String,
        /// `upto` or `without`.
        key: &'static str,
        /// The queue.
        known: String,
    },
    /// A patch of the queue does not apply.
    #[error(
        "patch {patch} of {file} does not apply:\n{output}\n  \
         name it in `without` if the version can do without it, or leave out the patch that it conflicts with"
    )]
    PatchFails {
        /// The patch file.
        patch: String,
        /// The queue's archive.
        file: String,
        /// What patch said.
        output: String,
    },
    /// apt failed as a whole.
    #[error("{message}")]
    Apt {
        /// What went wrong, and what to do.
        message: String,
    },
    /// A program that Kairos needs is not there.
    #[error("cannot run {program}: {source}\n  install the Debian package {package}")]
    NoTool {
        /// The program.
        program: String,
        /// Its Debian package.
        package: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// A version that cannot be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The compiler is missing or is not gcc.
    #[error("{0}")]
    Compiler(String),
    /// A step of the recipe failed.
    #[error(transparent)]
    Step(Box<FailedStep>),
    /// The recipe ended well but made something that Kairos cannot use.
    #[error("{subject} {version}: {wrong}\n  {mend}\n  full log: {log}")]
    Unusable {
        /// Subject.
        subject: String,
        /// Version label.
        version: String,
        /// What is wrong with it.
        wrong: String,
        /// What to do.
        mend: String,
        /// The build's output.
        log: PathBuf,
    },
    /// An extra file does not compile.
    #[error("cannot compile {source_file}:\n{output}")]
    Extra {
        /// The C file.
        source_file: PathBuf,
        /// What the compiler said.
        output: String,
    },
}

/// A step of a recipe that failed.
#[derive(Debug, Error)]
#[error(
    "building {subject} {version} failed in step {number} ({manifest}:{line}), {status}:\n    {command}\n\
     {tail}\n  full log: {log}{packages}"
)]
pub struct FailedStep {
    /// Subject.
    pub subject: String,
    /// Version label.
    pub version: String,
    /// Which step, from 1.
    pub number: usize,
    /// The manifest.
    pub manifest: PathBuf,
    /// The step's line there.
    pub line: usize,
    /// The shell line.
    pub command: String,
    /// How it ended.
    pub status: String,
    /// The last lines of output.
    pub tail: String,
    /// The whole output.
    pub log: PathBuf,
    /// A sentence on the Debian packages to install, or nothing.
    pub packages: String,
}
