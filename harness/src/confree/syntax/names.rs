//! From what the syntax tree names to what the update changes.

use std::collections::HashMap;

use clang::{Entity, EntityKind, Linkage, StorageClass, Type, TypeKind};

use crate::binary::dwarf::{TypeKey, Types};
use crate::change::{ChangedRecord, Changes};

/// What is looked for in the syntax tree.
pub(super) struct Wanted<'a> {
    records: HashMap<(&'a str, &'a str), Vec<&'a ChangedRecord>>,
    /// How many files define a record of that tag and name.
    definitions: HashMap<(&'a str, &'a str), usize>,
    /// Changed globals and functions by name, with their files.
    globals: HashMap<&'a str, Vec<&'a str>>,
    functions: HashMap<&'a str, Vec<&'a str>>,
    enumerators: HashMap<&'a str, &'a str>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(changes: &'a Changes, types: &'a Types) -> Self {
        let mut wanted = Self {
            records: HashMap::new(),
            definitions: HashMap::new(),
            globals: HashMap::new(),
            functions: HashMap::new(),
            enumerators: HashMap::new(),
        };
        for key in types.records.keys() {
            *wanted.definitions.entry((&key.tag, &key.name)).or_default() += 1;
        }
        for record in &changes.records {
            let name = (record.key.tag.as_str(), record.key.name.as_str());
            wanted.records.entry(name).or_default().push(record);
        }
        for global in &changes.globals {
            let files = wanted.globals.entry(&global.name).or_default();
            files.push(&global.file);
        }
        let prototypes = changes.prototypes.iter().map(|changed| &changed.function);
        let deleted = changes.deleted.iter().map(|deleted| &deleted.function);
        for function in prototypes.chain(deleted) {
            let files = wanted.functions.entry(&function.name).or_default();
            files.push(&function.file);
        }
        for changed in &changes.enums {
            for enumerator in &changed.enumerators {
                wanted.enumerators.insert(&enumerator.name, &changed.name);
            }
        }
        wanted
    }

    /// The changed record of that definition.
    fn record(&self, key: &TypeKey) -> Option<&'a ChangedRecord> {
        let name = (key.tag.as_str(), key.name.as_str());
        let candidates = self.records.get(&name)?;
        let exact = candidates.iter().find(|record| record.key.file == key.file);
        exact.copied().or_else(|| {
            let alone = self.definitions.get(&name).is_none_or(|count| *count == 1);
            candidates.first().copied().filter(|_| alone)
        })
    }

    /// Changed records that a value of `kind` is or, if nameless, lies in;
    /// arrays are looked through.
    pub(super) fn records(
        &self,
        kind: Type<'_>,
        file: &dyn Fn(&str) -> String,
    ) -> Vec<&'a ChangedRecord> {
        let mut kind = kind.get_canonical_type();
        while let Some(element) = kind.get_element_type() {
            kind = element.get_canonical_type();
        }
        if kind.get_kind() != TypeKind::Record {
            return Vec::new();
        }
        let Some(declaration) = kind.get_declaration() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let mut at = Some((declaration, kind));
        while let Some((declaration, kind)) = at {
            match key(declaration, kind, file) {
                Some(key) => {
                    found.extend(self.record(&key));
                    break;
                }
                None => {
                    at = declaration
                        .get_semantic_parent()
                        .filter(|parent| is_record(*parent))
                        .and_then(|parent| Some((parent, parent.get_type()?)));
                }
            }
        }
        found
    }

    /// Changed records that `kind` points to or is an array of.
    pub(super) fn pointees(
        &self,
        kind: Type<'_>,
        file: &dyn Fn(&str) -> String,
    ) -> Vec<&'a ChangedRecord> {
        let kind = kind.get_canonical_type();
        if kind.get_kind() == TypeKind::Pointer {
            return match kind.get_pointee_type() {
                Some(pointee) => self.records(pointee, file),
                None => Vec::new(),
            };
        }
        match kind.get_element_type() {
            Some(element) => self.records(element, file),
            None => Vec::new(),
        }
    }

    /// Whether `entity`, a function called `name` that `source` refers to, changed.
    pub(super) fn function(&self, entity: &Entity<'_>, name: &str, source: &str) -> bool {
        matches(self.functions.get(name), entity, source)
    }

    /// The changed global that a variable is, `function` being where it is named.
    pub(super) fn global(
        &self,
        entity: &Entity<'_>,
        function: &str,
        source: &str,
    ) -> Option<String> {
        let name = entity.get_name()?;
        let local = entity
            .get_semantic_parent()
            .is_some_and(|parent| parent.get_kind() == EntityKind::FunctionDecl);
        let name = if local {
            if entity.get_storage_class() != Some(StorageClass::Static) {
                return None;
            }
            format!("{function}.{name}")
        } else {
            name
        };
        matches(self.globals.get(name.as_str()), entity, source).then_some(name)
    }

    /// The changed enum of an enumerator.
    pub(super) fn enumerator(&self, name: &str) -> Option<&'a str> {
        self.enumerators.get(name).copied()
    }
}

/// Whether one of the files is the entity's: any for one that other files can
/// refer to.
fn matches(files: Option<&Vec<&str>>, entity: &Entity<'_>, source: &str) -> bool {
    files.is_some_and(|files| {
        entity.get_linkage() == Some(Linkage::External) || files.contains(&source)
    })
}

fn is_record(entity: Entity<'_>) -> bool {
    matches!(
        entity.get_kind(),
        EntityKind::StructDecl | EntityKind::UnionDecl
    )
}

fn key(declaration: Entity<'_>, kind: Type<'_>, file: &dyn Fn(&str) -> String) -> Option<TypeKey> {
    let spelling = kind.get_display_name();
    if spelling.contains("(unnamed") || spelling.contains("(anonymous") {
        return None;
    }
    let mut words: Vec<&str> = spelling
        .split_whitespace()
        .filter(|word| !matches!(*word, "const" | "volatile" | "restrict"))
        .collect();
    let name = words.pop()?.to_owned();
    let tag = match words.last() {
        Some(tag) => (*tag).to_owned(),
        None => "typedef".to_owned(),
    };
    let (marker, _, _) = declaration.get_location()?.get_presumed_location();
    Some(TypeKey {
        tag,
        name,
        file: file(&marker),
    })
}

/// Names by which a changed member is known, and the member's own name.
pub(super) fn member_name(field: Entity<'_>) -> String {
    field.get_name().unwrap_or_default()
}
