//! How the program reaches its shared libraries: procedure linkage table and
//! global offset table.

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, elf};

use super::Address;

/// Entries by the name of the library symbol.
#[derive(Debug, Default)]
pub(super) struct LibraryLinks {
    /// Code that jumps to the library function.
    pub(super) plt: HashMap<String, Address>,
    /// Word that holds the symbol's address from process start on.
    pub(super) got: HashMap<String, Address>,
    /// Address that every module of the process takes for the function: the
    /// program took its address directly, so its own PLT entry stands for it.
    pub(super) canonical: HashMap<String, Address>,
}

pub(super) fn read(elf_file: &object::File<'_>) -> LibraryLinks {
    let mut links = LibraryLinks::default();
    let mut slots: HashMap<u64, String> = HashMap::new();
    for (offset, relocation) in elf_file.dynamic_relocations().into_iter().flatten() {
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            continue;
        };
        let RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let Some(name) = elf_file
            .dynamic_symbol_table()
            .and_then(|table| object::ObjectSymbolTable::symbol_by_index(&table, index).ok())
            .and_then(|symbol| symbol.name().ok().map(str::to_owned))
        else {
            continue;
        };
        if r_type == elf::R_X86_64_GLOB_DAT {
            links.got.insert(name.clone(), Address(offset));
            slots.insert(offset, name);
        } else if r_type == elf::R_X86_64_JUMP_SLOT {
            slots.insert(offset, name);
        }
    }
    for symbol in elf_file.dynamic_symbols() {
        if symbol.is_undefined()
            && symbol.address() != 0
            && let Ok(name) = symbol.name()
        {
            links
                .canonical
                .insert(name.to_owned(), Address(symbol.address()));
        }
    }
    // With branch tracking the callable entries are in .plt.sec and those of
    // .plt only serve lazy binding; the jump through the slot tells them apart.
    for (section, entry_size) in [(".plt", 16), (".plt.got", 8), (".plt.sec", 16)] {
        let Some(section) = elf_file.section_by_name(section) else {
            continue;
        };
        let Ok(code) = section.data() else { continue };
        let entry_size = if section.align() >= 16 {
            16
        } else {
            entry_size
        };
        for (slot, at) in indirect_jumps(code, section.address()) {
            if let Some(name) = slots.get(&slot) {
                let entry = section.address() + (at - section.address()) / entry_size * entry_size;
                links.plt.entry(name.clone()).or_insert(Address(entry));
            }
        }
    }
    links
}

/// `jmp *displacement(%rip)` instructions: (address of the slot, of the jump).
fn indirect_jumps(code: &[u8], base: u64) -> Vec<(u64, u64)> {
    code.windows(6)
        .zip(base..)
        .filter(|(bytes, _)| bytes[..2] == [0xff, 0x25])
        .map(|(bytes, at)| {
            let displacement = i32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
            (
                at.wrapping_add(6)
                    .wrapping_add_signed(i64::from(displacement)),
                at,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::indirect_jumps;

    #[test]
    fn finds_the_slot_of_a_jump() {
        let code = [0x90, 0xff, 0x25, 0x10, 0, 0, 0, 0x90];
        assert_eq!(indirect_jumps(&code, 0x1000), vec![(0x1017, 0x1001)]);
    }
}
