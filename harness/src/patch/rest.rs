//! Whether what can still run in an old frame of a replaced function is the same
//! in the new version: the machine code that is reachable from the return
//! address, compared instruction by instruction along all paths.

use std::collections::{BTreeMap, HashSet};

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::PatchError;
use super::compare::Fate;
use super::fingerprint::{Fingerprints, canonical_kind};
use super::resolve::Resolver;
use super::unit::{ItemKind, Relocation};
use super::version::{ItemId, Target, Version};
use crate::binary::{Address, Lines};
use crate::confree::code::{self, Code};

/// How the rest of a frame compares with the new version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rest", rename_all = "kebab-case")]
pub enum Rest {
    /// The new version has a call of the same function after which all is the
    /// same.
    Same,
    /// The new version has such calls, but what follows each differs; the first
    /// difference is at this line of the old version (0 if unknown).
    Differs {
        /// Line in the old version.
        line: u32,
    },
    /// The new version has no call of that function there.
    NoCounterpart,
}

/// One instruction, comparable between versions: places that relocations fill
/// stand as canonical names.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    code: iced_x86::Code,
    registers: Vec<Register>,
    numbers: Vec<u64>,
    segment: Register,
    targets: Vec<(u64, u32, Vec<u8>)>,
}

struct Body {
    code: Code,
    steps: Vec<Step>,
}

/// Compares the rests of all functions that the patch replaces.
///
/// # Errors
/// When the old program's line tables cannot be read.
pub(super) fn find(resolver: &Resolver<'_>) -> Result<BTreeMap<Address, Rest>, PatchError> {
    let Resolver {
        old,
        new,
        comparison,
    } = resolver;
    let replaced: Vec<(ItemId, ItemId)> = comparison
        .items
        .iter()
        .filter(|(id, matched)| {
            new.kind(**id) == ItemKind::Function && matches!(matched.fate, Fate::Replace(_))
        })
        .filter_map(|(id, matched)| Some((*id, matched.old?)))
        .collect();
    if replaced.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lines = Lines::read(old.program.path())?;
    let never = (
        code::never_returning(&old.program),
        code::never_returning(&new.program),
    );
    let moves = |id: ItemId| comparison.fate(id).moves() || comparison.kept.contains(&id);
    let found: Vec<Vec<(Address, Rest)>> = replaced
        .par_iter()
        .map(|(id, old_id)| {
            let before = Body::read(old, *old_id, &never.0, &|_| false);
            let after = Body::read(new, *id, &never.1, &moves);
            match (before, after) {
                (Some(before), Some(after)) => before.rests(&after, &lines),
                _ => Vec::new(),
            }
        })
        .collect();
    Ok(found.into_iter().flatten().collect())
}

impl Body {
    /// `None` where linked code and object disagree about instructions.
    fn read(
        version: &Version,
        id: ItemId,
        never_returning: &HashSet<u64>,
        moves: &dyn Fn(ItemId) -> bool,
    ) -> Option<Self> {
        let entry = version.address(id)?;
        let section = version.section(id);
        let code = Code::read(&version.program, entry, section.size, never_returning);
        let prints = Fingerprints::of(version, id.unit);
        let mut steps = Vec::with_capacity(code.instructions.len());
        let mut relocations = section.relocations.iter().peekable();
        let mut decoder = Decoder::with_ip(64, &section.bytes, 0, DecoderOptions::NONE);
        for instruction in &mut decoder {
            let mut targets = Vec::new();
            while let Some(relocation) = relocations.next_if(|r| r.offset < instruction.next_ip()) {
                let what = describe(version, id, &prints, relocation, moves);
                let at = relocation.offset.wrapping_sub(instruction.ip());
                targets.push((at, canonical_kind(relocation.kind).0, what));
            }
            steps.push(Step::of(&instruction, targets));
        }
        let starts = code.instructions.iter().map(|i| i.ip() - entry.0);
        let mut decoder = Decoder::with_ip(64, &section.bytes, 0, DecoderOptions::NONE);
        let agree = steps.len() == code.instructions.len()
            && starts.eq(decoder.iter().map(|instruction| instruction.ip()));
        (agree && !code.unresolved).then_some(Self { code, steps })
    }

