//! What is found and converted at an update, prepared once per pair: which types
//! lead to instances of changed records, where to start, how to convert. Plain data
//! that a worker needs no debug information for.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::convert::Conversion;
use super::rules::Operator;
use crate::binary::Address;
use crate::binary::dwarf::locals::Located;

/// A type that leads to changed records, as a walk sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// For people.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// What instances are aligned to, in bytes.
    pub alignment: u64,
    /// How to convert an instance, if it is a changed record or holds one.
    pub conversion: Option<usize>,
    /// What in it leads on.
    pub parts: Vec<Part>,
    /// The flexible array that it ends in, if its length is known.
    pub tail: Option<Tail>,
}

/// A flexible array at the end of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Where it begins, in bytes from the start of the record.
    pub offset: u64,
    /// Size of an element in bytes.
    pub stride: u64,
    /// How many there are.
    pub count: Count,
}

/// A pointer in a type, or a part that lies in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where, in bytes from the start.
    pub offset: u64,
    /// Whether it points away rather than lies there.
    pub pointer: bool,
    /// Number of the type that it points to, or is.
    pub of: usize,
    /// How many of them there are.
    pub count: Count,
    /// When it counts at all.
    pub when: Option<Condition>,
}

/// A number of elements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// As many.
    Fixed(u64),
    /// Up to the first null pointer.
    Null,
    /// Computed from left to right.
    Computed(Vec<(Operator, Value)>),
}

/// A number that is read, or known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Known.
    Number(u64),
    /// Bits of the record that the part is of.
    Bits {
        /// First bit; before the record where that is a union in a larger one.
        at: i64,
        /// How many.
        size: u64,
        /// Whether the highest is a sign.
        signed: bool,
    },
    /// A variable.
    Variable {
        /// Where it lies.
        at: Address,
        /// Size in bytes, at most 8.
        size: u64,
    },
}

/// The value must be one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What is looked at.
    pub value: Value,
    /// What it may be.
    pub is: Vec<i64>,
}

/// A variable that a walk starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub address: Address,
    /// Number of its type.
    pub of: usize,
    /// How many of them lie there.
    pub count: u64,
}

/// A parameter or local variable that a walk starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRoot {
    /// Its name.
    pub name: String,
    /// Number of its type.
    pub of: usize,
    /// How many of them lie there.
    pub count: u64,
    /// Where it is kept.
    pub places: Vec<Located>,
}

/// What the frames of one function hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRoots {
    /// Its name.
    pub function: String,
    /// Addresses of its code.
    pub range: Range<u64>,
    /// The expression of its frame base.
    pub base: Vec<u8>,
    /// Its variables.
    pub roots: Vec<FrameRoot>,
}

/// A changed record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// For people.
    pub name: String,
    /// As part of a C identifier.
    pub identifier: String,
    /// The table in the image that tells the transformer of its instances: address of
    /// the pointer to the pairs, with their number behind it.
    pub table: Option<Address>,
}

/// How instances are converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// Each version has its own layout: instances are converted where they fit, and
    /// move where they do not.
    #[default]
    Own,
    /// Both versions have one layout: only added members get their value.
    Common,
}

/// What to find, and how to convert it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Changed records.
    pub records: Vec<Record>,
    /// Types that lead to them.
    pub types: Vec<Walked>,
    /// Conversions.
    pub conversions: Vec<Conversion>,
    /// Where the program's variables lie, from the first to behind the last.
    pub data: Range<u64>,
    /// Variables with a fixed address that lead to changed records, ascending.
    pub roots: Vec<Root>,
    /// Functions with variables, by ascending address.
    pub frames: Vec<FrameRoots>,
    /// Whether instances in the heap move even where they fit, so that their old
    /// copies, which nobody means any more, can be put out of reach.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poison: bool,
    /// Which part of what lies in frames and among variables is watched after the
    /// update, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched_part: Option<u32>,
}

impl Plan {
    /// Whether anything is to be told of who touches what the update converted.
    #[must_use]
    pub const fn is_observed(&self) -> bool {
        self.poison || self.watched_part.is_some()
    }

    /// Whether some instance may have to move to a place that the process allocates.
    #[must_use]
    pub fn may_allocate(&self) -> bool {
        self.conversions.iter().any(|conversion| {
            conversion.manner == Manner::Own
                && (self.poison
                    || conversion.new_size > conversion.old_size
                    || conversion.tail.is_some())
        })
    }

    /// The conversion of a type's instances.
    #[must_use]
    pub fn conversion(&self, of: usize) -> Option<&Conversion> {
        self.conversions.get(self.types.get(of)?.conversion?)
    }

    /// What the frame holds that executes at `address`.
    #[must_use]
    pub fn frame(&self, address: Address) -> Option<&FrameRoots> {
        let after = self
            .frames
            .partition_point(|frame| frame.range.start <= address.0);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        frame.range.contains(&address.0).then_some(frame)
    }
}
