//! Puts instances that moved, and the old copies that they left, out of a process's
//! reach, so that code which touches one is caught in the act.

use std::ops::Range;

use super::inject::{self, wait_for};
use super::tree::{ProcessIndex, Tree};
use super::{Memory, Stopped, TraceeError, counter};
use crate::binary::Address;
use crate::state::relocate::OldCopy;

const PAGE: u64 = 4096;
/// The allocator's header before what `malloc` returned, and its flag for a block that
/// has a mapping of its own.
const HEADER: u64 = 16;
const MAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// A variable of the environment that makes the C library's allocator (glibc) map each
/// block by itself, so that no two share a page.
pub const BLOCKS_APART: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "0");

/// A block on pages without access.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its pages.
    pub pages: Range<u64>,
    /// Where the block begins.
    pub start: u64,
    /// What it is, for people.
    pub name: String,
    /// Whether it is what an instance left, rather than the instance.
    pub old_copy: bool,
}

/// Blocks of one process that are out of its reach; a forked child inherits them.
#[derive(Clone, Debug, Default)]
pub struct Poison {
    closed: Vec<Closed>,
}

impl Poison {
    /// Takes access away from every old copy that has its pages for itself, and from the
    /// instance that left it. The process must have been started with [`BLOCKS_APART`]
    /// for there to be any.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn set(
        stopped: &Stopped,
        memory: &Memory,
        copies: &[OldCopy],
    ) -> Result<Self, TraceeError> {
        let mut closed = Vec::new();
        for copy in copies {
            for (start, old_copy) in [(copy.left.address, true), (copy.moved_to, false)] {
                let Some(pages) = own_pages(memory, start)? else {
                    continue;
                };
                protect(stopped, &pages, libc::PROT_NONE)?;
                closed.push(Closed {
                    pages,
                    start,
                    name: copy.left.name.clone(),
                    old_copy,
                });
            }
        }
        Ok(Self { closed })
    }

    /// How many old copies are out of reach.
    #[must_use]
    pub fn old_copies(&self) -> usize {
        self.closed.iter().filter(|block| block.old_copy).count()
    }

    /// The block that a thread stopped for touching, with the place in it; none if the
    /// thread touched something else.
    ///
    /// # Errors
    /// When the thread is gone.
    pub fn touched(&self, stopped: &Stopped) -> Result<Option<(Closed, i64)>, TraceeError> {
        let Some(address) = stopped.fault_address()? else {
            return Ok(None);
        };
        let holds = |block: &&Closed| block.pages.contains(&address.0);
        Ok(self.closed.iter().find(holds).map(|block| {
            let offset = address.0.wrapping_sub(block.start).cast_signed();
            (block.clone(), offset)
        }))
    }

    /// Gives a block back to the process.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn open(&mut self, stopped: &Stopped, block: &Closed) -> Result<(), TraceeError> {
        self.closed.retain(|other| other.start != block.start);
        protect(stopped, &block.pages, libc::PROT_READ | libc::PROT_WRITE)
    }
}

impl Tree {
    /// Lets a thread execute the one instruction that touches `pages`, which are out of
    /// reach before and afterwards. The process's other threads are held meanwhile.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn step_within(
        &mut self,
        process: ProcessIndex,
        stopped: Stopped,
        pages: &Range<u64>,
    ) -> Result<(), TraceeError> {
        let thread = stopped.thread();
        let held = self.hold(&|other, _, id| other == process && id != thread)?;
        let stepped = self.step_open(stopped, pages);
        self.release(held)?;
        stepped
    }

    fn step_open(&mut self, stopped: Stopped, pages: &Range<u64>) -> Result<(), TraceeError> {
        let thread = stopped.thread();
        protect(&stopped, pages, libc::PROT_READ | libc::PROT_WRITE)?;
        let status = step_and_wait(stopped)?;
        if status >> 8 != libc::SIGTRAP {
            // Its end, or the instruction touches another such block too: it needs both.
            self.report_later(thread, status);
            return Ok(());
        }
        let stopped = Stopped::reported(thread);
        protect(&stopped, pages, libc::PROT_NONE)?;
        stopped.resume(self.until, 0)?;
        Ok(())
    }
}

/// Executes one instruction and waits for what comes of it; a stop for holding the
/// thread, which comes first, is passed over.
///
/// # Errors
/// When the thread is gone.
pub(super) fn step_and_wait(stopped: Stopped) -> Result<i32, TraceeError> {
    let thread = stopped.thread();
    stopped.step()?;
    let mut status = wait_for(thread)?;
    while status >> 8 == libc::SIGTRAP | (libc::PTRACE_EVENT_STOP << 8) {
        Stopped::reported(thread).step()?;
        status = wait_for(thread)?;
    }
    Ok(status)
}

/// The pages of the block that begins at `address`, if it has a mapping of its own.
fn own_pages(memory: &Memory, address: u64) -> Result<Option<Range<u64>>, TraceeError> {
    if address % PAGE != HEADER {
        return Ok(None);
    }
    let mut word = [0; 8];
    memory.read(Address(address - 8), &mut word)?;
    let word = u64::from_le_bytes(word);
    let length = word & !FLAGS;
    let alone = word & FLAGS == MAPPED && length > 0 && length.is_multiple_of(PAGE);
    let start = address - HEADER;
    Ok(alone.then(|| start..start + length))
}

fn protect(stopped: &Stopped, pages: &Range<u64>, protection: i32) -> Result<(), TraceeError> {
    let registers = stopped.registers()?;
    let gadget = counter::GADGET;
    let length = pages.end - pages.start;
    let result = inject::protect(stopped, gadget, Address(pages.start), length, protection);
    stopped.set_registers(&registers)?;
    result
}
