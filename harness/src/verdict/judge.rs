//! Derives a verdict from what both unpatched versions did and what a test showed.
//! The rules are those of the study's "Verdicts"; this file is their one home.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::observation::{Ending, Observation, SeenExchange, SeenProcess, Update};
use super::text::{Likeness, likeness, switches_over};
use super::{Judgement, Verdict};
use crate::trace::{PointId, RoleInstance};

/// What a test is judged against.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The unpatched old server.
    pub old: &'a Observation,
    /// The unpatched new server.
    pub new: &'a Observation,
    /// Right replies after an update that replace the new server's.
    pub after_update: &'a BTreeMap<(u32, String), String>,
    /// For each exchange, the processes that wrote to the client in the trace.
    pub writers: &'a [BTreeSet<RoleInstance>],
}

impl Expected<'_> {
    /// The new server's exchange, with the replies that a script states to be right
    /// after an update on state that old code built. Where the new server's own reply
    /// was seen, the state was built by new code, and that reply is the right one.
    #[must_use]
    pub fn new_exchange(&self, number: u32, seen: &SeenExchange) -> SeenExchange {
        let mut new = usize::try_from(number)
            .ok()
            .and_then(|index| self.new.exchanges.get(index))
            .cloned()
            .unwrap_or_default();
        for ((exchange, connection), text) in self.after_update {
            if *exchange == number && seen.replies.get(connection) != new.replies.get(connection) {
                new.replies.insert(connection.clone(), text.clone());
            }
        }
        new
    }
}

/// Judges one observation.
#[must_use]
pub fn judge(expected: &Expected<'_>, point: &PointId, seen: &Observation) -> Judgement {
    examine(expected, point, seen).conclude()
}

/// Everything that is wrong with an observation, in the order in which the session
/// shows it; what belongs to no exchange comes last. The verdict is the first of
/// them by precedence.
#[must_use]
pub fn findings(expected: &Expected<'_>, point: &PointId, seen: &Observation) -> Vec<Finding> {
    let mut findings = examine(expected, point, seen).findings;
    findings.sort_by_key(|finding| finding.exchange.unwrap_or(u32::MAX));
    findings
}

fn examine<'a>(
    expected: &'a Expected<'a>,
    point: &'a PointId,
    seen: &'a Observation,
) -> Judging<'a> {
    let mut judging = Judging {
        expected,
        point,
        seen,
        updated: seen
            .processes
            .iter()
            .filter(|process| process.updated)
            .map(|process| &process.role)
            .collect(),
        findings: Vec::new(),
        discriminating: 0,
        new_replies: 0,
        excused: 0,
        unexcused: 0,
        new_log: false,
    };
    match &seen.update {
        Update::NotApplied { reason } => judging.find(Verdict::NotApplied, None, reason),
        Update::NotReached { reason } => judging.find(Verdict::NotReached, None, reason),
        Update::None | Update::Applied { .. } => {
            judging.processes();
            judging.exchanges();
            judging.end_state();
        }
    }
    judging
}

/// One thing that is wrong with an observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it would be judged alone.
    pub verdict: Verdict,
    /// Exchange that shows it; none for the end state.
    pub exchange: Option<u32>,
    /// What it is, in stable short words.
    pub cause: String,
}

struct Judging<'a> {
    expected: &'a Expected<'a>,
    point: &'a PointId,
    seen: &'a Observation,
    updated: BTreeSet<&'a RoleInstance>,
    findings: Vec<Finding>,
    discriminating: u32,
    new_replies: u32,
    excused: u32,
    unexcused: u32,
    new_log: bool,
}

