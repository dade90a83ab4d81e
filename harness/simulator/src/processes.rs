//! The processes of the server: what each has for itself, and which of them runs next.
//! One runs at a time. It hands over when it waits.

use crate::cache::Path;
use crate::descriptors::{MOST_DESCRIPTORS, Slot};
use crate::marks::{self, Marks};
use crate::memory::Memory;
use crate::own;
use crate::signals::Signals;
use crate::waiting::{ALWAYS, ready_for, trap};
use crate::world::{Declined, Reason, World};

/// Most processes of a session and its probe together.
pub const MOST_PROCESSES: usize = 48;
/// Most descriptors that a wait of one of several processes may name.
pub const MOST_AWAITED: usize = 24;
/// No process.
pub const NO_PROCESS: u32 = u32::MAX;
/// Most kinds of limits.
pub const MOST_LIMITS: usize = 16;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It is none yet.
    None,
    /// It runs, or could.
    Runs,
    /// It waits for what is in `wait`.
    Waits,
    /// It ended, and its parent has not asked for its status.
    Ended,
    /// It ended, and nobody asks for it any more.
    Gone,
}

/// What a process waits for, so that others can tell whether it can go on.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Awaited {
    /// When the time is up, in nanoseconds of this world; `u64::MAX` for never.
    pub deadline: u64,
    /// Signals that are blocked meanwhile.
    pub blocked: u64,
    /// Whether it waits for time to pass and not for an event.
    pub sleeps: u32,
    /// Whether it waits for a child to end.
    pub child: u32,
    /// Descriptors that it waits for; more than there is room for if it is larger.
    pub count: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// Their open files, from 0, and the events.
    pub events: [[u32; 2]; MOST_AWAITED],
}

impl Awaited {
    /// Nothing but signals.
    pub const NOTHING: Self = Self {
        deadline: u64::MAX,
        blocked: 0,
        sleeps: 0,
        child: 0,
        count: 0,
        unused: 0,
        events: [[0; 2]; MOST_AWAITED],
    };

    /// Adds an open file.
    pub fn add(&mut self, description: usize, events: u32) {
        if let Some(place) = self.events.get_mut(self.count as usize) {
            *place = [description as u32, events];
        }
        self.count += 1;
    }
}

/// A process.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Process {
    /// What it does.
    pub state: State,
    /// Its number.
    pub pid: u32,
    /// Its parent's place in the table; none if that has ended.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Signal that it gets when its parent ends.
    pub death_signal: u32,
    /// Its status as `wait4` tells it, once it has ended.
    pub status: u32,
    /// The signal that ends it, which the harness says.
    pub killed_by: u32,
    /// Exchange in which it ended.
    pub ended_in: u32,
    /// Looks without waiting since the last wait.
    pub looks: u32,
    /// Exchange for which the entry counter was set, counted from 1.
    pub armed_in: u32,
    /// Permission bits that new files do not get.
    pub umask: u32,
    /// What the entry counter was set to.
    pub armed: u64,
    /// When it last stopped running, as a place in the order of all such moments.
    pub since: u64,
    /// Where its alarm clock rings; nowhere if 0.
    pub alarm: u64,
    /// How often it rings after that.
    pub alarm_interval: u64,
    /// Whether it gave up capabilities.
    pub bare: u32,
    /// Which limits it set.
    pub limited: u32,
    /// Whether it lives in a network of its own, which leads nowhere.
    pub apart: u32,
    /// The namespace of process numbers in which it lives: the place of its first
    /// process, counted from 1; that of the server itself if 0.
    pub space: u32,
    /// Its number there.
    pub inner: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// Capabilities as it set them: effective, permitted, inheritable, of each half.
    pub capabilities: [u32; 6],
    /// The limits.
    pub limits: [[u64; 2]; MOST_LIMITS],
    /// What it waits for.
    pub wait: Awaited,
    /// The working folder.
    pub folder: Path,
    /// The root folder; empty if it is the real one.
    pub root: Path,
    /// Signals.
    pub signals: Signals,
    /// Its frames of old code.
    pub marks: Marks,
    /// Memory handed out.
    pub memory: Memory,
    /// Descriptors.
    pub slots: [Slot; MOST_DESCRIPTORS],
}

