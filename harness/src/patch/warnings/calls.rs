//! Who calls whom in one version, and where its main loops are.
//!
//! Heuristics, from direct calls alone: a *serving* function waits for clients
//! inside a loop, itself or through what it calls there. Code that can only run
//! before a serving loop begins is start-up code.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl};
use object::elf;

use crate::patch::unit::{ItemKind, Relocation};
use crate::patch::version::{ItemId, Target, Version};

/// Library functions in which servers wait for clients.
const WAITS: [&str; 15] = [
    "accept",
    "accept4",
    "poll",
    "ppoll",
    "select",
    "pselect",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "pause",
    "sigsuspend",
    "sigwaitinfo",
    "event_base_loop",
    "event_base_dispatch",
    "recvmsg",
];

/// A direct call: where in the caller's section, and what.
#[derive(Clone, Debug)]
struct Call {
    offset: u64,
    callee: ItemId,
}

/// Direct calls, addresses taken and loops of one version.
pub(in crate::patch) struct Calls {
    calls: BTreeMap<ItemId, Vec<Call>>,
    /// Calls of waiting library functions.
    waits: BTreeMap<ItemId, Vec<u64>>,
    /// Backward jumps of each function: from target to jump.
    loops: BTreeMap<ItemId, Vec<(u64, u64)>>,
    /// Functions whose address code or data holds, by who holds it.
    taken: BTreeMap<ItemId, BTreeSet<ItemId>>,
    callers: BTreeMap<ItemId, BTreeSet<ItemId>>,
    main: Option<ItemId>,
}

impl Calls {
    pub(in crate::patch) fn of(version: &Version) -> Self {
        let mut calls = Self {
            calls: BTreeMap::new(),
            waits: BTreeMap::new(),
            loops: BTreeMap::new(),
            taken: BTreeMap::new(),
            callers: BTreeMap::new(),
            main: version.global("main").map(|(id, _)| id),
        };
        for id in version.items() {
            calls.scan(version, id);
            if version.kind(id) == ItemKind::Function {
                calls
                    .loops
                    .insert(id, backward_jumps(&version.section(id).bytes));
            }
        }
        calls
    }

    fn scan(&mut self, version: &Version, id: ItemId) {
        let mut visited = BTreeSet::from([id.section]);
        let mut open = vec![id.section];
        while let Some(section) = open.pop() {
            let contents = &version.units[id.unit].sections[section];
            for relocation in &contents.relocations {
                let call = contents.executable && is_call(&contents.bytes, relocation);
                match version.target(id.unit, relocation) {
                    Target::Item { id: callee, value } => {
                        if version.kind(callee) != ItemKind::Function {
                            continue;
                        }
                        let field = u64::from(contents.executable && relocation.is_relative()) * 4;
                        let entry = value
                            .wrapping_add_signed(relocation.addend)
                            .wrapping_add(field);
                        if call {
                            self.calls.entry(id).or_default().push(Call {
                                offset: relocation.offset,
                                callee,
                            });
                            self.callers.entry(callee).or_default().insert(id);
                        } else if entry == 0 {
                            self.taken.entry(callee).or_default().insert(id);
                        }
                    }
                    Target::Unnamed { section, .. } => {
                        if visited.insert(section) {
                            open.push(section);
                        }
                    }
                    Target::Outside(symbol) => {
                        if call && WAITS.contains(&symbol.name.as_str()) {
                            self.waits.entry(id).or_default().push(relocation.offset);
                        }
                    }
                }
            }
        }
    }

