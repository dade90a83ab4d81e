//! Types that need no declaration: base types, pointers to them, arrays of these.

use std::fmt::Write as _;

use gimli::constants as c;

use super::PlainType;
use super::signature::UnitTypes;

impl UnitTypes {
    /// Base types, pointers to them or to `void`, and arrays of these.
    pub(super) fn plain(&self, index: usize) -> Option<PlainType> {
        let entry = &self.entries.list[index];
        match entry.tag {
            c::DW_TAG_base_type => Some(PlainType {
                before: format!("{} ", entry.name.as_deref()?),
                after: String::new(),
            }),
            c::DW_TAG_typedef
            | c::DW_TAG_const_type
            | c::DW_TAG_volatile_type
            | c::DW_TAG_restrict_type => self.plain(self.entries.type_of(index)?),
            c::DW_TAG_pointer_type => match self.entries.type_of(index) {
                None => Some(PlainType {
                    before: "void *".to_owned(),
                    after: String::new(),
                }),
                Some(target) => {
                    let target = self.strip(target);
                    match target.map(|t| self.entries.list[t].tag) {
                        None => Some(PlainType {
                            before: "void *".to_owned(),
                            after: String::new(),
                        }),
                        Some(c::DW_TAG_base_type | c::DW_TAG_pointer_type) => {
                            let inner = self.plain(target?)?;
                            Some(PlainType {
                                before: format!("{}*", inner.before),
                                after: inner.after,
                            })
                        }
                        Some(_) => None,
                    }
                }
            },
            c::DW_TAG_array_type => {
                let mut plain = self.plain(self.entries.type_of(index)?)?;
                let mut dimensions = String::new();
                for child in &entry.children {
                    let child = &self.entries.list[*child];
                    if child.tag == c::DW_TAG_subrange_type {
                        _ = write!(dimensions, "[{}]", child.count?);
                    }
                }
                plain.after = format!("{dimensions}{}", plain.after);
                Some(plain)
            }
            _ => None,
        }
    }

    /// The type below typedefs and qualifiers; `None` for `void`.
    pub(super) fn strip(&self, index: usize) -> Option<usize> {
        match self.entries.list[index].tag {
            c::DW_TAG_typedef
            | c::DW_TAG_const_type
            | c::DW_TAG_volatile_type
            | c::DW_TAG_restrict_type
            | c::DW_TAG_atomic_type => self.strip(self.entries.type_of(index)?),
            _ => Some(index),
        }
    }
}
