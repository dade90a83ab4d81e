//! What two observations of one update must share where not the update, but the place
//! of it or the engine differs: everything but times, and but one race. A server that
//! ends several processes between two requests may end them in this way or that, and in
//! this exchange or the next, whether it is updated or not.

use std::collections::{BTreeMap, BTreeSet};

use super::Observation;
use super::difference::difference;
use super::observation::{Ending, SeenProcess};
use crate::trace::RoleInstance;
use crate::verdict::entries::Entries;

/// How processes of one session were seen to end while no update was in them.
#[derive(Clone, Debug, Default)]
pub struct Endings {
    seen: BTreeMap<RoleInstance, Seen>,
}

/// The ends of one role instance.
#[derive(Clone, Debug, Default)]
struct Seen {
    statuses: BTreeSet<i32>,
    /// Exchanges in which it exited.
    exits: BTreeSet<u32>,
    /// Exchanges in which it was killed, by signal.
    kills: BTreeMap<String, BTreeSet<u32>>,
}

impl Endings {
    /// Takes note of a run: of the processes that no update reached, unless the run
    /// stalled. Where some process was updated and one died of a signal, others may have
    /// ended because of that, and their exit statuses are not noted; the ordinary stop of
    /// a server without the update is no such death.
    pub fn note(&mut self, seen: &Observation) {
        if seen.stall.is_some() {
            return;
        }
        let killed = |process: &SeenProcess| matches!(process.ending, Ending::Killed(_));
        let updated = seen.processes.iter().any(|process| process.updated);
        let mut deaths = seen.processes.iter().enumerate();
        let died = updated && deaths.any(|(place, one)| killed(one) && (place > 0 || one.updated));
        for process in seen.processes.iter().skip(1).filter(|p| !p.updated) {
            let known = self.seen.entry(process.role.clone()).or_default();
            match &process.ending {
                Ending::Exited(status) if !died => {
                    known.statuses.insert(*status);
                    known.exits.insert(process.ended_in);
                }
                Ending::Killed(signal) => {
                    let of_signal = known.kills.entry(signal.clone()).or_default();
                    of_signal.insert(process.ended_in);
                }
                Ending::Exited(_) | Ending::Outlived => {}
            }
        }
    }

    /// Processes as they are compared: of exit statuses that a process is known to end
    /// with, and of exchanges in which it is known to end so, each stands for all. A
    /// signal never stands for an exit status, nor for another signal, and the first
    /// process, the server that was started, stays as it is.
    #[must_use]
    pub fn settled(&self, processes: &[SeenProcess]) -> Vec<SeenProcess> {
        let mut settled = processes.to_vec();
        for process in settled.iter_mut().skip(1) {
            let Some(known) = self.seen.get(&process.role) else {
                continue;
            };
            let exchanges = match &mut process.ending {
                Ending::Exited(status) => {
                    if known.statuses.contains(status) {
                        *status = known.statuses.first().copied().unwrap_or(*status);
                    }
                    Some(&known.exits)
                }
                Ending::Killed(signal) => known.kills.get(signal),
                Ending::Outlived => None,
            };
            if let Some(exchanges) = exchanges.filter(|e| e.contains(&process.ended_in)) {
                process.ended_in = exchanges.first().copied().unwrap_or(process.ended_in);
            }
        }
        settled
    }
}

/// The first thing in which two observations differ, how the update went left out. Old
/// frames count in exchanges after `from`, or in all.
#[must_use]
pub fn apart(
    one: &Observation,
    other: &Observation,
    endings: &Endings,
    from: Option<u32>,
) -> Option<String> {
    if one.stall != other.stall {
        let stalls = (&one.stall, &other.stall);
        return Some(format!("the stall: {:?} against {:?}", stalls.0, stalls.1));
    }
    if one.session_exchanges != other.session_exchanges {
        return Some("in the number of exchanges".to_owned());
    }
    difference(one, other)
        .or_else(|| processes_apart(one, other, endings))
        .or_else(|| entries_apart(&one.new_entries, &other.new_entries))
        .or_else(|| {
            let frames = (old_frames(one, from), old_frames(other, from));
            let (one, other) = &frames;
            (one != other).then(|| format!("exchanges with old frames: {one:?} against {other:?}"))
        })
}

