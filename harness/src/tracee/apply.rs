//! Applies a patch to a stopped process: code image, library addresses, entry
//! jumps, data, transformer. The image's room was mapped at `execve`, so nothing
//! here needs a system call that a sandboxed process might be refused.

use std::cell::RefCell;

use super::access::{Access, Accesses};
use super::convert::{Converted, convert};
use super::inject;
use super::libraries::Libraries;
use super::tree::Process;
use super::unwind::Walk;
use super::{Memory, Stopped, TraceeError, counter};
use crate::binary::Address;
use crate::patch::{DataAction, ENTRY_PAD, IMAGE_BASE, Patch, REDIRECT_OFFSET};
use crate::state::Plan;
use crate::state::frames::FrameState;
use libc::user_regs_struct;
use nix::unistd::Pid;

/// Functions of the C library that hold a lock of its allocator.
const ALLOCATOR: [&str; 8] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "memalign",
    "aligned_alloc",
    "posix_memalign",
    "malloc_trim",
];

/// How applying went, and what became of live state where records changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// How it went.
    pub outcome: Outcome,
    /// What was converted.
    pub state: Option<Converted>,
}

/// How applying went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The process runs the new version from now on.
    Applied,
    /// The code is in place, but the transformer took this signal; the thread
    /// still stands where it did.
    Faulted(i32),
}

/// Functions of the image whose entries are counted, in the order of their counts.
#[must_use]
pub fn counted_functions(patch: &Patch) -> Vec<(&str, Address)> {
    let redirected = patch
        .redirects
        .iter()
        .map(|r| (r.function.name.as_str(), r.new));
    let added = patch
        .added
        .iter()
        .map(|a| (a.function.name.as_str(), a.new));
    redirected
        .chain(added)
        .take(usize::try_from(counter::COVERAGE_LENGTH / 4).unwrap_or(usize::MAX))
        .collect()
}

/// A process to be updated, all of its threads being stopped.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The process.
    pub process: &'a Process,
    /// The thread that runs the transformer.
    pub stopped: &'a Stopped,
    /// Its other threads.
    pub others: &'a [&'a Stopped],
    /// Frames of all of these threads, in this order; not looked at where no record
    /// changed.
    pub frames: &'a [Vec<FrameState>],
    /// Takes what the transformer reads and writes, if that is asked for.
    pub spy: Option<&'a RefCell<Vec<Access>>>,
}

/// Why the mechanism cannot apply `patch` to process `pid` now; none if it can.
/// `walks` are the stacks of its threads.
#[must_use]
pub fn refusal(
    patch: &Patch,
    pid: Pid,
    walks: &[&Walk],
    libraries: &mut Libraries,
) -> Option<String> {
    let clash = walks
        .iter()
        .find_map(|walk| transformer_would_clash(patch, walk));
    let busy = || allocator_busy(patch, pid, walks, libraries);
    clash.or_else(busy).or_else(|| {
        let missing = patch
            .imports
            .iter()
            .find(|import| libraries.find(pid, &import.name).is_none())?;
        Some(format!(
            "new code uses {}, which no library of the process has",
            missing.name
        ))
    })
}

/// Whether applying `patch` to process `pid` calls functions inside it.
#[must_use]
pub fn calls_functions(patch: &Patch, pid: Pid, libraries: &mut Libraries) -> bool {
    patch.transformer.is_some()
        || patch.state.as_ref().is_some_and(Plan::may_allocate)
        || patch.imports.iter().any(|import| {
            let found = libraries.find(pid, &import.name);
            found.is_some_and(|function| function.indirect)
        })
}

