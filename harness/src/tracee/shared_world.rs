//! The memory of a simulated world: the server's processes share it with Kairos, which
//! looks at it, copies what of it is in use, and puts that back.

use std::mem::take;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use kairos_simulator::cache::Cached;
use kairos_simulator::layout;
use kairos_simulator::marks::Noted;
use kairos_simulator::parts;
use kairos_simulator::transcript::Transcript;
use kairos_simulator::world::{Told, World};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{Pid, ftruncate};

use super::TraceeError;
use super::digest::Digest;
use crate::binary::Address;

// The simulator runs on 64-bit machines alone.
#[allow(clippy::cast_possible_truncation)]
const LENGTH: usize = layout::SHARED_LENGTH as usize;

/// The memory, mapped into Kairos. The server's processes must stand still whenever it
/// is looked at.
#[derive(Debug)]
pub struct SharedWorld {
    memory: OwnedFd,
    base: NonNull<u8>,
}

impl SharedWorld {
    /// An empty world.
    ///
    /// # Errors
    /// When the machine has no memory for it.
    pub fn new() -> Result<Self, TraceeError> {
        let own = Pid::this();
        let memory = memfd_create("kairos-world", MFdFlags::MFD_CLOEXEC)
            .map_err(TraceeError::from_errno("memfd_create", own))?;
        ftruncate(&memory, layout::SHARED_LENGTH.cast_signed())
            .map_err(TraceeError::from_errno("ftruncate", own))?;
        let protection =
            nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE;
        let length = std::num::NonZeroUsize::new(LENGTH).unwrap_or(std::num::NonZeroUsize::MIN);
        // SAFETY: a new mapping of memory that is ours, undone when this is dropped.
        let base = unsafe {
            nix::sys::mman::mmap(
                None,
                length,
                protection,
                nix::sys::mman::MapFlags::MAP_SHARED,
                &memory,
                0,
            )
        }
        .map_err(TraceeError::from_errno("mmap", own))?;
        Ok(Self {
            memory,
            base: base.cast(),
        })
    }

    /// The memory, for a server to inherit.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The state.
    #[must_use]
    pub fn world(&self) -> &World {
        // SAFETY: zeroed at first, which is a valid state, and written by the simulator
        // alone, which stores valid values; nothing of the server runs meanwhile.
        unsafe { self.base.cast::<World>().as_ref() }
    }

    /// The state, to be changed.
    pub fn world_mut(&mut self) -> &mut World {
        // SAFETY: as above.
        unsafe { self.base.cast::<World>().as_mut() }
    }

    /// Bytes that the server knows by their address; none where they are not all in
    /// this memory.
    #[must_use]
    pub fn bytes(&self, address: Address, length: usize) -> Option<&[u8]> {
        let start = usize::try_from(address.0.checked_sub(layout::SHARED)?).ok()?;
        let end = start.checked_add(length)?;
        if end > LENGTH {
            return None;
        }
        // SAFETY: within the mapping; nothing of the server runs meanwhile.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(start), length) })
    }

    /// A digest of everything in use that what follows can depend on: what the client
    /// has received, which old frames ran, and what harness and simulator tell each
    /// other, are none of it.
    #[must_use]
    pub fn digest(&mut self) -> Digest {
        let world = self.world_mut();
        let told = world.control.told();
        let count = world.known().len();
        let armed = world.processes[..count]
            .iter_mut()
            .map(|process| (take(&mut process.armed_in), take(&mut process.armed)));
        let armed: Vec<_> = armed.collect();
        world.control.tell(Told::NOTHING);
        let noted = world.noted;
        world.noted = Noted::NOTHING;
        let mut digest = Digest::default();
        let transcript = std::mem::offset_of!(World, transcript);
        let received = transcript..transcript + size_of::<Transcript>();
        parts::each(self.world(), &mut |start, length| {
            if received.contains(&start) {
                return;
            }
            let address = layout::SHARED + start as u64;
            if let Some(part) = self.bytes(Address(address), length) {
                digest.add(address, part);
            }
        });
        let world = self.world_mut();
        world.control.tell(told);
        world.noted = noted;
        for (process, armed) in world.processes.iter_mut().zip(armed) {
            (process.armed_in, process.armed) = armed;
        }
        digest
    }

    /// A file as it was before the session, which the server knows by its address; none
    /// if it is not all in this memory.
    #[must_use]
    pub fn cached(&self, address: Address) -> Option<&Cached> {
        let bytes = self.bytes(address, size_of::<Cached>())?;
        #[allow(clippy::cast_ptr_alignment)] // asked right below
        let place = bytes.as_ptr().cast::<Cached>();
        // SAFETY: within the mapping, where the simulator keeps such records.
        place.is_aligned().then(|| unsafe { &*place })
    }
}

impl Drop for SharedWorld {
    fn drop(&mut self) {
        // SAFETY: what was mapped; nothing refers to it any more.
        let _ = unsafe { nix::sys::mman::munmap(self.base.cast(), LENGTH) };
    }
}

/// What was in use of a world at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    parts: Vec<(usize, usize)>,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Takes the world as it is.
    pub fn take(&mut self, shared: &SharedWorld) {
        self.parts.clear();
        self.bytes.clear();
        let Self { parts, bytes } = self;
        parts::each(shared.world(), &mut |start, length| {
            // A server may have written anywhere.
            if start.checked_add(length).is_none_or(|end| end > LENGTH) {
                return;
            }
            // SAFETY: parts lie within the mapping.
            let part =
                unsafe { std::slice::from_raw_parts(shared.base.as_ptr().add(start), length) };
            parts.push((start, length));
            bytes.extend_from_slice(part);
        });
    }

    /// Puts the world back to how it was.
    pub fn put_back(&self, shared: &mut SharedWorld) {
        let mut from = 0;
        for (start, length) in &self.parts {
            let part = &self.bytes[from..from + length];
            // SAFETY: parts lie within the mapping, and nobody else looks.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    part.as_ptr(),
                    shared.base.as_ptr().add(*start),
                    *length,
                );
            }
            from += length;
        }
    }
}
