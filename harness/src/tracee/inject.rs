//! Runs system calls and functions inside a stopped process.

use libc::user_regs_struct;
use nix::unistd::Pid;

use super::stopped::Until;
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

/// Three bytes in the process: `syscall; int3`.
#[derive(Clone, Copy, Debug)]
pub struct Gadget {
    /// Where they lie.
    pub address: Address,
}

impl Gadget {
    const CODE: [u8; 3] = [0x0f, 0x05, 0xcc];

    /// Puts the gadget's code in place.
    ///
    /// # Errors
    /// When the address is not mapped.
    pub fn write(self, memory: &Memory) -> Result<(), TraceeError> {
        memory.write(self.address, &Self::CODE)
    }

    const fn trap(self) -> Address {
        self.address.plus(2)
    }

    const fn after_trap(self) -> Address {
        self.address.plus(3)
    }
}

/// Maps memory at a fixed, unused address.
///
/// # Errors
/// When the process is gone or the kernel refuses, as when the range is in use.
pub fn map(
    stopped: &Stopped,
    gadget: Gadget,
    address: Address,
    length: u64,
    protection: i32,
    flags: i32,
    descriptor: i32,
) -> Result<(), TraceeError> {
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    let arguments = [
        address.0,
        length,
        i64::from(protection).cast_unsigned(),
        i64::from(flags).cast_unsigned(),
        i64::from(descriptor).cast_unsigned(),
        0,
    ];
    let answer = system_call(stopped, gadget, libc::SYS_mmap, arguments)?;
    accepted("mmap in the process", stopped.thread(), answer)
}

/// Changes what may be done with whole pages; the caller restores the registers.
///
/// # Errors
/// When the process is gone or the kernel refuses.
pub fn protect(
    stopped: &Stopped,
    gadget: Gadget,
    address: Address,
    length: u64,
    protection: i32,
) -> Result<(), TraceeError> {
    let protection = i64::from(protection).cast_unsigned();
    let arguments = [address.0, length, protection, 0, 0, 0];
    let answer = system_call(stopped, gadget, libc::SYS_mprotect, arguments)?;
    accepted("mprotect in the process", stopped.thread(), answer)
}

/// Closes a descriptor.
///
/// # Errors
/// When the process is gone or the descriptor is not open.
pub fn close(stopped: &Stopped, gadget: Gadget, descriptor: i32) -> Result<(), TraceeError> {
    let argument = i64::from(descriptor).cast_unsigned();
    let answer = system_call(stopped, gadget, libc::SYS_close, [argument, 0, 0, 0, 0, 0])?;
    accepted("close in the process", stopped.thread(), answer)
}

/// Runs one system call that must succeed, and returns its answer; the caller
/// restores the registers.
///
/// # Errors
/// When the process is gone or the kernel refuses.
pub fn checked_call(
    stopped: &Stopped,
    gadget: Gadget,
    operation: &'static str,
    number: i64,
    arguments: [u64; 6],
) -> Result<i64, TraceeError> {
    let answer = system_call(stopped, gadget, number, arguments)?;
    accepted(operation, stopped.thread(), answer)?;
    Ok(answer)
}

pub(super) fn accepted(operation: &'static str, pid: Pid, answer: i64) -> Result<(), TraceeError> {
    if (-4095..0).contains(&answer) {
        let errno = nix::errno::Errno::from_raw(i32::try_from(-answer).unwrap_or(0));
        return Err(TraceeError::from_errno(operation, pid)(errno));
    }
    Ok(())
}

/// Runs one system call; the caller restores the registers.
///
/// # Errors
/// When the process is gone.
pub fn system_call(
    stopped: &Stopped,
    gadget: Gadget,
    number: i64,
    [a, b, c, d, e, f]: [u64; 6],
) -> Result<i64, TraceeError> {
    let mut registers = stopped.registers()?;
    registers.rip = gadget.address.0;
    registers.rax = number.cast_unsigned();
    registers.orig_rax = u64::MAX;
    (registers.rdi, registers.rsi, registers.rdx) = (a, b, c);
    (registers.r10, registers.r8, registers.r9) = (d, e, f);
    let answer = run_to_trap(
        stopped,
        gadget.after_trap(),
        &registers,
        "a system call",
        None,
    )?;
    Ok(answer.cast_signed())
}

