//! Why a patch cannot be built.

use std::path::PathBuf;

use thiserror::Error;

use crate::binary::{BinaryError, FunctionName};

/// Why a patch cannot be built; each message says what stands in the way.
#[derive(Debug, Error)]
pub enum PatchError {
    /// One of the two programs could not be read.
    #[error(transparent)]
    Binary(#[from] BinaryError),
    /// A file could not be read or written.
    #[error("cannot access {path}: {source}")]
    File {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// An object file is damaged.
    #[error("{path} is not a readable object file: {source}")]
    Object {
        /// File.
        path: PathBuf,
        /// Cause.
        source: object::Error,
    },
    /// An object file is not the one that was linked.
    #[error("{path} is not the object that {program} was linked from ({what}); build it again")]
    StaleObject {
        /// Object file.
        path: PathBuf,
        /// Program.
        program: PathBuf,
        /// What differs.
        what: String,
    },
    /// None of the objects belongs to the program.
    #[error(
        "no object file of the build belongs to {program}; was it compiled with the path mapped to /src?"
    )]
    NoUnits {
        /// Program.
        program: PathBuf,
    },
    /// A changed function cannot be redirected.
    #[error(
        "{function} changed but has no entry pad; compile it with -fpatchable-function-entry=16,0"
    )]
    NoPad {
        /// Function.
        function: FunctionName,
    },
    /// Code that runs before `main` changed.
    #[error("{file} changes code that runs before main ({what}); constructors are not supported")]
    Constructor {
        /// Source file.
        file: String,
        /// Functions concerned.
        what: String,
    },
    /// A thread-local object changed.
    #[error("thread-local {name} of {file} was added or changed; this is not supported")]
    ThreadLocal {
        /// Object.
        name: String,
        /// Source file.
        file: String,
    },
    /// New code refers to something that cannot be resolved.
    #[error("{file}: {place} refers to {target}: {why}")]
    Reference {
        /// Source file.
        file: String,
        /// Function or object that refers.
        place: String,
        /// What it refers to.
        target: String,
        /// Why this cannot be resolved.
        why: String,
    },
    /// A name in the transformer stands for several things.
    #[error("{name} in the transformer is ambiguous: it is defined in {candidates}")]
    Ambiguous {
        /// Name.
        name: String,
        /// Where it is defined.
        candidates: String,
    },
    /// The transformer could not be compiled.
    #[error("cannot compile {path}: {message}")]
    Transformer {
        /// Source of the transformer.
        path: PathBuf,
        /// What the compiler said.
        message: String,
    },
    /// `kairos_transform` is missing.
    #[error("{path} does not define void kairos_transform(void)")]
    NoTransform {
        /// Source of the transformer.
        path: PathBuf,
    },
    /// The reduced object could not be written.
    #[error("cannot write the reduced object: {0}")]
    Write(#[from] object::write::Error),
    /// The linker could not be started.
    #[error("cannot run the linker ld: {0}; install binutils")]
    NoLinker(std::io::Error),
    /// The linker refused.
    #[error("ld cannot link the patch image: {message}")]
    Link {
        /// What it said.
        message: String,
    },
    /// The linked image is not what was asked for.
    #[error("the linked image is inconsistent: {0}")]
    Image(String),
    /// A function named by the caller does not exist.
    #[error("the program has no function {0} with an entry pad")]
    NoSuchFunction(String),
}
