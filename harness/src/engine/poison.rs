//! Catches code that touches instances which an update converted, or the old copies that
//! they left: what con-freeness allows must leave neither to code of the old version. In
//! the heap both lie on pages without access; in frames and among variables debug
//! registers watch them.

use std::ops::Range;

use super::parts::Parts;
use super::spec::SessionSpec;
use super::watchpoints::Watchpoints;
use crate::binary::Address;
use crate::patch::Patch;
use crate::state::Plan;
use crate::tracee::convert::Converted;
use crate::tracee::poison::{BLOCKS_APART, Poison};
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::Walk;
use crate::tracee::{Stopped, TraceeError};
use crate::verdict::observation::{Poisoned, Touch};

impl SessionSpec {
    /// The same session with instances and old copies put out of reach after the update.
    /// Blocks of the heap then have their pages for themselves, and all instances in it
    /// move.
    #[must_use]
    pub fn poisoned(mut self) -> Self {
        let (name, value) = BLOCKS_APART;
        self.environment.push((name.to_owned(), value.to_owned()));
        if let Some(plan) = self.patch.as_mut().and_then(|patch| patch.state.as_mut()) {
            plan.poison = true;
        }
        self
    }

    /// The same session with one part of what the update leaves in frames and among
    /// variables watched, from 0; the observation tells how many there are.
    #[must_use]
    pub fn watching(mut self, part: u32) -> Self {
        if let Some(plan) = self.patch.as_mut().and_then(|patch| patch.state.as_mut()) {
            plan.watched_part = Some(part);
        }
        self
    }
}

/// What is to become of a thread that took a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Faulted {
    /// The fault is the program's own.
    Own,
    /// It may go on.
    Mended,
    /// It may execute the one instruction that touches these pages.
    Step(Range<u64>),
}

/// The threads of a process that takes an update with their stacks, the one that reached
/// the point first.
pub type Stacks<'a> = Vec<(&'a Stopped, &'a Walk)>;

/// What is out of reach of one process or watched in it, and the frames that were active
/// at the point.
#[derive(Clone, Debug)]
pub struct Watched {
    poison: Poison,
    words: Watchpoints,
    /// Canonical addresses of the frames.
    frames: Vec<Address>,
}

/// The program's function that a thread is in, the library aside.
struct Inside {
    name: String,
    /// Its entry, if it is old code.
    old: Option<Address>,
    cfa: Address,
}

impl Watched {
    /// Puts what was converted, and the copies that it left, out of reach of the process
    /// or under watch, as `plan` says.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn begin(
        parts: &Parts<'_>,
        process: ProcessIndex,
        plan: &Plan,
        converted: &Converted,
        stacks: &[(&Stopped, &Walk)],
    ) -> Result<(Self, Poisoned), TraceeError> {
        let copies = &converted.old_copies;
        let mut poison = Poison::default();
        if let Some((first, _)) = stacks.first().filter(|_| plan.poison) {
            let memory = &parts.tree.processes[process].memory;
            poison = Poison::set(first, memory, copies)?;
        }
        let walks: Vec<&Walk> = stacks.iter().map(|(_, walk)| *walk).collect();
        let divided = Watchpoints::parts(copies, &converted.in_place, &walks);
        let closed = poison.old_copies();
        let seen = Poisoned {
            copies: closed as u64,
            within_reach: (copies.len() - closed) as u64,
            parts: divided.len() as u64,
            touches: Vec::new(),
        };
        let part = plan
            .watched_part
            .and_then(|part| usize::try_from(part).ok());
        let words = part.and_then(|part| divided.into_iter().nth(part));
        if let Some(words) = &words {
            for (thread, _) in stacks {
                words.set(thread)?;
            }
        }
        let frames = walks.iter().flat_map(|walk| &walk.frames);
        let watched = Self {
            poison,
            words: words.unwrap_or_default(),
            frames: frames.map(|frame| frame.cfa).collect(),
        };
        Ok((watched, seen))
    }

    /// What becomes of a thread of the process that took a fault or touched a word under
    /// watch, and what it did, if that is worth noting. Old code of a function that did not change may use an
    /// instance where it lies now, by a pointer to a member say; all else that is old
    /// has no business there.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn faulted(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
    ) -> Result<(Faulted, Vec<Touch>), TraceeError> {
        if let Some(words) = self.words.touched(stopped)? {
            let mut touches = Vec::new();
            for word in words {
                let inside = inside(parts, process, stopped)?;
                if word.old_copy || is_of_changed(parts, &inside) {
                    self.words.leave(stopped, &word)?;
                    let place = (word.name, word.offset, word.old_copy);
                    touches.push(self.touch(parts.exchange, place, inside));
                }
            }
            return Ok((Faulted::Mended, touches));
        }
        let Some((block, offset)) = self.poison.touched(stopped)? else {
            return Ok((Faulted::Own, Vec::new()));
        };
        let inside = inside(parts, process, stopped)?;
        if !block.old_copy && !is_of_changed(parts, &inside) {
            return Ok((Faulted::Step(block.pages), Vec::new()));
        }
        self.poison.open(stopped, &block)?;
        let place = (block.name, offset, block.old_copy);
        let touch = self.touch(parts.exchange, place, inside);
        Ok((Faulted::Mended, vec![touch]))
    }

    /// A touch of a place, given by object, offset and whether it is an old copy's.
    fn touch(&self, exchange: u32, place: (String, i64, bool), inside: Inside) -> Touch {
        let (object, offset, old_copy) = place;
        Touch {
            object,
            offset,
            old_copy,
            old_text: inside.old.is_some(),
            function: inside.name,
            active_at_point: self.frames.contains(&inside.cfa),
            exchange,
        }
    }
}

/// Whether it is old code of a function that the update replaces.
fn is_of_changed(parts: &Parts<'_>, inside: &Inside) -> bool {
    let patch = parts.spec.patch.as_ref();
    let replaced = |entry| patch.is_some_and(|patch| replaces(patch, entry));
    inside.old.is_some_and(replaced)
}

/// Whether calls of the function with that entry run other code since the update, or
/// should not be.
fn replaces(patch: &Patch, entry: Address) -> bool {
    patch.redirects.iter().any(|function| function.old == entry)
        || patch.deleted.iter().any(|function| function.old == entry)
}

fn inside(
    parts: &mut Parts<'_>,
    process: ProcessIndex,
    stopped: &Stopped,
) -> Result<Inside, TraceeError> {
    let walk = parts.walk(process, stopped, None)?;
    let own = walk.frames.iter().enumerate().find_map(|(depth, frame)| {
        // A return address may lie behind its function's last instruction.
        let at = Address(frame.address.0 - u64::from(depth > 0 && !frame.interrupted));
        let name = parts.names.of_either_version(at)?;
        Some(Inside {
            name: name.to_owned(),
            old: parts.names.own(at).map(|function| function.entry),
            cfa: frame.cfa,
        })
    });
    Ok(own.unwrap_or_else(|| Inside {
        name: "?".to_owned(),
        old: None,
        cfa: Address(0),
    }))
}
