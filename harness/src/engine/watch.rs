//! What a run is for: recording a trace, applying an update, or nothing. The
//! server tells its watcher what happens; the watcher decides where to stop.

use std::time::Instant;

use super::parts::Parts;
use super::poison::Faulted;
use super::spec::SessionSpec;
use crate::binary::Address;
use crate::tracee::Stopped;
use crate::tracee::counter::{Instrument, NEVER};
use crate::tracee::tree::ProcessIndex;
use crate::world::HostError;

/// Watches one run.
pub trait Watcher {
    /// What entries of own functions do, if anything.
    fn instrument(&self) -> Option<Instrument> {
        None
    }

    /// Whether it wants to see system calls.
    fn sees_system_calls(&self) -> bool {
        false
    }

    /// What the entry counter of the first thread starts with, before the server is
    /// ready.
    fn starting_count(&self, _spec: &SessionSpec) -> u64 {
        NEVER
    }

    /// Whether the update has been tried: what the server does from then on is an
    /// observation, whatever it is.
    fn has_updated(&self) -> bool {
        false
    }

    /// When the point was reached, and when the server went on from it; none if it
    /// was not.
    fn updated_at(&self) -> Option<(Instant, Instant)> {
        None
    }

    /// The server stands still and exchange `number` is about to begin (0: the
    /// server has just become ready).
    ///
    /// # Errors
    /// When tracing fails.
    fn exchange_begins(&mut self, _parts: &mut Parts<'_>, _number: u32) -> Result<(), HostError> {
        Ok(())
    }

    /// The server stands still after exchange `number`.
    ///
    /// # Errors
    /// When tracing fails.
    fn exchange_ended(&mut self, _parts: &mut Parts<'_>, _number: u32) -> Result<(), HostError> {
        Ok(())
    }

    /// The session is over and no entry is an update point any more: probe and stop
    /// follow.
    fn session_over(&mut self) {}

    /// What the entry counter of a new thread or process starts with.
    fn first_count(&mut self, _parts: &Parts<'_>, _process: ProcessIndex, _thread: u32) -> u64 {
        NEVER
    }

    /// A process was forked by this thread of another and named; its own thread has
    /// not run yet.
    ///
    /// # Errors
    /// When tracing fails.
    fn forked(
        &mut self,
        _parts: &mut Parts<'_>,
        _parent: (ProcessIndex, u32),
        _child: ProcessIndex,
        _child_stopped: &Stopped,
    ) -> Result<(), HostError> {
        Ok(())
    }

    /// A signal is about to be delivered to a thread.
    fn signalled(&mut self, _parts: &Parts<'_>, _process: ProcessIndex, _thread: u32) {}

    /// A process executed another program: of the old one nothing is left in it.
    fn executed(&mut self, _process: ProcessIndex) {}

    /// A thread's counter reached zero at the entry of `function`. Returns the
    /// signal to resume it with (0: none).
    ///
    /// # Errors
    /// When tracing fails.
    fn entered(
        &mut self,
        _parts: &mut Parts<'_>,
        _process: ProcessIndex,
        _thread: u32,
        _stopped: &Stopped,
        _function: Address,
    ) -> Result<i32, HostError> {
        Ok(0)
    }

    /// A thread reached a breakpoint; tells whether it was the watcher's own and
    /// is cleared. Otherwise the thread steps over it.
    ///
    /// # Errors
    /// When tracing fails.
    fn breakpoint(
        &mut self,
        _parts: &mut Parts<'_>,
        _process: ProcessIndex,
        _stopped: &Stopped,
        _address: Address,
    ) -> Result<(), HostError> {
        Ok(())
    }

    /// A thread took a fault: tells what becomes of it.
    ///
    /// # Errors
    /// When tracing fails.
    fn faulted(
        &mut self,
        _parts: &mut Parts<'_>,
        _process: ProcessIndex,
        _stopped: &Stopped,
    ) -> Result<Faulted, HostError> {
        Ok(Faulted::Own)
    }

    /// A thread executed one instruction, as it does where the tree's threads are
    /// stepped. Returns it, or none if it was resumed.
    ///
    /// # Errors
    /// When tracing fails.
    fn stepped(
        &mut self,
        _parts: &mut Parts<'_>,
        _process: ProcessIndex,
        _thread: u32,
        stopped: Stopped,
    ) -> Result<Option<Stopped>, HostError> {
        Ok(Some(stopped))
    }

    /// A thread enters or leaves a system call.
    ///
    /// # Errors
    /// When tracing fails.
    fn system_call(
        &mut self,
        _parts: &mut Parts<'_>,
        _process: ProcessIndex,
        _thread: u32,
        _stopped: &Stopped,
    ) -> Result<(), HostError> {
        Ok(())
    }
}

/// Watches nothing: a baseline.
#[derive(Debug, Default)]
pub struct Idle;

impl Watcher for Idle {}

/// Lets entries be counted and stops at none: a server that is to be copied.
#[derive(Debug, Default)]
pub struct Counting;

impl Watcher for Counting {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }
}
