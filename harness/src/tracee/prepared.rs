//! What is made ready for updates in a process that takes many, one after the other.

use super::apply::{place_image, place_switch};
use super::libraries::Libraries;
use super::maps::mappings;
use super::tree::Process;
use super::{Stopped, TraceeError};
use crate::patch::Patch;
use crate::state::memory::Mappings;

/// What was made ready for an update in a process that maps nothing more; its children
/// have the same.
#[derive(Debug)]
pub struct Prepared {
    /// The patch image as it lies there.
    pub image: Vec<u8>,
    /// Whether entry pads lead to it as soon as the process's switch is set.
    pub switch: bool,
    /// What is mapped.
    pub mappings: Mappings,
}

impl Prepared {
    /// Makes a process ready. The caller restores the registers.
    ///
    /// # Errors
    /// When the process is gone or its memory cannot be written.
    pub fn of(
        patch: &Patch,
        process: &Process,
        stopped: &Stopped,
        libraries: &mut Libraries,
    ) -> Result<Self, TraceeError> {
        Ok(Self {
            image: place_image(patch, process, stopped, libraries)?,
            switch: place_switch(patch, &process.memory)?,
            mappings: mappings(process.pid),
        })
    }
}
