//! What must not outlive Kairos, even where it is killed: a small process of its own
//! waits for the end of Kairos, then ends the process groups that were entrusted to it
//! and removes its temporary files. Subjects need none of this, since namespaces end with
//! their worker; builds run outside of any.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::interrupt;

/// Name of the hidden subcommand that guards.
pub const SUBCOMMAND: &str = "__guard";

static GUARD: Mutex<Option<Guard>> = Mutex::new(None);

struct Guard {
    process: Child,
    orders: ChildStdin,
    scratch: PathBuf,
}

/// Starts the guard; `executable` is the `kairos` binary. Without one everything
/// works as well, as long as Kairos is not killed.
///
/// # Errors
/// When the process or its folder for temporary files cannot be made.
pub fn start(executable: &Path) -> std::io::Result<()> {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    if guard.is_some() {
        return Ok(());
    }
    let mut process = Command::new(executable)
        .arg(SUBCOMMAND)
        // An interrupt at the terminal is for Kairos alone.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (Some(orders), Some(answer)) = (process.stdin.take(), process.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let mut scratch = String::new();
    BufReader::new(answer).read_line(&mut scratch)?;
    let scratch = PathBuf::from(scratch.trim_end_matches('\n'));
    if !scratch.is_dir() {
        let message = format!("{} is not writable", std::env::temp_dir().display());
        return Err(std::io::Error::other(message));
    }
    *guard = Some(Guard {
        process,
        orders,
        scratch,
    });
    Ok(())
}

/// Ends the guard, and waits until it has cleaned up.
pub fn end() {
    let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(Guard {
        mut process,
        orders,
        ..
    }) = guard
    {
        drop(orders);
        let _ = process.wait();
    }
}

/// Where temporary files belong: a guarded folder, or else the machine's.
#[must_use]
pub fn temporary_folder() -> PathBuf {
    let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    guard
        .as_ref()
        .map_or_else(std::env::temp_dir, |guard| guard.scratch.clone())
}

/// Runs a command to its end and keeps its output; neither it nor a process that it
/// started outlives Kairos.
///
/// # Errors
/// When it cannot be started.
pub fn output(command: &mut Command) -> std::io::Result<Output> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    run(command, Child::wait_with_output)
}

/// As [`output`], with whatever streams the command has.
///
/// # Errors
/// When it cannot be started.
pub fn status(command: &mut Command) -> std::io::Result<ExitStatus> {
    run(command, |mut child| child.wait())
}

fn run<T>(
    command: &mut Command,
    wait: impl FnOnce(Child) -> std::io::Result<T>,
) -> std::io::Result<T> {
    if !order("") {
        return wait(command.spawn()?);
    }
    command.env("TMPDIR", temporary_folder());
    let child = command.process_group(0).spawn()?;
    let group = child.id();
    order(&format!("group {group}"));
    let forwarded = interrupt::forward_to(Pid::from_raw(i32::try_from(group).unwrap_or(0)));
    let result = wait(child);
    drop(forwarded);
    order(&format!("done {group}"));
    result
}

/// Tells the guard; whether there is one.
fn order(text: &str) -> bool {
    let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
    guard
        .as_mut()
        .is_some_and(|guard| text.is_empty() || writeln!(guard.orders, "{text}").is_ok())
}

/// The guard itself: makes the folder for temporary files and names it in `answer`,
/// then takes orders until their end, which is the end of Kairos.
///
/// # Errors
/// When the folder cannot be made, or nobody hears of it.
pub fn serve(orders: &mut dyn BufRead, answer: &mut dyn Write) -> std::io::Result<()> {
    // The guard makes it and not Kairos, which could be killed before it says so.
    let folder = tempfile::Builder::new().prefix("kairos-").tempdir()?;
    writeln!(answer, "{}", folder.path().display())?;
    answer.flush()?;
    let mut groups = BTreeSet::new();
    let mut line = String::new();
    while orders.read_line(&mut line).is_ok_and(|length| length > 0) {
        let group = |text: &str| text.parse::<i32>().ok().filter(|group| *group > 1);
        match line.trim_end().split_once(' ') {
            Some(("group", number)) => groups.extend(group(number)),
            Some(("done", number)) => groups.retain(|one| group(number) != Some(*one)),
            _ => {}
        }
        line.clear();
    }
    for group in groups {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    remove(&folder.keep());
    Ok(())
}

/// A process that is just being killed may still make a file.
fn remove(folder: &Path) {
    const MOST_TRIES: usize = 1000;
    for _ in 0..MOST_TRIES {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                std::thread::yield_now();
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves these orders and returns the folder that was named.
    fn served(orders: &str) -> PathBuf {
        let mut answer = Vec::new();
        serve(&mut orders.as_bytes(), &mut answer).unwrap();
        PathBuf::from(String::from_utf8(answer).unwrap().trim_end())
    }

    #[test]
    fn its_folder_goes_and_finished_groups_are_left_alone() {
        // Our own group: killed, this test would not end well.
        let own = nix::unistd::getpgrp();
        let folder = served(&format!("group {own}\ndone {own}\n"));
        assert!(folder.is_absolute() && !folder.exists());
    }

    #[test]
    fn groups_that_are_not_done_are_ended() {
        let mut child = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        served(&format!("group {}\n", child.id()));
        assert!(!child.wait().unwrap().success());
    }
}
