//! Which active frames go on with the old layout of a record: whatever a mechanism
//! does with the instances, that code still means the old places.

use std::collections::BTreeSet;

use crate::confree::{Use, UseKind, UseTable};
use crate::patch::Patch;
use crate::policy::lookup_address;
use crate::trace::Stack;

/// For each active frame whose code will use the old layout of a changed record, a
/// line that names it and what it uses.
#[must_use]
pub fn old_layouts<'a>(
    patch: &Patch,
    stack: Option<&Stack>,
    others: impl Iterator<Item = &'a Stack>,
) -> Vec<String> {
    let Some(uses) = &patch.uses else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    // The function that is entered has not begun.
    let own = stack.map(|stack| below(uses, stack, 1)).unwrap_or_default();
    let others = others.flat_map(|stack| below(uses, stack, 0));
    for line in own.into_iter().chain(others) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn below(uses: &UseTable, stack: &Stack, from: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (depth, frame) in stack.frames.iter().enumerate().skip(from) {
        let Some(entry) = uses.covering(lookup_address(*frame, depth)) else {
            continue;
        };
        let Some(name) = uses.names.get(&entry) else {
            continue;
        };
        let used: BTreeSet<&str> = uses
            .after(entry, frame.0)
            .filter(|what| is_of_layout(what))
            .map(|what| what.name.as_str())
            .collect();
        if !used.is_empty() {
            let used: Vec<&str> = used.into_iter().collect();
            lines.push(format!(
                "{} goes on with the old {}",
                name.name,
                used.join(", ")
            ));
        }
    }
    lines
}

fn is_of_layout(what: &Use) -> bool {
    matches!(
        what.kind,
        UseKind::Member
            | UseKind::Value
            | UseKind::Arithmetic
            | UseKind::Size
            | UseKind::Interior
            | UseKind::Layout
    )
}
