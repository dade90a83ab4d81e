//! Changed types and prototypes, from the debug information of both versions.
//!
//! Same-size layout changes of heap records are invisible in object code that
//! merely passes pointers on; only this comparison sees them.

use std::collections::{BTreeMap, BTreeSet};

use crate::binary::dwarf::{Layout, Prototype, TypeKey, Types, Variable};

/// Types of the old version that differ in the new one.
#[derive(Debug, Default)]
pub(super) struct ChangedTypes {
    /// Records, by their definition in the old version; those that embed a
    /// changed record included.
    records: BTreeSet<TypeKey>,
    /// Canonical names, for people.
    pub(super) names: Vec<String>,
}

impl ChangedTypes {
    pub(super) fn between(old: &Types, new: &Types) -> Self {
        let records = changed_records(old, new);
        let mut names: BTreeSet<String> = records
            .iter()
            .map(|key| display(key, &old.records))
            .collect();
        names.extend(changed_enums(old, new));
        Self {
            records,
            names: names.into_iter().collect(),
        }
    }

    fn contains_any(&self, embedded: &BTreeSet<TypeKey>) -> bool {
        embedded.iter().any(|key| self.records.contains(key))
    }

    /// Whether a variable's type differs: by itself, or because it holds a
    /// changed record by value.
    pub(super) fn variable_differs(&self, old: &Variable, new: &Variable) -> bool {
        old.signature != new.signature || self.contains_any(&old.embeds)
    }

    /// Whether return or parameter types differ, or a changed record goes by
    /// value.
    pub(super) fn prototype_differs(&self, old: &Prototype, new: &Prototype) -> bool {
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

/// What a layout is compared by: size and members. What is embedded is compared
/// on its own, and a declaring file that moved is no change.
fn shape(layouts: &BTreeSet<Layout>) -> BTreeSet<(u64, &[crate::binary::dwarf::Member])> {
    layouts
        .iter()
        .map(|layout| (layout.size, layout.members.as_slice()))
        .collect()
}

fn changed_records(old: &Types, new: &Types) -> BTreeSet<TypeKey> {
    let new_named = by_name(&new.records);
    let mut changed = BTreeSet::new();
    for ((tag, name), definitions) in by_name(&old.records) {
        let Some(others) = new_named.get(&(tag, name)) else {
            changed.extend(definitions.keys().map(|key| (*key).clone()));
            continue;
        };
        let alone = definitions.len() == 1 && others.len() == 1;
        for (key, layouts) in definitions {
            let counterpart = if alone {
                others.values().next()
            } else {
                others.get(key)
            };
            let same = match counterpart {
                Some(other) => shape(layouts) == shape(other),
                // The declaring file is gone: any equal definition will do.
                None => others.values().any(|other| shape(layouts) == shape(other)),
            };
            if !same {
                changed.insert(key.clone());
            }
        }
    }
    loop {
        let more: Vec<TypeKey> = old
            .records
            .iter()
            .filter(|(key, layouts)| {
                !changed.contains(*key)
                    && layouts
                        .iter()
                        .any(|layout| layout.embeds.iter().any(|key| changed.contains(key)))
            })
            .map(|(key, _)| key.clone())
            .collect();
        if more.is_empty() {
            return changed;
        }
        changed.extend(more);
    }
}

/// Enums of which an existing enumerator got another value or went away.
fn changed_enums(old: &Types, new: &Types) -> Vec<String> {
    let new_named = by_name(&new.enums);
    let mut changed = Vec::new();
    for ((tag, name), definitions) in by_name(&old.enums) {
        for (key, enumerators) in definitions {
            let others = new_named.get(&(tag, name));
            let kept = enumerators.iter().all(|(enumerator, value)| {
                others.is_some_and(|others| {
                    others
                        .values()
                        .any(|other| other.get(enumerator) == Some(value))
                })
            });
            if !kept {
                changed.push(display(key, &old.enums));
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::dwarf::Member;

    fn key(name: &str, file: &str) -> TypeKey {
        TypeKey {
            tag: "struct".to_owned(),
            name: name.to_owned(),
            file: file.to_owned(),
        }
    }

    fn record(types: &mut Types, key: &TypeKey, size: u64, embeds: &[&TypeKey]) {
        types
            .records
            .entry(key.clone())
            .or_default()
            .insert(Layout {
                size,
                members: vec![Member {
                    name: "m".to_owned(),
                    offset: 0,
                    bit_offset: None,
                    bit_size: None,
                    signature: "int/4".to_owned(),
                }],
                embeds: embeds.iter().map(|k| (*k).clone()).collect(),
            });
    }

    #[test]
    fn embedding_a_changed_record_is_a_change_but_moving_a_declaration_is_not() {
        let (inner, outer, moved) = (key("inner", "a.h"), key("outer", "a.h"), key("m", "a.h"));
        let (mut old, mut new) = (Types::default(), Types::default());
        record(&mut old, &inner, 4, &[]);
        record(&mut old, &outer, 8, &[&inner]);
        record(&mut old, &moved, 8, &[]);
        record(&mut new, &inner, 16, &[]);
        record(&mut new, &outer, 8, &[&inner]);
        record(&mut new, &key("m", "b.h"), 8, &[]);
        let changed = ChangedTypes::between(&old, &new);
        assert_eq!(changed.names, ["struct inner", "struct outer"]);
    }

    #[test]
    fn names_defined_twice_are_compared_by_file() {
        let (mut old, mut new) = (Types::default(), Types::default());
        for types in [&mut old, &mut new] {
            record(types, &key("s", "a.c"), 4, &[]);
        }
        record(&mut old, &key("s", "b.c"), 8, &[]);
        record(&mut new, &key("s", "b.c"), 12, &[]);
        let changed = ChangedTypes::between(&old, &new);
        assert_eq!(changed.names, ["struct s (b.c)"]);
    }

    #[test]
    fn an_added_enumerator_is_no_change() {
        let (mut old, mut new) = (Types::default(), Types::default());
        let name = TypeKey {
            tag: "enum".to_owned(),
            ..key("e", "a.h")
        };
        old.enums
            .insert(name.clone(), BTreeMap::from([("A".to_owned(), 0)]));
        new.enums.insert(
            name.clone(),
            BTreeMap::from([("A".to_owned(), 0), ("B".to_owned(), 1)]),
        );
        assert!(ChangedTypes::between(&old, &new).names.is_empty());
        new.enums
            .insert(name, BTreeMap::from([("A".to_owned(), 1)]));
        assert_eq!(ChangedTypes::between(&old, &new).names, ["enum e"]);
    }
}
