//! Stops a test as soon as the rest of its observation is certain: at the end of an
//! exchange its server and world are in a state in which an earlier test of the same
//! server was at the end of the same exchange, and that one was observed to its end.
//!
//! To look costs something. So a test looks at few ends of exchanges, none do while
//! looking costs more than it saves, and few while nothing is found. Now and then a test
//! that could stop goes on, and must show what was expected.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::tracee::digest::Digest;
use crate::verdict::Observation;
use crate::verdict::observation::{Ending, SeenProcess};

/// Ends of exchanges at which one test looks.
const LOOKS: u32 = 3;
/// Ends that are remembered.
const MOST_ENDS: usize = 512;
/// Tests in a row that looked in vain, after which only some do.
const MOST_IN_VAIN: u32 = 24;
/// One of how many these are.
const SELDOM: u32 = 16;
/// The first tests that could stop go on to be compared, and then one of so many.
const FIRST_CHECKS: u64 = 2;
const CHECK_EVERY: u64 = 128;

/// Counts of entries of new functions, as the processes keep them.
pub(super) type Counts = Vec<u8>;

/// How an earlier test went on from a state.
pub(super) struct End {
    observation: Rc<Observation>,
    /// What was counted in that state, and at the end.
    then: Counts,
    last: Rc<Counts>,
}

/// A state in which the test under way was.
struct Passed {
    exchange: u32,
    state: Digest,
    counts: Counts,
}

/// What a test does that is in a state which is known.
pub(super) enum Found {
    /// It stops: the rest is known.
    Stops(Rc<End>),
    /// It goes on: the rest is not known, or is to be compared.
    GoesOn,
}

/// How the tests of one living server went on from where they were at ends of exchanges.
#[derive(Default)]
pub(super) struct KnownEnds {
    /// Whether tests may stop early.
    pub used: bool,
    ends: HashMap<(u32, Digest), Rc<End>>,
    order: VecDeque<(u32, Digest)>,
    passed: Vec<Passed>,
    left: u32,
    began: Option<Instant>,
    /// What the test under way is expected to show, being compared.
    expected: Option<(u32, Counts, Rc<End>)>,
    found: u64,
    tests: u32,
    in_vain: u32,
    /// What a look costs, and an exchange behind it.
    look: Duration,
    exchange: Duration,
}

impl KnownEnds {
    /// A test begins.
    pub(super) fn begin(&mut self) {
        self.passed.clear();
        self.expected = None;
        self.tests = self.tests.wrapping_add(1);
        let seldom = self.in_vain > MOST_IN_VAIN && !self.tests.is_multiple_of(SELDOM);
        self.left = if self.used && !seldom { LOOKS } else { 0 };
        self.began = Some(Instant::now());
    }

    /// Whether the test under way is to look at the end of the exchange, behind which so
    /// many exchanges are left.
    pub(super) fn looks(&mut self, exchanges_left: u32) -> bool {
        if self.left == 0 {
            return false;
        }
        if self.exchange * exchanges_left >= self.look {
            return true;
        }
        // It may have cost so much only once.
        self.look -= self.look / 64;
        self.left = 0;
        false
    }

    /// The test under way is in a state at the end of an exchange; finding that out took
    /// some time.
    pub(super) fn is_in(
        &mut self,
        exchange: u32,
        state: Digest,
        counts: Counts,
        took: Duration,
    ) -> Found {
        self.left -= 1;
        self.look = mean(self.look, took);
        let known = self.ends.get(&(exchange, state)).map(Rc::clone);
        let Some(end) = known else {
            let passed = Passed {
                exchange,
                state,
                counts,
            };
            self.passed.push(passed);
            return Found::GoesOn;
        };
        (self.left, self.in_vain) = (0, 0);
        self.found += 1;
        if self.found <= FIRST_CHECKS || self.found.is_multiple_of(CHECK_EVERY) {
            self.expected = Some((exchange, counts, end));
            return Found::GoesOn;
        }
        Found::Stops(end)
    }