    fn rests(&self, new: &Self, lines: &Lines) -> Vec<(Address, Rest)> {
        self.code
            .calls()
            .map(|call| {
                let site = Address(self.code.instructions[call].next_ip());
                let mut rest = Rest::NoCounterpart;
                for other in new.code.calls() {
                    if self.steps[call] != new.steps[other] {
                        continue;
                    }
                    match self.first_difference(call, new, other) {
                        None => return (site, Rest::Same),
                        Some(at) if rest == Rest::NoCounterpart => {
                            let address = Address(self.code.instructions[at].ip());
                            let line = lines.at(address).map_or(0, |(_, line)| line);
                            rest = Rest::Differs { line };
                        }
                        Some(_) => {}
                    }
                }
                (site, rest)
            })
            .collect()
    }

    /// The first old instruction after the call that has no equal where the new
    /// version's paths are the same.
    fn first_difference(&self, call: usize, new: &Self, other: usize) -> Option<usize> {
        let mut seen = HashSet::new();
        let mut open = vec![(call, other)];
        while let Some((at, new_at)) = open.pop() {
            let (here, there) = (self.code.successors(at), new.code.successors(new_at));
            if here.len() != there.len() {
                return Some(at);
            }
            for (next, new_next) in here.iter().zip(there) {
                if !seen.insert((*next, *new_next)) {
                    continue;
                }
                if self.steps[*next] != new.steps[*new_next] {
                    return Some(*next);
                }
                open.push((*next, *new_next));
            }
        }
        None
    }
}

/// A target's canonical name. Switch tables are compared by where they lead, and
/// what moves at the update is not the same.
fn describe(
    version: &Version,
    id: ItemId,
    prints: &Fingerprints<'_>,
    relocation: &Relocation,
    moves: &dyn Fn(ItemId) -> bool,
) -> Vec<u8> {
    match version.target(id.unit, relocation) {
        Target::Item { id, .. } if moves(id) => b"moves".to_vec(),
        Target::Unnamed { section, .. } => {
            let table = version.units[id.unit].sections[section].relocations.iter();
            let is_table = table.clone().any(|entry| {
                matches!(version.target(id.unit, entry), Target::Item { id: target, .. }
                    if target == id)
            });
            if is_table {
                b"table".to_vec()
            } else {
                prints.describe(relocation)
            }
        }
        _ => prints.describe(relocation),
    }
}

impl Step {
    fn of(instruction: &Instruction, targets: Vec<(u64, u32, Vec<u8>)>) -> Self {
        let mut registers = Vec::new();
        let mut numbers = Vec::new();
        for number in 0..instruction.op_count() {
            match instruction.op_kind(number) {
                OpKind::Register => registers.push(instruction.op_register(number)),
                OpKind::Memory => {
                    registers.extend([instruction.memory_base(), instruction.memory_index()]);
                    numbers.push(u64::from(instruction.memory_index_scale()));
                    if targets.is_empty() && !instruction.is_ip_rel_memory_operand() {
                        numbers.push(instruction.memory_displacement64());
                    }
                }
                // Paths are compared by where they lead; a call without a
                // relocation calls the function itself.
                OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {}
                _ => {
                    if targets.is_empty() {
                        numbers.push(instruction.try_immediate(number).unwrap_or(0));
                    }
                }
            }
        }
        // A number may stand beside what a relocation fills.
        if !targets.is_empty() && instruction.op_count() > 1 && !instruction.is_jmp_short_or_near()
        {
            let immediate = (0..instruction.op_count()).find_map(|number| {
                let kind = instruction.op_kind(number);
                let beside = matches!(
                    kind,
                    OpKind::Immediate8
                        | OpKind::Immediate16
                        | OpKind::Immediate32
                        | OpKind::Immediate8to32
                        | OpKind::Immediate8to64
                        | OpKind::Immediate32to64
                );
                (beside && instruction.is_ip_rel_memory_operand())
                    .then(|| instruction.try_immediate(number).unwrap_or(0))
            });
            numbers.extend(immediate);
        }
        Self {
            code: instruction.code(),
            registers,
            numbers,
            segment: instruction.segment_prefix(),
            targets,
        }
    }
}
