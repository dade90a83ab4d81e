//! Which source line each instruction of a program comes from.

use std::path::Path;

use gimli::{EndianSlice, LittleEndian};
use object::{Object, ObjectSection};

use super::dwarf::declaring_files;
use super::{Address, BinaryError};

/// Rows of the line tables of one program, by address.
#[derive(Debug, Default)]
pub struct Lines {
    files: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    /// None where a sequence ends.
    place: Option<(u32, u32)>,
}

impl Lines {
    /// Reads the line tables of a program.
    ///
    /// # Errors
    /// When the file cannot be read or its debug information is damaged.
    pub fn read(path: &Path) -> Result<Self, BinaryError> {
        let bytes = std::fs::read(path).map_err(|source| BinaryError::Read {
            path: path.to_owned(),
            source,
        })?;
        let format = |source| BinaryError::Format {
            path: path.to_owned(),
            source,
        };
        let elf = object::File::parse(bytes.as_slice()).map_err(format)?;
        let sections = gimli::DwarfSections::load(|id| match elf.section_by_name(id.name()) {
            Some(section) => section.uncompressed_data().map_err(format),
            None => Ok(std::borrow::Cow::Borrowed(&[][..])),
        })?;
        let dwarf = sections.borrow(|data| EndianSlice::new(data, LittleEndian));
        let mut lines = Self::default();
        lines.take(&dwarf).map_err(|source| BinaryError::Dwarf {
            path: path.to_owned(),
            source,
        })?;
        // The end of one sequence may be the start of the next.
        lines
            .rows
            .sort_by_key(|row| (row.address, row.place.is_some()));
        Ok(lines)
    }

    fn take(&mut self, dwarf: &gimli::Dwarf<EndianSlice<'_, LittleEndian>>) -> gimli::Result<()> {
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            let unit = dwarf.unit(header)?;
            let unit = unit.unit_ref(dwarf);
            let Some(program) = unit.line_program.clone() else {
                continue;
            };
            let numbers: Vec<u32> = declaring_files(unit)?
                .into_iter()
                .map(|file| self.number(file))
                .collect();
            let mut rows = program.rows();
            while let Some((_, row)) = rows.next_row()? {
                let file = usize::try_from(row.file_index())
                    .ok()
                    .and_then(|index| numbers.get(index).copied());
                let line = row.line().map_or(0, std::num::NonZero::get);
                self.rows.push(Row {
                    address: row.address(),
                    place: file
                        .filter(|_| !row.end_sequence())
                        .map(|file| (file, u32::try_from(line).unwrap_or(0))),
                });
            }
        }
        Ok(())
    }

    fn number(&mut self, file: String) -> u32 {
        let at = self.files.iter().position(|known| *known == file);
        let at = at.unwrap_or_else(|| {
            self.files.push(file);
            self.files.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Number of a source file, relative to the tree; none where no code of the
    /// program comes from it.
    #[must_use]
    pub fn file_number(&self, file: &str) -> Option<u32> {
        let at = self.files.iter().position(|known| known == file)?;
        u32::try_from(at).ok()
    }

    /// Name of a source file by its number.
    #[must_use]
    pub fn file(&self, number: u32) -> &str {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.files.get(number))
            .map_or("", String::as_str)
    }

    /// File number and line of the instruction at `address`; line 0 is code that
    /// the compiler made up.
    #[must_use]
    pub fn at(&self, address: Address) -> Option<(u32, u32)> {
        let behind = self.rows.partition_point(|row| row.address <= address.0);
        self.rows.get(behind.checked_sub(1)?)?.place
    }
}
