//! Canonical, comparable spellings of the types of one compilation unit.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use gimli::{DwTag, UnitRef, constants as c};

use super::entry::{Entries, Entry};
use super::{
    Bytes, FunctionType, Layout, Member, Parameter, Prototype, SourcePlace, TypeKey, Types,
    Variable,
};
use crate::binary::names::relative_source;
use crate::binary::{Address, FunctionName};

/// Canonical spelling of a type and the records that a value of it contains.
#[derive(Clone, Default)]
struct Signature {
    text: String,
    by_value: BTreeSet<TypeKey>,
}

pub(super) struct UnitTypes {
    pub(super) entries: Entries,
    /// Declaring files by their index in the line table.
    files: Vec<String>,
    /// Anonymous records and enums by the typedef that names them.
    typedef_names: HashMap<usize, String>,
    memo: RefCell<HashMap<usize, Signature>>,
}

pub(super) fn read_unit(
    dwarf: &gimli::Dwarf<Bytes<'_>>,
    header: gimli::UnitHeader<Bytes<'_>>,
) -> gimli::Result<Types> {
    let unit = dwarf.unit(header)?;
    let unit = unit.unit_ref(dwarf);
    Ok(UnitTypes::read(unit)?.collect(&unit_file(unit)))
}

fn typedef_names(entries: &Entries) -> HashMap<usize, String> {
    let mut typedef_names = HashMap::new();
    for entry in &entries.list {
        if entry.tag != c::DW_TAG_typedef {
            continue;
        }
        let Some(target) = entry.type_offset.and_then(|o| entries.at_offset(o)) else {
            continue;
        };
        if entries.list[target].name.is_none()
            && is_named_kind(entries.list[target].tag)
            && let Some(name) = &entry.name
        {
            typedef_names.entry(target).or_insert_with(|| name.clone());
        }
    }
    typedef_names
}

fn is_named_kind(tag: DwTag) -> bool {
    matches!(
        tag,
        c::DW_TAG_structure_type | c::DW_TAG_union_type | c::DW_TAG_enumeration_type
    )
}

/// Members with their places, as part of a nameless record's spelling.
fn spell_members(members: &[Member]) -> String {
    let mut text = String::new();
    for member in members {
        let Member {
            name,
            offset,
            signature,
            ..
        } = member;
        _ = write!(text, "{signature} {name}@{offset}");
        if let Some(bits) = member.bit_size {
            _ = write!(text, ".{}:{bits}", member.bit_offset.unwrap_or(0));
        }
        text.push(';');
    }
    text
}

