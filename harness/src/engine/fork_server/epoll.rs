//! What an epoll set watches. A copied process would share the set itself: what it
//! adds would wake the original, so it gets a set of its own.

use std::os::unix::fs::MetadataExt as _;

use super::belongings::word;
use super::unfit::{NoCopy, Unfit};
use crate::tracee::batch::Batch;
use crate::tracee::descriptors::Descriptor;

/// One descriptor that a set watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    watched: i32,
    events: u32,
    data: u64,
}

/// A line of `fdinfo`, with the inode that is watched.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    interest: Interest,
    inode: u64,
}

impl Interest {
    /// Bytes of one `struct epoll_event`.
    pub const LENGTH: usize = 12;

    /// Everything that the set of `descriptor` watches, given all descriptors.
    ///
    /// # Errors
    /// When it watches something that is no longer open under its number, or another
    /// set.
    pub fn all(descriptor: &Descriptor, all: &[Descriptor]) -> Result<Vec<Self>, NoCopy> {
        let unfit = |what: &str| {
            NoCopy::from(Unfit::Descriptor {
                number: descriptor.number,
                what: what.to_owned(),
            })
        };
        let mut found = Vec::new();
        for line in descriptor.info.lines().filter(|l| l.starts_with("tfd:")) {
            let line = parse(line).ok_or_else(|| unfit("an epoll set that cannot be read"))?;
            let watched = all
                .iter()
                .find(|other| other.number == line.interest.watched);
            let Some(watched) = watched.filter(|watched| inode(watched) == Some(line.inode)) else {
                return Err(unfit(
                    "an epoll set that watches a descriptor of another number",
                ));
            };
            if watched.target == "anon_inode:[eventpoll]" {
                return Err(unfit("an epoll set that watches another"));
            }
            found.push(line.interest);
        }
        Ok(found)
    }

    /// Has a copy watch it by its set `set`.
    pub fn add(&self, batch: &mut Batch, set: i32) {
        let mut event = [0; Self::LENGTH];
        event[..4].copy_from_slice(&self.events.to_le_bytes());
        event[4..].copy_from_slice(&self.data.to_le_bytes());
        let place = batch.data(&event);
        let arguments = [
            word(set),
            word(libc::EPOLL_CTL_ADD),
            word(self.watched),
            place.0,
        ];
        batch.call("epoll_ctl in a copy", libc::SYS_epoll_ctl, &arguments);
    }
}

fn inode(descriptor: &Descriptor) -> Option<u64> {
    std::fs::metadata(&descriptor.entry)
        .ok()
        .map(|facts| facts.ino())
}

/// `tfd: 5 events: 19 data: 5 pos:0 ino:1f2 sdev:9`, numbers but the first in hex.
fn parse(line: &str) -> Option<Line> {
    let words: Vec<&str> = line
        .split([':', ' ', '\t'])
        .filter(|w| !w.is_empty())
        .collect();
    let field = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let hex = |name: &str| u64::from_str_radix(field(name)?, 16).ok();
    Some(Line {
        interest: Interest {
            watched: field("tfd")?.parse().ok()?,
            events: u32::try_from(hex("events")?).ok()?,
            data: hex("data")?,
        },
        inode: hex("ino")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = "tfd:        5 events:       19 data:                5  pos:0 ino:1f2 sdev:9";
        let expected = Line {
            interest: Interest {
                watched: 5,
                events: 0x19,
                data: 5,
            },
            inode: 0x1f2,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("tfd: 5"), None);
    }
}
