//! The pair's state transformer: compiled against a generated header and linked
//! into the image, with every name of either version in reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::PatchError;
use super::compare::Fate;
use super::resolve::{Link, Resolver};
use super::unit::{ItemKind, Place, Relocation, Unit};
use super::version::{ItemId, Version};
use crate::binary::dwarf::Variable;

/// Compiles a source file, with these include directories, to this object file;
/// the error is what the compiler said.
pub type Compile<'a> = dyn Fn(&Path, &[PathBuf], &Path) -> Result<(), String> + 'a;

/// The state transformer of a pair.
pub struct Transformer<'a> {
    /// `transform.c`.
    pub source: &'a Path,
    /// How to compile it.
    pub compile: &'a Compile<'a>,
}

/// Name of the function that the loader calls.
pub(super) const ENTRY: &str = "kairos_transform";

/// Name of the generated header.
const HEADER: &str = "kairos_transform.h";

/// The compiled transformer.
pub(super) struct Transform {
    pub(super) unit: Unit,
    /// Section and offset of the function that the loader calls.
    pub(super) entry: (usize, u64),
    names: BTreeMap<String, Vec<Link>>,
}

impl Transform {
    pub(super) fn compile(
        transformer: &Transformer<'_>,
        resolver: &Resolver<'_>,
        types: &str,
        folder: &Path,
    ) -> Result<Self, PatchError> {
        let states = states(resolver);
        let header = folder.join(HEADER);
        std::fs::write(&header, header_text(&states, types)).map_err(|source| {
            PatchError::File {
                path: header.clone(),
                source,
            }
        })?;
        let object = folder.join("transform.o");
        (transformer.compile)(transformer.source, &[folder.to_owned()], &object).map_err(
            |message| PatchError::Transformer {
                path: transformer.source.to_owned(),
                message,
            },
        )?;
        let unit = Unit::read(&transformer.source.to_string_lossy(), &object)?;
        let entry = unit
            .symbols
            .iter()
            .find_map(|symbol| match symbol.place {
                Place::Section(section) if symbol.name == ENTRY => Some((section, symbol.value)),
                _ => None,
            })
            .ok_or_else(|| PatchError::NoTransform {
                path: transformer.source.to_owned(),
            })?;
        let mut names: BTreeMap<String, Vec<Link>> = BTreeMap::new();
        for state in states {
            let identifier = &state.identifier;
            for (prefix, link) in [("kairos_old_", state.old), ("kairos_new_", state.new)] {
                if let Some((_, link)) = link {
                    names
                        .entry(format!("{prefix}{identifier}"))
                        .or_default()
                        .push(link);
                }
            }
        }
        Ok(Self { unit, entry, names })
    }

    /// Section and offset of a variable of the transformer, if its code uses it.
    pub(super) fn variable(&self, name: &str) -> Option<(usize, u64)> {
        let mut symbols = self.unit.symbols.iter();
        let (section, offset) = symbols.find_map(|symbol| match symbol.place {
            Place::Section(section) if symbol.name == name => Some((section, symbol.value)),
            _ => None,
        })?;
        let refers = |relocation: &Relocation| {
            self.unit.symbols[relocation.symbol].place == Place::Section(section)
        };
        self.sections()
            .flat_map(|number| &self.unit.sections[number].relocations)
            .any(refers)
            .then_some((section, offset))
    }

    /// Sections that go into the image.
    pub(super) fn sections(&self) -> impl Iterator<Item = usize> + '_ {
        self.unit
            .sections
            .iter()
            .enumerate()
            .filter(|(_, section)| {
                let dropped = [".eh_frame", ".note", "__patchable_function_entries"];
                section.alloc
                    && section.size > 0
                    && !dropped.iter().any(|name| section.name.starts_with(name))
            })
            .map(|(index, _)| index)
    }

    /// Resolves a relocation of the transformer; `index` is the number by which
    /// its own sections go.
    pub(super) fn link(
        &self,
        index: usize,
        relocation: &Relocation,
        resolver: &Resolver<'_>,
    ) -> Result<Link, PatchError> {
        let symbol = &self.unit.symbols[relocation.symbol];
        match symbol.place {
            Place::Section(section) => Ok(Link::Image {
                unit: index,
                section,
                value: symbol.value,
            }),
            Place::Absolute => Ok(Link::Absolute(symbol.value)),
            Place::Undefined => match self.names.get(&symbol.name).map(Vec::as_slice) {
                Some([only]) => Ok(only.clone()),
                Some(_) => Err(PatchError::Ambiguous {
                    name: symbol.name.clone(),
                    candidates: "several files or functions".to_owned(),
                }),
                None => by_name(resolver, &symbol.name, symbol.weak),
            },
        }
    }

    /// Library symbols that the transformer uses.
    pub(super) fn imports(&self, resolver: &Resolver<'_>) -> Result<Vec<String>, PatchError> {
        let mut imports = BTreeSet::new();
        for section in self.sections() {
            for relocation in &self.unit.sections[section].relocations {
                if let Link::Library { name, .. } = self.link(0, relocation, resolver)? {
                    imports.insert(name);
                }
            }
        }
        Ok(imports.into_iter().collect())
    }
}

