//! The debugging entries of one compilation unit as a plain tree, with the few
//! attributes that type comparison needs.

use std::collections::HashMap;

use gimli::{AttributeValue, DwAt, DwTag, Operation, Unit, UnitRef, constants as c};

use super::Bytes;

/// One debugging entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: DwTag,
    pub(super) parent: Option<usize>,
    pub(super) children: Vec<usize>,
    pub(super) name: Option<String>,
    /// Offset of the entry that `DW_AT_type` refers to.
    pub(super) type_offset: Option<usize>,
    /// Offset of the abstract origin or of the declaration.
    pub(super) origin: Option<usize>,
    pub(super) byte_size: Option<u64>,
    /// Alignment that the source asks for.
    pub(super) alignment: Option<u64>,
    pub(super) file_index: Option<u64>,
    pub(super) line: Option<u64>,
    pub(super) column: Option<u64>,
    pub(super) member_offset: Option<u64>,
    pub(super) bit_offset: Option<u64>,
    pub(super) bit_size: Option<u64>,
    pub(super) value: Option<i64>,
    /// How a base type's bytes are read.
    pub(super) encoding: Option<gimli::DwAte>,
    /// Offset in its unit.
    pub(super) offset: usize,
    /// Number of elements of an array's dimension.
    pub(super) count: Option<u64>,
    pub(super) declaration: bool,
    pub(super) external: bool,
    pub(super) low_pc: Option<u64>,
    /// Fixed address of a variable.
    pub(super) address: Option<u64>,
}

/// All entries of a unit; the first is the unit's own.
pub(super) struct Entries {
    pub(super) list: Vec<Entry>,
    by_offset: HashMap<usize, usize>,
}

impl Entries {
    pub(super) fn read(unit: UnitRef<'_, Bytes<'_>>) -> gimli::Result<Self> {
        let mut list: Vec<Entry> = Vec::new();
        let mut by_offset = HashMap::new();
        let mut open: Vec<(isize, usize)> = Vec::new();
        let mut cursor = unit.entries();
        while let Some(die) = cursor.next_dfs()? {
            let depth = die.depth();
            while open.last().is_some_and(|(d, _)| *d >= depth) {
                open.pop();
            }
            let index = list.len();
            let mut entry = Entry::new(die.tag(), open.last().map(|(_, i)| *i));
            entry.offset = die.offset().0;
            for attribute in die.attrs() {
                entry.take(unit, attribute.name(), attribute.value())?;
            }
            by_offset.insert(die.offset().0, index);
            if let Some(parent) = entry.parent.and_then(|p| list.get_mut(p)) {
                parent.children.push(index);
            }
            list.push(entry);
            open.push((depth, index));
        }
        Ok(Self { list, by_offset })
    }

    pub(super) fn at_offset(&self, offset: usize) -> Option<usize> {
        self.by_offset.get(&offset).copied()
    }

    /// The entry that the type of `index` leads to, looked up through its
    /// declaration or abstract origin where it has no type of its own.
    pub(super) fn type_of(&self, index: usize) -> Option<usize> {
        let entry = self.list.get(index)?;
        match (entry.type_offset, entry.origin) {
            (Some(offset), _) => self.at_offset(offset),
            (None, Some(origin)) => self.type_of(self.at_offset(origin)?),
            (None, None) => None,
        }
    }

    /// Whether the entry, its declaration or its abstract origin is external.
    pub(super) fn is_external(&self, index: usize) -> bool {
        self.list.get(index).is_some_and(|entry| {
            entry.external
                || entry
                    .origin
                    .and_then(|offset| self.at_offset(offset))
                    .is_some_and(|origin| self.is_external(origin))
        })
    }

    pub(super) fn name_of(&self, index: usize) -> Option<&str> {
        let entry = self.list.get(index)?;
        match (&entry.name, entry.origin) {
            (Some(name), _) => Some(name),
            (None, Some(origin)) => self.name_of(self.at_offset(origin)?),
            (None, None) => None,
        }
    }
}

