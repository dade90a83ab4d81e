//! Rewrites the definitions of records in preprocessed C, so that a version can be
//! built with another layout than its own: pure over text.
//!
//! A plan says for each record the order in which its members are declared and the
//! gaps between them. Nothing else changes: lines keep their numbers, and a unit that
//! defines no planned record stays as it is.

pub mod definition;

pub mod initialiser;
pub mod member;
pub mod plan;
pub mod record;
pub mod tokens;
mod types;

use std::path::Path;

pub use plan::{Item, Plan, RecordPlan};

use crate::binary::dwarf::TypeKey;
use crate::subject::record::normal;

/// Changes whenever what was built from rewritten text before must not be used any
/// more.
pub const REVISION: u32 = 1;

/// Why the text of a unit cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {}: {why}", self.record())]
pub struct RewriteError {
    /// The record's definition; none where it has no name.
    pub key: Option<Box<TypeKey>>,
    /// File as the line markers have it.
    pub file: String,
    /// Line.
    pub line: u32,
    /// What stands in the way.
    pub why: String,
}

impl RewriteError {
    /// At the token `at`, about the record of that definition.
    fn at(tokens: &tokens::Tokens<'_>, at: usize, key: Option<&TypeKey>, why: String) -> Self {
        let start = tokens.list.get(at).map_or(0, |token| token.start);
        Self {
            key: key.cloned().map(Box::new),
            file: tokens.file(start).to_owned(),
            line: tokens.line(start),
            why,
        }
    }

    /// The record for people.
    #[must_use]
    pub fn record(&self) -> String {
        match self.key.as_deref() {
            None => "a nameless record".to_owned(),
            Some(TypeKey { tag, name, .. }) if tag == "typedef" => name.clone(),
            Some(TypeKey { tag, name, .. }) => format!("{tag} {name}"),
        }
    }
}

/// The text with all planned records laid out as `plan` says; `None` where it
/// defines none of them. `file_of` turns a line marker's file into one relative to
/// the source tree.
///
/// # Errors
/// A definition or an initialiser that cannot be rewritten.
pub fn rewrite(
    text: &str,
    plan: &Plan,
    file_of: &dyn Fn(&str) -> String,
) -> Result<Option<String>, RewriteError> {
    if !plan.is_concerned(text, file_of) {
        return Ok(None);
    }
    let designated = initialiser::designate(text, plan, file_of)?;
    let text = designated.as_deref().unwrap_or(text);
    record::rewrite(text, plan, file_of).map(Some)
}

/// A file as a line marker has it, relative to the source tree; `directory` is where
/// the compiler ran.
#[must_use]
pub fn relative_file(tree: &Path, directory: &Path, marker: &str) -> String {
    let whole = normal(&directory.join(marker));
    let mapped = Path::new(crate::subject::flags::MAPPED_TREE);
    whole
        .strip_prefix(tree)
        .or_else(|_| whole.strip_prefix(mapped))
        .unwrap_or(&whole)
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
