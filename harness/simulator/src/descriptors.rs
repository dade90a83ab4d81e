//! The descriptor table: the lowest free number, as the kernel gives it.

use crate::files::Files;
use crate::layout;
use crate::network::Network;
use crate::raw;
use crate::world::Declined;

/// Most descriptors of the server.
pub const MOST_DESCRIPTORS: usize = 1024;
/// Most open files behind them.
pub const MOST_DESCRIPTIONS: usize = 128;
/// Most readiness sets.
pub const MOST_EPOLLS: usize = 4;
/// Most descriptors of one of them.
pub const MOST_INTERESTS: usize = 64;
/// Most pipes.
pub const MOST_PIPES: usize = 4;
/// Bytes that a pipe holds.
pub const PIPE_CAPACITY: usize = 4096;

/// Bad descriptor.
pub const EBADF: i64 = -9;
/// Too many of them.
pub const EMFILE: i64 = -24;
/// The flag that makes calls answer at once.
pub const O_NONBLOCK: u32 = 0o4000;

/// What is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing.
    None,
    /// A file; its inode.
    File,
    /// A folder; its entry in the cache of files.
    Folder,
    /// A socket.
    Socket,
    /// A readiness set.
    Epoll,
    /// The reading end of a pipe.
    PipeReader,
    /// The writing end of a pipe.
    PipeWriter,
    /// `/dev/null`.
    Null,
    /// `/dev/zero`.
    Zero,
    /// `/dev/urandom`.
    Random,
}

/// An open file, which several descriptors may share.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Description {
    /// What it is.
    pub kind: Kind,
    /// Descriptors that stand for it.
    pub references: u16,
    /// Flags of `open` and `F_SETFL`.
    pub flags: u32,
    /// Which one of its kind.
    pub object: u32,
    /// Where reading and writing goes on.
    pub offset: u64,
}

/// A descriptor.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Slot {
    /// Its open file, counted from 1; 0 if the number is free.
    pub description: u16,
    /// Whether `execve` closes it.
    pub close_on_exec: u16,
}

/// One entry of a readiness set.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Interest {
    /// Its descriptor.
    pub descriptor: i32,
    /// Its open file, from 0.
    pub description: u32,
    /// Events asked for.
    pub events: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// What is handed back.
    pub data: u64,
}

/// A readiness set.
#[repr(C)]
pub struct Epoll {
    /// Whether it exists.
    pub used: u32,
    /// Its size.
    pub count: u32,
    /// What it holds.
    pub interests: [Interest; MOST_INTERESTS],
}

/// A pipe within the server.
#[repr(C)]
pub struct Pipe {
    /// Ends that are open.
    pub readers: u16,
    /// Ends that are open.
    pub writers: u16,
    /// Bytes in it.
    pub length: u32,
    /// The bytes.
    pub bytes: [u8; PIPE_CAPACITY],
}

/// A set of open files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Held {
    bits: [u64; MOST_DESCRIPTIONS / 64],
}

impl Held {
    /// Whether an open file belongs to it.
    #[must_use]
    pub const fn has(&self, index: usize) -> bool {
        self.bits[index / 64] >> (index % 64) & 1 != 0
    }

    /// Adds one.
    pub const fn add(&mut self, index: usize) {
        self.bits[index / 64] |= 1 << (index % 64);
    }

    /// Takes one away.
    pub const fn remove(&mut self, index: usize) {
        self.bits[index / 64] &= !(1 << (index % 64));
    }

    /// Takes the first one away, if there is any.
    pub fn take_one(&mut self) -> Option<usize> {
        let word = self.bits.iter().position(|word| *word != 0)?;
        let index = 64 * word + self.bits[word].trailing_zeros() as usize;
        self.remove(index);
        Some(index)
    }
}

/// All of it.
#[repr(C)]
pub struct Descriptors {
    /// In a child: the open files that it shares with its parent.
    pub inherited: Held,
    /// In a child: those that it has closed since it was last asked.
    pub let_go: Held,
    /// Open files.
    pub descriptions: [Description; MOST_DESCRIPTIONS],
    /// Descriptors.
    pub slots: [Slot; MOST_DESCRIPTORS],
    /// Readiness sets.
    pub epolls: [Epoll; MOST_EPOLLS],
    /// Pipes.
    pub pipes: [Pipe; MOST_PIPES],
}

impl Descriptors {
    /// The open file of a descriptor, and its number.
    #[must_use]
    pub fn find(&self, descriptor: u64) -> Option<(usize, Description)> {
        let slot = self.slots.get(descriptor as u32 as usize)?;
        let index = usize::from(slot.description).checked_sub(1)?;
        Some((index, *self.descriptions.get(index)?))
    }

    /// The kind and object of a descriptor.
    #[must_use]
    pub fn object(&self, descriptor: u64) -> Option<(Kind, usize)> {
        let (_, found) = self.find(descriptor)?;
        Some((found.kind, found.object as usize))
    }

    /// Opens something under the lowest free number.
    ///
    /// # Errors
    /// When more is open than is simulated.
    pub fn open(
        &mut self,
        kind: Kind,
        object: usize,
        flags: u32,
        close_on_exec: bool,
    ) -> Result<i64, Declined> {
        let free = self.descriptions.iter().position(|d| d.kind == Kind::None);
        let Some(index) = free else {
            return Err(Declined("too many open files"));
        };
        let number = self.give(index, 0, close_on_exec);
        if number >= 0 {
            self.descriptions[index] = Description {
                kind,
                references: 1,
                flags,
                object: object as u32,
                offset: 0,
            };
        }
        Ok(number)
    }

