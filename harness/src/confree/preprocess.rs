//! Preprocessed sources of a build's units.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{ConFreeError, command};
use crate::binary::dwarf::Types;
use crate::sandbox::guard;
use crate::subject::record::normal;
use crate::subject::{BuiltVersion, tool};

/// One C unit, preprocessed by the compiler that built it.
pub(super) struct Preprocessed {
    /// Source file, relative to the tree.
    pub(super) source: String,
    /// The object that the build made of it.
    pub(super) object: PathBuf,
    /// Working directory of the compilation.
    pub(super) directory: PathBuf,
    /// Arguments that compile preprocessed text.
    pub(super) compile: Vec<String>,
    /// The preprocessed text.
    pub(super) text: String,
}

/// Preprocesses all C units of `built` that its program contains; the others
/// (assembly) by name.
///
/// # Errors
/// When the compiler cannot be run, or refuses a source that it compiled before.
pub(super) fn run(
    built: &BuiltVersion,
    types: &Types,
    folder: &Path,
) -> Result<(Vec<Preprocessed>, Vec<String>), ConFreeError> {
    let (units, others): (Vec<_>, Vec<_>) = built
        .units
        .iter()
        .filter(|unit| types.files.contains(&unit.source))
        .partition(|unit| unit.source.ends_with(".c"));
    let one = |(number, unit): (usize, &&crate::subject::build::Unit)| {
        let path = folder.join(format!("{number}.i"));
        let mut compiler = tool::command(&built.compiler);
        compiler
            .arg("-E")
            .args(command::preprocess(&unit.arguments))
            .arg("-o")
            .arg(&path)
            .current_dir(&unit.directory);
        let output = guard::output(&mut compiler)
            .map_err(|error| ConFreeError::file(&built.compiler, error))?;
        if !output.status.success() {
            return Err(ConFreeError::Preprocess {
                file: unit.source.clone(),
                output: tool::tail(&tool::text(&output), 10),
            });
        }
        let bytes = std::fs::read(&path).map_err(|error| ConFreeError::file(&path, error))?;
        Ok(Preprocessed {
            source: unit.source.clone(),
            object: unit.object.clone(),
            directory: unit.directory.clone(),
            compile: command::compile(&unit.arguments),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    };
    let done = units
        .par_iter()
        .enumerate()
        .map(one)
        .collect::<Result<Vec<_>, _>>()?;
    let others = others.iter().map(|unit| unit.source.clone()).collect();
    Ok((done, others))
}

/// A file as a line marker has it, relative to the tree.
pub(super) fn file_of(built: &BuiltVersion, directory: &Path, marker: &str) -> String {
    let whole = normal(&directory.join(marker));
    let mapped = Path::new(crate::subject::flags::MAPPED_TREE);
    whole
        .strip_prefix(&built.tree)
        .or_else(|_| whole.strip_prefix(mapped))
        .unwrap_or(&whole)
        .to_string_lossy()
        .into_owned()
}
