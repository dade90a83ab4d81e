//! Names of the old program's functions by address.

use serde::{Deserialize, Serialize};

use crate::binary::Address;
use crate::patch::FunctionName;

/// Finds the function of the old program that an address lies in.
pub trait Functions {
    /// The function; none for the library's addresses.
    fn lookup(&self, address: Address) -> Option<&FunctionName>;
}

/// Where a function of the old program lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionRange {
    /// The function.
    pub function: FunctionName,
    /// Its entry.
    pub start: Address,
    /// Its size in bytes, entry pad included.
    pub size: u64,
}

/// All functions of the old program, sorted by address. Stored with a run, so
/// that policies can be evaluated again without the binaries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<FunctionRange>", into = "Vec<FunctionRange>")]
pub struct FunctionTable {
    ranges: Vec<FunctionRange>,
}

impl FunctionTable {
    /// Builds the table; ranges need not be sorted.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = FunctionRange>) -> Self {
        let mut ranges: Vec<FunctionRange> = ranges.into_iter().collect();
        ranges.sort_by_key(|range| range.start);
        Self { ranges }
    }

    /// The function that an address lies in, with its place.
    #[must_use]
    pub fn covering(&self, address: Address) -> Option<&FunctionRange> {
        let behind = self.ranges.partition_point(|range| range.start <= address);
        let range = self.ranges.get(behind.checked_sub(1)?)?;
        (address.since(range.start) < range.size).then_some(range)
    }

    /// The ranges, in order of address.
    #[must_use]
    pub fn ranges(&self) -> &[FunctionRange] {
        &self.ranges
    }
}

impl Functions for FunctionTable {
    fn lookup(&self, address: Address) -> Option<&FunctionName> {
        self.covering(address).map(|range| &range.function)
    }
}

impl From<Vec<FunctionRange>> for FunctionTable {
    fn from(ranges: Vec<FunctionRange>) -> Self {
        Self::new(ranges)
    }
}

impl From<FunctionTable> for Vec<FunctionRange> {
    fn from(table: FunctionTable) -> Self {
        table.ranges
    }
}