pub(super) fn unit_file(unit: UnitRef<'_, Bytes<'_>>) -> String {
    let text = |bytes: Option<Bytes<'_>>| {
        bytes
            .map(|b| b.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    relative_source(&text(unit.comp_dir), &text(unit.name))
}

pub(crate) fn declaring_files(unit: UnitRef<'_, Bytes<'_>>) -> gimli::Result<Vec<String>> {
    let Some(program) = &unit.line_program else {
        return Ok(Vec::new());
    };
    let header = program.header();
    let directory = unit
        .comp_dir
        .map(|b| b.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut files = Vec::new();
    let mut index = 0;
    // Before DWARF 5 the numbering starts at 1, with 0 for "none".
    let last = header.file_names().len() + usize::from(header.version() < 5);
    while index < last {
        files.push(match header.file(index as u64) {
            Some(file) => {
                let name = unit.attr_string(file.path_name())?;
                let folder = match file.directory(header) {
                    Some(folder) => unit.attr_string(folder)?.to_string_lossy().into_owned(),
                    None => directory.clone(),
                };
                let folder = if folder.starts_with('/') {
                    folder
                } else {
                    format!("{directory}/{folder}")
                };
                relative_source(&folder, &name.to_string_lossy())
            }
            None => String::new(),
        });
        index += 1;
    }
    Ok(files)
}

impl UnitTypes {
    pub(super) fn read(unit: UnitRef<'_, Bytes<'_>>) -> gimli::Result<Self> {
        let entries = Entries::read(unit)?;
        Ok(Self {
            files: declaring_files(unit)?,
            typedef_names: typedef_names(&entries),
            memo: RefCell::default(),
            entries,
        })
    }

    fn collect(&self, file: &str) -> Types {
        let mut found = Types::default();
        found.files.insert(file.to_owned());
        for (index, entry) in self.entries.list.iter().enumerate() {
            match entry.tag {
                c::DW_TAG_structure_type | c::DW_TAG_union_type if !entry.declaration => {
                    if let Some(key) = self.key(index) {
                        let layout = self.layout(index);
                        found.records.entry(key).or_default().insert(layout);
                    }
                }
                c::DW_TAG_enumeration_type if !entry.declaration => {
                    let key = self.key(index).unwrap_or_else(|| TypeKey {
                        tag: "enum".to_owned(),
                        name: String::new(),
                        file: self.file(entry),
                    });
                    found
                        .enums
                        .entry(key)
                        .or_default()
                        .extend(self.enumerators(entry));
                }
                c::DW_TAG_typedef => {
                    if let Some((key, meaning)) = self.typedef(index) {
                        found.typedefs.entry(key).or_default().insert(meaning);
                    }
                }
                c::DW_TAG_variable => found.variables.extend(self.variable(index, file)),
                c::DW_TAG_subprogram => found.functions.extend(self.function(index, file)),
                _ => {}
            }
        }
        found
    }

    fn file(&self, entry: &Entry) -> String {
        entry
            .file_index
            .and_then(|i| self.files.get(usize::try_from(i).ok()?))
            .cloned()
            .unwrap_or_default()
    }

    pub(super) fn key(&self, index: usize) -> Option<TypeKey> {
        let entry = &self.entries.list[index];
        let (tag, name) = match (&entry.name, self.typedef_names.get(&index)) {
            (Some(name), _) => {
                let tag = match entry.tag {
                    c::DW_TAG_structure_type => "struct",
                    c::DW_TAG_union_type => "union",
                    _ => "enum",
                };
                (tag, name)
            }
            (None, Some(typedef)) => ("typedef", typedef),
            (None, None) => return None,
        };
        Some(TypeKey {
            tag: tag.to_owned(),
            name: name.clone(),
            file: self.file(entry),
        })
    }

    fn enumerators<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = (String, i64)> + 'a {
        entry.children.iter().filter_map(|child| {
            let child = &self.entries.list[*child];
            Some((child.name.clone()?, child.value?))
        })
    }

    pub(super) fn layout(&self, index: usize) -> Layout {
        let entry = &self.entries.list[index];
        let mut layout = Layout {
            size: entry.byte_size.unwrap_or(0),
            align: self.align(index),
            is_union: entry.tag == c::DW_TAG_union_type,
            members: Vec::new(),
            embeds: BTreeSet::new(),
        };
        for child in &entry.children {
            let member = &self.entries.list[*child];
            if member.tag != c::DW_TAG_member {
                continue;
            }
            let signature = self.signature(self.entries.type_of(*child));
            layout.embeds.extend(signature.by_value);
            layout.members.push(Member {
                name: member.name.clone().unwrap_or_default(),
                offset: member.member_offset.unwrap_or(0),
                bit_offset: member.bit_offset,
                bit_size: member.bit_size,
                size: self
                    .entries
                    .type_of(*child)
                    .and_then(|member_type| self.size(member_type))
                    .unwrap_or(0),
                align: self.align(*child),
                signature: signature.text,
                inner: self.nameless_members(*child),
            });
        }
        layout
    }

    /// Members of the nameless record that the type of `index` is.
    fn nameless_members(&self, index: usize) -> Vec<Member> {
        let Some(target) = self.entries.type_of(index) else {
            return Vec::new();
        };
        match self.entries.list[target].tag {
            c::DW_TAG_structure_type | c::DW_TAG_union_type if self.key(target).is_none() => {
                self.layout(target).members
            }
            c::DW_TAG_array_type | c::DW_TAG_const_type | c::DW_TAG_volatile_type => {
                self.nameless_members(target)
            }
            _ => Vec::new(),
        }
    }

    fn typedef(&self, index: usize) -> Option<(TypeKey, String)> {
        let entry = &self.entries.list[index];
        let name = entry.name.clone()?;
        let target = self.entries.type_of(index);
        let names_it = target.is_some_and(|t| {
            self.entries.list[t].name.is_none() && is_named_kind(self.entries.list[t].tag)
        });
        (!names_it).then(|| {
            let key = TypeKey {
                tag: "typedef".to_owned(),
                name,
                file: self.file(entry),
            };
            (key, self.signature(target).text)
        })
    }

    fn variable(&self, index: usize, file: &str) -> Option<Variable> {
        let entry = &self.entries.list[index];
        let address = entry.address?;
        let name = self.entries.name_of(index)?.to_owned();
        let type_index = self.entries.type_of(index);
        let signature = self.signature(type_index);
        Some(Variable {
            name,
            function: self.enclosing_function(index),
            file: file.to_owned(),
            external: self.entries.is_external(index),
            address: Address(address),
            size: type_index.and_then(|t| self.size(t)),
            signature: signature.text,
            embeds: signature.by_value,
            plain: type_index.and_then(|t| self.plain(t)),
        })
    }

    pub(super) fn enclosing_function(&self, index: usize) -> Option<String> {
        let mut at = self.entries.list[index].parent;
        while let Some(parent) = at {
            if self.entries.list[parent].tag == c::DW_TAG_subprogram {
                return self.entries.name_of(parent).map(str::to_owned);
            }
            at = self.entries.list[parent].parent;
        }
        None
    }

    fn function(&self, index: usize, file: &str) -> Option<FunctionType> {
        let entry = &self.entries.list[index];
        let low = entry.low_pc?;
        let name = self.entries.name_of(index)?.to_owned();
        Some(FunctionType {
            function: FunctionName {
                name,
                file: file.to_owned(),
            },
            entry: Address(low),
            external: self.entries.is_external(index),
            declared: self.declared(index),
            prototype: self.prototype(index),
        })
    }

    /// As [`Self::file`], looked up at the abstract origin or the declaration where
    /// the entry does not say.
    fn declaring_file(&self, index: usize) -> String {
        let entry = &self.entries.list[index];
        match (entry.file_index, entry.origin) {
            (None, Some(origin)) => self
                .entries
                .at_offset(origin)
                .map(|origin| self.declaring_file(origin))
                .unwrap_or_default(),
            _ => self.file(entry),
        }
    }

    /// Where an entry is declared; the body of an inline function says so at its
    /// abstract origin.
    fn declared(&self, index: usize) -> Option<SourcePlace> {
        let entry = self.entries.list.get(index)?;
        match (entry.line, entry.origin) {
            (Some(line), _) => Some(SourcePlace {
                file: self.declaring_file(index),
                line,
                column: entry.column.unwrap_or(0),
            }),
            (None, Some(origin)) => self.declared(self.entries.at_offset(origin)?),
            (None, None) => None,
        }
    }

    fn prototype(&self, index: usize) -> Prototype {
        let result = self.signature(self.entries.type_of(index));
        let mut by_value = result.by_value;
        let mut parameters = Vec::new();
        let mut variadic = false;
        for child in &self.entries.list[index].children {
            match self.entries.list[*child].tag {
                c::DW_TAG_formal_parameter => {
                    let signature = self.signature(self.entries.type_of(*child));
                    by_value.extend(signature.by_value);
                    parameters.push(Parameter {
                        name: self.entries.name_of(*child).unwrap_or_default().to_owned(),
                        signature: signature.text,
                    });
                }
                c::DW_TAG_unspecified_parameters => variadic = true,
                _ => {}
            }
        }
        Prototype {
            result: result.text,
            parameters,
            variadic,
            by_value,
        }
    }

    /// Canonical spelling of a type.
    pub(super) fn spelling(&self, index: usize) -> String {
        self.signature(Some(index)).text
    }

    /// `None` is `void`.
    fn signature(&self, index: Option<usize>) -> Signature {
        let Some(index) = index else {
            return Signature {
                text: "void".to_owned(),
                ..Signature::default()
            };
        };
        if let Some(known) = self.memo.borrow().get(&index) {
            return known.clone();
        }
        // Broken debug information could make a type contain itself.
        self.memo.borrow_mut().insert(
            index,
            Signature {
                text: "recursive".to_owned(),
                ..Signature::default()
            },
        );
        let signature = self.spell(index);
        self.memo.borrow_mut().insert(index, signature.clone());
        signature
    }

    fn spell(&self, index: usize) -> Signature {
        let entry = &self.entries.list[index];
        let inner = || self.signature(self.entries.type_of(index));
        match entry.tag {
            c::DW_TAG_typedef
            | c::DW_TAG_const_type
            | c::DW_TAG_volatile_type
            | c::DW_TAG_restrict_type
            | c::DW_TAG_atomic_type => inner(),
            c::DW_TAG_pointer_type => Signature {
                text: format!("{}*", inner().text),
                by_value: BTreeSet::new(),
            },
            c::DW_TAG_array_type => {
                let mut signature = inner();
                for child in &entry.children {
                    let child = &self.entries.list[*child];
                    if child.tag == c::DW_TAG_subrange_type {
                        match child.count {
                            Some(count) => _ = write!(signature.text, "[{count}]"),
                            None => signature.text.push_str("[]"),
                        }
                    }
                }
                signature
            }
            c::DW_TAG_subroutine_type => {
                let prototype = self.prototype(index);
                let mut parts: Vec<String> = prototype
                    .parameters
                    .into_iter()
                    .map(|p| p.signature)
                    .collect();
                if prototype.variadic {
                    parts.push("...".to_owned());
                }
                Signature {
                    text: format!("({}({}))", prototype.result, parts.join(",")),
                    by_value: BTreeSet::new(),
                }
            }
            c::DW_TAG_structure_type | c::DW_TAG_union_type => self.spell_record(index),
            c::DW_TAG_enumeration_type => Signature {
                text: match self.key(index) {
                    Some(key) => format!("{} {}", key.tag, key.name),
                    // Its enumerators are compared on their own.
                    None => format!("enum/{}", entry.byte_size.unwrap_or(0)),
                },
                by_value: BTreeSet::new(),
            },
            c::DW_TAG_base_type => Signature {
                text: format!(
                    "{}/{}",
                    entry.name.as_deref().unwrap_or("?"),
                    entry.byte_size.unwrap_or(0)
                ),
                by_value: BTreeSet::new(),
            },
            other => Signature {
                text: format!("{other} {}", entry.name.as_deref().unwrap_or("?")),
                by_value: BTreeSet::new(),
            },
        }
    }

    fn spell_record(&self, index: usize) -> Signature {
        if let Some(key) = self.key(index) {
            return Signature {
                text: format!("{} {}", key.tag, key.name),
                by_value: BTreeSet::from([key]),
            };
        }
        // Without a name of any kind the structure itself is the identity.
        let layout = self.layout(index);
        let tag = match self.entries.list[index].tag {
            c::DW_TAG_union_type => "union",
            _ => "struct",
        };
        Signature {
            text: format!(
                "{tag}{{{}}}/{}",
                spell_members(&layout.members),
                layout.size
            ),
            by_value: layout.embeds,
        }
    }
}
