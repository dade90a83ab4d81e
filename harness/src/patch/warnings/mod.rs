//! What comparing outputs cannot show: traps of an update that lie in the code.

mod calls;

use std::collections::BTreeSet;

use super::compare::Fate;
use super::resolve::Resolver;
use super::unit::ItemKind;
use super::version::{ItemId, Version};
use super::{Patch, Reason, Warning};
use crate::binary::dwarf::{Parameter, Prototype};
use calls::Calls;

/// How many names a message lists before it only counts.
const SHOWN: usize = 6;

/// Looks for traps in a finished patch.
pub(super) fn find(resolver: &Resolver<'_>, patch: &Patch) -> Vec<Warning> {
    let calls = Calls::of(resolver.old);
    let mut warnings = Vec::new();
    for (id, old_id) in replaced(resolver, &[Reason::ObjectCode, Reason::UsesChanged]) {
        prototypes(resolver, &calls, id, old_id, &mut warnings);
    }
    warnings.extend(deleted(resolver, &calls));
    warnings.extend(start_up(resolver, &calls));
    warnings.extend(loops(resolver, &calls));
    warnings.extend(patch.changed_types.iter().map(|name| layout(name)));
    warnings
}

/// Functions of both versions whose own code the patch replaces, by (new, old).
fn changed_functions<'a>(
    resolver: &'a Resolver<'_>,
) -> impl Iterator<Item = (ItemId, ItemId)> + 'a {
    replaced(resolver, &[Reason::ObjectCode])
}

/// Functions of both versions that the patch replaces for one of these reasons.
fn replaced<'a>(
    resolver: &'a Resolver<'_>,
    reasons: &'a [Reason],
) -> impl Iterator<Item = (ItemId, ItemId)> + 'a {
    let items = resolver.comparison.items.iter();
    items
        .filter(|(_, matched)| {
            matches!(matched.fate, Fate::Replace(reason) if reasons.contains(&reason))
        })
        .filter_map(|(id, matched)| Some((*id, matched.old?)))
}

fn warning(kind: &str, subject: &str, message: String) -> Warning {
    Warning {
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        message,
    }
}

fn names(version: &Version, ids: impl Iterator<Item = ItemId>) -> String {
    let names: BTreeSet<&str> = ids.map(|id| version.name(id)).collect();
    let shown: Vec<&str> = names.iter().take(SHOWN).copied().collect();
    let mut text = shown.join(", ");
    if names.len() > SHOWN {
        text.extend([" and ", &(names.len() - SHOWN).to_string(), " more"]);
    }
    text
}

fn spelling(prototype: &Prototype) -> String {
    let mut parts: Vec<String> = prototype.parameters.iter().map(parameter).collect();
    if prototype.variadic {
        parts.push("...".to_owned());
    }
    // The tag of an anonymous record is how types are told apart, not C.
    format!("{} ({})", prototype.result, parts.join(", ")).replace("typedef ", "")
}

fn parameter(parameter: &Parameter) -> String {
    format!("{} {}", parameter.signature, parameter.name)
}

fn prototypes(
    resolver: &Resolver<'_>,
    calls: &Calls,
    id: ItemId,
    old_id: ItemId,
    warnings: &mut Vec<Warning>,
) {
    let (old, new) = (resolver.old, resolver.new);
    let (Some(before), Some(after)) = (old.prototype(old_id), new.prototype(id)) else {
        return;
    };
    let name = old.name(old_id);
    if resolver.comparison.types.prototype_differs(before, after) {
        let consequence = if resolver.comparison.kept.contains(&id) {
            "Its old entry keeps the old version, which active old frames and pointers that \
             the process holds go on calling."
        } else {
            "Active old frames call the new code with old arguments."
        };
        let mut who = names(old, calls.callers(old_id));
        let holders = names(old, calls.holders(old_id));
        if !holders.is_empty() {
            who = format!("{who}; its address is held by {holders}");
        }
        warnings.push(warning(
            "prototype-changed",
            name,
            format!(
                "{name} was {} and becomes {}. {consequence} Callers: {who}.",
                spelling(before),
                spelling(after)
            ),
        ));
        return;
    }
    let pairs = before.parameters.iter().zip(&after.parameters);
    let renamed: Vec<String> = pairs
        .filter(|(b, a)| b.name != a.name)
        .map(|(b, a)| format!("{} became {}", b.name, a.name))
        .collect();
    if !renamed.is_empty() {
        warnings.push(warning(
            "parameter-renamed",
            name,
            format!(
                "{name}: {} at the same type; look whether its meaning changed for the callers \
                 {}.",
                renamed.join(", "),
                names(old, calls.callers(old_id))
            ),
        ));
    }
}

fn deleted(resolver: &Resolver<'_>, calls: &Calls) -> Vec<Warning> {
    let old = resolver.old;
    let mut warnings = Vec::new();
    for id in &resolver.comparison.deleted {
        let name = old.name(*id);
        let (data, code): (Vec<ItemId>, Vec<ItemId>) = calls
            .holders(*id)
            .partition(|holder| old.kind(*holder) == ItemKind::Data);
        if !data.is_empty() {
            warnings.push(warning(
                "deleted-in-table",
                name,
                format!(
                    "{name} is gone from the new version, but {} holds its address; calling it \
                     there runs old code. Let the transformer replace it.",
                    names(old, data.into_iter())
                ),
            ));
        }
        if !code.is_empty() {
            warnings.push(warning(
                "deleted-address-taken",
                name,
                format!(
                    "{name} is gone from the new version, but {} takes its address, which the \
                     process may have stored.",
                    names(old, code.into_iter())
                ),
            ));
        }
    }
    warnings
}

fn start_up(resolver: &Resolver<'_>, calls: &Calls) -> Vec<Warning> {
    let only = calls.start_up_only();
    changed_functions(resolver)
        .filter(|(_, old_id)| only.contains(old_id))
        .map(|(_, old_id)| {
            let name = resolver.old.name(old_id);
            let callers = names(resolver.old, calls.callers(old_id));
            warning(
                "only-called-at-start-up",
                name,
                format!(
                    "{name} seems to run only before the main loop (called by {callers}): what \
                     it initialises keeps its old state. Let the transformer do it again. \
                     (Judged by direct calls alone.)"
                ),
            )
        })
        .collect()
}

fn loops(resolver: &Resolver<'_>, calls: &Calls) -> Vec<Warning> {
    let (endless, main_loops) = (calls.endless(resolver.old), calls.main_loops());
    changed_functions(resolver)
        .filter_map(|(_, old_id)| {
            let name = resolver.old.name(old_id);
            if calls.main() == Some(old_id) {
                return Some(warning(
                    "never-returns",
                    name,
                    format!(
                        "{name} is at the bottom of every stack and is not entered again: its \
                         changes never take effect in a running process."
                    ),
                ));
            }
            if endless.contains(&old_id) {
                return Some(warning(
                    "never-returns",
                    name,
                    format!(
                        "{name} loops and has no return instruction: a process that is in it \
                         runs the old loop to its end."
                    ),
                ));
            }
            main_loops.contains(&old_id).then(|| {
                warning(
                    "main-loop",
                    name,
                    format!(
                        "{name} seems to be a main loop (it waits for input in a loop): a \
                         process that is in it runs the old loop until it returns."
                    ),
                )
            })
        })
        .collect()
}

fn layout(name: &str) -> Warning {
    warning(
        "type-changed",
        name,
        format!(
            "{name} differs: instances that typed variables and pointers lead to are \
             converted, as far as types tell; active frames of old code go on with the old \
             layout."
        ),
    )
}
