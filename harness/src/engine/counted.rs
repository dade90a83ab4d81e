//! What the shared counts of entries of new functions say, by name.

use std::collections::BTreeSet;
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
    /// Whether only it is told if a function was entered, and not how often.
    varies: Vec<bool>,
    last: Vec<u32>,
    entries: Entries,
}

impl Counted {
    /// Those of a patch; none without one. How often functions of `varying` are entered
    /// is a matter of chance.
    #[must_use]
    pub fn of(patch: Option<&Patch>, varying: &BTreeSet<String>) -> Self {
        let functions = patch.map_or_else(Vec::new, counted_functions);
        let names: Vec<Arc<str>> = functions.iter().map(|(name, _)| (*name).into()).collect();
        Self {
            last: vec![0; names.len()],
            varies: names.iter().map(|name| varying.contains(&**name)).collect(),
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
        let all = self.names.iter().zip(&self.varies).zip(&mut self.last);
        for (((name, varies), last), count) in all.zip(counts.chunks_exact(COUNT)) {
            let count = count.try_into().map_or(0, u32::from_le_bytes);
            let count = if *varies { count.min(1) } else { count };
            if count != *last {
                self.entries.add(name, count.into());
                self.entries.remove(name, (*last).into());
                *last = count;
            }
        }
        self.entries.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_varies_only_whether_it_was_entered_is_told() {
        let names: Vec<Arc<str>> = vec!["digit".into(), "reply".into()];
        let mut counted = Counted {
            last: vec![0; names.len()],
            varies: vec![true, false],
            names,
            entries: Entries::default(),
        };
        let counts = |digit: u32, reply: u32| [digit, reply].map(u32::to_le_bytes).concat();
        let seen = counted.entries(&counts(5, 3));
        assert_eq!((seen.get("digit"), seen.get("reply")), (Some(&1), Some(&3)));
        assert_eq!(counted.entries(&counts(6, 3)), seen);
        assert_ne!(counted.entries(&counts(0, 3)), seen);
        assert_ne!(counted.entries(&counts(5, 4)), seen);
    }
}
