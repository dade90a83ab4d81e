//! Watches a run in order to apply the update at one point, and to follow what
//! old code still does afterwards.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::PointRequest;
use super::handover::{Held, hand_over};
use super::names::RoleNames;
use super::old_frames::OldFrames;
use super::parts::Parts;
use super::poison::{Faulted, Watched};
use super::spec::{SessionSpec, Which};
use super::updating::{update, update_forked};
use super::watch::Watcher;
use crate::binary::Address;
use crate::patch::Patch;
use crate::sandbox::run_folder::point_program_at;
use crate::trace::fingerprint;
use crate::tracee::counter::{self, Instrument, NEVER};
use crate::tracee::hold::Held as HeldThread;
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::Walk;
use crate::tracee::{Stopped, TraceeError};
use crate::verdict::observation::Update;
use crate::world::HostError;

/// How the point is sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// By its index, then checked by its stack.
    Index,
    /// By its stack alone, looking at every entry of its exchange: counts drift
    /// between runs over real sockets, stacks do not.
    Stack,
}

/// What to do at the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtPoint {
    /// Apply the session's patch.
    Apply,
    /// Stop, look and go on: a control.
    Nothing,
}

/// Applies the update at a point.
pub struct Updater<'a> {
    point: &'a PointRequest,
    search: Search,
    at_point: AtPoint,
    tries: u32,
    seen: u32,
    same_stack: u32,
    /// How the update went so far.
    pub update: Update,
    /// Exchanges during which an old frame ran.
    pub old_frame_exchanges: BTreeSet<u32>,
    old_frames: HashMap<ProcessIndex, OldFrames>,
    watched: HashMap<ProcessIndex, Watched>,
    done: bool,
    updated_at: Option<(Instant, Instant)>,
    /// If set, the server is handed over to a debugger once the update is applied,
    /// and this is told of it.
    pub announce: Option<Announce<'a>>,
    /// Whether a later `execve` of the program's own file starts the new version.
    pub turns_program: bool,
    /// Whether the caller follows old frames: no breakpoints are set.
    pub in_place: bool,
}