/// Exchanges after `from`, or all, in which old frames ran.
#[must_use]
pub fn old_frames(seen: &Observation, from: Option<u32>) -> BTreeSet<u32> {
    let frames = seen.old_frame_exchanges.iter().copied();
    frames.filter(|number| Some(*number) > from).collect()
}

fn processes_apart(one: &Observation, other: &Observation, endings: &Endings) -> Option<String> {
    let counts = (one.processes.len(), other.processes.len());
    if counts.0 != counts.1 {
        return Some(format!(
            "the number of processes: {} against {}",
            counts.0, counts.1
        ));
    }
    let settled = (
        endings.settled(&one.processes),
        endings.settled(&other.processes),
    );
    let mut pairs = settled.0.iter().zip(&settled.1);
    let at = pairs.position(|(one, other)| one != other)?;
    let (one, other) = (&one.processes[at], &other.processes[at]);
    Some(format!("a process: {one:?} against {other:?}"))
}

/// Functions that were entered another number of times, with both numbers.
fn entries_apart(one: &Entries, other: &Entries) -> Option<String> {
    let count = |entries: &Entries, name| entries.get(name).copied().unwrap_or(0);
    let differing: Vec<String> = one
        .since(other)
        .keys()
        .map(|name| (name, count(one, name), count(other, name)))
        .map(|(name, one, other)| format!("{name} {one} against {other}"))
        .collect();
    (!differing.is_empty()).then(|| format!("entries of new code: {}", differing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::Address;
    use crate::verdict::observation::{Fault, SeenExchange, Stall};

    fn observation(processes: Vec<SeenProcess>) -> Observation {
        Observation {
            processes,
            ..Observation::default()
        }
    }

    fn process(role: &str, updated: bool, ended_in: u32, ending: Ending) -> SeenProcess {
        SeenProcess {
            role: RoleInstance {
                role: role.to_owned(),
                number: 1,
            },
            updated,
            ended_in,
            ending,
            fault: None,
        }
    }

    /// A run in which the second process ends in this way.
    fn ended(updated: bool, ended_in: u32, ending: Ending) -> Observation {
        observation(vec![
            process("listener", updated, 9, Ending::Exited(0)),
            process("parent", updated, ended_in, ending),
        ])
    }

    fn exited(updated: bool, ended_in: u32, status: i32) -> Observation {
        ended(updated, ended_in, Ending::Exited(status))
    }

    fn killed(updated: bool, ended_in: u32, signal: &str) -> Observation {
        ended(updated, ended_in, Ending::Killed(signal.to_owned()))
    }

    fn knows(runs: &[Observation]) -> Endings {
        let mut endings = Endings::default();
        for run in runs {
            endings.note(run);
        }
        endings
    }

    fn differ(endings: &Endings, one: &Observation, other: &Observation) -> bool {
        let apart = |one, other| apart(one, other, endings, None).is_some();
        assert_eq!(apart(one, other), apart(other, one));
        apart(one, other)
    }

    #[test]
    fn a_status_is_as_good_as_another_only_if_runs_without_an_update_show_both() {
        let (zero, two) = (exited(true, 4, 0), exited(true, 4, 2));
        assert!(differ(&Endings::default(), &zero, &two));
        assert!(differ(&knows(&[exited(false, 4, 0)]), &zero, &two));
        // What an update was in shows nothing about runs without one.
        assert!(differ(&knows(&[zero.clone(), two.clone()]), &zero, &two));
        let both = knows(&[exited(false, 4, 0), exited(false, 4, 2)]);
        assert!(!differ(&both, &zero, &two));
        assert!(differ(&both, &zero, &exited(true, 4, 3)));
        // Nor for another of its processes.
        let mut child = exited(true, 4, 2);
        child.processes[1].role.number = 2;
        assert!(differ(&both, &zero, &child));
    }

    #[test]
    fn an_exchange_is_as_good_as_another_only_if_runs_without_an_update_show_both() {
        let both = knows(&[exited(false, 4, 0), exited(false, 5, 2)]);
        assert!(!differ(&both, &exited(true, 5, 0), &exited(true, 4, 0)));
        assert!(differ(&both, &exited(true, 3, 0), &exited(true, 4, 0)));
        let both = knows(&[killed(false, 4, "SIGTERM"), killed(false, 5, "SIGTERM")]);
        let term = killed(true, 4, "SIGTERM");
        assert!(!differ(&both, &term, &killed(true, 5, "SIGTERM")));
        assert!(differ(&both, &term, &killed(true, 6, "SIGTERM")));
    }

    #[test]
    fn a_killed_process_differs_from_any_other() {
        let known = knows(&[
            exited(false, 4, 0),
            exited(false, 4, 2),
            killed(false, 4, "SIGTERM"),
            killed(false, 4, "SIGSEGV"),
        ]);
        let term = killed(true, 4, "SIGTERM");
        assert!(differ(&known, &exited(true, 4, 0), &term));
        assert!(differ(&known, &term, &killed(true, 4, "SIGSEGV")));
        let mut fault = term.clone();
        fault.processes[1].fault = Some(Fault {
            address: Address(1),
            function: "f".to_owned(),
            stack: Vec::new(),
        });
        assert!(differ(&known, &term, &fault));
        let outlived = ended(true, 4, Ending::Outlived);
        assert!(differ(&known, &term, &outlived));
    }

    #[test]
    fn the_server_that_was_started_has_one_way_to_end() {
        let first = |updated, status| {
            observation(vec![process("server", updated, 4, Ending::Exited(status))])
        };
        let known = knows(&[first(false, 0), first(false, 1)]);
        assert!(differ(&known, &first(true, 0), &first(true, 1)));
    }

    #[test]
    fn runs_that_go_wrong_are_no_witnesses() {
        let (zero, two) = (exited(true, 4, 0), exited(true, 4, 2));
        let mut stalled = exited(false, 4, 2);
        stalled.stall = Some(Stall {
            exchange: 1,
            waiting_for: "a line".to_owned(),
            busy: false,
        });
        // Its child was updated and died.
        let mut died = exited(false, 4, 2);
        let child = Ending::Killed("SIGSEGV".to_owned());
        died.processes.push(process("child", true, 3, child));
        let known = knows(&[exited(false, 4, 0), stalled, died]);
        assert!(differ(&known, &zero, &two));
    }

    #[test]
    fn the_stop_of_a_server_without_the_update_is_no_death() {
        let (zero, two) = (exited(true, 4, 0), exited(true, 4, 2));
        let stopped = |updated: bool, status| {
            let mut seen = exited(false, 4, status);
            seen.processes[0].ending = Ending::Killed("SIGTERM".to_owned());
            seen.processes[0].updated = updated;
            let child = process("child", true, 3, Ending::Exited(0));
            seen.processes.push(child);
            seen
        };
        assert!(!differ(
            &knows(&[stopped(false, 0), stopped(false, 2)]),
            &zero,
            &two
        ));
        // An updated one may have died of the update.
        assert!(differ(
            &knows(&[stopped(true, 0), stopped(true, 2)]),
            &zero,
            &two
        ));
    }

    #[test]
    fn everything_else_must_be_equal() {
        let endings = Endings::default();
        let one = exited(true, 4, 0);
        let changed = |change: &dyn Fn(&mut Observation)| {
            let mut other = one.clone();
            change(&mut other);
            other
        };
        assert!(!differ(&endings, &one, &changed(&|o| o.wall_us = 77)));
        let changes: [&dyn Fn(&mut Observation); 7] = [
            &|o| o.exchanges = vec![SeenExchange::default()],
            &|o| o.session_exchanges += 1,
            &|o| o.processes[1].updated = false,
            &|o| o.processes.truncate(1),
            &|o| o.files = [("log".to_owned(), "line".to_owned())].into(),
            &|o| o.new_entries = [("f", 1)].into_iter().collect(),
            &|o| o.old_frame_exchanges = [3].into(),
        ];
        for (number, change) in changes.iter().enumerate() {
            assert!(differ(&endings, &one, &changed(change)), "{number}");
        }
        let other = changed(&|o| o.old_frame_exchanges = [3].into());
        assert_eq!(apart(&one, &other, &endings, Some(3)), None);
        assert!(apart(&one, &other, &endings, Some(2)).is_some());
    }
}
