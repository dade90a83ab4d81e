//! Walks the stack of a stopped thread by its call-frame information, and knows
//! when the walk is incomplete: frame pointers end at library frames, and a
//! missing frame must make a policy refuse, not allow.

use std::collections::HashMap;
use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianArcSlice, EvaluationResult,
    Format, LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression,
    UnwindSection, Value,
};
use nix::unistd::Pid;
use object::{Object, ObjectSection};

use super::Memory;
use super::intercept::Rewritten;
use super::maps::mapped_files;
use super::simulator;
use crate::binary::Address;
use crate::patch::IMAGE_BASE;
use crate::state::frames::{FrameState, Place, REGISTERS};
use crate::trace::{Frame, Stack};

type Reader = EndianArcSlice<LittleEndian>;

/// DWARF numbers of the registers that frames preserve, and of the return address.
const RBX: usize = 3;
const RBP: usize = 6;
const RSP: usize = 7;
const RETURN_ADDRESS: usize = 16;
const PRESERVED: [usize; 6] = [RBX, RBP, 12, 13, 14, 15];

/// Addresses from here on are no longer those of a patch image.
const IMAGE_END: u64 = IMAGE_BASE.0 + (1 << 30);

/// Frames after which a walk counts as incomplete (runaway recursion).
const MOST_FRAMES: usize = 4096;

/// Unwinds stacks; caches modules by path and rows by address. Without
/// address-space randomisation an address means the same in every test.
#[derive(Default)]
pub struct Unwinder {
    modules: HashMap<String, Option<Arc<Module>>>,
    rows: HashMap<(u64, bool), Option<Arc<Row>>>,
    mapped: HashMap<Pid, Vec<MappedModule>>,
    /// Calls that were rewritten into jumps to the simulator, of servers that live in a
    /// simulated world.
    rewritten: Rewritten,
}

/// First address, address past the end, and what is mapped there if it can be unwound.
type MappedModule = (Address, Address, Option<Arc<Module>>);

struct Module {
    frames: EhFrame<Reader>,
    header: gimli::ParsedEhFrameHdr<Reader>,
    bases: BaseAddresses,
    load_bias: u64,
}

/// How to find the caller's registers at one address.
struct Row {
    cfa: Rule,
    registers: Vec<(usize, Rule)>,
    return_address: Rule,
    signal_frame: bool,
}

impl Row {
    /// A frame of the patch image, which is loaded without call-frame information
    /// but compiled with frame pointers.
    fn by_frame_pointer() -> Self {
        let preserved = PRESERVED.into_iter().chain([RSP]).map(|register| {
            let rule = if register == RBP {
                Rule::At(-16)
            } else {
                Rule::Same
            };
            (register, rule)
        });
        Self {
            cfa: Rule::Register(RBP, 16),
            registers: preserved.collect(),
            return_address: Rule::At(-8),
            signal_frame: false,
        }
    }
}

enum Rule {
    Undefined,
    Same,
    At(i64),
    Value(i64),
    Register(usize, i64),
    AtExpression(gimli::Expression<Reader>),
    ValueExpression(gimli::Expression<Reader>),
}

/// Stack pointer and preserved registers of one frame, and where it executes.
#[derive(Clone, Debug)]
pub struct Registers {
    values: [u64; REGISTERS],
}

impl From<&libc::user_regs_struct> for Registers {
    fn from(from: &libc::user_regs_struct) -> Self {
        let mut values = [0; REGISTERS];
        (values[0], values[1], values[2]) = (from.rax, from.rdx, from.rcx);
        (values[RBX], values[4], values[5]) = (from.rbx, from.rsi, from.rdi);
        (values[RBP], values[RSP]) = (from.rbp, from.rsp);
        (values[8], values[9], values[10], values[11]) = (from.r8, from.r9, from.r10, from.r11);
        (values[12], values[13], values[14], values[15]) = (from.r12, from.r13, from.r14, from.r15);
        values[RETURN_ADDRESS] = from.rip;
        Self { values }
    }
}

/// One frame with the stack pointer its caller will have when it returns.
#[derive(Clone, Copy, Debug)]
pub struct WalkedFrame {
    /// Where the frame executes, or will go on executing.
    pub address: Address,
    /// Canonical frame address: the caller's stack pointer after the return.
    pub cfa: Address,
    /// Whether a signal interrupted it (its address is then no return address).
    pub interrupted: bool,
}

