//! What every engine does with a server that was started: session, probe, stop, and
//! what they show.

use std::collections::BTreeMap;

use super::lifecycle::{Started, stop, wait_until_ready};
use super::restart::Mode;
use super::server::{Server, log_path};
use super::spec::SessionSpec;
use super::stages::{Stage, StageClock};
use crate::sandbox::run_folder::read_files;
use crate::tracee::Stopped;
use crate::verdict::Observation;
use crate::verdict::entries::Entries;
use crate::verdict::observation::{Ending, SeenExchange, SeenProcess, Update};
use crate::workload::{Normaliser, Script};
use crate::world::{HostError, Limits, Played, play};

/// End-state files longer than this are compared by their hash.
const LONGEST_FILE: usize = 4096;

/// A run's observation, and its longest pauses.
pub struct Served {
    /// What it showed; its update is [`Update::None`].
    pub observation: Observation,
    /// The longest pauses of session, probe and stop.
    pub longest: Limits,
}

/// What is served.
pub struct Service<'a> {
    /// The session's specification.
    pub spec: &'a SessionSpec,
    /// The session script.
    pub script: &'a Script,
    /// The probe session's script.
    pub probe: Option<&'a Script>,
    /// Rules for volatile text.
    pub normaliser: &'a Normaliser,
    /// Which end-state files are read.
    pub wanted_files: &'a [regex::Regex],
}

impl Service<'_> {
    /// Exchanges of the session proper.
    #[must_use]
    pub fn session_exchanges(&self) -> u32 {
        u32::try_from(self.script.exchanges.len()).unwrap_or(u32::MAX)
    }

    /// Lets a server that was started, or copied when it was ready, serve session
    /// and probe, and asks it to stop. `copied` is the first thread of a copy.
    /// `finish` sees the server when all is over.
    ///
    /// # Errors
    /// When the harness or the machine fails, or the server never becomes ready.
    pub fn serve(
        &self,
        server: &mut Server<'_>,
        copied: Option<Stopped>,
        mode: &Mode,
        clock: &mut StageClock,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Served, HostError> {
        let started = match &copied {
            Some(_) => Started::Ready(Limits::NONE),
            None => wait_until_ready(server, &self.spec.ready, &mode.limits)?,
        };
        clock.over(Stage::StartUp);
        let session_exchanges = self.session_exchanges();
        let mut local_ports = 0;
        let mut played = match started {
            Started::Ready(pause) => {
                server.ready()?;
                if let Some(stopped) = copied {
                    server.parts.tree.into_call(stopped)?;
                }
                let mut played = play(self.script, server, &mode.limits, 0, &mut local_ports)?;
                if self.spec.startup {
                    played.longest = played.longest.longest(pause);
                }
                played
            }
            Started::Failed(_, stall) if server.watcher.has_updated() => Played {
                exchanges: Vec::new(),
                stall,
                longest: mode.limits,
            },
            Started::Failed(what, _) => return Err(HostError::NotReady(what)),
        };
        clock.session_over(server.watcher.updated_at());
        // A server that never was ready has no session to be probed after.
        let was_ready = server.parts.ready;
        if let (Some(probe), None, true) = (self.probe, &played.stall, was_ready) {
            let probed = play(
                probe,
                server,
                &mode.limits,
                session_exchanges,
                &mut local_ports,
            )?;
            played = both(played, probed, self.script.exchanges.len());
        }
        clock.over(Stage::Probe);
        if played.stall.is_none() {
            let (stall, pause) = stop(server, self.spec, &mode.limits)?;
            played.stall = stall;
            played.longest = played.longest.longest(pause);
            server.stopped_logs();
        }
        clock.over(Stage::Stop);
        finish(server);
        let served = self.observe(server, played);
        clock.over(Stage::Look);
        Ok(served)
    }

    fn observe(&self, server: &Server<'_>, played: Played) -> Served {
        let wanted = |path: &str| self.wanted_files.iter().any(|w| w.is_match(path));
        let files = read_files(&wanted)
            .into_iter()
            .map(|(path, content)| (path, summarise(self.normaliser, &content)))
            .collect();
        Served {
            longest: played.longest,
            observation: Observation {
                update: Update::None,
                exchanges: exchanges(self.normaliser, &played, &server.logs),
                session_exchanges: self.session_exchanges(),
                processes: seen_processes(server),
                files,
                stall: played.stall,
                new_entries: Entries::default(),
                old_frame_exchanges: std::collections::BTreeSet::new(),
                wall_us: 0,
                output: last_output(),
            },
        }
    }
}

