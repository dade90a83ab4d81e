//! Puts the simulator into a server's process, and reads and writes its state there.

use kairos_simulator::layout;
use kairos_simulator::script::{Part, Placed, Script, Span, Step};
use kairos_simulator::world::{Control, World};
use object::{Object, ObjectSegment, ObjectSymbol};

use super::inject::{self, Gadget};
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

/// A part of the world that can be copied: plain data of fixed layout, in which the
/// simulator only ever stores valid values.
///
/// # Safety
/// The type must be `repr(C)` and hold no pointer that is followed here.
pub unsafe trait InWorld: Sized {}
// SAFETY: all of them are `repr(C)` tables.
unsafe impl InWorld for Control {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::client::Client {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::files::Files {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::cache::Path {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::cache::Cached {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::network::Socket {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::files::Inode {}
// SAFETY: as above.
unsafe impl InWorld for kairos_simulator::files::Name {}
// SAFETY: as above.
unsafe impl<T: InWorld, const N: usize> InWorld for [T; N] {}

/// Copies a value out of the process.
///
/// # Errors
/// When the process is gone.
pub fn read<T: InWorld>(memory: &Memory, address: Address) -> Result<Box<T>, TraceeError> {
    let mut value = Box::<T>::new_uninit();
    // SAFETY: the box's own memory, written as bytes.
    let bytes = unsafe {
        let start = value.as_mut_ptr().cast::<u8>();
        start.write_bytes(0, size_of::<T>());
        std::slice::from_raw_parts_mut(start, size_of::<T>())
    };
    memory.read(address, bytes)?;
    // SAFETY: filled, with what the simulator stored as this type.
    Ok(unsafe { value.assume_init() })
}

/// Copies a value into the process.
///
/// # Errors
/// When the process is gone.
pub fn write<T: InWorld>(memory: &Memory, address: Address, value: &T) -> Result<(), TraceeError> {
    // SAFETY: the value's own memory, read as bytes.
    let bytes = unsafe {
        std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>())
    };
    memory.write(address, bytes)
}

/// The state that harness and simulator share.
///
/// # Errors
/// When the process is gone.
pub fn control(memory: &Memory) -> Result<Box<Control>, TraceeError> {
    read(memory, CONTROL)
}

/// Has the entry counter set to `count` when the exchange begins, and no stop made at the
/// end of exchanges.
///
/// # Errors
/// When the process is gone.
pub fn arm(memory: &Memory, exchange: u32, count: u64) -> Result<(), TraceeError> {
    const AT: usize = std::mem::offset_of!(Control, arm_exchange);
    const {
        assert!(std::mem::offset_of!(Control, stop_at_exchange_end) == AT + 4);
        assert!(std::mem::offset_of!(Control, arm_count) == AT + 8);
    };
    let mut words = [0; 16];
    words[..4].copy_from_slice(&exchange.to_le_bytes());
    words[8..].copy_from_slice(&count.to_le_bytes());
    memory.write(CONTROL.plus(AT as u64), &words)
}

/// Where the shared state lies.
pub const CONTROL: Address = Address(layout::WORLD + std::mem::offset_of!(World, control) as u64);

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
    control: &Control,
    rewritten: &super::intercept::Rewritten,
    now: &libc::user_regs_struct,
) -> Result<libc::user_regs_struct, TraceeError> {
    let mut words = [0; 14 * 8];
    memory.read(Address(control.frame), &mut words)?;
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
    registers.rsp = stack + 8 + 0x80;
    Ok(registers)
}

/// Where the saved floating-point state lies below the saved registers.
pub const BELOW_FRAME: u64 = 512;