/// A walked stack, innermost frame first.
#[derive(Clone, Debug)]
pub struct Walk {
    /// The frames.
    pub frames: Vec<WalkedFrame>,
    /// Whether the bottom of the stack was reached.
    pub complete: bool,
}

impl Walk {
    /// The walk as it is recorded.
    #[must_use]
    pub fn stack(&self) -> Stack {
        Stack {
            frames: self.frames.iter().map(|f| Frame(f.address)).collect(),
            complete: self.complete,
        }
    }
}

impl Unwinder {
    /// Forgets what was mapped in processes of an earlier test.
    pub fn forget_processes(&mut self) {
        self.mapped.clear();
    }

    /// Forgets what was mapped in a process that has ended.
    pub fn forget(&mut self, pid: Pid) {
        self.mapped.remove(&pid);
    }

    /// Knows from now on which calls lead to the simulator: a walk from a signal handler
    /// that runs in such a call goes on in the caller, as on a real system.
    pub fn know(&mut self, rewritten: Rewritten) {
        self.rewritten = rewritten;
    }

    /// Walks the stack from `registers`; the first frame is at its address itself
    /// (a function entry, a system call), the others at return addresses.
    pub fn walk(&mut self, pid: Pid, memory: &Memory, registers: Registers) -> Walk {
        self.walk_with(pid, memory, registers, &mut |_, _, _, _, _| {})
    }

    /// Walks the stack of a thread, the `thread`th of those that are looked at, and
    /// keeps of every frame what is known of its registers.
    pub fn frames(
        &mut self,
        pid: Pid,
        memory: &Memory,
        registers: Registers,
        thread: usize,
    ) -> Vec<FrameState> {
        let mut places: [Option<Place>; REGISTERS] =
            std::array::from_fn(|register| Some(Place::Register { thread, register }));
        let mut frames = Vec::new();
        self.walk_with(
            pid,
            memory,
            registers,
            &mut |now, row, cfa, exact, beyond| {
                if beyond {
                    // They were saved by the simulator, and are not to be written there.
                    places = [Some(Place::Nowhere); REGISTERS];
                }
                let mut registers = [None; REGISTERS];
                for (register, known) in registers.iter_mut().enumerate() {
                    let place = places[register];
                    *known = place.map(|place| (now.values[register], place));
                }
                frames.push(FrameState {
                    address: Address(now.values[RETURN_ADDRESS]),
                    cfa,
                    exact,
                    registers,
                });
                places = std::array::from_fn(|register| {
                    let rule = row.registers.iter().find(|(of, _)| *of == register);
                    match rule.map(|(_, rule)| rule) {
                        Some(Rule::Same) if register != RSP => places[register],
                        Some(Rule::At(offset)) => {
                            Some(Place::Memory(cfa.wrapping_add_signed(*offset)))
                        }
                        Some(Rule::Register(other, 0)) => places.get(*other).copied().flatten(),
                        // Its value is known, not a place that could be written.
                        Some(_) => Some(Place::Nowhere),
                        None => None,
                    }
                });
            },
        );
        frames
    }

    fn walk_with(
        &mut self,
        pid: Pid,
        memory: &Memory,
        registers: Registers,
        visit: &mut dyn FnMut(&Registers, &Row, u64, bool, bool),
    ) -> Walk {
        let mut stack = StackBytes::read(memory, registers.values[RSP]);
        let mut frames = Vec::new();
        let mut now = registers;
        let mut exact = true;
        let mut handlers = 0;
        let complete = loop {
            let beyond = exact && simulator::is_inside(now.values[RETURN_ADDRESS]);
            if beyond {
                // Innermost, it waits in a call; further out, a handler runs in one.
                let before = if frames.is_empty() {
                    simulator::waiting(memory, &self.rewritten)
                } else {
                    handlers += 1;
                    simulator::interrupted(memory, &self.rewritten, handlers)
                };
                let Some(before) = before else {
                    break false;
                };
                now = Registers::from(&before);
                stack = StackBytes::read(memory, now.values[RSP]);
            }
            let address = now.values[RETURN_ADDRESS];
            if frames.len() == MOST_FRAMES {
                break false;
            }
            let Some(row) = self.row(pid, address, exact) else {
                frames.push(WalkedFrame {
                    address: Address(address),
                    cfa: Address(0),
                    interrupted: exact && !frames.is_empty(),
                });
                break false;
            };
            let Some(cfa) = cfa(&row, &now, &stack) else {
                break false;
            };
            frames.push(WalkedFrame {
                address: Address(address),
                cfa: Address(cfa),
                interrupted: exact && !frames.is_empty(),
            });
            visit(&now, &row, cfa, exact, beyond);
            match caller(&row, cfa, &now, &stack) {
                Caller::Bottom => break true,
                Caller::Unknown => break false,
                Caller::Frame(next) => now = next,
            }
            exact = row.signal_frame;
        };
        Walk { frames, complete }
    }

