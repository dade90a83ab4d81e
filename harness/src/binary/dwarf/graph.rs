//! The types of a program as a graph that can be walked over memory: members with
//! their offsets, targets of pointers, and the types of variables.

use serde::{Deserialize, Serialize};

use super::TypeKey;
use crate::binary::Address;

/// Number of a type in its [`TypeGraph`].
pub type TypeId = usize;

/// How the bits of a scalar are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scalar {
    /// A signed integer, or an enum.
    Signed,
    /// An unsigned integer, or a truth value.
    Unsigned,
    /// Anything else: a floating-point number, say.
    Other,
}

/// One member of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    /// Name; empty for a nameless record.
    pub name: String,
    /// Offset in bytes; of a bit-field, that of its first bit's byte.
    pub offset: u64,
    /// Offset from the start of the record and size, both in bits, of a bit-field.
    pub bits: Option<(u64, u64)>,
    /// Its type.
    pub of: TypeId,
}

/// What a type is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// A number, an enum.
    Scalar {
        /// How its bits are read.
        kind: Scalar,
        /// Its name in C.
        name: String,
    },
    /// A pointer; to nothing in particular if there is no target.
    Pointer(Option<TypeId>),
    /// A function.
    Code {
        /// Its canonical type.
        signature: String,
    },
    /// An array; without a number of elements if it is flexible.
    Array {
        /// Type of the elements.
        element: TypeId,
        /// Number of elements.
        count: Option<u64>,
    },
    /// A struct or union.
    Record {
        /// Its definition, if it has a name.
        key: Option<TypeKey>,
        /// Whether its members share their place.
        union: bool,
        /// Its members in order.
        fields: Vec<Field>,
    },
    /// A record that no unit defines.
    Unknown {
        /// Its spelling.
        name: String,
    },
}

/// One type: its size in bytes and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Type {
    /// Size in bytes; 0 where it is not known.
    pub size: u64,
    /// What it is made of.
    pub shape: Shape,
}

/// A variable with a fixed address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TypedVariable {
    /// Its name; `function.name` where it is local to a function.
    pub name: String,
    /// Source file.
    pub file: String,
    /// Where it lies.
    pub address: Address,
    /// Its type.
    pub of: TypeId,
}

/// Types and variables of one program, or the part of them that matters.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TypeGraph {
    /// The types.
    pub types: Vec<Type>,
    /// Variables, by ascending address.
    pub variables: Vec<TypedVariable>,
}

impl TypeGraph {
    /// The type of that number.
    #[must_use]
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id)
    }

    /// Size in bytes; 0 where it is not known.
    #[must_use]
    pub fn size(&self, id: TypeId) -> u64 {
        self.get(id).map_or(0, |of| of.size)
    }

    /// Members, if it is a record.
    #[must_use]
    pub fn fields(&self, id: TypeId) -> &[Field] {
        match self.get(id).map(|of| &of.shape) {
            Some(Shape::Record { fields, .. }) => fields,
            _ => &[],
        }
    }

    /// The definition of a named record.
    #[must_use]
    pub fn key(&self, id: TypeId) -> Option<&TypeKey> {
        match &self.get(id)?.shape {
            Shape::Record { key, .. } => key.as_ref(),
            _ => None,
        }
    }

    /// All records of that definition: several where units saw it differently.
    pub fn records<'a>(&'a self, key: &'a TypeKey) -> impl Iterator<Item = TypeId> + 'a {
        (0..self.types.len()).filter(move |id| self.key(*id) == Some(key))
    }

    /// What every instance must be aligned to, in bytes. Records that are packed
    /// are aligned to less than their members would be.
    #[must_use]
    pub fn alignment(&self, id: TypeId) -> u64 {
        let natural = self.natural_alignment(id, 0).max(1);
        let size = self.size(id);
        let fits = |by: u64| size.is_multiple_of(by) && self.places_fit(id, by);
        let mut by = natural;
        while by > 1 && !fits(by) {
            by /= 2;
        }
        by
    }

    fn natural_alignment(&self, id: TypeId, depth: u32) -> u64 {
        if depth > 32 {
            return 1;
        }
        match self.get(id).map(|of| (&of.shape, of.size)) {
            Some((Shape::Scalar { .. } | Shape::Pointer(_), size)) => size.min(16),
            Some((Shape::Array { element, .. }, _)) => self.natural_alignment(*element, depth + 1),
            Some((Shape::Record { fields, .. }, _)) => fields
                .iter()
                .map(|field| self.natural_alignment(field.of, depth + 1))
                .max()
                .unwrap_or(1),
            _ => 1,
        }
    }

    fn places_fit(&self, id: TypeId, by: u64) -> bool {
        self.fields(id).iter().all(|field| {
            let needed = self.natural_alignment(field.of, 0).min(by).max(1);
            field.bits.is_some() || field.offset.is_multiple_of(needed)
        })
    }

    /// Canonical spelling: records by their names, so that it ends.
    #[must_use]
    pub fn spell(&self, id: TypeId) -> String {
        let Some(of) = self.get(id) else {
            return "?".to_owned();
        };
        match &of.shape {
            Shape::Scalar { name, .. } => format!("{name}/{}", of.size),
            Shape::Pointer(None) => "void*".to_owned(),
            Shape::Pointer(Some(target)) => format!("{}*", self.spell(*target)),
            Shape::Code { signature } => signature.clone(),
            Shape::Array { element, count } => match count {
                Some(count) => format!("{}[{count}]", self.spell(*element)),
                None => format!("{}[]", self.spell(*element)),
            },
            Shape::Record { key: Some(key), .. } => format!("{} {}", key.tag, key.name),
            Shape::Record { fields, union, .. } => {
                let tag = if *union { "union" } else { "struct" };
                let members: Vec<String> = fields
                    .iter()
                    .map(|f| format!("{} {}@{}", self.spell(f.of), f.name, f.offset))
                    .collect();
                format!("{tag}{{{}}}/{}", members.join(";"), of.size)
            }
            Shape::Unknown { name } => name.clone(),
        }
    }

    /// For people: as [`Self::spell`], without sizes and without the word that
    /// tells a typedef apart.
    #[must_use]
    pub fn readable(&self, id: TypeId) -> String {
        crate::change::layout::readable(&self.spell(id)).replace("typedef ", "")
    }
}
