//! The kernel's watch on what a process writes: userfaultfd in its asynchronous
//! write-protecting mode, and `PAGEMAP_SCAN`.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::inject::{self, Gadget};
use super::{Stopped, TraceeError};

const PAGE: u64 = 4096;

/// Version of the kernel's interface.
const API: u64 = 0xaa;
/// `UFFD_FEATURE_WP_UNPOPULATED`, `UFFD_FEATURE_WP_ASYNC`.
const FEATURES: u64 = 1 << 13 | 1 << 15;
/// `UFFDIO_REGISTER_MODE_WP`.
const MODE_WP: u64 = 2;

/// Only user space may be held up by faults: anybody may have that, and in the
/// asynchronous mode nothing is ever held up.
const USER_MODE_ONLY: u64 = 1;

#[repr(C)]
struct Api {
    version: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

/// A run of pages.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Found {
    /// Its first address.
    pub start: u64,
    /// Past its end.
    pub end: u64,
    /// What the kernel says of it.
    pub categories: u64,
}

#[repr(C)]
struct Scan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    found: u64,
    found_length: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_any: u64,
    return_mask: u64,
}

/// The requests; the macro makes public functions that cannot be documented.
mod request {
    #![allow(missing_docs)]
    nix::ioctl_readwrite!(api, 0xaa, 0x3f, super::Api);
    nix::ioctl_readwrite!(register, 0xaa, 0x00, super::Register);
    nix::ioctl_readwrite!(scan, b'f', 16, super::Scan);
}

/// Categories of pages.
const ALLOWED: u64 = 1;
const WRITTEN: u64 = 1 << 1;
const OF_A_FILE: u64 = 1 << 2;
// Memory that nothing ever touched is passed over: most of what is watched has no pages,
// and to look at each of them would cost more than a test.
const PRESENT_OR_SWAPPED: u64 = 1 << 3 | 1 << 4;
const ZEROS: u64 = 1 << 5;

impl Scan {
    /// Lists the pages written in a range since they were last protected; and protects
    /// them again, if that is wanted.
    fn of(start: u64, end: u64, found: &mut [Found], protect: bool) -> Self {
        const PROTECT: u64 = 1;
        Self {
            flags: u64::from(protect) * PROTECT,
            category_mask: ALLOWED | WRITTEN,
            return_mask: WRITTEN,
            ..Self::all(start, end, found)
        }
    }

    /// Lists the pages in a range that hold something else than a file does.
    fn own(start: u64, end: u64, found: &mut [Found]) -> Self {
        Self {
            category_inverted: OF_A_FILE | ZEROS,
            category_mask: OF_A_FILE | ZEROS,
            return_mask: OF_A_FILE,
            ..Self::all(start, end, found)
        }
    }

    /// Lists the pages in a range.
    fn all(start: u64, end: u64, found: &mut [Found]) -> Self {
        Self {
            size: size_of::<Self>() as u64,
            flags: 0,
            start,
            end,
            walk_end: 0,
            found: found.as_mut_ptr() as u64,
            found_length: found.len() as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: 0,
            category_any: PRESENT_OR_SWAPPED,
            return_mask: 0,
        }
    }
}

/// Opens the kernel's watch inside a process. It must be done before the process
/// gives up any right.
///
/// # Errors
/// When the process is gone or the kernel refuses.
pub fn open_watch(stopped: &Stopped, gadget: Gadget, pid: Pid) -> Result<OwnedFd, TraceeError> {
    let flags = libc::O_CLOEXEC as u64 | libc::O_NONBLOCK as u64 | USER_MODE_ONLY;
    let arguments = [flags, 0, 0, 0, 0, 0];
    let number = inject::checked_call(
        stopped,
        gadget,
        "userfaultfd in the process",
        libc::SYS_userfaultfd,
        arguments,
    )?;
    let watch = take_descriptor(pid, number)?;
    inject::close(stopped, gadget, i32::try_from(number).unwrap_or(-1))?;
    let mut api = Api {
        version: API,
        features: FEATURES,
        ioctls: 0,
    };
    // SAFETY: the structure that the request takes.
    unsafe { request::api(watch.as_raw_fd(), &raw mut api) }
        .map_err(TraceeError::from_errno("UFFDIO_API", pid))?;
    Ok(watch)
}

