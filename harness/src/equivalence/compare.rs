//! What the observations of equivalent points must share, and classes in which they do
//! not.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::verdict::Observation;
use crate::verdict::alike::{self, Endings};
use crate::verdict::observation::{SeenProcess, Update};

/// What one run of a test showed, as far as equivalent points must share it: what
/// [`alike`] compares, and whether the update could be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    print: [u8; 32],
    processes: Vec<SeenProcess>,
    old_frames: BTreeSet<u32>,
}

impl Shown {
    /// Takes it from an observation; none if the point was not reached, which says
    /// nothing about it.
    #[must_use]
    pub fn of(seen: &Observation) -> Option<Self> {
        if matches!(seen.update, Update::NotReached { .. }) {
            return None;
        }
        Some(Self {
            print: print(seen),
            processes: seen.processes.clone(),
            old_frames: seen.old_frame_exchanges.clone(),
        })
    }

    /// Tells races in how processes end from differences, once it is known how they end
    /// without an update.
    pub fn settle(&mut self, endings: &Endings) {
        self.processes = endings.settled(&self.processes);
    }

    /// Whether two equivalent points may show this and that. Verdicts ask for the
    /// exchanges in which old frames ran only after that of the point: where the points
    /// lie in different exchanges, `from` is the later one.
    #[must_use]
    pub fn agrees(&self, other: &Self, from: Option<u32>) -> bool {
        let later = |shown: &Self| -> BTreeSet<u32> {
            let frames = shown.old_frames.iter().copied();
            frames.filter(|number| Some(*number) > from).collect()
        };
        self.print == other.print
            && self.processes == other.processes
            && later(self) == later(other)
    }
}

fn print(seen: &Observation) -> [u8; 32] {
    let parts = (
        not_applied(seen),
        (&seen.exchanges, seen.session_exchanges),
        (&seen.files, &seen.stall),
        &seen.new_entries,
    );
    let text = serde_json::to_vec(&parts).unwrap_or_default();
    Sha256::digest(&text).into()
}

fn not_applied(seen: &Observation) -> Option<&str> {
    match &seen.update {
        Update::NotApplied { reason } => Some(reason),
        _ => None,
    }
}

/// In what two observations of equivalent points differ, in a few words.
#[must_use]
pub fn difference(
    one: &Observation,
    other: &Observation,
    endings: &Endings,
    from: Option<u32>,
) -> String {
    alike::apart(one, other, endings, from).unwrap_or_else(|| {
        let went = |seen| not_applied(seen).unwrap_or("applied").to_owned();
        format!("the update: {} against {}", went(one), went(other))
    })
}

/// One tested member of a class.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its place in the trace.
    pub place: usize,
    /// Its exchange.
    pub exchange: Option<u32>,
    /// What each run of its test showed.
    pub shown: Vec<Shown>,
}

/// How a tested member compares with its class's leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Every run of either shows the same.
    Same,
    /// Runs of the one test or of the other differ among themselves: a race in the
    /// server, not the place of the update.
    Race,
    /// All runs of the one show one thing, and all of the other another.
    Differ,
}

/// Compares a member with the leader, whose observation serves it.
#[must_use]
pub fn compare(leader: &Member, member: &Member) -> Agreement {
    let stable = |runs: &[Shown], from: Option<u32>| {
        let first = runs.first();
        runs.iter()
            .all(|run| first.is_none_or(|first| run.agrees(first, from)))
    };
    let from = leader.exchange.max(member.exchange);
    if !stable(&leader.shown, from) || !stable(&member.shown, from) {
        return Agreement::Race;
    }
    match (leader.shown.first(), member.shown.first()) {
        (Some(one), Some(other)) if !one.agrees(other, from) => Agreement::Differ,
        _ => Agreement::Same,
    }
}

/// The tested members of one class, in the order of the trace.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// Those whose points were reached.
    pub members: Vec<Member>,
}

impl Tested {
    /// Adds a member.
    pub fn add(&mut self, member: Member) {
        if !member.shown.is_empty() {
            let at = self.members.partition_point(|m| m.place <= member.place);
            self.members.insert(at, member);
        }
    }

    /// The first member that was reached, and the others.
    #[must_use]
    pub fn split(&self) -> Option<(&Member, &[Member])> {
        self.members.split_first()
    }

    /// Tells races in how processes end from differences.
    pub fn settle(&mut self, endings: &Endings) {
        let members = self.members.iter_mut();
        members
            .flat_map(|member| &mut member.shown)
            .for_each(|shown| shown.settle(endings));
    }

    /// Members that must be run again before they count as ones that disagree, the
    /// leader first: those that differ from it, and it, if they have run only once.
    #[must_use]
    pub fn doubtful(&self) -> Vec<&Member> {
        let Some((leader, others)) = self.split() else {
            return Vec::new();
        };
        let differs = |member: &&Member| compare(leader, member) == Agreement::Differ;
        if leader.shown.len() < 2 {
            // Which of two is the odd one is not known: the leader's race must not make
            // all members run again.
            return others
                .iter()
                .any(|member| differs(&member))
                .then_some(leader)
                .into_iter()
                .collect();
        }
        let confirmed = |member: &Member| member.shown.len() > 1;
        if others.iter().filter(differs).any(confirmed) {
            return Vec::new();
        }
        others.iter().filter(differs).take(MOST_AGAIN).collect()
    }

    /// Two members that follow each other, the first of which agrees with the leader
    /// while the second does not; none if the class agrees.
    #[must_use]
    pub fn disagreement(&self) -> Option<(&Member, &Member)> {
        let (leader, others) = self.split()?;
        let at = others
            .iter()
            .position(|member| compare(leader, member) == Agreement::Differ)?;
        let before = at.checked_sub(1).map_or(leader, |before| &others[before]);
        Some((before, &others[at]))
    }

    /// Whether a disagreement is more than what one run showed: the leader ran again, and
    /// so did a member that differs from it.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.split().is_some_and(|(leader, others)| {
            let differs = |member: &&Member| compare(leader, member) == Agreement::Differ;
            let again = |member: &Member| member.shown.len() > 1;
            again(leader) && others.iter().filter(differs).any(again)
        })
    }

    /// Whether runs of one test differ.
    #[must_use]
    pub fn races(&self) -> bool {
        self.split().is_some_and(|(leader, others)| {
            let race = |member: &Member| compare(leader, member) == Agreement::Race;
            others.iter().any(race)
        })
    }
}

/// Members of a class that run again at a time.
const MOST_AGAIN: usize = 8;
