//! Reads out of a simulated world what a run showed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use kairos_simulator::cache::{CACHED_AT, Cached};
use kairos_simulator::files::{Files, Inode};
use kairos_simulator::processes::Process;
use kairos_simulator::transcript::{HEAD, MOST_EXCHANGES, MOST_LOGS, Transcript};
use nix::errno::Errno;
use nix::sys::uio::{pread, pwrite};

use super::Unfit;
use super::known_ends::Counts;
use super::live::Live;
use super::run::Played;
use crate::binary::Address;
use crate::engine::parts::Note;
use crate::engine::restart::Restart;
use crate::engine::server::log_path;
use crate::sandbox::root::RUN_FOLDER;
use crate::tracee::shared_world::SharedWorld;
use crate::tracee::tree::signal_name;
use crate::verdict::Observation;
use crate::verdict::entries::Entries;
use crate::verdict::observation::{Ending, SeenExchange, SeenProcess, Update};

/// Bytes that are kept of what the server printed.
const MOST_OUTPUT: usize = 8 << 10;

/// What a run's transcript and logs hold, by exchange.
struct Exchanges {
    ended: usize,
    /// What arrived, by exchange and connection.
    replies: BTreeMap<(usize, usize), Vec<u8>>,
    logs: Vec<[u32; MOST_LOGS]>,
}

impl Exchanges {
    fn read(transcript: &Transcript) -> Self {
        let ended = usize::try_from(transcript.ended).unwrap_or(0);
        let ended = ended.min(MOST_EXCHANGES);
        let length = usize::try_from(transcript.length).unwrap_or(0);
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        let mut replies = BTreeMap::<_, Vec<u8>>::new();
        let mut rest = &transcript.bytes[..length.min(transcript.bytes.len())];
        while let Some((head, after)) = rest.split_at_checked(HEAD) {
            let length = usize::try_from(number(&head[8..])).unwrap_or(0);
            let (text, after) = after.split_at(length.min(after.len()));
            let place = |at: usize| usize::try_from(number(&head[at..at + 4])).unwrap_or(0);
            let reply = replies.entry((place(0), place(4))).or_default();
            reply.extend_from_slice(text);
            rest = after;
        }
        Self {
            ended,
            replies,
            logs: transcript.logs[..=ended].to_vec(),
        }
    }
}

/// The files of the world.
struct WorldFiles<'m> {
    shared: &'m SharedWorld,
    files: &'m Files,
}

impl<'m> WorldFiles<'m> {
    fn of(shared: &'m SharedWorld) -> Self {
        Self {
            shared,
            files: &shared.world().files,
        }
    }

    fn content(&self, inode: &Inode) -> &'m [u8] {
        let (data, length) = if inode.own == 0 {
            let before = self.before(inode);
            before.map_or((0, 0), |before| (before.data, before.length))
        } else {
            (inode.data, inode.length)
        };
        let length = usize::try_from(length).unwrap_or(0);
        self.shared.bytes(Address(data), length).unwrap_or_default()
    }

    fn before(&self, inode: &Inode) -> Option<&'m Cached> {
        let index = inode.cached.checked_sub(1)?;
        let place = CACHED_AT + u64::from(index) * size_of::<Cached>() as u64;
        self.shared.cached(Address(place))
    }

    /// What is written by now under the paths that differ from before: none where a
    /// file was taken away.
    fn changed(&self) -> BTreeMap<String, Option<&'m Inode>> {
        let mut changed = BTreeMap::new();
        for inode in self
            .files
            .inodes
            .iter()
            .filter(|i| i.used != 0 && i.own != 0)
        {
            if let Some(before) = self.before(inode) {
                let path = String::from_utf8_lossy(before.path.text()).into_owned();
                changed.insert(path, Some(inode));
            }
        }
        for name in self.files.names.iter().filter(|name| name.used != 0) {
            let path = String::from_utf8_lossy(name.path.text()).into_owned();
            let inode = name.inode.checked_sub(1);
            let inode = inode.and_then(|at| self.files.inodes.get(usize::try_from(at).ok()?));
            // A folder has no content to be seen.
            if inode.is_some_and(|inode| inode.mode & 0o170_000 == 0o040_000) {
                continue;
            }
            changed.insert(path, inode);
        }
        changed
    }
}

/// The end of what the server printed.
pub(super) fn output(shared: &SharedWorld) -> BTreeMap<String, String> {
    output_of(&WorldFiles::of(shared))
}

