//! Sizes and alignments of the types of one compilation unit.

use gimli::constants as c;

use super::entry::Entry;
use super::signature::UnitTypes;

impl UnitTypes {
    pub(super) fn size(&self, index: usize) -> Option<u64> {
        let entry = &self.entries.list[index];
        match entry.tag {
            c::DW_TAG_pointer_type => Some(entry.byte_size.unwrap_or(8)),
            c::DW_TAG_array_type => {
                let element = self.size(self.entries.type_of(index)?)?;
                entry.children.iter().try_fold(element, |size, child| {
                    let child = &self.entries.list[*child];
                    if child.tag == c::DW_TAG_subrange_type {
                        child.count.map(|count| size.wrapping_mul(count))
                    } else {
                        Some(size)
                    }
                })
            }
            _ => match entry.byte_size {
                Some(size) => Some(size),
                None => self.size(self.entries.type_of(index)?),
            },
        }
    }

    /// Alignment of a type, or of the type of a member that asks for none itself.
    pub(super) fn align(&self, index: usize) -> u64 {
        let entry = &self.entries.list[index];
        if let Some(asked) = entry.alignment {
            return asked;
        }
        match entry.tag {
            c::DW_TAG_structure_type | c::DW_TAG_union_type => self.align_of_record(entry),
            c::DW_TAG_pointer_type => 8,
            c::DW_TAG_base_type if entry.encoding == Some(c::DW_ATE_complex_float) => {
                entry.byte_size.unwrap_or(2) / 2
            }
            c::DW_TAG_base_type | c::DW_TAG_enumeration_type => entry.byte_size.unwrap_or(1),
            _ => self
                .entries
                .type_of(index)
                .map_or(1, |target| self.align(target)),
        }
        .max(1)
    }

    /// The largest alignment of a member; 1 where the record must be packed, which
    /// debug information does not say.
    fn align_of_record(&self, entry: &Entry) -> u64 {
        let members = || {
            let children = entry.children.iter().copied();
            children.filter(|child| self.entries.list[*child].tag == c::DW_TAG_member)
        };
        let largest = members().map(|child| self.align(child)).max().unwrap_or(1);
        let is_misplaced = |child: usize| {
            let member = &self.entries.list[child];
            member.bit_size.is_none()
                && !member
                    .member_offset
                    .unwrap_or(0)
                    .is_multiple_of(self.align(child))
        };
        let size = entry.byte_size.unwrap_or(0);
        if !size.is_multiple_of(largest) || members().any(is_misplaced) {
            1
        } else {
            largest
        }
    }
}
