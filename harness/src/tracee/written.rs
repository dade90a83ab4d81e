//! Which pages of a process were written: the kernel tells (userfaultfd in its
//! asynchronous write-protecting mode, and `PAGEMAP_SCAN`), so that going back costs
//! what was written and not what is mapped.
//!
//! Neighbouring tests write nearly the same pages. A page that was written stays without
//! protection for some tests and is copied each time, whether it was written again or
//! not: a copy costs less than the fault that would tell.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::unistd::Pid;

use super::digest::{Digest, EMPTY};
use super::write_watch::{self, Found, watch_range};
use super::{Memory, TraceeError};
use crate::binary::Address;

const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;

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
    /// Pages that its digest leaves out.
    apart: Vec<Range<u64>>,
    /// Of the baseline.
    digest: Digest,
    /// Room for what is read to be compared.
    room: Vec<u8>,
}

impl Written {
    /// Watches all memory that the process may write for itself, and the code of its
    /// files; what it holds now is the baseline. `kept` are ranges that are left alone,
    /// `apart` those that its digest leaves out.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn watch(
        watch: OwnedFd,
        pid: Pid,
        memory: &Memory,
        kept: &[Range<u64>],
        apart: Vec<Range<u64>>,
    ) -> Result<Self, TraceeError> {
        let mut written = Self {
            pagemap: page_map(pid)?,
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
            apart,
            digest: Digest::default(),
            room: Vec::new(),
            watch,
        };
        for region in &mut written.regions {
            if region.file {
                memory.read(Address(region.start), &mut region.copy)?;
                let addresses = (region.start..region.end).step_by(PAGE_BYTES);
                for (address, page) in addresses.zip(region.copy.chunks_exact(PAGE_BYTES)) {
                    if !written.apart.iter().any(|range| range.contains(&address)) {
                        written.digest.replace(address, &EMPTY, page);
                    }
                }
            }
            watch_range(&written.watch, (region.start, region.end), pid)?;
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
        self.digest = self.compare(&written, memory, &mut |old, new| old.copy_from_slice(new))?;
        Ok(())
    }

    /// A digest of what the process holds now, without what is left out of it. Equal
    /// digests mean equal memory.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn digest(&mut self, pid: Pid, memory: &Memory) -> Result<Digest, TraceeError> {
        let written = self.look(pid, false)?;
        self.compare(&written, memory, &mut |_, _| {})
    }

    /// The digest of a process that descends from the one that is watched and is not
    /// watched itself. Its code is that of the watched one.
    ///
    /// # Errors
    /// When the process is gone or the kernel refuses.
    pub fn digest_of_descendant(
        &mut self,
        pid: Pid,
        memory: &Memory,
    ) -> Result<Digest, TraceeError> {
        let pagemap = page_map(pid)?;
        let mut own = Vec::new();
        for region in self.regions.iter().filter(|region| region.writable) {
            let range = (region.start, region.end);
            let found = &mut self.found;
            write_watch::each_run(range, found, &mut own, &mut |range, found| {
                write_watch::own_pages(pagemap.as_fd(), range, found, pid)
            })?;
        }
        self.compare(&own, memory, &mut |_, _| {})
    }

    /// The digest of the baseline.
    #[must_use]
    pub const fn baseline_digest(&self) -> Digest {
        self.digest
    }

    /// Reads runs of pages, hands each page that differs to `differs`, after what the
    /// baseline holds there, and returns the digest of the process's memory.
    fn compare(
        &mut self,
        written: &[Found],
        memory: &Memory,
        differs: &mut dyn FnMut(&mut [u8], &[u8]),
    ) -> Result<Digest, TraceeError> {
        let all = self.regions.iter();
        let runs: Vec<_> = all
            .flat_map(|region| within(written, region.start, region.end))
            .collect();
        let total = runs.iter().map(|run| length(run.start, run.end)).sum();
        self.room.resize(total, 0);
        let mut pieces = Vec::with_capacity(runs.len());
        let mut rest = &mut self.room[..];
        for run in &runs {
            let (piece, after) = rest.split_at_mut(length(run.start, run.end));
            pieces.push((Address(run.start), piece));
            rest = after;
        }
        memory.read_pieces(&mut pieces)?;
        let mut digest = self.digest;
        let mut now = self.room.chunks_exact(PAGE_BYTES);
        for region in &mut self.regions {
            for run in within(&runs, region.start, region.end) {
                let from = length(region.start, run.start);
                let copy = &mut region.copy[from..from + length(run.start, run.end)];
                let addresses = (run.start..run.end).step_by(PAGE_BYTES);
                for (address, old) in addresses.zip(copy.chunks_exact_mut(PAGE_BYTES)) {
                    let Some(new) = now.next().filter(|new| *new != old) else {
                        continue;
                    };
                    if !self.apart.iter().any(|range| range.contains(&address)) {
                        digest.replace(address, old, new);
                    }
                    differs(old, new);
                }
            }
        }
        Ok(digest)
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
        let (range, pagemap) = ((first.start, last.end), self.pagemap.as_fd());
        let found = &mut self.found;
        write_watch::each_run(range, found, &mut written, &mut |range, found| {
            write_watch::look(pagemap, range, found, protect, pid)
        })?;
        Ok(written)
    }
}

/// Opens what tells of the pages of a process.
fn page_map(pid: Pid) -> Result<File, TraceeError> {
    File::open(format!("/proc/{pid}/pagemap")).map_err(|source| TraceeError::Memory {
        operation: "opening the page map for",
        address: 0,
        length: 0,
        pid,
        source,
    })
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
fn private_ranges(pid: Pid, kept: &[Range<u64>]) -> Vec<(u64, u64, bool, bool)> {
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
fn outside(start: u64, end: u64, kept: &[Range<u64>]) -> Vec<(u64, u64)> {
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
