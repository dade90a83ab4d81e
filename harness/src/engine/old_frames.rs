//! Follows the old frames of changed functions that were active at the update
//! point: whether one runs on, and until when. Only such a frame excuses an old
//! reply after the update.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use kairos_simulator::marks::{Frame, MOST_MARKS, Mark, Marks};

use crate::binary::Address;
use crate::patch::Patch;
use crate::tracee::breakpoint::Breakpoints;
use crate::tracee::unwind::Walk;
use crate::tracee::{Memory, TraceeError};

/// A place that control reaches when a frame goes on or ends: an address together
/// with the stack pointer, so that another activation of the same code is not meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    address: Address,
    stack_pointer: Address,
}

impl Place {
    /// Where the return address lies that leads here.
    const fn slot(self) -> u64 {
        self.stack_pointer.0.wrapping_sub(8)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Control is in a function that the frame called.
    Waiting,
    /// The frame has run since the update and has not returned.
    Running,
    /// The simulator notes when it runs and when it returns.
    Noted,
    /// It has returned.
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct OldFrame {
    /// Its thread, by order of creation.
    thread: u32,
    /// The old code of its function.
    code: Range<Address>,
    resumes: Option<Place>,
    returns: Option<Place>,
    state: State,
}

impl OldFrame {
    /// What the simulator knows it by.
    fn name(&self) -> Option<Frame> {
        Some(Frame {
            end: self.returns?.stack_pointer.0,
            code: self.code.start.0,
        })
    }

    fn is_running_in(&self, thread: u32) -> bool {
        self.thread == thread && self.state == State::Running
    }
}

/// The old frames of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldFrames {
    frames: Vec<OldFrame>,
}

impl OldFrames {
    /// Finds the old frames of changed functions on the stacks of a process's threads (by
    /// order of creation) at the update. With `entering`, the first stack is that of the
    /// thread at the point: the function being entered is an old frame only if it was
    /// deleted, for a redirected one runs its new version.
    #[must_use]
    pub fn find(patch: &Patch, walks: &[(u32, &Walk)], entering: bool) -> Self {
        let mut frames = Vec::new();
        let all = walks.iter().enumerate().flat_map(|(at, (thread, walk))| {
            let frames = walk.frames.iter().enumerate();
            frames.map(move |(index, frame)| (entering && at == 0, *thread, *walk, index, frame))
        });
        for (entering, thread, walk, index, frame) in all {
            let looked_up = if index == 0 || frame.interrupted {
                frame.address
            } else {
                Address(frame.address.0.wrapping_sub(1))
            };
            // Only a frame whose code differs excuses anything. What is entered becomes
            // the new one, unless there is none.
            let begins = index == 0 && entering;
            let code = patch.old_code(looked_up).filter(|c| c.deleted || !begins);
            let Some(code) = code.map(|code| code.range.clone()) else {
                continue;
            };
            let place = |address: Address, stack_pointer: Address| Place {
                address,
                stack_pointer,
            };
            let resumes = index
                .checked_sub(1)
                .map(|callee| place(frame.address, walk.frames[callee].cfa));
            let returns = walk
                .frames
                .get(index + 1)
                .map(|caller| place(caller.address, frame.cfa));
            frames.push(OldFrame {
                thread,
                code,
                resumes,
                returns,
                state: if index == 0 {
                    State::Running
                } else {
                    State::Waiting
                },
            });
        }
        Self { frames }
    }

    /// Sets the breakpoints that follow the frames.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn watch(&self, memory: &Memory, breakpoints: &mut Breakpoints) -> Result<(), TraceeError> {
        let places = self.frames.iter().flat_map(|f| [f.resumes, f.returns]);
        for place in places.flatten() {
            breakpoints.set(memory, place.address)?;
        }
        Ok(())
    }

