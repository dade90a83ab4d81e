//! Follows the old frames of changed functions that were active at the update
//! point: whether one runs on, and until when. Only such a frame excuses an old
//! reply after the update.

use std::collections::BTreeSet;

use crate::binary::Address;
use crate::patch::{Patch, Reason};
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Control is in a function that the frame called.
    Waiting,
    /// The frame has run since the update and has not returned.
    Running,
    /// It has returned.
    Gone,
}

#[derive(Clone, Debug)]
struct OldFrame {
    /// Its thread, by order of creation.
    thread: u32,
    resumes: Option<Place>,
    returns: Option<Place>,
    state: State,
}

/// The old frames of one process.
#[derive(Clone, Debug, Default)]
pub struct OldFrames {
    frames: Vec<OldFrame>,
}

impl OldFrames {
    /// Takes the stacks of a process's threads (by order of creation) at the update and
    /// sets the breakpoints that follow their old frames of changed functions. With `entering`, the first
    /// stack is that of the thread at the point: the function being entered is an old
    /// frame only if it was deleted, for a redirected one runs its new version.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn follow(
        patch: &Patch,
        walks: &[(u32, &Walk)],
        entering: bool,
        memory: &Memory,
        breakpoints: &mut Breakpoints,
    ) -> Result<Self, TraceeError> {
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
            let changed = if index == 0 && entering {
                is_deleted(patch, looked_up)
            } else {
                is_redirected_to_other_code(patch, looked_up) || is_deleted(patch, looked_up)
            };
            if !changed {
                continue;
            }
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
            for wanted in [resumes, returns].into_iter().flatten() {
                breakpoints.set(memory, wanted.address)?;
            }
            frames.push(OldFrame {
                thread,
                resumes,
                returns,
                state: if index == 0 {
                    State::Running
                } else {
                    State::Waiting
                },
            });
        }
        Ok(Self { frames })
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

    /// Takes the frames of a thread for gone that it has left without returning
    /// (`longjmp`, or its end): `stack_pointer` is where it waits, none if it ended.
    pub fn leave(&mut self, thread: u32, stack_pointer: Option<Address>, memory: &Memory) {
        for frame in &mut self.frames {
            let active = frame.returns.is_none_or(|returns| {
                // The slot of its return address lies just below.
                let slot = Address(returns.stack_pointer.0.wrapping_sub(8));
                stack_pointer.is_some_and(|now| now < returns.stack_pointer)
                    && memory
                        .word(slot)
                        .is_ok_and(|word| word == returns.address.0)
            });
            if frame.thread == thread && frame.state == State::Running && !active {
                frame.state = State::Gone;
            }
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

/// A function that is rebuilt only for what it uses has the same code in both
/// versions: its old frame does what a new one would, and excuses nothing.
fn is_redirected_to_other_code(patch: &Patch, address: Address) -> bool {
    patch.redirects.iter().any(|function| {
        function.reason != Reason::UsesChanged && address.since(function.old) < function.old_size
    })
}

fn is_deleted(patch: &Patch, address: Address) -> bool {
    patch
        .deleted
        .iter()
        .any(|function| address.since(function.old) < function.old_size)
}
