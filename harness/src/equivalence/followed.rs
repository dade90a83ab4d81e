//! Which steps of a trace a watched run of the same session took, too. It takes many
//! times as long, so that a server that looks at the clock does some things more often
//! in it, or in other places; the rest is the same.

use std::collections::BTreeMap;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::binary::Address;
use crate::engine::stepper::{Stepped, SteppedStretch};
use crate::trace::{Point, RoleInstance, Trace};

/// Entries of functions that must be the same in a row before it is believed that two
/// runs did the same there, but for what they begin or end an exchange with.
const SURE: usize = 8;

/// A thread in one exchange.
type Stretch<'a> = (&'a RoleInstance, u32, Option<u32>);

/// Steps of a trace beside those of a watched run.
#[derive(Clone, Debug)]
pub struct Followed<'a> {
    steps: Vec<Option<(&'a SteppedStretch, u32)>>,
}

impl<'a> Followed<'a> {
    /// Finds in the watched run what each thread did in each exchange of the trace.
    #[must_use]
    pub fn of(trace: &Trace, watched: &'a Stepped) -> Self {
        let mut traced: BTreeMap<Stretch<'_>, Vec<usize>> = BTreeMap::new();
        for (place, point) in trace.points.iter().enumerate() {
            traced.entry(stretch(point)).or_default().push(place);
        }
        let watched: BTreeMap<Stretch<'_>, &SteppedStretch> = watched
            .stretches
            .iter()
            .map(|one| ((&one.role, one.thread, one.exchange), one))
            .collect();
        let mut steps = vec![None; trace.points.len()];
        for (key, places) in traced {
            let Some(stretch) = watched.get(&key) else {
                continue;
            };
            let entered: Vec<Address> = places
                .iter()
                .map(|place| trace.points[*place].function)
                .collect();
            for (from, to) in same_steps(&entered, &stretch.functions) {
                let entries = u32::try_from(to + 1).unwrap_or(u32::MAX);
                steps[places[from]] = Some((*stretch, entries));
            }
        }
        Self { steps }
    }

    /// What the watched run did in the exchange of a point, and after how many entries
    /// there it took the step from that point; none if it did not take it.
    #[must_use]
    pub fn step(&self, place: usize) -> Option<(&'a SteppedStretch, u32)> {
        self.steps.get(place).copied().flatten()
    }
}

fn stretch(point: &Point) -> Stretch<'_> {
    (&point.id.role, point.id.thread, point.id.exchange)
}

/// Steps that both runs take, as the places of the entries that they begin with. A step
/// is the same only if the entry that ends it is, too: where the runs part, it is not.
fn same_steps(traced: &[Address], watched: &[Address]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for operation in capture_diff_slices(Algorithm::Myers, traced, watched) {
        let DiffOp::Equal {
            old_index,
            new_index,
            len,
        } = operation
        else {
            continue;
        };
        let begins = old_index == 0 && new_index == 0;
        let ends = old_index + len == traced.len() && new_index + len == watched.len();
        if len < SURE && !begins && !ends {
            continue;
        }
        let steps = if ends { len } else { len - 1 };
        found.extend((0..steps).map(|step| (old_index + step, new_index + step)));
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(functions: &[u64]) -> Vec<Address> {
        functions.iter().copied().map(Address).collect()
    }

    fn same(traced: &[u64], watched: &[u64]) -> Vec<(usize, usize)> {
        same_steps(&entries(traced), &entries(watched))
    }

    #[test]
    fn equal_runs_take_the_same_steps() {
        assert_eq!(same(&[1, 2], &[1, 2]), [(0, 0), (1, 1)]);
        assert!(same(&[], &[1]).is_empty());
    }

    #[test]
    fn a_step_that_ends_elsewhere_is_another() {
        // The watched run enters 9 once more behind 2.
        let steps = same(&[1, 2, 3, 4], &[1, 2, 9, 3, 4]);
        assert_eq!(steps, [(0, 0), (2, 3), (3, 4)]);
        // It goes on where the trace ends.
        assert_eq!(same(&[1, 2, 3], &[1, 2, 3, 4]), [(0, 0), (1, 1)]);
    }

    #[test]
    fn a_few_equal_entries_between_others_say_nothing() {
        let around = |middle: u64, first, last| {
            let mut all = vec![first];
            all.extend(1..=middle);
            all.push(last);
            all
        };
        let few = SURE as u64 - 1;
        assert!(same(&around(few, 90, 91), &around(few, 92, 93)).is_empty());
        let steps = same(&around(few + 1, 90, 91), &around(few + 1, 92, 93));
        assert_eq!(steps.len(), SURE - 1);
    }

    proptest! {
        #[test]
        fn both_ends_of_a_step_are_the_same(
            traced in proptest::collection::vec(0u64..4, 0..60),
            watched in proptest::collection::vec(0u64..4, 0..60),
        ) {
            let mut last = None;
            for (from, to) in same(&traced, &watched) {
                prop_assert_eq!(traced[from], watched[to]);
                prop_assert_eq!(traced.get(from + 1), watched.get(to + 1));
                // In the same order, and each once.
                prop_assert!(last < Some((from, to)) && last.is_none_or(|(_, l)| l < to));
                last = Some((from, to));
            }
        }
    }
}
