//! Leads a process's system calls to the simulator: the calls of its libraries are
//! rewritten into jumps, and a seccomp filter stops those that were missed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};
use kairos_simulator::layout;
use nix::unistd::Pid;

use super::counter::GADGET;
use super::inject::{self, Gadget};
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

/// Bytes of a jump.
const JUMP: usize = 5;
/// `lea rsp, [rsp - 128]`: the red zone is the caller's.
const STEP_DOWN: [u8; 5] = [0x48, 0x8d, 0x64, 0x24, 0x80];

/// A call that can be rewritten.
#[derive(Clone, Debug)]
struct Site {
    /// Offset in its mapping where the jump goes.
    start: u64,
    /// Instructions that come before the call, copied.
    before: Vec<u8>,
    /// Those that come behind it, copied.
    after: Vec<u8>,
}

impl Site {
    const fn length(&self) -> u64 {
        (self.before.len() + 2 + self.after.len()) as u64
    }
}

/// Rewrites calls; remembers where they are in each library.
#[derive(Debug, Default)]
pub struct Interceptor {
    known: HashMap<String, Arc<Vec<Site>>>,
}

/// The rewritten calls of a process: where each goes on, by where its answer arrives.
#[derive(Clone, Debug, Default)]
pub struct Rewritten {
    sites: Arc<HashMap<u64, u64>>,
}

impl Rewritten {
    /// The address behind the call whose answer arrives at `returns`.
    #[must_use]
    pub fn behind(&self, returns: u64) -> u64 {
        self.sites.get(&returns).copied().unwrap_or(returns)
    }
}

impl Interceptor {
    /// Rewrites every call of the process that can be, in all files mapped near the
    /// simulator.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn rewrite(
        &mut self,
        pid: Pid,
        memory: &Memory,
        gate: Address,
    ) -> Result<Rewritten, TraceeError> {
        let mut rewritten = HashMap::new();
        let mut stubs = Vec::new();
        for (path, start, end) in executable_files(pid) {
            let reachable = start.abs_diff(layout::STUBS) < 1 << 30;
            if !reachable {
                continue;
            }
            let mut code = vec![0; usize::try_from(end - start).unwrap_or(0)];
            memory.read(Address(start), &mut code)?;
            let key = format!("{path}+{:x}", end - start);
            let sites = self
                .known
                .entry(key)
                .or_insert_with(|| Arc::new(find(&code)));
            for site in sites.iter() {
                let at = start + site.start;
                let stub = layout::STUBS + stubs.len() as u64;
                stubs.extend_from_slice(&site.before);
                stubs.extend_from_slice(&STEP_DOWN);
                let here = layout::STUBS + stubs.len() as u64;
                stubs.extend(super::counter::relative(0xe8, Address(here), gate));
                let behind = at + site.before.len() as u64 + 2;
                rewritten.insert(here + JUMP as u64, behind);
                stubs.extend_from_slice(&site.after);
                let here = layout::STUBS + stubs.len() as u64;
                let back = Address(at + site.length());
                stubs.extend(super::counter::relative(0xe9, Address(here), back));
                let mut jump = super::counter::relative(0xe9, Address(at), Address(stub)).to_vec();
                jump.resize(usize::try_from(site.length()).unwrap_or(JUMP), 0x90);
                memory.write(Address(at), &jump)?;
            }
        }
        memory.write(Address(layout::STUBS), &stubs)?;
        Ok(Rewritten {
            sites: Arc::new(rewritten),
        })
    }
}

/// Executable mappings of files: path, first address, address past the end.
fn executable_files(pid: Pid) -> Vec<(String, u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            fields.next().filter(|rights| rights.contains('x'))?;
            let path = fields.nth(3).filter(|path| path.starts_with('/'))?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((path.to_owned(), number(start)?, number(end)?))
        })
        .collect()
}