    fn row(&mut self, pid: Pid, address: u64, exact: bool) -> Option<Arc<Row>> {
        if (IMAGE_BASE.0..IMAGE_END).contains(&address) {
            return Some(Arc::new(Row::by_frame_pointer()));
        }
        if let Some(known) = self.rows.get(&(address, exact)) {
            return known.clone();
        }
        // A call may be a function's last instruction: its row is the one before.
        let looked_up = if exact {
            address
        } else {
            address.wrapping_sub(1)
        };
        let module = self.module(pid, looked_up)?;
        let row = module.row(looked_up).map(Arc::new);
        self.rows.insert((address, exact), row.clone());
        row
    }

    fn module(&mut self, pid: Pid, address: u64) -> Option<Arc<Module>> {
        for refresh in [false, true] {
            if refresh || !self.mapped.contains_key(&pid) {
                let files = mapped_files(pid);
                let mapped = files
                    .into_iter()
                    .map(|file| {
                        let module = self
                            .modules
                            .entry(file.path.clone())
                            .or_insert_with(|| Module::open(&file.path, file.base).map(Arc::new))
                            .clone();
                        (file.start, file.end, module)
                    })
                    .collect();
                self.mapped.insert(pid, mapped);
            }
            let found = self
                .mapped
                .get(&pid)?
                .iter()
                .find(|(start, end, _)| (start.0..end.0).contains(&address));
            if let Some((_, _, module)) = found {
                return module.clone();
            }
        }
        None
    }
}

impl Module {
    fn open(path: &str, base: Address) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let file = object::File::parse(&*bytes).ok()?;
        // A position-dependent program is mapped where it says; a library is moved.
        let load_bias = match file.kind() {
            object::ObjectKind::Dynamic => base.0,
            _ => 0,
        };
        let section = |name: &str| {
            let section = file.section_by_name(name)?;
            let data: Arc<[u8]> = Arc::from(&*section.uncompressed_data().ok()?);
            Some((section.address(), Reader::new(data, LittleEndian)))
        };
        let (frame_address, frame_data) = section(".eh_frame")?;
        let (header_address, header_data) = section(".eh_frame_hdr")?;
        let text = file.section_by_name(".text").map_or(0, |s| s.address());
        let bases = BaseAddresses::default()
            .set_eh_frame(frame_address)
            .set_eh_frame_hdr(header_address)
            .set_text(text);
        let header = EhFrameHdr::from(header_data).parse(&bases, 8).ok()?;
        header.table()?;
        // A program's own kind: a position-independent executable is Dynamic too.
        Some(Self {
            frames: EhFrame::from(frame_data),
            header,
            bases,
            load_bias,
        })
    }

    fn row(&self, address: u64) -> Option<Row> {
        let address = address.wrapping_sub(self.load_bias);
        let frame = self
            .header
            .table()?
            .fde_for_address(&self.frames, &self.bases, address, EhFrame::cie_from_offset)
            .ok()?;
        let mut context = UnwindContext::new();
        let row = frame
            .unwind_info_for_address(&self.frames, &self.bases, &mut context, address)
            .ok()?;
        let expression = |e: &UnwindExpression<usize>| e.get(&self.frames).ok();
        let rule = |register: usize| -> Option<Rule> {
            Some(
                match row.register(Register(u16::try_from(register).ok()?)) {
                    None if register == RETURN_ADDRESS => Rule::Undefined,
                    None | Some(RegisterRule::SameValue) => Rule::Same,
                    Some(RegisterRule::Offset(offset)) => Rule::At(offset),
                    Some(RegisterRule::ValOffset(offset)) => Rule::Value(offset),
                    Some(RegisterRule::Register(other)) => Rule::Register(usize::from(other.0), 0),
                    Some(RegisterRule::Expression(e)) => Rule::AtExpression(expression(&e)?),
                    Some(RegisterRule::ValExpression(e)) => Rule::ValueExpression(expression(&e)?),
                    Some(_) => Rule::Undefined,
                },
            )
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                Rule::Register(usize::from(register.0), *offset)
            }
            CfaRule::Expression(e) => Rule::ValueExpression(expression(e)?),
        };
        Some(Row {
            cfa,
            registers: PRESERVED
                .into_iter()
                .chain([RSP])
                .map(|register| Some((register, rule(register)?)))
                .collect::<Option<_>>()?,
            return_address: rule(RETURN_ADDRESS)?,
            signal_frame: frame.is_signal_trampoline(),
        })
    }
}

