//! Applies the update to every process in scope as one step: all their threads are
//! held, no process is changed unless all can be, and nothing runs in between.

use std::collections::HashMap;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};

use super::old_frames::OldFrames;
use super::parts::Parts;
use super::poison::{Stacks, Watched};
use crate::patch::Patch;
use crate::state::frames::FrameState;
use crate::trace::Scope;
use crate::tracee::Stopped;
use crate::tracee::apply::{Outcome, Target, apply, calls_functions, is_applied, refusal};
use crate::tracee::hold::Held;
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::Walk;
use crate::verdict::observation::SeenState;
use crate::world::HostError;

/// How updating went.
pub struct Updated {
    /// Why nothing was changed; none if it was.
    pub refused: Option<String>,
    /// Signal that the transformer took in the process at the point (0: none).
    pub signal: i32,
    /// Old frames of each updated process.
    pub old_frames: HashMap<ProcessIndex, OldFrames>,
    /// Microseconds that applying took, holding the threads not counted.
    pub apply_us: f64,
    /// What became of live state in the process at the point; none where no record
    /// changed.
    pub state: Option<SeenState>,
    /// Old copies that were put out of reach in each process, if that was asked for.
    pub watched: HashMap<ProcessIndex, Watched>,
}

/// A thread with its stack.
struct Walked<'a> {
    process: ProcessIndex,
    /// By order of creation within the process.
    thread: u32,
    stopped: &'a Stopped,
    walk: Walk,
}

/// Updates the process of `stopped`, which is at the point with the stack `walk`,
/// and in the scope of the whole tree every other process too. With `watches`,
/// breakpoints follow old frames from then on.
///
/// # Errors
/// When the harness fails.
pub fn update(
    parts: &mut Parts<'_>,
    patch: &Patch,
    process: ProcessIndex,
    stopped: &Stopped,
    walk: &Walk,
    watches: bool,
) -> Result<Updated, HostError> {
    let at_point = stopped.thread();
    let scope = parts.spec.scope;
    let counted: Vec<bool> = parts.tree.processes.iter().map(|p| p.counted).collect();
    let held = parts.tree.hold(&|other, _, thread| {
        let in_scope = match scope {
            Scope::Process => other == process,
            // What executes another program is not of the old version.
            Scope::Tree => counted[other],
        };
        in_scope && thread != at_point
    })?;
    let result = update_held(parts, patch, process, stopped, walk, &held);
    let watched = match &result {
        Ok(updated) if watches => watch(parts, &updated.old_frames),
        _ => Ok(()),
    };
    parts.tree.release(held)?;
    watched?;
    result
}

/// Sets the breakpoints that follow old frames.
fn watch(
    parts: &mut Parts<'_>,
    old_frames: &HashMap<ProcessIndex, OldFrames>,
) -> Result<(), HostError> {
    for (process, frames) in old_frames {
        let target = &mut parts.tree.processes[*process];
        frames.watch(&target.memory, &mut target.breakpoints)?;
    }
    Ok(())
}