    /// Another number, from `least` on, for the open file `index`; the caller counts it.
    pub fn give(&mut self, index: usize, least: usize, close_on_exec: bool) -> i64 {
        let free = self
            .slots
            .iter()
            .skip(least)
            .position(|slot| slot.description == 0);
        let Some(number) = free.map(|free| free + least) else {
            return EMFILE;
        };
        self.slots[number] = Slot {
            description: index as u16 + 1,
            close_on_exec: u16::from(close_on_exec),
        };
        number as i64
    }

    /// Closes a descriptor.
    pub fn close(&mut self, descriptor: u64, network: &mut Network, files: &mut Files) -> i64 {
        let Some((index, _)) = self.find(descriptor) else {
            return EBADF;
        };
        self.slots[descriptor as u32 as usize].description = 0;
        self.release(index, network, files);
        0
    }

    /// Somebody does not use an open file any more; the last one closes it.
    pub fn release(&mut self, index: usize, network: &mut Network, files: &mut Files) {
        let description = &mut self.descriptions[index];
        description.references -= 1;
        if description.references > 0 {
            return;
        }
        if self.inherited.has(index) {
            // Its parent has it open still.
            self.inherited.remove(index);
            self.let_go.add(index);
            return;
        }
        let Description { kind, object, .. } = *description;
        description.kind = Kind::None;
        let object = object as usize;
        match kind {
            Kind::File => files.release(object),
            Kind::Socket => network.close(object),
            Kind::Epoll => self.epolls[object].used = 0,
            Kind::PipeReader => self.pipes[object].readers -= 1,
            Kind::PipeWriter => self.pipes[object].writers -= 1,
            _ => {}
        }
        for epoll in self.epolls.iter_mut().filter(|epoll| epoll.used != 0) {
            epoll.forget(index as u32);
        }
    }

    /// Counts a child as a user of everything that is open.
    pub fn hold_all(&mut self) -> Held {
        let mut held = Held::default();
        for (index, description) in self.descriptions.iter_mut().enumerate() {
            if description.kind != Kind::None {
                description.references += 1;
                held.add(index);
            }
        }
        held
    }

    /// In a child: what is open is used by its own descriptors alone, and shared.
    pub fn inherit(&mut self) {
        (self.inherited, self.let_go) = (Held::default(), Held::default());
        for (index, description) in self.descriptions.iter_mut().enumerate() {
            let of = |slot: &&Slot| usize::from(slot.description) == index + 1;
            description.references = self.slots.iter().filter(of).count() as u16;
            if description.references > 0 {
                self.inherited.add(index);
            }
        }
    }

    /// Closes everything, as the end of the server does.
    pub fn close_all(&mut self, network: &mut Network, files: &mut Files) {
        for descriptor in 0..MOST_DESCRIPTORS as u64 {
            self.close(descriptor, network, files);
        }
    }

    /// A new pipe.
    ///
    /// # Errors
    /// When there are too many.
    pub fn pipe(&mut self, flags: u32) -> Result<[i32; 2], Declined> {
        let free = self
            .pipes
            .iter()
            .position(|p| p.readers == 0 && p.writers == 0);
        let Some(at) = free else {
            return Err(Declined("too many pipes"));
        };
        self.pipes[at].readers = 1;
        self.pipes[at].writers = 1;
        self.pipes[at].length = 0;
        let close_on_exec = flags & 0o2_000_000 != 0;
        let reader = self.open(Kind::PipeReader, at, flags & O_NONBLOCK, close_on_exec)?;
        let writer = self.open(Kind::PipeWriter, at, 1 | flags & O_NONBLOCK, close_on_exec)?;
        Ok([reader as i32, writer as i32])
    }
}

impl Epoll {
    fn forget(&mut self, description: u32) {
        let mut at = 0;
        while at < self.count as usize {
            if self.interests[at].description == description {
                self.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn remove(&mut self, at: usize) {
        self.count -= 1;
        for later in at..self.count as usize {
            self.interests[later] = self.interests[later + 1];
        }
    }

    /// `epoll_ctl`.
    ///
    /// # Errors
    /// When it asks for what is not simulated.
    pub fn control(
        &mut self,
        operation: u64,
        descriptor: i32,
        description: u32,
        event: u64,
    ) -> Result<i64, Declined> {
        const EDGE_OR_ONCE: u32 = 1 << 31 | 1 << 30;
        let known = self.interests[..self.count as usize]
            .iter()
            .position(|i| i.descriptor == descriptor && i.description == description);
        if operation == 2 {
            return Ok(match known {
                Some(at) => {
                    self.remove(at);
                    0
                }
                None => -2,
            });
        }
        // SAFETY: the server's own structure, twelve bytes.
        let (events, data) = unsafe { (raw::load::<u32>(event), raw::load::<u64>(event + 4)) };
        if events & EDGE_OR_ONCE != 0 {
            return Err(Declined("epoll_ctl(2) with EPOLLET or EPOLLONESHOT"));
        }
        let at = match (operation, known) {
            (1, Some(_)) => return Ok(-17),
            (1, None) if self.count as usize == MOST_INTERESTS => {
                return Err(Declined("too many descriptors in epoll"));
            }
            (1, None) => {
                self.count += 1;
                self.count as usize - 1
            }
            (_, Some(at)) => at,
            (_, None) => return Ok(-2),
        };
        self.interests[at] = Interest {
            descriptor,
            description,
            events,
            unused: 0,
            data,
        };
        Ok(0)
    }
}

const _: () =
    assert!(core::mem::size_of::<crate::world::World>() as u64 <= layout::ARENA - layout::WORLD);
