//! Both versions of each changed record as C that needs none of the program's
//! headers, for transformers. Every offset is asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::identifier;
use super::plan::Record;
use crate::binary::dwarf::TypeKey;
use crate::binary::dwarf::graph::{Field, Shape, TypeGraph, TypeId};

/// Prefix of the variable in which a transformer finds the instances of a record.
pub const TABLE: &str = "kairos_table_";

/// One version's records.
struct Version<'a> {
    graph: &'a TypeGraph,
    /// `old` or `new`.
    word: &'static str,
    /// Names of the records that are declared, or are to be.
    names: BTreeMap<TypeId, String>,
    declared: BTreeSet<TypeId>,
    text: String,
    pads: u32,
}

/// Declarations of both versions of the changed records, and for each a function
/// that calls another for all of its converted instances. `keys` are the definitions
/// of `records` in the old version.
#[must_use]
pub fn declarations(
    old: &TypeGraph,
    new: &TypeGraph,
    records: &[Record],
    keys: &[TypeKey],
) -> String {
    let mut text = String::new();
    for (graph, word) in [(old, "old"), (new, "new")] {
        let mut version = Version {
            graph,
            word,
            names: BTreeMap::new(),
            declared: BTreeSet::new(),
            text: String::new(),
            pads: 0,
        };
        let mut wanted = Vec::new();
        for (record, key) in records.iter().zip(keys) {
            if let Some(id) = definition(graph, key) {
                version.names.insert(id, record.identifier.clone());
                wanted.push(id);
            }
        }
        for id in wanted {
            version.declare(id);
        }
        text.push_str(&version.text);
    }
    let pairs = records
        .iter()
        .zip(keys)
        .filter(|(_, key)| definition(old, key).is_some() && definition(new, key).is_some());
    let tags: Vec<(&str, &str)> = pairs
        .map(|(record, key)| (record.identifier.as_str(), tag(key)))
        .collect();
    if !tags.is_empty() {
        text.push_str(
            "struct kairos_instances { void *const (*pairs)[2]; unsigned long count; };\n",
        );
    }
    for (name, tag) in tags {
        _ = writeln!(
            text,
            "static volatile struct kairos_instances {TABLE}{name};\n\
             /* Calls `visit` for every instance that was converted; the old one is a copy\n\
             \x20  or no longer used. */\n\
             static inline __attribute__((unused)) void kairos_each_{name}(\n\
             \x20   void (*visit)({tag} kairos_old_{name} *, {tag} kairos_new_{name} *))\n\
             {{\n\
             \x20   for (unsigned long i = 0; i < {TABLE}{name}.count; i++)\n\
             \x20       visit(({tag} kairos_old_{name} *){TABLE}{name}.pairs[i][0],\n\
             \x20             ({tag} kairos_new_{name} *){TABLE}{name}.pairs[i][1]);\n\
             }}"
        );
    }
    text
}

fn tag(key: &TypeKey) -> &'static str {
    if key.tag == "union" {
        "union"
    } else {
        "struct"
    }
}

/// The record of that name; of that file where several have it.
fn definition(graph: &TypeGraph, key: &TypeKey) -> Option<TypeId> {
    let same = |id: &TypeId| {
        graph
            .key(*id)
            .is_some_and(|other| other.tag == key.tag && other.name == key.name)
    };
    graph
        .records(key)
        .next()
        .or_else(|| (0..graph.types.len()).find(same))
}

