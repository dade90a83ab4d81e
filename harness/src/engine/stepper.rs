//! Watches a run of the old version instruction by instruction, in order to find the
//! steps between update points that touch certain memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::parts::Parts;
use super::restart::{Mode, Restart};
use super::spec::{SessionSpec, Which};
use super::watch::Watcher;
use crate::binary::Address;
use crate::trace::RoleInstance;
use crate::tracee::access::{Access, Accesses};
use crate::tracee::counter::{self, Instrument};
use crate::tracee::spawn::Tracing;
use crate::tracee::stopped::Until;
use crate::tracee::tree::ProcessIndex;
use crate::tracee::{Stopped, TraceeError};
use crate::world::{HostError, Limits};

/// Instructions after which other threads are looked at.
const MOST_STEPS: usize = 100_000;

/// Steps take many times as long as the run itself.
const LIMITS: Limits = Limits {
    waiting: std::time::Duration::from_secs(60),
    busy: std::time::Duration::from_secs(300),
    stopping: std::time::Duration::from_secs(60),
};

/// What a thread did in one exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SteppedStretch {
    /// Its process.
    pub role: RoleInstance,
    /// The thread within it, by order of creation.
    pub thread: u32,
    /// The exchange; none before the server is ready.
    pub exchange: Option<u32>,
    /// Functions entered, in order.
    pub functions: Vec<Address>,
    /// After how many of these entries memory was touched, and which of the wanted.
    pub touched: BTreeMap<u32, usize>,
    /// After how many of these entries which memory of the program and its heap was
    /// accessed, if that was wanted.
    pub accessed: BTreeMap<u32, BTreeSet<Access>>,
}

/// A run that was watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stepped {
    /// What each thread did in each exchange.
    pub stretches: Vec<SteppedStretch>,
}

/// What a run is watched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// Steps that touch this memory.
    These(Vec<Access>),
    /// All that steps access of the program's memory and its heap.
    All,
}

/// Where libraries and stacks begin: what lies below is the program's own.
pub const FOREIGN: Address = Address(0x7000_0000_0000);

type Key = (ProcessIndex, u32, Option<u32>);

struct Stepper<'a> {
    wanted: &'a Wanted,
    accesses: Accesses,
    stretches: BTreeMap<Key, SteppedStretch>,
    /// Where each thread stands: what it does is of this stretch, even if the next
    /// exchange has begun.
    current: HashMap<(ProcessIndex, u32), Key>,
    recording: bool,
}

/// Runs the old version and finds what steps touch.
///
/// # Errors
/// When the harness or the machine fails, or the server never becomes ready.
pub fn stepped(engine: &mut Restart, wanted: &Wanted) -> Result<Stepped, HostError> {
    let mode = Mode {
        version: Which::Old,
        tracing: Tracing::Seized,
        limits: LIMITS,
    };
    let mut stepper = Stepper {
        wanted,
        accesses: Accesses::default(),
        stretches: BTreeMap::new(),
        current: HashMap::new(),
        recording: engine.spec().startup,
    };
    engine.run(&mode, &mut stepper, &mut |_| {})?;
    Ok(Stepped {
        stretches: stepper.stretches.into_values().collect(),
    })
}

impl Stepper<'_> {
    /// Notes what the next instruction touches; false where it must not be awaited.
    fn look(
        &mut self,
        parts: &Parts<'_>,
        (process, thread): (ProcessIndex, u32),
        stopped: &Stopped,
    ) -> Result<bool, TraceeError> {
        let registers = stopped.registers()?;
        let next = self
            .accesses
            .next(&registers, &parts.tree.processes[process].memory)?;
        let stretch = self
            .current
            .get(&(process, thread))
            .and_then(|key| self.stretches.get_mut(key));
        let Some(stretch) = stretch else {
            return Ok(!next.enters_kernel);
        };
        let entered = u32::try_from(stretch.functions.len()).unwrap_or(u32::MAX);
        match self.wanted {
            Wanted::These(wanted) => {
                let touches = |one: &Access| next.accesses.iter().any(|a| a.conflicts(one));
                if let Some(which) = wanted.iter().position(touches) {
                    stretch.touched.entry(entered).or_insert(which);
                }
            }
            Wanted::All => {
                let own = next.accesses.iter().filter(|one| is_own(one));
                let of_step = stretch.accessed.entry(entered).or_default();
                of_step.extend(own.copied());
            }
        }
        Ok(!next.enters_kernel)
    }
}

/// Whether an access is to the program's memory, and not to what Kairos keeps in it.
fn is_own(access: &Access) -> bool {
    access.address < FOREIGN && access.address.since(counter::STUB) >= counter::KEPT_LENGTH
}

impl Watcher for Stepper<'_> {
    fn instrument(&self) -> Option<Instrument> {
        Some(Instrument::Count)
    }

    fn starting_count(&self, _spec: &SessionSpec) -> u64 {
        if self.recording { 1 } else { counter::NEVER }
    }

    fn exchange_begins(&mut self, parts: &mut Parts<'_>, _number: u32) -> Result<(), HostError> {
        self.recording = true;
        parts.set_counters(&mut |_, _| 1)
    }

    fn session_over(&mut self) {
        self.recording = false;
    }

    fn first_count(&mut self, _parts: &Parts<'_>, _process: ProcessIndex, _thread: u32) -> u64 {
        if self.recording { 1 } else { counter::NEVER }
    }

    fn entered(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        thread: u32,
        _stopped: &Stopped,
        function: Address,
    ) -> Result<i32, HostError> {
        if !self.recording {
            parts.tree.until = Until::Event;
            return Ok(0);
        }
        parts.tree.until = Until::Step;
        parts.tree.steps = true;
        let key = (process, thread, parts.moment());
        let stretch = self.stretches.entry(key).or_insert_with(|| SteppedStretch {
            role: parts.notes[process].role.clone(),
            thread,
            exchange: parts.moment(),
            functions: Vec::new(),
            touched: BTreeMap::new(),
            accessed: BTreeMap::new(),
        });
        stretch.functions.push(function);
        self.current.insert((process, thread), key);
        counter::set(&parts.tree.processes[process].memory, thread, 1)?;
        Ok(0)
    }

    fn stepped(
        &mut self,
        parts: &mut Parts<'_>,
        process: ProcessIndex,
        thread: u32,
        stopped: Stopped,
    ) -> Result<Option<Stopped>, HostError> {
        let mut stopped = stopped;
        if !self.recording {
            parts.tree.until = Until::Event;
            return Ok(Some(stopped));
        }
        for _ in 0..MOST_STEPS {
            if !self.look(parts, (process, thread), &stopped)? {
                break;
            }
            match parts.tree.step_on(stopped)? {
                Some(again) => stopped = again,
                None => return Ok(None),
            }
        }
        Ok(Some(stopped))
    }
}
