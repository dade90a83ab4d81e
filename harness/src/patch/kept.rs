//! Functions whose old entry keeps the old version, because old callers mean its old
//! parameters: those whose prototype, or the names of whose parameters, changed.

use std::collections::BTreeSet;

use super::Reason;
use super::assemble::has_pad;
use super::compare::{Comparison, Fate};
use super::unit::ItemKind;
use super::version::Version;

/// Marks them, and has those rebuilt whose code is the same.
pub(super) fn keep(old: &Version, new: &Version, comparison: &mut Comparison) {
    let mut kept = BTreeSet::new();
    for (id, matched) in &mut comparison.items {
        let Some(old_id) = matched.old.filter(|_| new.kind(*id) == ItemKind::Function) else {
            continue;
        };
        let (Some(before), Some(after)) = (old.prototype(old_id), new.prototype(*id)) else {
            continue;
        };
        let differs = comparison.types.prototype_differs(before, after);
        // The same type under another name may mean something else.
        let renamed = !before.same_names(after);
        if !(has_pad(old, old_id) && (differs || renamed)) {
            continue;
        }
        if matched.fate == Fate::Keep {
            matched.fate = Fate::Replace(Reason::RenamedParameters);
        }
        kept.insert(*id);
    }
    comparison.kept = kept;
}
