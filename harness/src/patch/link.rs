//! The reduced object becomes an image with fixed addresses.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSegment, ObjectSymbol};

use super::reduce::Reduced;
use super::{IMAGE_BASE, PatchError};
use crate::binary::Address;
use crate::sandbox::guard;

/// The linked image.
#[derive(Debug, Default)]
pub(super) struct Image {
    /// Memory from [`IMAGE_BASE`] on.
    pub(super) bytes: Vec<u8>,
    places: HashMap<(usize, usize), Address>,
    /// Words to be filled with the address of a library symbol.
    pub(super) imports: Vec<(String, Address)>,
}

impl Image {
    /// Where a kept section is.
    pub(super) fn address(&self, place: (usize, usize)) -> Result<Address, PatchError> {
        self.places
            .get(&place)
            .copied()
            .ok_or_else(|| PatchError::Image(format!("section {place:?} is missing")))
    }

    /// Memory of the image.
    pub(super) fn read(&self, address: Address, size: u64) -> Option<&[u8]> {
        let from = usize::try_from(address.since(IMAGE_BASE)).ok()?;
        let length = usize::try_from(size).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }
}

/// Links in `folder`, which keeps the intermediate files for those who want to
/// look at them.
pub(super) fn link(reduced: &Reduced, folder: &Path) -> Result<Image, PatchError> {
    if reduced.labels.is_empty() {
        return Ok(Image::default());
    }
    let object = folder.join("patch.o");
    let script = folder.join("patch.lds");
    let output = folder.join("patch.elf");
    write(&object, &reduced.bytes)?;
    write(&script, linker_script().as_bytes())?;
    let mut linker = Command::new("ld");
    linker
        .args(["-static", "-nostdlib", "--build-id=none", "-e", "0"])
        .args(["-z", "noexecstack", "--no-warn-rwx-segments"])
        .arg("-T")
        .arg(&script)
        .arg("-o")
        .arg(&output)
        .arg(&object);
    let result = guard::output(&mut linker).map_err(PatchError::NoLinker)?;
    if !result.status.success() {
        return Err(PatchError::Link {
            message: String::from_utf8_lossy(&result.stderr).trim().to_owned(),
        });
    }
    let bytes = std::fs::read(&output).map_err(|source| PatchError::File {
        path: output.clone(),
        source,
    })?;
    read_image(&output, &bytes, reduced)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PatchError> {
    std::fs::write(path, bytes).map_err(|source| PatchError::File {
        path: path.to_owned(),
        source,
    })
}

fn linker_script() -> String {
    // The offset table comes from instructions that the linker does not rewrite.
    format!(
        "SECTIONS {{
  . = {:#x};
  .text : {{ *(.kairos.text.*) }}
  . = ALIGN(64);
  .rodata : {{ *(.kairos.rodata.*) }}
  . = ALIGN(64);
  .data : {{ *(.kairos.data.*) *(.got) *(.got.plt) }}
  . = ALIGN(64);
  .bss : {{ *(.kairos.bss.*) }}
  /DISCARD/ : {{ *(.note*) *(.comment) *(.eh_frame) }}
}}
",
        IMAGE_BASE.0
    )
}

fn read_image(path: &Path, bytes: &[u8], reduced: &Reduced) -> Result<Image, PatchError> {
    let broken = |source| PatchError::Object {
        path: path.to_owned(),
        source,
    };
    let elf = object::File::parse(bytes).map_err(broken)?;
    let mut memory = Vec::new();
    for segment in elf.segments() {
        let (Some(from), Ok(size)) = (
            segment
                .address()
                .checked_sub(IMAGE_BASE.0)
                .and_then(|from| usize::try_from(from).ok()),
            usize::try_from(segment.size()),
        ) else {
            continue;
        };
        if size == 0 {
            continue;
        }
        if memory.len() < from + size {
            memory.resize(from + size, 0);
        }
        let stored = segment.data().map_err(broken)?;
        memory[from..from + stored.len()].copy_from_slice(stored);
    }
    let labels: HashMap<&str, Address> = elf
        .symbols()
        .filter_map(|symbol| {
            let name = symbol.name().ok()?;
            name.starts_with("kairos.")
                .then_some((name, Address(symbol.address())))
        })
        .collect();
    let find = |label: &str| {
        labels
            .get(label)
            .copied()
            .ok_or_else(|| PatchError::Image(format!("label {label} is missing")))
    };
    let mut image = Image {
        bytes: memory,
        ..Image::default()
    };
    for (place, label) in &reduced.labels {
        image.places.insert(*place, find(label)?);
    }
    for (name, label) in &reduced.slots {
        image.imports.push((name.clone(), find(label)?));
    }
    for (name, place, offset) in &reduced.words {
        let start = image.address(*place)?;
        image.imports.push((name.clone(), start.plus(*offset)));
    }
    Ok(image)
}
