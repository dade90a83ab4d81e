//! Converts live state in a stopped process: walks its memory by the plan of an
//! update, and writes what comes out.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use libc::user_regs_struct;

use super::inject;
use super::libraries::Libraries;
use super::maps::mappings;
use super::{Memory, Stopped, TraceeError, counter};
use crate::binary::Address;
use crate::patch::{DataAction, IMAGE_BASE, Patch};
use crate::state::Plan;
use crate::state::frames::variables;
use crate::state::heap::Heap;
use crate::state::memory::Reader;
use crate::state::relocate::{
    ChangedVariable, InPlace, OldCopy, Pair, Relocation, Source, relocate,
};
use crate::state::walk::{View, walk};
use crate::tracee::apply::Target;
use crate::verdict::observation::SeenState;

const PAGE: u64 = 4096;

/// Most problems that are kept of one update: more tell nothing new.
const MOST_PROBLEMS: usize = 40;

/// Memory read page by page, each once.
struct Pages<'a> {
    memory: &'a Memory,
    known: RefCell<HashMap<u64, Option<Vec<u8>>>>,
}

impl Pages<'_> {
    fn part(&self, address: u64, buffer: &mut [u8]) -> bool {
        let page = address - address % PAGE;
        let mut known = self.known.borrow_mut();
        let bytes = known.entry(page).or_insert_with(|| {
            let mut bytes = vec![0; 4096];
            self.memory
                .read(Address(page), &mut bytes)
                .is_ok()
                .then_some(bytes)
        });
        let from = usize::try_from(address % PAGE).unwrap_or(0);
        match bytes {
            Some(bytes) => {
                buffer.copy_from_slice(&bytes[from..from + buffer.len()]);
                true
            }
            None => false,
        }
    }
}

impl Reader for Pages<'_> {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else {
                return false;
            };
            let left = usize::try_from(PAGE - at % PAGE).unwrap_or(1);
            let length = left.min(buffer.len() - done);
            if !self.part(at, &mut buffer[done..done + length]) {
                return false;
            }
            done += length;
        }
        true
    }
}

/// What became of live state.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What is written down of it.
    pub seen: SeenState,
    /// What moved instances left behind.
    pub old_copies: Vec<OldCopy>,
    /// Instances that were converted where they lay.
    pub in_place: Vec<InPlace>,
}

/// Finds and converts the instances of changed records. `registers` are those that
/// the target's threads will go on with, in their order.
///
/// # Errors
/// When the process is gone or its memory cannot be written.
pub fn convert(
    patch: &Patch,
    plan: &Plan,
    target: &Target<'_>,
    registers: &mut [user_regs_struct],
    libraries: &mut Libraries,
) -> Result<Converted, TraceeError> {
    let process = target.process;
    let begun = Instant::now();
    let pages = Pages {
        memory: &process.memory,
        known: RefCell::default(),
    };
    let mapped;
    let mappings = if let Some(prepared) = &process.prepared {
        &prepared.mappings
    } else {
        mapped = mappings(process.pid);
        &mapped
    };
    let heap = Heap::read(&pages, mappings);
    let view = View {
        reader: &pages,
        mappings,
        heap: &heap,
    };
    let found = walk(plan, view, &variables(plan, target.frames, &pages));
    let walked = Instant::now();
    let mut failure = None;
    let mut allocate = |size: u64| match allocate(target, libraries, size) {
        Ok(address) => address,
        Err(error) => {
            failure.get_or_insert(error);
            None
        }
    };
    let changed = changed_variables(patch);
    let relocation = relocate(plan, &found, &changed, &pages, &mut allocate);
    if let Some(error) = failure {
        return Err(error);
    }
    for (address, bytes) in &relocation.writes {
        process.memory.write(Address(*address), bytes)?;
    }
    for (thread, register, value) in &relocation.registers {
        if let Some(place) = registers.get_mut(*thread).and_then(|r| of(r, *register)) {
            *place = *value;
        }
    }
    let mut seen = seen(plan, &relocation);
    seen.problems.extend(found.problems);
    if let Some(problem) = tell(plan, patch, &relocation, &process.memory)? {
        seen.problems.push(problem);
    }
    seen.problems.sort();
    seen.problems.dedup();
    seen.problems.truncate(MOST_PROBLEMS);
    seen.walk_us = (walked - begun).as_secs_f64() * 1e6;
    seen.convert_us = walked.elapsed().as_secs_f64() * 1e6;
    Ok(Converted {
        seen,
        old_copies: relocation.old_copies,
        in_place: relocation.in_place,
    })
}

