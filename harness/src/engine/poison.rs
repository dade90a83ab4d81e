//! Catches code that touches instances which an update moved, or the old copies that
//! they left: what con-freeness allows must leave neither to code of the old version.

use std::ops::Range;

use super::parts::Parts;
use super::spec::SessionSpec;
use crate::binary::Address;
use crate::patch::Patch;
use crate::state::relocate::OldCopy;
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

/// What is out of reach of one process, and the frames that were active at the point.
#[derive(Clone, Debug)]
pub struct Watched {
    poison: Poison,
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
    /// Puts `copies` and what left them out of reach of the process; `walks` are the
    /// stacks of its threads.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn begin(
        parts: &Parts<'_>,
        process: ProcessIndex,
        stopped: &Stopped,
        copies: &[OldCopy],
        walks: &[&Walk],
    ) -> Result<(Self, Poisoned), TraceeError> {
        let memory = &parts.tree.processes[process].memory;
        let poison = Poison::set(stopped, memory, copies)?;
        let closed = poison.old_copies();
        let seen = Poisoned {
            copies: closed as u64,
            within_reach: (copies.len() - closed) as u64,
            touches: Vec::new(),
        };
        let frames = walks.iter().flat_map(|walk| &walk.frames);
        let frames = frames.map(|frame| frame.cfa).collect();
        Ok((Self { poison, frames }, seen))
    }

    /// What becomes of a thread of the process that took a fault, and what it did, if
    /// that is worth noting. Old code of a function that did not change may use an
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
    ) -> Result<(Faulted, Option<Touch>), TraceeError> {
        let Some((block, offset)) = self.poison.touched(stopped)? else {
            return Ok((Faulted::Own, None));
        };
        let inside = inside(parts, process, stopped)?;
        let replaced = |entry| {
            let patch = parts.spec.patch.as_ref();
            patch.is_some_and(|patch| replaces(patch, entry))
        };
        if !block.old_copy && !inside.old.is_some_and(replaced) {
            return Ok((Faulted::Step(block.pages), None));
        }
        self.poison.open(stopped, &block)?;
        let touch = Touch {
            object: block.name,
            offset,
            old_copy: block.old_copy,
            old_text: inside.old.is_some(),
            function: inside.name,
            active_at_point: self.frames.contains(&inside.cfa),
            exchange: parts.exchange,
        };
        Ok((Faulted::Mended, Some(touch)))
    }
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
