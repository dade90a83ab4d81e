//! Descriptors of each process, by the lowest free number as the kernel gives it, and
//! the open files behind them, which processes may share.

use crate::identity::OPEN_FILES;
use crate::own;
use crate::raw;
use crate::world::{Declined, World};

/// Most descriptors of the server.
pub const MOST_DESCRIPTORS: usize = 1024;
/// Most open files behind them.
pub const MOST_DESCRIPTIONS: usize = 128;
/// Most readiness sets.
pub const MOST_EPOLLS: usize = 4;
/// Most descriptors of one of them.
pub const MOST_INTERESTS: usize = 64;
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
    /// One of a pair of connected sockets; the channels that it reads and writes.
    Pair,
    /// A folder that the session made; its inode.
    NewFolder,
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

/// All of it.
#[repr(C)]
pub struct Descriptors {
    /// Open files.
    pub descriptions: [Description; MOST_DESCRIPTIONS],
    /// Readiness sets.
    pub epolls: [Epoll; MOST_EPOLLS],
}

impl World {
    /// The open file of a descriptor of the process that asks, and its number.
    #[must_use]
    pub fn find(&self, descriptor: u64) -> Option<(usize, Description)> {
        let slot = self.me().slots.get(descriptor as u32 as usize)?;
        let index = usize::from(slot.description).checked_sub(1)?;
        Some((index, *self.descriptors.descriptions.get(index)?))
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
        let mut all = self.descriptors.descriptions.iter();
        let Some(index) = all.position(|d| d.kind == Kind::None) else {
            return Err(Declined("too many open files"));
        };
        let number = self.give(index, 0, close_on_exec);
        if number >= 0 {
            self.descriptors.descriptions[index] = Description {
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
        let most = self.me().limit(OPEN_FILES).unwrap_or(u64::MAX);
        let slots = &mut self.me_mut().slots;
        let mut free = slots.iter().skip(least);
        let Some(number) = free.position(|slot| slot.description == 0) else {
            return EMFILE;
        };
        let number = number + least;
        if number as u64 >= most {
            return EMFILE;
        }
        slots[number] = Slot {
            description: index as u16 + 1,
            close_on_exec: u16::from(close_on_exec),
        };
        number as i64
    }

    /// Closes a descriptor.
    pub fn close(&mut self, descriptor: u64) -> i64 {
        let Some((index, found)) = self.find(descriptor) else {
            return EBADF;
        };
        self.me_mut().slots[descriptor as u32 as usize].description = 0;
        if found.kind == Kind::File {
            // Whatever it held locked, it does no more.
            self.files.unlock(found.object as usize, own::number());
        }
        self.release(index);
        0
    }

    /// One descriptor less stands for an open file.
    pub fn release(&mut self, index: usize) {
        let description = &mut self.descriptors.descriptions[index];
        description.references -= 1;
        if description.references > 0 {
            return;
        }
        let Description { kind, object, .. } = *description;
        description.kind = Kind::None;
        let object = object as usize;
        match kind {
            Kind::File | Kind::NewFolder => self.files.release(object),
            Kind::Socket => self.network.close(object),
            Kind::Epoll => self.descriptors.epolls[object].used = 0,
            Kind::PipeReader => {
                self.channels[object].readers -= 1;
            }
            Kind::PipeWriter => self.channels[object].writers -= 1,
            Kind::Pair => {
                self.close_pair(object);
                self.drop_passed(object & 0xff);
            }
            _ => {}
        }
        let epolls = &mut self.descriptors.epolls;
        for epoll in epolls.iter_mut().filter(|epoll| epoll.used != 0) {
            epoll.forget(index as u32);
        }
    }

    /// Closes everything, as the end of a process does.
    pub fn close_all(&mut self) {
        for descriptor in 0..MOST_DESCRIPTORS as u64 {
            if self.me().slots[descriptor as usize].description != 0 {
                self.close(descriptor);
            }
        }
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
