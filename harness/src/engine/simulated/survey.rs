//! Where the points of a trace are met in a simulated session, and in which order. A
//! trace takes longer than an undisturbed session, so that a server that looks at the
//! clock enters functions in it which it does not enter otherwise, and what follows has
//! other indices.

use std::collections::HashMap;

use kairos_simulator::world::EVERY_PROCESS;

use super::Unfit;
use super::copies::{ComingBack, several};
use super::live::{Live, Place};
use super::run::{Reached, Run};
use crate::binary::Address;
use crate::engine::PointRequest;
use crate::engine::parts::Parts;
use crate::trace::{Moments, RoleInstance, fingerprint};
use crate::tracee::tree::ProcessIndex;
use crate::tracee::{Stopped, counter};

/// What is known of an entry.
#[derive(Clone, Copy)]
struct Met {
    /// Its index.
    index: u32,
    /// How many entries of any process come before it.
    before: u32,
    /// Whether no other process lived.
    alone: bool,
}

/// All entries of a process in an exchange, in their order.
#[derive(Default)]
struct Entries {
    /// Fingerprints of their stacks, and functions.
    entries: Vec<(u64, Address)>,
    /// What else is known of them.
    met: Vec<Met>,
}

/// Every entry of the server's own functions in one simulated session, by process and
/// exchange.
#[derive(Default)]
pub struct Survey {
    entries: HashMap<(RoleInstance, u32), Entries>,
    count: u32,
}

impl Survey {
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
        let role = parts.notes[process].role.clone();
        let Entries { entries, met } = self.entries.entry((role, exchange)).or_default();
        entries.push((stack, function));
        met.push(Met {
            index: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            before: self.count,
            alone,
        });
        self.count += 1;
        Ok(counter::set(&parts.tree.processes[process].memory, 0, 1)?)
    }
}

/// Where a simulated session reaches points.
pub struct Places(HashMap<(RoleInstance, u32), Moments<Met>>);

impl Places {
    /// Found out by a survey.
    fn of(survey: Survey) -> Self {
        let all = survey.entries.into_iter();
        let moments = all.map(|(of, all)| (of, Moments::of(&all.entries, &all.met)));
        Self(moments.collect())
    }

    /// Where the session reaches a point that is come back to.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn place(
        &self,
        point: &PointRequest,
        coming_back: ComingBack,
    ) -> Result<Place, Unfit> {
        let (role, exchange, met) = self.met(point)?;
        if coming_back == ComingBack::Copied && !met.alone {
            return Err(several());
        }
        Ok(Place {
            exchange,
            role,
            index: met.index,
        })
    }

    /// A point's place in the order in which the session reaches them; none for one that
    /// it does not reach.
    pub(super) fn order(&self, point: &PointRequest) -> Option<u32> {
        self.met(point).ok().map(|(_, _, met)| met.before)
    }

    fn met(&self, point: &PointRequest) -> Result<(RoleInstance, u32, Met), Unfit> {
        let Some(exchange) = point.id.exchange else {
            return Err(Unfit::Declined("a point before it was ready".to_owned()));
        };
        let of = (point.id.role.clone(), exchange);
        let moments = self.0.get(&of).ok_or("has no such entry");
        match moments.and_then(|moments| moments.find(&point.moment)) {
            Ok(met) => Ok((of.0, of.1, met)),
            Err(why) => Err(Unfit::Elsewhere(format!("the simulated session {why}"))),
        }
    }
}

impl Live {
    /// Plays the session from readiness on and stops at every entry.
    pub(super) fn survey(&mut self, parts: &mut Parts<'_>) -> Result<Places, Unfit> {
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
        survey.map(Places::of).ok_or_else(super::live::lost)
    }
}
