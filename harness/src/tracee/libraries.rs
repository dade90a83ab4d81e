//! Finds library functions in a process, for new code that uses functions which
//! the old program did not.

use std::collections::HashMap;

use nix::unistd::Pid;
use object::read::elf::{ElfFile64, FileHeader, Sym};
use object::{LittleEndian, elf};

use super::maps::{MappedFile, mapped_files};
use crate::binary::Address;

/// A library function as the process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryFunction {
    /// Its address, or that of its resolver.
    pub address: Address,
    /// Whether the address is a resolver to be called (`STT_GNU_IFUNC`).
    pub indirect: bool,
    /// Its size in bytes.
    pub size: u64,
}

/// Symbols of libraries, read once per file.
#[derive(Default)]
pub struct Libraries {
    symbols: HashMap<String, HashMap<String, (u64, bool, u64)>>,
    /// Files mapped into processes of this test, as last seen.
    mapped: HashMap<Pid, Vec<MappedFile>>,
}

impl Libraries {
    /// The function that a call from new code to `name` means: the default
    /// version of the symbol in the first library that has it.
    pub fn find(&mut self, pid: Pid, name: &str) -> Option<LibraryFunction> {
        if let Some(known) = self.mapped.get(&pid)
            && let Some(found) = find_in(&mut self.symbols, known, name)
        {
            return Some(found);
        }
        // A library may have been loaded since.
        let mapped = mapped_files(pid);
        let found = find_in(&mut self.symbols, &mapped, name);
        self.mapped.insert(pid, mapped);
        found
    }

    /// Forgets what was mapped in processes of an earlier test.
    pub fn forget_processes(&mut self) {
        self.mapped.clear();
    }

    /// Forgets what was mapped in a process that has ended.
    pub fn forget(&mut self, pid: Pid) {
        self.mapped.remove(&pid);
    }
}

fn find_in(
    symbols: &mut HashMap<String, HashMap<String, (u64, bool, u64)>>,
    mapped: &[MappedFile],
    name: &str,
) -> Option<LibraryFunction> {
    mapped.iter().find_map(|file| {
        let symbols = symbols
            .entry(file.path.clone())
            .or_insert_with(|| default_versions(&file.path).unwrap_or_default());
        symbols
            .get(name)
            .map(|(offset, indirect, size)| LibraryFunction {
                address: file.base.plus(*offset),
                indirect: *indirect,
                size: *size,
            })
    })
}

/// Functions that a shared library exports, each in its default version: an older
/// `realpath` once made a patched filter fail open.
fn default_versions(path: &str) -> Option<HashMap<String, (u64, bool, u64)>> {
    let bytes = std::fs::read(path).ok()?;
    let file = ElfFile64::<LittleEndian>::parse(&*bytes).ok()?;
    let endian = LittleEndian;
    let header = file.elf_header();
    if header.e_type(endian) != elf::ET_DYN {
        return None;
    }
    let sections = header.sections(endian, &*bytes).ok()?;
    let table = sections.symbols(endian, &*bytes, elf::SHT_DYNSYM).ok()?;
    let versions = sections
        .gnu_versym(endian, &*bytes)
        .ok()?
        .map(|(entries, _)| entries);
    let mut found = HashMap::new();
    for (index, symbol) in table.enumerate() {
        let kind = symbol.st_type();
        let is_function = kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC;
        let hidden = versions
            .and_then(|entries| entries.get(index.0))
            .is_some_and(|version| version.0.get(endian).is_hidden());
        if !is_function || symbol.is_undefined(endian) || hidden {
            continue;
        }
        if let Ok(name) = table.symbol_name(endian, symbol) {
            found.insert(
                String::from_utf8_lossy(name).into_owned(),
                (
                    symbol.st_value.get(endian),
                    kind == elf::STT_GNU_IFUNC,
                    symbol.st_size.get(endian),
                ),
            );
        }
    }
    Some(found)
}
