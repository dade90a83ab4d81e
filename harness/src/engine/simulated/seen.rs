//! Reads out of a simulated world what a run showed.

use std::collections::{BTreeMap, BTreeSet};

use kairos_simulator::cache::{CACHED_AT, Cached};
use kairos_simulator::files::{Files, Inode, MOST_INODES, MOST_NAMES, Name};
use kairos_simulator::layout;
use kairos_simulator::network::{Network, Role, Socket};
use kairos_simulator::transcript::{HEAD, MOST_LOGS, Transcript};
use kairos_simulator::world::World;
use nix::errno::Errno;
use nix::sys::uio::{pread, pwrite};

use super::Unfit;
use super::live::Live;
use super::run::Played;
use crate::binary::Address;
use crate::engine::restart::Restart;
use crate::engine::server::log_path;
use crate::sandbox::root::RUN_FOLDER;
use crate::tracee::apply::{counted_functions, coverage};
use crate::tracee::simulator;
use crate::tracee::{Memory, TraceeError};
use crate::verdict::Observation;
use crate::verdict::observation::{Ending, SeenExchange, SeenProcess, Update};

/// Bytes that are kept of what the server printed.
const MOST_OUTPUT: usize = 8 << 10;

/// Changed names that are read at a time; most sessions have fewer.
const NAMES_AT_ONCE: usize = 8;

const TRANSCRIPT: usize = std::mem::offset_of!(World, transcript);

fn at(offset: usize) -> Address {
    Address(layout::WORLD + offset as u64)
}

/// What a run's transcript and logs hold, by exchange.
struct Exchanges {
    ended: usize,
    replies: Vec<(usize, usize, Vec<u8>)>,
    logs: Vec<[u32; MOST_LOGS]>,
}

impl Exchanges {
    fn read(memory: &Memory) -> Result<Self, TraceeError> {
        let length = memory.word(at(TRANSCRIPT))?;
        let word = memory.word(at(TRANSCRIPT + std::mem::offset_of!(Transcript, ended)))?;
        let ended = usize::try_from(word & 0xffff_ffff).unwrap_or(0);
        let mut table = vec![0; (ended + 1) * MOST_LOGS * 4];
        memory.read(at(std::mem::offset_of!(World, log_lengths)), &mut table)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        memory.read(Address(layout::TRANSCRIPT), &mut bytes)?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let mut replies = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, after)) = rest.split_at_checked(HEAD) {
            let length = usize::try_from(number(&head[8..])).unwrap_or(0);
            let (text, after) = after.split_at(length.min(after.len()));
            let place = |at: usize| usize::try_from(number(&head[at..at + 4])).unwrap_or(0);
            replies.push((place(0), place(4), text.to_vec()));
            rest = after;
        }
        let logs = table
            .chunks_exact(MOST_LOGS * 4)
            .map(|row| std::array::from_fn(|log| number(&row[4 * log..4 * log + 4])))
            .collect();
        Ok(Self {
            ended,
            replies,
            logs,
        })
    }
}

/// The files of the world.
struct WorldFiles<'m> {
    memory: &'m Memory,
    /// What is written by now under the paths that differ from before: none where a
    /// file was taken away.
    changed: BTreeMap<String, Option<Inode>>,
}

impl<'m> WorldFiles<'m> {
    fn read(memory: &'m Memory) -> Result<Self, TraceeError> {
        let mut files = Self {
            memory,
            changed: BTreeMap::new(),
        };
        let place = std::mem::offset_of!(World, files);
        let inodes = at(place + std::mem::offset_of!(Files, inodes));
        let inodes: Box<[Inode; MOST_INODES]> = simulator::read(memory, inodes)?;
        let own = |inode: &&Inode| inode.used != 0 && inode.own != 0;
        for inode in inodes.iter().filter(own) {
            if let Some(before) = files.before(inode)? {
                let path = String::from_utf8_lossy(before.path.text()).into_owned();
                files.changed.insert(path, Some(*inode));
            }
        }
        let names = place + std::mem::offset_of!(Files, names);
        for index in 0..MOST_NAMES / NAMES_AT_ONCE {
            let names = at(names + index * size_of::<[Name; NAMES_AT_ONCE]>());
            let names: Box<[Name; NAMES_AT_ONCE]> = simulator::read(memory, names)?;
            // An entry stays used: the first that is not is the end.
            let used = names.iter().take_while(|name| name.used != 0);
            let mut count = 0;
            for name in used {
                let path = String::from_utf8_lossy(name.path.text()).into_owned();
                let inode = name.inode.checked_sub(1);
                let inode = inode.and_then(|at| inodes.get(usize::try_from(at).ok()?));
                files.changed.insert(path, inode.copied());
                count += 1;
            }
            if count < NAMES_AT_ONCE {
                break;
            }
        }
        Ok(files)
    }

