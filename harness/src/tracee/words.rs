//! What a conservative scan of a stack sees: every word that might be a return
//! address is taken for one.

use std::collections::BTreeSet;

use super::Memory;
use super::unwind::Walk;
use crate::binary::Address;

/// Bytes read at a time.
const BLOCK: usize = 1 << 14;

/// Entries of the functions that some word of a stack points into, from the stack
/// pointer up to the outermost frame of `walk`; `function_of` finds the entry of the
/// function that an address lies in. What an incomplete walk did not reach is not
/// scanned: it refuses by itself.
#[must_use]
pub fn scan(
    memory: &Memory,
    stack_pointer: Address,
    walk: &Walk,
    function_of: &dyn Fn(Address) -> Option<Address>,
) -> BTreeSet<Address> {
    let mut found = BTreeSet::new();
    let end = walk.frames.iter().map(|frame| frame.cfa).max();
    let Some(end) = end.filter(|end| *end > stack_pointer) else {
        return found;
    };
    let mut at = stack_pointer;
    let mut block = vec![0; BLOCK];
    while at < end {
        let wanted = usize::try_from(end.since(at)).unwrap_or(BLOCK).min(BLOCK);
        let length = memory.read_some(at, &mut block[..wanted]);
        found.extend(
            block[..length]
                .chunks_exact(8)
                .filter_map(|word| Some(Address(u64::from_le_bytes(word.try_into().ok()?))))
                .filter_map(function_of),
        );
        if length < wanted {
            break;
        }
        at = at.plus(length as u64);
    }
    found
}