impl Judging<'_> {
    fn find(&mut self, verdict: Verdict, exchange: Option<u32>, cause: impl Into<String>) {
        self.findings.push(Finding {
            verdict,
            exchange,
            cause: cause.into(),
        });
    }

    /// Deaths, early ends and exit statuses that neither baseline has.
    fn processes(&mut self) {
        for (index, process) in self.seen.processes.iter().enumerate() {
            let baseline = self.baseline_of(&process.role);
            // Which of its ends a process takes can be a race within the server: any
            // that its role was seen to take is as good.
            let known_ending = self
                .baselines()
                .any(|b| b.role.role == process.role.role && b.ending == process.ending);
            let early = baseline.iter().all(|b| process.ended_in < b.ended_in);
            let is_first = index == 0;
            match &process.ending {
                Ending::Killed(signal) if !known_ending => {
                    let place = process
                        .fault
                        .as_ref()
                        .map_or_else(String::new, |fault| format!(" in {}", fault.function));
                    let cause = format!("{} killed by {signal}{place}", process.role.role);
                    self.find(Verdict::Crash, Some(process.ended_in), cause);
                }
                // A session cut short by a stall is killed by Kairos: no end of its own.
                Ending::Outlived if self.seen.stall.is_some() => {}
                _ if !baseline.is_empty() && early => {
                    let cause = format!("{} ended early", process.role.role);
                    self.find(Verdict::Exit, Some(process.ended_in), cause);
                }
                // The client never sees how a helper process exits, and servers are
                // careless there; the first one's status is the server's own.
                Ending::Exited(status) if !known_ending && is_first => {
                    let cause = format!("{} exited with status {status}", process.role.role);
                    self.find(Verdict::State, Some(process.ended_in), cause);
                }
                Ending::Outlived if !known_ending => {
                    let cause = format!("{} outlived the stop", process.role.role);
                    self.find(Verdict::State, Some(process.ended_in), cause);
                }
                _ => {}
            }
        }
    }

    fn baselines(&self) -> impl Iterator<Item = &SeenProcess> {
        let expected = self.expected;
        expected.old.processes.iter().chain(&expected.new.processes)
    }

    /// The process in both baselines; if they lack that instance, any of its role.
    fn baseline_of(&self, role: &RoleInstance) -> Vec<&SeenProcess> {
        let same: Vec<_> = self.baselines().filter(|b| b.role == *role).collect();
        if same.is_empty() {
            self.baselines()
                .filter(|b| b.role.role == role.role)
                .collect()
        } else {
            same
        }
    }

    fn exchanges(&mut self) {
        let session = self.seen.session_exchanges;
        let count = self
            .expected
            .old
            .exchanges
            .len()
            .max(self.expected.new.exchanges.len());
        for index in 0..count {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            if let Some(stall) = &self.seen.stall
                && stall.exchange <= number
            {
                let how = if stall.busy { "busy" } else { "waiting" };
                let cause = format!("{how}; the client waited for {}", stall.waiting_for);
                self.find(Verdict::Stall, Some(stall.exchange), cause);
                return;
            }
            let empty = SeenExchange::default();
            let old = self.expected.old.exchanges.get(index).unwrap_or(&empty);
            let seen = self.seen.exchanges.get(index).unwrap_or(&empty);
            let new = self.expected.new_exchange(number, seen);
            self.replies(number, number >= session, old, &new, seen);
            self.logs(number, old, &new, seen);
        }
    }

    /// Whether a process that carries the update served the exchange. Text may be
    /// read in a later exchange than it was written in: where nobody wrote, the
    /// last writers before are meant.
    fn served_by_updated(&self, number: u32) -> bool {
        let upto = usize::try_from(number).map_or(usize::MAX, |n| n.saturating_add(1));
        self.expected
            .writers
            .iter()
            .take(upto)
            .rev()
            .find(|writers| !writers.is_empty())
            .is_none_or(|writers| writers.iter().any(|role| self.updated.contains(role)))
    }

    fn replies(
        &mut self,
        number: u32,
        is_probe: bool,
        old: &SeenExchange,
        new: &SeenExchange,
        seen: &SeenExchange,
    ) {
        let like = likeness(&old.replies, &new.replies, &seen.replies);
        let before = Some(number) < self.point.exchange;
        let in_flight = Some(number) == self.point.exchange;
        let counts = !before && self.served_by_updated(number);
        match like {
            _ if before => {
                if !matches!(like, Likeness::Both | Likeness::Old) {
                    self.unlike(number, is_probe, old, new, seen, "before the update");
                }
            }
            Likeness::Both => {}
            Likeness::Neither | Likeness::Blend if !in_flight || like == Likeness::Neither => {
                if like == Likeness::Blend {
                    self.find_reply(
                        Verdict::Mixed,
                        number,
                        is_probe,
                        "one reply of both versions",
                    );
                } else {
                    self.unlike(number, is_probe, old, new, seen, "");
                }
            }
            Likeness::Blend | Likeness::Neither => {
                self.find_reply(Verdict::Mixed, number, is_probe, "in-flight");
            }
            // A process without the update may answer in either way, if it was
            // started from the new version's file.
            _ if !counts => {}
            Likeness::New => {
                self.new_replies += 1;
                self.discriminating += u32::from(!in_flight);
            }
            Likeness::Old if in_flight => {}
            Likeness::Old => {
                self.discriminating += 1;
                if self.seen.old_frame_exchanges.contains(&number) {
                    self.excused += 1;
                } else if self.new_replies > 0 {
                    self.find_reply(
                        Verdict::Mixed,
                        number,
                        is_probe,
                        "old reply after a new one",
                    );
                } else {
                    self.unexcused += 1;
                }
            }
        }
    }

    /// A reply like neither version's: an end of the connection that neither has
    /// weighs more than wrong text.
    fn unlike(
        &mut self,
        number: u32,
        is_probe: bool,
        old: &SeenExchange,
        new: &SeenExchange,
        seen: &SeenExchange,
        cause: &str,
    ) {
        const ENDS: [&str; 3] = ["<EOF>\n", "<RESET>\n", "<REFUSED>\n"];
        let ended = |exchange: &SeenExchange, connection: &str| {
            exchange
                .replies
                .get(connection)
                .is_some_and(|text| ENDS.iter().any(|end| text.ends_with(end)))
        };
        let lost = seen.replies.keys().find(|connection| {
            ended(seen, connection) && !ended(old, connection) && !ended(new, connection)
        });
        match lost {
            Some(connection) => {
                let cause = format!("connection {connection} ended");
                self.find_reply(Verdict::Exit, number, is_probe, &cause);
            }
            None => self.find_reply(Verdict::Wrong, number, is_probe, cause),
        }
    }

    /// What goes wrong in the probe is a matter of the state that was left behind.
    fn find_reply(&mut self, verdict: Verdict, number: u32, is_probe: bool, cause: &str) {
        if is_probe {
            let cause = format!("probe: {verdict} {cause}");
            self.find(Verdict::State, Some(number), cause.trim_end());
        } else {
            self.find(verdict, Some(number), cause);
        }
    }

    /// Logs switch over line by line: old lines, then new ones.
    fn logs(&mut self, number: u32, old: &SeenExchange, new: &SeenExchange, seen: &SeenExchange) {
        let before = Some(number) < self.point.exchange;
        let excused =
            Some(number) == self.point.exchange || self.seen.old_frame_exchanges.contains(&number);
        match likeness(&old.logs, &new.logs, &seen.logs) {
            Likeness::Both => {}
            Likeness::New if !before => self.new_log |= self.served_by_updated(number),
            Likeness::Old if before || excused || !self.new_log => {}
            Likeness::Old => {
                if self.served_by_updated(number) {
                    self.find(Verdict::State, Some(number), "old log line after a new one");
                }
            }
            _ if !before && excused && switches_over(&old.logs, &new.logs, &seen.logs) => {}
            _ => self.find(Verdict::State, Some(number), "log"),
        }
    }

    fn end_state(&mut self) {
        // A session cut short leaves files of no meaning.
        if self.seen.stall.is_some() {
            return;
        }
        let (old, new) = (&self.expected.old.files, &self.expected.new.files);
        let names: BTreeSet<&String> = old
            .keys()
            .chain(new.keys())
            .chain(self.seen.files.keys())
            .collect();
        let wrong: Vec<&String> = names
            .into_iter()
            .filter(|name| {
                let seen = self.seen.files.get(*name);
                seen != old.get(*name) && seen != new.get(*name)
            })
            .collect();
        if let Some(name) = wrong.first() {
            let cause = format!("file {name}");
            self.find(Verdict::State, None, cause);
        }
    }

    fn conclude(self) -> Judgement {
        let new_code_entries = self.seen.new_entries.values().sum();
        let old_frame_ran = !self.seen.old_frame_exchanges.is_empty();
        let first = self.findings.iter().min_by_key(|finding| finding.verdict);
        let (verdict, cause) = match first {
            Some(finding) => (finding.verdict, finding.cause.clone()),
            None => self.pass(new_code_entries > 0),
        };
        Judgement {
            verdict,
            cause,
            diverged_at: self.findings.iter().filter_map(|f| f.exchange).min(),
            discriminating: self.discriminating,
            new_code_entries,
            old_frame_ran,
        }
    }

    fn pass(&self, new_code_ran: bool) -> (Verdict, String) {
        let stale = |is_stale: bool| if is_stale { "stale" } else { "" }.to_owned();
        if self.discriminating == 0 {
            (Verdict::New, String::new())
        } else if self.new_replies == 0 {
            (Verdict::Inert, stale(new_code_ran && self.unexcused > 0))
        } else if self.excused + self.unexcused > 0 {
            (Verdict::Late, stale(self.unexcused > 0))
        } else {
            (Verdict::New, String::new())
        }
    }
}

#[cfg(test)]
mod tests;
