//! Times for a trace: stops make a traced run many times slower, so that its times
//! come from a second run in which entries are stamped without stopping.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::{RoleInstance, Trace};
use crate::binary::Address;

/// What a run without stops was timed to do. All times are in microseconds since
/// the server was ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Beginning and end of each exchange of the session.
    pub exchanges: Vec<(f64, f64)>,
    /// Entries of each thread.
    pub threads: Vec<TimedThread>,
}

/// Entries of one thread, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedThread {
    /// Its process.
    pub role: RoleInstance,
    /// The thread within it, by order of creation.
    pub thread: u32,
    /// Functions entered, each with its time.
    pub entries: Vec<(Address, f64)>,
}

/// A thread during one exchange.
type Stretch = (RoleInstance, u32, u32);

impl Timing {
    /// Entries by thread and exchange. At the end of an exchange the server stands
    /// still, so that the time tells which one an entry belongs to.
    fn stretches(&self) -> HashMap<Stretch, Vec<(Address, f64)>> {
        let mut stretches: HashMap<Stretch, Vec<(Address, f64)>> = HashMap::new();
        let over = self.exchanges.last().map_or(0.0, |(_, end)| *end);
        for thread in &self.threads {
            // What follows belongs to probe and stop.
            let in_session = thread.entries.iter().filter(|(_, time)| *time <= over);
            for (function, time) in in_session {
                let begun = self.exchanges.partition_point(|(begin, _)| begin <= time);
                let Some(exchange) = begun.checked_sub(1) else {
                    continue;
                };
                let exchange = u32::try_from(exchange).unwrap_or(u32::MAX);
                stretches
                    .entry((thread.role.clone(), thread.thread, exchange))
                    .or_default()
                    .push((*function, *time));
            }
        }
        stretches
    }
}

impl Trace {
    /// Takes times from a run without stops: of exchanges, of points, of waits. A
    /// point that the run did not pass, because the two drifted apart, stays without.
    /// Returns how many points have a time.
    pub fn take_times(&mut self, timing: &Timing) -> usize {
        for (exchange, (begin, end)) in self.exchanges.iter_mut().zip(&timing.exchanges) {
            exchange.span_us = (whole(*begin), whole(*end));
        }
        let stretches = timing.stretches();
        let mut points: BTreeMap<Stretch, Vec<usize>> = BTreeMap::new();
        for (index, point) in self.points.iter_mut().enumerate() {
            point.time_us = None;
            if let Some(exchange) = point.id.exchange {
                points
                    .entry((point.id.role.clone(), point.id.thread, exchange))
                    .or_default()
                    .push(index);
            }
        }
        let mut timed = 0;
        for (stretch, indices) in &points {
            let Some(entries) = stretches.get(stretch) else {
                continue;
            };
            let traced: Vec<Address> = indices.iter().map(|i| self.points[*i].function).collect();
            let entered: Vec<Address> = entries.iter().map(|(function, _)| *function).collect();
            for operation in capture_diff_slices(Algorithm::Myers, &traced, &entered) {
                if let DiffOp::Equal {
                    old_index,
                    new_index,
                    len,
                } = operation
                {
                    for step in 0..len {
                        let time = entries[new_index + step].1;
                        self.points[indices[old_index + step]].time_us = Some(whole(time));
                    }
                    timed += len;
                }
            }
        }
        self.time_waits(timing, &stretches);
        timed
    }

    /// A wait that is seen at the end of an exchange began after the thread's last
    /// entry in it (what little runs behind that entry counts as waiting, too), or
    /// goes on from before; it ends when the next exchange begins.
    fn time_waits(&mut self, timing: &Timing, stretches: &HashMap<Stretch, Vec<(Address, f64)>>) {
        for wait in &mut self.waits {
            wait.span_us = None;
            let Ok(at) = usize::try_from(wait.exchange) else {
                continue;
            };
            let Some((begin, end)) = timing.exchanges.get(at) else {
                continue;
            };
            if wait.from_readiness {
                // It ends when the client's first act reaches the server.
                wait.span_us = Some((whole(*begin), whole(*begin)));
                continue;
            }
            let entries = stretches.get(&(wait.role.clone(), wait.thread, wait.exchange));
            let from = entries.and_then(|entries| Some(entries.last()?.1));
            let until = timing.exchanges.get(at + 1).map_or(end, |(begin, _)| begin);
            wait.span_us = Some((whole(from.unwrap_or(*begin)), whole(*until)));
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn whole(microseconds: f64) -> u64 {
    microseconds.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ExchangeFacts, Point, PointId, Wait};

    fn role() -> RoleInstance {
        RoleInstance {
            role: "server".to_owned(),
            number: 1,
        }
    }

    fn trace(functions: &[(u32, u64)]) -> Trace {
        let points = functions
            .iter()
            .enumerate()
            .map(|(index, (exchange, at))| Point {
                id: PointId {
                    role: role(),
                    thread: 0,
                    exchange: Some(*exchange),
                    index: u32::try_from(index + 1).unwrap(),
                },
                function: Address(*at),
                stack: 0,
                other_stacks: Vec::new(),
                words: None,
                occurrence: 0,
                time_us: None,
            });
        let exchange = |_| ExchangeFacts {
            label: String::new(),
            writers: std::collections::BTreeSet::new(),
            span_us: (0, 0),
        };
        let wait = |exchange| Wait {
            role: role(),
            thread: 0,
            exchange,
            from_readiness: false,
            stack: 0,
            other_stacks: Vec::new(),
            words: None,
            span_us: None,
        };
        Trace {
            version: String::new(),
            workload: String::new(),
            exchanges: (0..2).map(exchange).collect(),
            probe: Vec::new(),
            processes: Vec::new(),
            points: points.collect(),
            stacks: Vec::new(),
            waits: (0..2).map(wait).collect(),
            word_sets: Vec::new(),
            events: None,
        }
    }

    #[test]
    fn times_are_taken_where_both_runs_did_the_same() {
        let mut trace = trace(&[(0, 1), (0, 2), (0, 3), (1, 1)]);
        let timing = Timing {
            exchanges: vec![(0.0, 40.0), (50.0, 90.0)],
            threads: vec![TimedThread {
                role: role(),
                thread: 0,
                // An entry more, and one less, than in the trace.
                entries: vec![
                    (Address(1), 10.0),
                    (Address(9), 15.0),
                    (Address(3), 20.0),
                    (Address(1), 60.0),
                    (Address(1), 95.0),
                ],
            }],
        };
        assert_eq!(trace.take_times(&timing), 3);
        let times: Vec<_> = trace.points.iter().map(|point| point.time_us).collect();
        assert_eq!(times, [Some(10), None, Some(20), Some(60)]);
        let waits: Vec<_> = trace.waits.iter().map(|wait| wait.span_us).collect();
        assert_eq!(waits, [Some((20, 50)), Some((60, 90))]);
        assert_eq!(trace.exchanges[1].span_us, (50, 90));
    }

    #[test]
    fn what_was_not_timed_has_no_time() {
        let mut trace = trace(&[(0, 1)]);
        assert_eq!(trace.take_times(&Timing::default()), 0);
        assert_eq!(trace.points[0].time_us, None);
        assert_eq!(trace.waits[0].span_us, None);
    }
}
