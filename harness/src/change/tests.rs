//! Comparison of types made up for tests.

use super::*;
use crate::binary::dwarf::{Layout, Member};

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
            align: 4,
            is_union: false,
            members: vec![Member {
                name: "m".to_owned(),
                offset: 0,
                bit_offset: None,
                bit_size: None,
                size: 4,
                align: 4,
                signature: "int/4".to_owned(),
                inner: Vec::new(),
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
    let changed = Changes::between(&old, &new);
    assert_eq!(changed.type_names(), ["struct inner", "struct outer"]);
}

#[test]
fn names_defined_twice_are_compared_by_file() {
    let (mut old, mut new) = (Types::default(), Types::default());
    for types in [&mut old, &mut new] {
        record(types, &key("s", "a.c"), 4, &[]);
    }
    record(&mut old, &key("s", "b.c"), 8, &[]);
    record(&mut new, &key("s", "b.c"), 12, &[]);
    let changed = Changes::between(&old, &new);
    assert_eq!(changed.type_names(), ["struct s (b.c)"]);
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
    assert!(Changes::between(&old, &new).type_names().is_empty());
    new.enums
        .insert(name, BTreeMap::from([("A".to_owned(), 1)]));
    assert_eq!(Changes::between(&old, &new).type_names(), ["enum e"]);
}
