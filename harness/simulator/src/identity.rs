//! Who a process is and what it may do: numbers, groups, capabilities, limits, roots.
//! The sandbox has one user, and nothing of this is ever done for real once the server
//! is ready, so that it can be put back.

use crate::cache::Stat;
use crate::calls::{pass, unknown};
use crate::file_calls::path_at;
use crate::files::Found;
use crate::forks;
use crate::network::EINVAL;
use crate::numbers::{AT_FDCWD, ENOTDIR, EPERM};
use crate::own;
use crate::processes::MOST_LIMITS;
use crate::raw;
use crate::world::{Answer, Declined, World};

const GETUID: i64 = 102;
const GETGID: i64 = 104;
/// That there is no such process.
const ESRCH: i64 = -3;

/// Numbers of users, groups, processes and sessions.
pub(crate) fn identity(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    match number {
        // getpid, gettid
        39 | 186 => Ok(i64::from(world.number_of(own::number()))),
        110 => Ok(forks::parent_pid(world)),
        // setuid, setreuid, setresuid, setfsuid; setgid, setregid, setresgid, setfsgid
        105 | 113 | 117 | 122 => become_user(number, GETUID, a),
        106 | 114 | 119 | 123 => become_user(number, GETGID, a),
        116 => match pass(number, a)? {
            0 => Err(Declined("setting groups after it was ready")),
            refused => Ok(refused),
        },
        // setsid
        112 => {
            if world.me().group == world.me().pid {
                return Ok(EPERM);
            }
            let me = world.me_mut();
            (me.session, me.group) = (me.pid, me.pid);
            Ok(i64::from(world.number_of(own::number())))
        }
        109 => {
            let own = world.number_of(own::number());
            if a[0] != 0 && a[0] != u64::from(own) {
                return Err(Declined("setpgid(2) of another process"));
            }
            if world.me().space != 0 && a[1] != 0 && a[1] != u64::from(own) {
                return Err(Declined("setpgid(2) in a namespace of process numbers"));
            }
            let me = world.me_mut();
            me.group = if a[1] == 0 || me.space != 0 {
                me.pid
            } else {
                a[1] as u32
            };
            Ok(0)
        }
        // getpgrp, getpgid, getsid
        111 => Ok(i64::from(world.group_number(world.me().group))),
        _ => {
            let wanted = if a[0] == 0 {
                world.number_of(own::number())
            } else {
                a[0] as u32
            };
            let mut all = world.known().iter().enumerate();
            let found = all.find(|(at, p)| world.number_of(*at) == wanted && p.lives());
            let of = |group: u32, session: u32| if number == 121 { group } else { session };
            let answer = found.map(|(_, p)| world.group_number(of(p.group, p.session)));
            Ok(answer.map_or(ESRCH, i64::from))
        }
    }
}

/// The sandbox has one user and one group: one can only become what one is.
fn become_user(number: i64, asks: i64, a: [u64; 6]) -> Answer {
    // SAFETY: a question without arguments.
    let own = unsafe { raw::call(asks, [0; 6]) } as u64;
    let count = match number {
        113 | 114 => 2,
        117 | 119 => 3,
        _ => 1,
    };
    if matches!(number, 122 | 123) {
        return Ok(own as i64);
    }
    let same = a[..count]
        .iter()
        .all(|id| *id as u32 == own as u32 || count > 1 && *id as u32 == u32::MAX);
    Ok(if same { 0 } else { EINVAL })
}

/// Capabilities.
const DAC_OVERRIDE: u32 = 1;
const DAC_READ_SEARCH: u32 = 2;
const SYS_CHROOT: u32 = 18;
/// To make namespaces.
pub const SYS_ADMIN: u32 = 21;

const CAPGET: i64 = 125;
const VERSION_3: u32 = 0x2008_0522;

/// Whether the process has a capability of the first 32. One that gave up none has what
/// the kernel says.
pub(crate) fn has(world: &World, capability: u32) -> bool {
    let mut sets = world.me().capabilities;
    if world.me().bare == 0 {
        let header = [VERSION_3, 0];
        let arguments = [header.as_ptr() as u64, sets.as_mut_ptr() as u64, 0, 0, 0, 0];
        // SAFETY: the structures that the call takes.
        let _ = unsafe { raw::call(CAPGET, arguments) };
    }
    sets[0] & 1 << capability != 0
}