/// Is told which process waits for a debugger.
pub type Announce<'a> = &'a mut (dyn FnMut(Held) + 'a);

impl<'a> Updater<'a> {
    /// Seeks `point`; `tries` counts from 1.
    #[must_use]
    pub fn new(point: &'a PointRequest, search: Search, at_point: AtPoint, tries: u32) -> Self {
        Self {
            point,
            search,
            at_point,
            tries,
            seen: 0,
            same_stack: 0,
            update: Update::NotReached {
                reason: "its process or exchange did not come, or had fewer entries".to_owned(),
            },
            old_frame_exchanges: BTreeSet::new(),
            old_frames: HashMap::new(),
            watched: HashMap::new(),
            done: false,
            updated_at: None,
            announce: None,
            turns_program: true,
            in_place: false,
        }
    }

    fn armed(&self) -> u64 {
        match self.search {
            Search::Index => u64::from(self.point.id.index),
            Search::Stack => 1,
        }
    }

    fn is_target(&self, parts: &Parts<'_>, process: ProcessIndex, thread: u32) -> bool {
        !self.done
            && parts.moment() == self.point.id.exchange
            && thread == self.point.id.thread
            && parts.notes[process].role == self.point.id.role
    }

    /// Looks at the entry that was reached: is it the point?
    fn recognises(&mut self, walk: &Walk) -> bool {
        let matches = fingerprint(&walk.stack()) == self.point.moment.stack;
        match self.search {
            Search::Index => matches,
            Search::Stack => {
                self.seen += 1;
                self.same_stack += u32::from(matches);
                matches && self.same_stack == self.point.moment.occurrence + 1
            }
        }
    }

    fn update(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
        function: Address,
        walk: &Walk,
    ) -> Result<i32, HostError> {
        self.done = true;
        let index = match self.search {
            Search::Index => self.point.id.index,
            Search::Stack => self.seen,
        };
        let name = parts
            .names
            .own(function)
            .map_or_else(|| function.to_string(), |own| own.name.clone());
        let mut applied = Update::Applied {
            function: name,
            stack: walk.stack(),
            tries: self.tries,
            drifted: index != self.point.id.index,
            apply_us: 0.0,
            state: None,
        };
        let Some(patch) = parts
            .spec
            .patch
            .as_ref()
            .filter(|_| self.at_point == AtPoint::Apply)
        else {
            self.update = applied;
            return Ok(0);
        };
        let updated = update(parts, patch, process, stopped, walk, !self.in_place)?;
        if let Some(reason) = updated.refused {
            self.update = Update::NotApplied { reason };
            return Ok(0);
        }
        if let Update::Applied {
            apply_us, state, ..
        } = &mut applied
        {
            *apply_us = updated.apply_us;
            *state = updated.state;
        }
        self.update = applied;
        if self.turns_program {
            point_program_at(&parts.spec.program_inside(Which::New))?;
        }
        if updated.old_frames.values().any(OldFrames::running) {
            self.old_frame_exchanges.insert(parts.exchange);
        }
        self.old_frames = updated.old_frames;
        self.watched = updated.watched;
        Ok(updated.signal)
    }
}

impl Updater<'_> {
    /// Whether an old frame has run since the update and is still active: at the end of
    /// the exchange it has to be seen where it stands.
    #[must_use]
    pub fn runs_old(&self) -> bool {
        self.old_frames.values().any(OldFrames::running)
    }

    /// The old frames of a process.
    pub(super) fn frames_of(&mut self, process: ProcessIndex) -> Option<&mut OldFrames> {
        self.old_frames.get_mut(&process)
    }

    /// Processes in which old frames have run that are not awaited again yet.
    #[must_use]
    pub fn running_processes(&self) -> Vec<ProcessIndex> {
        let with_running = self
            .old_frames
            .iter()
            .filter(|(_, frames)| !frames.running_threads().is_empty());
        let mut processes: Vec<_> = with_running.map(|(process, _)| *process).collect();
        processes.sort_unstable();
        processes
    }

    /// Whether it watches what code touches, which is told with the update.
    #[must_use]
    pub fn watches(&self) -> bool {
        !self.watched.is_empty()
    }

    /// Adds the old frames of a process, and what is awaited of them, to a description
    /// of its state.
    pub fn tell_old_frames(&self, process: ProcessIndex, state: &mut Vec<u8>) {
        if let Some(frames) = self.old_frames.get(&process) {
            frames.tell(state);
        }
    }

    /// An exchange has ended, and the only thread of a process stands still with this
    /// stack: old frames that have run are awaited again.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn ended_with(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        number: u32,
        walk: &Walk,
    ) -> Result<(), HostError> {
        let Some(frames) = self.old_frames.get_mut(&process) else {
            return Ok(());
        };
        let target = &mut parts.tree.processes[process];
        for thread in frames.running_threads() {
            frames.await_again(thread, walk, &target.memory, &mut target.breakpoints)?;
        }
        if frames.running() {
            self.old_frame_exchanges.insert(number);
        }
        Ok(())
    }
}

