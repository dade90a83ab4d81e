//! A linked program: its own functions, data objects, links to libraries and
//! initial memory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use object::{Object, ObjectKind, ObjectSection, SectionFlags, SectionKind, SymbolKind, elf};

use super::dwarf::Types;
use super::plt::{self, LibraryLinks};
use super::{Address, BinaryError, FunctionName, symbols};

/// Bytes of NOPs that the study's builds leave at each function's entry.
const PAD: usize = 16;

/// A function of the program's own sources.
#[derive(Clone, Debug)]
pub struct Function {
    /// Name and source file.
    pub name: FunctionName,
    /// First address.
    pub entry: Address,
    /// Size in bytes, entry pad included.
    pub size: u64,
    /// Whether it starts with an entry pad, so that it can be counted and
    /// redirected.
    pub pad: bool,
    /// Whether other files can refer to it.
    pub global: bool,
}

/// A data object with a symbol.
#[derive(Clone, Debug)]
pub struct DataObject {
    /// Name in the symbol table; function-local statics carry a numeric suffix.
    pub name: String,
    /// Source file, where it could be told.
    pub file: Option<String>,
    /// First address.
    pub address: Address,
    /// Size in bytes.
    pub size: u64,
    /// Whether it lies in a section that the process cannot write.
    pub read_only: bool,
    /// Whether other files can refer to it.
    pub global: bool,
}

#[derive(Debug)]
struct Section {
    start: u64,
    size: u64,
    /// Empty where memory starts as zeros.
    bytes: Vec<u8>,
    writable: bool,
    tls: bool,
    align: u64,
}

impl Section {
    fn holds(&self, address: u64) -> bool {
        address >= self.start && address - self.start < self.size
    }
}

/// A linked, non-PIE program with symbols and debug information.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    functions: Vec<Function>,
    objects: Vec<DataObject>,
    functions_by_name: HashMap<String, Vec<usize>>,
    objects_by_name: HashMap<String, Vec<usize>>,
    globals: HashMap<String, Address>,
    locals: HashMap<(String, String), Vec<Address>>,
    links: LibraryLinks,
    sections: Vec<Section>,
    types: Types,
}

impl Program {
    /// Reads a program.
    ///
    /// # Errors
    /// When the file cannot be read, is not a non-PIE x86-64 program, or lacks
    /// symbols or debug information; the message says how to mend it.
    pub fn open(path: &Path) -> Result<Self, BinaryError> {
        let bytes = std::fs::read(path).map_err(|source| BinaryError::Read {
            path: path.to_owned(),
            source,
        })?;
        let elf = object::File::parse(bytes.as_slice()).map_err(|source| BinaryError::Format {
            path: path.to_owned(),
            source,
        })?;
        if elf.architecture() != object::Architecture::X86_64 {
            return Err(BinaryError::Machine {
                path: path.to_owned(),
            });
        }
        if elf.kind() == ObjectKind::Dynamic {
            return Err(BinaryError::PositionIndependent {
                path: path.to_owned(),
            });
        }
        if elf.symbols().next().is_none() {
            return Err(BinaryError::NoSymbols {
                path: path.to_owned(),
            });
        }
        let types = Types::read(path, &elf)?;
        let mut program = Self {
            path: path.to_owned(),
            functions: Vec::new(),
            objects: Vec::new(),
            functions_by_name: HashMap::new(),
            objects_by_name: HashMap::new(),
            globals: HashMap::new(),
            locals: HashMap::new(),
            links: plt::read(&elf),
            sections: sections(path, &elf)?,
            types,
        };
        program.take_symbols(&elf);
        Ok(program)
    }

    fn take_symbols(&mut self, elf: &object::File<'_>) {
        for symbol in symbols::read(elf, &self.types) {
            if symbol.global {
                self.globals.insert(symbol.name.clone(), symbol.address);
            } else if let Some(file) = &symbol.file {
                self.locals
                    .entry((file.clone(), symbol.name.clone()))
                    .or_default()
                    .push(symbol.address);
            }
            match symbol.kind {
                SymbolKind::Text => {
                    // Start-up code of the C library has no debug information.
                    let Some(file) = symbol.file else { continue };
                    self.functions.push(Function {
                        pad: self
                            .initial(symbol.address, PAD as u64)
                            .is_some_and(|b| b.iter().all(|b| *b == 0x90)),
                        name: FunctionName {
                            name: symbol.name,
                            file,
                        },
                        entry: symbol.address,
                        size: symbol.size,
                        global: symbol.global,
                    });
                }
                SymbolKind::Data if symbol.section.is_some() => {
                    let read_only = self
                        .section_of(symbol.address)
                        .is_none_or(|section| !section.writable);
                    self.objects.push(DataObject {
                        name: symbol.name,
                        file: symbol.file,
                        address: symbol.address,
                        size: symbol.size,
                        read_only,
                        global: symbol.global,
                    });
                }
                _ => {}
            }
        }
        // Of several names for one entry the one in the debug information wins.
        let types = &self.types;
        self.functions.sort_by_key(|f| {
            let spelt = types
                .function_at(f.entry)
                .is_some_and(|t| t.function.name == f.name.name);
            (f.entry, !spelt, !f.global)
        });
        self.functions.dedup_by_key(|f| f.entry);
        self.objects.sort_by_key(|o| (o.address, !o.global));
        for (index, function) in self.functions.iter().enumerate() {
            self.functions_by_name
                .entry(function.name.name.clone())
                .or_default()
                .push(index);
        }
        for (index, object) in self.objects.iter().enumerate() {
            self.objects_by_name
                .entry(object.name.clone())
                .or_default()
                .push(index);
        }
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The program's own functions, by ascending entry.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The program's data objects, by ascending address.
    #[must_use]
    pub fn objects(&self) -> &[DataObject] {
        &self.objects
    }

    /// Types, prototypes and variables.
    #[must_use]
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// The function that contains `address`.
    #[must_use]
    pub fn function_at(&self, address: Address) -> Option<&Function> {
        let after = self.functions.partition_point(|f| f.entry <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address.since(function.entry) < function.size.max(1)).then_some(function)
    }

    /// The function that starts at `entry`.
    #[must_use]
    pub fn function_with_entry(&self, entry: Address) -> Option<&Function> {
        self.function_at(entry).filter(|f| f.entry == entry)
    }

    /// All functions called `name`, static ones of several files included.
    pub fn functions_named(&self, name: &str) -> impl Iterator<Item = &Function> {
        self.functions_by_name
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|index| self.functions.get(*index))
    }

