//! Where the points of a trace are met in a simulated session. A trace takes longer than
//! an undisturbed session, so that a server that looks at the clock enters functions
//! in it which it does not enter otherwise, and what follows has other indices.

use std::collections::HashMap;

use kairos_simulator::world::EVERY_PROCESS;

use super::Unfit;
use super::copies::{ComingBack, several};
use super::live::{Live, Place};
use super::run::{Reached, Run};
use crate::binary::Address;
use crate::engine::PointRequest;
use crate::engine::parts::Parts;
use crate::trace::{RoleInstance, fingerprint, mark};
use crate::tracee::tree::ProcessIndex;
use crate::tracee::{Stopped, counter};

/// An entry: its process, its exchange, its stack, and how often that process had entered
/// a function with this stack in this exchange before.
type Entry = (RoleInstance, u32, u64, u32);

/// What is known of an entry.
#[derive(Clone, Copy)]
struct Met {
    /// Its index.
    index: u32,
    /// What its process had entered before in the exchange, as
    /// [`PointRequest::entered`] has it.
    entered: u64,
    /// Whether no other process lived.
    alone: bool,
}

/// Every entry of the server's own functions in one simulated session.
#[derive(Default)]
pub struct Survey {
    indices: HashMap<Entry, Met>,
    /// Entries of each process in the exchange under way, and what they were.
    entered: HashMap<ProcessIndex, (u32, u64)>,
    /// The same, of each stack.
    met: HashMap<(ProcessIndex, u64), u32>,
}

impl Survey {
    /// Where the session reaches a point that is come back to.
    ///
    /// # Errors
    /// Why it does not. An entry with the point's stack is another moment if other
    /// functions were entered before it: a request may have been served by then.
    pub(super) fn place(
        &self,
        point: &PointRequest,
        exchange: u32,
        coming_back: ComingBack,
    ) -> Result<Place, Unfit> {
        let elsewhere = |why: &str| Unfit::Elsewhere(format!("the simulated session {why}"));
        let role = point.id.role.clone();
        let entry = (role.clone(), exchange, point.stack, point.occurrence);
        let met = *self
            .indices
            .get(&entry)
            .ok_or_else(|| elsewhere("has no such entry"))?;
        if met.entered != point.entered {
            return Err(elsewhere("enters other functions before it"));
        }
        if coming_back == ComingBack::Copied && !met.alone {
            return Err(several());
        }
        Ok(Place {
            exchange,
            role,
            index: met.index,
        })
    }

    /// The process that runs has entered a function; `alone` says whether no other one
    /// lives.
    pub(super) fn entered(
        &mut self,
        parts: &mut Parts<'_>,
        (process, exchange, alone): (ProcessIndex, u32, bool),
        stopped: &Stopped,
        function: Address,
    ) -> Result<(), Unfit> {
        let stack = fingerprint(&parts.walk(process, stopped, Some(function))?.stack());
        let (index, entered) = self.entered.entry(process).or_insert((0, 0));
        *index += 1;
        let before = self.met.entry((process, stack)).or_insert(0);
        let role = parts.notes[process].role.clone();
        let met = Met {
            index: *index,
            entered: *entered,
            alone,
        };
        self.indices.insert((role, exchange, stack, *before), met);
        *entered = entered.wrapping_add(mark(function));
        *before += 1;
        Ok(counter::set(&parts.tree.processes[process].memory, 0, 1)?)
    }

    /// The next exchange begins.
    pub(super) fn next_exchange(&mut self) {
        self.entered.clear();
        self.met.clear();
    }
}

impl Live {
    /// Plays the session from readiness on and stops at every entry.
    pub(super) fn survey(&mut self, parts: &mut Parts<'_>) -> Result<Survey, Unfit> {
        self.stand_aside(&mut parts.tree)?;
        let control = &mut self.shared.world_mut().control;
        (control.arm_exchange, control.arm_count) = (0, 1);
        control.arm_process = EVERY_PROCESS;
        control.stop_at_exchange_end = 1;
        let mut run = Run {
            live: self,
            target: None,
            stall: None,
            known: None,
            survey: Some(Survey::default()),
        };
        let reached = run.go_on(parts, None)?;
        let survey = run.survey.take().filter(|_| reached == Reached::Over);
        survey.ok_or_else(super::live::lost)
    }
}
