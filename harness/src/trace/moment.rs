//! By what an entry is found again in a run that goes a little otherwise: a loop has one
//! turn more, because a number that is printed has one digit more.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::binary::Address;

/// One entry among all that a thread makes in one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Fingerprint of its stack.
    pub stack: u64,
    /// How many entries before it have that stack.
    pub occurrence: u32,
    /// How many behind it do.
    pub left: u32,
    /// What was entered before it, in whatever order: the sum of the functions' marks.
    pub entered: u64,
    /// What is entered behind it.
    pub to_come: u64,
    /// Which stacks there were before it, however often.
    pub stacks: u64,
}

impl Moment {
    /// The moments of all entries of a thread in an exchange, which are given by the
    /// fingerprints of their stacks and their functions.
    #[must_use]
    pub fn all(entries: &[(u64, Address)]) -> Vec<Self> {
        let mut counts: HashMap<u64, u32> = HashMap::new();
        let mut known = HashSet::new();
        let (mut entered, mut stacks) = (0_u64, 0_u64);
        let mut moments: Vec<Self> = Vec::with_capacity(entries.len());
        for (stack, function) in entries {
            let count = counts.entry(*stack).or_insert(0);
            moments.push(Self {
                stack: *stack,
                occurrence: *count,
                left: 0,
                entered,
                to_come: 0,
                stacks,
            });
            *count += 1;
            entered = entered.wrapping_add(mark(function.0));
            if known.insert(*stack) {
                stacks = stacks.wrapping_add(mark(*stack));
            }
        }
        for (moment, (stack, function)) in moments.iter_mut().zip(entries) {
            let count = counts.get(stack).copied().unwrap_or(0);
            moment.left = count.saturating_sub(moment.occurrence + 1);
            let until = moment.entered.wrapping_add(mark(function.0));
            moment.to_come = entered.wrapping_sub(until);
        }
        moments
    }
}

/// A number that stands for another one in sums: sums are equal where the same ones were
/// added as often, in whatever order.
const fn mark(number: u64) -> u64 {
    // SplitMix64's finaliser: neighbouring addresses must not make equal sums.
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The entries of a thread in an exchange of a run, and what is known of each.
#[derive(Clone, Debug)]
pub struct Moments<T> {
    from_start: HashMap<(u64, u32), (Moment, T)>,
    from_end: HashMap<(u64, u32), (Moment, T)>,
}

impl<T: Copy> Moments<T> {
    /// Of all entries, in their order.
    #[must_use]
    pub fn of(entries: &[(u64, Address)], known: &[T]) -> Self {
        let all = Moment::all(entries).into_iter().zip(known.iter().copied());
        let all: Vec<_> = all.collect();
        let each = || all.iter().copied();
        Self {
            from_start: each()
                .map(|all| ((all.0.stack, all.0.occurrence), all))
                .collect(),
            from_end: each().map(|all| ((all.0.stack, all.0.left), all)).collect(),
        }
    }

    /// What is known of the entry that is an entry of another run: it has the same stack
    /// for the same time, and either the same functions were entered before it as often,
    /// or the same are behind it, and what was before it is the same but for how often.
    /// Else it would be another moment: a request may have been served by then.
    ///
    /// # Errors
    /// What is otherwise.
    pub fn find(&self, moment: &Moment) -> Result<T, &'static str> {
        let from_start = self.from_start.get(&(moment.stack, moment.occurrence));
        let from_end = self.from_end.get(&(moment.stack, moment.left));
        if from_start.is_none() && from_end.is_none() {
            return Err("has no such entry");
        }
        let from_start = from_start.filter(|(own, _)| own.entered == moment.entered);
        let from_end = from_end
            .filter(|(own, _)| (own.to_come, own.stacks) == (moment.to_come, moment.stacks));
        let found = from_start.or(from_end).map(|(_, known)| *known);
        found.ok_or("enters other functions before it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries by letters: each has a stack and a function of its own.
    fn entries(letters: &str) -> Vec<(u64, Address)> {
        let letters = letters.bytes().map(u64::from);
        letters.map(|letter| (letter, Address(letter))).collect()
    }

    /// Where each entry of one run is found in another one.
    fn found(in_one: &str, in_other: &str) -> Vec<Option<usize>> {
        let other = entries(in_other);
        let places: Vec<usize> = (0..other.len()).collect();
        let other = Moments::of(&other, &places);
        let moments = Moment::all(&entries(in_one));
        moments
            .iter()
            .map(|moment| other.find(moment).ok())
            .collect()
    }

    #[test]
    fn what_is_the_same_is_found_in_its_place() {
        let all: Vec<_> = (0..5).map(Some).collect();
        assert_eq!(found("abcab", "abcab"), all);
    }

    #[test]
    fn a_loop_may_have_more_or_fewer_turns() {
        let behind = [Some(0), Some(1), Some(2), Some(4), Some(5)];
        assert_eq!(found("allxy", "alllxy"), behind);
        let fewer = [Some(0), Some(1), Some(2), Some(2), Some(3), Some(4)];
        assert_eq!(found("alllxy", "allxy"), fewer);
    }

    #[test]
    fn what_was_done_in_another_order_is_another_moment() {
        assert_eq!(found("aabbz", "bbaaz"), [None, None, None, None, Some(4)]);
        assert_eq!(found("atbt", "abtt"), [Some(0), None, None, Some(3)]);
    }

    #[test]
    fn what_comes_behind_something_that_is_missing_is_another_moment() {
        assert_eq!(found("atbc", "abc"), [Some(0), None, None, None]);
        assert_eq!(found("abc", "atbc"), [Some(0), None, None]);
    }
}
