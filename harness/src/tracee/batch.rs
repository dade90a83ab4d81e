//! Runs many system calls in a stopped process for the price of one stop: the
//! process itself goes through a table of them.

use super::counter::STUB;
use super::inject::run_to_trap;
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

/// The code, behind what else lies on the stub's page.
const CODE: Address = STUB.plus(0x300);
/// The table of calls, ended by a call with the number -1.
const TABLE: Address = STUB.plus(0x400);
const CALL: u64 = 64;
const MOST_CALLS: u64 = 31;
/// What the calls' pointers point to.
const DATA: Address = TABLE.plus(CALL * (MOST_CALLS + 1));
const DATA_LENGTH: u64 = 0x400;
const _: () = assert!(DATA.0 + DATA_LENGTH <= STUB.0 + 0x1000);

/// Goes through the table at `r12`: number, six arguments, and room for the answer.
const LOOP: [u8; 54] = [
    0x49, 0x8b, 0x04, 0x24, // next: mov rax, [r12]
    0x48, 0x83, 0xf8, 0xff, // cmp rax, -1
    0x74, 0x2b, // je end
    0x49, 0x8b, 0x7c, 0x24, 0x08, // mov rdi, [r12 + 8]
    0x49, 0x8b, 0x74, 0x24, 0x10, // mov rsi, [r12 + 16]
    0x49, 0x8b, 0x54, 0x24, 0x18, // mov rdx, [r12 + 24]
    0x4d, 0x8b, 0x54, 0x24, 0x20, // mov r10, [r12 + 32]
    0x4d, 0x8b, 0x44, 0x24, 0x28, // mov r8, [r12 + 40]
    0x4d, 0x8b, 0x4c, 0x24, 0x30, // mov r9, [r12 + 48]
    0x0f, 0x05, // syscall
    0x49, 0x89, 0x44, 0x24, 0x38, // mov [r12 + 56], rax
    0x49, 0x83, 0xc4, 0x40, // add r12, 64
    0xeb, 0xcb, // jmp next
    0xcc, // end: int3
];

/// What a call must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// Anything but an error.
    Success,
    /// This value.
    Exactly(i64),
    /// Whatever.
    Anything,
}

/// System calls that are run one after the other, at least in the order given. The
/// process must have been prepared by [`super::counter::install`]; the caller restores
/// its registers.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    calls: Vec<(&'static str, [u64; 7], Wanted)>,
    data: Vec<u8>,
}

impl Batch {
    /// Keeps bytes for the calls to point to.
    ///
    /// # Panics
    /// When there are more than fit; callers keep a few dozen.
    pub fn data(&mut self, bytes: &[u8]) -> Address {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let place = DATA.plus(self.data.len() as u64);
        self.data.extend_from_slice(bytes);
        place
    }

    /// Whether so many further calls and bytes fit.
    #[must_use]
    pub fn has_room(&self, calls: usize, bytes: usize) -> bool {
        (self.calls.len() + calls) as u64 <= MOST_CALLS
            && (self.data.len() + 8 + bytes) as u64 <= DATA_LENGTH
    }

    /// Adds a call that must succeed.
    pub fn call(&mut self, name: &'static str, number: i64, arguments: &[u64]) {
        self.add(name, number, arguments, Wanted::Success);
    }

    /// Adds a call that must answer `answer`.
    pub fn call_for(&mut self, name: &'static str, number: i64, arguments: &[u64], answer: i64) {
        self.add(name, number, arguments, Wanted::Exactly(answer));
    }

    /// Adds a call whose answer is only reported.
    pub fn ask(&mut self, name: &'static str, number: i64, arguments: &[u64]) {
        self.add(name, number, arguments, Wanted::Anything);
    }

    fn add(&mut self, name: &'static str, number: i64, arguments: &[u64], wanted: Wanted) {
        let mut call = [0; 7];
        call[0] = number.cast_unsigned();
        for (place, argument) in call[1..].iter_mut().zip(arguments) {
            *place = *argument;
        }
        self.calls.push((name, call, wanted));
    }

    /// Runs the calls and returns their answers.
    ///
    /// # Errors
    /// When a call does not answer as it must, when there are more calls or data than
    /// fit, or when the process is gone.
    pub fn run(&self, stopped: &Stopped, memory: &Memory) -> Result<Vec<i64>, TraceeError> {
        let refused = |operation, errno| TraceeError::Refused {
            operation,
            pid: stopped.thread(),
            errno,
        };
        if !self.has_room(0, 0) {
            return Err(refused("a batch of calls", nix::errno::Errno::E2BIG));
        }
        let mut table = Vec::with_capacity((self.calls.len() + 1) * 64);
        for (_, call, _) in &self.calls {
            table.extend(call.iter().flat_map(|word| word.to_le_bytes()));
            table.extend_from_slice(&[0; 8]);
        }
        table.extend_from_slice(&u64::MAX.to_le_bytes());
        memory.write(CODE, &LOOP)?;
        memory.write(TABLE, &table)?;
        memory.write(DATA, &self.data)?;
        let mut registers = stopped.registers()?;
        registers.rip = CODE.0;
        registers.r12 = TABLE.0;
        registers.orig_rax = u64::MAX;
        run_to_trap(
            stopped,
            CODE.plus(LOOP.len() as u64),
            &registers,
            "a batch of system calls",
            None,
        )?;
        memory.read(TABLE, &mut table)?;
        let mut answers = Vec::with_capacity(self.calls.len());
        for (entry, (name, _, wanted)) in table.chunks_exact(64).zip(&self.calls) {
            let mut word = [0; 8];
            word.copy_from_slice(&entry[56..]);
            let answer = i64::from_le_bytes(word);
            let right = match wanted {
                Wanted::Success => answer >= 0,
                Wanted::Exactly(value) => answer == *value,
                Wanted::Anything => true,
            };
            if !right {
                let number = i32::try_from(-answer).unwrap_or(0);
                return Err(refused(name, nix::errno::Errno::from_raw(number)));
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Reads back what calls wrote to a place of the data.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn read<const N: usize>(memory: &Memory, place: Address) -> Result<[u8; N], TraceeError> {
        let mut bytes = [0; N];
        memory.read(place, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jumps_of_the_loop_meet_their_targets() {
        let target = |at: usize| {
            let distance = i64::from(LOOP[at + 1].cast_signed());
            i64::try_from(at).unwrap() + 2 + distance
        };
        assert_eq!(target(8), i64::try_from(LOOP.len()).unwrap() - 1);
        assert_eq!(target(51), 0);
    }

    #[test]
    fn a_batch_knows_its_room() {
        let mut batch = Batch::default();
        assert!(batch.has_room(31, 0) && !batch.has_room(32, 0));
        assert_eq!(batch.data(&[1]), DATA);
        assert_eq!(batch.data(&[2]), DATA.plus(8));
        assert!(!batch.has_room(0, 0x400));
    }
}