/// A name in the transformer: the new version's item, the old version's where
/// only that has one, or something of a library.
fn by_name(resolver: &Resolver<'_>, name: &str, weak: bool) -> Result<Link, PatchError> {
    let new = named_items(resolver.new, name)?;
    if let Some(link) = new.and_then(|id| resolver.whole_item(id)) {
        return Ok(link);
    }
    let old = named_items(resolver.old, name)?;
    if let Some(address) = old.and_then(|id| resolver.old.address(id)) {
        return Ok(Link::Absolute(address.0));
    }
    Ok(resolver.outside(name, weak))
}

fn named_items(version: &Version, name: &str) -> Result<Option<ItemId>, PatchError> {
    if let Some((id, 0)) = version.global(name) {
        return Ok(Some(id));
    }
    // A function-local static is written FUNCTION_NAME.
    let found: Vec<ItemId> = version
        .items()
        .filter(|id| identifier(version.name(*id)) == name)
        .collect();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(*only)),
        several => Err(PatchError::Ambiguous {
            name: name.to_owned(),
            candidates: several
                .iter()
                .map(|id| version.unit(*id).source.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// A data object that the update touches, as the transformer sees it.
struct State {
    identifier: String,
    old: Option<(String, Link)>,
    new: Option<(String, Link)>,
}

fn states(resolver: &Resolver<'_>) -> Vec<State> {
    let mut states = Vec::new();
    for (id, matched) in &resolver.comparison.items {
        let is_data = resolver.new.kind(*id) == ItemKind::Data;
        if !is_data || matched.fate == Fate::Keep {
            continue;
        }
        let identifier = identifier(resolver.new.name(*id));
        let old = matched.old.and_then(|old| {
            let address = resolver.old.address(old)?;
            let name = format!("kairos_old_{identifier}");
            Some((
                declaration(resolver.old, old, &name),
                Link::Absolute(address.0),
            ))
        });
        let name = format!("kairos_new_{identifier}");
        let image = Link::Image {
            unit: id.unit,
            section: id.section,
            value: 0,
        };
        let new = Some((declaration(resolver.new, *id, &name), image));
        states.push(State {
            identifier,
            old,
            new,
        });
    }
    states
}

fn header_text(states: &[State], types: &str) -> String {
    let mut text = String::from(
        "/* Generated by Kairos: both versions of each data object that the update moves or\n\
         \x20  reinitialises. Where kairos_old_NAME is kept in place, kairos_new_NAME holds its new\n\
         \x20  initial value. */\n#ifndef KAIROS_TRANSFORM_H\n#define KAIROS_TRANSFORM_H\n\
         void kairos_transform(void);\n",
    );
    text.push_str(types);
    let mut seen = BTreeSet::new();
    for state in states {
        for (declaration, _) in [&state.old, &state.new].into_iter().flatten() {
            if seen.insert(declaration) {
                _ = writeln!(text, "extern {declaration};");
            }
        }
    }
    text.push_str("#endif\n");
    text
}

/// C declaration of an object: typed where the type needs no header.
fn declaration(version: &Version, id: ItemId, name: &str) -> String {
    let size = version.section(id).size;
    let variable: Option<&Variable> = version
        .address(id)
        .and_then(|address| version.program.types().variable_at(address));
    match variable {
        Some(Variable {
            plain: Some(plain),
            size: Some(known),
            ..
        }) if *known == size => {
            format!("{}{name}{}", plain.before, plain.after)
        }
        _ => format!("unsigned char {name}[{size}]"),
    }
}

/// The name as a C identifier.
pub(super) fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::identifier;

    #[test]
    fn statics_become_identifiers() {
        assert_eq!(identifier("handle.count"), "handle_count");
        assert_eq!(identifier("table"), "table");
    }
}