/// Finds calls that can be rewritten in the code of one mapping.
fn find(code: &[u8]) -> Vec<Site> {
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut targets = HashSet::new();
    let mut window: Vec<Instruction> = Vec::new();
    let mut calls: Vec<(Vec<Instruction>, Vec<Instruction>)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64 {
            targets.insert(instruction.near_branch_target());
        }
        open.retain(|at| {
            calls[*at].1.push(instruction);
            calls[*at].1.len() < 3
        });
        if instruction.mnemonic() == Mnemonic::Syscall {
            calls.push((window.clone(), vec![instruction]));
            open.push(calls.len() - 1);
        }
        window.push(instruction);
        if window.len() > 2 {
            window.remove(0);
        }
    }
    calls
        .iter()
        .filter_map(|(before, from)| site(code, before, from, &targets))
        .collect()
}

/// How a call can be rewritten, if it can.
fn site(
    code: &[u8],
    before: &[Instruction],
    from: &[Instruction],
    targets: &HashSet<u64>,
) -> Option<Site> {
    let call = from.first()?;
    let previous = before.last()?;
    let returns_from_handler = previous.mnemonic() == Mnemonic::Mov
        && previous.op1_kind() != OpKind::Register
        && previous.op_count() == 2
        && matches!(
            previous.op1_kind(),
            OpKind::Immediate32 | OpKind::Immediate32to64
        )
        && previous.immediate(1) == 15;
    if returns_from_handler {
        return None;
    }
    let bytes = |instructions: &[Instruction]| -> Vec<u8> {
        instructions
            .iter()
            .flat_map(|one| {
                let start = usize::try_from(one.ip()).unwrap_or(0);
                code[start..start + one.len()].to_vec()
            })
            .collect()
    };
    let movable = |one: &Instruction| {
        one.flow_control() == FlowControl::Next
            && !one.is_ip_rel_memory_operand()
            && !one.is_invalid()
            && one.mnemonic() != Mnemonic::Syscall
            && !one.is_stack_instruction()
    };
    let unreached = |one: &Instruction| !targets.contains(&one.ip());
    for count in 1..from.len() {
        let after = &from[1..=count];
        if !after.iter().all(|one| movable(one) && unreached(one)) {
            break;
        }
        let after = bytes(after);
        if after.len() + 2 >= JUMP {
            return Some(Site {
                start: call.ip(),
                before: Vec::new(),
                after,
            });
        }
    }
    let touches = previous.next_ip() == call.ip() && unreached(call) && movable(previous);
    let before = bytes(std::slice::from_ref(previous));
    (touches && before.len() + 2 >= JUMP).then(|| Site {
        start: previous.ip(),
        before,
        after: Vec::new(),
    })
}

/// Makes the kernel stop the process at every call that does not come from the
/// simulator.
///
/// # Errors
/// When the process is gone or the kernel refuses.
pub fn stop_other_calls(
    stopped: &Stopped,
    memory: &Memory,
    gadget: Gadget,
) -> Result<(), TraceeError> {
    let program = filter();
    let at = layout::SCRIPTS - 4096;
    memory.write(Address(at + 16), &program)?;
    let mut head = [0; 16];
    head[..2].copy_from_slice(&u16::try_from(program.len() / 8).unwrap_or(0).to_le_bytes());
    head[8..].copy_from_slice(&(at + 16).to_le_bytes());
    memory.write(Address(at), &head)?;
    let no_new_privileges = [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0];
    inject::checked_call(stopped, gadget, "prctl", libc::SYS_prctl, no_new_privileges)?;
    let no_huge_pages = [libc::PR_SET_THP_DISABLE as u64, 1, 0, 0, 0, 0];
    inject::checked_call(stopped, gadget, "prctl", libc::SYS_prctl, no_huge_pages)?;
    stopped.follow_filter()?;
    let set_filter = [u64::from(libc::SECCOMP_SET_MODE_FILTER), 0, at, 0, 0, 0];
    inject::checked_call(stopped, gadget, "seccomp", libc::SYS_seccomp, set_filter)?;
    Ok(())
}

