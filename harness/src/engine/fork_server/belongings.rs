//! What a started server has open, and how a copy of it gets the same without
//! sharing it: listening sockets, pipes, counters of events and epoll sets are made
//! anew in each copy. What files have of their own, position and status flags, stays
//! shared and is put back after each copy.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, Whence, lseek};

use super::epoll::Interest;
use super::unfit::{NoCopy, Unfit};
use crate::tracee::batch::Batch;
use crate::tracee::descriptors::{Descriptor, Source, of_process};
use crate::tracee::listener::{Listener, Unknown};

/// What a server has open.
#[derive(Debug, Default)]
pub struct Belongings {
    listeners: Vec<(Descriptor, Listener)>,
    pipes: Vec<(Descriptor, Descriptor)>,
    counters: Vec<Descriptor>,
    epolls: Vec<(Descriptor, Vec<Interest>)>,
    files: Vec<SharedFile>,
    /// Inodes of what is open, and of the folders that it is in.
    inodes: BTreeSet<u64>,
    /// Numbers in use, ascending.
    numbers: Vec<i32>,
}

/// An open file that all copies share.
#[derive(Debug)]
struct SharedFile {
    ours: OwnedFd,
    position: Option<i64>,
    flags: OFlag,
}

impl Belongings {
    /// Looks at what a stopped process has open.
    ///
    /// # Errors
    /// When something cannot be given to a copy.
    pub fn of(pid: Pid) -> Result<Self, NoCopy> {
        let all = of_process(pid).map_err(NoCopy::file("read", format!("/proc/{pid}/fd")))?;
        let source = Source::open(pid)?;
        let mut own = Self {
            numbers: all.iter().map(|descriptor| descriptor.number).collect(),
            ..Self::default()
        };
        let folders = ["cwd", "root"].map(|name| PathBuf::from(format!("/proc/{pid}/{name}")));
        let entries = all.iter().map(|descriptor| &descriptor.entry);
        let facts = entries.chain(&folders).flat_map(std::fs::metadata);
        own.inodes = facts.map(|facts| facts.ino()).collect();
        let mut pipe_ends: BTreeMap<u64, Vec<Descriptor>> = BTreeMap::new();
        for descriptor in &all {
            if descriptor
                .info
                .lines()
                .any(|line| line.starts_with("lock:"))
            {
                return Err(Unfit::Lock(descriptor.number).into());
            }
            if descriptor.flags & libc::O_ASYNC != 0 {
                return Err(shared(descriptor, "a source of signals"));
            }
            if descriptor.inode_of("socket").is_some() {
                let ours = source.duplicate(descriptor.number)?;
                let read = Listener::read(ours.as_fd());
                let listener = read.map_err(|unknown| no_listener(descriptor, unknown))?;
                own.listeners.push((descriptor.clone(), listener));
            } else if let Some(inode) = descriptor.inode_of("pipe") {
                pipe_ends.entry(inode).or_default().push(descriptor.clone());
            } else {
                match descriptor.target.as_str() {
                    "anon_inode:[eventpoll]" => {
                        let interests = Interest::all(descriptor, &all)?;
                        own.epolls.push((descriptor.clone(), interests));
                    }
                    "anon_inode:[eventfd]" => own.counters.push(descriptor.clone()),
                    // It has no state: reading takes the reader's own signals.
                    "anon_inode:[signalfd]" => {}
                    _ => own.files.extend(shared_file(descriptor, &source)?),
                }
            }
        }
        for ends in pipe_ends.into_values() {
            own.pipes.push(pipe(ends, &source)?);
        }
        Ok(own)
    }

    /// Lets the process that copies are made of go of its listening sockets, so that
    /// copies can have the ports; their numbers stay taken.
    #[must_use]
    pub fn let_go(&self) -> Vec<Batch> {
        let mut batches = vec![Batch::default()];
        for (descriptor, _) in &self.listeners {
            let batch = room(&mut batches, 3, 0);
            let free = self.free(0);
            let arguments = [word(libc::AF_UNIX), word(libc::SOCK_DGRAM), 0];
            batch.call_for("socket", libc::SYS_socket, &arguments, free.into());
            replace(batch, free, descriptor);
        }
        batches
    }

    /// Makes the calls by which a copy gets what it must not share.
    ///
    /// # Errors
    /// When one socket alone needs more than a batch holds.
    pub fn make(&self, batches: &mut Vec<Batch>) -> Result<(), Unfit> {
        let free = self.free(0);
        for (reading, writing) in &self.pipes {
            let batch = room(batches, 5, 8);
            let place = batch.data(&[0; 8]);
            let flags = reading.flags & (libc::O_NONBLOCK | libc::O_DIRECT);
            batch.call("pipe2 in a copy", libc::SYS_pipe2, &[place.0, word(flags)]);
            replace(batch, free, reading);
            replace(batch, self.free(1), writing);
        }
        for descriptor in &self.counters {
            let batch = room(batches, 3, 0);
            let count = descriptor.field("eventfd-count").unwrap_or("0");
            let count = u64::from_str_radix(count, 16).unwrap_or(0);
            let semaphore = descriptor.field("eventfd-semaphore") == Some("1");
            let flags = descriptor.flags & libc::O_NONBLOCK
                | if semaphore { libc::EFD_SEMAPHORE } else { 0 };
            let arguments = [count, word(flags)];
            batch.call_for(
                "eventfd2 in a copy",
                libc::SYS_eventfd2,
                &arguments,
                free.into(),
            );
            replace(batch, free, descriptor);
        }
        for (descriptor, listener) in &self.listeners {
            let (calls, bytes) = listener.room();
            if !Batch::default().has_room(calls, bytes) {
                return Err(Unfit::TooMuchOpen);
            }
            let batch = room(batches, calls, bytes);
            listener.make(batch, descriptor.number, descriptor.flags, free);
        }
        for (descriptor, interests) in &self.epolls {
            let batch = room(batches, 3, 0);
            batch.call_for(
                "epoll_create1 in a copy",
                libc::SYS_epoll_create1,
                &[0],
                free.into(),
            );
            for interest in interests {
                interest.add(room(batches, 1, Interest::LENGTH), free);
            }
            replace(room(batches, 2, 0), free, descriptor);
        }
        Ok(())
    }

