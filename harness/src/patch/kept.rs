//! Functions whose old entry keeps the old version, because old callers mean its old
//! parameters: those whose prototype, or the names of whose parameters, changed.

use std::collections::BTreeSet;

use super::Reason;
use super::assemble::has_pad;
use super::compare::{Comparison, Fate};
use super::unit::ItemKind;
use super::version::Version;
use crate::binary::dwarf::Prototype;

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
        if !has_pad(old, old_id) || !(differs || is_renamed(before, after)) {
            continue;
        }
        if matched.fate == Fate::Keep {
            matched.fate = Fate::Replace(Reason::RenamedParameters);
        }
        kept.insert(*id);
    }
    comparison.kept = kept;
}

/// Whether a parameter has another name: the same type may mean something else.
fn is_renamed(old: &Prototype, new: &Prototype) -> bool {
    let names = |prototype: &Prototype| -> Vec<String> {
        let parameters = prototype.parameters.iter();
        parameters.map(|parameter| parameter.name.clone()).collect()
    };
    names(old) != names(new)
}
