//! Which of the objects that a walk met are instances to be converted: none that lies
//! in another, none that contradicts another, and none of which the end is not known.

use std::collections::BTreeSet;

use super::frames::FrameVariables;
use super::plan::Count;
use super::walk::{Block, Found, Home, Walk};

impl Walk<'_> {
    /// What was found, and what of it can be believed.
    pub(super) fn finish(mut self, frames: &FrameVariables) -> Found {
        let mut blocks: Vec<Block> = std::mem::take(&mut self.blocks)
            .into_iter()
            .filter(|block| self.plan.types[block.of].conversion.is_some())
            .collect();
        // Of two that begin together the larger holds the other.
        blocks.sort_by_key(|block| (block.address, std::cmp::Reverse(block.length), block.home));
        let mut kept: Vec<Block> = Vec::new();
        let mut disputed = BTreeSet::new();
        for block in blocks {
            match kept.last() {
                Some(holder) if block.address < holder.end() => {
                    let offset = block.address - holder.address;
                    let explained = self.lies_in(holder, offset, &block);
                    let sure = holder.home == Home::Variable;
                    if !explained {
                        let text = format!(
                            "{} at {:#x} overlaps {} at {:#x}; {} not converted",
                            self.plan.types[block.of].name,
                            block.address,
                            self.plan.types[holder.of].name,
                            holder.address,
                            if sure { "it is" } else { "both are" }
                        );
                        self.problem(text);
                    }
                    if !explained && !sure {
                        // One pointer is a lie, and nothing tells which.
                        disputed.insert(holder.address);
                    }
                }
                _ => kept.extend(self.fitting(block)),
            }
        }
        kept.retain(|block| !disputed.contains(&block.address));
        for name in &frames.unknown {
            self.problem(format!("where {name} is kept is not understood"));
        }
        Found {
            blocks: kept,
            slots: self.slots.into_iter().collect(),
            problems: self.problems,
            roots: self.roots,
        }
    }

    /// Whether `block` is part of `holder` at that offset.
    fn lies_in(&self, holder: &Block, offset: u64, block: &Block) -> bool {
        let size = self.plan.types[holder.of].size.max(1);
        if block.of == holder.of {
            return offset.is_multiple_of(size);
        }
        // Elements of a flexible array lie behind the record itself, and each is like the
        // first.
        let into = match self.elements(holder.of) {
            Some((first, stride)) if offset >= first => first + (offset - first) % stride.max(1),
            Some(_) => offset,
            None => offset % size,
        };
        self.has_part(holder.of, into, block.of, 0)
    }

    /// Where the flexible array that a type ends in begins, and the size of an element.
    fn elements(&self, of: usize) -> Option<(u64, u64)> {
        let converted = self.plan.conversion(of).and_then(|c| c.tail.as_ref());
        let named = self.plan.types[of].tail.as_ref();
        converted
            .map(|tail| (tail.from, tail.from_stride))
            .or_else(|| named.map(|tail| (tail.offset, tail.stride)))
    }

    /// Whether a type has a part of type `wanted` at that offset.
    pub(super) fn has_part(&self, of: usize, offset: u64, wanted: usize, depth: u32) -> bool {
        if offset == 0 && (of == wanted || self.plan.types[of].name == self.plan.types[wanted].name)
        {
            return true;
        }
        depth < 64
            && self.plan.types[of]
                .parts
                .iter()
                .filter(|part| !part.pointer && part.offset <= offset)
                .any(|part| {
                    let size = self.plan.types[part.of].size.max(1);
                    let into = offset - part.offset;
                    let within = match part.count {
                        Count::Fixed(count) => into < size * count.max(1),
                        _ => true,
                    };
                    within && self.has_part(part.of, into % size, wanted, depth + 1)
                })
    }

    /// The block with the room that it has; none if it is not what it seems to be.
    fn fitting(&mut self, mut block: Block) -> Option<Block> {
        let of = &self.plan.types[block.of];
        let name = of.name.clone();
        let named = of.tail.as_ref().filter(|_| block.count == 1);
        let named = named.and_then(|tail| {
            let count = self.count(&tail.count, block.address, block.address)?;
            Some(tail.offset + count * tail.stride)
        });
        if let Some(length) = named {
            block.length = block.length.max(length);
            block.room = block.length;
        }
        let flexible = self
            .plan
            .conversion(block.of)
            .is_some_and(|conversion| conversion.tail.is_some());
        let writable = self.view.mappings.holding(block.address, block.length);
        // Constants are renewed with the code that uses them.
        block.constant = !writable.is_some_and(|mapping| mapping.writable);
        if block.home != Home::Heap || block.constant {
            return Some(block);
        }
        let at = block.address;
        let Some(allocation) = self.view.heap.allocation(self.view.reader, at) else {
            if flexible && named.is_none() {
                self.problem(format!(
                    "{name} at {at:#x} ends in an array whose length is not known; it is not \
                     converted"
                ));
                return None;
            }
            return Some(block);
        };
        if block.end() > allocation.start + allocation.usable {
            let usable = allocation.usable;
            self.problem(format!(
                "{name} at {at:#x} is larger than its allocation of {usable} bytes; it is left alone"
            ));
            return None;
        }
        if allocation.start == at {
            block.room = allocation.usable;
            if flexible && named.is_none() && block.count == 1 {
                block.length = allocation.usable;
            }
            let size = self.plan.types[block.of].size;
            let more = allocation.usable - block.length.min(allocation.usable);
            if !flexible && more >= size.max(32) {
                self.problem(format!(
                    "the allocation of {name} has room for more: if it is an array, name its length"
                ));
            }
        }
        Some(block)
    }
}
