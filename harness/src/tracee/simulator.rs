//! Puts the simulator into a server's process.

use std::mem::offset_of;

use kairos_simulator::layout;
use kairos_simulator::marks::{MOST_MARKS, Mark, Marks};
use kairos_simulator::own::{MOST_HANDLERS, Own};
use kairos_simulator::processes::{MOST_PROCESSES, Process};
use kairos_simulator::script::{Part, Placed, Script, Span, Step};
use kairos_simulator::world::World;
use object::{Object, ObjectSegment, ObjectSymbol};

use super::inject::{self, Gadget};
use super::spawn::WORLD_DESCRIPTOR;
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;
use crate::workload::flat::Flat;

/// The simulator's code, as the build script linked it.
static CODE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/simulator.elf"));

/// The simulator's code, taken apart.
#[derive(Debug)]
pub struct Simulator {
    segments: Vec<(Address, Vec<u8>)>,
    /// Where calls arrive: number and arguments in the registers of a system call, a
    /// return address on the stack below the red zone.
    pub gate: Address,
    /// Where an answered call goes on, with the answer as in a system call.
    pub leave: Address,
    /// Where the run goes on once the server has ended.
    pub died: Address,
    /// What a return address is replaced by to note that it was reached.
    pub noting: Address,
}

impl Simulator {
    /// Reads the code.
    ///
    /// # Panics
    /// Never: the build script made it.
    #[must_use]
    pub fn new() -> Self {
        let file = object::File::parse(CODE).expect("the build script links it");
        let symbol = |name: &str| {
            let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
            Address(found.map_or(0, |symbol| symbol.address()))
        };
        Self {
            segments: file
                .segments()
                .filter_map(|segment| {
                    let bytes = segment.data().ok()?.to_vec();
                    Some((Address(segment.address()), bytes))
                })
                .collect(),
            gate: symbol("kairos_gate"),
            leave: symbol("kairos_leave"),
            died: symbol("kairos_died"),
            noting: symbol("kairos_noting"),
        }
    }

    /// Maps and fills everything in a stopped process.
    ///
    /// # Errors
    /// When the process is gone or the addresses are taken.
    pub fn load(
        &self,
        stopped: &Stopped,
        memory: &Memory,
        gadget: Gadget,
        scripts: &[&Flat],
    ) -> Result<[Placed; 2], TraceeError> {
        inject::map(
            stopped,
            gadget,
            Address(layout::SHARED),
            layout::SHARED_LENGTH,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            WORLD_DESCRIPTOR,
        )?;
        inject::close(stopped, gadget, WORLD_DESCRIPTOR)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        for (start, length) in [
            (layout::REGION, layout::REGION_LENGTH),
            (layout::KEPT, layout::KEPT_LENGTH),
        ] {
            inject::map(
                stopped,
                gadget,
                Address(start),
                length,
                protection,
                flags,
                -1,
            )?;
        }
        for (address, bytes) in &self.segments {
            memory.write(*address, bytes)?;
        }
        let stack = Address(layout::OWN + offset_of!(Own, stack) as u64);
        memory.write(stack, &layout::STACK_TOP.to_le_bytes())?;
        let mut at = layout::SCRIPTS;
        let mut placed = [Placed::default(); 2];
        for (place, flat) in placed.iter_mut().zip(scripts) {
            *place = write_script(memory, &flat.script(), &mut at)?;
        }
        Ok(placed)
    }
}

impl Default for Simulator {
    fn default() -> Self {
        Self::new()
    }
}

/// Types without padding that matters and without pointers, as tables hold them.
trait Plain: Copy {}
impl Plain for Step {}
impl Plain for Part {}
impl Plain for Span {}
impl Plain for kairos_simulator::pattern::Token {}
impl Plain for u8 {}

fn write_script(memory: &Memory, script: &Script<'_>, at: &mut u64) -> Result<Placed, TraceeError> {
    Ok(Placed {
        steps: write_table(memory, script.steps, at)?,
        parts: write_table(memory, script.parts, at)?,
        alternatives: write_table(memory, script.alternatives, at)?,
        tokens: write_table(memory, script.tokens, at)?,
        bytes: write_table(memory, script.bytes, at)?,
    })
}

fn write_table<T: Plain>(
    memory: &Memory,
    table: &[T],
    at: &mut u64,
) -> Result<[u64; 2], TraceeError> {
    let address = *at;
    // SAFETY: the table's own memory, read as bytes; the types have no padding that a
    // reader of the bytes would look at.
    let bytes =
        unsafe { std::slice::from_raw_parts(table.as_ptr().cast::<u8>(), size_of_val(table)) };
    memory.write(Address(address), bytes)?;
    *at = (address + bytes.len() as u64 + 63) & !63;
    Ok([address, table.len() as u64])
}

