//! Child processes of a server in a simulated world: each runs to its end while the
//! server stands in its `fork`, and what it did goes into the server's world.

use kairos_simulator::children::{Child, Children, Standing};
use kairos_simulator::world::Reason;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Unfit;
use super::live::Live;
use super::run::{Used, breakpoint, handler, inside_simulator, leave_with_fault, why_declined};
use crate::engine::parts::{Note, Parts};
use crate::engine::server::usually_kills;
use crate::engine::updater::Updater;
use crate::engine::watch::Watcher as _;
use crate::tracee::counter::{self, NEVER};
use crate::tracee::intercept;
use crate::tracee::simulator::{self, CHILDREN};
use crate::tracee::tree::{Event, ProcessIndex, Stop, signal_name};
use crate::tracee::{Memory, Stopped, TraceeError};
use crate::verdict::observation::{Ending, SeenProcess};

/// Where a child's process lies in the tree: there is only ever one.
const CHILD: ProcessIndex = 1;

/// Runs a child that the server has just forked to its end; what became of it. The
/// server stands in the call still.
pub(super) fn run(
    parts: &mut Parts<'_>,
    live: &Live,
    mut updater: Option<&mut Updater<'_>>,
    parent: &Stopped,
    child: Stopped,
) -> Result<SeenProcess, Unfit> {
    let process = &parts.tree.processes[CHILD];
    let (pid, memory) = (process.pid, &process.memory);
    counter::set(memory, 0, NEVER)?;
    let control = simulator::control(&parts.tree.processes[0].memory)?;
    parts.exchange = control.exchange;
    let registers = simulator::caller(
        &parts.tree.processes[0].memory,
        &control,
        &live.rewritten,
        &parent.registers()?,
    )?;
    let walk = parts.walk_from(0, &registers);
    let role = parts.name_child_at(0, &walk);
    let updated = parts.notes[0].updated;
    parts.notes.push(Note {
        role,
        born: parts.exchange,
        ended: None,
        updated,
        fault: None,
    });
    if let Some(updater) = &mut updater {
        updater.forked(parts, (0, 0), CHILD, &child)?;
    }
    let status = to_its_end(parts, live, updater.as_deref_mut(), pid, child)?;
    let memory = &parts.tree.processes[CHILD].memory;
    let did: Box<Children> = simulator::read(memory, CHILDREN)?;
    let memory = &parts.tree.processes[0].memory;
    let mut children: Box<Children> = simulator::read(memory, CHILDREN)?;
    let taken = children.take(&did, status);
    taken.map_err(|why| Unfit::Declined(why.0.to_owned()))?;
    simulator::write(memory, CHILDREN, &*children)?;
    take_away(parts, pid)?;
    if let Some(updater) = &mut updater {
        updater.executed(CHILD);
    }
    let killed = status & 0x7f;
    let note = parts.notes.remove(CHILD);
    Ok(SeenProcess {
        role: note.role,
        updated: note.updated,
        ended_in: parts.exchange,
        ending: if killed == 0 {
            Ending::Exited(status >> 8 & 0xff)
        } else {
            Ending::Killed(signal_name(killed))
        },
        fault: note.fault.filter(|_| killed != 0),
    })
}

/// Lets a child run to its end; its status, as `wait4` reports it.
fn to_its_end(
    parts: &mut Parts<'_>,
    live: &Live,
    mut updater: Option<&mut Updater<'_>>,
    pid: Pid,
    child: Stopped,
) -> Result<i32, Unfit> {
    let mut used = Used::new(pid);
    child.resume(parts.tree.until, 0)?;
    loop {
        let event = parts.tree.wait(pid)?;
        let memory = &parts.tree.processes[CHILD].memory;
        let (stopped, stop) = match event {
            Some(Event::Stopped { stopped, stop, .. }) => (stopped, stop),
            Some(_) => return Err(declined("a child process that forks or ends strangely")),
            None if used.look(memory)? > live.busy => {
                return Err(declined("a child process that does not end"));
            }
            None => continue,
        };
        let mut signal = 0;
        match stop {
            Stop::Filtered => intercept::redirect(&stopped, memory, live.gate)?,
            Stop::Breakpoint(address) => {
                let updater = updater.as_deref_mut();
                if breakpoint(parts, updater, CHILD, &stopped, address)? {
                    parts.tree.step_over(CHILD, stopped, address)?;
                    continue;
                }
            }
            Stop::Signal(libc::SIGTRAP) if inside_simulator(&stopped)? => {
                let control = simulator::control(memory)?;
                if let Some(why) = why_declined(memory, &control)? {
                    return Err(Unfit::Declined(why));
                }
                match control.reason {
                    Reason::ChildEnded | Reason::Dies => {
                        return Ok(i32::try_from(control.detail).unwrap_or(0));
                    }
                    _ => {}
                }
            }
            Stop::Signal(number) => match take_signal(parts, live, &stopped, number)? {
                Taken::Delivered(number) => signal = number,
                Taken::Dies => return Ok(number),
            },
            _ => {}
        }
        stopped.resume(parts.tree.until, signal)?;
    }
}

/// What comes of a signal.
enum Taken {
    /// This signal is delivered; 0 if none is.
    Delivered(i32),
    /// The child ends by it.
    Dies,
}

fn take_signal(
    parts: &mut Parts<'_>,
    live: &Live,
    stopped: &Stopped,
    number: i32,
) -> Result<Taken, Unfit> {
    let memory = &parts.tree.processes[CHILD].memory;
    if leave_with_fault(memory, live.leave, stopped, number)? {
        return Ok(Taken::Delivered(0));
    }
    let handled = handler(memory, number)? > 1;
    if usually_kills(number) {
        parts.notes[CHILD].fault = Some(parts.fault_at(CHILD, &stopped.registers()?));
    }
    Ok(if handled {
        Taken::Delivered(number)
    } else {
        Taken::Dies
    })
}

/// Ends the child's process, of which nothing is needed any more.
fn take_away(parts: &mut Parts<'_>, pid: Pid) -> Result<(), Unfit> {
    let _ = kill(pid, Signal::SIGKILL);
    while parts.tree.processes[CHILD].ending.is_none() {
        parts.tree.wait(pid)?;
    }
    parts.tools.unwinder.forget_process(pid);
    parts.tree.processes.truncate(CHILD);
    Ok(())
}

fn declined(why: &str) -> Unfit {
    Unfit::Declined(why.to_owned())
}

/// Whether children of the server have something to do yet.
pub(super) fn any_runs(memory: &Memory) -> Result<bool, TraceeError> {
    let children: Box<Children> = simulator::read(memory, CHILDREN)?;
    let runs = |child: &Child| child.standing == Standing::Runs;
    Ok(children.children.iter().any(runs))
}
