//! Follows old frames without stops: the simulator notes in the server's own process in
//! which exchanges one runs, for as long as the process rests on stacks that were seen
//! before. On any other stack it stops, and the stack is walked.

use kairos_simulator::marks::{Frame, MOST_RESTS, MOST_WORDS, Marks, Rest};

use super::Unfit;
use super::live::{Live, lost};
use super::run::{Played, Run};
use crate::binary::Address;
use crate::engine::PointRequest;
use crate::engine::parts::Parts;
use crate::engine::restart::Restart;
use crate::engine::updater::{AtPoint, Search, Updater};
use crate::tracee::shared_world::SharedWorld;
use crate::tracee::simulator;
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::Walk;
use crate::tracee::{Memory, Stopped, TraceeError};

/// Tests of a server in which frames may be left otherwise than by a return, before it
/// is taken for its habit.
const MOST_LOST: u64 = 8;
/// Bytes of a stack in which return addresses are replaced, at most.
const MOST_BYTES: u64 = 0x1_0000;

impl Restart {
    /// Plays a test from its point on. A frame that was left otherwise than by a return
    /// may have run unnoticed: then the test is played once more, with breakpoints.
    pub(super) fn play_test<'p>(
        &mut self,
        live: &mut Live,
        point: &'p PointRequest,
        at_point: AtPoint,
    ) -> Result<(Updater<'p>, Played), Unfit> {
        for in_place in [true, false] {
            if in_place && live.shared.world().rests.lost == MOST_LOST {
                continue;
            }
            live.clear_counts()?;
            live.ends.begin();
            let mut updater = Updater::new(point, Search::Index, at_point, 1);
            updater.turns_program = false;
            updater.in_place = in_place;
            let played = self.with_parts(live, &mut |live, parts| {
                let played = live.play(parts, Some(&mut updater))?;
                if played.stall.as_ref().is_some_and(|stall| stall.busy) {
                    check_all(parts, &mut live.shared)?;
                }
                Ok(played)
            })?;
            let noted = &live.shared.world().noted;
            if noted.lost == 0 {
                noted.each(&mut |exchange| {
                    updater.old_frame_exchanges.insert(exchange);
                });
                return Ok((updater, played));
            }
            live.shared.world_mut().rests.lost += 1;
            live.go_back(self)?;
        }
        Err(lost())
    }
}

impl Run<'_> {
    /// An exchange ended in which old frames ran: where they wait is found out.
    pub(super) fn frames_rest(
        &mut self,
        parts: &mut Parts<'_>,
        updater: &mut Updater<'_>,
        exchange: u32,
        running: &Stopped,
    ) -> Result<(), Unfit> {
        let mut processes = updater.running_processes();
        for (at, process) in self.live.shared.world().known().iter().enumerate() {
            if process.marks.runs != Frame::NONE && !processes.contains(&at) {
                processes.push(at);
            }
        }
        for process in processes {
            // Nothing runs on in a process that has ended.
            if !self.live.shared.world().known()[process].lives() {
                continue;
            }
            let stopped = self.live.members[process].stopped.as_ref();
            let registers = self.caller(parts, process, stopped.unwrap_or(running))?;
            let walk = parts.walk_from(process, &registers);
            let marks = self.live.shared.world().processes[process].marks;
            if let Some(frames) = updater.frames_of(process) {
                frames.noted(&marks);
            }
            updater.ended_with(parts, process, exchange, &walk)?;
            if marks.runs != Frame::NONE {
                let shared = &mut self.live.shared;
                if !wait_again(parts, shared, updater, (process, &registers, &walk))? {
                    let world = shared.world_mut();
                    world.processes[process].marks = Marks::default();
                    world.noted.lost = 1;
                }
            }
        }
        Ok(())
    }
}

