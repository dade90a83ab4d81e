//! Finds instances of changed records: from typed variables along typed pointers,
//! each once. Pure over a view of memory.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::frames::{FrameVariable, FrameVariables, Place};
use super::heap::Heap;
use super::memory::{Mappings, Reader};
use super::plan::{Condition, Count, Part, Plan, Value};

/// More elements than any array of a server has: a length that was read wrongly.
const MOST_ELEMENTS: u64 = 1 << 24;

/// What holds an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Home {
    /// A variable with a fixed address.
    Variable,
    /// The frame of an active function.
    Frame,
    /// Memory that a pointer led to.
    Heap,
}

/// One or more instances of a type, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where the first lies.
    pub address: u64,
    /// Number of the type in the plan.
    pub of: usize,
    /// How many.
    pub count: u64,
    /// Bytes that they take, with a flexible array at the end.
    pub length: u64,
    /// Bytes that there are, up to the end of the allocation.
    pub room: u64,
    /// What holds them.
    pub home: Home,
    /// Whether the process cannot write them.
    pub constant: bool,
    /// The variable from which they were reached first.
    pub root: usize,
}

impl Block {
    /// The address behind it.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// A pointer that leads to something typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Where it is kept.
    pub place: Place,
    /// What it holds.
    pub value: u64,
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Instances of changed records and of what holds them, none in another, by
    /// address.
    pub blocks: Vec<Block>,
    /// Every pointer that was followed.
    pub slots: Vec<Slot>,
    /// What was not followed or must not be converted, and why.
    pub problems: Vec<String>,
    /// Names of variables that [`Block::root`] refers to.
    pub roots: Vec<String>,
}

/// A view of a stopped process.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its memory.
    pub reader: &'a dyn Reader,
    /// What is mapped where.
    pub mappings: &'a Mappings,
    /// Its main heap.
    pub heap: &'a Heap,
}

/// Finds the instances of changed records that `plan` leads to.
#[must_use]
pub fn walk(plan: &Plan, view: View<'_>, frames: &FrameVariables) -> Found {
    let mut walk = Walk {
        plan,
        view,
        blocks: Vec::new(),
        seen: HashMap::new(),
        open: VecDeque::new(),
        slots: BTreeSet::new(),
        problems: Vec::new(),
        roots: Vec::new(),
        weak: false,
    };
    for root in &plan.roots {
        walk.roots.push(root.name.clone());
        walk.block(root.address.0, root.of, root.count, Home::Variable);
        walk.drain();
    }
    // What registers hold is described exactly; memory of a frame may not have been
    // written yet. The latter is believed only where the allocator agrees.
    let (weak, strong): (Vec<_>, Vec<_>) = frames
        .known
        .iter()
        .partition(|variable| matches!(variable.place, Place::Memory(_)));
    for variable in strong {
        walk.frame(variable);
    }
    walk.weak = true;
    for variable in weak {
        walk.frame(variable);
    }
    walk.finish(frames)
}

pub(super) struct Walk<'a> {
    pub(super) plan: &'a Plan,
    pub(super) view: View<'a>,
    pub(super) blocks: Vec<Block>,
    /// Blocks by address and type.
    seen: HashMap<(u64, usize), usize>,
    open: VecDeque<usize>,
    pub(super) slots: BTreeSet<Slot>,
    pub(super) problems: Vec<String>,
    pub(super) roots: Vec<String>,
    weak: bool,
}

