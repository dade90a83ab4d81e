//! Pipes and pairs of connected sockets: streams of bytes between processes, and the
//! descriptors that are passed along with them.

use crate::descriptors::{Kind, O_NONBLOCK};
use crate::network::{EAGAIN, EPIPE};
use crate::waiting::{ERROR, HANG_UP, INPUT, OUTPUT, PEER_HANG_UP};
use crate::world::{Declined, World};

/// Most channels; a pair of sockets takes two.
pub const MOST_CHANNELS: usize = 32;
/// Bytes that one holds.
pub const CAPACITY: usize = 32 << 10;
/// Most descriptors on their way.
pub const MOST_PASSED: usize = 4;

/// An open file on its way to another process.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Passed {
    /// The byte that it comes with, counted from the channel's first.
    pub at: u64,
    /// It, counted from 1; 0 if there is none.
    pub description: u64,
}

/// A stream of bytes in one direction.
#[repr(C)]
pub struct Channel {
    /// Reading ends that are open.
    pub readers: u16,
    /// Writing ends that are open.
    pub writers: u16,
    /// Bytes in it.
    pub length: u32,
    /// Bytes that were taken out of it.
    pub taken: u64,
    /// Descriptors on their way, in order.
    pub passed: [Passed; MOST_PASSED],
    /// The bytes.
    pub bytes: [u8; CAPACITY],
}

/// The channels of one end of a pair: the one it reads, the one it writes.
#[must_use]
pub const fn ends(object: usize) -> (usize, usize) {
    (object & 0xff, object >> 8)
}

impl Channel {
    /// Takes bytes out; `peek` leaves them there. Stops before a byte that comes with a
    /// descriptor.
    pub fn read(&mut self, bytes: &mut [u8], peek: bool) -> i64 {
        if self.length == 0 {
            return if self.writers == 0 { 0 } else { EAGAIN };
        }
        let mut most = bytes.len().min(self.length as usize);
        for passed in self.passed.iter().filter(|passed| passed.description != 0) {
            if passed.at > self.taken {
                most = most.min((passed.at - self.taken) as usize);
            }
        }
        bytes[..most].copy_from_slice(&self.bytes[..most]);
        if !peek {
            self.bytes.copy_within(most..self.length as usize, 0);
            self.length -= most as u32;
            self.taken += most as u64;
        }
        most as i64
    }

    /// Puts bytes in, as many as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> i64 {
        if self.readers == 0 {
            return EPIPE;
        }
        let start = self.length as usize;
        let count = bytes.len().min(CAPACITY - start);
        if count == 0 && !bytes.is_empty() {
            return EAGAIN;
        }
        self.bytes[start..start + count].copy_from_slice(&bytes[..count]);
        self.length += count as u32;
        count as i64
    }

    /// What can be read of it, as `poll` says it.
    #[must_use]
    pub fn to_read(&self) -> u32 {
        let input = if self.length > 0 { INPUT } else { 0 };
        let closed = if self.writers == 0 { HANG_UP } else { 0 };
        input | closed
    }

    /// Whether it can be written.
    #[must_use]
    pub fn to_write(&self) -> u32 {
        let closed = if self.readers == 0 { ERROR } else { 0 };
        let room = if (self.length as usize) < CAPACITY {
            OUTPUT
        } else {
            0
        };
        room | closed
    }

    /// Takes a descriptor that came with one of the last `count` bytes taken.
    pub fn take_passed_before(&mut self, count: u64) -> Option<usize> {
        let first = self.passed[0];
        let index = (first.description as usize).checked_sub(1)?;
        if first.at >= self.taken || first.at + count < self.taken {
            return None;
        }
        self.passed.copy_within(1.., 0);
        self.passed[MOST_PASSED - 1].description = 0;
        Some(index)
    }
}

impl World {
    fn free_channel(&mut self) -> Result<usize, Declined> {
        let free = self
            .channels
            .iter()
            .position(|c| c.readers == 0 && c.writers == 0);
        let at = free.ok_or(Declined("too many pipes"))?;
        let channel = &mut self.channels[at];
        (channel.readers, channel.writers) = (1, 1);
        (channel.length, channel.taken) = (0, 0);
        channel.passed = [Passed {
            at: 0,
            description: 0,
        }; MOST_PASSED];
        Ok(at)
    }

    /// A new pipe.
    ///
    /// # Errors
    /// When there are too many.
    pub fn pipe(&mut self, flags: u32) -> Result<[i32; 2], Declined> {
        let at = self.free_channel()?;
        let close_on_exec = flags & 0o2_000_000 != 0;
        let reader = self.open(Kind::PipeReader, at, flags & O_NONBLOCK, close_on_exec)?;
        let writer = self.open(Kind::PipeWriter, at, 1 | flags & O_NONBLOCK, close_on_exec)?;
        Ok([reader as i32, writer as i32])
    }

    /// A new pair of connected sockets.
    ///
    /// # Errors
    /// When there are too many.
    pub fn pair(&mut self, flags: u32) -> Result<[i32; 2], Declined> {
        let one = self.free_channel()?;
        let other = self.free_channel()?;
        let close_on_exec = flags & 0o2_000_000 != 0;
        let flags = 2 | flags & O_NONBLOCK;
        let first = self.open(Kind::Pair, one | other << 8, flags, close_on_exec)?;
        let second = self.open(Kind::Pair, other | one << 8, flags, close_on_exec)?;
        Ok([first as i32, second as i32])
    }

    /// An end of a pair is closed for good.
    pub fn close_pair(&mut self, object: usize) {
        let (reads, writes) = ends(object);
        let reads = &mut self.channels[reads];
        reads.readers = reads.readers.saturating_sub(1);
        let writes = &mut self.channels[writes];
        writes.writers = writes.writers.saturating_sub(1);
    }

    /// A reading end is closed for good: what was on its way is lost.
    pub fn drop_passed(&mut self, at: usize) {
        while self.channels[at].readers == 0 && self.channels[at].passed[0].description != 0 {
            let index = self.channels[at].passed[0].description as usize - 1;
            self.channels[at].passed.copy_within(1.., 0);
            self.channels[at].passed[MOST_PASSED - 1].description = 0;
            self.release(index);
        }
    }

    /// What an end of a pair is ready for.
    #[must_use]
    pub fn pair_ready(&self, object: usize) -> u32 {
        let (reads, writes) = ends(object);
        let input = self.channels[reads].to_read();
        let output = self.channels[writes].to_write();
        let closed = if input & HANG_UP != 0 {
            INPUT | PEER_HANG_UP
        } else {
            0
        };
        let hung_up = input & HANG_UP != 0 && output & ERROR != 0;
        let both = if hung_up { HANG_UP } else { 0 };
        let room = if output & ERROR != 0 { OUTPUT } else { output };
        input & INPUT | closed | both | room & OUTPUT
    }
}