/// The noted frame of a process has run; if it waits on this stack, it is noted again,
/// and the stack is remembered.
fn wait_again(
    parts: &mut Parts<'_>,
    shared: &mut SharedWorld,
    updater: &mut Updater<'_>,
    (process, registers, walk): (ProcessIndex, &libc::user_regs_struct, &Walk),
) -> Result<bool, TraceeError> {
    let target = &mut parts.tree.processes[process];
    let named = shared.world().processes[process].marks.runs;
    let Some(frames) = updater.frames_of(process) else {
        return Ok(false);
    };
    let waits = frames.note_again(named, &target.memory, &mut target.breakpoints)?;
    let Some((slot, resumes)) = waits else {
        return Ok(false);
    };
    if target.memory.word(slot)? != resumes.0 {
        return Ok(false);
    }
    learn(shared, &target.memory, (named, slot), registers, walk)?;
    let noting = shared.world().rests.noting;
    let marks = &mut shared.world_mut().processes[process].marks;
    if !marks.waits(slot.0, resumes.0) {
        return Ok(false);
    }
    target.memory.write(slot, &noting.to_le_bytes())?;
    Ok(true)
}

/// The update was applied: the old frames of a process are followed from now on, by the
/// simulator where it can note what becomes of all of them, else by breakpoints.
pub(super) fn follow_frames(
    parts: &mut Parts<'_>,
    shared: &mut SharedWorld,
    updater: &mut Updater<'_>,
    process: ProcessIndex,
) -> Result<(), TraceeError> {
    let in_place = updater.in_place;
    let Some(frames) = updater.frames_of(process).filter(|_| in_place) else {
        return Ok(());
    };
    let target = &mut parts.tree.processes[process];
    let noting = shared.world().rests.noting;
    match frames.marks() {
        Some(marks) if replace(&target.memory, &marks, noting)? => {
            shared.world_mut().processes[process].marks = marks;
            frames.note();
            Ok(())
        }
        _ => frames.watch(&target.memory, &mut target.breakpoints),
    }
}

/// Replaces return addresses, if each is where it is expected.
fn replace(memory: &Memory, marks: &Marks, noting: u64) -> Result<bool, TraceeError> {
    let standing = marks.standing();
    let (Some(first), Some(last)) = (standing.first(), standing.last()) else {
        return Ok(true);
    };
    let length = last.slot - first.slot + 8;
    if length > MOST_BYTES {
        return Ok(false);
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    memory.read(Address(first.slot), &mut bytes)?;
    for mark in standing {
        let at = usize::try_from(mark.slot - first.slot).unwrap_or(0);
        let word = &mut bytes[at..at + 8];
        if *word != mark.resumes.to_le_bytes() {
            return Ok(false);
        }
        word.copy_from_slice(&noting.to_le_bytes());
    }
    memory.write(Address(first.slot), &bytes)?;
    Ok(true)
}

/// Remembers the stack on which a process rests while a frame waits: its return
/// addresses as far as that frame. Where they all are in their places, the frame waits
/// there again.
fn learn(
    shared: &mut SharedWorld,
    memory: &Memory,
    (frame, slot): (Frame, Address),
    registers: &libc::user_regs_struct,
    walk: &Walk,
) -> Result<(), TraceeError> {
    let innermost = Address(registers.rsp - simulator::STEPPED_DOWN);
    let mut words = vec![[innermost.0, memory.word(innermost)?]];
    for (callee, caller) in walk.frames.iter().zip(&walk.frames[1..]) {
        let place = Address(callee.cfa.0.wrapping_sub(8));
        let is_there = memory
            .word(place)
            .is_ok_and(|word| word == caller.address.0);
        // A handler runs, or a frame is not found by what lies on the stack.
        if caller.interrupted || !is_there || words.len() == MOST_WORDS {
            return Ok(());
        }
        words.push([place.0, caller.address.0]);
        if place == slot {
            break;
        }
    }
    let rests = &mut shared.world_mut().rests;
    let at = usize::try_from(rests.count).unwrap_or(MOST_RESTS);
    let complete = words.last().is_some_and(|[place, _]| *place == slot.0);
    if let Some(rest) = rests.known.get_mut(at).filter(|_| complete) {
        *rest = Rest {
            frame,
            count: words.len() as u64,
            words: [[0; 2]; MOST_WORDS],
        };
        rest.words[..words.len()].copy_from_slice(&words);
        rests.count += 1;
    }
    Ok(())
}

/// Looks in all processes whether return addresses are still replaced.
fn check_all(parts: &Parts<'_>, shared: &mut SharedWorld) -> Result<(), TraceeError> {
    let world = shared.world_mut();
    for (index, process) in parts.tree.living() {
        for mark in world.processes[index].marks.standing() {
            if process.memory.word(Address(mark.slot))? != world.rests.noting {
                world.noted.lost = 1;
            }
        }
    }
    Ok(())
}
