//! Memory of a traced process, read and written through `/proc/PID/mem`, also
//! while it runs and where its own pages are read-only.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileExt;

use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;

use super::TraceeError;
use crate::binary::Address;

/// Most pieces that the system takes in one call (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

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

    /// Fills pieces from where they lie: one call for many, where the system allows it.
    ///
    /// # Errors
    /// When any of it is not mapped.
    pub fn read_pieces(&self, pieces: &mut [(Address, &mut [u8])]) -> Result<(), TraceeError> {
        for pieces in pieces.chunks_mut(MOST_PIECES) {
            let wanted: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
            let there: Vec<_> = pieces.iter().map(|(at, p)| remote(*at, p.len())).collect();
            let mut here: Vec<_> = pieces
                .iter_mut()
                .map(|(_, piece)| IoSliceMut::new(piece))
                .collect();
            if process_vm_readv(self.pid, &mut here, &there) == Ok(wanted) {
                continue;
            }
            for (address, piece) in pieces {
                self.read(*address, piece)?;
            }
        }
        Ok(())
    }

    /// Writes pieces to where they lie; much faster than one by one where the process
    /// may write all of it itself.
    ///
    /// # Errors
    /// When any of it is not mapped.
    pub fn write_pieces(&self, pieces: &[(Address, &[u8])]) -> Result<(), TraceeError> {
        for pieces in pieces.chunks(MOST_PIECES) {
            let wanted: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
            let there: Vec<_> = pieces.iter().map(|(at, p)| remote(*at, p.len())).collect();
            let here: Vec<_> = pieces.iter().map(|(_, p)| IoSlice::new(p)).collect();
            if process_vm_writev(self.pid, &here, &there) == Ok(wanted) {
                continue;
            }
            for (address, piece) in pieces {
                self.write(*address, piece)?;
            }
        }
        Ok(())
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

fn remote(at: Address, len: usize) -> RemoteIoVec {
    RemoteIoVec {
        base: usize::try_from(at.0).unwrap_or(usize::MAX),
        len,
    }
}
