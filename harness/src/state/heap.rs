//! Blocks of the main heap as the C library's allocator (glibc) keeps them: a header
//! word with the size before each, one behind the other. A check only: what is not
//! understood is not known, and what is not known is not guessed.

use std::collections::BTreeSet;
use std::ops::Range;

use super::memory::{Mappings, Reader};

/// Bytes of a header and of the word before it.
const HEADER: u64 = 16;
/// Smallest block with its header.
const SMALLEST: u64 = 32;
/// Flags in the size word: the block before is in use; mapped by itself.
const PREVIOUS_IN_USE: u64 = 1;
const MAPPED: u64 = 2;
const FLAGS: u64 = 7;
/// Lists of the thread cache: `counts[64]` of two bytes, then `entries[64]`.
const CACHE_LISTS: u64 = 64;
const CACHE_SIZE: u64 = 0x290;

/// An allocated block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// What `malloc` returned.
    pub start: u64,
    /// Bytes that may be used.
    pub usable: u64,
    /// Whether it has been given back.
    pub free: bool,
}

/// Blocks of the main heap.
#[derive(Clone, Debug, Default)]
pub struct Heap {
    range: Range<u64>,
    /// By ascending start.
    blocks: Vec<Allocation>,
}

impl Heap {
    /// Reads the headers of the main heap's blocks; ends where one makes no sense.
    pub fn read(reader: &dyn Reader, mappings: &Mappings) -> Self {
        let Some(heap) = mappings.0.iter().find(|mapping| mapping.heap) else {
            return Self::default();
        };
        let mut found = Self {
            range: heap.range.clone(),
            blocks: Vec::new(),
        };
        let mut at = heap.range.start;
        let size = |at: u64| reader.word(at + 8);
        while at + SMALLEST <= heap.range.end {
            let Some(word) = size(at) else { break };
            let length = word & !FLAGS;
            if length < HEADER || !length.is_multiple_of(16) || length > heap.range.end - at {
                break;
            }
            let next = at + length;
            // The last one is what is left of the heap.
            let last = next + HEADER > heap.range.end;
            let in_use = !last && size(next).is_some_and(|next| next & PREVIOUS_IN_USE != 0);
            if !last {
                found.blocks.push(Allocation {
                    start: at + HEADER,
                    usable: length - 8,
                    free: !in_use,
                });
            }
            at = next;
        }
        found.forget_cached(reader);
        found
    }

    /// Blocks in the first thread's cache look as if they were in use.
    fn forget_cached(&mut self, reader: &dyn Reader) {
        let Some(cache) = self.blocks.first().copied() else {
            return;
        };
        if cache.usable + 8 != CACHE_SIZE {
            return;
        }
        let mut cached = BTreeSet::new();
        for list in 0..CACHE_LISTS {
            let mut at = reader.word(cache.start + 2 * CACHE_LISTS + 8 * list);
            while let Some(block) = at.filter(|block| self.range.contains(block)) {
                if !cached.insert(block) {
                    break;
                }
                // Since 2.32 the link is mixed with its own place.
                at = reader.word(block).map(|link| {
                    let mixed = link ^ (block >> 12);
                    if link == 0 || self.find(mixed).is_some() || mixed == 0 {
                        mixed
                    } else {
                        link
                    }
                });
            }
        }
        for block in &mut self.blocks {
            block.free |= cached.contains(&block.start);
        }
    }

    fn find(&self, address: u64) -> Option<&Allocation> {
        let after = self.blocks.partition_point(|block| block.start <= address);
        let block = self.blocks.get(after.checked_sub(1)?)?;
        (address < block.start + block.usable).then_some(block)
    }

    /// The block that holds `address`, if the allocator's headers tell.
    pub fn allocation(&self, reader: &dyn Reader, address: u64) -> Option<Allocation> {
        if self.range.contains(&address) {
            return self.find(address).copied();
        }
        // A large block has a mapping of its own and begins right in it.
        if address % 4096 == HEADER {
            let word = reader.word(address - 8)?;
            let length = word & !FLAGS;
            let alone = word & FLAGS == MAPPED && length.is_multiple_of(4096) && length > 0;
            return alone.then_some(Allocation {
                start: address,
                usable: length - HEADER,
                free: false,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::memory::Mapping;

    struct Image(Vec<u64>);

    const START: u64 = 0x1000;

    impl Reader for Image {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let all: Vec<u8> = self.0.iter().flat_map(|w| w.to_le_bytes()).collect();
            let Some(at) = address.checked_sub(START) else {
                return false;
            };
            let at = usize::try_from(at).unwrap();
            let Some(bytes) = all.get(at..at + buffer.len()) else {
                return false;
            };
            buffer.copy_from_slice(bytes);
            true
        }
    }

    #[test]
    fn blocks_are_told_apart_and_free_ones_known() {
        let mut words = vec![0; 32];
        words[1] = 0x20 | 1; // in use, at 0x1010
        words[5] = 0x30 | 1; // freed, at 0x1030
        words[11] = 0x20; // in use, at 0x1060: the one before is free
        words[15] = 0x90 | 1; // the rest
        let mappings = Mappings(vec![Mapping {
            range: START..START + 256,
            writable: true,
            heap: true,
        }]);
        let image = Image(words);
        let heap = Heap::read(&image, &mappings);
        let block = |start, usable, free| {
            Some(Allocation {
                start,
                usable,
                free,
            })
        };
        assert_eq!(heap.allocation(&image, 0x1010), block(0x1010, 0x18, false));
        assert_eq!(heap.allocation(&image, 0x1040), block(0x1030, 0x28, true));
        assert_eq!(heap.allocation(&image, 0x1060), block(0x1060, 0x18, false));
        assert_eq!(heap.allocation(&image, 0x1080), None);
    }
}
