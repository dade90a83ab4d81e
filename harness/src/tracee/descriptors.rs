//! The open files of a process: what each is, and duplicates of them for Kairos.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::TraceeError;

/// One open descriptor of a process.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// Its number.
    pub number: i32,
    /// What it refers to, as `/proc/PID/fd` names it.
    pub target: String,
    /// Status flags, with `O_CLOEXEC` if it is closed by `execve`.
    pub flags: i32,
    /// What `/proc/PID/fdinfo` says of it.
    pub info: String,
    /// Its entry in `/proc`, which leads to the file itself.
    pub entry: PathBuf,
}

impl Descriptor {
    /// The value of a field of its `fdinfo`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.info
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    }

    /// The inode number in a target such as `socket:[123]`, if it is of that kind.
    #[must_use]
    pub fn inode_of(&self, kind: &str) -> Option<u64> {
        let rest = self.target.strip_prefix(kind)?.strip_prefix(":[")?;
        rest.strip_suffix(']')?.parse().ok()
    }

    /// `O_CLOEXEC` if it has it.
    #[must_use]
    pub const fn close_on_exec(&self) -> i32 {
        self.flags & libc::O_CLOEXEC
    }
}

/// All open descriptors of a stopped process, ascending.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn of_process(pid: Pid) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}"))?;
        let target = std::fs::read_link(entry.path())?;
        let mut descriptor = Descriptor {
            number,
            target: target.to_string_lossy().into_owned(),
            flags: 0,
            info,
            entry: entry.path(),
        };
        let flags = descriptor.field("flags").unwrap_or("0");
        descriptor.flags = i32::from_str_radix(flags, 8).unwrap_or(0);
        found.push(descriptor);
    }
    found.sort_by_key(|descriptor| descriptor.number);
    Ok(found)
}

/// A process, held so that its descriptors can be duplicated.
#[derive(Debug)]
pub struct Source {
    pid: Pid,
    handle: OwnedFd,
}

impl Source {
    /// Opens a process.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open(pid: Pid) -> Result<Self, TraceeError> {
        // SAFETY: the call takes two numbers and gives a new descriptor.
        let answer = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let handle = owned(answer).map_err(TraceeError::from_errno("pidfd_open", pid))?;
        Ok(Self { pid, handle })
    }

    /// A descriptor of ours for the same open file as the process's `number`: both
    /// share its position and its status flags.
    ///
    /// # Errors
    /// When the process is gone or has no such descriptor.
    pub fn duplicate(&self, number: i32) -> Result<OwnedFd, TraceeError> {
        // SAFETY: the call takes three numbers and gives a new descriptor.
        let answer =
            unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.handle.as_raw_fd(), number, 0) };
        owned(answer).map_err(TraceeError::from_errno("pidfd_getfd", self.pid))
    }
}

fn owned(answer: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = i32::try_from(Errno::result(answer)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek as _, SeekFrom};

    #[test]
    fn own_descriptors_are_described() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        let all = of_process(Pid::this()).unwrap();
        let found = all.iter().find(|d| d.number == file.as_raw_fd()).unwrap();
        assert_eq!(found.field("pos"), Some("7"));
        assert_eq!(found.close_on_exec(), libc::O_CLOEXEC);
        assert_eq!(found.inode_of("socket"), None);
    }

    #[test]
    fn a_duplicate_shares_the_position() {
        let mut file = tempfile::tempfile().unwrap();
        let source = Source::open(Pid::this()).unwrap();
        let mut other = std::fs::File::from(source.duplicate(file.as_raw_fd()).unwrap());
        file.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(other.stream_position().unwrap(), 5);
    }
}