/// Applies `patch` to a process for which there is no [`refusal`].
///
/// # Errors
/// When the process is gone or its memory cannot be written.
pub fn apply(
    patch: &Patch,
    target: &Target<'_>,
    libraries: &mut Libraries,
) -> Result<Applied, TraceeError> {
    let Target {
        process,
        stopped,
        others,
        ..
    } = *target;
    let memory = &process.memory;
    let mut registers = stopped.registers()?;
    let mut state = None;
    // Only a call that is injected could be interrupted by a signal.
    let prepared = process.prepared.as_deref();
    let injects = prepared.is_none() || patch.transformer.is_some() || patch.state.is_some();
    let mask = if injects {
        let mask = stopped.signal_mask()?;
        stopped.set_signal_mask(u64::MAX)?;
        Some(mask)
    } else {
        None
    };
    let outcome = (|| {
        let placed;
        let image = if let Some(prepared) = prepared {
            &prepared.image
        } else {
            placed = place_image(patch, process, stopped, libraries)?;
            &placed
        };
        // Converting writes into variables: whether the program ever did is asked before.
        let written = patch
            .data
            .iter()
            .map(|action| was_written(action, memory))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(plan) = &patch.state {
            state = Some(convert_state(
                patch,
                plan,
                target,
                &mut registers,
                libraries,
            )?);
        }
        for (action, written) in patch.data.iter().zip(written) {
            settle_data(action, written, memory, image)?;
        }
        if prepared.is_some_and(|prepared| prepared.switch) {
            counter::set_switch(memory)?;
        } else {
            redirect(patch, memory)?;
        }
        for other in others {
            leave_pad(patch, other)?;
        }
        transform(patch, memory, stopped, target.spy)
    })();
    if let Some(mask) = mask {
        if !matches!(outcome, Ok(Outcome::Faulted(_))) {
            stopped.set_registers(&registers)?;
        }
        stopped.set_signal_mask(mask)?;
    }
    Ok(Applied {
        outcome: outcome?,
        state,
    })
}

/// Puts the image into a process, filled in for it; returns it. The caller restores
/// the registers.
///
/// # Errors
/// When the process is gone or its memory cannot be written.
pub fn place_image(
    patch: &Patch,
    process: &Process,
    stopped: &Stopped,
    libraries: &mut Libraries,
) -> Result<Vec<u8>, TraceeError> {
    let mut image = patch.image.clone();
    fill_imports(patch, &mut image, process, stopped, libraries)?;
    count_entries(patch, &mut image);
    process.memory.write(IMAGE_BASE, &image)?;
    Ok(image)
}

/// Converts live state; `registers` are those that the thread at the point goes on
/// with, the other threads' are written at once.
fn convert_state(
    patch: &Patch,
    plan: &Plan,
    target: &Target<'_>,
    registers: &mut user_regs_struct,
    libraries: &mut Libraries,
) -> Result<Converted, TraceeError> {
    let mut all = vec![*registers];
    for other in target.others {
        all.push(other.registers()?);
    }
    let before = all.clone();
    let converted = convert(patch, plan, target, &mut all, libraries)?;
    *registers = all[0];
    for (number, other) in target.others.iter().enumerate() {
        if all[number + 1] != before[number + 1] {
            other.set_registers(&all[number + 1])?;
        }
    }
    Ok(converted)
}

/// Whether a thread stands in the allocator, whose lock it may hold, although the
/// update may have to allocate.
fn allocator_busy(
    patch: &Patch,
    pid: Pid,
    walks: &[&Walk],
    libraries: &mut Libraries,
) -> Option<String> {
    let may_allocate = patch.state.as_ref().is_some_and(Plan::may_allocate);
    if !may_allocate {
        return None;
    }
    ALLOCATOR.iter().find_map(|name| {
        let function = libraries.find(pid, name)?;
        let inside = |address: Address| address.since(function.address) < function.size.max(1);
        let mut frames = walks.iter().flat_map(|walk| &walk.frames);
        frames
            .any(|frame| inside(frame.address))
            .then(|| format!("records grow, and a thread stands in {name}"))
    })
}

/// A transformer that calls into the library must not run while a signal handler
/// interrupts the library: a lock may be held, a structure half changed.
fn transformer_would_clash(patch: &Patch, walk: &Walk) -> Option<String> {
    patch.transformer?;
    if patch.transformer_imports.is_empty() {
        return None;
    }
    walk.frames.iter().any(|frame| frame.interrupted).then(|| {
        format!(
            "the transformer calls {} but the point lies in a signal handler",
            patch.transformer_imports.join(", ")
        )
    })
}

fn fill_imports(
    patch: &Patch,
    image: &mut [u8],
    process: &Process,
    stopped: &Stopped,
    libraries: &mut Libraries,
) -> Result<(), TraceeError> {
    for import in &patch.imports {
        let Some(found) = libraries.find(process.pid, &import.name) else {
            continue;
        };
        let address = if found.indirect {
            let state = stopped.extended_state()?;
            let resolved =
                inject::call(stopped, &process.memory, counter::GADGET, found.address, 0)?;
            stopped.set_extended_state(&state)?;
            resolved
        } else {
            found.address.0
        };
        let at = usize::try_from(import.slot.since(IMAGE_BASE)).unwrap_or(usize::MAX);
        if let Some(slot) = image.get_mut(at..at.saturating_add(8)) {
            slot.copy_from_slice(&address.to_le_bytes());
        }
    }
    Ok(())
}

