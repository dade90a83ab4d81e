//! The root file system of a sandbox: a tmpfs with the machine's `/usr` mounted
//! read-only, a small generated `/etc`, and the builds under test. Nothing of the
//! machine outside it can be read or written by a subject.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::SandboxError;
use super::descriptors::most_processes;
use super::namespaces::Identity;

/// Where a build is found inside the sandbox.
#[derive(Clone, Debug)]
pub struct Mounted {
    /// The build tree on the machine.
    pub outside: PathBuf,
    /// Its place inside, such as `/kairos/old`.
    pub inside: PathBuf,
}

/// The run folder inside the sandbox.
pub const RUN_FOLDER: &str = "/kairos/run";
/// The link by which a subject's program is started; the update turns it to the
/// new version, so that a later `execve` of the program's own file starts that.
pub const PROGRAM_LINK: &str = "/kairos/program";

/// Names in the `/etc/passwd` of every sandbox.
pub const USERS_OF_EVERY_SANDBOX: [&str; 4] = ["root", "kairos", "ftp", "nobody"];

/// A further user of a sandbox; the user namespace holds one user, so that all
/// names share the number of the subject's own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SandboxUser {
    /// The name.
    pub name: String,
    /// The password as `crypt(3)` encodes it.
    pub password: String,
    /// The home.
    pub home: String,
}

/// Handles that must be opened before the sandbox makes them read-only.
#[derive(Debug)]
pub struct Root {
    last_pid: File,
}

/// Builds the root file system and moves into it.
///
/// # Errors
/// When a mount is refused.
pub fn enter(
    identity: Identity,
    users: &[SandboxUser],
    builds: &[Mounted],
) -> Result<Root, SandboxError> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(SandboxError::refused("making mounts private"))?;
    let root = mount_point(builds);
    tmpfs(&root, "mode=0755")?;
    for name in ["usr", "bin", "sbin", "lib", "lib64", "lib32"] {
        mirror(&root, name)?;
    }
    for name in [
        "dev",
        "proc",
        "etc",
        "tmp",
        "var/tmp",
        "home/kairos",
        "kairos/run",
        "run",
        "root",
    ] {
        folder(&root.join(name))?;
    }
    devices(&root)?;
    generate_etc(&root.join("etc"), identity, users)?;
    for build in builds {
        let relative = build.inside.strip_prefix("/").unwrap_or(&build.inside);
        bind_read_only(&build.outside, &root.join(relative))?;
    }
    let last_pid = mount_proc(&root)?;
    turn_to(&root)?;
    Ok(Root { last_pid })
}

impl Root {
    /// Makes the next process of the namespace get the number after `last`, so
    /// that process numbers repeat from test to test.
    ///
    /// # Errors
    /// When the kernel refuses the write.
    pub fn set_last_pid(&mut self, last: u32) -> Result<(), SandboxError> {
        // The kernel takes a setting only at the start of its file.
        self.last_pid
            .write_all_at(last.to_string().as_bytes(), 0)
            .map_err(SandboxError::file("write", "ns_last_pid"))
    }
}

/// Mounts a tmpfs at `place`.
///
/// # Errors
/// When the mount is refused.
pub fn tmpfs(place: &Path, options: &str) -> Result<(), SandboxError> {
    mount(
        Some("kairos"),
        place,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options),
    )
    .map_err(SandboxError::refused(format!(
        "mounting tmpfs at {}",
        place.display()
    )))
}

/// An existing folder to build the root on: a made one could be left behind.
fn mount_point(builds: &[Mounted]) -> PathBuf {
    ["/mnt", "/media", "/srv", "/opt"]
        .iter()
        .map(PathBuf::from)
        .find(|place| place.is_dir() && !builds.iter().any(|b| b.outside.starts_with(place)))
        .unwrap_or_else(|| PathBuf::from("/mnt"))
}

fn folder(path: &Path) -> Result<(), SandboxError> {
    fs::create_dir_all(path).map_err(SandboxError::file("create", path.display()))
}

/// Repeats a top-level folder of the machine: a link stays a link, a folder is
/// mounted read-only.
fn mirror(root: &Path, name: &str) -> Result<(), SandboxError> {
    let outside = Path::new("/").join(name);
    let Ok(kind) = fs::symlink_metadata(&outside) else {
        return Ok(());
    };
    if kind.is_symlink() {
        let target =
            fs::read_link(&outside).map_err(SandboxError::file("read", outside.display()))?;
        symlink(target, root.join(name)).map_err(SandboxError::file("link", outside.display()))
    } else {
        bind_read_only(&outside, &root.join(name))
    }
}

fn bind_read_only(outside: &Path, inside: &Path) -> Result<(), SandboxError> {
    folder(inside)?;
    bind(outside, inside)?;
    remount_read_only(inside)
}

