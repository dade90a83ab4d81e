//! Steps a program through its own code, and keeps who waited where while what was
//! executed: what an oracle of con-freeness asks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::process::CommandExt;
use std::process::Command;

use kairos::binary::{Address, Program};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

const BREAKPOINT: u8 = 0xcc;

/// One frame of the program while it is stepped through.
struct ShadowFrame {
    /// Where its return address lies.
    slot: u64,
    entry: Address,
    /// The return address of the call that it waits in.
    site: Option<Address>,
    instance: usize,
}

/// A frame that waits for a call to return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiting {
    pub entry: Address,
    pub site: Address,
}

/// What stepping showed.
#[derive(Default)]
pub struct Steps {
    /// Every instruction of the program's own code, with the instance of the
    /// frame that executed it.
    executed: Vec<(Address, usize)>,
    /// At each entry of an own function: how many instructions were executed
    /// before, and the frames that waited.
    entries: Vec<(usize, Vec<(usize, Waiting)>)>,
}

impl Steps {
    /// How many entries of own functions there were.
    pub fn points(&self) -> usize {
        self.entries.len()
    }

    /// Frames that waited at some entry and executed one of `dependent` later,
    /// and how often.
    pub fn later_users(&self, dependent: &BTreeSet<Address>) -> BTreeMap<Waiting, usize> {
        let mut last: HashMap<usize, usize> = HashMap::new();
        for (time, (at, instance)) in self.executed.iter().enumerate() {
            if dependent.contains(at) {
                last.insert(*instance, time);
            }
        }
        let mut users = BTreeMap::new();
        for (time, frames) in &self.entries {
            for (instance, waiting) in frames {
                if last.get(instance).is_some_and(|last| last >= time) {
                    *users.entry(*waiting).or_default() += 1;
                }
            }
        }
        users
    }
}

/// Runs `program` to its end and steps through its own functions; library code
/// runs at full speed. `reached` is called with the names of functions that are
/// entered, and the process.
pub fn step(program: &Program, arguments: &[String], mut reached: impl FnMut(&str, Pid)) -> Steps {
    let mut command = Command::new(program.path());
    command.args(arguments);
    // SAFETY: only one system call is made between fork and exec.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(std::io::Error::from)) };
    let mut child = command.spawn().expect("program starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("pid"));
    waitpid(pid, None).expect("stops at its start");
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL).expect("options");
    let mut stepper = Stepper {
        program,
        pid,
        planted: HashMap::new(),
        again: None,
        pending: Vec::new(),
        frames: Vec::new(),
        instances: 0,
        steps: Steps::default(),
    };
    for function in program.functions().iter().filter(|function| function.pad) {
        stepper.plant(function.entry);
    }
    stepper.run(&mut reached);
    _ = child.wait();
    stepper.steps
}

struct Stepper<'a> {
    program: &'a Program,
    pid: Pid,
    /// Original bytes under breakpoints.
    planted: HashMap<Address, u8>,
    /// A breakpoint to set again after the instruction under it.
    again: Option<Address>,
    /// Library calls that have not returned: where they return to, and with which
    /// stack pointer.
    pending: Vec<(Address, u64)>,
    frames: Vec<ShadowFrame>,
    instances: usize,
    steps: Steps,
}