/// `chroot`.
pub(crate) fn change_root(world: &mut World, path: u64) -> Answer {
    let path = path_at(world, AT_FDCWD as u64, path)?;
    let found = world.files.find(&path)?;
    if let Found::Nothing(error) = found {
        return Ok(error);
    }
    if !world.files.is_folder(found) {
        return Ok(ENOTDIR);
    }
    if !has(world, SYS_CHROOT) {
        return Ok(EPERM);
    }
    let root = if path.length > 1 {
        path
    } else {
        crate::cache::Path::EMPTY
    };
    let me = world.me_mut();
    if !me.folder.text().starts_with(root.text()) {
        return Err(Declined("chroot(2) away from the working folder"));
    }
    me.root = root;
    Ok(0)
}

/// `capget` and `capset`.
pub(crate) fn capabilities(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    // Whether it works at all is asked by a call with nothing.
    if a[0] == 0 || a[1] == 0 {
        return pass(number, a);
    }
    // SAFETY: the server's own structures.
    unsafe {
        let version = raw::load::<u32>(a[0]);
        let words = if version == VERSION_3 { 6 } else { 3 };
        if number == 126 {
            let mut set = [0; 6];
            for (at, word) in set[..words].iter_mut().enumerate() {
                *word = raw::load(a[1] + 4 * at as u64);
            }
            let me = world.me_mut();
            (me.capabilities, me.bare) = (set, 1);
            return Ok(0);
        }
        if world.me().bare == 0 {
            return pass(number, a);
        }
        for at in 0..words {
            raw::store(a[1] + 4 * at as u64, world.me().capabilities[at]);
        }
    }
    Ok(0)
}

/// Whether the process may do with a file what `wanted` says: 4 read, 2 write. One that
/// has all capabilities may whatever the kernel permits.
#[must_use]
pub(crate) fn permits(world: &World, stat: &Stat, wanted: u32) -> bool {
    let me = world.me();
    let may = |capability: u32| me.capabilities[0] & 1 << capability != 0;
    if me.bare == 0 || may(DAC_OVERRIDE) || wanted == 4 && may(DAC_READ_SEARCH) {
        return true;
    }
    // SAFETY: a question without arguments.
    let user = unsafe { raw::call(GETUID, [0; 6]) } as u64;
    let owns = stat[3] >> 32 == user;
    let bits = stat[3] as u32 >> if owns { 6 } else { 0 };
    bits & wanted == wanted
}

/// `prctl`.
pub(crate) fn control(world: &mut World, a: [u64; 6]) -> Answer {
    match a[0] {
        1 => {
            world.me_mut().death_signal = a[1] as u32;
            Ok(0)
        }
        2 => {
            let signal = world.me().death_signal;
            // SAFETY: the server's own place.
            unsafe { raw::store(a[1], signal) };
            Ok(0)
        }
        // PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_SET_NO_NEW_PRIVS
        4 | 8 | 15 | 38 => Ok(0),
        // PR_GET_DUMPABLE, PR_CAPBSET_READ
        3 | 23 => pass(157, a),
        // PR_CAPBSET_DROP
        24 => Ok(0),
        option => unknown(world, 157, option),
    }
}

/// Limit of processes.
pub const PROCESSES: usize = 6;
/// Limit of open files.
pub const OPEN_FILES: usize = 7;

/// `getrlimit`, `setrlimit` and `prlimit64`.
pub(crate) fn limits(world: &mut World, number: i64, a: [u64; 6]) -> Answer {
    /// Processor time and size of files: these would show.
    const SHOWS: [u64; 2] = [0, 1];
    let (which, new, old) = match number {
        97 => (a[0], 0, a[1]),
        160 => (a[0], a[1], 0),
        _ => (a[1], a[2], a[3]),
    };
    if which as usize >= MOST_LIMITS {
        return Ok(EINVAL);
    }
    let known = world.me().limited & 1 << which != 0;
    let before = world.me().limits[which as usize];
    if new != 0 {
        if SHOWS.contains(&which) {
            return Err(Declined("setting limits after it was ready"));
        }
        // SAFETY: the server's own structure.
        let limit = unsafe { raw::load(new) };
        let me = world.me_mut();
        me.limited |= 1 << which;
        me.limits[which as usize] = limit;
    }
    if old == 0 {
        return Ok(0);
    }
    if known {
        // SAFETY: as above.
        unsafe { raw::store(old, before) };
        return Ok(0);
    }
    pass(97, [which, old, 0, 0, 0, 0])
}