    /// Functions and objects that hold the function's address.
    pub(in crate::patch) fn holders(&self, function: ItemId) -> impl Iterator<Item = ItemId> + '_ {
        self.taken.get(&function).into_iter().flatten().copied()
    }

    /// Functions that call it directly.
    pub(in crate::patch) fn callers(&self, function: ItemId) -> impl Iterator<Item = ItemId> + '_ {
        self.callers.get(&function).into_iter().flatten().copied()
    }

    pub(in crate::patch) fn main(&self) -> Option<ItemId> {
        self.main
    }

    /// Functions from which a waiting library function is reached by calls, in
    /// at most so many steps.
    fn waiting(&self, steps: usize) -> BTreeSet<ItemId> {
        let mut waiting: BTreeSet<ItemId> = self.waits.keys().copied().collect();
        let mut last: Vec<ItemId> = waiting.iter().copied().collect();
        for _ in 0..steps {
            last = last
                .into_iter()
                .flat_map(|id| self.callers(id).collect::<Vec<_>>())
                .filter(|caller| waiting.insert(*caller))
                .collect();
        }
        waiting
    }

    /// Functions that have a loop and no way out of it but ending the process.
    pub(in crate::patch) fn endless(&self, version: &Version) -> BTreeSet<ItemId> {
        self.loops
            .iter()
            .filter(|(id, loops)| !loops.is_empty() && !returns(&version.section(**id).bytes))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Functions with a loop that waits itself, or through one call: main loops,
    /// most likely.
    pub(in crate::patch) fn main_loops(&self) -> BTreeSet<ItemId> {
        self.serving(0).into_keys().collect()
    }

    /// Functions with a loop in which they wait, by the start of that loop.
    fn serving(&self, steps: usize) -> BTreeMap<ItemId, u64> {
        let waiting = self.waiting(steps);
        let mut serving = BTreeMap::new();
        for (id, loops) in &self.loops {
            let waits = self.waits.get(id).into_iter().flatten().copied();
            let calls = self.calls.get(id).into_iter().flatten();
            let places: Vec<u64> = waits
                .chain(
                    calls
                        .filter(|call| waiting.contains(&call.callee))
                        .map(|call| call.offset),
                )
                .collect();
            let start = loops
                .iter()
                .filter(|(from, to)| places.iter().any(|at| from <= at && at <= to))
                .map(|(from, _)| *from)
                .min();
            if let Some(start) = start {
                serving.insert(*id, start);
            }
        }
        serving
    }

    /// Functions that run only before any serving loop begins: reached from
    /// `main` by direct calls alone, each of which comes before the first call
    /// that serves.
    pub(in crate::patch) fn start_up_only(&self) -> BTreeSet<ItemId> {
        let serving = self.serving(usize::from(u8::MAX));
        let serves = self.reaching(serving.keys().copied());
        let last = |id: &ItemId| -> u64 {
            let first_call = self
                .calls
                .get(id)
                .into_iter()
                .flatten()
                .filter(|call| serves.contains(&call.callee))
                .map(|call| call.offset)
                .min();
            let own = serving.get(id).copied();
            // A loop around everything (restart on demand) is not the one that
            // serves, so that a call in it decides.
            first_call.or(own).unwrap_or(u64::MAX)
        };
        let mut only: BTreeSet<ItemId> = self.callers.keys().copied().collect();
        only.extend(self.main);
        only.retain(|id| !self.taken.contains_key(id));
        loop {
            let rejected: Vec<ItemId> = only
                .iter()
                .filter(|id| Some(**id) != self.main)
                .filter(|id| {
                    !self.callers(**id).all(|caller| {
                        only.contains(&caller)
                            && self
                                .calls
                                .get(&caller)
                                .into_iter()
                                .flatten()
                                .all(|call| call.callee != **id || call.offset <= last(&caller))
                    })
                })
                .copied()
                .collect();
            if rejected.is_empty() {
                break;
            }
            for id in rejected {
                only.remove(&id);
            }
        }
        only.retain(|id| Some(*id) != self.main && !serves.contains(id));
        only
    }

    fn reaching(&self, from: impl Iterator<Item = ItemId>) -> BTreeSet<ItemId> {
        let mut found: BTreeSet<ItemId> = from.collect();
        let mut open: Vec<ItemId> = found.iter().copied().collect();
        while let Some(id) = open.pop() {
            for caller in self.callers(id) {
                if found.insert(caller) {
                    open.push(caller);
                }
            }
        }
        found
    }
}

/// Whether the field belongs to a direct call or jump. The assembler uses one
/// kind of relocation for calls of static functions and for their addresses, so
/// that the instruction decides.
fn is_call(code: &[u8], relocation: &Relocation) -> bool {
    let before = usize::try_from(relocation.offset)
        .ok()
        .and_then(|at| code.get(at.checked_sub(1)?));
    relocation.kind == elf::R_X86_64_PLT32
        || (relocation.kind == elf::R_X86_64_PC32 && matches!(before, Some(0xe8 | 0xe9)))
}

/// Jumps of a function to earlier code: (target, jump).
fn backward_jumps(code: &[u8]) -> Vec<(u64, u64)> {
    let mut jumps = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        let jump = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
        );
        let (at, target) = (instruction.ip(), instruction.near_branch_target());
        if jump && target < at {
            jumps.push((target, at));
        }
    }
    jumps
}

fn returns(code: &[u8]) -> bool {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .iter()
        .any(|instruction| instruction.flow_control() == FlowControl::Return)
}

#[cfg(test)]
mod tests {
    use super::backward_jumps;

    #[test]
    fn a_loop_is_a_jump_back() {
        // nop; nop; jmp -4
        assert_eq!(backward_jumps(&[0x90, 0x90, 0xeb, 0xfc]), vec![(0, 2)]);
        assert!(backward_jumps(&[0xeb, 0x00, 0x90]).is_empty());
    }
}
