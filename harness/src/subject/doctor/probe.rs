//! Tries what the kernel permits, in a process that does nothing else.
//!
//! A probe changes the process it runs in (its namespaces, its personality), so
//! `kairos doctor` runs each as a new process of the hidden subcommand. It
//! prints what it found and says by its exit status whether that is enough.

use std::fs;
use std::io;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::personality::{self, Persona};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getgid, getuid};

/// The hidden subcommand: `kairos __probe NAME`.
pub const SUBCOMMAND: &str = "__probe";

/// A thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Seize, stop and read a child.
    Ptrace,
    /// A user namespace with one identity.
    UserNamespace,
    /// Network, pid, mount and System V namespaces inside a user namespace.
    Namespaces,
    /// A tmpfs inside those.
    Tmpfs,
    /// A child whose addresses are not randomised.
    FixedAddresses,
    /// Being told which pages were written.
    WrittenPages,
}

impl Probe {
    /// Every probe.
    pub const ALL: [Self; 6] = [
        Self::Ptrace,
        Self::UserNamespace,
        Self::Namespaces,
        Self::Tmpfs,
        Self::FixedAddresses,
        Self::WrittenPages,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ptrace => "ptrace",
            Self::UserNamespace => "user-namespace",
            Self::Namespaces => "namespaces",
            Self::Tmpfs => "tmpfs",
            Self::FixedAddresses => "fixed-addresses",
            Self::WrittenPages => "written-pages",
        }
    }

    /// The probe of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|probe| probe.name() == name)
    }

    /// Tries it, changing this process.
    ///
    /// # Errors
    /// What was refused, and the kernel's reason.
    pub fn run(self) -> Result<String, String> {
        match self {
            Self::Ptrace => trace_a_child(),
            Self::UserNamespace => user_namespace().map(|()| "permitted".to_owned()),
            Self::Namespaces => namespaces().map(|()| "permitted".to_owned()),
            Self::Tmpfs => tmpfs(),
            Self::FixedAddresses => fixed_addresses(),
            Self::WrittenPages => written_pages(),
        }
    }
}

fn because<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

fn trace_a_child() -> Result<String, String> {
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::null())
        .spawn()
        .map_err(because("sleep"))?;
    let outcome = seize(&child);
    end(&mut child);
    outcome
}

fn seize(child: &Child) -> Result<String, String> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(because("pid"))?);
    ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL).map_err(because("PTRACE_SEIZE"))?;
    ptrace::interrupt(pid).map_err(because("PTRACE_INTERRUPT"))?;
    let status = waitpid(pid, Some(WaitPidFlag::__WALL)).map_err(because("waitpid"))?;
    if !matches!(
        status,
        WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)
    ) {
        return Err(format!("the child did not stop: {status:?}"));
    }
    ptrace::getregs(pid).map_err(because("PTRACE_GETREGS"))?;
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .map_err(because("/proc/PID/mem"))?;
    Ok("a child can be traced".to_owned())
}

fn end(child: &mut Child) {
    // It may be gone already; there is nothing to do about other failures.
    let _ = child.kill();
    let _ = child.wait();
}

fn user_namespace() -> Result<(), String> {
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(because("unshare(CLONE_NEWUSER)"))?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("writing /proc/self/{file}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn namespaces() -> Result<(), String> {
    user_namespace()?;
    let kinds = [
        ("network", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mount", CloneFlags::CLONE_NEWNS),
        ("System V", CloneFlags::CLONE_NEWIPC),
    ];
    for (name, flag) in kinds {
        unshare(flag).map_err(|error| format!("unshare, {name} namespace: {error}"))?;
    }
    // A pid namespace begins with the next child.
    let mut child = Command::new("true")
        .spawn()
        .map_err(because("a child in the pid namespace"))?;
    let status = child.wait().map_err(because("waitpid"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("a child in the pid namespace: {status}"))
    }
}

fn tmpfs() -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(because("temporary folder"))?;
    namespaces()?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(because("making / private"))?;
    mount(
        Some("tmpfs"),
        folder.path(),
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("size=1m"),
    )
    .map_err(because("mounting a tmpfs"))?;
    let outcome = fs::write(folder.path().join("file"), "text").map_err(because("writing to it"));
    nix::mount::umount(folder.path()).map_err(because("unmounting it"))?;
    outcome.map(|()| "permitted".to_owned())
}

fn written_pages() -> Result<String, String> {
    user_namespace()?;
    crate::tracee::write_watch::try_on_ourselves().map(|()| "told by the kernel".to_owned())
}

fn fixed_addresses() -> Result<String, String> {
    let persona = personality::get().map_err(because("personality"))?;
    personality::set(persona | Persona::ADDR_NO_RANDOMIZE)
        .map_err(because("personality(ADDR_NO_RANDOMIZE)"))?;
    let first = stack_of_a_child().map_err(because("/proc/self/maps"))?;
    let second = stack_of_a_child().map_err(because("/proc/self/maps"))?;
    if first == second {
        Ok("off for children".to_owned())
    } else {
        Err(format!(
            "two children had their stacks at {first} and {second}"
        ))
    }
}

fn stack_of_a_child() -> io::Result<String> {
    let output = Command::new("cat").arg("/proc/self/maps").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .find(|line| line.ends_with("[stack]"))
        .and_then(|line| line.split('-').next())
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("no stack"))
}
