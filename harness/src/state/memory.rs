//! Memory as a walk sees it: what can be read, and what is mapped where.

use std::ops::Range;

/// Memory of a stopped process, or an image of it in a test.
pub trait Reader {
    /// Fills `buffer` from `address`; false where not all of it is mapped.
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool;

    /// One eight-byte word.
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)
            .then(|| u64::from_le_bytes(bytes))
    }

    /// Bytes of that length.
    fn bytes(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.read(address, &mut bytes).then_some(bytes)
    }
}

/// One mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// From the first address to the one behind the last.
    pub range: Range<u64>,
    /// Whether the process can write it.
    pub writable: bool,
    /// Whether it is what `brk` grows: the main heap.
    pub heap: bool,
}

/// All mappings of a process, by ascending address.
#[derive(Clone, Debug, Default)]
pub struct Mappings(pub Vec<Mapping>);

impl Mappings {
    /// The mapping that holds all of these bytes. Neighbours count as one only if
    /// both are mapped alike.
    #[must_use]
    pub fn holding(&self, address: u64, length: u64) -> Option<&Mapping> {
        let after = self
            .0
            .partition_point(|mapping| mapping.range.start <= address);
        let mapping = self.0.get(after.checked_sub(1)?)?;
        let end = address.checked_add(length)?;
        (address < mapping.range.end && end <= mapping.range.end).then_some(mapping)
    }
}