impl Process {
    /// A limit that it set itself.
    #[must_use]
    pub fn limit(&self, which: usize) -> Option<u64> {
        (self.limited & 1 << which != 0).then_some(self.limits[which][0])
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn lives(&self) -> bool {
        matches!(self.state, State::Runs | State::Waits)
    }
}

impl World {
    /// The process that asks.
    #[must_use]
    pub fn me(&self) -> &Process {
        &self.processes[own::number()]
    }

    /// The process that asks.
    pub fn me_mut(&mut self) -> &mut Process {
        &mut self.processes[own::number()]
    }

    /// The number by which the process that asks knows another one, or itself; 0 if it
    /// does not see it.
    #[must_use]
    pub fn number_of(&self, at: usize) -> u32 {
        self.number_seen_by(own::number(), at)
    }

    /// The number by which a process knows another one; 0 if it does not see it.
    #[must_use]
    pub fn number_seen_by(&self, by: usize, at: usize) -> u32 {
        let (process, space) = (&self.processes[at], self.processes[by].space);
        match space {
            0 => process.pid,
            _ if space == process.space => process.inner,
            _ => 0,
        }
    }

    /// The number of a process group, or a session, as the process that asks sees it.
    #[must_use]
    pub fn group_number(&self, group: u32) -> u32 {
        if self.me().space == 0 {
            return group;
        }
        let leader = self.known().iter().position(|process| process.pid == group);
        leader.map_or(0, |at| self.number_of(at))
    }

    /// All processes there ever were.
    #[must_use]
    pub fn known(&self) -> &[Process] {
        &self.processes[..(self.count as usize).min(MOST_PROCESSES)]
    }

    /// Living processes beside the one that asks.
    #[must_use]
    pub fn others_live(&self) -> bool {
        let me = own::number();
        let mut all = self.known().iter().enumerate();
        all.any(|(at, process)| at != me && process.lives())
    }

    /// Whether a process has a child that has ended and was not asked for.
    #[must_use]
    pub fn has_ended_child(&self, at: usize) -> bool {
        self.known()
            .iter()
            .any(|child| child.state == State::Ended && child.parent as usize == at)
    }

    /// Whether a process can go on.
    fn can_run(&self, at: usize) -> bool {
        let process = &self.processes[at];
        if process.state != State::Waits {
            return process.state == State::Runs;
        }
        let wait = &process.wait;
        let ready = |[description, events]: &[u32; 2]| {
            ready_for(self, *description as usize) & (events | ALWAYS) != 0
        };
        wait.deadline <= self.control.now
            || wait.events[..(wait.count as usize).min(MOST_AWAITED)]
                .iter()
                .any(ready)
            || wait.child != 0 && self.has_ended_child(at)
            || process.signals.open(wait.blocked) != 0
    }

    /// Whether every living process waits for an event; `sleeps` says it of the one
    /// that asks.
    #[must_use]
    pub fn at_rest(&self, sleeps: bool) -> bool {
        let me = own::number();
        let mut all = self.known().iter().enumerate();
        !sleeps && all.all(|(at, process)| at == me || !process.lives() || process.wait.sleeps == 0)
    }

    /// The other process whose turn it is: of those that can go on the one that has not
    /// run for the longest.
    #[must_use]
    pub fn next_process(&self) -> Option<usize> {
        let me = own::number();
        (0..self.count as usize)
            .filter(|at| *at != me && self.can_run(*at))
            .min_by_key(|at| self.processes[*at].since)
    }
}

/// Lets another process run, and comes back when this one's turn is there.
///
/// # Errors
/// When it waits for more than is simulated.
pub fn hand_over(world: &mut World, next: usize) -> Result<(), Declined> {
    if world.me().state == State::Waits && world.me().wait.count as usize > MOST_AWAITED {
        return Err(Declined(
            "a wait for so many descriptors by one of several processes",
        ));
    }
    world.turns += 1;
    world.me_mut().since = world.turns;
    marks::rest(world);
    trap(world, Reason::HandsOver, next as i64, 0);
    crate::waiting::arm(world);
    Ok(())
}