fn seen(plan: &Plan, relocation: &Relocation) -> SeenState {
    let mut instances = BTreeMap::new();
    for pair in &relocation.pairs {
        let name = &plan.records[pair.record].name;
        *instances.entry(name.clone()).or_insert(0) += 1;
    }
    SeenState {
        instances,
        moved: relocation.moved,
        redirected: relocation.redirected,
        problems: relocation.problems.clone(),
        ..SeenState::default()
    }
}

/// Memory of the process's own, as its `malloc` gives it.
fn allocate(
    target: &Target<'_>,
    libraries: &mut Libraries,
    size: u64,
) -> Result<Option<u64>, TraceeError> {
    let process = target.process;
    let Some(malloc) = libraries.find(process.pid, "malloc") else {
        return Ok(None);
    };
    let stopped: &Stopped = target.stopped;
    let registers = stopped.registers()?;
    let state = stopped.extended_state()?;
    let gadget = counter::GADGET;
    let address = inject::call(stopped, &process.memory, gadget, malloc.address, size)?;
    stopped.set_extended_state(&state)?;
    stopped.set_registers(&registers)?;
    Ok((address != 0).then_some(address))
}

fn changed_variables(patch: &Patch) -> Vec<ChangedVariable> {
    let initial = |at: Address, size: u64| -> Vec<u8> {
        let at = usize::try_from(at.since(IMAGE_BASE)).unwrap_or(usize::MAX);
        let size = usize::try_from(size).unwrap_or(0);
        let bytes = patch.image.get(at..at.saturating_add(size));
        bytes.unwrap_or_default().to_vec()
    };
    let of = |action: &DataAction| match action {
        DataAction::Carry {
            old,
            old_size,
            new,
            new_size,
            ..
        } => Some(ChangedVariable {
            old: old.0,
            old_size: *old_size,
            new: new.0,
            initial: initial(*new, *new_size),
            constant: false,
        }),
        DataAction::Renew {
            old,
            old_size,
            new,
            size,
            ..
        } => Some(ChangedVariable {
            old: old.0,
            old_size: *old_size,
            new: new.0,
            initial: initial(*new, *size),
            constant: true,
        }),
        DataAction::Reinitialise { old, size, new, .. } => Some(ChangedVariable {
            old: old.0,
            old_size: *size,
            new: old.0,
            initial: initial(*new, *size),
            constant: false,
        }),
        DataAction::Add { .. } => None,
    };
    patch.data.iter().filter_map(of).collect()
}

/// Tells the transformer of the converted instances: copies of those that were
/// converted in place, then for each record a table of old and new addresses. Says
/// what did not fit.
fn tell(
    plan: &Plan,
    patch: &Patch,
    relocation: &Relocation,
    memory: &Memory,
) -> Result<Option<String>, TraceeError> {
    if plan.records.iter().all(|record| record.table.is_none()) {
        return Ok(None);
    }
    let (base, room) = patch.scratch();
    let mut bytes = relocation.copies.clone();
    let mut tables = Vec::new();
    for (number, record) in plan.records.iter().enumerate() {
        let Some(table) = record.table else { continue };
        let pairs = relocation.pairs.iter().filter(|pair| pair.record == number);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let start = base.plus(bytes.len() as u64);
        let mut count = 0_u64;
        for Pair { old, new, .. } in pairs {
            let old = match old {
                Source::Address(address) => *address,
                Source::Copy(at) => base.plus(*at).0,
            };
            bytes.extend(old.to_le_bytes());
            bytes.extend(new.to_le_bytes());
            count += 1;
        }
        tables.push((table, start, count));
    }
    if bytes.len() as u64 > room {
        return Ok(Some(format!(
            "{} bytes of instances do not fit into the {room} bytes kept for the transformer, \
             which sees none",
            bytes.len()
        )));
    }
    memory.write(base, &bytes)?;
    for (table, start, count) in tables {
        memory.write(table, &start.0.to_le_bytes())?;
        memory.write(table.plus(8), &count.to_le_bytes())?;
    }
    Ok(None)
}

/// A register by its DWARF number.
fn of(registers: &mut user_regs_struct, number: usize) -> Option<&mut u64> {
    Some(match number {
        0 => &mut registers.rax,
        1 => &mut registers.rdx,
        2 => &mut registers.rcx,
        3 => &mut registers.rbx,
        4 => &mut registers.rsi,
        5 => &mut registers.rdi,
        6 => &mut registers.rbp,
        8 => &mut registers.r8,
        9 => &mut registers.r9,
        10 => &mut registers.r10,
        11 => &mut registers.r11,
        12 => &mut registers.r12,
        13 => &mut registers.r13,
        14 => &mut registers.r14,
        15 => &mut registers.r15,
        _ => return None,
    })
}
