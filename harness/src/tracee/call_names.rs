//! Names of system calls that servers make and that are not simulated, for people.

/// The name of a call with what helps to tell what it asked for.
#[must_use]
pub fn describe(number: i64, argument: u64) -> String {
    let name = match number {
        libc::SYS_socket => {
            let (family, kind) = (argument >> 8, argument & 0xff);
            return format!("socket(2) of family {family}, type {kind}");
        }
        libc::SYS_fcntl => return format!("fcntl(2) with command {argument}"),
        libc::SYS_ioctl => return format!("ioctl(2) with request {argument:#x}"),
        libc::SYS_clone => "clone(2)",
        libc::SYS_clone3 => "clone3(2)",
        libc::SYS_fork => "fork(2)",
        libc::SYS_vfork => "vfork(2)",
        libc::SYS_execve => "execve(2)",
        libc::SYS_connect => "connect(2)",
        libc::SYS_socketpair => "socketpair(2)",
        libc::SYS_eventfd2 => "eventfd2(2)",
        libc::SYS_timerfd_create => "timerfd_create(2)",
        libc::SYS_signalfd4 => "signalfd4(2)",
        libc::SYS_inotify_init1 => "inotify_init1(2)",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir(2)",
        libc::SYS_rmdir => "rmdir(2)",
        libc::SYS_link | libc::SYS_linkat => "link(2)",
        libc::SYS_symlink | libc::SYS_symlinkat => "symlink(2)",
        libc::SYS_chown | libc::SYS_fchown | libc::SYS_fchownat => "chown(2)",
        libc::SYS_chroot => "chroot(2)",
        libc::SYS_setuid => "setuid(2) after it was ready",
        libc::SYS_statx => "statx(2)",
        libc::SYS_futex => "futex(2)",
        libc::SYS_sigaltstack => "sigaltstack(2)",
        libc::SYS_prctl => "prctl(2)",
        libc::SYS_utimensat => "utimensat(2)",
        libc::SYS_statfs | libc::SYS_fstatfs => "statfs(2)",
        libc::SYS_chmod | libc::SYS_fchmodat => "chmod(2)",
        libc::SYS_flock => "flock(2)",
        _ => return format!("system call {number}"),
    };
    name.to_owned()
}
