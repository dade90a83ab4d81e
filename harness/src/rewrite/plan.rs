//! What is to become of the records of one version: a value that a build depends on.

use serde::{Deserialize, Serialize};

use super::definition::definitions;
use super::tokens::Tokens;
use crate::binary::dwarf::TypeKey;

/// One piece of a record's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// The member of this number in the version's own order, from 0.
    Member(usize),
    /// Bits that no member uses, from this bit of the record on.
    Gap {
        /// First bit.
        at: u64,
        /// How many.
        bits: u64,
    },
    /// A member of so many bytes that makes a union larger.
    Bytes(u64),
}

/// How a record is to be declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPlan {
    /// Its definition in this version.
    pub key: TypeKey,
    /// Its pieces in order: every member once, with gaps between.
    pub items: Vec<Item>,
    /// Alignment in bytes that its members alone would not give it.
    pub aligned: Option<u64>,
}

impl RecordPlan {
    /// Whether members stand in another order than the version's own.
    #[must_use]
    pub fn reorders(&self) -> bool {
        !self.members().eq(0..self.members().count())
    }

    /// Whether something stands between members.
    #[must_use]
    pub fn only_appends(&self) -> bool {
        let members = self.members().count();
        !self.reorders()
            && self.items[..members]
                .iter()
                .all(|item| matches!(item, Item::Member(_)))
    }

    /// Members in the order of their declaration.
    pub fn members(&self) -> impl Iterator<Item = usize> + '_ {
        self.items.iter().filter_map(|item| match item {
            Item::Member(number) => Some(*number),
            _ => None,
        })
    }
}

/// How the records of one version are to be declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Records whose declarations change, by definition.
    pub records: Vec<RecordPlan>,
}

impl Plan {
    /// What is to become of a record.
    #[must_use]
    pub fn record(&self, key: &TypeKey) -> Option<&RecordPlan> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// Whether the plan leaves everything as it is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether a unit defines a planned record.
    pub(super) fn is_concerned(&self, text: &str, file_of: &dyn Fn(&str) -> String) -> bool {
        // Most units are told by the name alone.
        let named = |record: &RecordPlan| text.contains(record.key.name.as_str());
        self.records.iter().any(named)
            && definitions(&Tokens::of(text))
                .iter()
                .any(|definition| self.record(&definition.key(file_of)).is_some())
    }
}
