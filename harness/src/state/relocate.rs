//! From what a walk found to what is to be written: converted instances, where they
//! lie from now on, and every pointer to what moved. Pure but for the allocation.

use std::collections::BTreeMap;

use super::frames::Place;
use super::memory::Reader;
use super::plan::{Manner, Plan};
use super::walk::{Block, Found, Home};

/// A variable that the update moves, or gives another initial value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedVariable {
    /// Place in the old program.
    pub old: u64,
    /// Size there.
    pub old_size: u64,
    /// Place from now on: in the image, or the same.
    pub new: u64,
    /// The new version's initial value.
    pub initial: Vec<u8>,
    /// Whether it is a constant: then nothing of the old one is taken along.
    pub constant: bool,
}

/// An instance of a changed record for the transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Number of the record in the plan.
    pub record: usize,
    /// The old instance, or its copy.
    pub old: Source,
    /// Where the new one lies.
    pub new: u64,
}

/// Where an old instance can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is where it was.
    Address(u64),
    /// Among the copies, at this offset: it was converted in place.
    Copy(u64),
}

/// Bytes that instances lay in, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPlace {
    /// Where they begin.
    pub address: u64,
    /// Their length in bytes.
    pub length: u64,
    /// What they are instances of, for people.
    pub name: String,
    /// What holds them.
    pub home: Home,
}

/// An old copy that is no longer meant: its instances lie elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldCopy {
    /// Where it lies.
    pub left: InPlace,
    /// Where the instances lie now.
    pub moved_to: u64,
}

/// What is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relocation {
    /// Bytes by address.
    pub writes: BTreeMap<u64, Vec<u8>>,
    /// Values of registers: thread, register, value.
    pub registers: Vec<(usize, usize, u64)>,
    /// Instances of changed records, old and new.
    pub pairs: Vec<Pair>,
    /// Bytes of instances that were converted in place.
    pub copies: Vec<u8>,
    /// Number of instances that moved.
    pub moved: u64,
    /// What they left behind.
    pub old_copies: Vec<OldCopy>,
    /// Instances that got the new version's layout where they lay.
    pub in_place: Vec<InPlace>,
    /// Number of pointers that were redirected.
    pub redirected: u64,
    /// What could not be converted, and why.
    pub problems: Vec<String>,
}

/// A block with the place that it will have.
struct Placed<'a> {
    block: &'a Block,
    target: u64,
    /// Bytes that the new instances take.
    length: u64,
    /// Whether the bytes are written with the program's variables.
    variable: bool,
}

/// Decides where every instance lies from now on and what is written. `allocate`
/// gives memory of a size in the process, or nothing.
pub fn relocate(
    plan: &Plan,
    found: &Found,
    variables: &[ChangedVariable],
    reader: &dyn Reader,
    allocate: &mut dyn FnMut(u64) -> Option<u64>,
) -> Relocation {
    let mut result = Relocation::default();
    let mut placed = Vec::new();
    for (index, block) in found.blocks.iter().enumerate() {
        let next = found.blocks.get(index + 1).map(|next| next.address);
        match place(plan, block, next, variables, allocate) {
            Ok(place) => placed.extend(place),
            Err(problem) => result.problems.push(problem),
        }
    }
    let mut contents: BTreeMap<u64, Vec<u8>> = placed
        .iter()
        .filter(|place| !place.variable)
        .filter_map(|place| {
            let bytes = reader.bytes(place.block.address, place.block.length)?;
            Some((place.block.address, bytes))
        })
        .collect();
    let copies = contents.clone();
    redirect(plan, found, &placed, variables, &mut contents, &mut result);
    for place in &placed {
        let block = place.block;
        let Some(conversion) = plan.conversion(block.of) else {
            continue;
        };
        let constant = |v: &ChangedVariable| v.old == block.address && v.constant;
        if variables.iter().any(constant) {
            continue;
        }
        let moved = place.target != block.address;
        let bytes = InPlace {
            address: block.address,
            length: block.length,
            name: plan.types[block.of].name.clone(),
            home: block.home,
        };
        if moved {
            result.moved += block.count;
            result.old_copies.push(OldCopy {
                left: bytes,
                moved_to: place.target,
            });
        } else if conversion.manner != Manner::Common {
            result.in_place.push(bytes);
        }
        let old = if moved {
            None
        } else {
            let at = result.copies.len().next_multiple_of(16);
            result.copies.resize(at, 0);
            let copy = copies.get(&block.address).map_or(&[][..], Vec::as_slice);
            result.copies.extend(copy);
            Some(at as u64)
        };
        conversion.instances(block.count, block.length, &mut |record, from, to| {
            let to = if conversion.manner == Manner::Common {
                from
            } else {
                to
            };
            result.pairs.push(Pair {
                record,
                old: match old {
                    Some(at) => Source::Copy(at + from),
                    None => Source::Address(block.address + from),
                },
                new: place.target + to,
            });
        });
        let Some(old) = contents.remove(&block.address) else {
            continue;
        };
        let variable = variables.iter().find(|v| v.old == block.address);
        let mut new = variable.map_or_else(Vec::new, |v| v.initial.clone());
        new.resize(usize::try_from(place.length).unwrap_or(0), 0);
        if conversion.manner == Manner::Common {
            let mut live = old;
            conversion.initialise(block.count, &mut live, &new);
            new = live;
        } else {
            conversion.convert(block.count, &old, &mut new);
        }
        result.writes.insert(place.target, new);
    }
    result
}