    /// All data objects called `name`, static ones of several files included.
    pub fn objects_named(&self, name: &str) -> impl Iterator<Item = &DataObject> {
        self.objects_by_name
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|index| self.objects.get(*index))
    }

    /// Address of a global symbol, symbols that the linker defines and copies of
    /// library variables included.
    #[must_use]
    pub fn global(&self, name: &str) -> Option<Address> {
        self.globals.get(name).copied()
    }

    /// Addresses of the local symbols called `name` of one source file.
    #[must_use]
    pub fn local(&self, file: &str, name: &str) -> &[Address] {
        self.locals
            .get(&(file.to_owned(), name.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    /// The entry through which the program calls a library function.
    #[must_use]
    pub fn plt(&self, name: &str) -> Option<Address> {
        self.links.plt.get(name).copied()
    }

    /// The library function that a call of `entry` reaches.
    #[must_use]
    pub fn library_function(&self, entry: Address) -> Option<&str> {
        let mut links = self.links.plt.iter();
        links
            .find(|(_, at)| **at == entry)
            .map(|(name, _)| name.as_str())
    }

    /// The word of the program that holds a library symbol's address.
    #[must_use]
    pub fn got(&self, name: &str) -> Option<Address> {
        self.links.got.get(name).copied()
    }

    /// The PLT entry that stands for a library function's address in the whole
    /// process, where there is one.
    #[must_use]
    pub fn canonical(&self, name: &str) -> Option<Address> {
        self.links.canonical.get(name).copied()
    }

    fn section_of(&self, address: Address) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| !section.tls && section.holds(address.0))
    }

    /// Memory as the file has it, before the process ran: `size` bytes at
    /// `address`, `None` where they are not all within one section. Words that
    /// the dynamic linker fills in are still zero.
    #[must_use]
    pub fn initial(&self, address: Address, size: u64) -> Option<Vec<u8>> {
        let section = self.section_of(address)?;
        let offset = address.0 - section.start;
        if size > section.size - offset {
            return None;
        }
        let (from, length) = (usize::try_from(offset).ok()?, usize::try_from(size).ok()?);
        let mut bytes = vec![0; length];
        if let Some(stored) = section.bytes.get(from..) {
            let stored = stored.get(..length).unwrap_or(stored);
            bytes[..stored.len()].copy_from_slice(stored);
        }
        Some(bytes)
    }

    /// Offset from the thread pointer of the thread-local object whose symbol
    /// has the value `symbol_value` (an offset into the program's block).
    #[must_use]
    pub fn thread_offset(&self, symbol_value: u64) -> Option<i64> {
        let tls = || self.sections.iter().filter(|section| section.tls);
        let start = tls().map(|s| s.start).min()?;
        let end = tls().map(|s| s.start + s.size).max()?;
        let align = tls().map(|s| s.align).max()?.max(1);
        let size = (end - start).next_multiple_of(align);
        Some(symbol_value.wrapping_sub(size).cast_signed())
    }
}

fn sections(path: &Path, elf: &object::File<'_>) -> Result<Vec<Section>, BinaryError> {
    let mut found = Vec::new();
    for section in elf.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else {
            continue;
        };
        if !sh_flags.contains(elf::SHF_ALLOC) {
            continue;
        }
        let bytes = match section.kind() {
            SectionKind::UninitializedData | SectionKind::UninitializedTls => Vec::new(),
            _ => section
                .data()
                .map_err(|source| BinaryError::Format {
                    path: path.to_owned(),
                    source,
                })?
                .to_vec(),
        };
        found.push(Section {
            start: section.address(),
            size: section.size(),
            bytes,
            writable: sh_flags.contains(elf::SHF_WRITE) && !is_relro(section.name().unwrap_or("")),
            tls: sh_flags.contains(elf::SHF_TLS),
            align: section.align(),
        });
    }
    Ok(found)
}

/// Sections that are writable in the file only for the dynamic linker's sake.
fn is_relro(name: &str) -> bool {
    name.starts_with(".data.rel.ro")
}
