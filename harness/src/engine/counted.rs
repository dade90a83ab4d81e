//! What the shared counts of entries of new functions say, by name.

use std::sync::Arc;

use crate::patch::Patch;
use crate::tracee::apply::counted_functions;
use crate::verdict::entries::Entries;

/// Bytes of a count.
const COUNT: usize = 4;

/// The functions whose entries are counted, and what was read last: the next reading
/// differs little.
#[derive(Debug, Default)]
pub struct Counted {
    names: Vec<Arc<str>>,
    last: Vec<u32>,
    entries: Entries,
}

impl Counted {
    /// Those of a patch; none without one.
    #[must_use]
    pub fn of(patch: Option<&Patch>) -> Self {
        let functions = patch.map_or_else(Vec::new, counted_functions);
        let names: Vec<Arc<str>> = functions.iter().map(|(name, _)| (*name).into()).collect();
        Self {
            last: vec![0; names.len()],
            names,
            entries: Entries::default(),
        }
    }

    /// Bytes in which they are counted.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        COUNT * self.names.len()
    }

    /// Adds up counts by function name.
    pub fn entries(&mut self, counts: &[u8]) -> Entries {
        let all = self.names.iter().zip(&mut self.last);
        for ((name, last), count) in all.zip(counts.chunks_exact(COUNT)) {
            let count = count.try_into().map_or(0, u32::from_le_bytes);
            if count != *last {
                self.entries.add(name, count.into());
                self.entries.remove(name, (*last).into());
                *last = count;
            }
        }
        self.entries.clone()
    }
}
