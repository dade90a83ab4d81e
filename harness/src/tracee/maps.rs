//! What is mapped where in a process.

use nix::unistd::Pid;

use crate::binary::Address;
use crate::state::memory::{Mapping, Mappings};

/// A file mapped into a process, at the address its first byte would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// Path as the process sees it.
    pub path: String,
    /// Address of the file's first byte.
    pub base: Address,
    /// First address mapped.
    pub start: Address,
    /// First address behind it.
    pub end: Address,
}

/// The files mapped into `pid`, in order of address; empty if it is gone.
#[must_use]
pub fn mapped_files(pid: Pid) -> Vec<MappedFile> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut files: Vec<MappedFile> = Vec::new();
    for line in text.lines() {
        let Some(mapping) = parse(line) else {
            continue;
        };
        match files.last_mut() {
            Some(last) if last.path == mapping.path => last.end = mapping.end,
            _ => files.push(mapping),
        }
    }
    files
}

/// Everything mapped into `pid` that it can read, by ascending address; empty if it
/// is gone.
#[must_use]
pub fn mappings(pid: Pid) -> Mappings {
    let text = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut found: Vec<Mapping> = Vec::new();
    for mapping in text.lines().filter_map(readable) {
        match found.last_mut() {
            // Memory that grew in steps is one all the same.
            Some(last)
                if last.range.end == mapping.range.start
                    && (last.writable, last.heap) == (mapping.writable, mapping.heap) =>
            {
                last.range.end = mapping.range.end;
            }
            _ => found.push(mapping),
        }
    }
    if let Some(start) = heap_start(pid) {
        part_heap(&mut found, start);
    }
    Mappings(found)
}

/// Where the main heap begins: the kernel may show the program's last variables as part
/// of the same mapping.
fn heap_start(pid: Pid) -> Option<u64> {
    // Fields are counted from the third, behind the name, which may hold anything.
    const START_OF_BREAK: usize = 47 - 3;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    fields.nth(START_OF_BREAK)?.parse().ok()
}

/// Parts what lies before the heap from a mapping that holds both.
fn part_heap(found: &mut Vec<Mapping>, start: u64) {
    let holds = |mapping: &Mapping| {
        mapping.heap && mapping.range.start < start && start < mapping.range.end
    };
    if let Some(place) = found.iter().position(holds) {
        let mut before = found[place].clone();
        before.range.end = start;
        before.heap = false;
        found[place].range.start = start;
        found.insert(place, before);
    }
}

fn readable(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next().filter(|rights| rights.starts_with('r'))?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        range: number(start)?..number(end)?,
        writable: rights[1..].starts_with('w'),
        heap: fields.nth(3) == Some("[heap]"),
    })
}

/// `7f00-7f10 r-xp 00001000 08:01 123   /path`; none of a device: memory that processes
/// share has the name `/dev/zero`, and who reads that to find code never ends.
fn parse(line: &str) -> Option<MappedFile> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let offset = fields.nth(1)?;
    let path = fields.nth(2).filter(|path| path.starts_with('/'))?;
    if path.starts_with("/dev/") {
        return None;
    }
    let number = |text| u64::from_str_radix(text, 16).ok();
    let start = Address(number(start)?);
    Some(MappedFile {
        path: path.to_owned(),
        base: Address(start.0.wrapping_sub(number(offset)?)),
        start,
        end: Address(number(end)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_before_the_heap_are_no_part_of_it() {
        let heap = readable("1000-9000 rw-p 00000000 00:00 0 [heap]").unwrap();
        let mut found = vec![heap.clone()];
        part_heap(&mut found, 0x1000);
        assert_eq!(found.len(), 1);
        part_heap(&mut found, 0x3000);
        let parts: Vec<_> = found.iter().map(|m| (m.range.clone(), m.heap)).collect();
        assert_eq!(parts, [(0x1000..0x3000, false), (0x3000..0x9000, true)]);
        assert!(heap_start(Pid::this()).is_some_and(|start| start > 0));
    }

    #[test]
    fn knows_the_heap_and_what_can_be_written() {
        let heap = readable("1000-2000 rw-p 00000000 00:00 0                  [heap]").unwrap();
        assert_eq!(heap.range, 0x1000..0x2000);
        assert!(heap.heap && heap.writable);
        let text = readable("7f10-7f20 r-xp 00000100 08:01 123   /usr/lib/libc.so.6").unwrap();
        assert!(!text.heap && !text.writable);
        assert_eq!(readable("7f10-7f20 ---p 00000000 00:00 0"), None);
    }

    #[test]
    fn reads_a_file_mapping_and_skips_the_rest() {
        let mapping = parse("7f10-7f20 r-xp 00000100 08:01 123      /usr/lib/libc.so.6").unwrap();
        assert_eq!(mapping.base, Address(0x7e10));
        assert_eq!(mapping.path, "/usr/lib/libc.so.6");
        assert_eq!(parse("7ffd-7ffe rw-p 00000000 00:00 0 [stack]"), None);
        let shared = "7f10-7f20 rw-s 00000000 00:01 1025   /dev/zero (deleted)";
        assert_eq!(parse(shared), None);
        assert_eq!(parse("7ffd-7ffe rw-p 00000000 00:00 0"), None);
    }
}
