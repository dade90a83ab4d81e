//! Notes in which exchanges frames of old code run, without a stop. Return addresses
//! into such frames, and those by which they return, are replaced by that of a few
//! instructions, which note what happens, put the address back and go on there. Where
//! the process rests on a stack that Kairos has seen before, the return address into the
//! frame that has run is replaced again.

#[cfg(kairos_blob)]
use core::arch::global_asm;
#[cfg(kairos_blob)]
use core::mem::offset_of;

#[cfg(kairos_blob)]
use crate::layout::{OWN, WORLD};
use crate::own;
use crate::raw;
use crate::transcript::MOST_EXCHANGES;
use crate::world::World;

/// Most replaced return addresses of a process.
pub const MOST_MARKS: usize = 12;
/// Words that tell one stack from another, at most.
pub const MOST_WORDS: usize = 14;
/// Stacks that are remembered.
pub const MOST_RESTS: usize = 32;

/// A frame: the caller's stack pointer after its return, and where its function begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    /// The former; 0 where there is no frame.
    pub end: u64,
    /// The latter.
    pub code: u64,
}

impl Frame {
    /// No frame.
    pub const NONE: Self = Self { end: 0, code: 0 };
}

/// A replaced return address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// Where it lies.
    pub slot: u64,
    /// The address itself.
    pub resumes: u64,
    /// The frame of old code that goes on there; none if it is one of other code.
    pub leads: Frame,
}

/// The frames of old code of a process.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Marks {
    /// How many return addresses are replaced.
    pub count: u64,
    /// The frame that has run, and of which it is not known where it waits.
    pub runs: Frame,
    /// The replaced addresses, at the end, from the innermost to the outermost.
    pub all: [Mark; MOST_MARKS],
}

impl Marks {
    fn first(&self) -> usize {
        MOST_MARKS - (self.count as usize).min(MOST_MARKS)
    }

    /// The return addresses that are replaced.
    #[must_use]
    pub fn standing(&self) -> &[Mark] {
        &self.all[self.first()..]
    }

    /// The frame that has run waits: the return address into it is replaced. Whether
    /// there was room.
    pub fn waits(&mut self, slot: u64, resumes: u64) -> bool {
        let Some(at) = self.first().checked_sub(1) else {
            return false;
        };
        self.all[at] = Mark {
            slot,
            resumes,
            leads: self.runs,
        };
        self.runs = Frame::NONE;
        self.count += 1;
        true
    }
}

/// A stack on which a process rested while a frame waited.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Rest {
    /// The frame.
    pub frame: Frame,
    /// Return addresses from the innermost to that into the frame.
    pub count: u64,
    /// Where each lies, and it.
    pub words: [[u64; 2]; MOST_WORDS],
}

/// The stacks that are known. They stay known from test to test.
#[repr(C)]
pub struct Rests {
    /// Where the instructions lie that a return address is replaced by.
    pub noting: u64,
    /// Tests in which a frame was left otherwise than by a return.
    pub lost: u64,
    /// How many stacks there are.
    pub count: u64,
    /// They.
    pub known: [Rest; MOST_RESTS],
}

/// What was noted.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Noted {
    /// A frame was left otherwise than by a return while its return address was
    /// replaced: it may have run unnoticed.
    pub lost: u64,
    /// Exchanges in which a frame ran, as bits.
    pub exchanges: [u64; MOST_EXCHANGES / 64 + 1],
}

impl Noted {
    /// Nothing.
    pub const NOTHING: Self = Self {
        lost: 0,
        exchanges: [0; MOST_EXCHANGES / 64 + 1],
    };

    /// Tells the exchanges.
    pub fn each(&self, tell: &mut dyn FnMut(u32)) {
        for (at, word) in self.exchanges.iter().enumerate() {
            for bit in (0..64).filter(|bit| word >> bit & 1 != 0) {
                tell(at as u32 * 64 + bit);
            }
        }
    }
}

/// The process that asks rests or ends: no return address was overwritten?
pub fn check(world: &mut World) {
    let noting = world.rests.noting;
    let marks = world.me().marks.standing();
    // SAFETY: places on the server's stack, which is never taken away.
    if marks
        .iter()
        .any(|mark| unsafe { raw::load::<u64>(mark.slot) } != noting)
    {
        world.noted.lost = 1;
    }
}

