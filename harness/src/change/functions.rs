//! Changed prototypes, renamed parameters and deleted functions.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Changes, layout};
use crate::binary::dwarf::{FunctionType, Prototype, Types};
use crate::binary::{Address, FunctionName};

/// A function whose return or parameter types differ, or to or from which a
/// changed record goes by value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedPrototype {
    /// The function.
    pub function: FunctionName,
    /// Its entry in the old program.
    pub entry: Address,
    /// The prototype in the old version, for people.
    pub old: String,
    /// The prototype in the new version, for people.
    pub new: String,
    /// Changed records that go by value.
    pub by_value: Vec<String>,
}

/// A function whose parameters have other names: the same types may mean something
/// else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenamedParameters {
    /// The function.
    pub function: FunctionName,
    /// The prototype in the old version, for people.
    pub old: String,
    /// The prototype in the new version, for people.
    pub new: String,
}

/// A function of the old version that the new version lacks. Calling it would
/// run old code after the update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedFunction {
    /// The function.
    pub function: FunctionName,
    /// Its entry in the old program.
    pub entry: Address,
}

/// Functions by file and name, and global ones by name alone.
struct Index<'a> {
    by_file: HashMap<(&'a str, &'a str), &'a FunctionType>,
    global: HashMap<&'a str, &'a FunctionType>,
}

impl<'a> Index<'a> {
    fn of(types: &'a Types) -> Self {
        let named = |f: &'a FunctionType| (f.function.file.as_str(), f.function.name.as_str());
        Self {
            by_file: types.functions.iter().map(|f| (named(f), f)).collect(),
            global: types
                .functions
                .iter()
                .filter(|f| f.external)
                .map(|f| (f.function.name.as_str(), f))
                .collect(),
        }
    }

    /// The function of the same file and name; a global one may have moved.
    fn counterpart(&self, old: &FunctionType) -> Option<&'a FunctionType> {
        let FunctionName { name, file } = &old.function;
        let same_file = self.by_file.get(&(file.as_str(), name.as_str())).copied();
        same_file.or_else(|| {
            self.global
                .get(name.as_str())
                .copied()
                .filter(|_| old.external)
        })
    }
}

/// Adds changed prototypes, renamed parameters and deleted functions of the old
/// version to `changes`, which knows the changed records.
pub(super) fn changed(old: &Types, new: &Types, changes: &mut Changes) {
    let index = Index::of(new);
    for before in &old.functions {
        let function = before.function.clone();
        let entry = before.entry;
        let Some(after) = index.counterpart(before) else {
            changes.deleted.push(DeletedFunction { function, entry });
            continue;
        };
        let (was, is) = (&before.prototype, &after.prototype);
        if changes.prototype_differs(was, is) {
            let by_value = was.by_value.iter();
            let by_value = by_value.filter_map(|key| changes.record(key));
            let changed = ChangedPrototype {
                old: spell(was),
                new: spell(is),
                by_value: by_value.map(|record| record.name.clone()).collect(),
                function,
                entry,
            };
            changes.prototypes.push(changed);
        } else if !was.same_names(is) {
            changes.renamed.push(RenamedParameters {
                function,
                old: spell(was),
                new: spell(is),
            });
        }
    }
}

fn spell(prototype: &Prototype) -> String {
    let mut parameters: Vec<String> = prototype
        .parameters
        .iter()
        .map(
            |p| match (layout::readable(&p.signature), p.name.as_str()) {
                (text, "") => text,
                (text, name) => format!("{text} {name}"),
            },
        )
        .collect();
    if prototype.variadic {
        parameters.push("...".to_owned());
    }
    if parameters.is_empty() {
        parameters.push("void".to_owned());
    }
    format!(
        "{} ({})",
        layout::readable(&prototype.result),
        parameters.join(", ")
    )
}
