//! Which pages of a process were written: the kernel tells (userfaultfd in its
//! asynchronous write-protecting mode, and `PAGEMAP_SCAN`), so that going back costs
//! what was written and not what is mapped.
//!
//! Neighbouring tests write nearly the same pages. A page that was written stays without
//! protection for some tests and is copied each time, whether it was written again or
//! not: a copy costs less than the fault that would tell.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::inject::{self, Gadget};
use super::{Memory, Stopped, TraceeError};
use crate::binary::Address;

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

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Found {
    start: u64,
    end: u64,
    categories: u64,
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

impl Scan {
    /// Lists the pages written in a range since they were last protected; and protects
    /// them again, if that is wanted.
    fn of(start: u64, end: u64, found: &mut [Found], protect: bool) -> Self {
        const PROTECT: u64 = 1;
        const ALLOWED_AND_WRITTEN: u64 = 3;
        const WRITTEN: u64 = 2;
        // Memory that nothing ever touched is passed over: most of what is watched has
        // no pages, and to look at each of them would cost more than a test.
        const PRESENT_OR_SWAPPED: u64 = 1 << 3 | 1 << 4;
        Self {
            size: size_of::<Self>() as u64,
            flags: u64::from(protect) * PROTECT,
            start,
            end,
            walk_end: 0,
            found: found.as_mut_ptr() as u64,
            found_length: found.len() as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: ALLOWED_AND_WRITTEN,
            category_any: PRESENT_OR_SWAPPED,
            return_mask: WRITTEN,
        }
    }
}

/// Most ranges that one look returns; a longer list takes several.
const MOST_FOUND: usize = 1024;

/// Tests after which pages are protected again: what earlier tests wrote and later ones
/// do not is copied in vain until then.
const TESTS_BETWEEN: u32 = 32;

/// A range of memory and what it held at the baseline.
struct Region {
    start: u64,
    end: u64,
    /// Whether untouched parts hold bytes of a file; elsewhere they hold zeros.
    file: bool,
    /// Whether the process may write it.
    writable: bool,
    copy: Vec<u8>,
}

/// The private memory of one process, watched for writes.
pub struct Written {
    // The kernel stops watching when it is closed.
    watch: OwnedFd,
    pagemap: File,
    regions: Vec<Region>,
    found: Vec<Found>,
    /// Tests since pages were protected.
    tests: u32,
    /// Pages that the first of these wrote.
    pages: Option<u64>,
    /// Whether so many are without protection by now that most are copied in vain.
    many: bool,
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

impl Written {
    /// Watches all memory that the process may write for itself, and the code of its
    /// files; what it holds now is the baseline. `kept` are ranges that are left alone.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn watch(
        watch: OwnedFd,
        pid: Pid,
        memory: &Memory,
        kept: &[std::ops::Range<u64>],
    ) -> Result<Self, TraceeError> {
        let pagemap =
            File::open(format!("/proc/{pid}/pagemap")).map_err(|source| TraceeError::Memory {
                operation: "opening the page map for",
                address: 0,
                length: 0,
                pid,
                source,
            })?;
        let mut written = Self {
            pagemap,
            regions: private_ranges(pid, kept)
                .into_iter()
                .map(|(start, end, file, writable)| Region {
                    start,
                    end,
                    file,
                    writable,
                    copy: vec![0; usize::try_from(end - start).unwrap_or(0)],
                })
                .collect(),
            found: vec![Found::default(); MOST_FOUND],
            tests: TESTS_BETWEEN,
            pages: None,
            many: false,
            watch,
        };
        for region in &mut written.regions {
            if region.file {
                memory.read(Address(region.start), &mut region.copy)?;
            }
            let mut register = Register {
                start: region.start,
                length: region.end - region.start,
                mode: MODE_WP,
                ioctls: 0,
            };
            // SAFETY: the structure that the request takes.
            unsafe { request::register(written.watch.as_raw_fd(), &raw mut register) }
                .map_err(TraceeError::from_errno("UFFDIO_REGISTER", pid))?;
        }
        written.absorb(pid, memory)?;
        Ok(written)
    }

    /// What was written becomes part of the baseline.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn absorb(&mut self, pid: Pid, memory: &Memory) -> Result<(), TraceeError> {
        let protect = self.many || self.tests >= TESTS_BETWEEN;
        if protect {
            (self.tests, self.pages, self.many) = (0, None, false);
        }
        let written = self.look(pid, protect)?;
        let mut pieces: Vec<(Address, &mut [u8])> = Vec::new();
        for region in &mut self.regions {
            let mut rest = &mut region.copy[..];
            let mut begins = region.start;
            for found in within(&written, region.start, region.end) {
                let (_, after) = rest.split_at_mut(length(begins, found.start));
                let (piece, after) = after.split_at_mut(length(found.start, found.end));
                pieces.push((Address(found.start), piece));
                (rest, begins) = (after, found.end);
            }
        }
        memory.read_pieces(&mut pieces)
    }

    /// Puts back the baseline.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn put_back(&mut self, pid: Pid, memory: &Memory) -> Result<(), TraceeError> {
        let written = self.look(pid, false)?;
        let pages = written.iter().map(|found| (found.end - found.start) / PAGE);
        let pages = pages.sum();
        let first = *self.pages.get_or_insert(pages);
        self.many = pages > first + first / 2 + 16;
        self.tests += 1;
        let mut pieces: Vec<(Address, &[u8])> = Vec::new();
        for region in &self.regions {
            for found in within(&written, region.start, region.end) {
                let from = length(region.start, found.start);
                let bytes = &region.copy[from..from + length(found.start, found.end)];
                if region.writable {
                    pieces.push((Address(found.start), bytes));
                } else {
                    memory.write(Address(found.start), bytes)?;
                }
            }
        }
        memory.write_pieces(&pieces)
    }

    /// Bytes that the baseline holds at an address; none outside of what is watched.
    #[must_use]
    pub fn baseline(&self, address: Address, length: usize) -> Option<&[u8]> {
        let region = self
            .regions
            .iter()
            .find(|region| (region.start..region.end).contains(&address.0))?;
        let at = usize::try_from(address.0 - region.start).ok()?;
        region.copy.get(at..at.checked_add(length)?)
    }

    /// All runs of pages without protection, which are all that were written since that
    /// was last restored; restores it, if that is wanted.
    fn look(&mut self, pid: Pid, protect: bool) -> Result<Vec<Found>, TraceeError> {
        let mut written = Vec::new();
        let (Some(first), Some(last)) = (self.regions.first(), self.regions.last()) else {
            return Ok(written);
        };
        let (mut start, end) = (first.start, last.end);
        while start < end {
            let mut scan = Scan::of(start, end, &mut self.found, protect);
            // SAFETY: the structure that the request takes, with room for the answer.
            let count = unsafe { request::scan(self.pagemap.as_raw_fd(), &raw mut scan) }
                .map_err(TraceeError::from_errno("PAGEMAP_SCAN", pid))?;
            let count = usize::try_from(count).unwrap_or(0);
            written.extend_from_slice(&self.found[..count]);
            // A full answer ends where its last range does.
            start = if count == self.found.len() {
                self.found[count - 1].end
            } else {
                end
            };
        }
        Ok(written)
    }
}

