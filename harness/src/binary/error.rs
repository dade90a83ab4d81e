//! What can go wrong while reading a build.

use std::path::PathBuf;

use thiserror::Error;

/// Why a program could not be read.
#[derive(Debug, Error)]
pub enum BinaryError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not an ELF file that can be understood.
    #[error("{path} is not a readable 64-bit ELF file: {source}")]
    Format {
        /// File.
        path: PathBuf,
        /// Cause.
        source: object::Error,
    },
    /// The file is for another processor.
    #[error("{path} is not an x86-64 program; Kairos works on x86-64 only")]
    Machine {
        /// File.
        path: PathBuf,
    },
    /// Addresses of the file would not be addresses of the process.
    #[error("{path} is position-independent; link it with -no-pie")]
    PositionIndependent {
        /// File.
        path: PathBuf,
    },
    /// The symbol table is missing.
    #[error("{path} has no symbol table; build it without -s and do not strip it")]
    NoSymbols {
        /// File.
        path: PathBuf,
    },
    /// Debug information is missing.
    #[error("{path} has no DWARF debug information; build it with -g and do not strip it")]
    NoDebug {
        /// File.
        path: PathBuf,
    },
    /// Debug information is damaged or of an unknown form.
    #[error("cannot read the DWARF debug information of {path}: {source}")]
    Dwarf {
        /// File.
        path: PathBuf,
        /// Cause.
        source: gimli::Error,
    },
}
