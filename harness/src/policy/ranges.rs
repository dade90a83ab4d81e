//! Which addresses of the old program belong to functions that an update changes.

use std::collections::BTreeMap;

use crate::binary::Address;
use crate::confree::UseTable;
use crate::patch::{FunctionName, Patch, Reason as PatchReason, Rest};

/// The definition of "changed function" in force, recorded in `run.json`.
pub const DEFINITION_OF_CHANGED: &str = "object code differs, deleted, concretely uses a changed type, prototype or global, or rebuilt \
     because it refers to a data object that moves, or to a function whose old entry is kept \
     (where entries are kept, one whose parameters have other names is)";

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

impl Change {
    /// Whether the function's old code does something else than the new version's, so
    /// that tests follow old frames of it.
    #[must_use]
    pub const fn old_code_differs(self) -> bool {
        match self {
            Self::Redirected { reason, .. } => reason.means_other_code(),
            Self::Deleted => true,
        }
    }
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
    uses: Option<UseTable>,
    rests: BTreeMap<Address, Rest>,
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
        Self {
            functions,
            uses: patch.uses.clone(),
            rests: patch.rests.clone(),
        }
    }

    /// What old functions use of what the update changes; none where the run did
    /// not record it.
    #[must_use]
    pub const fn uses(&self) -> Option<&UseTable> {
        self.uses.as_ref()
    }

    /// How what follows a return address compares with the new version.
    #[must_use]
    pub fn rest(&self, site: Address) -> Option<Rest> {
        self.rests.get(&site).copied()
    }

    /// The changed function that `address` lies in.
    #[must_use]
    pub fn find(&self, address: Address) -> Option<&ChangedFunction> {
        covering(&self.functions, address, |function| {
            (function.start, function.size)
        })
    }

    /// All changed functions in order of address.
    #[must_use]
    pub fn functions(&self) -> &[ChangedFunction] {
        &self.functions
    }
}

/// A function of the old program that was edited or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedRange {
    /// The function.
    pub function: FunctionName,
    /// Its entry in the old program.
    pub start: Address,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the new version does not have it.
    pub deleted: bool,
}

/// The edited and the deleted functions of one patch, sorted by address.
#[derive(Clone, Debug, Default)]
pub struct EditedRanges {
    functions: Vec<EditedRange>,
}

impl EditedRanges {
    /// Collects them; none if the patch was recorded before texts were compared.
    #[must_use]
    pub fn of(patch: &Patch) -> Option<Self> {
        let edited = patch.edited.as_ref()?.iter().map(|edited| EditedRange {
            function: edited.function.clone(),
            start: edited.old,
            size: edited.old_size,
            deleted: false,
        });
        let deleted = patch.deleted.iter().map(|deleted| EditedRange {
            function: deleted.function.clone(),
            start: deleted.old,
            size: deleted.old_size,
            deleted: true,
        });
        let mut functions: Vec<_> = edited.chain(deleted).collect();
        functions.sort_by_key(|function| function.start);
        Some(Self { functions })
    }

    /// The edited or deleted function that `address` lies in.
    #[must_use]
    pub fn find(&self, address: Address) -> Option<&EditedRange> {
        covering(&self.functions, address, |function| {
            (function.start, function.size)
        })
    }
}

/// The range that holds `address`, of ranges sorted by their start.
fn covering<T>(
    sorted: &[T],
    address: Address,
    start_and_size: impl Fn(&T) -> (Address, u64),
) -> Option<&T> {
    let behind = sorted.partition_point(|range| start_and_size(range).0 <= address);
    let range = sorted.get(behind.checked_sub(1)?)?;
    let (start, size) = start_and_size(range);
    (address.since(start) < size).then_some(range)
}