impl Watcher for Updater<'_> {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }

    fn exchange_begins(&mut self, parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        let armed = self.armed();
        let target: Vec<_> = parts
            .living()
            .into_iter()
            .map(|process| {
                Some(number) == self.point.id.exchange
                    && !self.done
                    && parts.notes[process].role == self.point.id.role
            })
            .collect();
        let living = parts.living();
        let thread = self.point.id.thread;
        parts.set_counters(&mut |process, ordinal| {
            let at = living.iter().position(|p| *p == process);
            let is_target = at.is_some_and(|at| target[at]) && ordinal == thread;
            if is_target { armed } else { NEVER }
        })
    }

    /// Old frames that have run are awaited again, wherever they wait now: each
    /// exchange in which one goes on is one in which it ran.
    fn exchange_ended(&mut self, parts: &mut Parts<'_>, number: u32) -> Result<(), HostError> {
        for (process, frames) in &mut self.old_frames {
            let running = frames.running_threads();
            if running.is_empty() || parts.tree.processes[*process].ending.is_some() {
                continue;
            }
            let held = parts
                .tree
                .hold(&|other, thread, _| other == *process && running.contains(&thread))?;
            let result = await_again(parts, frames, &running, &held);
            parts.tree.release_into_calls(held)?;
            match result {
                Err(error) if !error.is_gone() => return Err(error.into()),
                // It runs in the program's own code, or its stack cannot be followed.
                Ok(()) if frames.running() => {
                    self.old_frame_exchanges.insert(number);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn starting_count(&self, spec: &SessionSpec) -> u64 {
        let point = &self.point.id;
        let is_first = point.role == RoleNames::new(&spec.roles).first() && point.thread == 0;
        if point.exchange.is_none() && is_first {
            self.armed()
        } else {
            NEVER
        }
    }

    fn has_updated(&self) -> bool {
        matches!(self.update, Update::Applied { .. })
    }

    fn updated_at(&self) -> Option<(Instant, Instant)> {
        self.updated_at
    }

    fn first_count(&mut self, parts: &Parts<'_>, process: ProcessIndex, thread: u32) -> u64 {
        if self.is_target(parts, process, thread) {
            self.armed()
        } else {
            NEVER
        }
    }

    fn forked(
        &mut self,
        parts: &mut Parts<'_>,
        (parent, thread): (ProcessIndex, u32),
        child: ProcessIndex,
        child_stopped: &Stopped,
    ) -> Result<(), HostError> {
        if let Some(watched) = self.watched.get(&parent).cloned() {
            self.watched.insert(child, watched);
        }
        let Some(frames) = self.old_frames.get(&parent) else {
            return Ok(());
        };
        let mut frames = frames.in_child_of(thread);
        if let Some(patch) = parts.spec.patch.as_ref()
            && let Some(own) = update_forked(parts, patch, child, child_stopped)?
        {
            frames = own;
        }
        self.old_frames.insert(child, frames);
        Ok(())
    }

    fn executed(&mut self, process: ProcessIndex) {
        self.old_frames.remove(&process);
        self.watched.remove(&process);
    }

    fn entered(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        thread: u32,
        stopped: &Stopped,
        function: Address,
    ) -> Result<i32, HostError> {
        let mut signal = 0;
        let mut next = NEVER;
        if self.is_target(parts, process, thread) {
            let reached = Instant::now();
            let walk = parts.walk(process, stopped, Some(function))?;
            if self.recognises(&walk) {
                signal = self.update(parts, process, stopped, function, &walk)?;
                self.updated_at = Some((reached, Instant::now()));
                if let (Update::Applied { .. }, Some(tell)) = (&self.update, self.announce.take()) {
                    self.old_frames.clear();
                    tell(hand_over(parts, process, stopped, function)?);
                }
            } else if self.search == Search::Stack {
                next = 1;
            } else {
                self.done = true;
                let found = parts
                    .names
                    .own(function)
                    .map_or("?", |own| own.name.as_str());
                self.update = Update::NotReached {
                    reason: format!(
                        "entry {} is of {found}, on another stack",
                        self.point.id.index
                    ),
                };
            }
        }
        counter::set(&parts.tree.processes[process].memory, thread, next)?;
        Ok(signal)
    }

    fn faulted(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<Faulted, HostError> {
        let Some(watched) = self.watched.get_mut(&process) else {
            return Ok(Faulted::Own);
        };
        let (faulted, touches) = watched.faulted(parts, process, stopped)?;
        if let Update::Applied {
            state: Some(state), ..
        } = &mut self.update
            && let Some(poisoned) = &mut state.poisoned
        {
            poisoned.touches.extend(touches);
        }
        Ok(faulted)
    }

    fn breakpoint(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
        address: Address,
    ) -> Result<(), HostError> {
        let stack_pointer = Address(stopped.registers()?.rsp);
        let exchange = parts.exchange;
        let target = &mut parts.tree.processes[process];
        if let Some(frames) = self.old_frames.get_mut(&process) {
            let begins = frames.reached(
                address,
                stack_pointer,
                &target.memory,
                &mut target.breakpoints,
            )?;
            if begins {
                self.old_frame_exchanges.insert(exchange);
            }
        }
        Ok(())
    }
}

fn await_again(
    parts: &mut Parts<'_>,
    frames: &mut OldFrames,
    running: &BTreeSet<u32>,
    held: &[HeldThread],
) -> Result<(), TraceeError> {
    for thread in running {
        let Some(held) = held.iter().find(|held| held.thread == *thread) else {
            frames.ended(*thread);
            continue;
        };
        let function = parts.entry_of(held.process, &held.stopped)?;
        let walk = parts.walk(held.process, &held.stopped, function)?;
        let target = &mut parts.tree.processes[held.process];
        frames.await_again(*thread, &walk, &target.memory, &mut target.breakpoints)?;
    }
    Ok(())
}

/// Room that the session's patch image needs in a process, in whole pages.
#[must_use]
pub fn image_length(spec: &SessionSpec) -> u64 {
    spec.patch.as_ref().map_or(0, Patch::room)
}
