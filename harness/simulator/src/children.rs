//! Child processes that do their work and end: each is a real copy of the server, which
//! the harness lets run to its end while the server stands in its `fork`. All that
//! such a child leaves behind are effects on what it shares: bytes written, ends
//! closed, its own end. They are kept in a queue and happen one after the other when
//! the server waits, as if the child ran then, beside it on one processor.

use core::arch::asm;

use crate::descriptors::{Held, Kind};
use crate::layout::NEVER;
use crate::numbers::ECHILD;
use crate::raw;
use crate::transfer;
use crate::waiting::{EINTR, MOST_LOOKS, Wait, Woken, trap, wait};
use crate::world::{Answer, Declined, Reason, World};

/// Most children that were not waited for.
pub const MOST_CHILDREN: usize = 16;
/// Most effects that have not happened yet.
pub const MOST_EFFECTS: usize = 256;
/// Bytes of what they write.
pub const MOST_BYTES: usize = 32 << 10;

const GETPID: i64 = 39;
const CLONE: i64 = 56;
const SIGCHLD: u32 = 17;

/// What an effect is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum What {
    /// Bytes are written to an open file.
    Written,
    /// The child has closed an open file.
    Closed,
    /// The child has ended; `status` tells how.
    Ended,
}

/// Something that a child did to what it shares with its parent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Effect {
    /// What.
    pub what: What,
    /// The open file, from 0; of an end the child's place.
    pub object: u32,
    /// How many bytes were written.
    pub length: u32,
    /// Its status, as `wait4` reports it.
    pub status: i32,
}

/// Where a child stands, as its parent sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Standing {
    /// There is none.
    None,
    /// It has effects that have not happened yet.
    Runs,
    /// It has ended and was not waited for.
    Ended,
}

/// A child.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Child {
    /// Where it stands.
    pub standing: Standing,
    /// Its process number, as the server sees it.
    pub number: u32,
    /// Its status, as `wait4` reports it.
    pub status: i32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// Open files that it still shares.
    pub holds: Held,
}

/// All of it.
#[repr(C)]
pub struct Children {
    /// In a child: its own process number, as it sees it; else 0.
    pub own: u32,
    /// In a child: its parent's number.
    pub parent: u32,
    /// Children that were ever made.
    pub born: u32,
    /// Effects in the queue.
    pub count: u32,
    /// Those that have happened.
    pub done: u32,
    /// Bytes of the queue's that are used.
    pub bytes_count: u32,
    /// Those that were written.
    pub bytes_done: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// The children.
    pub children: [Child; MOST_CHILDREN],
    /// The queue; in a child what it did.
    pub effects: [Effect; MOST_EFFECTS],
    /// What they write, one after the other.
    pub bytes: [u8; MOST_BYTES],
}

impl Children {
    /// Whether this is the world of a child.
    #[must_use]
    pub const fn is_child(&self) -> bool {
        self.own != 0
    }

    /// Adds an effect.
    ///
    /// # Errors
    /// When there is no room.
    pub fn push(&mut self, effect: Effect, bytes: &[u8]) -> Result<(), Declined> {
        let full = Declined("a child process that does too much");
        let (at, from) = (self.count as usize, self.bytes_count as usize);
        let room = self.bytes.get_mut(from..from + bytes.len()).ok_or(full)?;
        room.copy_from_slice(bytes);
        *self.effects.get_mut(at).ok_or(full)? = effect;
        self.count += 1;
        self.bytes_count += bytes.len() as u32;
        Ok(())
    }

    /// Takes a child that has run to its end: all that it did is about to happen.
    ///
    /// # Errors
    /// When there is no room.
    pub fn take(&mut self, did: &Self, status: i32) -> Result<(), Declined> {
        let number = did.own;
        let place = self.children.iter().position(|c| c.number == number);
        let place = place.ok_or(Declined("a child process of nobody"))?;
        let mut from = 0;
        for effect in &did.effects[..did.count as usize] {
            let to = from + effect.length as usize;
            self.push(*effect, &did.bytes[from..to])?;
            from = to;
        }
        self.push(
            Effect {
                what: What::Ended,
                object: place as u32,
                length: 0,
                status,
            },
            &[],
        )
    }
}

