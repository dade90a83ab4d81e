//! The machine code of one function as a graph, and what can still run after a
//! call in it returns.

use std::collections::{HashMap, HashSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use crate::binary::{Address, Program};

/// Library functions that never return to their caller.
const NEVER_RETURN: &[&str] = &[
    "exit",
    "_exit",
    "_Exit",
    "abort",
    "__assert_fail",
    "__stack_chk_fail",
    "__fortify_fail",
    "pthread_exit",
    "longjmp",
    "siglongjmp",
    "__longjmp_chk",
];

/// How far before an indirect jump its table is looked for, in instructions.
const TABLE_WINDOW: usize = 12;

/// Instructions of a function and where each leads.
#[derive(Debug)]
pub(crate) struct Code {
    pub(crate) instructions: Vec<Instruction>,
    successors: Vec<Vec<usize>>,
    /// Some jump could not be followed: any instruction may follow any other.
    pub(crate) unresolved: bool,
}

/// Entries of library functions that never return, by name.
pub(crate) fn never_returning(program: &Program) -> HashSet<u64> {
    NEVER_RETURN
        .iter()
        .filter_map(|name| program.plt(name))
        .map(|entry| entry.0)
        .collect()
}

impl Code {
    /// Reads the `size` bytes of the function at `entry`. Calls of
    /// `never_returning` have no successor.
    pub(crate) fn read(
        program: &Program,
        entry: Address,
        size: u64,
        never_returning: &HashSet<u64>,
    ) -> Self {
        let bytes = program.initial(entry, size).unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, &bytes, entry.0, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.iter().collect();
        let index: HashMap<u64, usize> = instructions
            .iter()
            .enumerate()
            .map(|(number, instruction)| (instruction.ip(), number))
            .collect();
        let mut code = Self {
            successors: Vec::with_capacity(instructions.len()),
            unresolved: instructions.is_empty(),
            instructions,
        };
        let reader = Reader {
            program,
            index: &index,
            never_returning,
        };
        for number in 0..code.instructions.len() {
            let successors = reader.successors(&code.instructions, number);
            code.unresolved |= successors.is_none();
            code.successors.push(successors.unwrap_or_default());
        }
        code
    }

    /// Where instruction `number` leads, tables included.
    pub(crate) fn successors(&self, number: usize) -> &[usize] {
        &self.successors[number]
    }

    /// The call instructions, by number.
    pub(crate) fn calls(&self) -> impl Iterator<Item = usize> + '_ {
        self.instructions
            .iter()
            .enumerate()
            .filter(|(_, instruction)| is_call(instruction))
            .map(|(number, _)| number)
    }

    /// Which instructions can run after the call `number` returned.
    pub(crate) fn reachable_after(&self, number: usize) -> Vec<bool> {
        let mut seen = vec![self.unresolved; self.instructions.len()];
        if self.unresolved {
            return seen;
        }
        let mut open = self.successors[number].clone();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut seen[next], true) {
                open.extend(&self.successors[next]);
            }
        }
        seen
    }
}

pub(crate) fn is_call(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Call | FlowControl::IndirectCall
    )
}

struct Reader<'a> {
    program: &'a Program,
    index: &'a HashMap<u64, usize>,
    never_returning: &'a HashSet<u64>,
}

impl Reader<'_> {
    /// `None` where it cannot be told.
    fn successors(&self, code: &[Instruction], number: usize) -> Option<Vec<usize>> {
        let instruction = &code[number];
        let next = || (number + 1 < code.len()).then_some(number + 1);
        let target = instruction.near_branch_target();
        Some(match instruction.flow_control() {
            FlowControl::Call if self.never_returning.contains(&target) => Vec::new(),
            FlowControl::ConditionalBranch => {
                let target = *self.index.get(&target)?;
                next().into_iter().chain([target]).collect()
            }
            FlowControl::UnconditionalBranch => match self.index.get(&target) {
                Some(target) => vec![*target],
                // To another function's entry: the frame is gone.
                None if self.is_entry(target) => Vec::new(),
                None => return None,
            },
            FlowControl::Return | FlowControl::Exception => Vec::new(),
            FlowControl::IndirectBranch => self.table(code, number)?,
            _ => next().into_iter().collect(),
        })
    }

    fn is_entry(&self, target: u64) -> bool {
        let function = self.program.function_with_entry(Address(target));
        function.is_some_and(|f| !f.name.name.contains(".cold"))
            || self.program.function_at(Address(target)).is_none()
    }

    /// Targets of a jump through a switch table: eight-byte addresses, or
    /// four-byte distances from the table's start, which is in the base register
    /// of the load that precedes the jump.
    fn table(&self, code: &[Instruction], number: usize) -> Option<Vec<usize>> {
        let jump = &code[number];
        if jump.op0_kind() == OpKind::Memory
            && jump.memory_index_scale() == 8
            && jump.memory_base() == Register::None
        {
            return self.targets(jump.memory_displacement64(), 8);
        }
        let window = &code[number.saturating_sub(TABLE_WINDOW)..number];
        let base = window.iter().rev().find_map(|load| {
            (load.mnemonic() == Mnemonic::Movsxd && load.memory_index_scale() == 4)
                .then(|| load.memory_base())
        })?;
        let found: Vec<usize> = code
            .iter()
            .filter(|lea| {
                lea.mnemonic() == Mnemonic::Lea
                    && lea.is_ip_rel_memory_operand()
                    && lea.op0_register() == base
            })
            .filter_map(|lea| self.targets(lea.ip_rel_memory_address(), 4))
            .flatten()
            .collect();
        (!found.is_empty()).then_some(found)
    }

    /// Entries of a table as long as they lead to instructions of the function.
    fn targets(&self, table: u64, width: u64) -> Option<Vec<usize>> {
        let mut found = Vec::new();
        for entry in 0_u64.. {
            let at = Address(table.wrapping_add(entry * width));
            let Some(bytes) = self.program.initial(at, width) else {
                break;
            };
            let target = if width == 8 {
                u64::from_le_bytes(bytes.try_into().ok()?)
            } else {
                let distance = i32::from_le_bytes(bytes.try_into().ok()?);
                table.wrapping_add_signed(i64::from(distance))
            };
            match self.index.get(&target) {
                Some(number) => found.push(*number),
                None => break,
            }
        }
        (!found.is_empty()).then_some(found)
    }
}