/// The stack, read in one block; what lies outside is read singly.
struct StackBytes<'a> {
    memory: &'a Memory,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> StackBytes<'a> {
    fn read(memory: &'a Memory, start: u64) -> Self {
        let mut bytes = vec![0; 4096 - usize::try_from(start % 4096).unwrap_or(0) + 4096];
        let length = memory.read_some(Address(start), &mut bytes);
        bytes.truncate(length);
        Self {
            memory,
            start,
            bytes,
        }
    }

    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.wrapping_sub(self.start)).ok();
        match at.and_then(|at| self.bytes.get(at..at.checked_add(8)?)) {
            Some(bytes) => bytes.try_into().ok().map(u64::from_le_bytes),
            None => self.memory.word(Address(address)).ok(),
        }
    }
}

fn cfa(row: &Row, now: &Registers, stack: &StackBytes<'_>) -> Option<u64> {
    match &row.cfa {
        Rule::Register(register, offset) => {
            Some(now.values.get(*register)?.wrapping_add_signed(*offset))
        }
        Rule::ValueExpression(expression) => evaluate(expression, None, now, stack),
        _ => None,
    }
}

enum Caller {
    Bottom,
    Unknown,
    Frame(Registers),
}

fn caller(row: &Row, cfa: u64, now: &Registers, stack: &StackBytes<'_>) -> Caller {
    if matches!(row.return_address, Rule::Undefined) {
        return Caller::Bottom;
    }
    let recover = |register: usize, rule: &Rule| -> Option<u64> {
        match rule {
            Rule::Undefined => Some(0),
            Rule::Same if register == RSP => Some(cfa),
            Rule::Same => now.values.get(register).copied(),
            Rule::At(offset) => stack.word(cfa.wrapping_add_signed(*offset)),
            Rule::Value(offset) => Some(cfa.wrapping_add_signed(*offset)),
            Rule::Register(other, offset) => {
                Some(now.values.get(*other)?.wrapping_add_signed(*offset))
            }
            Rule::AtExpression(e) => stack.word(evaluate(e, Some(cfa), now, stack)?),
            Rule::ValueExpression(e) => evaluate(e, Some(cfa), now, stack),
        }
    };
    let mut next = now.clone();
    for (register, rule) in &row.registers {
        match recover(*register, rule) {
            Some(value) => next.values[*register] = value,
            None => return Caller::Unknown,
        }
    }
    let mut returns = recover(RETURN_ADDRESS, &row.return_address);
    if returns.is_some_and(simulator::is_inside) && !row.signal_frame {
        let slot = Address(cfa.wrapping_sub(8));
        returns = simulator::replaced(stack.memory, slot).or(returns);
    }
    match returns {
        Some(0) => Caller::Bottom,
        // A frame that does not move up the stack would loop for ever.
        Some(_) if next.values[RSP] <= now.values[RSP] && !row.signal_frame => Caller::Unknown,
        Some(address) => {
            next.values[RETURN_ADDRESS] = address;
            Caller::Frame(next)
        }
        None => Caller::Unknown,
    }
}

fn evaluate(
    expression: &gimli::Expression<Reader>,
    initial: Option<u64>,
    now: &Registers,
    stack: &StackBytes<'_>,
) -> Option<u64> {
    let encoding = Encoding {
        address_size: 8,
        format: Format::Dwarf32,
        version: 5,
    };
    let mut evaluation = expression.clone().evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, .. } => evaluation
                .resume_with_memory(Value::Generic(stack.word(address)?))
                .ok()?,
            EvaluationResult::RequiresRegister { register, .. } => evaluation
                .resume_with_register(Value::Generic(*now.values.get(usize::from(register.0))?))
                .ok()?,
            _ => return None,
        };
    }
    match evaluation.result().first()?.location {
        Location::Address { address } => Some(address),
        Location::Value {
            value: Value::Generic(value),
        } => Some(value),
        _ => None,
    }
}
