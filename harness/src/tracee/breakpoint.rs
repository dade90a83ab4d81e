//! Breakpoints in old code: they tell when an old frame of a changed function
//! runs on after the update, and when it returns.

use std::collections::{HashMap, HashSet};

use super::{Memory, TraceeError};
use crate::binary::Address;

const INT3: [u8; 1] = [0xcc];

/// The breakpoints of one process; a forked child inherits a copy with its memory.
#[derive(Clone, Debug, Default)]
pub struct Breakpoints {
    original: HashMap<Address, u8>,
    /// Where one was and is no more: a thread that had reached it before it was taken
    /// away reports it afterwards.
    past: HashSet<Address>,
}

impl Breakpoints {
    /// Sets a breakpoint.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn set(&mut self, memory: &Memory, address: Address) -> Result<(), TraceeError> {
        if self.original.contains_key(&address) {
            return Ok(());
        }
        let mut byte = [0];
        memory.read(address, &mut byte)?;
        memory.write(address, &INT3)?;
        self.original.insert(address, byte[0]);
        self.past.remove(&address);
        Ok(())
    }

    /// Takes a breakpoint away.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn clear(&mut self, memory: &Memory, address: Address) -> Result<(), TraceeError> {
        match self.original.remove(&address) {
            Some(byte) => {
                self.past.insert(address);
                memory.write(address, &[byte])
            }
            None => Ok(()),
        }
    }

    /// Takes all breakpoints away.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn clear_all(&mut self, memory: &Memory) -> Result<(), TraceeError> {
        let all: Vec<Address> = self.original.keys().copied().collect();
        all.into_iter()
            .try_for_each(|address| self.clear(memory, address))
    }

    /// Whether one is set there.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.original.contains_key(&address)
    }

    /// Whether a trap at `address` comes from a breakpoint that is no more there, and
    /// not from an instruction of the program's own.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn is_past(&self, memory: &Memory, address: Address) -> Result<bool, TraceeError> {
        if !self.past.contains(&address) {
            return Ok(false);
        }
        let mut byte = [0];
        memory.read(address, &mut byte)?;
        Ok(byte != INT3)
    }
}