/// Whether a script fits into its place.
#[must_use]
pub fn fits(scripts: &[&Flat]) -> bool {
    let bytes: usize = scripts
        .iter()
        .map(|flat| {
            let script = flat.script();
            size_of_val(script.steps)
                + size_of_val(script.parts)
                + size_of_val(script.alternatives)
                + size_of_val(script.tokens)
                + script.bytes.len()
                + 1024
        })
        .sum();
    (bytes as u64) < layout::SCRIPTS_LENGTH
}

/// Whether an address lies in the simulator's code.
#[must_use]
pub fn is_inside(address: u64) -> bool {
    (layout::CODE..layout::CODE + layout::CODE_LENGTH).contains(&address)
}

/// The registers of the call that is being answered, as they will be behind it.
///
/// # Errors
/// When the process is gone.
pub fn caller(
    memory: &Memory,
    rewritten: &super::intercept::Rewritten,
    now: &libc::user_regs_struct,
) -> Result<libc::user_regs_struct, TraceeError> {
    caller_at(memory, frame_of(memory)?, rewritten, now)
}

/// The registers behind the call that a process is making; none if it makes none.
#[must_use]
pub fn waiting(
    memory: &Memory,
    rewritten: &super::intercept::Rewritten,
) -> Option<libc::user_regs_struct> {
    caller_at(memory, frame_of(memory).ok()?, rewritten, &nothing()).ok()
}

fn nothing() -> libc::user_regs_struct {
    // SAFETY: a plain structure of numbers.
    unsafe { std::mem::zeroed() }
}

/// The registers behind the call during which a signal handler runs, the `outwards`th
/// such handler counted from the innermost, from 1; none if there is none.
#[must_use]
pub fn interrupted(
    memory: &Memory,
    rewritten: &super::intercept::Rewritten,
    outwards: usize,
) -> Option<libc::user_regs_struct> {
    let word = |offset: usize| memory.word(Address(layout::OWN + offset as u64)).ok();
    let handlers = usize::try_from(word(offset_of!(Own, handlers))?).ok()?;
    let at = handlers.checked_sub(outwards)?.min(MOST_HANDLERS - 1);
    let frame = word(offset_of!(Own, interrupted) + 8 * at)?;
    caller_at(memory, Address(frame), rewritten, &nothing()).ok()
}

fn caller_at(
    memory: &Memory,
    frame: Address,
    rewritten: &super::intercept::Rewritten,
    now: &libc::user_regs_struct,
) -> Result<libc::user_regs_struct, TraceeError> {
    let mut words = [0; 14 * 8];
    memory.read(frame, &mut words)?;
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&words[8 * at..8 * at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut registers = *now;
    (registers.orig_rax, registers.r9, registers.r8) = (word(0), word(1), word(2));
    (registers.r10, registers.rdx, registers.rsi) = (word(3), word(4), word(5));
    (registers.rdi, registers.rbx, registers.rbp) = (word(6), word(7), word(8));
    (registers.r12, registers.r13) = (word(9), word(10));
    (registers.r14, registers.r15) = (word(11), word(12));
    let stack = word(13);
    registers.rip = rewritten.behind(memory.word(Address(stack))?);
    registers.rsp = stack + STEPPED_DOWN;
    Ok(registers)
}

/// Bytes from where the return address of a rewritten call lies to the caller's stack
/// pointer: the address, and the red zone.
pub const STEPPED_DOWN: u64 = 8 + 0x80;

/// The return address that the simulator replaced in this place; none if it did not.
#[must_use]
pub fn replaced(memory: &Memory, slot: Address) -> Option<u64> {
    let number = Address(layout::OWN + offset_of!(Own, number) as u64);
    let number = memory.word(number).ok()?;
    if number >= MOST_PROCESSES as u64 {
        return None;
    }
    let process = layout::WORLD + offset_of!(World, processes) as u64;
    let marks = process + number * size_of::<Process>() as u64 + offset_of!(Process, marks) as u64;
    let all = Address(marks + offset_of!(Marks, all) as u64);
    (0..MOST_MARKS as u64)
        .map(|at| all.plus(at * size_of::<Mark>() as u64))
        .find(|mark| {
            let place = mark.plus(offset_of!(Mark, slot) as u64);
            memory.word(place).is_ok_and(|word| word == slot.0)
        })
        .and_then(|mark| {
            let place = mark.plus(offset_of!(Mark, resumes) as u64);
            memory.word(place).ok()
        })
}

/// Where a process saved the registers of the call that it is answering.
///
/// # Errors
/// When the process is gone.
pub fn frame_of(memory: &Memory) -> Result<Address, TraceeError> {
    let place = layout::OWN + offset_of!(Own, frame) as u64;
    memory.word(Address(place)).map(Address)
}

/// Where the saved floating-point state lies below the saved registers.
pub const BELOW_FRAME: u64 = 512;