fn update_held(
    parts: &mut Parts<'_>,
    patch: &Patch,
    process: ProcessIndex,
    stopped: &Stopped,
    walk: &Walk,
    held: &[Held],
) -> Result<Updated, HostError> {
    let of_point = &parts.tree.processes[process].threads;
    let mut threads = vec![Walked {
        process,
        thread: of_point
            .iter()
            .find(|thread| thread.id == stopped.thread())
            .map_or(0, |thread| thread.ordinal),
        stopped,
        walk: walk.clone(),
    }];
    for other in held {
        // One that has just trapped at an entry of its own stands at that entry.
        let function = parts.entry_of(other.process, &other.stopped)?;
        let walk = parts.walk(other.process, &other.stopped, function)?;
        threads.push(Walked {
            process: other.process,
            thread: other.thread,
            stopped: &other.stopped,
            walk,
        });
    }
    let mut processes: Vec<ProcessIndex> = Vec::new();
    for thread in &threads {
        if !processes.contains(&thread.process) {
            processes.push(thread.process);
        }
    }
    let mut updated = Updated {
        refused: None,
        signal: 0,
        old_frames: HashMap::new(),
        apply_us: 0.0,
        state: None,
        watched: HashMap::new(),
    };
    updated.refused = why_not(parts, patch, &processes, &threads, held);
    if updated.refused.is_some() {
        return Ok(updated);
    }
    let begun = Instant::now();
    for index in &processes {
        let of_process = of(&threads, *index);
        let Some((first, others)) = of_process.split_first() else {
            continue;
        };
        let others: Vec<&Stopped> = others.iter().map(|thread| thread.stopped).collect();
        let mut frames = Vec::new();
        for (number, thread) in of_process.iter().enumerate() {
            frames.extend(frames_of(parts, patch, *index, thread.stopped, number)?);
        }
        let target = Target {
            process: &parts.tree.processes[*index],
            stopped: first.stopped,
            others: &others,
            frames: &frames,
            spy: parts.tools.spy.as_ref(),
        };
        let applied = apply(patch, &target, &mut parts.tools.libraries)?;
        let mut converted = applied.state;
        if let (Some(plan), Some(converted)) = (&patch.state, &mut converted)
            && plan.is_observed()
        {
            let stacks: Stacks<'_> = of_process.iter().map(|of| (of.stopped, &of.walk)).collect();
            let (watched, seen) = Watched::begin(parts, *index, plan, converted, &stacks)?;
            updated.watched.insert(*index, watched);
            converted.seen.poisoned = Some(seen);
        }
        if *index == process {
            updated.state = converted.map(|converted| converted.seen);
        }
        match applied.outcome {
            Outcome::Applied => {}
            Outcome::Faulted(signal) if *index == process => updated.signal = signal,
            // The signal is the process's end, as it would be at the point.
            Outcome::Faulted(signal) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    let _ = kill(parts.tree.processes[*index].pid, signal);
                }
            }
        }
        parts.notes[*index].updated = true;
    }
    updated.apply_us = begun.elapsed().as_secs_f64() * 1e6;
    for index in processes {
        let walks: Vec<(u32, &Walk)> = of(&threads, index)
            .into_iter()
            .map(|walked| (walked.thread, &walked.walk))
            .collect();
        let frames = OldFrames::find(patch, &walks, index == process);
        updated.old_frames.insert(index, frames);
    }
    Ok(updated)
}

/// Why the update cannot be applied to the processes now, if it cannot.
fn why_not(
    parts: &mut Parts<'_>,
    patch: &Patch,
    processes: &[ProcessIndex],
    threads: &[Walked<'_>],
    held: &[Held],
) -> Option<String> {
    for index in processes {
        let of_process: Vec<&Walked<'_>> = of(threads, *index);
        let walks: Vec<&Walk> = of_process.iter().map(|thread| &thread.walk).collect();
        let pid = parts.tree.processes[*index].pid;
        let inside_call = held
            .iter()
            .any(|thread| thread.process == *index && thread.is_inside_call());
        if inside_call && calls_functions(patch, pid, &mut parts.tools.libraries) {
            let role = &parts.notes[*index].role;
            return Some(format!(
                "the update calls functions in {role}, which is inside a fork"
            ));
        }
        let reason = refusal(patch, pid, &walks, &mut parts.tools.libraries);
        if reason.is_some() {
            return reason;
        }
    }
    None
}

/// Updates a process that was forked from one in scope just before the update and
/// has not run since: for it the update is still the same moment. One that was
/// forked later has inherited it.
///
/// # Errors
/// When the harness fails.
pub fn update_forked(
    parts: &mut Parts<'_>,
    patch: &Patch,
    child: ProcessIndex,
    stopped: &Stopped,
) -> Result<Option<OldFrames>, HostError> {
    let memory = &parts.tree.processes[child].memory;
    if !parts.tree.processes[child].counted || is_applied(patch, memory)? {
        return Ok(None);
    }
    let walk = parts.walk(child, stopped, None)?;
    let frames: Vec<_> = frames_of(parts, patch, child, stopped, 0)?
        .into_iter()
        .collect();
    let target = Target {
        process: &parts.tree.processes[child],
        stopped,
        others: &[],
        frames: &frames,
        spy: parts.tools.spy.as_ref(),
    };
    apply(patch, &target, &mut parts.tools.libraries)?;
    let process = &mut parts.tree.processes[child];
    let frames = OldFrames::find(patch, &[(0, &walk)], false);
    frames.watch(&process.memory, &mut process.breakpoints)?;
    Ok(Some(frames))
}

/// Frames of a thread with their registers, if live state is to be converted.
fn frames_of(
    parts: &mut Parts<'_>,
    patch: &Patch,
    process: ProcessIndex,
    stopped: &Stopped,
    number: usize,
) -> Result<Option<Vec<FrameState>>, HostError> {
    if patch.state.is_none() {
        return Ok(None);
    }
    Ok(Some(parts.frames(process, stopped, number)?))
}

fn of<'t, 's>(threads: &'t [Walked<'s>], process: ProcessIndex) -> Vec<&'t Walked<'s>> {
    threads
        .iter()
        .filter(|thread| thread.process == process)
        .collect()
}
