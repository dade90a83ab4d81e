//! Changed enums: an existing enumerator got another value or went away. One
//! that is added is no change.

use serde::{Deserialize, Serialize};

use super::{by_name, display};
use crate::binary::dwarf::{TypeKey, Types};

/// An enum of the old version of which an enumerator changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedEnum {
    /// Its definition in the old version; without a name, all nameless enums of
    /// one file.
    pub key: TypeKey,
    /// Its name for people.
    pub name: String,
    /// The enumerators that changed.
    pub enumerators: Vec<ChangedEnumerator>,
}

/// An enumerator with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedEnumerator {
    /// Its name.
    pub name: String,
    /// Its value.
    pub old: i64,
    /// Its value in the new version; none if it went.
    pub new: Option<i64>,
}

/// Changed enums of the old version.
pub(super) fn changed(old: &Types, new: &Types) -> Vec<ChangedEnum> {
    let new_named = by_name(&new.enums);
    let mut found = Vec::new();
    for ((tag, name), definitions) in by_name(&old.enums) {
        let others = new_named.get(&(tag, name));
        for (key, enumerators) in definitions {
            let mut differing = Vec::new();
            for (enumerator, value) in enumerators {
                let mut candidates = others
                    .into_iter()
                    .flat_map(|others| {
                        let own = others.get(key).copied();
                        own.into_iter().chain(others.values().copied())
                    })
                    .filter_map(|other| other.get(enumerator).copied());
                let first = candidates.clone().next();
                if !candidates.any(|new| new == *value) {
                    differing.push(ChangedEnumerator {
                        name: enumerator.clone(),
                        old: *value,
                        new: first,
                    });
                }
            }
            if !differing.is_empty() {
                found.push(ChangedEnum {
                    key: key.clone(),
                    name: display(key, &old.enums),
                    enumerators: differing,
                });
            }
        }
    }
    found
}
