//! Checks that a built program is one that Kairos can update.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use object::{Object, ObjectKind, ObjectSection};

use super::flags::MAPPED_TREE;
use super::record::normal;

/// Why a program is of no use, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub mend: String,
}

fn wrong(wrong: impl Into<String>, mend: impl Into<String>) -> Wrong {
    Wrong {
        wrong: wrong.into(),
        mend: mend.into(),
    }
}

/// The sources under the source tree that the program's debug information
/// names, relative to the tree.
///
/// # Errors
/// [`Wrong`] if the program is missing, position-independent, stripped, or has
/// no debug information.
pub fn sources(program: &Path) -> Result<BTreeSet<String>, Wrong> {
    let bytes = std::fs::read(program).map_err(|error| {
        wrong(
            format!("the recipe made no program {}: {error}", program.display()),
            "correct `program` or the steps in [build]",
        )
    })?;
    let file = object::File::parse(&*bytes).map_err(|error| {
        wrong(
            format!("{} is no program: {error}", program.display()),
            "`program` in [build] must name the executable itself, not a script",
        )
    })?;
    if file.kind() != ObjectKind::Executable {
        return Err(wrong(
            format!("{} is position-independent", program.display()),
            "link it through $CC, which adds -no-pie",
        ));
    }
    if file.symbol_table().is_none() {
        return Err(wrong(
            format!("{} has no symbol table", program.display()),
            "the recipe strips it: leave out `strip`, `install -s` or -s",
        ));
    }
    let sources = compilation_units(&file).map_err(|error| {
        wrong(
            format!(
                "{} has unreadable debug information: {error}",
                program.display()
            ),
            "compile through $CC and do not strip",
        )
    })?;
    if sources.is_empty() {
        return Err(wrong(
            format!("{} has no debug information (DWARF)", program.display()),
            "compile through $CC, which adds -g, and do not strip",
        ));
    }
    Ok(sources)
}

fn compilation_units(file: &object::File<'_>) -> Result<BTreeSet<String>, gimli::Error> {
    let endian = if file.is_little_endian() {
        gimli::RunTimeEndian::Little
    } else {
        gimli::RunTimeEndian::Big
    };
    let sections = gimli::DwarfSections::load(|id| {
        let data = file
            .section_by_name(id.name())
            .and_then(|section| section.uncompressed_data().ok())
            .unwrap_or_default();
        Ok::<_, gimli::Error>(data)
    })?;
    let dwarf = sections.borrow(|data| gimli::EndianSlice::new(data, endian));
    let mut sources = BTreeSet::new();
    let mut headers = dwarf.units();
    while let Some(header) = headers.next()? {
        let unit = dwarf.unit(header)?;
        let text = |slice: gimli::EndianSlice<'_, gimli::RunTimeEndian>| {
            PathBuf::from(slice.to_string_lossy().into_owned())
        };
        let Some(name) = unit.name.map(text) else {
            continue;
        };
        let path = normal(&unit.comp_dir.map(text).unwrap_or_default().join(name));
        if let Ok(relative) = path.strip_prefix(MAPPED_TREE) {
            sources.insert(relative.to_string_lossy().into_owned());
        }
    }
    Ok(sources)
}