impl Version<'_> {
    /// Declares a record after those that it holds.
    fn declare(&mut self, id: TypeId) {
        if !self.declared.insert(id) {
            return;
        }
        let name = self.name(id);
        let body = self.body(id);
        let alignment = self.graph.alignment(id);
        let size = self.graph.size(id);
        _ = writeln!(
            self.text,
            "{name} {{\n{body}}} __attribute__((packed, aligned({alignment})));\n\
             _Static_assert(sizeof({name}) == {size}, \"size\");"
        );
        let fields = self.graph.fields(id);
        for field in fields
            .iter()
            .filter(|f| f.bits.is_none() && !f.name.is_empty())
        {
            _ = writeln!(
                self.text,
                "_Static_assert(__builtin_offsetof({name}, {}) == {}, \"{0}\");",
                field.name, field.offset
            );
        }
    }

    /// `struct kairos_old_entry`.
    fn name(&mut self, id: TypeId) -> String {
        let union = matches!(
            self.graph.get(id).map(|of| &of.shape),
            Some(Shape::Record { union: true, .. })
        );
        let identifier = if let Some(known) = self.names.get(&id) {
            known.clone()
        } else {
            let mut chosen = identifier(&self.graph.spell(id));
            while self.names.values().any(|taken| *taken == chosen) {
                chosen.push('_');
            }
            self.names.insert(id, chosen.clone());
            chosen
        };
        let tag = if union { "union" } else { "struct" };
        format!("{tag} kairos_{}_{identifier}", self.word)
    }

    /// Members, each at its offset.
    fn body(&mut self, id: TypeId) -> String {
        let Some(Shape::Record { union, fields, .. }) = self.graph.get(id).map(|t| t.shape.clone())
        else {
            return String::new();
        };
        let mut text = String::new();
        // In bits.
        let mut at = 0;
        for field in &fields {
            let start = field.bits.map_or(8 * field.offset, |(start, _)| start);
            if !union {
                self.pad(&mut text, at, start, field.bits.is_some());
            }
            let size = match field.bits {
                Some((_, size)) => size,
                None => 8 * self.graph.size(field.of),
            };
            at = start + size;
            _ = writeln!(text, "    {};", self.member(field));
        }
        if !union {
            let flexible = fields.last().is_some_and(|field| {
                matches!(
                    self.graph.get(field.of).map(|of| &of.shape),
                    Some(Shape::Array { count: None, .. })
                )
            });
            if !flexible {
                self.pad(&mut text, at, 8 * self.graph.size(id), false);
            }
        }
        text
    }

    /// Fills what lies between two members.
    fn pad(&mut self, text: &mut String, from: u64, to: u64, bits: bool) {
        let mut from = from;
        if bits {
            while from < to {
                let size = (to - from).min(8 - from % 8);
                _ = writeln!(text, "    unsigned char : {size};");
                from += size;
            }
            return;
        }
        let bytes = (to / 8).saturating_sub(from.div_ceil(8));
        if bytes > 0 {
            self.pads += 1;
            _ = writeln!(text, "    unsigned char kairos_pad_{}[{bytes}];", self.pads);
        }
    }

    fn member(&mut self, field: &Field) -> String {
        let (before, after) = self.spell(field.of);
        let bits = field.bits.map(|(_, size)| format!(" : {size}"));
        format!("{before} {}{after}{}", field.name, bits.unwrap_or_default())
    }

    /// What comes before and after a name of that type.
    fn spell(&mut self, of: TypeId) -> (String, String) {
        let size = self.graph.size(of);
        match self.graph.get(of).map(|of| of.shape.clone()) {
            Some(Shape::Scalar { name, .. }) if !name.starts_with("enum") => {
                match name.strip_prefix("typedef ") {
                    None => (name, String::new()),
                    // The name of an anonymous enum.
                    Some(_) => (integer(size), String::new()),
                }
            }
            Some(Shape::Scalar { .. }) => (integer(size), String::new()),
            Some(Shape::Pointer(Some(target))) => match self.pointed(target) {
                Some(target) => (format!("{target} *"), String::new()),
                None => ("void *".to_owned(), String::new()),
            },
            Some(Shape::Array { element, count }) => {
                let (before, after) = self.spell(element);
                let count = count.map_or_else(String::new, |count| count.to_string());
                (before, format!("[{count}]{after}"))
            }
            Some(Shape::Record { key: Some(_), .. }) => {
                self.declare(of);
                (self.name(of), String::new())
            }
            Some(Shape::Record { union, .. }) => {
                let tag = if union { "union" } else { "struct" };
                let body = self.body(of);
                (
                    format!("{tag} {{\n{body}    }} __attribute__((packed))"),
                    String::new(),
                )
            }
            Some(Shape::Pointer(None)) => ("void *".to_owned(), String::new()),
            Some(Shape::Code { .. } | Shape::Unknown { .. }) | None => (
                format!("unsigned char kairos_unknown_{of}[{size}]"),
                String::new(),
            ),
        }
    }

    /// What a pointer points to, if the header says it: a number, or a record that is
    /// declared here.
    fn pointed(&mut self, target: TypeId) -> Option<String> {
        match self.graph.get(target).map(|of| of.shape.clone())? {
            Shape::Scalar { name, .. } => {
                let plain = !name.starts_with("enum") && !name.starts_with("typedef");
                plain.then_some(name)
            }
            Shape::Pointer(Some(inner)) => Some(format!("{} *", self.pointed(inner)?)),
            Shape::Record { key: Some(_), .. } if self.names.contains_key(&target) => {
                Some(self.name(target))
            }
            _ => None,
        }
    }
}

fn integer(size: u64) -> String {
    match size {
        1 => "signed char",
        2 => "short",
        8 => "long",
        _ => "int",
    }
    .to_owned()
}
