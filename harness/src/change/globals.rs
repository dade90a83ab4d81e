//! Changed globals, function-local statics included.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Changes, layout};
use crate::binary::Address;
use crate::binary::dwarf::{Types, Variable};

/// A variable of the old version that differs in the new one. Another
/// initialiser alone is no change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedGlobal {
    /// Its name; `function.name` where it is local to a function.
    pub name: String,
    /// Source file.
    pub file: String,
    /// Place in the old program.
    pub address: Address,
    /// Size in bytes.
    pub size: u64,
    /// In what way it changed.
    pub how: HowGlobal,
}

/// In what way a variable changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HowGlobal {
    /// The new version lacks it.
    Deleted,
    /// Its type differs: before and after, for people.
    Type {
        /// Type in the old version.
        old: String,
        /// Type in the new version.
        new: String,
    },
    /// It holds these changed records by value.
    Embeds(Vec<String>),
}

/// A variable's file, function and name, and how many equal ones came before.
type Place<'a> = (&'a str, Option<&'a str>, &'a str, usize);

fn places(types: &Types) -> Vec<(Place<'_>, &Variable)> {
    let mut seen: HashMap<(&str, Option<&str>, &str), usize> = HashMap::new();
    let mut found = Vec::new();
    for variable in &types.variables {
        let function = variable.function.as_deref();
        let key = (variable.file.as_str(), function, variable.name.as_str());
        let count = seen.entry(key).or_default();
        found.push(((key.0, key.1, key.2, *count), variable));
        *count += 1;
    }
    found
}

/// Address and size of each variable in another build of the same sources, by its
/// address in this one.
pub(super) fn counterparts(one: &Types, other: &Types) -> HashMap<Address, (Address, u64)> {
    let by_place: HashMap<Place<'_>, &Variable> = places(other).into_iter().collect();
    let found = places(one).into_iter().filter_map(|(place, variable)| {
        let other = by_place.get(&place)?;
        let size = other.size.unwrap_or(1).max(1);
        Some((variable.address, (other.address, size)))
    });
    found.collect()
}

/// The strings behind `__func__` change with a function's name and are no state.
fn is_made_up(name: &str) -> bool {
    matches!(name, "__func__" | "__FUNCTION__" | "__PRETTY_FUNCTION__")
}

/// Changed variables of the old version.
pub(super) fn changed(old: &Types, new: &Types, changes: &Changes) -> Vec<ChangedGlobal> {
    let by_place: HashMap<Place<'_>, &Variable> = places(new).into_iter().collect();
    let global: HashMap<&str, &Variable> = new
        .variables
        .iter()
        .filter(|variable| variable.external)
        .map(|variable| (variable.name.as_str(), variable))
        .collect();
    let mut found = Vec::new();
    for (place, before) in places(old) {
        if is_made_up(&before.name) {
            continue;
        }
        let after = by_place
            .get(&place)
            .or_else(|| global.get(before.name.as_str()).filter(|_| before.external));
        let how = match after {
            None => HowGlobal::Deleted,
            Some(after) if after.signature != before.signature => HowGlobal::Type {
                old: layout::readable(&before.signature),
                new: layout::readable(&after.signature),
            },
            Some(after) if changes.variable_differs(before, after) => HowGlobal::Embeds(
                before
                    .embeds
                    .iter()
                    .filter_map(|key| changes.record(key))
                    .map(|record| record.name.clone())
                    .collect(),
            ),
            Some(_) => continue,
        };
        found.push(ChangedGlobal {
            name: match &before.function {
                Some(function) => format!("{function}.{}", before.name),
                None => before.name.clone(),
            },
            file: before.file.clone(),
            address: before.address,
            size: before.size.unwrap_or(1).max(1),
            how,
        });
    }
    found
}