/// The end of what the server printed, bounded: thousands of tests may fail.
fn last_output() -> BTreeMap<String, String> {
    const MOST_BYTES: usize = 8 << 10;
    ["stdout", "stderr"]
        .into_iter()
        .filter_map(|name| {
            let bytes = std::fs::read(log_path(name)).ok()?;
            let end = &bytes[bytes.len().saturating_sub(MOST_BYTES)..];
            let text = String::from_utf8_lossy(end).into_owned();
            (!text.is_empty()).then(|| (name.to_owned(), text))
        })
        .collect()
}

fn both(mut session: Played, probe: Played, session_exchanges: usize) -> Played {
    session
        .exchanges
        .resize_with(session_exchanges, BTreeMap::new);
    session.exchanges.extend(probe.exchanges);
    session.stall = probe.stall;
    session.longest = session.longest.longest(probe.longest);
    session
}

fn exchanges(
    normaliser: &Normaliser,
    played: &Played,
    logs: &[BTreeMap<String, String>],
) -> Vec<SeenExchange> {
    let count = played.exchanges.len().max(logs.len());
    (0..count)
        .map(|index| SeenExchange {
            replies: played
                .exchanges
                .get(index)
                .into_iter()
                .flatten()
                .map(|(name, bytes)| (name.clone(), normaliser.apply(bytes)))
                .collect(),
            logs: logs.get(index).cloned().unwrap_or_default(),
        })
        .collect()
}

fn seen_processes(server: &Server<'_>) -> Vec<SeenProcess> {
    if server.parts.tree.processes.is_empty() {
        return vec![SeenProcess {
            role: server.parts.notes[0].role.clone(),
            updated: false,
            ended_in: server.parts.exchange,
            ending: server.root_ending().cloned().unwrap_or(Ending::Outlived),
            fault: None,
        }];
    }
    server
        .parts
        .tree
        .processes
        .iter()
        .zip(&server.parts.notes)
        .map(|(process, note)| SeenProcess {
            role: note.role.clone(),
            updated: note.updated,
            ended_in: note.ended.unwrap_or(server.parts.exchange),
            ending: process.ending.clone().unwrap_or(Ending::Outlived),
            fault: note.fault.clone().filter(|_| process.ending.is_some()),
        })
        .collect()
}

pub(super) fn summarise(normaliser: &Normaliser, content: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let is_text = std::str::from_utf8(content).is_ok();
    if is_text && content.len() <= LONGEST_FILE {
        return normaliser.apply(content);
    }
    let normalised = if is_text {
        normaliser.apply(content).into_bytes()
    } else {
        content.to_vec()
    };
    let hash = Sha256::digest(&normalised);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<{} bytes, SHA-256 {hex}>", normalised.len())
}

/// `*` within a folder, `**` across folders.
pub(super) fn glob(pattern: &str) -> Result<regex::Regex, regex::Error> {
    let escaped = regex::escape(pattern)
        .replace(r"\*\*", "\u{0}")
        .replace(r"\*", "[^/]*")
        .replace('\u{0}', ".*")
        .replace(r"\?", "[^/]");
    regex::Regex::new(&format!("^{escaped}$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_stay_within_a_folder_unless_doubled() {
        let one = glob("ftp/*.txt").unwrap();
        assert!(one.is_match("ftp/a.txt"));
        assert!(!one.is_match("ftp/up/a.txt"));
        assert!(glob("ftp/**").unwrap().is_match("ftp/up/a.txt"));
    }
}
