//! The ends of processes: what becomes of what they had, who is told, who asks.

use crate::marks::{self, Marks};
use crate::network::EINVAL;
use crate::numbers::ECHILD;
use crate::own;
use crate::play::{self, Turn};
use crate::processes::{Awaited, NO_PROCESS, State, hand_over};
use crate::raw;
use crate::signals::{IGNORE, SIGKILL, Sender};
use crate::waiting::{self, EINTR, Wait, Woken};
use crate::world::{Answer, Declined, Phase, World};

const SIGCHLD: u32 = 17;
const NO_HANG: u64 = 1;

/// The process that asks ends with this status, as `wait4` tells it. Others go on in
/// its place; it never does.
///
/// # Errors
/// When something happens that is not simulated.
pub fn end(world: &mut World, status: i32) -> Result<(), Declined> {
    let me = own::number();
    let exchange = world.control.exchange;
    marks::check(world);
    world.me_mut().marks = Marks::default();
    world.close_all();
    // Who is left without a parent is the child of the first in the namespace.
    let first = world.me().space as usize;
    let heir = match first.checked_sub(1) {
        Some(first) if first != me && world.processes[first].lives() => first as u32,
        _ => NO_PROCESS,
    };
    for at in 0..world.count as usize {
        let dying = Sender::process(world.number_seen_by(at, me));
        let child = &mut world.processes[at];
        if child.parent as usize != me || !matches!(child.state, State::Runs | State::Waits) {
            if child.parent as usize == me && child.state == State::Ended {
                child.state = State::Gone;
            }
            continue;
        }
        child.parent = heir;
        if child.death_signal != 0 {
            child.signals.send(child.death_signal, dying);
        }
    }
    if world.me().signals.first != 0 {
        // Nobody lives on in a namespace whose first process is gone.
        for at in 0..world.count as usize {
            if at != me && world.processes[at].space as usize == me + 1 {
                world.processes[at].signals.send(SIGKILL, Sender::KERNEL);
            }
        }
    }
    let process = &mut world.processes[me];
    process.state = State::Ended;
    process.status = status as u32;
    process.ended_in = exchange;
    (process.alarm, process.alarm_interval) = (0, 0);
    if process.parent == NO_PROCESS {
        process.state = State::Gone;
    } else {
        let parent = process.parent as usize;
        if world.processes[parent].signals.handler(SIGCHLD) == IGNORE {
            world.processes[me].state = State::Gone;
        } else {
            let number = world.number_seen_by(parent, me);
            let ended = Sender::child(number, status as u32);
            world.processes[parent].signals.send(SIGCHLD, ended);
        }
    }
    if me == 0 {
        world.control.dead = 1;
    }
    go_on_without(world)
}

/// What goes on when the process that ran last has ended.
fn go_on_without(world: &mut World) -> Result<(), Declined> {
    loop {
        if let Some(next) = world.next_process() {
            hand_over(world, next)?;
            continue;
        }
        waiting::over_if_stopped(world);
        if play::turn(world, world.at_rest(false))? == Turn::Acted {
            continue;
        }
        if !world.others_live() && world.control.phase < Phase::Stop {
            return Err(Declined("a client that waits for a server that has ended"));
        }
        waiting::pass_time(world)?;
    }
}

/// `wait4`.
pub(crate) fn wait_for_child(world: &mut World, a: [u64; 6]) -> Answer {
    let wanted = a[0] as i32;
    let me = own::number();
    if a[3] != 0 {
        // SAFETY: the server's own structure.
        unsafe { raw::bytes_mut(a[3], 144).fill(0) };
    }
    loop {
        let group = world.group_number(world.me().group);
        let is_meant = |pid: u32, of_group: u32| match wanted {
            -1 => true,
            0 => of_group == group,
            ..-1 => of_group == wanted.unsigned_abs(),
            _ => pid == wanted as u32,
        };
        let mut any = false;
        let mut found = None;
        for (at, child) in world.known().iter().enumerate() {
            if child.parent as usize == me
                && child.state != State::Gone
                && is_meant(world.number_of(at), world.group_number(child.group))
            {
                any = true;
                if child.state == State::Ended {
                    found = found.or(Some(at));
                }
            }
        }
        if let Some(at) = found {
            let pid = world.number_of(at);
            let child = &mut world.processes[at];
            child.state = State::Gone;
            let status = child.status;
            if a[1] != 0 {
                // SAFETY: the server's own place.
                unsafe { raw::store(a[1], status) };
            }
            return Ok(i64::from(pid));
        }
        if !any {
            return Ok(ECHILD);
        }
        if a[2] & NO_HANG != 0 {
            return Ok(0);
        }
        if a[2] & !NO_HANG != 0 {
            return Ok(EINVAL);
        }
        if world.has_ended_child(me) {
            return Err(Declined("waiting for one child when another has ended"));
        }
        let awaited = Awaited {
            child: 1,
            ..Awaited::NOTHING
        };
        let mut ended = |world: &mut World| world.has_ended_child(me);
        if waiting::wait(world, &mut ended, Wait::FOR_EVER, awaited)? == Woken::Interrupted {
            return Ok(EINTR);
        }
    }
}
