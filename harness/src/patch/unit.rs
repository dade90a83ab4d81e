//! One relocatable object of a build, cut into items: sections that hold one
//! function or data object each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile64, ElfSection64, SectionHeader};
use object::{
    Endianness, Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget,
    SectionFlags, SectionKind, SymbolKind, SymbolSection, elf,
};

use super::PatchError;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Function,
    Data,
    ThreadLocal,
}

/// A section that symbols name.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) kind: ItemKind,
    /// Name that two versions share: numeric suffixes of function-local statics
    /// are replaced by the functions that use them (`f.counter`).
    pub(crate) name: String,
    /// The symbol that stands for the item.
    pub(crate) symbol: usize,
    pub(crate) global: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Relocation {
    pub(crate) offset: u64,
    pub(crate) kind: elf::RelocationType,
    pub(crate) symbol: usize,
    pub(crate) addend: i64,
}

impl Relocation {
    /// Width in bytes of the field that the linker fills.
    pub(crate) fn width(&self) -> usize {
        match self.kind {
            elf::R_X86_64_64 | elf::R_X86_64_PC64 | elf::R_X86_64_TPOFF64 => 8,
            elf::R_X86_64_16 | elf::R_X86_64_PC16 => 2,
            elf::R_X86_64_8 | elf::R_X86_64_PC8 => 1,
            _ => 4,
        }
    }

    /// Whether the field holds a distance from itself.
    pub(crate) fn is_relative(&self) -> bool {
        self.kind == elf::R_X86_64_PC32 || self.kind == elf::R_X86_64_PLT32 || self.is_got()
    }

    /// Whether the instruction loads the address from the offset table.
    pub(crate) fn is_got(&self) -> bool {
        [
            elf::R_X86_64_GOTPCREL,
            elf::R_X86_64_GOTPCRELX,
            elf::R_X86_64_REX_GOTPCRELX,
        ]
        .contains(&self.kind)
    }

    pub(crate) fn is_thread_local(&self) -> bool {
        [
            elf::R_X86_64_TPOFF32,
            elf::R_X86_64_TPOFF64,
            elf::R_X86_64_GOTTPOFF,
        ]
        .contains(&self.kind)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: String,
    pub(crate) alloc: bool,
    pub(crate) executable: bool,
    /// Whether the process may write it; data that is read-only after
    /// relocation counts as read-only.
    pub(crate) writable: bool,
    /// Entry size of a mergeable section.
    pub(crate) merge: Option<usize>,
    pub(crate) strings: bool,
    pub(crate) zeroed: bool,
    pub(crate) align: u64,
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
    pub(crate) relocations: Vec<Relocation>,
    pub(crate) item: Option<Item>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Undefined,
    Absolute,
    Section(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) kind: SymbolKind,
    pub(crate) global: bool,
    pub(crate) weak: bool,
}

/// A relocatable object.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Source file, relative to the source tree.
    pub(crate) source: String,
    pub(crate) path: PathBuf,
    pub(crate) sections: Vec<Section>,
    pub(crate) symbols: Vec<Symbol>,
}

