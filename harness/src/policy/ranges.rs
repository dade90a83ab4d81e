//! Which addresses of the old program belong to functions that an update changes.

use crate::binary::Address;
use crate::patch::{FunctionName, Patch, Reason as PatchReason};

/// The definition of "changed function" in force, recorded in `run.json`.
pub const DEFINITION_OF_CHANGED: &str = "object code differs, deleted, concretely uses a changed type, prototype or global, or rebuilt \
     because it refers to a data object that moves";

/// How an update changes a function of the old program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Every call goes to a new version of it.
    Redirected {
        /// Why it is replaced.
        reason: PatchReason,
        /// Whether return or parameter types differ.
        prototype_changed: bool,
    },
    /// The new version has it no more; calls run the old code.
    Deleted,
}

/// A function of the old program that the update changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedFunction {
    /// The function.
    pub function: FunctionName,
    /// Its entry in the old program.
    pub start: Address,
    /// Its size in bytes.
    pub size: u64,
    /// What becomes of it.
    pub change: Change,
}

/// The changed functions of one patch, sorted by address: built once per patch,
/// searched for every frame.
#[derive(Clone, Debug, Default)]
pub struct ChangedRanges {
    functions: Vec<ChangedFunction>,
}

impl ChangedRanges {
    /// Collects what `patch` redirects and deletes.
    #[must_use]
    pub fn of(patch: &Patch) -> Self {
        let redirected = patch.redirects.iter().map(|redirect| ChangedFunction {
            function: redirect.function.clone(),
            start: redirect.old,
            size: redirect.old_size,
            change: Change::Redirected {
                reason: redirect.reason,
                prototype_changed: redirect.prototype_changed,
            },
        });
        let deleted = patch.deleted.iter().map(|deleted| ChangedFunction {
            function: deleted.function.clone(),
            start: deleted.old,
            size: deleted.old_size,
            change: Change::Deleted,
        });
        let mut functions: Vec<_> = redirected.chain(deleted).collect();
        functions.sort_by_key(|function| function.start);
        Self { functions }
    }

    /// The changed function that `address` lies in.
    #[must_use]
    pub fn find(&self, address: Address) -> Option<&ChangedFunction> {
        let behind = self
            .functions
            .partition_point(|function| function.start <= address);
        let function = self.functions.get(behind.checked_sub(1)?)?;
        (address.since(function.start) < function.size).then_some(function)
    }

    /// All changed functions in order of address.
    #[must_use]
    pub fn functions(&self) -> &[ChangedFunction] {
        &self.functions
    }
}
