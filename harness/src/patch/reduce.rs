//! One relocatable object with everything that the image needs and nothing else.
//!
//! Each kept section of the new objects becomes a section of its own, with a
//! label to find it by after linking; each relocation is redirected to where its
//! target will be after the update. The linker then only has to do sums.

use std::collections::{BTreeMap, HashMap};

use object::write::{
    Object, Relocation as NewRelocation, SectionId, Symbol as NewSymbol, SymbolId, SymbolSection,
};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

use super::PatchError;
use super::resolve::Link;
use super::unit::{Item, ItemKind, Relocation, Section, Unit};
use crate::binary::Program;

/// The reduced object, ready to be linked.
#[derive(Debug, Default)]
pub(super) struct Reduced {
    /// The object file.
    pub(super) bytes: Vec<u8>,
    /// Labels of the kept sections.
    pub(super) labels: BTreeMap<(usize, usize), String>,
    /// Labels of words to be filled with a library symbol's address.
    pub(super) slots: Vec<(String, String)>,
    /// Words inside kept sections that are to be filled likewise.
    pub(super) words: Vec<(String, (usize, usize), u64)>,
}

/// Collects sections and relocations.
pub(super) struct Reducer<'a> {
    program: &'a Program,
    object: Object<'static>,
    placed: BTreeMap<(usize, usize), (SectionId, String)>,
    symbols: HashMap<(SectionId, u64), SymbolId>,
    absolutes: HashMap<u64, SymbolId>,
    slots: BTreeMap<String, (SymbolId, String)>,
    stubs: HashMap<String, SymbolId>,
    thread_slots: HashMap<i64, SymbolId>,
    words: Vec<(String, (usize, usize), u64)>,
    data: Option<SectionId>,
    code: Option<SectionId>,
}