/// Takes the library's way to ask for the time without a system call out of what a
/// program that has just been executed is told; returns where its own code begins.
///
/// # Errors
/// When the process is gone.
pub fn hide_fast_clock(stopped: &Stopped, memory: &Memory) -> Result<Address, TraceeError> {
    const END: u64 = 0;
    const IGNORE: u64 = 1;
    const ENTRY: u64 = 9;
    const FAST_CALLS: u64 = 33;
    let mut at = Address(stopped.registers()?.rsp);
    let arguments = memory.word(at)?;
    at = at.plus(8 * (arguments + 2));
    while memory.word(at)? != 0 {
        at = at.plus(8);
    }
    at = at.plus(8);
    let mut entry = Address(0);
    loop {
        match memory.word(at)? {
            END => return Ok(entry),
            ENTRY => entry = Address(memory.word(at.plus(8))?),
            FAST_CALLS => memory.write(at, &IGNORE.to_le_bytes())?,
            _ => {}
        }
        at = at.plus(16);
    }
}

/// Sends a stopped call to the simulator instead of the kernel.
///
/// # Errors
/// When the process is gone.
pub fn redirect(stopped: &Stopped, memory: &Memory, gate: Address) -> Result<(), TraceeError> {
    let mut registers = stopped.registers()?;
    registers.rsp = registers.rsp.wrapping_sub(0x80 + 8);
    memory.write(Address(registers.rsp), &registers.rip.to_le_bytes())?;
    registers.rax = registers.orig_rax;
    registers.orig_rax = u64::MAX;
    registers.rip = gate.0;
    stopped.set_registers(&registers)
}

/// The filter: returns from handlers, calls of the simulator and injected calls pass.
fn filter() -> Vec<u8> {
    const NUMBER: u32 = 0;
    const ADDRESS_LOW: u32 = 8;
    const ADDRESS_HIGH: u32 = 12;
    let low = |address: u64| (address & 0xffff_ffff) as u32;
    let high = |address: u64| (address >> 32) as u32;
    let load = |at: u32| (0x20_u16, 0_u8, 0_u8, at);
    let equal = |value: u32, then: u8, or: u8| (0x15_u16, then, or, value);
    let at_least = |value: u32, then: u8, or: u8| (0x35_u16, then, or, value);
    let answer = |value: u32| (0x06_u16, 0_u8, 0_u8, value);
    let program = [
        load(NUMBER),
        equal(15, 9, 0),
        load(ADDRESS_HIGH),
        equal(high(layout::CODE), 2, 0),
        equal(0, 4, 0),
        answer(libc::SECCOMP_RET_TRACE),
        load(ADDRESS_LOW),
        at_least(low(layout::CODE), 0, 4),
        at_least(low(layout::CODE + layout::CODE_LENGTH), 3, 2),
        load(ADDRESS_LOW),
        equal(low(GADGET.address.0 + 2), 0, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_TRACE),
    ];
    program
        .iter()
        .flat_map(|(code, then, or, value)| {
            let mut bytes = code.to_le_bytes().to_vec();
            bytes.extend([*then, *or]);
            bytes.extend(value.to_le_bytes());
            bytes
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_rewritten_with_what_follows_or_what_precedes_it() {
        // mov eax, 1; syscall; cmp rax, -4096; ja +0; ret
        let with_test = [
            0xb8, 1, 0, 0, 0, 0x0f, 5, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0, 0xc3,
        ];
        let sites = find(&with_test);
        assert_eq!((sites[0].start, sites[0].length()), (5, 8));
        // mov eax, 39; syscall; ret
        let plain = [0xb8, 39, 0, 0, 0, 0x0f, 5, 0xc3];
        let sites = find(&plain);
        assert_eq!((sites[0].start, sites[0].length()), (0, 7));
        // mov rax, 15; syscall: the return from a handler stays.
        let restorer = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5];
        assert!(find(&restorer).is_empty());
    }

    #[test]
    fn the_filter_has_whole_instructions() {
        assert_eq!(filter().len() % 8, 0);
    }
}
