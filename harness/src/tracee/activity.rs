//! Tells when the server stands still: every thread blocked in a system call and
//! nothing run in between, so that an entry belongs to exactly one exchange.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::unistd::Pid;

/// Files of so many ended threads are kept before they are given back.
const SPARE: usize = 64;

/// What all threads of the server were doing at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Every thread waits for an event from outside.
    Blocked,
    /// Every thread waits, at least one for time to pass.
    Sleeping,
    /// Some thread runs or is about to.
    Running,
}

/// Reads the state of threads from `/proc`, without stopping them.
#[derive(Debug, Default)]
pub struct Activities {
    files: HashMap<Pid, (File, File)>,
}

/// A reading: what the threads do, how often any was put on a processor, and the
/// processor time they have used.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Their activity.
    pub activity: Activity,
    /// Times that any of them was scheduled.
    pub slices: u64,
    /// Processor time used by all of them.
    pub used: Duration,
}

impl Activities {
    /// Forgets threads of an earlier test.
    pub fn forget(&mut self) {
        self.files.clear();
    }

    /// Reads the state of `threads`, each with its process. One that has ended
    /// counts as blocked.
    pub fn read(&mut self, threads: impl IntoIterator<Item = (Pid, Pid)>) -> Reading {
        let mut reading = Reading {
            activity: Activity::Blocked,
            slices: 0,
            used: Duration::ZERO,
        };
        let mut living = 0;
        for (process, thread) in threads {
            living += 1;
            let (call, schedule) = match self.files.entry(thread) {
                Entry::Occupied(open) => open.into_mut(),
                Entry::Vacant(vacant) => {
                    let open = |name| File::open(format!("/proc/{process}/task/{thread}/{name}"));
                    let (Ok(call), Ok(schedule)) = (open("syscall"), open("schedstat")) else {
                        continue;
                    };
                    vacant.insert((call, schedule))
                }
            };
            let mut buffer = [0; 128];
            let length = call.read_at(&mut buffer, 0).unwrap_or(0);
            if length == 0 {
                // Its number may come again, or has already.
                self.files.remove(&thread);
                if !has_ended(process, thread) {
                    reading.activity = join(reading.activity, Activity::Running);
                }
                continue;
            }
            let seen = activity(&buffer[..length]);
            reading.activity = join(reading.activity, seen);
            let length = schedule.read_at(&mut buffer, 0).unwrap_or(0);
            let (used, slices) = schedule_numbers(&buffer[..length]);
            reading.slices += slices;
            reading.used += used;
        }
        if self.files.len() > 2 * living + SPARE {
            // Mostly of threads that have ended; those of the others are opened anew.
            self.files.clear();
        }
        reading
    }
}

/// Whether a thread whose call cannot be read is gone or a zombie. One that is only
/// on its way there has given up its memory and shows no call, but its end, and what
/// its parent does then, is still to come.
fn has_ended(process: Pid, thread: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"))
        .ok()
        .and_then(|stat| state(&stat))
        .is_none_or(|state| matches!(state, 'Z' | 'X'))
}

/// The state in a line of `/proc/PID/stat`, whose second field, the program's name,
/// may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit(')').next()?.trim_start().chars().next()
}

const fn join(one: Activity, other: Activity) -> Activity {
    match (one, other) {
        (Activity::Running, _) | (_, Activity::Running) => Activity::Running,
        (Activity::Sleeping, _) | (_, Activity::Sleeping) => Activity::Sleeping,
        (Activity::Blocked, Activity::Blocked) => Activity::Blocked,
    }
}

/// `/proc/PID/syscall` is `running`, or the number of the call a thread is blocked
/// in (`-1`: blocked outside a call, in a page fault or a stop), or empty if it ended.
fn activity(text: &[u8]) -> Activity {
    let word = text
        .split(u8::is_ascii_whitespace)
        .next()
        .and_then(|word| std::str::from_utf8(word).ok())
        .unwrap_or_default();
    match word.parse::<i64>() {
        Ok(libc::SYS_nanosleep | libc::SYS_clock_nanosleep) => Activity::Sleeping,
        // The kernel is at work: a new network namespace waits for locks and for the
        // removal of older ones.
        Ok(libc::SYS_clone | libc::SYS_clone3 | libc::SYS_unshare | libc::SYS_setns) => {
            Activity::Running
        }
        Ok(0..) => Activity::Blocked,
        // In a page fault, or stopped by a signal: it goes on by itself or never.
        Ok(_) => Activity::Sleeping,
        Err(_) if word.is_empty() => Activity::Blocked,
        Err(_) => Activity::Running,
    }
}

/// `/proc/PID/schedstat`: nanoseconds on a processor, waiting for one, and slices.
fn schedule_numbers(text: &[u8]) -> (Duration, u64) {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let mut numbers = text
        .split_ascii_whitespace()
        .map(|number| number.parse().unwrap_or(0));
    let used = numbers.next().unwrap_or(0);
    (Duration::from_nanos(used), numbers.nth(1).unwrap_or(0))
}

/// All threads of all processes of the namespace but process 1, for runs that are
/// not traced.
#[must_use]
pub fn all_threads() -> Vec<(Pid, Pid)> {
    let numbers = |path: &str| -> Vec<Pid> {
        std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(Pid::from_raw)
            .collect()
    };
    numbers("/proc")
        .into_iter()
        .filter(|pid| pid.as_raw() != 1)
        .flat_map(|pid| {
            numbers(&format!("/proc/{pid}/task"))
                .into_iter()
                .map(move |thread| (pid, thread))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_a_thread_waits_in_decides() {
        assert_eq!(activity(b"running\n"), Activity::Running);
        assert_eq!(activity(b"232 0x5 0x7f\n"), Activity::Blocked);
        assert_eq!(activity(b"230 0x0\n"), Activity::Sleeping);
        assert_eq!(activity(b"56 0x40000011\n"), Activity::Running);
        assert_eq!(activity(b"-1 0x7ffd 0x40\n"), Activity::Sleeping);
        assert_eq!(activity(b""), Activity::Blocked);
    }

    #[test]
    fn a_thread_without_a_call_has_ended_only_as_a_zombie() {
        assert_eq!(state("7 (a b) (c) Z 1 7"), Some('Z'));
        let own = Pid::this();
        assert!(!has_ended(own, own));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let zombie = nix::sys::wait::waitid(
            nix::sys::wait::Id::Pid(pid),
            nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT,
        );
        assert!(zombie.is_ok() && has_ended(pid, pid));
        child.wait().unwrap();
        assert!(has_ended(pid, pid));
    }

    #[test]
    fn schedule_numbers_are_read() {
        assert_eq!(
            schedule_numbers(b"876445 4301589 3\n"),
            (Duration::from_nanos(876_445), 3)
        );
    }
}
