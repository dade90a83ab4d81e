//! What a process has besides memory and descriptors: what forbids a copy, and what
//! a copy must be given because `fork` leaves it out.

use nix::unistd::Pid;

use super::belongings::word;
use super::unfit::{NoCopy, Unfit};
use crate::binary::Address;
use crate::tracee::batch::Batch;
use crate::tracee::counter::COVERAGE;
use crate::tracee::{Memory, Stopped};

/// Bytes of a `struct itimerval`.
const TIMER: usize = 32;
const TIMERS: [i32; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

/// What a copy is given.
#[derive(Debug, Default)]
pub struct Traits {
    /// Running interval timers.
    timers: Vec<(i32, [u8; TIMER])>,
    /// Signal at the end of its parent.
    parent_end_signal: i32,
    /// Whether orphans become its children.
    adopts_orphans: bool,
    /// Address and length of its list of robust locks.
    robust_list: (u64, u64),
}

impl Traits {
    /// Checks what `/proc` tells of a stopped process.
    ///
    /// # Errors
    /// When it has something that a copy would lack or share.
    pub fn check(pid: Pid) -> Result<(), NoCopy> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).map_err(NoCopy::file("read", path))
        };
        check_memory(&read("smaps")?, &[COVERAGE])?;
        let status = read("status")?;
        let pending = ["SigPnd:", "ShdPnd:"].iter().any(|name| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.is_some_and(|value| value.trim().chars().any(|digit| digit != '0'))
        });
        if pending {
            return Err(Unfit::PendingSignal.into());
        }
        // Kernels without it have no such file.
        if read("timers").is_ok_and(|timers| !timers.trim().is_empty()) {
            return Err(Unfit::Timer.into());
        }
        for (file, what) in [
            ("shm", "shared memory"),
            ("sem", "semaphores"),
            ("msg", "message queues"),
        ] {
            let text = std::fs::read_to_string(format!("/proc/sysvipc/{file}")).unwrap_or_default();
            if text.lines().count() > 1 {
                return Err(Unfit::SystemV(what).into());
            }
        }
        Ok(())
    }

    /// Asks a stopped process for what copies must be given.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn ask(stopped: &Stopped, memory: &Memory) -> Result<Self, NoCopy> {
        let mut batch = Batch::default();
        let mut timers = Vec::new();
        for which in TIMERS {
            let place = batch.data(&[0; TIMER]);
            batch.call("getitimer", libc::SYS_getitimer, &[word(which), place.0]);
            timers.push((which, place));
        }
        let mut ask = |option: i32| {
            let place = batch.data(&[0; 8]);
            batch.call("prctl", libc::SYS_prctl, &[word(option), place.0]);
            place
        };
        let parent_end = ask(libc::PR_GET_PDEATHSIG);
        let adopts = ask(libc::PR_GET_CHILD_SUBREAPER);
        let list = batch.data(&[0; 16]);
        let arguments = [0, list.0, list.plus(8).0];
        batch.call("get_robust_list", libc::SYS_get_robust_list, &arguments);
        batch.run(stopped, memory)?;
        let mut own = Self {
            parent_end_signal: i32::from_le_bytes(Batch::read(memory, parent_end)?),
            adopts_orphans: i32::from_le_bytes(Batch::read(memory, adopts)?) != 0,
            robust_list: (memory.word(list)?, memory.word(list.plus(8))?),
            timers: Vec::new(),
        };
        for (which, place) in timers {
            let timer: [u8; TIMER] = Batch::read(memory, place)?;
            if timer != [0; TIMER] {
                own.timers.push((which, timer));
            }
        }
        Ok(own)
    }

    /// Makes the calls by which a copy gets them. The timers come last: they run from
    /// then on.
    pub fn give(&self, batch: &mut Batch) {
        if self.parent_end_signal != 0 {
            let arguments = [word(libc::PR_SET_PDEATHSIG), word(self.parent_end_signal)];
            batch.call("prctl in a copy", libc::SYS_prctl, &arguments);
        }
        if self.adopts_orphans {
            let arguments = [word(libc::PR_SET_CHILD_SUBREAPER), 1];
            batch.call("prctl in a copy", libc::SYS_prctl, &arguments);
        }
        let (list, length) = self.robust_list;
        if list != 0 {
            let number = libc::SYS_set_robust_list;
            batch.call("set_robust_list in a copy", number, &[list, length]);
        }
        for (which, timer) in &self.timers {
            let place = batch.data(timer);
            let arguments = [word(*which), place.0, 0];
            batch.call("setitimer in a copy", libc::SYS_setitimer, &arguments);
        }
    }

    /// Calls and bytes that giving needs.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        (3 + self.timers.len(), TIMER * self.timers.len())
    }
}

/// Refuses memory that a copy would share, or would not have. What is shared with Kairos
/// lies at `ours`.
///
/// # Errors
/// What there is of it.
pub fn check_memory(maps: &str, ours: &[Address]) -> Result<(), Unfit> {
    let mut place = String::new();
    for line in maps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let mut flags = flags.split_ascii_whitespace();
            if flags.any(|flag| flag == "dc" || flag == "wf") {
                return Err(Unfit::MemoryNotCopied(place));
            }
            continue;
        }
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else {
            continue;
        };
        let Some((start, _)) = range.split_once('-') else {
            continue;
        };
        let Ok(start) = u64::from_str_radix(start, 16) else {
            continue;
        };
        let name = fields.nth(3).unwrap_or("anonymous");
        place = format!("{range} {name}");
        let ours = ours.contains(&Address(start));
        if rights.ends_with('s') && rights.contains('w') && !ours {
            return Err(Unfit::SharedMemory(place));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_and_forgotten_memory_is_refused() {
        let private = "400000-401000 rw-p 00000000 00:01 5   /kairos/old/kvd\n\
                       Size: 4 kB\nVmFlags: rd wr mr mw me ac \n";
        check_memory(private, &[COVERAGE]).unwrap();
        let ours = private.replace("400000-401000 rw-p", "3f100000-3f110000 rwxs");
        check_memory(&ours, &[COVERAGE]).unwrap();
        let shared = private.replace("rw-p", "rw-s");
        assert!(
            matches!(check_memory(&shared, &[COVERAGE]), Err(Unfit::SharedMemory(place)) if place.contains("kvd"))
        );
        let wiped = private.replace(" ac ", " ac wf ");
        assert!(matches!(
            check_memory(&wiped, &[COVERAGE]),
            Err(Unfit::MemoryNotCopied(_))
        ));
    }
}
