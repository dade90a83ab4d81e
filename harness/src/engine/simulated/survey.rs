//! Where the points of a trace are met in a simulated session. A trace takes longer than
//! an undisturbed session, so that a server that looks at the clock enters functions
//! in it which it does not enter otherwise, and what follows has other indices.

use std::collections::HashMap;

use kairos_simulator::world::{Control, Reason};

use super::Unfit;
use super::live::{Live, Place, lost};
use super::run::{handler, why_declined};
use crate::engine::PointRequest;
use crate::engine::parts::Parts;
use crate::trace::fingerprint;
use crate::tracee::simulator::{self, CONTROL};
use crate::tracee::tree::{Event, Stop, signal_name};
use crate::tracee::{Memory, TraceeError, counter, intercept};

/// Every entry of the server's own functions in one simulated session.
pub struct Survey {
    /// Indices by exchange, stack, and how often the stack was met in the exchange
    /// before.
    indices: HashMap<(u32, u64, u32), u32>,
}

impl Survey {
    /// Where the session reaches a point; none if it does not.
    pub(super) fn place(&self, point: &PointRequest) -> Option<Place> {
        let exchange = point.id.exchange?;
        let key = (exchange, point.stack, point.occurrence);
        let index = self.indices.get(&key).copied()?;
        Some(Place { exchange, index })
    }
}

impl Live {
    /// Plays the session from readiness on and stops at every entry.
    pub(super) fn survey(&mut self, parts: &mut Parts<'_>) -> Result<Survey, Unfit> {
        let mut indices = HashMap::new();
        let mut met: HashMap<u64, u32> = HashMap::new();
        let (mut exchange, mut index) = (0, 0);
        let memory = &parts.tree.processes[0].memory;
        let mut control = simulator::control(memory)?;
        (control.arm_exchange, control.arm_count) = (0, 1);
        control.stop_at_exchange_end = 1;
        simulator::write(memory, CONTROL, &*control)?;
        let mut stopped = self.take_stopped()?;
        let mut signal = 0;
        loop {
            stopped.resume(parts.tree.until, signal)?;
            signal = 0;
            let stop;
            (stopped, stop) = self.next_stop(parts)?;
            let memory = &parts.tree.processes[0].memory;
            match stop {
                Stop::Entry(function) => {
                    let walk = parts.walk(0, &stopped, Some(function))?;
                    let stack = fingerprint(&walk.stack());
                    let before = met.entry(stack).or_insert(0);
                    index += 1;
                    indices.insert((exchange, stack, *before), index);
                    *before += 1;
                    counter::set(&parts.tree.processes[0].memory, 0, 1)?;
                }
                Stop::Filtered => intercept::redirect(&stopped, memory, self.gate)?,
                Stop::Signal(libc::SIGTRAP) => {
                    let control = simulator::control(memory)?;
                    if let Some(why) = why_declined(memory, &control)? {
                        return Err(Unfit::Declined(why));
                    }
                    if control.reason == Reason::ExchangeEnded {
                        exchange = control.exchange + 1;
                        index = 0;
                        met.clear();
                        arm(memory, exchange)?;
                    }
                    if exchange == control.session_exchanges || control.reason == Reason::Over {
                        self.give_stopped(stopped);
                        return Ok(Survey { indices });
                    }
                }
                Stop::Signal(number) if handler(memory, number)? > 1 => signal = number,
                Stop::Signal(number) => return Err(Unfit::Declined(signal_name(number))),
                _ => {}
            }
        }
    }

    /// The next stop of the server; its children run to their end before it.
    pub(super) fn next_stop(
        &mut self,
        parts: &mut Parts<'_>,
    ) -> Result<(crate::tracee::Stopped, Stop), Unfit> {
        loop {
            match parts.tree.wait(self.pid)? {
                Some(Event::Stopped { stopped, stop, .. }) => return Ok((stopped, stop)),
                Some(Event::Forked {
                    stopped,
                    child_stopped,
                    ..
                }) => {
                    let child = super::children::run(parts, self, None, &stopped, child_stopped)?;
                    self.family.push(child);
                    stopped.resume(parts.tree.until, 0)?;
                }
                Some(_) => return Err(lost()),
                None => {}
            }
        }
    }
}

/// Stops at the first entry of an exchange.
fn arm(memory: &Memory, exchange: u32) -> Result<(), TraceeError> {
    let at = CONTROL.plus(std::mem::offset_of!(Control, arm_exchange) as u64);
    memory.write(at, &exchange.to_le_bytes())
}
