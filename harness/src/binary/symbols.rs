//! Local symbols by the source file that they came from.

use std::collections::HashMap;

use object::{Object, ObjectSymbol, SymbolKind, SymbolSection};

use super::Address;
use super::dwarf::Types;

/// A symbol of the program's own, from its symbol table.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    /// Source file, where it could be told.
    pub(super) file: Option<String>,
    pub(super) address: Address,
    pub(super) size: u64,
    pub(super) kind: SymbolKind,
    /// Whether other files of the program can refer to it.
    pub(super) global: bool,
    pub(super) section: Option<object::SectionIndex>,
}

/// Reads the symbol table. Local symbols follow the name of their object's
/// source file; several sources can have that base name, and then the addresses
/// of functions and variables in the debug information decide.
pub(super) fn read(elf: &object::File<'_>, types: &Types) -> Vec<Symbol> {
    let by_address = files_by_address(types);
    let mut by_base: HashMap<&str, Vec<&str>> = HashMap::new();
    for file in &types.files {
        let base = file.rsplit('/').next().unwrap_or(file);
        by_base.entry(base).or_default().push(file);
    }
    let mut symbols = Vec::new();
    let mut group_name = String::new();
    let mut group: Vec<Symbol> = Vec::new();
    for symbol in elf.symbols() {
        if symbol.kind() == SymbolKind::File {
            finish(&group_name, &by_base, &by_address, &mut group, &mut symbols);
            symbol.name().unwrap_or("").clone_into(&mut group_name);
            continue;
        }
        let defined = matches!(
            symbol.section(),
            SymbolSection::Section(_) | SymbolSection::Absolute
        );
        let Ok(name) = symbol.name() else { continue };
        if !defined || name.is_empty() || symbol.kind() == SymbolKind::Section {
            continue;
        }
        let read = Symbol {
            // `stderr@GLIBC_2.2.5`: the version is not part of the name.
            name: name.split('@').next().unwrap_or(name).to_owned(),
            file: None,
            address: Address(symbol.address()),
            size: symbol.size(),
            kind: symbol.kind(),
            global: !symbol.is_local(),
            section: symbol.section_index(),
        };
        if symbol.is_local() {
            group.push(read);
        } else {
            let file = by_address.get(&read.address).map(|f| (*f).to_owned());
            symbols.push(Symbol { file, ..read });
        }
    }
    finish(&group_name, &by_base, &by_address, &mut group, &mut symbols);
    symbols
}

fn files_by_address(types: &Types) -> HashMap<Address, &str> {
    let functions = types
        .functions
        .iter()
        .map(|f| (f.entry, f.function.file.as_str()));
    let variables = types.variables.iter().map(|v| (v.address, v.file.as_str()));
    functions.chain(variables).collect()
}

fn finish(
    name: &str,
    by_base: &HashMap<&str, Vec<&str>>,
    by_address: &HashMap<Address, &str>,
    group: &mut Vec<Symbol>,
    symbols: &mut Vec<Symbol>,
) {
    if name.is_empty() {
        // Hidden symbols of all files; the linker made them local.
        symbols.extend(group.drain(..).map(|symbol| Symbol {
            file: by_address.get(&symbol.address).map(|f| (*f).to_owned()),
            global: true,
            ..symbol
        }));
        return;
    }
    let base = name.rsplit('/').next().unwrap_or(name);
    let file = match by_base.get(base).map(Vec::as_slice) {
        Some([only]) => Some(*only),
        _ => group
            .iter()
            .find_map(|s| by_address.get(&s.address).copied()),
    };
    symbols.extend(group.drain(..).map(|symbol| Symbol {
        file: file.map(str::to_owned),
        ..symbol
    }));
}
