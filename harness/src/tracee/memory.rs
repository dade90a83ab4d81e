//! Memory of a traced process, read and written through `/proc/PID/mem`, also
//! while it runs and where its own pages are read-only.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

use super::TraceeError;
use crate::binary::Address;

/// An open view of one process's memory. A process that executes another
/// program needs a new one.
#[derive(Debug)]
pub struct Memory {
    pid: Pid,
    /// None once the process has ended.
    file: Option<File>,
}

impl Memory {
    /// Opens the memory of `pid`.
    ///
    /// # Errors
    /// When the process is gone or may not be traced.
    pub fn open(pid: Pid) -> Result<Self, TraceeError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))
            .map(|file| Self {
                pid,
                file: Some(file),
            })
            .map_err(|source| TraceeError::Memory {
                operation: "opening for",
                address: 0,
                length: 0,
                pid,
                source,
            })
    }

    /// Gives the file back: the process has ended, and a server that forks for each
    /// request would use up all files that may be open.
    pub fn close(&mut self) {
        self.file = None;
    }

    fn file(&self, operation: &'static str) -> Result<&File, TraceeError> {
        self.file.as_ref().ok_or(TraceeError::Gone {
            operation,
            pid: self.pid,
        })
    }

    /// Fills `buffer` from `address`.
    ///
    /// # Errors
    /// When any of it is not mapped.
    pub fn read(&self, address: Address, buffer: &mut [u8]) -> Result<(), TraceeError> {
        self.file("reading")?
            .read_exact_at(buffer, address.0)
            .map_err(|source| self.failed("reading", address, buffer.len(), source))
    }

    /// Reads as much of `buffer` as is mapped from `address` on; returns the length.
    #[must_use]
    pub fn read_some(&self, address: Address, buffer: &mut [u8]) -> usize {
        let file = self.file.as_ref();
        file.and_then(|file| file.read_at(buffer, address.0).ok())
            .unwrap_or(0)
    }

    /// Reads one eight-byte word.
    ///
    /// # Errors
    /// When it is not mapped.
    pub fn word(&self, address: Address) -> Result<u64, TraceeError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes `bytes` at `address`, also into read-only pages.
    ///
    /// # Errors
    /// When any of it is not mapped.
    pub fn write(&self, address: Address, bytes: &[u8]) -> Result<(), TraceeError> {
        self.file("writing")?
            .write_all_at(bytes, address.0)
            .map_err(|source| self.failed("writing", address, bytes.len(), source))
    }

    /// Writes short pieces of code, ascending by address: one read and one write for
    /// all that lie near each other.
    ///
    /// # Errors
    /// When any of it is not mapped.
    pub fn patch<const N: usize>(&self, pieces: &[(Address, [u8; N])]) -> Result<(), TraceeError> {
        const NEAR: u64 = 0x4000;
        let mut rest = pieces;
        while let Some((first, _)) = rest.first() {
            let count = rest
                .windows(2)
                .take_while(|pair| pair[1].0.since(pair[0].0) < NEAR)
                .count()
                + 1;
            let (block, after) = rest.split_at(count);
            let length = block[count - 1].0.since(*first) + N as u64;
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            self.read(*first, &mut bytes)?;
            for (address, piece) in block {
                let at = usize::try_from(address.since(*first)).unwrap_or(0);
                bytes[at..at + N].copy_from_slice(piece);
            }
            self.write(*first, &bytes)?;
            rest = after;
        }
        Ok(())
    }

    /// A process that has given up its memory reads as empty: it is about to be
    /// reported as ended.
    fn failed(
        &self,
        operation: &'static str,
        address: Address,
        length: usize,
        source: io::Error,
    ) -> TraceeError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => TraceeError::Gone {
                operation,
                pid: self.pid,
            },
            _ => TraceeError::Memory {
                operation,
                address: address.0,
                length,
                pid: self.pid,
                source,
            },
        }
    }
}