fn bind(outside: &Path, inside: &Path) -> Result<(), SandboxError> {
    mount(
        Some(outside),
        inside,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(SandboxError::refused(format!(
        "mounting {} in the sandbox",
        outside.display()
    )))
}

fn remount_read_only(inside: &Path) -> Result<(), SandboxError> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    // A user namespace may add restrictions but not drop those it inherited.
    if let Ok(now) = statvfs(inside) {
        for (has, keep) in [
            (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
            (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
            (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
            (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
            (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
        ] {
            if now.flags().contains(has) {
                flags |= keep;
            }
        }
    }
    mount(None::<&str>, inside, None::<&str>, flags, None::<&str>).map_err(SandboxError::refused(
        format!("making {} read-only", inside.display()),
    ))
}

fn devices(root: &Path) -> Result<(), SandboxError> {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (outside, inside) = (Path::new("/dev").join(name), root.join("dev").join(name));
        if outside.exists() {
            File::create(&inside).map_err(SandboxError::file("create", inside.display()))?;
            bind(&outside, &inside)?;
        }
    }
    Ok(())
}

fn generate_etc(etc: &Path, identity: Identity, users: &[SandboxUser]) -> Result<(), SandboxError> {
    let id = identity.id();
    let mut passwd = format!(
        "root:x:0:0:root:/root:/bin/sh\n\
         kairos:x:{id}:{id}:subject:/home/kairos:/bin/sh\n\
         ftp:x:{id}:{id}:ftp:/home/kairos:/bin/sh\n\
         nobody:x:65534:65534:nobody:/:/bin/false\n"
    );
    for user in users {
        let SandboxUser {
            name,
            password,
            home,
        } = user;
        let _ = writeln!(passwd, "{name}:{password}:{id}:{id}::{home}:/bin/sh");
    }
    let group =
        format!("root:x:0:\nkairos:x:{id}:\nftp:x:{id}:\nnogroup:x:65534:\nnobody:x:65534:\n");
    for (name, text) in [
        ("passwd", passwd.as_str()),
        ("group", group.as_str()),
        ("hosts", "127.0.0.1 localhost kairos\n::1 localhost\n"),
        (
            "nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\n",
        ),
        ("resolv.conf", ""),
        ("host.conf", "multi on\n"),
        ("services", "ftp 21/tcp\nftp-data 20/tcp\nhttp 80/tcp\n"),
        ("protocols", "ip 0 IP\ntcp 6 TCP\nudp 17 UDP\n"),
    ] {
        let path = etc.join(name);
        fs::write(&path, text).map_err(SandboxError::file("write", path.display()))?;
    }
    let cache = Path::new("/etc/ld.so.cache");
    if cache.exists() {
        fs::copy(cache, etc.join("ld.so.cache"))
            .map_err(SandboxError::file("copy", cache.display()))?;
    }
    Ok(())
}

/// Mounts /proc of the process namespace, takes the one handle that needs
/// writing, and closes the kernel's settings to subjects: started by root, the
/// subject is root to them.
fn mount_proc(root: &Path) -> Result<File, SandboxError> {
    let proc = root.join("proc");
    mount(
        Some("proc"),
        &proc,
        Some("proc"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        None::<&str>,
    )
    .map_err(SandboxError::refused("mounting /proc"))?;
    let sys = proc.join("sys");
    for (name, value) in [
        // A client's closed connection must not slow or number the next one.
        ("net/ipv4/tcp_max_tw_buckets", "0"),
        ("net/ipv4/ip_local_port_range", "40000 49999"),
    ] {
        let path = sys.join(name);
        fs::write(&path, value).map_err(SandboxError::file("write", path.display()))?;
    }
    bound_processes(&sys);
    let path = sys.join("kernel/ns_last_pid");
    let last_pid = OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(SandboxError::file("open", path.display()))?;
    bind(&sys, &sys)?;
    remount_read_only(&sys)?;
    Ok(last_pid)
}

/// Bounds the number of processes of the sandbox, so that a fork storm can neither
/// take the machine's nor use up the files that following them needs. Only where the setting belongs to the namespace (Linux 6.14 and
/// later): before that it would be the whole machine's.
fn bound_processes(sys: &Path) {
    // The kernel takes no smaller bound than its reserved numbers and one more.
    const MOST: u64 = 4096;
    const LEAST: u64 = 301;
    let release = fs::read_to_string(sys.join("kernel/osrelease")).unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 14) {
        // Refused, the storm still ends with the sandbox.
        let most = most_processes().clamp(LEAST, MOST);
        let _ = fs::write(sys.join("kernel/pid_max"), most.to_string());
    }
}

fn turn_to(root: &Path) -> Result<(), SandboxError> {
    nix::unistd::chdir(root).map_err(SandboxError::refused("entering the new root"))?;
    nix::unistd::pivot_root(".", ".").map_err(SandboxError::refused("pivot_root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(SandboxError::refused("dropping the old root"))?;
    nix::unistd::chdir("/").map_err(SandboxError::refused("entering the new root"))
}
