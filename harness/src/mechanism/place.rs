//! Where C puts members (System V ABI for x86-64): the layout of a record from sizes
//! and alignments.

use crate::binary::dwarf::Member;

/// What the place of a member depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of its type.
    pub size: u64,
    /// Alignment in bytes.
    pub align: u64,
    /// Width of a bit-field.
    pub bits: Option<u64>,
}

impl Shape {
    /// The shape that debug information gives a member.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        Self {
            size: if is_flexible(member) { 0 } else { member.size },
            align: member.align,
            bits: member.bit_size,
        }
    }

    /// How many bits it takes.
    #[must_use]
    pub const fn width(&self) -> u64 {
        match self.bits {
            Some(bits) => bits,
            None => 8 * self.size,
        }
    }

    /// The first bit at or behind `free` where it may lie.
    #[must_use]
    pub const fn place(&self, free: u64) -> u64 {
        match self.bits {
            // A bit-field lies within one unit of its type.
            Some(bits) => {
                let unit = 8 * self.size;
                if unit > 0 && free % unit + bits > unit {
                    free.next_multiple_of(unit)
                } else {
                    free
                }
            }
            None => free.next_multiple_of(8 * self.align),
        }
    }
}

/// Whether a member is an array whose length is left open.
#[must_use]
pub fn is_flexible(member: &Member) -> bool {
    member.signature.ends_with("[]") || member.signature.ends_with("[0]")
}

/// The first bit of a member by debug information.
#[must_use]
pub fn first_bit(member: &Member) -> u64 {
    match member.bit_offset {
        Some(bits) => bits,
        None => 8 * member.offset,
    }
}

/// A record laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// First bit of each member.
    pub bits: Vec<u64>,
    /// The bit behind the last member.
    pub end: u64,
    /// Size in bytes, tail padding included.
    pub size: u64,
    /// Alignment in bytes that the members give it.
    pub align: u64,
}

/// Lays members out in order, as C does; those of a union all at its start.
#[must_use]
pub fn place(shapes: &[Shape], is_union: bool, align: u64) -> Placed {
    let (mut bits, mut end) = (Vec::with_capacity(shapes.len()), 0);
    for shape in shapes {
        let at = if is_union { 0 } else { shape.place(end) };
        bits.push(at);
        end = end.max(at + shape.width());
    }
    let natural = shapes.iter().map(|shape| shape.align).max().unwrap_or(1);
    Placed {
        bits,
        end,
        size: end.div_ceil(8).next_multiple_of(align.max(natural)),
        align: natural,
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, place};

    const fn shape(size: u64, bits: Option<u64>) -> Shape {
        Shape {
            size,
            align: size,
            bits,
        }
    }

    #[test]
    fn members_and_bit_fields_lie_where_the_compiler_puts_them() {
        // struct { char c; int i; unsigned a:20, b:20; char d; long l; }
        let shapes = [
            shape(1, None),
            shape(4, None),
            shape(4, Some(20)),
            shape(4, Some(20)),
            shape(1, None),
            shape(8, None),
        ];
        let placed = place(&shapes, false, 1);
        assert_eq!(placed.bits, [0, 32, 64, 96, 120, 128]);
        assert_eq!((placed.end, placed.size, placed.align), (192, 24, 8));
        let union = place(&shapes, true, 16);
        assert_eq!((union.end, union.size), (64, 16));
    }
}