/// Makes every function of the image count its entries: `lock inc dword [count]`
/// in its entry pad, relative to the instruction's end.
fn count_entries(patch: &Patch, image: &mut [u8]) {
    const INCREMENT: [u8; 3] = [0xf0, 0xff, 0x05];
    const NOP: u8 = 0x90;
    #[allow(clippy::cast_possible_truncation)] // a small constant
    const PAD: usize = ENTRY_PAD as usize;
    for (index, (_, entry)) in counted_functions(patch).into_iter().enumerate() {
        let count = counter::COVERAGE.plus(4 * index as u64);
        let at = usize::try_from(entry.since(IMAGE_BASE)).unwrap_or(usize::MAX);
        let Some(pad) = image.get_mut(at..at.saturating_add(PAD)) else {
            continue;
        };
        if pad.iter().any(|byte| *byte != NOP) {
            continue;
        }
        let distance = (count.since(entry.plus(7)) & 0xffff_ffff) as u32;
        pad[..3].copy_from_slice(&INCREMENT);
        pad[3..7].copy_from_slice(&distance.to_le_bytes());
    }
}

fn live(old: Address, size: usize, memory: &Memory) -> Result<Vec<u8>, TraceeError> {
    let mut live = vec![0; size];
    memory.read(old, &mut live)?;
    Ok(live)
}

/// Whether a variable that keeps its place has another value than its old initial one.
fn was_written(action: &DataAction, memory: &Memory) -> Result<bool, TraceeError> {
    match action {
        DataAction::Reinitialise {
            old, old_initial, ..
        } => Ok(live(*old, old_initial.len(), memory)? != *old_initial),
        _ => Ok(false),
    }
}

fn settle_data(
    action: &DataAction,
    written: bool,
    memory: &Memory,
    image: &[u8],
) -> Result<(), TraceeError> {
    let live_if_changed = |old: Address, initial: &[u8]| -> Result<Option<Vec<u8>>, TraceeError> {
        let live = live(old, initial.len(), memory)?;
        Ok((live != initial).then_some(live))
    };
    match action {
        DataAction::Add { .. } | DataAction::Renew { .. } => Ok(()),
        DataAction::Reinitialise {
            old,
            size,
            new,
            members,
            ..
        } if !written => {
            let at = usize::try_from(new.since(IMAGE_BASE)).unwrap_or(usize::MAX);
            let length = usize::try_from(*size).unwrap_or(0);
            match (image.get(at..at.saturating_add(length)), members) {
                (Some(initial), None) => memory.write(*old, initial),
                (Some(initial), Some(members)) => {
                    let mut value = live(*old, length, memory)?;
                    members.renew(1, &mut value, initial);
                    memory.write(*old, &value)
                }
                (None, _) => Ok(()),
            }
        }
        DataAction::Reinitialise { .. } => Ok(()),
        DataAction::Carry {
            old,
            old_initial,
            new,
            new_size,
            conversion,
            ..
        } => match (live_if_changed(*old, old_initial)?, conversion) {
            (None, _) => Ok(()),
            (Some(live), Some(conversion)) => {
                let at = usize::try_from(new.since(IMAGE_BASE)).unwrap_or(usize::MAX);
                let size = usize::try_from(*new_size).unwrap_or(0);
                let initial = image.get(at..at.saturating_add(size));
                let mut value = initial.unwrap_or_default().to_vec();
                conversion.convert(1, &live, &mut value);
                memory.write(*new, &value)
            }
            (Some(live), None) => {
                let length = live.len().min(usize::try_from(*new_size).unwrap_or(0));
                memory.write(*new, &live[..length])
            }
        },
    }
}

fn redirect(patch: &Patch, memory: &Memory) -> Result<(), TraceeError> {
    let mut jumps: Vec<(Address, [u8; 5])> = patch
        .redirects
        .iter()
        .filter(|function| !function.kept)
        .map(|function| {
            let at = function.old.plus(REDIRECT_OFFSET);
            (at, counter::relative(0xe9, at, function.new))
        })
        .collect();
    jumps.sort_unstable_by_key(|(at, _)| *at);
    memory.patch(&jumps)
}