impl Entry {
    fn new(tag: DwTag, parent: Option<usize>) -> Self {
        Self {
            tag,
            parent,
            children: Vec::new(),
            name: None,
            type_offset: None,
            origin: None,
            byte_size: None,
            alignment: None,
            file_index: None,
            line: None,
            column: None,
            member_offset: None,
            bit_offset: None,
            bit_size: None,
            value: None,
            encoding: None,
            offset: 0,
            count: None,
            declaration: false,
            external: false,
            low_pc: None,
            address: None,
        }
    }

    fn take<'a>(
        &mut self,
        unit: UnitRef<'_, Bytes<'a>>,
        name: DwAt,
        value: AttributeValue<Bytes<'a>>,
    ) -> gimli::Result<()> {
        match name {
            c::DW_AT_name => {
                self.name = Some(unit.attr_string(value)?.to_string_lossy().into_owned());
            }
            c::DW_AT_type => self.type_offset = local_offset(&unit, value),
            c::DW_AT_abstract_origin | c::DW_AT_specification => {
                self.origin = local_offset(&unit, value);
            }
            c::DW_AT_byte_size => self.byte_size = value.udata_value(),
            c::DW_AT_alignment => self.alignment = value.udata_value(),
            c::DW_AT_decl_file => {
                self.file_index = match value {
                    AttributeValue::FileIndex(index) => Some(index),
                    other => other.udata_value(),
                };
            }
            c::DW_AT_decl_column => self.column = value.udata_value(),
            c::DW_AT_decl_line => self.line = value.udata_value(),
            c::DW_AT_data_member_location => self.member_offset = value.udata_value(),
            c::DW_AT_data_bit_offset => self.bit_offset = value.udata_value(),
            c::DW_AT_bit_size => self.bit_size = value.udata_value(),
            c::DW_AT_encoding => {
                self.encoding = match value {
                    AttributeValue::Encoding(encoding) => Some(encoding),
                    _ => None,
                };
            }
            c::DW_AT_const_value => {
                self.value = constant(&value);
            }
            // An absent bound and `[]` are the same; a bound of -1 is `[0]`.
            c::DW_AT_upper_bound => {
                self.count = constant(&value).map(|bound| bound.wrapping_add(1).cast_unsigned());
            }
            c::DW_AT_count => self.count = value.udata_value(),
            c::DW_AT_declaration => self.declaration = true,
            c::DW_AT_external => self.external = true,
            c::DW_AT_low_pc => self.low_pc = unit.attr_address(value)?,
            c::DW_AT_location => {
                if let AttributeValue::Exprloc(expression) = value {
                    self.address = fixed_address(&unit, expression)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// A constant whose form may leave open whether it is signed: compilers write
/// negative ones in a signed form, so the forms of a fixed size hold no sign.
fn constant(value: &AttributeValue<Bytes<'_>>) -> Option<i64> {
    let unsigned = value.udata_value().map(u64::cast_signed);
    unsigned.or_else(|| value.sdata_value())
}

fn local_offset(unit: &Unit<Bytes<'_>>, value: AttributeValue<Bytes<'_>>) -> Option<usize> {
    match value {
        AttributeValue::UnitRef(offset) => Some(offset.0),
        AttributeValue::DebugInfoRef(offset) => offset.to_unit_offset(&unit.header).map(|o| o.0),
        _ => None,
    }
}

/// The address in a location that is one fixed address and nothing else; what
/// follows it would make it something different (a thread-local offset).
fn fixed_address(
    unit: &UnitRef<'_, Bytes<'_>>,
    expression: gimli::Expression<Bytes<'_>>,
) -> gimli::Result<Option<u64>> {
    let mut operations = expression.operations(unit.encoding());
    let first = operations.next()?;
    if operations.next()?.is_some() {
        return Ok(None);
    }
    Ok(match first {
        Some(Operation::Address { address }) => Some(address),
        Some(Operation::AddressIndex { index }) => Some(unit.address(index)?),
        _ => None,
    })
}
