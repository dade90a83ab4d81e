//! Where a reference of image code or image data leads.
//!
//! Function identity: whatever has an entry in the old program keeps it. Every
//! reference to such a function, calls included, leads to the old entry (which
//! jumps to the new version where there is one), so that function pointers stay
//! comparable. Only labels inside image functions (jump tables), functions that the
//! old program lacks, and those whose old entry keeps the old version lead into the
//! image.

use super::PatchError;
use super::compare::{Comparison, Fate};
use super::unit::{ItemKind, Place, Relocation};
use super::version::{ItemId, Target, Version};

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// A fixed address (or value).
    Absolute(u64),
    /// Somewhere in a section of the image.
    Image {
        unit: usize,
        section: usize,
        value: u64,
    },
    /// A symbol of a shared library.
    Library { name: String, weak: bool },
    /// A thread-local object: its offset from the thread pointer.
    ThreadOffset(i64),
}

/// The two versions and what becomes of each item.
pub(super) struct Resolver<'a> {
    pub(super) old: &'a Version,
    pub(super) new: &'a Version,
    pub(super) comparison: &'a Comparison,
}

impl Resolver<'_> {
    /// Resolves a relocation in `section` of one of the new version's units.
    pub(super) fn link(
        &self,
        unit: usize,
        section: usize,
        relocation: &Relocation,
    ) -> Result<Link, PatchError> {
        let unit_object = &self.new.units[unit];
        let executable = unit_object.sections[section].executable;
        let refused = |target: &str, why: &str| PatchError::Reference {
            file: unit_object.source.clone(),
            place: unit_object.place_name(section).to_owned(),
            target: target.to_owned(),
            why: why.to_owned(),
        };
        match self.new.target(unit, relocation) {
            Target::Item { id, value } => {
                let instruction = executable && relocation.is_relative();
                let offset = value
                    .wrapping_add_signed(relocation.addend)
                    .wrapping_add(if instruction { 4 } else { 0 });
                self.item(id, value, offset).ok_or_else(|| {
                    refused(
                        self.new.name(id),
                        "a label inside a function that is not part of the image",
                    )
                })
            }
            Target::Unnamed { section, value } => {
                let target = &unit_object.sections[section];
                // Every variable of a C source has a symbol; what has none is a
                // template that the compiler copies from, writable section or not.
                if target.writable && target.size > 0 && !unit_object.source.ends_with(".c") {
                    return Err(refused(
                        &target.name,
                        "writable data without a symbol, which might be a variable",
                    ));
                }
                Ok(Link::Image {
                    unit,
                    section,
                    value,
                })
            }
            Target::Outside(symbol) if symbol.place == Place::Absolute => {
                Ok(Link::Absolute(symbol.value))
            }
            Target::Outside(symbol) => Ok(self.outside(&symbol.name, symbol.weak)),
        }
    }

    /// `value` is the symbol's offset in the item and `offset` that of the place
    /// referred to.
    fn item(&self, id: ItemId, value: u64, offset: u64) -> Option<Link> {
        let fate = self.comparison.fate(id);
        let image = Link::Image {
            unit: id.unit,
            section: id.section,
            value,
        };
        let old = self.comparison.old(id);
        let start = old.and_then(|old| self.old.address(old));
        match self.new.kind(id) {
            ItemKind::Function => {
                let Some(start) = start else {
                    return Some(image);
                };
                if self.comparison.kept.contains(&id) {
                    return Some(image);
                }
                if offset == 0 || fate == Fate::Keep {
                    return Some(Link::Absolute(start.plus(value).0));
                }
                Some(image)
            }
            ItemKind::Data => match fate {
                Fate::Keep | Fate::Reinitialise => Some(Link::Absolute(start?.plus(value).0)),
                _ => Some(image),
            },
            ItemKind::ThreadLocal => {
                let offset = self.old.program.thread_offset(start?.plus(value).0)?;
                Some(Link::ThreadOffset(offset))
            }
        }
    }

    /// Resolves a name that no object of the build defines.
    pub(super) fn outside(&self, name: &str, weak: bool) -> Link {
        match self.old.program.global(name) {
            Some(address) => Link::Absolute(address.0),
            None => Link::Library {
                name: name.to_owned(),
                weak,
            },
        }
    }

    /// Where the whole item is to be found after the update.
    pub(super) fn whole_item(&self, id: ItemId) -> Option<Link> {
        self.item(id, 0, 0)
    }
}