/// Calls `function(argument)` on the thread's own stack, below its red zone, and
/// returns what it returns. The caller restores registers and extended state.
///
/// # Errors
/// When the process is gone, or dies in the call.
pub fn call(
    stopped: &Stopped,
    memory: &Memory,
    gadget: Gadget,
    function: Address,
    argument: u64,
) -> Result<u64, TraceeError> {
    let registers = call_registers(stopped, memory, gadget, function, argument)?;
    run_to_trap(stopped, gadget.after_trap(), &registers, "a function", None)
}

/// The same instruction by instruction; `watch` sees the registers before each.
///
/// # Errors
/// As [`call`].
pub fn call_watched(
    stopped: &Stopped,
    memory: &Memory,
    gadget: Gadget,
    function: Address,
    watch: &mut Watch<'_>,
) -> Result<u64, TraceeError> {
    let registers = call_registers(stopped, memory, gadget, function, 0)?;
    run_to_trap(
        stopped,
        gadget.after_trap(),
        &registers,
        "a function",
        Some(watch),
    )
}

/// Sees the registers before each instruction of a call.
pub type Watch<'a> = dyn FnMut(&user_regs_struct) -> Result<(), TraceeError> + 'a;

fn call_registers(
    stopped: &Stopped,
    memory: &Memory,
    gadget: Gadget,
    function: Address,
    argument: u64,
) -> Result<user_regs_struct, TraceeError> {
    let mut registers = stopped.registers()?;
    registers.rsp = ((registers.rsp - 1024) & !15) - 8;
    memory.write(Address(registers.rsp), &gadget.trap().0.to_le_bytes())?;
    registers.rip = function.0;
    registers.rdi = argument;
    registers.rax = 0;
    registers.orig_rax = u64::MAX;
    Ok(registers)
}

/// Lets the thread run from `registers` to the trap that ends before `after_trap`. A
/// signal that arrives on the way although signals are masked is held back and sent
/// again.
pub(super) fn run_to_trap(
    stopped: &Stopped,
    after_trap: Address,
    registers: &user_regs_struct,
    what: &'static str,
    mut watch: Option<&mut Watch<'_>>,
) -> Result<u64, TraceeError> {
    let thread = stopped.thread();
    stopped.set_registers(registers)?;
    let mut held_back = Vec::new();
    let mut now = *registers;
    let result = loop {
        if let Some(watch) = &mut watch {
            watch(&now)?;
        }
        let until = if watch.is_some() {
            Until::Step
        } else {
            Until::Event
        };
        Stopped::reported(thread).resume(until, 0)?;
        let status = wait_for(thread)?;
        stopped.ran();
        let injection = |status| TraceeError::Injection {
            what,
            pid: thread,
            status,
        };
        if !libc::WIFSTOPPED(status) {
            return Err(injection(status));
        }
        now = stopped.registers()?;
        match libc::WSTOPSIG(status) {
            libc::SIGTRAP if now.rip == after_trap.0 => break now.rax,
            // A job-control stop or its end: no signal is consumed by going on.
            _ if status >> 16 != 0 => {}
            libc::SIGTRAP if watch.is_some() => {}
            fatal @ (libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGILL
            | libc::SIGFPE
            | libc::SIGABRT
            | libc::SIGTRAP) => {
                return Err(injection(fatal));
            }
            other => held_back.push(other),
        }
    };
    for signal in held_back {
        // SAFETY: sends a signal to a thread of our own; the group is the thread's own number
        // or its leader's, and a failure means that it is gone.
        unsafe { libc::syscall(libc::SYS_tkill, thread.as_raw(), signal) };
    }
    Ok(result)
}

/// Waits for one thread alone.
pub(super) fn wait_for(thread: Pid) -> Result<i32, TraceeError> {
    let mut status = 0;
    loop {
        // SAFETY: waitpid writes one int.
        let answer = unsafe { libc::waitpid(thread.as_raw(), &raw mut status, libc::__WALL) };
        match nix::errno::Errno::result(answer) {
            Ok(_) => return Ok(status),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(TraceeError::from_errno("waitpid", thread)(errno)),
        }
    }
}
