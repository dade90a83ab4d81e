//! Where subjects run: namespaces of their own, a root file system made for the
//! test, one identity whoever started Kairos, and a clean end.

pub mod descriptors;
pub mod error;
pub mod guard;
pub mod interrupt;
pub mod namespaces;
pub mod passing;
pub mod processes;
pub mod root;
pub mod run_folder;
pub mod saved_folder;

pub use error::SandboxError;
