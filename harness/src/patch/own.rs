//! What the versions' own builds tell of an update, where the program that runs was
//! built with other layouts than its own.

use std::collections::BTreeSet;

use super::compare::{Comparison, Fate};
use super::version::{Build, Version};
use super::{FunctionName, PatchError, Reason};
use crate::binary::dwarf::TypeKey;
use crate::change::Changes;

/// What counts as changed, whatever the builds look like that run.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Types, prototypes and globals that differ, with the addresses of the program
    /// that runs.
    pub changes: Changes,
    /// Functions of both versions whose object code differs.
    pub changed: BTreeSet<FunctionName>,
    /// Changed records that have one size in both builds: objects that hold them stay
    /// where they are.
    pub shared: BTreeSet<TypeKey>,
}

/// Functions of both versions whose own object code differs.
///
/// # Errors
/// When a build cannot be read.
pub fn changed_functions(
    old: &Build<'_>,
    new: &Build<'_>,
) -> Result<BTreeSet<FunctionName>, PatchError> {
    let (old, new) = rayon::join(|| Version::read(old), || Version::read(new));
    let (old, new) = (old?, new?);
    let comparison = Comparison::between(&old, &new, &BTreeSet::new(), None)?;
    let changed = comparison
        .items
        .values()
        .filter(|matched| matched.fate == Fate::Replace(Reason::ObjectCode));
    Ok(changed
        .filter_map(|matched| Some(old.function_name(matched.old?)))
        .collect())
}