    /// Puts position and status flags of all files as they were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn put_back(&self) -> nix::Result<()> {
        for file in &self.files {
            if let Some(position) = file.position
                && lseek(&file.ours, 0, Whence::SeekCur)? != position
            {
                lseek(&file.ours, position, Whence::SeekSet)?;
            }
            if status_flags(&file.ours)? != file.flags {
                fcntl(&file.ours, FcntlArg::F_SETFL(file.flags))?;
            }
        }
        Ok(())
    }

    /// Inodes that must stay what they are.
    #[must_use]
    pub const fn inodes(&self) -> &BTreeSet<u64> {
        &self.inodes
    }

    /// The `nth` lowest number that is not in use.
    fn free(&self, nth: usize) -> i32 {
        let mut free = (0..).filter(|number| self.numbers.binary_search(number).is_err());
        free.nth(nth).unwrap_or(i32::MAX)
    }
}

/// Gives what is open as `made` the number and the flag of a descriptor.
fn replace(batch: &mut Batch, made: i32, descriptor: &Descriptor) {
    let arguments = [
        word(made),
        word(descriptor.number),
        word(descriptor.close_on_exec()),
    ];
    batch.call("dup3 in a copy", libc::SYS_dup3, &arguments);
    batch.call("close in a copy", libc::SYS_close, &[word(made)]);
}

/// The batch at hand, or another one if it is full.
pub(super) fn room(batches: &mut Vec<Batch>, calls: usize, bytes: usize) -> &mut Batch {
    if batches
        .last()
        .is_none_or(|batch| !batch.has_room(calls, bytes))
    {
        batches.push(Batch::default());
    }
    let last = batches.len() - 1;
    &mut batches[last]
}

pub(super) fn word(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

fn shared(descriptor: &Descriptor, what: &str) -> NoCopy {
    Unfit::Descriptor {
        number: descriptor.number,
        what: what.to_owned(),
    }
    .into()
}

fn no_listener(descriptor: &Descriptor, unknown: Unknown) -> NoCopy {
    match unknown {
        Unknown::Kind => shared(descriptor, "a socket that is no listening TCP socket"),
        Unknown::Client => shared(descriptor, "a listening socket at which a client waits"),
        Unknown::Option(level, option) => Unfit::ListenerOption {
            number: descriptor.number,
            level,
            option,
        }
        .into(),
        Unknown::System(errno) => shared(descriptor, &format!("a socket ({errno})")),
    }
}

/// A pipe whose two ends are the server's own, and empty.
fn pipe(ends: Vec<Descriptor>, source: &Source) -> Result<(Descriptor, Descriptor), NoCopy> {
    let alone = shared(&ends[0], "a pipe whose other end is not its own");
    let Ok([one, other]) = <[Descriptor; 2]>::try_from(ends) else {
        return Err(alone);
    };
    let is_reading = |end: &Descriptor| end.flags & libc::O_ACCMODE == libc::O_RDONLY;
    let (reading, writing) = match (is_reading(&one), is_reading(&other)) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        _ => return Err(alone),
    };
    if (reading.flags ^ writing.flags) & (libc::O_NONBLOCK | libc::O_DIRECT) != 0 {
        return Err(shared(&reading, "a pipe with two kinds of ends"));
    }
    let ours = source.duplicate(reading.number)?;
    let mut waiting = [nix::poll::PollFd::new(
        ours.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    if nix::poll::poll(&mut waiting, 0_u8) != Ok(0) {
        return Err(shared(&reading, "a pipe that is not empty"));
    }
    Ok((reading, writing))
}

/// What is left: files of a file system. Devices have no state.
fn shared_file(descriptor: &Descriptor, source: &Source) -> Result<Option<SharedFile>, NoCopy> {
    let unknown = || shared(descriptor, &descriptor.target);
    if !descriptor.target.starts_with('/') || descriptor.target.starts_with("/memfd:") {
        return Err(unknown());
    }
    let facts = std::fs::metadata(&descriptor.entry).map_err(|_| unknown())?;
    let kind = facts.file_type();
    if kind.is_char_device() {
        return Ok(None);
    }
    if !kind.is_file() && !kind.is_dir() {
        return Err(unknown());
    }
    if facts.nlink() == 0 {
        return Err(shared(descriptor, "a file that was removed"));
    }
    let ours = source.duplicate(descriptor.number)?;
    let refused = |errno: Errno| shared(descriptor, &format!("a file ({errno})"));
    Ok(Some(SharedFile {
        position: lseek(&ours, 0, Whence::SeekCur).ok(),
        flags: status_flags(&ours).map_err(refused)?,
        ours,
    }))
}

fn status_flags(file: &OwnedFd) -> nix::Result<OFlag> {
    fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_retain)
}
