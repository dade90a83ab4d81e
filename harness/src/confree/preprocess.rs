//! Preprocessed sources of a build's units.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::ConFreeError;
use crate::binary::dwarf::Types;
use crate::rewrite::relative_file;
use crate::sandbox::guard;
use crate::subject::{BuiltVersion, Unit, command, tool};

/// One C unit, preprocessed by the compiler that built it.
pub(crate) struct Preprocessed {
    /// Source file, relative to the tree.
    pub(crate) source: String,
    /// The object that the build made of it.
    pub(crate) object: PathBuf,
    /// Working directory of the compilation.
    pub(crate) directory: PathBuf,
    /// Arguments that compile preprocessed text.
    pub(crate) compile: Vec<String>,
    /// The preprocessed text.
    pub(crate) text: String,
}

/// Preprocesses all C units of `built` that its program contains; the others
/// (assembly) by name.
///
/// # Errors
/// When the compiler cannot be run, or refuses a source that it compiled before.
pub(crate) fn run(
    built: &BuiltVersion,
    types: &Types,
    folder: &Path,
) -> Result<(Vec<Preprocessed>, Vec<String>), ConFreeError> {
    let (units, others): (Vec<_>, Vec<_>) = built
        .units
        .iter()
        .filter(|unit| types.files.contains(&unit.source))
        .partition(|unit| unit.source.ends_with(".c"));
    let one = |(number, unit): (usize, &&Unit)| -> Result<Preprocessed, ConFreeError> {
        let bytes = text_of(built, unit, &folder.join(format!("{number}.i")))?;
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

/// The preprocessed text of a unit, made at `path` unless the build kept it.
fn text_of(built: &BuiltVersion, unit: &Unit, path: &Path) -> Result<Vec<u8>, ConFreeError> {
    if let Some(kept) = command::preprocessed_input(&unit.arguments) {
        let kept = unit.directory.join(kept);
        return std::fs::read(&kept).map_err(|error| ConFreeError::file(&kept, error));
    }
    let mut compiler = tool::command(&built.compiler);
    compiler
        .arg("-E")
        .args(command::preprocess(&unit.arguments))
        .arg("-o")
        .arg(path)
        .current_dir(&unit.directory);
    let output =
        guard::output(&mut compiler).map_err(|error| ConFreeError::file(&built.compiler, error))?;
    if !output.status.success() {
        return Err(ConFreeError::Preprocess {
            file: unit.source.clone(),
            output: tool::tail(&tool::text(&output), 10),
        });
    }
    std::fs::read(path).map_err(|error| ConFreeError::file(path, error))
}

/// A file as a line marker has it, relative to the tree.
pub(super) fn file_of(built: &BuiltVersion, directory: &Path, marker: &str) -> String {
    relative_file(&built.tree, directory, marker)
}