/// Makes a child. Both go on from here; the harness lets the child run to its end
/// before the server does.
///
/// # Errors
/// When it is no plain child, or something about it is not simulated.
pub fn fork(world: &mut World, flags: u64, stack: u64, place: u64) -> Answer {
    const CLEAR_NUMBER: u64 = 0x0020_0000;
    const SET_NUMBER: u64 = 0x0100_0000;
    if flags & !(CLEAR_NUMBER | SET_NUMBER) != u64::from(SIGCHLD) || stack != 0 {
        return Err(Declined("clone(2) of a thread or with unusual flags"));
    }
    if world.control.sealed == 0 {
        return Err(Declined("fork(2) before it was ready"));
    }
    if world.children.is_child() {
        return Err(Declined("fork(2) in a child process"));
    }
    let free = |c: &Child| c.standing == Standing::None;
    let at = world.children.children.iter().position(free);
    let at = at.ok_or(Declined("too many child processes"))?;
    // SAFETY: a question.
    let own = unsafe { raw::call(GETPID, [0; 6]) } as u32;
    world.children.born += 1;
    let number = own + world.children.born;
    world.children.children[at] = Child {
        standing: Standing::Runs,
        number,
        status: 0,
        unused: 0,
        holds: world.descriptors.hold_all(),
    };
    let answer = copy(world);
    if answer < 0 {
        return Err(Declined("a fork(2) that the kernel refuses"));
    }
    if answer > 0 {
        return Ok(i64::from(number));
    }
    become_child(world, own, number);
    if flags & SET_NUMBER != 0 {
        // SAFETY: the server's own place.
        unsafe { raw::store(place, number) };
    }
    Ok(0)
}

