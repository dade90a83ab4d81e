//! New processes: `fork`, and what a process is to its relatives.

use crate::calls::unknown;
use crate::identity::{PROCESSES, SYS_ADMIN, has};
use crate::numbers::EPERM;
use crate::own::{self, Own};
use crate::processes::{MOST_PROCESSES, NO_PROCESS, State};
use crate::raw;
use crate::waiting::NEVER_ARMED;
use crate::world::{Answer, Declined, World};

const CLONE: i64 = 56;
const FORK: i64 = 57;
const SIGCHLD: u64 = 17;
const PARENT_SET_TID: u64 = 0x10_0000;
const CHILD_CLEAR_TID: u64 = 0x20_0000;
const CHILD_SET_TID: u64 = 0x100_0000;
const NEW_IPC: u64 = 0x800_0000;
const NEW_NUMBERS: u64 = 0x2000_0000;
const NEW_NETWORK: u64 = 0x4000_0000;
/// The harness is the parent that the kernel knows: no signal reaches the server, and
/// nothing stays behind.
const CLONE_PARENT: u64 = 0x8000;

/// `fork`, and `clone` where it is the same but for namespaces that are as good as those
/// of the parent: objects of System V are not simulated, and neither is a network where
/// nobody else is.
pub(crate) fn fork(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    let flags = if number == FORK { SIGCHLD } else { a[0] };
    let numbers = PARENT_SET_TID | CHILD_CLEAR_TID | CHILD_SET_TID;
    let spaces = flags & (NEW_IPC | NEW_NUMBERS | NEW_NETWORK);
    let plain = flags & !(numbers | spaces) == SIGCHLD;
    if !matches!(number, CLONE | FORK) || !plain || number == CLONE && a[1] != 0 {
        unknown(world, number, a[0]);
    }
    if spaces != 0 && !has(world, SYS_ADMIN) {
        return Ok(EPERM);
    }
    if spaces & NEW_NUMBERS != 0 && world.me().space != 0 {
        return Err(Declined("a namespace of process numbers within another"));
    }
    if world.control.sealed == 0 {
        return Err(Declined("fork(2) before it was ready"));
    }
    if world.me().limit(PROCESSES).is_some() {
        return Err(Declined("fork(2) after a limit of processes was set"));
    }
    let parent = own::number();
    let child = world.count as usize;
    if child == MOST_PROCESSES {
        return Err(Declined("too many processes"));
    }
    world.count += 1;
    world.turns += 1;
    world.processes[child] = world.processes[parent];
    // The first has the number that the kernel gave it.
    let pid = world.processes[0].pid + child as u32;
    let born = &mut world.processes[child];
    born.state = State::Runs;
    born.pid = pid;
    born.parent = parent as u32;
    born.death_signal = 0;
    born.since = world.turns;
    born.looks = 0;
    (born.alarm, born.alarm_interval) = (0, 0);
    born.signals.pending = 0;
    born.armed = NEVER_ARMED;
    enter(world, child, spaces);
    for slot in 0..world.processes[child].slots.len() {
        let description = world.processes[child].slots[slot].description;
        if let Some(index) = usize::from(description).checked_sub(1) {
            world.descriptors.descriptions[index].references += 1;
        }
    }
    // The pointer goes in, so that the world counts as changed by what runs meanwhile.
    let place = &raw mut *world as u64;
    // SAFETY: the child goes on from here in a copy of this process's own memory.
    let answer = unsafe { raw::call(CLONE, [CLONE_PARENT | SIGCHLD, 0, 0, 0, 0, place]) };
    if answer < 0 {
        return Err(Declined("a fork(2) that the kernel refused"));
    }
    // SAFETY: the server's own places.
    unsafe {
        if answer > 0 {
            let number = world.number_of(child);
            if flags & PARENT_SET_TID != 0 {
                raw::store(a[2], number);
            }
            return Ok(i64::from(number));
        }
        own::set(Own {
            number: child as u64,
            ..own::own()
        });
        if flags & CHILD_SET_TID != 0 {
            raw::store(a[3], world.number_of(child));
        }
    }
    Ok(0)
}

/// A process that was just born enters its namespaces.
fn enter(world: &mut World, child: usize, spaces: u64) {
    let (before, born) = world.processes.split_at_mut(child);
    let born = &mut born[0];
    born.apart |= u32::from(spaces & NEW_NETWORK != 0);
    born.signals.first = u64::from(spaces & NEW_NUMBERS != 0);
    if spaces & NEW_NUMBERS != 0 {
        (born.space, born.inner) = (child as u32 + 1, 1);
    } else if born.space != 0 {
        let others = before.iter().filter(|process| process.space == born.space);
        born.inner = others.map(|process| process.inner).max().unwrap_or(0) + 1;
    }
}

/// The number of a process's parent: the harness's own once that has ended.
#[must_use]
pub fn parent_pid(world: &World) -> i64 {
    const GETPPID: i64 = 110;
    match world.me().parent {
        NO_PROCESS if world.me().space != 0 => 0,
        // SAFETY: a question without arguments.
        NO_PROCESS => unsafe { raw::call(GETPPID, [0; 6]) },
        parent => i64::from(world.number_of(parent as usize)),
    }
}