    /// A thread reached `address` with this stack pointer: updates the frames it
    /// concerns and clears the breakpoint when no frame needs it any more. Tells
    /// whether an old frame begins to run.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn reached(
        &mut self,
        address: Address,
        stack_pointer: Address,
        memory: &Memory,
        breakpoints: &mut Breakpoints,
    ) -> Result<bool, TraceeError> {
        let here = Some(Place {
            address,
            stack_pointer,
        });
        let mut begins = false;
        for frame in &mut self.frames {
            if frame.returns == here && frame.state != State::Gone {
                frame.state = State::Gone;
            }
            if frame.resumes == here && frame.state == State::Waiting {
                frame.state = State::Running;
                begins = true;
            }
        }
        let needed = self.frames.iter().any(|frame| {
            let at = |place: Option<Place>| place.is_some_and(|p| p.address == address);
            (frame.state == State::Waiting && at(frame.resumes))
                || (frame.state != State::Gone && at(frame.returns))
        });
        if !needed {
            breakpoints.clear(memory, address)?;
        }
        Ok(begins)
    }

    /// Whether an old frame has run since the update and is still active.
    #[must_use]
    pub fn running(&self) -> bool {
        self.frames
            .iter()
            .any(|frame| frame.state == State::Running)
    }

    /// Threads with an old frame that has run since the update and is still active.
    #[must_use]
    pub fn running_threads(&self) -> BTreeSet<u32> {
        let running = self.frames.iter().filter(|f| f.state == State::Running);
        running.map(|frame| frame.thread).collect()
    }

    /// Waits for the frames of a thread to go on, which stands still with this stack;
    /// a frame that is not on it any more was left without returning (`longjmp`).
    ///
    /// # Errors
    /// When the process is gone.
    pub fn await_again(
        &mut self,
        thread: u32,
        walk: &Walk,
        memory: &Memory,
        breakpoints: &mut Breakpoints,
    ) -> Result<(), TraceeError> {
        let running = |frame: &&mut OldFrame| frame.is_running_in(thread);
        for frame in self.frames.iter_mut().filter(running) {
            let Some(returns) = frame.returns else {
                continue;
            };
            let at = walk.frames.iter().position(|walked| {
                walked.cfa == returns.stack_pointer && frame.code.contains(&walked.address)
            });
            match at {
                Some(0) => {}
                Some(at) => {
                    let address = walk.frames[at].address;
                    breakpoints.set(memory, address)?;
                    frame.resumes = Some(Place {
                        address,
                        stack_pointer: walk.frames[at - 1].cfa,
                    });
                    frame.state = State::Waiting;
                }
                None if walk.complete => frame.state = State::Gone,
                None => {}
            }
        }
        Ok(())
    }

    /// What the simulator has to know in order to note when the frames of a process of one
    /// thread run and return; none where it cannot.
    #[must_use]
    pub fn marks(&self) -> Option<Marks> {
        let mut marks = BTreeMap::new();
        let mut runs = Frame::NONE;
        for frame in &self.frames {
            let returns = frame.returns?;
            marks.insert(returns.slot(), (returns.address, Frame::NONE));
        }
        for frame in &self.frames {
            match (frame.state, frame.resumes) {
                (State::Waiting, Some(resumes)) => {
                    marks.insert(resumes.slot(), (resumes.address, frame.name()?));
                }
                (State::Running, _) if runs == Frame::NONE => runs = frame.name()?,
                _ => return None,
            }
        }
        // A frame that runs will wait.
        let room = MOST_MARKS - usize::from(runs != Frame::NONE);
        if self.frames.iter().any(|frame| frame.thread != 0) || marks.len() > room {
            return None;
        }
        let mut made = Marks {
            count: marks.len() as u64,
            runs,
            ..Marks::default()
        };
        let places = &mut made.all[MOST_MARKS - marks.len()..];
        for (place, (slot, (address, leads))) in places.iter_mut().zip(marks) {
            *place = Mark {
                slot,
                resumes: address.0,
                leads,
            };
        }
        Some(made)
    }

    /// From now on the simulator notes when the frames run and return.
    pub fn note(&mut self) {
        for frame in &mut self.frames {
            frame.state = State::Noted;
        }
    }

    /// Takes over what the simulator knows: of the noted frames one has run, and some have
    /// returned.
    pub fn noted(&mut self, marks: &Marks) {
        for frame in self.frames.iter_mut().filter(|f| f.state == State::Noted) {
            let name = frame.name();
            if name == Some(marks.runs) {
                frame.state = State::Running;
            } else if marks.standing().iter().all(|m| Some(m.leads) != name) {
                frame.state = State::Gone;
            }
        }
    }

    /// The frame that was noted last waits on this stack: the simulator notes it again.
    /// Returns where the return address into it lies; none if it does not wait.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn note_again(
        &mut self,
        named: Frame,
        memory: &Memory,
        breakpoints: &mut Breakpoints,
    ) -> Result<Option<(Address, Address)>, TraceeError> {
        let waits = |f: &&mut OldFrame| f.name() == Some(named) && f.state == State::Waiting;
        let Some(frame) = self.frames.iter_mut().find(waits) else {
            return Ok(None);
        };
        let Some(resumes) = frame.resumes else {
            return Ok(None);
        };
        frame.state = State::Noted;
        breakpoints.clear(memory, resumes.address)?;
        Ok(Some((Address(resumes.slot()), resumes.address)))
    }

    /// Adds the frames that are still active, and what is awaited of them, to a
    /// description of the process's state. The simulator's marks tell of those that it
    /// notes.
    pub fn tell(&self, state: &mut Vec<u8>) {
        let told = |frame: &&OldFrame| !matches!(frame.state, State::Gone | State::Noted);
        for frame in self.frames.iter().filter(told) {
            let place = |place: Option<Place>| {
                place.map_or([0; 2], |place| [place.address.0, place.stack_pointer.0])
            };
            let running = u64::from(frame.state == State::Running);
            let words = [u64::from(frame.thread), frame.code.start.0, running];
            let places = [place(frame.resumes), place(frame.returns)];
            for word in words.iter().chain(places.as_flattened()) {
                state.extend_from_slice(&word.to_le_bytes());
            }
        }
    }

    /// A thread has ended, and its frames with it.
    pub fn ended(&mut self, thread: u32) {
        let running = |frame: &&mut OldFrame| frame.is_running_in(thread);
        for frame in self.frames.iter_mut().filter(running) {
            frame.state = State::Gone;
        }
    }

    /// The frames of a child forked by this thread, which alone goes on in it.
    #[must_use]
    pub fn in_child_of(&self, thread: u32) -> Self {
        let own = self.frames.iter().filter(|frame| frame.thread == thread);
        Self {
            frames: own
                .map(|frame| OldFrame {
                    thread: 0,
                    ..frame.clone()
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(code: u64, resumes: (u64, u64), returns: (u64, u64)) -> OldFrame {
        let place = |(address, stack_pointer): (u64, u64)| Place {
            address: Address(address),
            stack_pointer: Address(stack_pointer),
        };
        OldFrame {
            thread: 0,
            code: Address(code)..Address(code + 0x100),
            resumes: Some(place(resumes)),
            returns: Some(place(returns)),
            state: State::Waiting,
        }
    }

    /// A loop that `main` called, both old.
    fn two() -> OldFrames {
        let inner = frame(0x1000, (0x1010, 0x7000), (0x2010, 0x7100));
        let outer = frame(0x2000, (0x2010, 0x7100), (0x9010, 0x7200));
        OldFrames {
            frames: vec![inner, outer],
        }
    }

    #[test]
    fn a_return_address_between_two_old_frames_leads_into_the_outer_one() {
        let marks = two().marks().unwrap();
        let seen: Vec<_> = marks.standing().iter().map(|mark| mark.slot).collect();
        assert_eq!(seen, [0x6ff8, 0x70f8, 0x71f8]);
        let leads: Vec<_> = marks.standing().iter().map(|m| m.leads.code).collect();
        assert_eq!(leads, [0x1000, 0x2000, 0]);
    }

    #[test]
    fn what_the_marks_say_is_taken_over() {
        let mut frames = two();
        let mut marks = frames.marks().unwrap();
        frames.note();
        // The loop has returned, and `main` has run.
        marks.count = 1;
        marks.runs = marks.all[MOST_MARKS - 2].leads;
        frames.noted(&marks);
        let states: Vec<_> = frames.frames.iter().map(|frame| frame.state).collect();
        assert_eq!(states, [State::Gone, State::Running]);
        assert!(marks.waits(0x70f8, 0x2020));
        assert_eq!(marks.standing().len(), 2);
    }

    #[test]
    fn more_frames_than_there_is_room_for_are_not_marked() {
        let frames = (0..20).map(|at| {
            let end = 0x7000 + 0x100 * at;
            frame(0x1000, (0x1010, end), (0x1010, end + 0x100))
        });
        let frames = OldFrames {
            frames: frames.collect(),
        };
        assert!(frames.marks().is_none());
    }
}
