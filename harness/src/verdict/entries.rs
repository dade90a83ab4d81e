//! How often each function was entered, by name. Tests show nearly the same of it, and
//! there are many functions: names are shared, and what one test shows can be told by
//! how it differs from another.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Counts of entries that are not zero, by function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(BTreeMap<Arc<str>, u64>);

impl Entries {
    /// Adds entries of a function.
    pub fn add(&mut self, name: &Arc<str>, count: u64) {
        if count > 0 {
            *self.0.entry(Arc::clone(name)).or_insert(0) += count;
        }
    }

    /// Takes entries of a function away, of which there are as many.
    pub fn remove(&mut self, name: &Arc<str>, count: u64) {
        if let Some(now) = self.0.get_mut(name) {
            *now = now.saturating_sub(count);
            if *now == 0 {
                self.0.remove(name);
            }
        }
    }

    /// The counts that differ from those of another; zero where only that one has some.
    #[must_use]
    pub fn since(&self, other: &Self) -> Self {
        let count = |of: &Self, name: &Arc<str>| of.0.get(name).copied().unwrap_or(0);
        let mut differing = BTreeMap::new();
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        // Mostly both have the same names.
        while let (Some((name, one)), Some((their, two))) = (ours.peek(), theirs.peek()) {
            if !Arc::ptr_eq(name, their) && name != their {
                break;
            }
            if one != two {
                differing.insert(Arc::clone(name), **one);
            }
            (_, _) = (ours.next(), theirs.next());
        }
        for (name, one) in ours {
            if *one != count(other, name) {
                differing.insert(Arc::clone(name), *one);
            }
        }
        for (name, _) in theirs {
            if count(self, name) == 0 {
                differing.insert(Arc::clone(name), 0);
            }
        }
        Self(differing)
    }

    /// Takes over the counts by which another differs from this one.
    pub fn take_over(&mut self, differing: &Self) {
        for (name, count) in &differing.0 {
            if *count == 0 {
                self.0.remove(name);
            } else if let Some(known) = self.0.get_mut(name) {
                *known = *count;
            } else {
                self.0.insert(Arc::clone(name), *count);
            }
        }
    }
}

impl Deref for Entries {
    type Target = BTreeMap<Arc<str>, u64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<N: Into<Arc<str>>> FromIterator<(N, u64)> for Entries {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        Self(entries.map(|(name, count)| (name.into(), count)).collect())
    }
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, count)| (&**name, count)))
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<String, u64>::deserialize(deserializer)?;
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Entries> {
        let counts = prop::collection::btree_map("[a-e]", 1..4_u64, 0..6);
        counts.prop_map(|counts| counts.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_differs_makes_one_of_the_other(one in entries(), other in entries()) {
            let mut taken = one.clone();
            taken.take_over(&other.since(&one));
            prop_assert_eq!(&taken, &other);
            prop_assert!(one.since(&one).is_empty());
            let text = serde_json::to_string(&other).unwrap();
            prop_assert_eq!(serde_json::from_str::<Entries>(&text).unwrap(), other);
        }
    }

    #[test]
    fn what_is_added_can_be_taken_away() {
        let mut counts: Entries = [("f", 2)].into_iter().collect();
        let (f, g): (Arc<str>, Arc<str>) = ("f".into(), "g".into());
        counts.add(&f, 3);
        counts.add(&g, 0);
        counts.remove(&f, 1);
        assert_eq!(counts, [("f", 4)].into_iter().collect());
        counts.remove(&f, 4);
        assert!(counts.is_empty());
    }
}