/// Tries on this very process what [`Written`] needs of the kernel.
///
/// # Errors
/// What was refused, and the kernel's reason.
pub fn try_on_ourselves() -> Result<(), String> {
    let because = |what: &'static str| move |errno: Errno| format!("{what}: {errno}");
    let flags = libc::O_CLOEXEC as u64 | USER_MODE_ONLY;
    // SAFETY: the call takes a number and returns a new descriptor, which is ours.
    let watch = unsafe {
        let number = Errno::result(libc::syscall(libc::SYS_userfaultfd, flags))
            .map_err(because("userfaultfd"))?;
        OwnedFd::from_raw_fd(i32::try_from(number).unwrap_or(-1))
    };
    let mut api = Api {
        version: API,
        features: FEATURES,
        ioctls: 0,
    };
    // SAFETY: the structure that the request takes.
    unsafe { request::api(watch.as_raw_fd(), &raw mut api) }
        .map_err(because("UFFDIO_API with asynchronous write protection"))?;
    let length = usize::try_from(PAGE).unwrap_or(0);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, which the end of this process takes away.
    let page = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, kind, -1, 0) };
    let start = page as u64;
    let mut register = Register {
        start,
        length: PAGE,
        mode: MODE_WP,
        ioctls: 0,
    };
    // SAFETY: the structure that the request takes.
    unsafe { request::register(watch.as_raw_fd(), &raw mut register) }
        .map_err(because("UFFDIO_REGISTER"))?;
    let pagemap = File::open("/proc/self/pagemap").map_err(|e| format!("pagemap: {e}"))?;
    let mut found = [Found::default(); 2];
    let mut look = || {
        let mut scan = Scan::of(start, start + PAGE, &mut found, true);
        // SAFETY: the structure that the request takes, with room for the answer.
        unsafe { request::scan(pagemap.as_raw_fd(), &raw mut scan) }
            .map_err(because("PAGEMAP_SCAN"))
    };
    let mut seen = Vec::new();
    for byte in 1..=2_u8 {
        // SAFETY: the page that was just mapped.
        unsafe { page.cast::<u8>().write_volatile(byte) };
        seen.push(look()?);
        seen.push(look()?);
    }
    if seen == [1, 0, 1, 0] {
        Ok(())
    } else {
        Err(format!(
            "looks after and without writes found {seen:?} ranges"
        ))
    }
}

/// Takes a copy of a descriptor of the process.
fn take_descriptor(pid: Pid, number: i64) -> Result<OwnedFd, TraceeError> {
    // SAFETY: both calls take numbers and return a new descriptor, which is ours.
    unsafe {
        let process = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))
            .map_err(TraceeError::from_errno("pidfd_open", pid))?;
        let process = OwnedFd::from_raw_fd(i32::try_from(process).unwrap_or(-1));
        let copy = Errno::result(libc::syscall(
            libc::SYS_pidfd_getfd,
            process.as_raw_fd(),
            number,
            0,
        ))
        .map_err(TraceeError::from_errno("pidfd_getfd", pid))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(copy).unwrap_or(-1)))
    }
}

/// Watches a range of memory for writes.
///
/// # Errors
/// When the kernel refuses.
pub fn watch_range(watch: &OwnedFd, (start, end): (u64, u64), pid: Pid) -> Result<(), TraceeError> {
    let mut register = Register {
        start,
        length: end - start,
        mode: MODE_WP,
        ioctls: 0,
    };
    // SAFETY: the structure that the request takes.
    unsafe { request::register(watch.as_raw_fd(), &raw mut register) }
        .map_err(TraceeError::from_errno("UFFDIO_REGISTER", pid))?;
    Ok(())
}

/// Lists runs of pages in a range that were written since they were last protected, as
/// many as there is room for, and protects them again, if that is wanted; returns how
/// many it found.
///
/// # Errors
/// When the kernel refuses.
pub fn look(
    pagemap: BorrowedFd<'_>,
    (start, end): (u64, u64),
    found: &mut [Found],
    protect: bool,
    pid: Pid,
) -> Result<usize, TraceeError> {
    ask(pagemap, Scan::of(start, end, found, protect), pid)
}

/// Lists runs of pages in a range that hold something else than a file does, as many as
/// there is room for; returns how many it found.
///
/// # Errors
/// When the kernel refuses.
pub fn own_pages(
    pagemap: BorrowedFd<'_>,
    (start, end): (u64, u64),
    found: &mut [Found],
    pid: Pid,
) -> Result<usize, TraceeError> {
    ask(pagemap, Scan::own(start, end, found), pid)
}

fn ask(pagemap: BorrowedFd<'_>, mut scan: Scan, pid: Pid) -> Result<usize, TraceeError> {
    // SAFETY: the structure that the request takes, with room for the answer.
    let count = unsafe { request::scan(pagemap.as_raw_fd(), &raw mut scan) }
        .map_err(TraceeError::from_errno("PAGEMAP_SCAN", pid))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// A look at a range, which lists runs of pages and returns how many they are.
pub type Look<'a> = dyn FnMut((u64, u64), &mut [Found]) -> Result<usize, TraceeError> + 'a;

/// Looks at a range as often as it takes to list all runs of pages.
///
/// # Errors
/// When a look fails.
pub fn each_run(
    (mut start, end): (u64, u64),
    found: &mut [Found],
    all: &mut Vec<Found>,
    look: &mut Look<'_>,
) -> Result<(), TraceeError> {
    while start < end {
        let count = look((start, end), found)?;
        all.extend_from_slice(&found[..count]);
        // A full answer ends where its last range does.
        start = match found[..count].last() {
            Some(last) if count == found.len() => last.end,
            _ => end,
        };
    }
    Ok(())
}
