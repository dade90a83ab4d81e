//! What an update changes in types, prototypes and globals: pure over the debug
//! information of both versions. What counts as changed is defined here, once.
//!
//! Object code that merely passes pointers on does not show that members of a
//! heap record moved; only this comparison sees it.

pub mod enums;
pub mod functions;
pub mod globals;
pub mod layout;
pub mod records;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use enums::ChangedEnum;
pub use functions::{ChangedPrototype, DeletedFunction, RenamedParameters};
pub use globals::{ChangedGlobal, HowGlobal};
pub use records::{ChangedRecord, HowRecord};

use crate::binary::dwarf::{Prototype, TypeKey, Types, Variable};

/// A typedef that stands for another type than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedTypedef {
    /// Its name.
    pub name: String,
    /// What it stood for.
    pub old: String,
    /// What it stands for.
    pub new: String,
}

/// Types, prototypes and globals of the old version that differ in the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Records, in order of name.
    pub records: Vec<ChangedRecord>,
    /// Enums.
    pub enums: Vec<ChangedEnum>,
    /// Typedefs: for people, since comparison goes through them.
    pub typedefs: Vec<ChangedTypedef>,
    /// Functions that both versions have, with another prototype.
    pub prototypes: Vec<ChangedPrototype>,
    /// Functions whose parameters have other names and the same types. By itself that
    /// counts as no change: it matters to mechanisms that keep old entries.
    pub renamed: Vec<RenamedParameters>,
    /// Functions that the new version lacks.
    pub deleted: Vec<DeletedFunction>,
    /// Variables.
    pub globals: Vec<ChangedGlobal>,
    #[serde(skip)]
    record_keys: BTreeSet<TypeKey>,
}

impl Changes {
    /// Compares the debug information of two versions.
    #[must_use]
    pub fn between(old: &Types, new: &Types) -> Self {
        let records = records::changed(old, new);
        let mut changes = Self {
            record_keys: records.iter().map(|record| record.key.clone()).collect(),
            records,
            enums: enums::changed(old, new),
            typedefs: changed_typedefs(old, new),
            ..Self::default()
        };
        functions::changed(old, new, &mut changes);
        changes.globals = globals::changed(old, new, &changes);
        changes
    }

    /// Whether nothing changed that old code could still use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.enums.is_empty()
            && self.prototypes.is_empty()
            && self.deleted.is_empty()
            && self.globals.is_empty()
    }

    /// Whether the mechanisms of [`crate::mechanism`] deal with the update in different
    /// ways: records, prototypes or names of parameters differ.
    #[must_use]
    pub fn concern_mechanisms(&self) -> bool {
        !(self.records.is_empty() && self.prototypes.is_empty() && self.renamed.is_empty())
    }

    /// Names of changed records and enums, for people.
    #[must_use]
    pub fn type_names(&self) -> Vec<String> {
        let records = self.records.iter().map(|record| record.name.clone());
        let enums = self.enums.iter().map(|changed| changed.name.clone());
        let names: BTreeSet<String> = records.chain(enums).collect();
        names.into_iter().collect()
    }

    /// The changed record of that definition.
    #[must_use]
    pub fn record(&self, key: &TypeKey) -> Option<&ChangedRecord> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// The same changes, but for records whose instances stay where they are: what
    /// makes an object move.
    #[must_use]
    pub fn without_records(&self, shared: Option<&BTreeSet<TypeKey>>) -> Self {
        let mut changes = self.clone();
        if let Some(shared) = shared {
            changes.record_keys.retain(|key| !shared.contains(key));
        }
        changes
    }

    /// The same changes with the addresses of another build of the old version;
    /// the name of what that build lacks otherwise.
    ///
    /// # Errors
    /// The name of a function or variable that is not in `types`.
    pub fn relocated(&self, own: &Types, types: &Types) -> Result<Self, String> {
        let mut changes = self.clone();
        let entries: BTreeMap<_, _> = types
            .functions
            .iter()
            .map(|f| (&f.function, f.entry))
            .collect();
        let prototypes = changes.prototypes.iter_mut();
        let prototypes = prototypes.map(|c| (&c.function, &mut c.entry));
        let deleted = changes.deleted.iter_mut();
        let deleted = deleted.map(|c| (&c.function, &mut c.entry));
        for (function, entry) in prototypes.chain(deleted) {
            *entry = *entries.get(function).ok_or_else(|| function.to_string())?;
        }
        let addresses = globals::counterparts(own, types);
        for global in &mut changes.globals {
            let (address, size) = addresses
                .get(&global.address)
                .ok_or_else(|| global.name.clone())?;
            global.address = *address;
            global.size = *size;
        }
        Ok(changes)
    }

    fn contains_any(&self, embedded: &BTreeSet<TypeKey>) -> bool {
        embedded.iter().any(|key| self.record_keys.contains(key))
    }

    /// Whether a variable's type differs: by itself, or because it holds a
    /// changed record by value.
    #[must_use]
    pub fn variable_differs(&self, old: &Variable, new: &Variable) -> bool {
        old.signature != new.signature || self.contains_any(&old.embeds)
    }

    /// Whether return or parameter types differ, or a changed record goes by
    /// value.
    #[must_use]
    pub fn prototype_differs(&self, old: &Prototype, new: &Prototype) -> bool {
        !old.same_types(new) || self.contains_any(&old.by_value)
    }
}

type Named<'a, T> = BTreeMap<(&'a str, &'a str), BTreeMap<&'a TypeKey, &'a T>>;

/// Definitions by tag and name; several entries where the name is defined in
/// more than one file.
fn by_name<T>(types: &BTreeMap<TypeKey, T>) -> Named<'_, T> {
    let mut named: Named<'_, T> = BTreeMap::new();
    for (key, definition) in types {
        named
            .entry((&key.tag, &key.name))
            .or_default()
            .insert(key, definition);
    }
    named
}

/// The name of a definition for people: with its file where several files define
/// the name, or where there is no name.
fn display<T>(key: &TypeKey, among: &BTreeMap<TypeKey, T>) -> String {
    let mut same = among
        .keys()
        .filter(|k| k.tag == key.tag && k.name == key.name);
    let several = same.next().is_some() && same.next().is_some();
    let name = match (key.tag.as_str(), key.name.as_str()) {
        (tag, "") => format!("anonymous {tag}"),
        ("typedef", name) => name.to_owned(),
        (tag, name) => format!("{tag} {name}"),
    };
    if several || key.name.is_empty() {
        format!("{name} ({})", key.file)
    } else {
        name
    }
}

fn changed_typedefs(old: &Types, new: &Types) -> Vec<ChangedTypedef> {
    let new_named = by_name(&new.typedefs);
    let one = |meanings: &BTreeSet<String>| {
        let readable: Vec<String> = meanings.iter().map(|m| layout::readable(m)).collect();
        readable.join(" or ")
    };
    let mut changed = Vec::new();
    for (key, meanings) in &old.typedefs {
        let Some(others) = new_named.get(&(key.tag.as_str(), key.name.as_str())) else {
            continue;
        };
        let other = match (others.get(key), others.len()) {
            (Some(other), _) => other,
            (None, 1) => match others.values().next() {
                Some(other) => other,
                None => continue,
            },
            (None, _) => continue,
        };
        if meanings != *other {
            changed.push(ChangedTypedef {
                name: display(key, &old.typedefs),
                old: one(meanings),
                new: one(other),
            });
        }
    }
    changed
}

#[cfg(test)]
mod tests;
