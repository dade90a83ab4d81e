//! Steps of one session that touch state of the update, as a run of the old version
//! that was watched instruction by instruction showed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::followed::Followed;
use crate::binary::Address;
use crate::engine::stepper::Stepped;
use crate::trace::Trace;
use crate::tracee::access::Access;

/// Why a step counts that the watched run did not take.
pub const ANOTHER_WAY: &str = "something, for the watched run took another way";

/// What was measured of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Memory that the update reads or writes, with names for people.
    pub state: Vec<(Access, String)>,
    /// Points, by their places in the trace, in the step from which some of it is
    /// touched, and what.
    pub steps: BTreeMap<u32, String>,
    /// Why nothing could be measured: every step conflicts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Touched {
    /// A session of which nothing is known, and why.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self {
            unknown: Some(why.into()),
            ..Self::default()
        }
    }

    /// Takes from a watched run which steps of the trace touch state. Those that that
    /// run did not take all do.
    #[must_use]
    pub fn of(trace: &Trace, state: Vec<(Access, String)>, watched: &Stepped) -> Self {
        let mut steps = BTreeMap::new();
        let followed = Followed::of(trace, watched);
        for place in 0..trace.points.len() {
            let what = match followed.step(place) {
                None => ANOTHER_WAY.to_owned(),
                Some((stretch, entries)) => match stretch.touched.get(&entries) {
                    None => continue,
                    Some(which) => state
                        .get(*which)
                        .map_or_else(String::new, |(_, name)| name.clone()),
                },
            };
            steps.insert(u32::try_from(place).unwrap_or(u32::MAX), what);
        }
        Self {
            state,
            steps,
            unknown: None,
        }
    }

    /// What the step from a point touches.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<&str> {
        let place = u32::try_from(place).ok()?;
        self.steps.get(&place).map(String::as_str)
    }
}

/// Whether anything of one set conflicts with anything of the other.
#[must_use]
pub fn conflict(one: &BTreeSet<Access>, other: &BTreeSet<Access>) -> bool {
    one.iter()
        .any(|access| other.iter().any(|other| access.conflicts(other)))
}

/// Accesses as few stretches of memory, those that are written apart from those that are
/// only read.
#[must_use]
pub fn joined(accesses: &[Access]) -> BTreeSet<Access> {
    let mut found = BTreeSet::new();
    for writes in [true, false] {
        let mut ranges: Vec<(u64, u64)> = accesses
            .iter()
            .filter(|access| access.writes == writes)
            .map(|access| {
                let start = access.address.0;
                (start, start.saturating_add(access.length))
            })
            .collect();
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => joined.push((start, end)),
            }
        }
        found.extend(joined.into_iter().map(|(start, end)| Access {
            address: Address(start),
            length: end - start,
            writes,
        }));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accesses_that_meet_are_joined() {
        let access = |address, length, writes| Access {
            address: Address(address),
            length,
            writes,
        };
        let all = [
            access(8, 8, false),
            access(0, 8, false),
            access(4, 2, false),
            access(32, 4, false),
            access(16, 8, true),
        ];
        let expected = [
            access(0, 16, false),
            access(16, 8, true),
            access(32, 4, false),
        ];
        assert_eq!(joined(&all), expected.into());
    }
}
