//! Blocks of the heaps as the C library's allocator (glibc) keeps them: a header word
//! with the size before each, one behind the other; in the main heap, and in the arenas
//! that threads have. A check only: what is not understood is not known, and what is
//! not known is not guessed.

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
/// What a thread's heap is aligned to. It begins with the address of its arena, which
/// lies behind the first header of the arena's first heap and is followed by blocks.
const ARENA_ALIGNMENT: u64 = 64 << 20;
const ARENA_OFFSETS: Range<u64> = 0x20..0x40;
/// Bytes of an arena, and where in it the address is of what is left of its heap.
const ARENA_SIZE: u64 = 0x898;
const ARENA_TOP: u64 = 0x60;

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

/// Blocks of the main heap and of the first heap of each arena.
#[derive(Clone, Debug, Default)]
pub struct Heap(Vec<Region>);

/// Blocks that lie one behind the other.
#[derive(Clone, Debug)]
struct Region {
    range: Range<u64>,
    /// By ascending start.
    blocks: Vec<Allocation>,
}

impl Heap {
    /// Reads the headers of all blocks; in the main heap up to the first that makes no
    /// sense, in an arena only if all do.
    pub fn read(reader: &dyn Reader, mappings: &Mappings) -> Self {
        let main = mappings.0.iter().find(|mapping| mapping.heap);
        let main = main.map(|heap| Region::read(reader, heap.range.clone()).0);
        let arenas = mappings.0.iter().filter(|mapping| {
            mapping.writable && !mapping.heap && mapping.range.start % ARENA_ALIGNMENT == 0
        });
        let arenas = arenas.filter_map(|mapping| Region::arena(reader, &mapping.range));
        let mut found = Self(main.into_iter().chain(arenas).collect());
        found.forget_cached(reader);
        found
    }

    /// Blocks in the cache of the thread that a heap is of look as if they were in use.
    fn forget_cached(&mut self, reader: &dyn Reader) {
        let mut cached = BTreeSet::new();
        let caches = self.0.iter().filter_map(|region| region.blocks.first());
        for cache in caches.filter(|cache| cache.usable + 8 == CACHE_SIZE) {
            for list in 0..CACHE_LISTS {
                let mut at = reader.word(cache.start + 2 * CACHE_LISTS + 8 * list);
                while let Some(block) = at.filter(|block| self.find(*block).is_some()) {
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
        }
        for block in self.0.iter_mut().flat_map(|region| &mut region.blocks) {
            block.free |= cached.contains(&block.start);
        }
    }

    fn region(&self, address: u64) -> Option<&Region> {
        self.0.iter().find(|region| region.range.contains(&address))
    }

    fn find(&self, address: u64) -> Option<&Allocation> {
        let blocks = &self.region(address)?.blocks;
        let after = blocks.partition_point(|block| block.start <= address);
        let block = blocks.get(after.checked_sub(1)?)?;
        (address < block.start + block.usable).then_some(block)
    }

    /// The block that holds `address`, if the allocator's headers tell.
    pub fn allocation(&self, reader: &dyn Reader, address: u64) -> Option<Allocation> {
        if self.region(address).is_some() {
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

impl Region {
    /// The blocks in `range`, and the address behind the last that made sense.
    fn read(reader: &dyn Reader, range: Range<u64>) -> (Self, u64) {
        let mut blocks = Vec::new();
        let mut at = range.start;
        let size = |at: u64| reader.word(at + 8);
        while at + SMALLEST <= range.end {
            let Some(word) = size(at) else { break };
            let length = word & !FLAGS;
            if length < HEADER || !length.is_multiple_of(16) || length > range.end - at {
                break;
            }
            let next = at + length;
            // The last one is what is left of the heap.
            let last = next + HEADER > range.end;
            let in_use = !last && size(next).is_some_and(|next| next & PREVIOUS_IN_USE != 0);
            if !last {
                blocks.push(Allocation {
                    start: at + HEADER,
                    usable: length - 8,
                    free: !in_use,
                });
            }
            at = next;
        }
        (Self { range, blocks }, at)
    }

    /// The first heap of an arena, if the mapping is one: its blocks end where the
    /// arena says that the rest begins.
    fn arena(reader: &dyn Reader, mapping: &Range<u64>) -> Option<Self> {
        let arena = reader.word(mapping.start)?;
        if !ARENA_OFFSETS.contains(&arena.checked_sub(mapping.start)?) {
            return None;
        }
        let top = reader.word(arena + ARENA_TOP)?;
        let first = (arena + ARENA_SIZE).next_multiple_of(HEADER);
        let rest = reader.word(top.checked_add(8)?)? & !FLAGS;
        let end = top.checked_add(rest)?;
        if top < first || end > mapping.end {
            return None;
        }
        let (mut region, behind) = Self::read(reader, first..end);
        region.range = mapping.clone();
        (behind == end).then_some(region)
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
