//! The whole state of a server and of its world at the end of an exchange, as one
//! number: where two tests have the same, they go on in the same way.
//!
//! It holds all that what follows can depend on: memory of the living processes above
//! their stack pointers, registers, blocked signals, the world without what the client
//! has received, old frames that are followed, and how children are named. What neither
//! the server nor what is seen of it can tell apart is left out: entry counters, dead
//! stack, and registers of the floating-point unit that calls do not preserve.

use std::ops::Range;

use nix::unistd::Pid;

use super::Unfit;
use super::members::Member;
use super::run::Run;
use crate::binary::Address;
use crate::engine::parts::Parts;
use crate::engine::updater::Updater;
use crate::tracee::counter::COUNTER_PAGE;
use crate::tracee::digest::Digest;
use crate::tracee::intercept::Rewritten;
use crate::tracee::simulator::{self, BELOW_FRAME};
use crate::tracee::tree::ProcessIndex;
use crate::tracee::{Memory, Stopped, TraceeError};
use kairos_simulator::layout;
use kairos_simulator::own::Own;

/// Kinds of what a state is made of, each told apart by its place.
const REGISTERS: u64 = 1;
const PROCESS: u64 = 2;
const FRAMES: u64 = 3;
const ROLES: u64 = 4;

/// Where the floating-point registers themselves lie in what `FXSAVE` saves.
#[allow(clippy::cast_possible_truncation)] // a small constant
const FLOATING: Range<usize> = 32..BELOW_FRAME as usize;

/// What a digest of a process's memory leaves out, since it is looked at more closely
/// or not at all.
pub(super) fn apart(stack: Option<Range<u64>>) -> Vec<Range<u64>> {
    let own = layout::STACK..layout::OWN + layout::OWN_LENGTH;
    [COUNTER_PAGE, own].into_iter().chain(stack).collect()
}

/// The stack of a process's first thread.
pub(super) fn stack_of(pid: Pid) -> Option<Range<u64>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = text.lines().find(|line| line.ends_with("[stack]"))?;
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

impl Run<'_> {
    /// The state in which the process that runs has told the end of an exchange; none
    /// if a process stands where it cannot be told.
    pub(super) fn state(
        &mut self,
        parts: &Parts<'_>,
        updater: &Updater<'_>,
        running: &Stopped,
    ) -> Result<Option<Digest>, Unfit> {
        let mut digest = self.live.shared.digest();
        let mut bytes = Vec::new();
        for at in 0..self.live.members.len() {
            if !self.live.shared.world().known()[at].lives() {
                continue;
            }
            let process = &parts.tree.processes[at];
            let rewritten = &self.live.rewritten;
            let memory = &process.memory;
            let Some((stack, own)) = memory_of(&mut self.live.members, at, memory)? else {
                return Ok(None);
            };
            let member = &self.live.members[at];
            let stopped = member.stopped.as_ref().unwrap_or(running);
            let own = rest_of(at, (memory, rewritten), &stack, stopped, own)?;
            let Some(own) = own else {
                return Ok(None);
            };
            digest.add(place(PROCESS, at), &own.bytes());
            bytes.clear();
            updater.tell_old_frames(at, &mut bytes);
            digest.add(place(FRAMES, at), &bytes);
        }
        bytes.clear();
        for (note, process) in parts.notes.iter().zip(self.live.shared.world().known()) {
            if process.lives() {
                bytes.push(u8::from(note.updated));
                bytes.extend_from_slice(note.role.to_string().as_bytes());
                bytes.push(0);
            }
        }
        for (role, count) in parts.roles.counts() {
            bytes.extend_from_slice(role.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        digest.add(place(ROLES, 0), &bytes);
        Ok(Some(digest))
    }
}

const fn place(kind: u64, process: ProcessIndex) -> u64 {
    kind << 32 | process as u64
}

/// The stack of a living process, and a digest of its memory without what is apart; none
/// if that is not known. One that was born behind the point is compared with what is
/// kept of an older one: they descend from one process.
fn memory_of(
    members: &mut [Member],
    at: ProcessIndex,
    memory: &Memory,
) -> Result<Option<(Range<u64>, Digest)>, TraceeError> {
    let Member { pid, ran, kept, .. } = &members[at];
    let (pid, ran, is_kept) = (*pid, *ran, kept.is_some());
    let mut older = members[..=at].iter_mut().rev();
    let Some(kept) = older.find_map(|member| member.kept.as_mut()) else {
        return Ok(None);
    };
    let digest = match (is_kept, ran) {
        (true, true) => kept.written.digest(pid, memory)?,
        (true, false) => kept.written.baseline_digest(),
        (false, _) => kept.written.digest_of_descendant(pid, memory)?,
    };
    Ok(kept.stack.clone().map(|stack| (stack, digest)))
}

/// The state of a living process, whose memory without what is apart has the digest
/// given; none if it does not stand in the simulator, on its own stack.
fn rest_of(
    at: ProcessIndex,
    (memory, rewritten): (&Memory, &Rewritten),
    stack: &Range<u64>,
    stopped: &Stopped,
    mut digest: Digest,
) -> Result<Option<Digest>, TraceeError> {
    let registers = stopped.registers()?;
    if !simulator::is_inside(registers.rip) {
        return Ok(None);
    }
    let caller = simulator::caller(memory, rewritten, &registers)?;
    if !stack.contains(&caller.rsp) {
        return Ok(None);
    }
    // The red zone belongs to the caller.
    let live = caller.rsp - 0x80..stack.end;
    digest.add(live.start, &read(memory, &live)?);
    // The simulator's own words lie on top of its stack.
    let live = registers.rsp..layout::OWN + size_of::<Own>() as u64;
    let mut own = read(memory, &live)?;
    let saved = simulator::frame_of(memory)?.0 - BELOW_FRAME;
    let floating = usize::try_from(saved.wrapping_sub(live.start)).unwrap_or(usize::MAX);
    let floating = own
        .get_mut(floating..)
        .and_then(|own| own.get_mut(FLOATING));
    if let Some(floating) = floating {
        floating.fill(0);
    }
    digest.add(live.start, &own);
    let (control, vector_control) = stopped.floating_control()?;
    let mut bytes = Vec::with_capacity(size_of::<libc::user_regs_struct>() + 16);
    bytes.extend_from_slice(&control.to_le_bytes());
    bytes.extend_from_slice(&vector_control.to_le_bytes());
    bytes.extend_from_slice(&stopped.signal_mask()?.to_le_bytes());
    for word in words(&registers) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    digest.add(place(REGISTERS, at), &bytes);
    Ok(Some(digest))
}

/// The registers in which a process can differ from another at the same stop.
fn words(registers: &libc::user_regs_struct) -> [u64; 19] {
    let r = registers;
    [
        r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, r.rax, r.rcx, r.rdx,
        r.rsi, r.rdi, r.rip, r.eflags, r.rsp, r.fs_base,
    ]
}

fn read(memory: &Memory, range: &Range<u64>) -> Result<Vec<u8>, TraceeError> {
    let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = vec![0; length];
    memory.read(Address(range.start), &mut bytes)?;
    Ok(bytes)
}