impl Walk<'_> {
    fn frame(&mut self, variable: &FrameVariable) {
        self.roots.push(variable.name.clone());
        match variable.place {
            Place::Memory(at) => self.block(at, variable.of, variable.count, Home::Frame),
            place => {
                let Some(of) = self.plan.types.get(variable.of) else {
                    return;
                };
                let pointers = of.parts.iter().filter(|p| p.pointer && p.offset == 0);
                for part in pointers.cloned().collect::<Vec<_>>() {
                    self.follow(&part, 0, place, variable.value);
                }
            }
        }
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(index) = self.open.pop_front() {
            let block = self.blocks[index].clone();
            let size = self.plan.types[block.of].size;
            for number in 0..block.count {
                self.scan(block.of, block.address + number * size);
            }
        }
    }

    pub(super) fn problem(&mut self, text: String) {
        if !self.problems.contains(&text) {
            self.problems.push(text);
        }
    }

    /// What an object is, for people.
    fn object(&self, of: usize, address: u64) -> String {
        let root = self.roots.last().map_or("?", String::as_str);
        format!(
            "{} at {address:#x}, reached from {root}",
            self.plan.types[of].name
        )
    }

    /// Notes `count` objects at `address` to be looked at, once.
    fn block(&mut self, address: u64, of: usize, count: u64, home: Home) {
        if let Some(known) = self.seen.get(&(address, of)) {
            let block = &mut self.blocks[*known];
            if block.count >= count {
                return;
            }
            block.count = count;
            block.length = self.plan.types[of].size * count;
            self.open.push_back(*known);
            return;
        }
        let length = self.plan.types[of].size * count;
        let index = self.blocks.len();
        self.seen.insert((address, of), index);
        self.blocks.push(Block {
            address,
            of,
            count,
            length,
            room: length,
            home,
            constant: false,
            root: self.roots.len().saturating_sub(1),
        });
        self.open.push_back(index);
    }

    /// Looks at the parts of one object.
    fn scan(&mut self, of: usize, address: u64) {
        let plan = self.plan;
        for part in &plan.types[of].parts {
            if !self.holds(part.when.as_ref(), address) {
                continue;
            }
            let at = address + part.offset;
            if part.pointer {
                if let Some(value) = self.view.reader.word(at) {
                    self.follow(part, address, Place::Memory(at), value);
                }
                continue;
            }
            let size = plan.types[part.of].size;
            let Some(count) = self.count(&part.count, address, at) else {
                self.problem(format!(
                    "the length of an array in {} makes no sense",
                    self.object(of, address)
                ));
                continue;
            };
            for number in 0..count {
                self.scan(part.of, at + number * size);
            }
        }
    }

    fn holds(&self, condition: Option<&Condition>, record: u64) -> bool {
        condition.is_none_or(|condition| {
            let value = self.value(&condition.value, record);
            value.is_some_and(|value| condition.is.contains(&value.cast_signed()))
        })
    }

    fn value(&self, value: &Value, record: u64) -> Option<u64> {
        match *value {
            Value::Number(number) => Some(number),
            Value::Variable { at, size } => {
                let mut bytes = [0; 8];
                let size = usize::try_from(size.min(8)).ok()?;
                self.view
                    .reader
                    .read(at.0, &mut bytes[..size])
                    .then(|| u64::from_le_bytes(bytes))
            }
            Value::Bits { at, size, signed } => {
                let first = record.wrapping_add_signed(at.div_euclid(8));
                let shift = at.rem_euclid(8).cast_unsigned();
                let mut bytes = [0; 16];
                let length = usize::try_from((shift + size).div_ceil(8)).ok()?;
                if !self.view.reader.read(first, bytes.get_mut(..length)?) {
                    return None;
                }
                let whole = u128::from_le_bytes(bytes) >> shift;
                let unused = 128 - u32::try_from(size).ok()?;
                let value = if signed {
                    ((whole << unused).cast_signed() >> unused).cast_unsigned()
                } else {
                    (whole << unused) >> unused
                };
                u64::try_from(value & u128::from(u64::MAX)).ok()
            }
        }
    }

    /// How many elements an array at `at` has, in a record at `record`.
    pub(super) fn count(&self, count: &Count, record: u64, at: u64) -> Option<u64> {
        let count = match count {
            Count::Fixed(count) => *count,
            Count::Null => {
                let words = (0..).map_while(|number| {
                    let word = self.view.reader.word(at + 8 * number)?;
                    (word != 0 && number < MOST_ELEMENTS).then_some(())
                });
                words.count() as u64
            }
            Count::Computed(terms) => {
                let mut total = 0;
                for (operator, value) in terms {
                    total = operator.join(total, self.value(value, record)?);
                }
                total
            }
        };
        (count <= MOST_ELEMENTS).then_some(count)
    }

    /// Follows a pointer of the record at `record`.
    fn follow(&mut self, part: &Part, record: u64, place: Place, value: u64) {
        if value == 0 {
            return;
        }
        let of = part.of;
        let Some(count) = self.count(&part.count, record, value).filter(|c| *c > 0) else {
            return;
        };
        let plan = self.plan;
        let to = &plan.types[of];
        if !value.is_multiple_of(to.alignment.max(1)) {
            if !self.weak {
                self.problem(format!("{} is not aligned", self.object(of, value)));
            }
            return;
        }
        let length = to.size * count;
        if self.view.mappings.holding(value, length).is_none() {
            if !self.weak {
                self.problem(format!("{} is not mapped", self.object(of, value)));
            }
            return;
        }
        if self.weak && !self.believable(value, of, length) {
            return;
        }
        if plan.data.contains(&value) && !self.is_in_variable(value, of) {
            // A list whose end is no element, say: the pointer's type is a lie.
            self.problem(format!("{} is no such variable", self.object(of, value)));
            return;
        }
        if let Some(why) = self.misfit(value, length) {
            self.problem(format!(
                "{} {why}; it is left alone",
                self.object(of, value)
            ));
            return;
        }
        self.slots.insert(Slot { place, value });
        self.block(value, of, count, Home::Heap);
    }

    /// Whether what a frame's memory holds can be a pointer to such an object: it
    /// is known already, or the allocator has a block that begins there.
    fn believable(&self, address: u64, of: usize, length: u64) -> bool {
        let known = |block: &Block| {
            block.address <= address && address + length <= block.end().max(block.address + 1)
        };
        if self.seen.contains_key(&(address, of)) || self.blocks.iter().any(known) {
            return true;
        }
        let allocation = self.view.heap.allocation(self.view.reader, address);
        allocation.is_some_and(|allocation| {
            allocation.start == address && !allocation.free && length <= allocation.usable
        })
    }

    /// Whether a variable has an object of that type at `address`.
    fn is_in_variable(&self, address: u64, of: usize) -> bool {
        let after = self.plan.roots.partition_point(|r| r.address.0 <= address);
        let Some(root) = after.checked_sub(1).and_then(|i| self.plan.roots.get(i)) else {
            return false;
        };
        self.has_part(root.of, address - root.address.0, of, 0)
    }

    /// Why what the allocator has at `address` cannot be `length` bytes of objects.
    fn misfit(&self, address: u64, length: u64) -> Option<String> {
        let allocation = self.view.heap.allocation(self.view.reader, address)?;
        if allocation.free {
            return Some("has been freed".to_owned());
        }
        let fits = address + length <= allocation.start + allocation.usable;
        (!fits).then(|| {
            let usable = allocation.usable;
            format!("is larger than its allocation of {usable} bytes")
        })
    }
}
