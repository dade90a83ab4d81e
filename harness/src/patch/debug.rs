//! What a debugger needs to know of an image: names and places of its functions
//! and data, and how to unwind through its code.

use gimli::write::{
    Address as WriteAddress, CallFrameInstruction, CommonInformationEntry, DebugFrame, EndianVec,
    FrameDescriptionEntry, FrameTable,
};
use gimli::{Encoding, Format, LittleEndian, X86_64};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

use super::{DataAction, ENTRY_PAD, IMAGE_BASE, Patch, PatchError};
use crate::binary::Address;

/// `push %rbp; mov %rsp,%rbp`: how code begins that keeps a frame pointer.
const PROLOGUE: [u8; 4] = [0x55, 0x48, 0x89, 0xe5];

/// An object file whose section `.text` is the image, to be loaded by a debugger at
/// [`IMAGE_BASE`]. Functions and data of the image carry their name with `_new`, so
/// that they are not mistaken for the old program's.
///
/// # Errors
/// When the object cannot be formed; never for patches that were built here.
pub fn symbol_file(patch: &Patch) -> Result<Vec<u8>, PatchError> {
    let broken = |error: &dyn std::fmt::Display| PatchError::Image(error.to_string());
    let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
    let text = object.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
    object.append_section_data(text, &patch.image, 16);
    let mut add = |name: &str, at: Address, size: u64, kind: SymbolKind| {
        object.add_symbol(Symbol {
            name: format!("{name}_new").into_bytes(),
            value: at.since(IMAGE_BASE),
            size,
            kind,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    };
    let functions = functions(patch);
    for (name, at, size) in &functions {
        add(name, *at, *size, SymbolKind::Text);
    }
    for action in &patch.data {
        match action {
            DataAction::Add { name, new, size }
            | DataAction::Renew {
                name, new, size, ..
            } => add(name, *new, *size, SymbolKind::Data),
            DataAction::Carry {
                name,
                new,
                new_size,
                ..
            } => add(name, *new, *new_size, SymbolKind::Data),
            DataAction::Reinitialise { .. } => {}
        }
    }
    let frames = unwinding(patch, &functions).map_err(|error| broken(&error))?;
    let section = object.add_section(Vec::new(), b".debug_frame".to_vec(), SectionKind::Debug);
    object.append_section_data(section, &frames, 8);
    object.write().map_err(|error| broken(&error))
}

fn functions(patch: &Patch) -> Vec<(&str, Address, u64)> {
    let replaced = patch.redirects.iter().map(|redirect| {
        (
            redirect.function.name.as_str(),
            redirect.new,
            redirect.new_size,
        )
    });
    let added = patch
        .added
        .iter()
        .map(|added| (added.function.name.as_str(), added.new, added.new_size));
    replaced.chain(added).collect()
}

/// Call-frame information of functions that keep a frame pointer. Without it a
/// debugger takes their entry pad for the whole prologue and loses the caller.
fn unwinding(
    patch: &Patch,
    functions: &[(&str, Address, u64)],
) -> Result<Vec<u8>, gimli::write::Error> {
    let encoding = Encoding {
        format: Format::Dwarf32,
        version: 4,
        address_size: 8,
    };
    let mut table = FrameTable::default();
    let mut common = CommonInformationEntry::new(encoding, 1, -8, X86_64::RA);
    common.add_instruction(CallFrameInstruction::Cfa(X86_64::RSP, 8));
    common.add_instruction(CallFrameInstruction::Offset(X86_64::RA, -8));
    let common = table.add_cie(common);
    for (_, at, size) in functions {
        let start = at.since(IMAGE_BASE);
        let Ok(length) = u32::try_from(*size) else {
            continue;
        };
        let mut entry = FrameDescriptionEntry::new(WriteAddress::Constant(start), length);
        if let Some(pad) = frame_pointer_behind(patch, start) {
            entry.add_instruction(pad + 1, CallFrameInstruction::CfaOffset(16));
            entry.add_instruction(pad + 1, CallFrameInstruction::Offset(X86_64::RBP, -16));
            entry.add_instruction(pad + 4, CallFrameInstruction::CfaRegister(X86_64::RBP));
        }
        table.add_fde(common, entry);
    }
    let mut written = DebugFrame::from(EndianVec::new(LittleEndian));
    table.write_debug_frame(&mut written)?;
    Ok(written.0.into_vec())
}

/// The length of the entry pad, if a frame pointer is set up right behind it.
fn frame_pointer_behind(patch: &Patch, start: u64) -> Option<u32> {
    let behind = usize::try_from(start + ENTRY_PAD).ok()?;
    let code = patch.image.get(behind..behind + PROLOGUE.len())?;
    (code == PROLOGUE).then_some(u32::try_from(ENTRY_PAD).ok()?)
}