fn output_of(files: &WorldFiles<'_>) -> BTreeMap<String, String> {
    let changed = files.changed();
    let mut output = BTreeMap::new();
    for name in ["stdout", "stderr"] {
        if let Some(Some(inode)) = changed.get(&log_path(name)) {
            let bytes = files.content(inode);
            let end = &bytes[bytes.len().saturating_sub(MOST_OUTPUT)..];
            let text = String::from_utf8_lossy(end).into_owned();
            if !text.is_empty() {
                output.insert(name.to_owned(), text);
            }
        }
    }
    output
}

/// Where entries of new functions are counted, and how many bytes of that are in use.
pub(super) fn coverage_of(engine: &Restart) -> Result<(OwnedFd, usize), Unfit> {
    let own = engine.coverage.try_clone();
    let own = own.map_err(|error| {
        let errno = error
            .raw_os_error()
            .map_or(Errno::UnknownErrno, Errno::from_raw);
        refused(errno)
    })?;
    Ok((own, engine.counted.bytes()))
}

/// Forgets the entries of new functions that were counted before.
pub(super) fn clear_counts((coverage, length): &(OwnedFd, usize)) -> Result<(), Unfit> {
    pwrite(coverage, &vec![0; *length], 0).map_err(refused)?;
    Ok(())
}

/// The entries of new functions that were counted by now.
pub(super) fn read_counts((coverage, length): &(OwnedFd, usize)) -> Result<Counts, Unfit> {
    let mut counts = vec![0; *length];
    pread(coverage, &mut counts, 0).map_err(refused)?;
    Ok(counts)
}

fn refused(errno: Errno) -> Unfit {
    Unfit::Host(crate::world::HostError::System {
        operation: "counting entries of new functions",
        errno,
    })
}

impl Restart {
    /// What a run showed, read out of its world; entries of new functions apart. Where
    /// the rest of the run is known, it is what was seen so far.
    pub(super) fn seen(&mut self, live: &Live, played: &Played) -> Result<Observation, Unfit> {
        let world = live.shared.world();
        let files = WorldFiles::of(&live.shared);
        // The rest is known, and with it what is there at the end.
        let (mut end_state, mut output) = (BTreeMap::new(), BTreeMap::new());
        if played.known.is_none() {
            end_state = self.seen_files(live, &files);
            output = output_of(&files);
        }
        Ok(Observation {
            update: Update::None,
            exchanges: self.seen_exchanges(live, played, &files)?,
            session_exchanges: world.control.session_exchanges,
            processes: played
                .notes
                .iter()
                .zip(world.known())
                .map(|(note, process)| seen_process(note, process, world.control.exchange))
                .collect(),
            files: end_state,
            stall: played.stall.clone(),
            new_entries: Entries::default(),
            old_frame_exchanges: BTreeSet::new(),
            wall_us: 0,
            output,
        })
    }

    fn seen_exchanges(
        &mut self,
        live: &Live,
        played: &Played,
        files: &WorldFiles<'_>,
    ) -> Result<Vec<SeenExchange>, Unfit> {
        let world = live.shared.world();
        let told = Exchanges::read(&world.transcript);
        let session = usize::try_from(world.control.session_exchanges).unwrap_or(0);
        let mut exchanges = vec![SeenExchange::default(); told.ended + 1];
        for ((exchange, connection), bytes) in told.replies {
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
        let changed = files.changed();
        for (log, name) in self.spec.logs.clone().iter().enumerate() {
            let Some(Some(inode)) = changed.get(&log_path(name)) else {
                continue;
            };
            if inode.rewritten != 0 {
                return Err(Unfit::Declined(format!("{name} is not only appended to")));
            }
            let content = files.content(inode);
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

    fn seen_files(&mut self, live: &Live, files: &WorldFiles<'_>) -> BTreeMap<String, String> {
        let mut contents = live.files.clone();
        for (path, inode) in files.changed() {
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
                Some(inode) => contents.insert(relative.to_owned(), files.content(inode).to_vec()),
                None => contents.remove(relative),
            };
        }
        contents
            .into_iter()
            .map(|(path, content)| (path, self.tools.summarised(&self.normaliser, content)))
            .collect()
    }
}

/// What became of one process of a run that ended in an exchange.
fn seen_process(note: &Note, process: &Process, exchange: u32) -> SeenProcess {
    let signal = i32::try_from(process.status & 0x7f).unwrap_or(0);
    let ending = if process.lives() {
        Ending::Outlived
    } else if signal == 0 {
        Ending::Exited(i32::try_from(process.status >> 8 & 0xff).unwrap_or(0))
    } else {
        Ending::Killed(signal_name(signal))
    };
    SeenProcess {
        role: note.role.clone(),
        updated: note.updated,
        ended_in: if process.lives() {
            exchange
        } else {
            process.ended_in
        },
        fault: note
            .fault
            .clone()
            .filter(|_| matches!(ending, Ending::Killed(_))),
        ending,
    }
}