impl Unit {
    pub(crate) fn read(source: &str, path: &Path) -> Result<Self, PatchError> {
        let bytes = std::fs::read(path).map_err(|source| PatchError::File {
            path: path.to_owned(),
            source,
        })?;
        let broken = |source| PatchError::Object {
            path: path.to_owned(),
            source,
        };
        let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).map_err(broken)?;
        let mut unit = Self {
            source: source.to_owned(),
            path: path.to_owned(),
            sections: Vec::new(),
            symbols: Vec::new(),
        };
        for section in file.sections() {
            let read = read_section(&section, file.endian()).map_err(broken)?;
            *slot(&mut unit.sections, section.index().0, Section::default) = read;
        }
        for symbol in file.symbols() {
            let read = Symbol {
                name: symbol.name().unwrap_or("").to_owned(),
                value: symbol.address(),
                size: symbol.size(),
                place: match symbol.section() {
                    SymbolSection::Section(index) => Place::Section(index.0),
                    SymbolSection::Absolute => Place::Absolute,
                    _ => Place::Undefined,
                },
                kind: symbol.kind(),
                global: !symbol.is_local(),
                weak: symbol.is_weak(),
            };
            *slot(&mut unit.symbols, symbol.index().0, || Symbol {
                name: String::new(),
                value: 0,
                size: 0,
                place: Place::Undefined,
                kind: SymbolKind::Unknown,
                global: false,
                weak: false,
            }) = read;
        }
        unit.find_items();
        Ok(unit)
    }

    /// Sections that hold an item, with the item.
    pub(crate) fn items(&self) -> impl Iterator<Item = (usize, &Item)> {
        self.sections
            .iter()
            .enumerate()
            .filter_map(|(index, section)| section.item.as_ref().map(|item| (index, item)))
    }

    pub(crate) fn item(&self, section: usize) -> Option<&Item> {
        self.sections.get(section)?.item.as_ref()
    }

    /// Name of what a section holds, for messages.
    pub(crate) fn place_name(&self, section: usize) -> &str {
        match self.sections.get(section) {
            Some(Section {
                item: Some(item), ..
            }) => &item.name,
            Some(section) => &section.name,
            None => "?",
        }
    }

    fn find_items(&mut self) {
        let mut named: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, symbol) in self.symbols.iter().enumerate() {
            let Place::Section(section) = symbol.place else {
                continue;
            };
            let counts = matches!(
                symbol.kind,
                SymbolKind::Text | SymbolKind::Data | SymbolKind::Tls
            ) && self.sections[section].alloc
                && !is_part(&symbol.name);
            if counts {
                named.entry(section).or_default().push(index);
            }
        }
        for (section, symbols) in &named {
            let Some(first) = symbols.iter().min_by_key(|index| {
                let symbol = &self.symbols[**index];
                (symbol.value, !symbol.global, symbol.weak, **index)
            }) else {
                continue;
            };
            let symbol = &self.symbols[*first];
            self.sections[*section].item = Some(Item {
                kind: match symbol.kind {
                    SymbolKind::Text => ItemKind::Function,
                    SymbolKind::Tls => ItemKind::ThreadLocal,
                    _ => ItemKind::Data,
                },
                name: symbol.name.clone(),
                symbol: *first,
                global: symbols.iter().any(|s| self.symbols[*s].global),
            });
        }
        self.name_statics();
    }

    /// Gives numbered static objects the names of the functions that use them;
    /// what remains equal is told apart by its order.
    fn name_statics(&mut self) {
        let mut users: HashMap<usize, BTreeSet<String>> = HashMap::new();
        for section in self.sections.iter().filter(|s| s.executable) {
            let user = match &section.item {
                Some(item) => item.name.clone(),
                None => continue,
            };
            for relocation in &section.relocations {
                if let Some(Place::Section(target)) =
                    self.symbols.get(relocation.symbol).map(|s| s.place)
                {
                    users.entry(target).or_default().insert(user.clone());
                }
            }
        }
        let mut seen: HashMap<String, usize> = HashMap::new();
        for (index, section) in self.sections.iter_mut().enumerate() {
            let Some(item) = &mut section.item else {
                continue;
            };
            if item.kind != ItemKind::Function
                && !item.global
                && let Some(base) = without_number(&item.name)
            {
                let users: Vec<_> = users.remove(&index).into_iter().flatten().collect();
                item.name = if users.is_empty() {
                    base.to_owned()
                } else {
                    format!("{}.{base}", users.join("+"))
                };
            }
            let count = seen.entry(item.name.clone()).or_default();
            *count += 1;
            if *count > 1 {
                item.name = format!("{}#{count}", item.name);
            }
        }
    }
}

fn slot<T: Clone>(list: &mut Vec<T>, index: usize, filler: impl FnMut() -> T) -> &mut T {
    if list.len() <= index {
        list.resize_with(index + 1, filler);
    }
    &mut list[index]
}

/// Code that the compiler split off a function; it belongs to that function and
/// is not a function of its own.
fn is_part(name: &str) -> bool {
    name.ends_with(".cold") || name.contains(".cold.")
}

/// `counter` of `counter.12`.
fn without_number(name: &str) -> Option<&str> {
    let (base, number) = name.rsplit_once('.')?;
    (!base.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
        .then_some(base)
}

fn read_section(
    section: &ElfSection64<'_, '_, Endianness>,
    endian: Endianness,
) -> object::Result<Section> {
    let header = section.elf_section_header();
    let name = section.name()?.to_owned();
    let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
        return Ok(Section::default());
    };
    let alloc = sh_flags.contains(elf::SHF_ALLOC);
    if !alloc {
        return Ok(Section {
            name,
            ..Section::default()
        });
    }
    let mut relocations = Vec::new();
    for (offset, relocation) in section.relocations() {
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            continue;
        };
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            continue;
        };
        relocations.push(Relocation {
            offset,
            kind: r_type,
            symbol: symbol.0,
            addend: relocation.addend(),
        });
    }
    relocations.sort_by_key(|r| r.offset);
    let zeroed = matches!(
        section.kind(),
        SectionKind::UninitializedData | SectionKind::UninitializedTls
    );
    Ok(Section {
        alloc,
        executable: sh_flags.contains(elf::SHF_EXECINSTR),
        writable: sh_flags.contains(elf::SHF_WRITE) && !name.starts_with(".data.rel.ro"),
        merge: sh_flags.contains(elf::SHF_MERGE).then(|| {
            usize::try_from(header.sh_entsize(endian))
                .unwrap_or(1)
                .max(1)
        }),
        strings: sh_flags.contains(elf::SHF_STRINGS),
        zeroed,
        align: section.align().max(1),
        size: section.size(),
        bytes: if zeroed {
            Vec::new()
        } else {
            section.data()?.to_vec()
        },
        relocations,
        item: None,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::{is_part, without_number};

    #[test]
    fn numbers_of_statics_are_cut() {
        assert_eq!(without_number("counter.12"), Some("counter"));
        assert_eq!(without_number("counter"), None);
        assert_eq!(without_number("a.b"), None);
    }

    #[test]
    fn split_off_code_is_no_function() {
        assert!(is_part("f.cold"));
        assert!(!is_part("f"));
    }
}