impl<'a> Reducer<'a> {
    /// `program` is the old version, whose library links the image shares.
    pub(super) fn new(program: &'a Program) -> Self {
        Self {
            program,
            object: Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little),
            placed: BTreeMap::new(),
            symbols: HashMap::new(),
            absolutes: HashMap::new(),
            slots: BTreeMap::new(),
            stubs: HashMap::new(),
            thread_slots: HashMap::new(),
            words: Vec::new(),
            data: None,
            code: None,
        }
    }

    pub(super) fn contains(&self, place: (usize, usize)) -> bool {
        self.placed.contains_key(&place)
    }

    /// Adds the contents of a section.
    pub(super) fn place(&mut self, place: (usize, usize), section: &Section) {
        let number = self.placed.len();
        let (name, kind) = match section {
            s if s.executable => ("text", SectionKind::Text),
            s if s.zeroed => ("bss", SectionKind::UninitializedData),
            s if s.writable => ("data", SectionKind::Data),
            _ => ("rodata", SectionKind::ReadOnlyData),
        };
        let id = self.object.add_section(
            Vec::new(),
            format!(".kairos.{name}.{number}").into_bytes(),
            kind,
        );
        if section.zeroed {
            self.object
                .append_section_bss(id, section.size, section.align);
        } else {
            self.object
                .append_section_data(id, &section.bytes, section.align);
        }
        let label = format!("kairos.{number}");
        self.label(id, 0, &label);
        if let Some(item) = &section.item {
            self.readable_name(id, item, section.size);
        }
        self.placed.insert(place, (id, label));
    }

    /// For people who read the image with objdump or gdb.
    fn readable_name(&mut self, section: SectionId, item: &Item, size: u64) {
        self.object.add_symbol(NewSymbol {
            name: item.name.clone().into_bytes(),
            value: 0,
            size,
            kind: if item.kind == ItemKind::Function {
                SymbolKind::Text
            } else {
                SymbolKind::Data
            },
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
    }

    fn label(&mut self, section: SectionId, value: u64, name: &str) -> SymbolId {
        self.object.add_symbol(NewSymbol {
            name: name.as_bytes().to_vec(),
            value,
            size: 0,
            kind: SymbolKind::Label,
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        })
    }

    fn absolute(&mut self, value: u64) -> SymbolId {
        if let Some(known) = self.absolutes.get(&value) {
            return *known;
        }
        let id = self.object.add_symbol(NewSymbol {
            name: format!("kairos.at.{value:x}").into_bytes(),
            value,
            size: 0,
            kind: SymbolKind::Label,
            scope: SymbolScope::Compilation,
            weak: false,
            section: SymbolSection::Absolute,
            flags: SymbolFlags::None,
        });
        self.absolutes.insert(value, id);
        id
    }

    fn at(&mut self, section: SectionId, value: u64) -> SymbolId {
        if let Some(known) = self.symbols.get(&(section, value)) {
            return *known;
        }
        let name = format!("kairos.in.{}", self.symbols.len());
        let id = self.label(section, value, &name);
        self.symbols.insert((section, value), id);
        id
    }

    /// Adds one relocation of a placed section.
    pub(super) fn relocate(
        &mut self,
        place: (usize, usize),
        unit: &Unit,
        relocation: &Relocation,
        link: &Link,
    ) -> Result<(), PatchError> {
        let Some((section, _)) = self.placed.get(&place).cloned() else {
            return Ok(());
        };
        let refused = |target: &str, why: &str| PatchError::Reference {
            file: unit.source.clone(),
            place: unit.place_name(place.1).to_owned(),
            target: target.to_owned(),
            why: why.to_owned(),
        };
        let mut kind = relocation.kind;
        let symbol = match link {
            Link::Absolute(value) => self.absolute(*value),
            Link::Image {
                unit: target_unit,
                section: target,
                value,
            } => {
                let Some((id, _)) = self.placed.get(&(*target_unit, *target)).cloned() else {
                    return Err(refused("a section that was left out", "internal error"));
                };
                self.at(id, *value)
            }
            Link::ThreadOffset(offset) => {
                if kind == elf::R_X86_64_TPOFF32 {
                    kind = elf::R_X86_64_32S;
                    self.absolute(offset.cast_unsigned())
                } else if kind == elf::R_X86_64_GOTTPOFF {
                    kind = elf::R_X86_64_PC32;
                    self.thread_slot(*offset)
                } else {
                    return Err(refused(
                        "a thread-local object",
                        "unknown way of access; compile it with -ftls-model=initial-exec",
                    ));
                }
            }
            Link::Library { name, weak } => {
                match self.library(place, relocation, name, *weak) {
                    Some((found_kind, symbol)) => {
                        kind = found_kind;
                        symbol
                    }
                    // The loader fills the word; nothing is left to relocate.
                    None if kind == elf::R_X86_64_64 && relocation.addend == 0 => return Ok(()),
                    None => {
                        return Err(refused(
                            name,
                            "a library symbol of which code needs the address in this form; \
                             compile it with -mno-direct-extern-access",
                        ));
                    }
                }
            }
        };
        if relocation.is_thread_local() && !matches!(link, Link::ThreadOffset(_)) {
            return Err(refused(
                "a thread-local object",
                "it is not the program's own",
            ));
        }
        self.object.add_relocation(
            section,
            NewRelocation {
                offset: relocation.offset,
                symbol,
                addend: relocation.addend,
                flags: RelocationFlags::Elf { r_type: kind },
            },
        )?;
        Ok(())
    }

    /// Relocation kind and symbol for a library symbol; `None` where the field
    /// cannot be relocated by the linker. Whole words are then remembered for
    /// the loader.
    fn library(
        &mut self,
        place: (usize, usize),
        relocation: &Relocation,
        name: &str,
        weak: bool,
    ) -> Option<(elf::RelocationType, SymbolId)> {
        let kind = relocation.kind;
        if kind == elf::R_X86_64_PLT32 {
            return Some(match self.program.plt(name) {
                Some(entry) => (kind, self.absolute(entry.0)),
                None => (kind, self.stub(name)),
            });
        }
        if let Some(address) = self.program.canonical(name) {
            return Some((kind, self.absolute(address.0)));
        }
        if relocation.is_got() {
            // The instruction reads a word with the address: the old program's
            // own, or else one that the loader fills.
            if let Some(word) = self.program.got(name) {
                return Some((elf::R_X86_64_PC32, self.absolute(word.0)));
            }
            if weak {
                return Some((kind, self.absolute(0)));
            }
            return Some((elf::R_X86_64_PC32, self.slot(name)));
        }
        if kind == elf::R_X86_64_64 && relocation.addend == 0 {
            self.words.push((name.to_owned(), place, relocation.offset));
        }
        None
    }

    fn data(&mut self) -> SectionId {
        if let Some(known) = self.data {
            return known;
        }
        let id = self.object.add_section(
            Vec::new(),
            b".kairos.data.slots".to_vec(),
            SectionKind::Data,
        );
        self.data = Some(id);
        id
    }

    fn slot(&mut self, name: &str) -> SymbolId {
        if let Some((known, _)) = self.slots.get(name) {
            return *known;
        }
        let section = self.data();
        let offset = self.object.append_section_data(section, &[0; 8], 8);
        let label = format!("kairos.slot.{}", self.slots.len());
        let symbol = self.label(section, offset, &label);
        self.slots.insert(name.to_owned(), (symbol, label));
        symbol
    }

    fn thread_slot(&mut self, offset: i64) -> SymbolId {
        if let Some(known) = self.thread_slots.get(&offset) {
            return *known;
        }
        let section = self.data();
        let at = self
            .object
            .append_section_data(section, &offset.to_le_bytes(), 8);
        let label = format!("kairos.thread.{}", self.thread_slots.len());
        let symbol = self.label(section, at, &label);
        self.thread_slots.insert(offset, symbol);
        symbol
    }

    /// `jmp *slot(%rip)`, for a library function that the old program does not
    /// call.
    fn stub(&mut self, name: &str) -> SymbolId {
        if let Some(known) = self.stubs.get(name) {
            return *known;
        }
        let slot = self.slot(name);
        let section = match self.code {
            Some(known) => known,
            None => self.object.add_section(
                Vec::new(),
                b".kairos.text.stubs".to_vec(),
                SectionKind::Text,
            ),
        };
        self.code = Some(section);
        let offset =
            self.object
                .append_section_data(section, &[0xff, 0x25, 0, 0, 0, 0, 0x66, 0x90], 8);
        // The section was made here, so that this cannot fail on its kind.
        _ = self.object.add_relocation(
            section,
            NewRelocation {
                offset: offset + 2,
                symbol: slot,
                addend: -4,
                flags: RelocationFlags::Elf {
                    r_type: elf::R_X86_64_PC32,
                },
            },
        );
        let label = format!("kairos.stub.{}", self.stubs.len());
        let symbol = self.label(section, offset, &label);
        self.stubs.insert(name.to_owned(), symbol);
        symbol
    }

    pub(super) fn finish(self) -> Result<Reduced, PatchError> {
        Ok(Reduced {
            bytes: self.object.write()?,
            labels: self
                .placed
                .into_iter()
                .map(|(place, (_, label))| (place, label))
                .collect(),
            slots: self
                .slots
                .into_iter()
                .map(|(name, (_, label))| (name, label))
                .collect(),
            words: self.words,
        })
    }
}
