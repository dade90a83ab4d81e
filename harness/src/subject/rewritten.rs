//! Compiles a unit from rewritten preprocessed text, in the middle of a recipe: what
//! the compiler wrapper does in a build that has a plan.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::command;
use super::record::Kind;
use super::wrapper::Run;
use crate::rewrite::{self, Plan};

/// Environment variable: the file with the plan.
pub const PLAN: &str = "KAIROS_CC_PLAN";
/// Environment variable: the source tree.
pub const TREE: &str = "KAIROS_CC_TREE";

/// A plan that is in force.
pub(super) struct Rewriting {
    plan: Plan,
    tree: PathBuf,
}

impl Rewriting {
    /// What the environment says, if the build has a plan.
    ///
    /// # Errors
    /// If the plan cannot be read.
    pub(super) fn from_environment() -> io::Result<Option<Self>> {
        let (Some(plan), Some(tree)) = (std::env::var_os(PLAN), std::env::var_os(TREE)) else {
            return Ok(None);
        };
        let plan: Plan = serde_json::from_slice(&fs::read(plan)?)?;
        Ok((!plan.is_empty()).then(|| Self {
            plan,
            tree: tree.into(),
        }))
    }

    /// The run that compiles the rewritten text in place of `run`; none where the
    /// plan has nothing to say about the unit, or it does not even preprocess.
    ///
    /// # Errors
    /// If the compiler cannot be run, or a record not be rewritten.
    pub(super) fn apply(&self, real: &OsStr, run: &Run) -> io::Result<Option<Run>> {
        let Some((Kind::Compilation, output, inputs)) = &run.record else {
            return Ok(None);
        };
        let [source] = inputs.as_slice() else {
            return Ok(None);
        };
        if Path::new(source).extension() != Some(OsStr::new("c")) {
            return Ok(None);
        }
        let preprocessed = Command::new(real)
            .args(command::preprocess_in_build(&run.arguments, output))
            .stderr(Stdio::null())
            .output()?;
        if !preprocessed.status.success() {
            return Ok(None);
        }
        let directory = std::env::current_dir()?;
        let file_of = |marker: &str| rewrite::relative_file(&self.tree, &directory, marker);
        let text = characters(&preprocessed.stdout);
        let rewritten = rewrite::rewrite(&text, &self.plan, &file_of).map_err(io::Error::other)?;
        let Some(rewritten) = rewritten else {
            return Ok(None);
        };
        let path = format!("{output}.kairos.i");
        fs::write(&path, bytes(&rewritten))?;
        let mut arguments = command::compile_in_build(&run.arguments);
        arguments.extend([path, "-o".to_owned(), output.clone()]);
        Ok(Some(Run {
            arguments,
            record: run.record.clone(),
        }))
    }
}

/// Sources need not be UTF-8: each byte stands as the character of its number.
fn characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(letter).unwrap_or(b'?'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{bytes, characters};

    #[test]
    fn any_bytes_survive() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(bytes(&characters(&all)), all);
    }
}