/// The process that asks rests: if its frame has run, and waits on a stack that is
/// known, the return address is replaced again.
pub fn rest(world: &mut World) {
    /// Of what the gate saves, the stack pointer.
    const STACK: u64 = 13 * 8;
    check(world);
    let runs = world.me().marks.runs;
    if runs == Frame::NONE {
        return;
    }
    // SAFETY: the gate saved it.
    let stack: u64 = unsafe { raw::load(own::own().frame + STACK) };
    let count = (world.rests.count as usize).min(MOST_RESTS);
    for rest in &world.rests.known[..count] {
        let words = &rest.words[..(rest.count as usize).min(MOST_WORDS)];
        if rest.frame != runs || words.first().is_none_or(|first| first[0] != stack) {
            continue;
        }
        // SAFETY: above the stack pointer, as far as the frame reaches.
        let is_there = |[slot, value]: &[u64; 2]| unsafe { raw::load::<u64>(*slot) } == *value;
        if let Some(&[slot, resumes]) = words.last()
            && words.iter().all(is_there)
        {
            let noting = world.rests.noting;
            if world.me_mut().marks.waits(slot, resumes) {
                // SAFETY: the return address that was just found there.
                unsafe { raw::store(slot, noting) };
            }
            return;
        }
    }
}

/// Whether a frame has run of which it is not known where it waits.
#[must_use]
pub fn any_runs(world: &World) -> bool {
    let mut all = world.known().iter();
    all.any(|process| process.marks.runs != Frame::NONE && process.lives())
}

// A return led here. Nothing is saved on the server's stack, and all registers stay as
// the callee left them. The mark is sought by the place of the return address; where it
// is not the innermost, frames were left otherwise.
#[cfg(kairos_blob)]
global_asm!(
    ".globl kairos_noting",
    "kairos_noting:",
    "movabs [{room}], rax",
    "movabs rax, {room}",
    "mov [rax + 8], rsp",
    "lea rsp, [rax + 256]",
    "pushfq",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "movabs rcx, {own}",
    "mov rcx, [rcx + {number}]",
    "imul rcx, rcx, {process}",
    "movabs rdx, {marks}",
    "add rcx, rdx",
    "mov rdx, [rax + 8]",
    "sub rdx, 8",
    "movabs rdi, {noted}",
    "mov esi, {most}",
    "lea rax, [rcx + {all}]",
    "2:",
    "sub esi, 1",
    "js 5f",
    "cmp [rax + {slot}], rdx",
    "je 3f",
    "add rax, {mark}",
    "jmp 2b",
    "3:",
    // As many marks are left as lie behind the one that was found.
    "sub qword ptr [rcx + {count}], 1",
    "cmp [rcx + {count}], rsi",
    "je 4f",
    "mov qword ptr [rdi + {lost}], 1",
    "4:",
    "mov [rcx + {count}], rsi",
    "mov qword ptr [rax + {slot}], 0",
    "mov rsi, [rax + {resumes}]",
    "mov [rdx], rsi",
    "mov rsi, [rax + {leads_code}]",
    "mov [rcx + {runs_code}], rsi",
    "mov rsi, [rax + {leads_end}]",
    "mov [rcx + {runs_end}], rsi",
    // What is past leaves no trace, by which states would differ.
    "mov qword ptr [rax + {resumes}], 0",
    "mov qword ptr [rax + {leads_code}], 0",
    "mov qword ptr [rax + {leads_end}], 0",
    "test rsi, rsi",
    "jz 6f",
    "movabs rsi, {exchange}",
    "mov esi, [rsi]",
    "bts qword ptr [rdi + {exchanges}], rsi",
    "6:",
    "movabs rax, {room}",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "popfq",
    "mov rsp, [rax + 8]",
    "lea rsp, [rsp - 8]",
    "movabs rax, [{room}]",
    "ret",
    "5:",
    "ud2",
    own = const OWN,
    room = const OWN + 0x800,
    number = const offset_of!(own::Own, number),
    process = const size_of::<crate::processes::Process>(),
    marks = const WORLD + (offset_of!(World, processes)
        + offset_of!(crate::processes::Process, marks)) as u64,
    most = const MOST_MARKS,
    all = const offset_of!(Marks, all),
    mark = const size_of::<Mark>(),
    count = const offset_of!(Marks, count),
    slot = const offset_of!(Mark, slot),
    resumes = const offset_of!(Mark, resumes),
    leads_end = const offset_of!(Mark, leads) + offset_of!(Frame, end),
    leads_code = const offset_of!(Mark, leads) + offset_of!(Frame, code),
    runs_end = const offset_of!(Marks, runs) + offset_of!(Frame, end),
    runs_code = const offset_of!(Marks, runs) + offset_of!(Frame, code),
    exchange = const WORLD + (offset_of!(World, control)
        + offset_of!(crate::world::Control, exchange)) as u64,
    noted = const WORLD + offset_of!(World, noted) as u64,
    lost = const offset_of!(Noted, lost),
    exchanges = const offset_of!(Noted, exchanges),
);