/// The parts of ascending ranges that lie between two addresses.
fn within(all: &[Found], start: u64, end: u64) -> impl Iterator<Item = Found> + '_ {
    let first = all.partition_point(|found| found.end <= start);
    let inside = all[first..]
        .iter()
        .take_while(move |found| found.start < end);
    inside.map(move |found| Found {
        start: found.start.max(start),
        end: found.end.min(end),
        ..*found
    })
}

fn length(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(0)
}

/// Private memory that is writable, and code of files: merged where they touch and are
/// alike, with whether there is a file below, and whether it is writable.
fn private_ranges(pid: Pid, kept: &[std::ops::Range<u64>]) -> Vec<(u64, u64, bool, bool)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut ranges: Vec<(u64, u64, bool, bool)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let range = fields.next().and_then(|range| range.split_once('-'));
        let (Some((start, end)), Some(rights)) = (range, fields.next()) else {
            continue;
        };
        let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (start, end) = (number(start), number(end));
        let writable = rights.contains('w');
        let private = rights.ends_with('p') && (writable || rights.contains('x'));
        let name = fields.nth(3);
        let special = name.is_some_and(|name| name.starts_with("[v"));
        let file = name.is_some_and(|name| !name.starts_with('['));
        if !private || special {
            continue;
        }
        for (start, end) in outside(start, end, kept) {
            match ranges.last_mut() {
                Some(last) if last.1 == start && last.3 == writable => {
                    last.1 = end;
                    last.2 |= file;
                }
                _ => ranges.push((start, end, file, writable)),
            }
        }
    }
    ranges
}

/// The parts of a range that lie in none of those that are kept, which are ascending: the
/// kernel shows neighbouring mappings as one.
fn outside(start: u64, end: u64, kept: &[std::ops::Range<u64>]) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut from = start;
    for range in kept {
        let to = range.start.clamp(from, end);
        if from < to {
            parts.push((from, to));
        }
        from = range.end.clamp(from, end);
    }
    if from < end {
        parts.push((from, end));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_cut_out_of_the_mapping_that_it_was_merged_into() {
        let kept = std::slice::from_ref(&(0x3000..0x5000));
        assert_eq!(
            outside(0x1000, 0x6000, kept),
            [(0x1000, 0x3000), (0x5000, 0x6000)]
        );
        assert_eq!(outside(0x1000, 0x5000, kept), [(0x1000, 0x3000)]);
        assert_eq!(outside(0x6000, 0x7000, kept), [(0x6000, 0x7000)]);
        assert!(outside(0x3000, 0x4000, kept).is_empty());
    }

    #[test]
    fn runs_of_pages_are_cut_at_the_ends_of_a_region() {
        let run = |start, end| Found {
            start,
            end,
            categories: 0,
        };
        let all = [
            run(0x1000, 0x4000),
            run(0x6000, 0x7000),
            run(0x8000, 0x9000),
        ];
        let cut: Vec<_> = within(&all, 0x2000, 0x7000)
            .map(|found| (found.start, found.end))
            .collect();
        assert_eq!(cut, [(0x2000, 0x4000), (0x6000, 0x7000)]);
    }
}
