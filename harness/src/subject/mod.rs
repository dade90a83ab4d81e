//! Subjects as data: manifests, sources, recipes and the build cache.
//!
//! A *subject* is a C program under study, described by `subject.toml`; an
//! *update pair* is two of its versions, described by `pair.toml`. The formats
//! are documented in `docs/manifests.md`. From there to a program on disk:
//!
//! 1. [`manifest`] and [`pair`] read the files, [`catalogue`] finds them all;
//! 2. [`source`] gets the archives of a version (a local folder, the cache, or
//!    apt through [`apt`]) and [`unpack`] makes a source tree of them;
//! 3. [`build()`] runs the recipe under the recording compiler [`wrapper`],
//!    which adds the one list of [`flags`], and keeps the result in the
//!    [`cache`];
//! 4. [`doctor`] says whether the machine can do all this, and the rest.

pub mod apt;
mod apt_sources;
pub mod build;
pub mod cache;
pub mod catalogue;
pub(crate) mod command;
pub mod compiler;
pub mod doctor;
pub mod error;
pub mod flags;
pub mod manifest;
pub mod pair;
pub(crate) mod place;
pub mod program;
pub mod record;
mod rewritten;
pub mod scaffold;
pub mod source;
pub(crate) mod tool;
pub mod unpack;
pub mod wrapper;

pub use build::{BuildOptions, BuiltVersion, Unit, build, build_rewritten};
pub use catalogue::Catalogue;
pub use error::{BuildError, ManifestError, SourceError, SubjectError};
pub use manifest::{Subject, Version};
pub use pair::Pair;
