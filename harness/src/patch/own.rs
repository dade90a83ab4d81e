//! What the versions' own builds tell of an update, where the program that runs was
//! built with other layouts than its own.

use std::collections::BTreeSet;

use super::compare::{Comparison, Fate};
use super::version::{Build, Version};
use super::{EditedFunction, FunctionName, PatchError, Reason, Warning, edited};
use crate::binary::dwarf::{TypeKey, Types};
use crate::change::Changes;

/// What counts as changed, whatever the builds look like that run.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Types, prototypes and globals that differ, with the addresses of the program
    /// that runs.
    pub changes: Changes,
    /// Changed records that have one size in both builds: objects that hold them stay
    /// where they are.
    pub shared: BTreeSet<TypeKey>,
    /// Functions of both versions whose object code differs.
    changed: BTreeSet<FunctionName>,
    /// Functions of both versions whose text differs.
    edited: BTreeSet<FunctionName>,
    warnings: Vec<Warning>,
}

impl Own {
    /// Compares two own builds; `shared` are the changed records that have one size in
    /// the builds that run.
    ///
    /// # Errors
    /// When a build cannot be read.
    pub fn between(
        old: &Build<'_>,
        new: &Build<'_>,
        shared: BTreeSet<TypeKey>,
    ) -> Result<Self, PatchError> {
        let (old_tree, new_tree) = (old.tree, new.tree);
        let (old, new) = rayon::join(|| Version::read(old), || Version::read(new));
        let (old, new) = (old?, new?);
        let comparison = Comparison::between(&old, &new, &BTreeSet::new(), None)?;
        let changed = comparison
            .items
            .values()
            .filter(|matched| matched.fate == Fate::Replace(Reason::ObjectCode))
            .filter_map(|matched| Some(old.function_name(matched.old?)));
        let (edited, warnings) = edited::find((&old, old_tree), (&new, new_tree), &comparison);
        Ok(Self {
            changed: changed.collect(),
            edited: edited.into_iter().map(|e| e.function).collect(),
            warnings,
            changes: comparison.types,
            shared,
        })
    }

    /// Looks changed functions and globals up in the program that runs.
    ///
    /// # Errors
    /// The name of one that it lacks.
    pub fn relocate(&mut self, own: &Types, running: &Types) -> Result<(), String> {
        self.changes = self.changes.relocated(own, running)?;
        Ok(())
    }

    /// Why a function of the program that runs is replaced, if it is; `same_code` is
    /// whether its object code there is that of the new build.
    pub(super) fn reason(
        &self,
        function: &FunctionName,
        same_code: bool,
        uses_changed: bool,
    ) -> Option<Reason> {
        if self.changed.contains(function) {
            Some(Reason::ObjectCode)
        } else if uses_changed {
            Some(Reason::UsesChanged)
        } else {
            // Whatever the definition says: the running code is not the new one.
            (!same_code).then_some(Reason::ObjectCode)
        }
    }

    /// Edited functions by their places in the program that runs, and warnings.
    pub(super) fn edited(&self, old: &Version) -> (Vec<EditedFunction>, Vec<Warning>) {
        let edited = old.items().filter_map(|id| {
            let function = old.function_name(id);
            self.edited.contains(&function).then_some(())?;
            Some(EditedFunction {
                function,
                old: old.address(id)?,
                old_size: old.section(id).size,
            })
        });
        (edited.collect(), self.warnings.clone())
    }
}
