//! Moves the worker into namespaces of its own, where it becomes process 1: when
//! it ends, however it ends, the kernel kills every process of the sandbox and
//! drops its mounts and its network.

use std::fs;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid, getppid};

use super::SandboxError;

/// As whom the subject runs inside its user namespace. The single id that every
/// user may map is mapped to this number, so that root and an ordinary user see
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// Uid 1000 without capabilities.
    User,
    /// Uid 0 of the user namespace.
    Root,
}

impl Identity {
    /// The number of the user and of its group inside the namespace.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::User => 1000,
            Self::Root => 0,
        }
    }
}

/// Pins this thread, and everything it starts, to one processor: a stop costs
/// seven times more when tracer and tracee run on different ones.
///
/// # Errors
/// When the processor does not exist or may not be used.
pub fn pin_to(processor: usize) -> Result<(), SandboxError> {
    let mut set = CpuSet::new();
    set.set(processor)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(SandboxError::refused(format!(
            "pinning to processor {processor}"
        )))
}

/// Keeps this thread on one processor while it lives.
#[derive(Debug)]
pub struct Pinned(Option<CpuSet>);

impl Pinned {
    /// Pins this thread, where it may be: one that waits for a worker and answers it is
    /// woken sooner on the worker's own processor than on one that sleeps.
    #[must_use]
    pub fn to(processor: usize) -> Self {
        let before = sched_getaffinity(Pid::from_raw(0)).ok();
        Self(before.filter(|_| pin_to(processor).is_ok()))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(Pid::from_raw(0), before);
        }
    }
}

/// Enters fresh user, process, network, mount, IPC and host-name namespaces and
/// continues as process 1 of them. The outer half of this process waits for the
/// inner half and exits with its status; it never returns.
///
/// Must be called before any thread is started.
///
/// # Errors
/// When the kernel refuses one of the namespaces.
pub fn enter(identity: Identity) -> Result<(), SandboxError> {
    let (user, group) = (geteuid(), getegid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .map_err(SandboxError::refused("unshare of namespaces"))?;
    let id = identity.id();
    // Denied also for root, which could keep it: groups must not differ by who runs.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{id} {user} 1"))?;
    write("/proc/self/gid_map", &format!("{id} {group} 1"))?;
    // Only now: a change of credentials would clear it again.
    die_with_parent()?;
    let outer = nix::unistd::getpid();
    #[allow(unsafe_code)]
    // SAFETY: the worker has one thread, so the child may do anything.
    match unsafe { fork() }.map_err(SandboxError::refused("fork into the process namespace"))? {
        ForkResult::Parent { child } => std::process::exit(follow(child)),
        ForkResult::Child => {}
    }
    die_with_parent()?;
    // The parent is outside the namespace and reads as 0; had it died before the
    // line above, init of the outer namespace could not be told from it, so the
    // request pipe's end of file is the second line of defence.
    debug_assert!(getppid().as_raw() == 0 || getppid() == outer);
    nix::unistd::sethostname("kairos").map_err(SandboxError::refused("sethostname"))?;
    raise_loopback()
}

fn write(path: &str, text: &str) -> Result<(), SandboxError> {
    fs::write(path, text).map_err(SandboxError::file("write", path))
}

/// Asks the kernel to kill this process when the thread that started it ends.
fn die_with_parent() -> Result<(), SandboxError> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(SandboxError::refused("prctl(PR_SET_PDEATHSIG)"))
}

fn follow(child: Pid) -> i32 {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, status)) => return status,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Err(nix::errno::Errno::EINTR) | Ok(_) => {}
            Err(_) => return 1,
        }
    }
}

#[allow(unsafe_code)]
fn raise_loopback() -> Result<(), SandboxError> {
    #[allow(clippy::cast_possible_truncation)] // both flags lie in the low byte
    const FLAGS: libc::c_short = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(SandboxError::refused("socket for the loopback interface"))?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = (*from).cast_signed();
    }
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: the request names an interface and carries flags, as SIOCSIFFLAGS reads.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    nix::errno::Errno::result(answer)
        .map(drop)
        .map_err(SandboxError::refused("raising the loopback interface"))
}