/// Where a block goes; `next` is where the following one begins.
fn place<'a>(
    plan: &Plan,
    block: &'a Block,
    next: Option<u64>,
    variables: &[ChangedVariable],
    allocate: &mut dyn FnMut(u64) -> Option<u64>,
) -> Result<Option<Placed<'a>>, String> {
    let name = || plan.types[block.of].name.clone();
    let refuse = |why: &str| Err(format!("{} at {:#x} {why}", name(), block.address));
    let Some(conversion) = plan.conversion(block.of) else {
        return refuse("has no conversion");
    };
    let moves = |v: &&ChangedVariable| v.old == block.address && v.new != v.old;
    if let Some(variable) = variables.iter().find(moves) {
        let elements = conversion.new_length(block.count, block.length);
        if variable.constant && elements != variable.initial.len() as u64 {
            return refuse(
                "is a constant with another number of elements; pointers into it stay with the \
                 old one",
            );
        }
        return Ok(Some(Placed {
            block,
            target: variable.new,
            length: variable.initial.len() as u64,
            variable: true,
        }));
    }
    if block.constant {
        return Ok(None);
    }
    let length = if conversion.manner == Manner::Common {
        block.length
    } else {
        conversion.new_length(block.count, block.length)
    };
    let in_place = Placed {
        block,
        target: block.address,
        length,
        variable: false,
    };
    let room = next.map_or(block.room, |next| block.room.min(next - block.address));
    let shares = next.is_some_and(|next| next < block.address + block.room);
    let leaves =
        plan.poison && block.home == Home::Heap && conversion.manner != Manner::Common && !shares;
    if length <= room.max(block.length) && !leaves {
        return Ok(Some(in_place));
    }
    if block.home == Home::Variable {
        return refuse("is a variable that grows but does not move; it is not converted");
    }
    if shares {
        return refuse("shares its allocation with others and does not fit; it is not converted");
    }
    match allocate(length) {
        Some(target) => Ok(Some(Placed { target, ..in_place })),
        None => refuse("grows, and the process has no memory for it"),
    }
}

/// Writes the new address into every pointer to something that moved: among the
/// bytes that will be converted, in memory, or in registers.
fn redirect(
    plan: &Plan,
    found: &Found,
    placed: &[Placed<'_>],
    variables: &[ChangedVariable],
    contents: &mut BTreeMap<u64, Vec<u8>>,
    result: &mut Relocation,
) {
    let mut starts: Vec<(u64, u64, &Placed<'_>)> = placed
        .iter()
        .map(|place| (place.block.address, place.block.end(), place))
        .collect();
    starts.sort_by_key(|(start, _, _)| *start);
    for slot in &found.slots {
        let Some(value) = target(plan, &starts, variables, slot.value) else {
            continue;
        };
        if value == slot.value {
            continue;
        }
        result.redirected += 1;
        match slot.place {
            Place::Register { thread, register } => {
                result.registers.push((thread, register, value));
            }
            Place::Nowhere => {}
            Place::Memory(at) => {
                let holder = contents
                    .range_mut(..=at)
                    .next_back()
                    .filter(|(start, bytes)| at + 8 <= *start + bytes.len() as u64);
                if let Some((start, bytes)) = holder {
                    let from = usize::try_from(at - *start).unwrap_or(0);
                    bytes[from..from + 8].copy_from_slice(&value.to_le_bytes());
                } else {
                    result.writes.insert(at, value.to_le_bytes().to_vec());
                }
            }
        }
    }
}

/// Where what lies at `address` lies from now on; none if it does not change.
fn target(
    plan: &Plan,
    placed: &[(u64, u64, &Placed<'_>)],
    variables: &[ChangedVariable],
    address: u64,
) -> Option<u64> {
    let after = placed.partition_point(|(start, _, _)| *start <= address);
    if let Some((start, end, place)) = after.checked_sub(1).and_then(|i| placed.get(i))
        && address < *end
    {
        let conversion = plan.conversion(place.block.of)?;
        if conversion.manner == Manner::Common && !place.variable {
            return None;
        }
        let offset = address - start;
        let to = conversion.moved(place.block.count, place.block.length, offset);
        return to.map(|to| place.target + to);
    }
    // A variable that moves and holds no changed record.
    let variable = variables
        .iter()
        .find(|v| !v.constant && (v.old..v.old + v.old_size).contains(&address))?;
    let offset = address - variable.old;
    (offset < variable.initial.len() as u64).then(|| variable.new + offset)
}