    /// Whether the test under way needs the ends of exchanges.
    pub(super) const fn wants_ends(&self) -> bool {
        self.left > 0
    }

    /// The test under way played to its end, which took it so many exchanges.
    pub(super) fn played(&mut self, exchanges: u32) {
        if let (Some(began), 1..) = (self.began.take(), exchanges) {
            self.exchange = mean(self.exchange, began.elapsed() / exchanges);
        }
        if !self.passed.is_empty() {
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// The test under way showed this: where it went on from is known now. Tells in which
    /// exchange it was expected to show something else behind.
    pub(super) fn showed(&mut self, shown: &Observation, last: &Counts) -> Option<u32> {
        let mut differs = None;
        if let Some((exchange, counts, end)) = self.expected.take() {
            let mut expected = shown.clone();
            let mut all = counts;
            end.go_on(exchange, &mut expected, &mut all);
            if !same(&expected, shown) || all != *last {
                differs = Some(exchange);
            }
        }
        if differs.is_some() {
            *self = Self::default();
            return differs;
        }
        if self.passed.is_empty() {
            return None;
        }
        let (observation, last) = (Rc::new(shown.clone()), Rc::new(last.clone()));
        for passed in self.passed.drain(..) {
            let end = End {
                observation: Rc::clone(&observation),
                then: passed.counts,
                last: Rc::clone(&last),
            };
            let key = (passed.exchange, passed.state);
            if self.ends.insert(key, Rc::new(end)).is_none() {
                self.order.push_back(key);
            }
            if self.order.len() > MOST_ENDS
                && let Some(oldest) = self.order.pop_front()
            {
                self.ends.remove(&oldest);
            }
        }
        None
    }
}

impl End {
    /// Completes what a test showed up to the end of an exchange, and its counts there.
    pub(super) fn go_on(&self, exchange: u32, shown: &mut Observation, counts: &mut Counts) {
        let known = &*self.observation;
        let behind = usize::try_from(exchange)
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        shown.exchanges.truncate(behind);
        let rest = known.exchanges.get(behind..).unwrap_or_default();
        shown.exchanges.extend_from_slice(rest);
        for (at, later) in known.processes.iter().enumerate() {
            match shown.processes.get_mut(at) {
                Some(own) if has_ended(own, exchange) => {}
                Some(own) => own.clone_from(later),
                None => shown.processes.push(later.clone()),
            }
        }
        shown.files.clone_from(&known.files);
        shown.output.clone_from(&known.output);
        shown.stall.clone_from(&known.stall);
        shown.old_frame_exchanges.retain(|at| *at <= exchange);
        let later = known
            .old_frame_exchanges
            .iter()
            .filter(|at| **at > exchange);
        shown.old_frame_exchanges.extend(later);
        for (at, count) in counts.chunks_exact_mut(4).enumerate() {
            let number = |counts: &[u8]| {
                let bytes = counts.get(4 * at..4 * at + 4).unwrap_or_default();
                bytes.try_into().map_or(0, u32::from_le_bytes)
            };
            let gained = number(&self.last).wrapping_sub(number(&self.then));
            let now = u32::from_le_bytes(count.try_into().unwrap_or_default());
            count.copy_from_slice(&now.wrapping_add(gained).to_le_bytes());
        }
    }
}

/// Whether a process had ended when an exchange did.
fn has_ended(process: &SeenProcess, exchange: u32) -> bool {
    process.ending != Ending::Outlived && process.ended_in <= exchange
}

/// Whether two tests show the same from an update on, entries apart.
fn same(one: &Observation, other: &Observation) -> bool {
    one.exchanges == other.exchanges
        && one.processes == other.processes
        && one.files == other.files
        && one.output == other.output
        && one.stall == other.stall
        && one.old_frame_exchanges == other.old_frame_exchanges
}

/// A mean in which what lies back counts less and less.
fn mean(before: Duration, now: Duration) -> Duration {
    if before.is_zero() {
        return now;
    }
    before * 7 / 8 + now / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::RoleInstance;
    use crate::verdict::observation::SeenExchange;

    fn shown(replies: &[&str], ended_in: u32) -> Observation {
        let exchange = |reply: &&str| SeenExchange {
            replies: [("one".to_owned(), (*reply).to_owned())].into(),
            ..SeenExchange::default()
        };
        Observation {
            exchanges: replies.iter().map(exchange).collect(),
            processes: vec![SeenProcess {
                role: RoleInstance {
                    role: "server".to_owned(),
                    number: 1,
                },
                updated: true,
                ended_in,
                ending: Ending::Exited(0),
                fault: None,
            }],
            ..Observation::default()
        }
    }

    fn state(number: u8) -> Digest {
        let mut digest = Digest::default();
        digest.add(0, &[number]);
        digest
    }

    fn used() -> KnownEnds {
        KnownEnds {
            used: true,
            ..KnownEnds::default()
        }
    }

    /// Plays a test that is in a state at the end of exchange 0; tells whether it stops,
    /// and what it has shown otherwise than expected.
    fn play(ends: &mut KnownEnds, at: Digest, shown: &Observation) -> (bool, Option<u32>) {
        ends.begin();
        assert!(ends.looks(2));
        let counts = vec![1, 0, 0, 0];
        match ends.is_in(0, at, counts, Duration::from_nanos(1)) {
            Found::Stops(_) => (true, None),
            Found::GoesOn => {
                ends.played(3);
                (false, ends.showed(shown, &vec![3, 0, 0, 0]))
            }
        }
    }

    #[test]
    fn the_rest_is_known_in_a_state_that_was_observed_to_its_end() {
        let (mut ends, seen) = (used(), shown(&["a", "b", "c"], 3));
        assert_eq!(play(&mut ends, state(1), &seen), (false, None));
        assert_eq!(play(&mut ends, state(2), &seen), (false, None));
        for _ in 0..FIRST_CHECKS {
            assert_eq!(play(&mut ends, state(1), &seen), (false, None));
        }
        assert_eq!(play(&mut ends, state(1), &seen), (true, None));
        assert_eq!(play(&mut ends, state(3), &seen), (false, None));
    }

    #[test]
    fn a_test_that_goes_on_otherwise_is_told() {
        let (mut ends, seen) = (used(), shown(&["a", "b", "c"], 3));
        assert_eq!(play(&mut ends, state(1), &seen), (false, None));
        let other = shown(&["a", "b", "x"], 3);
        assert_eq!(play(&mut ends, state(1), &other), (false, Some(0)));
    }

    #[test]
    fn what_was_seen_so_far_is_the_own_and_the_rest_is_the_other_one_s() {
        let end = End {
            observation: Rc::new(Observation {
                old_frame_exchanges: [0, 2].into(),
                stall: None,
                ..shown(&["a", "b", "c"], 3)
            }),
            then: vec![1, 0, 0, 0],
            last: Rc::new(vec![3, 0, 0, 0]),
        };
        let mut own = Observation {
            old_frame_exchanges: [1].into(),
            ..shown(&["x", "y", "cut"], 1)
        };
        own.processes[0].ending = Ending::Outlived;
        let mut counts = vec![5, 0, 0, 0];
        end.go_on(1, &mut own, &mut counts);
        let expected = shown(&["x", "y", "c"], 3);
        assert_eq!(own.exchanges, expected.exchanges);
        assert_eq!(own.processes, expected.processes);
        assert_eq!(own.old_frame_exchanges, [1, 2].into());
        assert_eq!(counts, [7, 0, 0, 0]);
    }

    #[test]
    fn few_tests_look_while_nothing_is_found() {
        let (mut ends, seen) = (used(), shown(&["a", "b", "c"], 3));
        for number in 0..=u8::try_from(MOST_IN_VAIN).unwrap() {
            assert_eq!(play(&mut ends, state(number), &seen), (false, None));
        }
        let looking = (0..2 * SELDOM).filter(|_| {
            ends.begin();
            ends.wants_ends()
        });
        assert_eq!(looking.count(), 2);
    }
}