impl Stepper<'_> {
    fn run(&mut self, reached: &mut impl FnMut(&str, Pid)) {
        let mut signal = None;
        // Own code is stepped, library code runs until it calls or returns.
        let mut stepping = false;
        loop {
            let resume = if stepping { ptrace::step } else { ptrace::cont };
            resume(self.pid, signal.take()).expect("resume");
            let WaitStatus::Stopped(_, stop) = waitpid(self.pid, None).expect("wait") else {
                return;
            };
            if stop != Signal::SIGTRAP {
                signal = Some(stop);
                continue;
            }
            if let Some(at) = self.again.take() {
                self.plant(at);
            }
            let mut registers = ptrace::getregs(self.pid).expect("registers");
            let hit = Address(registers.rip - 1);
            if self.is_entry(hit) && self.planted.contains_key(&hit) {
                // The pad is nothing but NOPs: no need to go back.
                self.enter(hit, registers.rsp);
                let name = &self.program.function_at(hit).expect("function").name.name;
                reached(name, self.pid);
                stepping = true;
                continue;
            }
            if self.planted.contains_key(&hit) {
                registers.rip = hit.0;
                ptrace::setregs(self.pid, registers).expect("registers");
                if self.pending.last() == Some(&(hit, registers.rsp)) {
                    self.pending.pop();
                }
                self.unplant(hit);
                if self.pending.iter().any(|(site, _)| *site == hit) {
                    self.again = Some(hit);
                }
            }
            stepping = self.arrived(Address(registers.rip), registers.rsp);
        }
    }

    fn is_entry(&self, at: Address) -> bool {
        self.program.function_with_entry(at).is_some()
    }

    fn enter(&mut self, entry: Address, top: u64) {
        self.frames.retain(|frame| frame.slot > top);
        self.note_wait(top);
        let waiting = self.frames.iter().filter_map(|frame| {
            let site = frame.site?;
            let entry = frame.entry;
            Some((frame.instance, Waiting { entry, site }))
        });
        let waiting = waiting.collect();
        self.steps
            .entries
            .push((self.steps.executed.len(), waiting));
        self.instances += 1;
        self.frames.push(ShadowFrame {
            slot: top,
            entry,
            site: None,
            instance: self.instances,
        });
    }

    /// Whether the program is in own code, about to execute an instruction there.
    fn arrived(&mut self, at: Address, top: u64) -> bool {
        self.frames.retain(|frame| frame.slot >= top);
        let Some(function) = self.program.function_at(at) else {
            self.leave(top);
            return false;
        };
        let Some(frame) = self.frames.last() else {
            return true;
        };
        if frame.entry == function.entry {
            self.steps.executed.push((at, frame.instance));
        }
        true
    }

    /// Own code called a library, or returned to one.
    fn leave(&mut self, top: u64) {
        self.note_wait(top);
        let Some(frame) = self.frames.last() else {
            return;
        };
        let Some(site) = frame.site else { return };
        let word = ptrace::read(self.pid, top as ptrace::AddressType).expect("stack");
        if Address(word.cast_unsigned()) == site && !self.pending.contains(&(site, top + 8)) {
            self.pending.push((site, top + 8));
            self.plant(site);
        }
    }

    /// Notes the return address of a call that the innermost frame has just made.
    fn note_wait(&mut self, top: u64) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        if top >= frame.slot {
            return;
        }
        let Ok(word) = ptrace::read(self.pid, top as ptrace::AddressType) else {
            return;
        };
        let site = Address(word.cast_unsigned());
        let inside = self.program.function_at(Address(site.0.wrapping_sub(1)));
        if inside.is_some_and(|function| function.entry == frame.entry) {
            frame.site = Some(site);
        }
    }

    fn poke(&self, at: Address, byte: u8) -> u8 {
        let place = (at.0 & !7) as ptrace::AddressType;
        let shift = usize::try_from(at.0 & 7).expect("small");
        let word = ptrace::read(self.pid, place).expect("text");
        let mut bytes = word.to_le_bytes();
        let before = std::mem::replace(&mut bytes[shift], byte);
        ptrace::write(self.pid, place, i64::from_le_bytes(bytes)).expect("text");
        before
    }

    fn plant(&mut self, at: Address) {
        if !self.planted.contains_key(&at) {
            let before = self.poke(at, BREAKPOINT);
            self.planted.insert(at, before);
        }
    }

    /// Takes a breakpoint away.
    fn unplant(&mut self, at: Address) {
        if let Some(byte) = self.planted.remove(&at) {
            self.poke(at, byte);
        }
    }
}