/// Copies the process: a child of the harness, which sees it first.
fn copy(world: &mut World) -> i64 {
    const AS_SIBLING: u64 = 0x8000;
    let answer: i64;
    // The pointer goes in, so that the world counts as changed by what the child did.
    // SAFETY: the copy has its own memory.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") CLONE => answer,
            in("rdi") AS_SIBLING | u64::from(SIGCHLD), in("rsi") 0, in("rdx") 0,
            in("r10") 0, in("r8") 0, in("r9") &raw mut *world,
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

fn become_child(world: &mut World, parent: u32, number: u32) {
    world.descriptors.inherit();
    world.signals.pending = 0;
    (world.control.alarm, world.control.arm_count) = (0, NEVER);
    let children = &mut world.children;
    (children.own, children.parent) = (number, parent);
    (children.count, children.done) = (0, 0);
    (children.bytes_count, children.bytes_done) = (0, 0);
    for child in &mut children.children {
        child.standing = Standing::None;
    }
}

/// Stops for good: the child has ended.
pub fn end(world: &mut World, status: i32) -> ! {
    loop {
        trap(world, Reason::ChildEnded, i64::from(status), 0);
    }
}

/// What a child may not do, because it would have to happen in its parent's world
/// beside what the parent does.
///
/// # Errors
/// When the call is such a thing.
pub fn check(world: &World, number: i64, a: [u64; 6]) -> Result<(), Declined> {
    let shares = |descriptor: u64| {
        let found = world.descriptors.find(descriptor);
        found.is_some_and(|(index, found)| {
            let stateless = matches!(found.kind, Kind::Null | Kind::Zero | Kind::Random);
            world.descriptors.inherited.has(index) && !stateless
        })
    };
    let consumes = match number {
        // read, lseek, pread64, readv, getdents64, accept, recv, shutdown
        0 | 8 | 17 | 19 | 217 | 43 | 288 | 45 | 47 | 48 => shares(a[0]),
        40 => shares(a[1]),
        // fcntl with F_SETFL, ioctl with FIONBIO
        72 => a[1] == 4 && shares(a[0]),
        16 => a[1] == 0x5421 && shares(a[0]),
        // epoll_ctl
        233 => shares(a[0]),
        _ => false,
    };
    if consumes {
        return Err(Declined(
            "a child process that takes what its parent shares",
        ));
    }
    if matches!(
        number,
        18 | 76 | 77 | 82 | 85 | 87 | 90 | 91 | 263 | 264 | 316
    ) {
        return Err(Declined("a child process that changes files"));
    }
    Ok(())
}

/// Notes what a child has closed since it was last asked.
///
/// # Errors
/// When there is no room.
pub fn note_closed(world: &mut World) -> Result<(), Declined> {
    while let Some(object) = world.descriptors.let_go.take_one() {
        let effect = Effect {
            what: What::Closed,
            object: object as u32,
            length: 0,
            status: 0,
        };
        world.children.push(effect, &[])?;
    }
    Ok(())
}

/// Notes what a child has written to an open file.
///
/// # Errors
/// When the file is its own, or there is no room.
pub fn note_written(world: &mut World, index: usize, bytes: &[u8]) -> Result<(), Declined> {
    if !world.descriptors.inherited.has(index) {
        return match world.descriptors.descriptions[index].kind {
            Kind::File => Err(Declined("a child process that changes files")),
            _ => Ok(()),
        };
    }
    let effect = Effect {
        what: What::Written,
        object: index as u32,
        length: bytes.len() as u32,
        status: 0,
    };
    world.children.push(effect, bytes)
}

/// Lets the next effect happen; whether there was one.
///
/// # Errors
/// When something happens that is not simulated.
pub fn step(world: &mut World) -> Result<bool, Declined> {
    let children = &mut world.children;
    if children.done == children.count {
        return Ok(false);
    }
    let effect = children.effects[children.done as usize];
    let from = u64::from(children.bytes_done);
    children.done += 1;
    children.bytes_done += effect.length;
    // SAFETY: what was written stays in the queue until all have happened.
    let bytes = unsafe {
        let bytes = children.bytes.as_ptr() as u64;
        raw::bytes(bytes + from, u64::from(effect.length))
    };
    let object = effect.object as usize;
    match effect.what {
        What::Written => transfer::written(world, object, bytes)?,
        What::Closed => {
            let of = |c: &&mut Child| c.standing == Standing::Runs && c.holds.has(object);
            if let Some(child) = world.children.children.iter_mut().find(of) {
                child.holds.remove(object);
                release(world, object);
            }
        }
        What::Ended => ended(world, object, effect.status),
    }
    let children = &mut world.children;
    if children.done == children.count {
        (children.count, children.done) = (0, 0);
        (children.bytes_count, children.bytes_done) = (0, 0);
    }
    Ok(true)
}

fn release(world: &mut World, object: usize) {
    let (network, files) = (&mut world.network, &mut world.files);
    world.descriptors.release(object, network, files);
}

fn ended(world: &mut World, place: usize, status: i32) {
    const IGNORED: u64 = 1;
    let mut holds = world.children.children[place].holds;
    while let Some(object) = holds.take_one() {
        release(world, object);
    }
    let ignored = world.signals.actions[SIGCHLD as usize][0] == IGNORED;
    let child = &mut world.children.children[place];
    (child.holds, child.status) = (holds, status);
    child.standing = if ignored {
        Standing::None
    } else {
        Standing::Ended
    };
    world.signals.send(SIGCHLD);
}

/// `wait4`.
///
/// # Errors
/// When something happens that is not simulated.
pub fn wait_for_child(world: &mut World, a: [u64; 6]) -> Answer {
    const NO_HANG: u64 = 1;
    let wanted = a[0] as i32;
    let is_meant = |child: &Child| wanted <= 0 || child.number == wanted as u32;
    let ended = |world: &World| {
        let all = world.children.children.iter();
        let mut all = all.enumerate();
        let is_ended = |c: &Child| c.standing == Standing::Ended && is_meant(c);
        all.find(|(_, c)| is_ended(c)).map(|(at, _)| at)
    };
    let none = |c: &Child| c.standing == Standing::None || !is_meant(c);
    if world.children.children.iter().all(none) {
        return Ok(ECHILD);
    }
    if ended(world).is_none() && a[2] & NO_HANG != 0 {
        world.control.looks += 1;
        if world.control.looks < MOST_LOOKS {
            return Ok(0);
        }
        // One that looks without waiting would never let its child go on.
        while ended(world).is_none() && step(world)? {}
    }
    let how = Wait {
        timeout: None,
        mask: None,
        sleeps: false,
    };
    let ready = &mut |world: &mut World| ended(world).is_some();
    if ended(world).is_none() && wait(world, ready, how)? == Woken::Interrupted {
        // The signal of its end comes with its end.
        if ended(world).is_none() {
            return Ok(EINTR);
        }
    }
    let Some(at) = ended(world) else {
        return Ok(EINTR);
    };
    let child = &mut world.children.children[at];
    child.standing = Standing::None;
    let (number, status) = (child.number, child.status);
    // SAFETY: the server's own places.
    unsafe {
        if a[1] != 0 {
            raw::store(a[1], status);
        }
        if a[3] != 0 {
            raw::bytes_mut(a[3], 144).fill(0);
        }
    }
    Ok(i64::from(number))
}

/// `kill` of a child: one that has ended takes no notice.
///
/// # Errors
/// When it has not.
pub fn kill(world: &World, number: u32) -> Answer {
    const ESRCH: i64 = -3;
    let mut all = world.children.children.iter();
    match all.find(|c| c.standing != Standing::None && c.number == number) {
        None => Ok(ESRCH),
        Some(child) if child.standing == Standing::Ended => Ok(0),
        Some(_) => Err(Declined("a signal to a child process that runs")),
    }
}
