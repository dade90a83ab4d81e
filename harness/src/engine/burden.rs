//! What a worker itself takes of the machine: it must not grow with the number of
//! tests.

use serde::{Deserialize, Serialize};

/// Memory and open files of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burden {
    /// Resident memory of its own in KiB, without that of mapped files.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
}

impl Burden {
    /// That of the calling process.
    #[must_use]
    pub fn own() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            resident_kib: resident.unwrap_or(0),
            descriptors: open as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_counted() {
        let before = Burden::own();
        let _held: Vec<_> = (0..100).map(|_| tempfile::tempfile().unwrap()).collect();
        // Other tests of this process open and close files meanwhile.
        assert!(Burden::own().descriptors > before.descriptors + 50);
        assert!(before.resident_kib > 0);
    }
}