    fn content(&self, inode: &Inode) -> Result<Vec<u8>, TraceeError> {
        let (data, length) = if inode.own == 0 {
            let before = self.before(inode)?;
            before.map_or((0, 0), |before| (before.data, before.length))
        } else {
            (inode.data, inode.length)
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if !bytes.is_empty() {
            self.memory.read(Address(data), &mut bytes)?;
        }
        Ok(bytes)
    }

    fn before(&self, inode: &Inode) -> Result<Option<Box<Cached>>, TraceeError> {
        let Some(index) = inode.cached.checked_sub(1) else {
            return Ok(None);
        };
        let place = CACHED_AT + u64::from(index) * size_of::<Cached>() as u64;
        simulator::read(self.memory, Address(place)).map(Some)
    }
}

/// Whether a socket of the world listens on a port.
pub(super) fn listens(memory: &Memory, port: u16) -> Result<bool, TraceeError> {
    let place = std::mem::offset_of!(World, network) + std::mem::offset_of!(Network, sockets);
    let mut found = false;
    for index in 0..kairos_simulator::network::MOST_SOCKETS {
        let socket: Box<Socket> = simulator::read(memory, at(place + index * size_of::<Socket>()))?;
        found |= socket.role == Role::Listening && socket.port == port;
    }
    Ok(found)
}

/// The end of what the server printed.
pub(super) fn output(memory: &Memory) -> Result<BTreeMap<String, String>, TraceeError> {
    output_of(&WorldFiles::read(memory)?)
}

fn output_of(files: &WorldFiles<'_>) -> Result<BTreeMap<String, String>, TraceeError> {
    let mut output = BTreeMap::new();
    for name in ["stdout", "stderr"] {
        if let Some(Some(inode)) = files.changed.get(&log_path(name)) {
            let bytes = files.content(inode)?;
            let end = &bytes[bytes.len().saturating_sub(MOST_OUTPUT)..];
            let text = String::from_utf8_lossy(end).into_owned();
            if !text.is_empty() {
                output.insert(name.to_owned(), text);
            }
        }
    }
    Ok(output)
}

/// Forgets the entries of new functions that were counted before.
pub(super) fn clear_coverage(engine: &Restart) -> Result<(), Unfit> {
    let Some(patch) = &engine.spec.patch else {
        return Ok(());
    };
    let zeros = vec![0; 4 * counted_functions(patch).len()];
    pwrite(&engine.coverage, &zeros, 0).map_err(refused)?;
    Ok(())
}

fn refused(errno: Errno) -> Unfit {
    Unfit::Host(crate::world::HostError::System {
        operation: "counting entries of new functions",
        errno,
    })
}

impl Restart {
    /// What a run showed, read out of its world.
    pub(super) fn seen(&mut self, live: &Live, played: &Played) -> Result<Observation, Unfit> {
        let memory = live.memory();
        let files = WorldFiles::read(memory)?;
        let mut new_entries = BTreeMap::new();
        if let Some(patch) = &self.spec.patch {
            let mut counts = vec![0; 4 * counted_functions(patch).len()];
            pread(&self.coverage, &mut counts, 0).map_err(refused)?;
            new_entries = coverage(patch, &counts);
        }
        let note = &played.note;
        let ended = played.ending.is_some();
        Ok(Observation {
            update: Update::None,
            exchanges: self.seen_exchanges(live, played, &files)?,
            session_exchanges: played.control.session_exchanges,
            processes: vec![SeenProcess {
                role: note.role.clone(),
                updated: note.updated,
                ended_in: if ended {
                    played.control.ended_in
                } else {
                    played.control.exchange
                },
                ending: played.ending.clone().unwrap_or(Ending::Outlived),
                fault: note
                    .fault
                    .clone()
                    .filter(|_| matches!(played.ending, Some(Ending::Killed(_)))),
            }],
            files: self.seen_files(live, &files)?,
            stall: played.stall.clone(),
            new_entries,
            old_frame_exchanges: BTreeSet::new(),
            wall_us: 0,
            output: output_of(&files)?,
        })
    }

    fn seen_exchanges(
        &mut self,
        live: &Live,
        played: &Played,
        files: &WorldFiles<'_>,
    ) -> Result<Vec<SeenExchange>, Unfit> {
        let told = Exchanges::read(files.memory)?;
        let session = usize::try_from(played.control.session_exchanges).unwrap_or(0);
        let mut exchanges = vec![SeenExchange::default(); told.ended + 1];
        for (exchange, connection, bytes) in told.replies {
            let names = live.connections(exchange >= session);
            let name = names.get(connection).cloned().unwrap_or_default();
            let text = self.tools.normalised(&self.normaliser, bytes);
            if let Some(seen) = exchanges.get_mut(exchange) {
                seen.replies.insert(name, text);
            }
        }
        // A session that stalled has no log of its stop.
        let stopping = played
            .stall
            .as_ref()
            .is_none_or(|stall| stall.waiting_for.starts_with("the server to stop"));
        for (log, name) in self.spec.logs.clone().iter().enumerate() {
            let Some(Some(inode)) = files.changed.get(&log_path(name)) else {
                continue;
            };
            if inode.rewritten != 0 {
                return Err(Unfit::Declined(format!("{name} is not only appended to")));
            }
            let content = files.content(inode)?;
            let mut before = told.logs[0][log];
            for (place, seen) in exchanges.iter_mut().enumerate() {
                let now = match told.logs.get(place + 1) {
                    Some(lengths) => lengths[log],
                    None if stopping => u32::try_from(content.len()).unwrap_or(u32::MAX),
                    None => before,
                };
                let range = before as usize..now as usize;
                if let Some(gained) = content.get(range).filter(|gained| !gained.is_empty()) {
                    let text = self.tools.normalised(&self.normaliser, gained.to_vec());
                    seen.logs.insert(name.clone(), text);
                }
                before = now;
            }
        }
        Ok(exchanges)
    }

    fn seen_files(
        &mut self,
        live: &Live,
        files: &WorldFiles<'_>,
    ) -> Result<BTreeMap<String, String>, Unfit> {
        let mut contents = live.files.clone();
        for (path, inode) in &files.changed {
            let Some(relative) = path
                .strip_prefix(RUN_FOLDER)
                .and_then(|path| path.strip_prefix('/'))
            else {
                continue;
            };
            if !self.wanted_files.iter().any(|w| w.is_match(relative)) {
                continue;
            }
            match inode {
                Some(inode) => contents.insert(relative.to_owned(), files.content(inode)?),
                None => contents.remove(relative),
            };
        }
        Ok(contents
            .into_iter()
            .map(|(path, content)| (path, self.tools.summarised(&self.normaliser, content)))
            .collect())
    }
}