/// Has the pads of functions that the patch redirects name the new ones, where the
/// process goes once its switch is set: then applying writes no code. Whether that could
/// be done.
///
/// # Errors
/// When the process is gone.
pub fn place_switch(patch: &Patch, memory: &Memory) -> Result<bool, TraceeError> {
    let redirected = patch.redirects.iter().filter(|function| !function.kept);
    let named = redirected.map(|function| {
        let at = function.old.plus(REDIRECT_OFFSET);
        Some((at, counter::leads_to(function.new)?))
    });
    let Some(mut named) = named.collect::<Option<Vec<_>>>() else {
        return Ok(false);
    };
    named.sort_unstable_by_key(|(at, _)| *at);
    memory.patch(&named)?;
    Ok(true)
}

/// Whether a process, or the one that it was forked from, has received `patch`.
///
/// # Errors
/// When the process is gone.
pub fn is_applied(patch: &Patch, memory: &Memory) -> Result<bool, TraceeError> {
    let Some(function) = patch.redirects.iter().find(|function| !function.kept) else {
        return match patch.redirects.first() {
            Some(kept) => is_filled(kept.new, memory),
            None => Ok(true),
        };
    };
    let at = function.old.plus(REDIRECT_OFFSET);
    let jump = counter::relative(0xe9, at, function.new);
    let mut found = [0; 6];
    memory.read(at, &mut found)?;
    if counter::leads_to(function.new) == Some(found) {
        return counter::is_switched(memory);
    }
    Ok(found[..5] == jump)
}

/// Whether the image's room, which is zeroed at `execve`, has something there.
fn is_filled(at: Address, memory: &Memory) -> Result<bool, TraceeError> {
    let mut found = [0; 16];
    memory.read(at, &mut found)?;
    Ok(found.iter().any(|byte| *byte != 0))
}

/// A thread that stopped among the pad's NOPs would resume inside the jump: it
/// has not begun the function, so it takes the jump too.
fn leave_pad(patch: &Patch, thread: &Stopped) -> Result<(), TraceeError> {
    let mut registers = thread.registers()?;
    let inside = patch.redirects.iter().find(|function| {
        let into = registers.rip.wrapping_sub(function.old.0);
        !function.kept && (REDIRECT_OFFSET..ENTRY_PAD).contains(&into)
    });
    if let Some(function) = inside {
        registers.rip = function.old.plus(REDIRECT_OFFSET).0;
        thread.set_registers(&registers)?;
    }
    Ok(())
}

fn transform(
    patch: &Patch,
    memory: &Memory,
    stopped: &Stopped,
    spy: Option<&RefCell<Vec<Access>>>,
) -> Result<Outcome, TraceeError> {
    let Some(transformer) = patch.transformer else {
        return Ok(Outcome::Applied);
    };
    let state = stopped.extended_state()?;
    let called = match spy {
        None => inject::call(stopped, memory, counter::GADGET, transformer, 0),
        Some(spy) => watched(patch, memory, stopped, transformer, spy),
    };
    match called {
        Ok(_) => {
            stopped.set_extended_state(&state)?;
            Ok(Outcome::Applied)
        }
        Err(TraceeError::Injection { status: signal, .. }) => Ok(Outcome::Faulted(signal)),
        Err(other) => Err(other),
    }
}

/// Calls the transformer and takes note of what it reads and writes, but for the image,
/// its own frames, and what Kairos keeps in the process.
fn watched(
    patch: &Patch,
    memory: &Memory,
    stopped: &Stopped,
    transformer: Address,
    spy: &RefCell<Vec<Access>>,
) -> Result<u64, TraceeError> {
    /// A transformer's frames are no deeper.
    const STACK: u64 = 1 << 20;
    let stack = Address(stopped.registers()?.rsp.wrapping_sub(STACK));
    let own = [
        (stack, STACK),
        (IMAGE_BASE, patch.room()),
        (counter::STUB, counter::KEPT_LENGTH),
    ];
    let is_own = |access: &Access| {
        own.iter()
            .any(|(start, length)| access.address.since(*start) < *length)
    };
    let mut accesses = Accesses::default();
    let watch = &mut |registers: &user_regs_struct| {
        let next = accesses.next(registers, memory)?;
        let others = next.accesses.into_iter().filter(|access| !is_own(access));
        spy.borrow_mut().extend(others);
        Ok(())
    };
    inject::call_watched(stopped, memory, counter::GADGET, transformer, watch)
}
