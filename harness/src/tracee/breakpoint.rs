//! Breakpoints in old code: they tell when an old frame of a changed function
//! runs on after the update, and when it returns.

use std::collections::HashMap;

use super::{Memory, TraceeError};
use crate::binary::Address;

const INT3: [u8; 1] = [0xcc];

/// The breakpoints of one process; a forked child inherits a copy with its memory.
#[derive(Clone, Debug, Default)]
pub struct Breakpoints {
    original: HashMap<Address, u8>,
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
        Ok(())
    }

    /// Takes a breakpoint away.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn clear(&mut self, memory: &Memory, address: Address) -> Result<(), TraceeError> {
        match self.original.remove(&address) {
            Some(byte) => memory.write(address, &[byte]),
            None => Ok(()),
        }
    }

    /// Takes all breakpoints away.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn clear_all(&mut self, memory: &Memory) -> Result<(), TraceeError> {
        self.original
            .drain()
            .try_for_each(|(address, byte)| memory.write(address, &[byte]))
    }

    /// Whether one is set there.
    #[must_use]
    pub fn contains(&self, address: Address) -> bool {
        self.original.contains_key(&address)
    }
}
