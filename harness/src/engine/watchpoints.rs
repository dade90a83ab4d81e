//! Catches code that touches what an update left behind in frames and among variables.
//! Those bytes have no page for themselves, so that debug registers watch them, a few
//! words in a run; further runs watch the others.

use crate::binary::Address;
use crate::state::relocate::{InPlace, OldCopy};
use crate::state::walk::Home;
use crate::tracee::unwind::Walk;
use crate::tracee::watchpoint::{self, PLACES, WIDTH};
use crate::tracee::{Stopped, TraceeError};

/// What lies at a watched place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watch {
    /// A word of an instance, or of the old copy that it left.
    Word(Word),
    /// The return address of the frame that holds the others: once it is read, the frame
    /// is gone and its memory serves other functions.
    Return,
}

/// A word of an instance or of an old copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What it is an instance of.
    pub name: String,
    /// Where the word lies in it, in bytes.
    pub offset: i64,
    /// Whether it belongs to what an instance left, rather than to the instance.
    pub old_copy: bool,
}

/// What the threads of one process watch.
#[derive(Clone, Debug, Default)]
pub struct Watchpoints {
    places: [Option<(Address, Watch)>; PLACES],
}

impl Watchpoints {
    /// The parts into which the old copies and the instances that stayed are divided,
    /// those in the heap aside. `walks` are the stacks of the process's threads.
    #[must_use]
    pub fn parts(copies: &[OldCopy], stayed: &[InPlace], walks: &[&Walk]) -> Vec<Self> {
        let copies = copies.iter().map(|copy| (&copy.left, true));
        let stayed = stayed.iter().map(|stayed| (stayed, false));
        let mut parts = Vec::new();
        for (block, old_copy) in copies.chain(stayed) {
            // A pointer may have led into a frame as it does into the heap.
            let end = return_address(walks, block.address);
            if end.is_none() && block.home != Home::Variable {
                continue;
            }
            let first = block.address - block.address % WIDTH;
            let words: Vec<u64> = (first..block.address + block.length)
                .step_by(usize::try_from(WIDTH).unwrap_or(1))
                .collect();
            for words in words.chunks(PLACES - usize::from(end.is_some())) {
                let mut places: [Option<(Address, Watch)>; PLACES] = Default::default();
                let watches = words.iter().map(|word| {
                    let of = Word {
                        name: block.name.clone(),
                        offset: word.wrapping_sub(block.address).cast_signed(),
                        old_copy,
                    };
                    (Address(*word), Watch::Word(of))
                });
                let end = end.map(|end| (end, Watch::Return));
                for (place, watch) in places.iter_mut().zip(watches.chain(end)) {
                    *place = Some(watch);
                }
                parts.push(Self { places });
            }
        }
        parts
    }

    /// Has a thread of the process watch what is left to watch.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn set(&self, stopped: &Stopped) -> Result<(), TraceeError> {
        let address = |place: &Option<(Address, Watch)>| place.as_ref().map(|(at, _)| *at);
        watchpoint::watch(stopped, &self.places.each_ref().map(address))
    }

    /// The words that a stopped thread has touched; none if it stopped for another
    /// reason. Nothing in a frame that has returned is watched any more.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn touched(&mut self, stopped: &Stopped) -> Result<Option<Vec<Word>>, TraceeError> {
        let touched = watchpoint::touched(stopped)?;
        if !touched.contains(&true) {
            return Ok(None);
        }
        let hit = |place: &Option<(Address, Watch)>| place.as_ref().map(|(_, watch)| watch.clone());
        let hits: Vec<Watch> = (self.places.iter().zip(touched))
            .filter_map(|(place, touched)| hit(place).filter(|_| touched))
            .collect();
        let mut words = Vec::new();
        for watch in hits {
            match watch {
                Watch::Word(word) => words.push(word),
                Watch::Return => {
                    self.places = Default::default();
                    self.set(stopped)?;
                }
            }
        }
        Ok(Some(words))
    }

    /// Stops watching a word. Other threads go on to report it, to no effect.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn leave(&mut self, stopped: &Stopped, word: &Word) -> Result<(), TraceeError> {
        for place in &mut self.places {
            if matches!(place, Some((_, Watch::Word(other))) if other == word) {
                *place = None;
            }
        }
        self.set(stopped)
    }
}

/// Where the frame that holds `address` keeps its return address; none if it lies in no
/// frame that waits for another.
fn return_address(walks: &[&Walk], address: u64) -> Option<Address> {
    walks.iter().find_map(|walk| {
        let inner = walk.frames.first()?.cfa;
        let callers = walk.frames.iter().map(|frame| frame.cfa);
        let holder = callers.filter(|cfa| cfa.0 > address).min()?;
        (inner.0 <= address).then(|| Address(holder.0 - WIDTH))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracee::unwind::WalkedFrame;

    fn block(address: u64, length: u64, home: Home) -> InPlace {
        InPlace {
            address,
            length,
            name: "struct s".to_owned(),
            home,
        }
    }

    fn offsets(part: &Watchpoints) -> Vec<Option<i64>> {
        let places = part.places.iter().flatten();
        places
            .map(|(_, watch)| match watch {
                Watch::Word(word) => Some(word.offset),
                Watch::Return => None,
            })
            .collect()
    }

    #[test]
    fn every_word_is_in_one_part_and_frames_watch_their_end() {
        let walk = Walk {
            frames: [0x7000, 0x7100]
                .map(|cfa| WalkedFrame {
                    address: Address(1),
                    cfa: Address(cfa),
                    interrupted: false,
                })
                .to_vec(),
            complete: true,
        };
        let copies = [OldCopy {
            left: block(0x70c0, 32, Home::Frame),
            moved_to: 0x9000,
        }];
        let stayed = [
            block(0x404, 36, Home::Variable),
            // A pointer led to it before its frame's own variables were looked at.
            block(0x7080, 8, Home::Heap),
            block(0x8000, 16, Home::Heap),
            block(0x6000, 16, Home::Heap),
        ];
        let parts = Watchpoints::parts(&copies, &stayed, &[&walk]);
        let found: Vec<_> = parts.iter().map(offsets).collect();
        assert_eq!(
            found,
            [
                vec![Some(0), Some(8), Some(16), None],
                vec![Some(24), None],
                vec![Some(-4), Some(4), Some(12), Some(20)],
                vec![Some(28)],
                vec![Some(0), None],
            ]
        );
        let end = parts[0].places[3].as_ref().expect("the frame's end");
        assert_eq!(end.0, Address(0x70f8));
    }
}
