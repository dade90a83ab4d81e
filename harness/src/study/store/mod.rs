//! The folder of one run: the truth as append-only lines, and `run.json`.
//! Everything else in it can be made again from these.

pub mod lines;
pub mod records;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use lines::LineFile;
pub use lines::Records;
pub use records::{
    AfterUpdate, Arm, Control, Division, EngineChoice, KairosFacts, MachineFacts, NotRun,
    PairRecord, RunFacts, RunOptions, SessionRecord, TestRecord,
};

use super::plan::{PlannedTest, SessionKey};

const FACTS: &str = "run.json";
const PLAN: &str = "plan.jsonl";
const PAIRS: &str = "pairs.jsonl";
const SESSIONS: &str = "sessions.jsonl";
const TESTS: &str = "tests.jsonl";

/// What can go wrong with the folder of a run.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A folder that is not a run has files in it.
    #[error("`{}` is not empty and holds no Kairos run; choose another folder with --out, or empty it", .0.display())]
    Foreign(PathBuf),
    /// The folder holds a run already.
    #[error("`{dir}` holds a run already; go on with it by --resume {dir}, or choose another folder with --out", dir = .0.display())]
    Exists(PathBuf),
    /// The folder to open holds no run.
    #[error("`{}` holds no Kairos run (it has no {FACTS})", .0.display())]
    NotARun(PathBuf),
    /// Another Kairos writes to the run.
    #[error("another Kairos is writing to `{}`; wait for it, or choose another folder with --out", .0.display())]
    Busy(PathBuf),
    /// The system refused an operation on a file.
    #[error("cannot {operation} `{}`: {source}; {advice}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What to do about it.
        advice: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A record cannot be expressed as JSON.
    #[error("cannot write a record of `{}`: {source}", path.display())]
    Record {
        /// The file meant to hold it.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// A whole line is not a record of this file.
    #[error("`{}`, line {line}: {source}; the file was edited or written by another version of Kairos", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What does not fit.
        source: serde_json::Error,
    },
}

impl StoreError {
    /// A refused operation, with advice by the kind of refusal.
    #[must_use]
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let advice = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "free some space and go on with --resume; everything recorded before is kept"
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                "make it writable, or choose another folder with --out"
            }
            io::ErrorKind::NotFound => "check the path",
            io::ErrorKind::FileTooLarge => {
                "raise the limit on the size of files (ulimit -f) and go on with --resume; everything recorded before is kept"
            }
            _ => "everything recorded before is kept; go on with --resume once it works again",
        };
        Self::Io {
            operation,
            path: path.to_owned(),
            advice,
            source,
        }
    }
}

/// The part of a test's record that names it.
#[derive(Deserialize)]
struct Finished {
    test: String,
}

/// A run that is being written.
#[derive(Debug)]
pub struct RunStore {
    dir: PathBuf,
    facts: RunFacts,
    plan: LineFile,
    pairs: LineFile,
    sessions: LineFile,
    tests: LineFile,
    /// Keeps a second Kairos out; released when the store is dropped.
    _lock: nix::fcntl::Flock<fs::File>,
}

impl RunStore {
    /// Makes the folder of a new run: `out`, or else a new one under `runs`.
    /// Identifier and start time are filled into `facts`.
    ///
    /// # Errors
    /// `out` holds something already, or the folder cannot be written.
    pub fn create(
        runs: &Path,
        out: Option<&Path>,
        mut facts: RunFacts,
    ) -> Result<Self, StoreError> {
        facts.started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        facts.id = run_id(&facts);
        let dir = out.map_or_else(|| runs.join(&facts.id), Path::to_owned);
        fs::create_dir_all(&dir).map_err(|source| StoreError::io("create", &dir, source))?;
        let free = || {
            let list = |source| StoreError::io("list", &dir, source);
            let names = fs::read_dir(&dir).map_err(list)?;
            let names: Vec<_> = names.flatten().map(|entry| entry.file_name()).collect();
            if names.iter().any(|name| name == FACTS) {
                return Err(StoreError::Exists(dir.clone()));
            }
            // What serves as lock may be there already, of a Kairos that was killed
            // at this place.
            if names.iter().any(|name| name != TESTS) {
                return Err(StoreError::Foreign(dir.clone()));
            }
            Ok(())
        };
        free()?;
        let lock = lock(&dir)?;
        // Another Kairos may have begun a run here just before the lock was ours.
        free()?;
        write_facts(&dir, &facts)?;
        Self::attach(dir, facts, lock)
    }

    /// Opens a run to go on with it.
    ///
    /// # Errors
    /// The folder holds no run, another Kairos writes to it, or it cannot be
    /// read or written.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        read_facts(dir)?;
        let lock = lock(dir)?;
        // Only now nobody changes it any more.
        let facts = read_facts(dir)?;
        Self::attach(dir.to_owned(), facts, lock)
    }

    fn attach(
        dir: PathBuf,
        facts: RunFacts,
        lock: nix::fcntl::Flock<fs::File>,
    ) -> Result<Self, StoreError> {
        let file = |name: &str| LineFile::open(&dir.join(name));
        Ok(Self {
            plan: file(PLAN)?,
            pairs: file(PAIRS)?,
            sessions: file(SESSIONS)?,
            tests: file(TESTS)?,
            dir,
            facts,
            _lock: lock,
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `run.json` as it stands.
    #[must_use]
    pub const fn facts(&self) -> &RunFacts {
        &self.facts
    }

    /// Changes `run.json`, for what is known only while the run goes on: engines,
    /// controls.
    ///
    /// # Errors
    /// It cannot be written; the file then holds what it held before.
    pub fn update_facts(&mut self, change: impl FnOnce(&mut RunFacts)) -> Result<(), StoreError> {
        change(&mut self.facts);
        write_facts(&self.dir, &self.facts)
    }

    /// Records a pair, before its first session.
    ///
    /// # Errors
    /// The record cannot be written; see [`LineFile::append`], also below.
    pub fn append_pair(&mut self, record: &PairRecord) -> Result<(), StoreError> {
        self.pairs.append(record)
    }

    /// Records a session, before its first test.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn append_session(&mut self, record: &SessionRecord) -> Result<(), StoreError> {
        self.sessions.append(record)
    }

    /// Records planned tests.
    ///
    /// # Errors
    /// A record cannot be written; those before it are.
    pub fn append_plan(&mut self, tests: &[PlannedTest]) -> Result<(), StoreError> {
        tests.iter().try_for_each(|test| self.plan.append(test))
    }

    /// Records a finished test.
    ///
    /// # Errors
    /// The record cannot be written. It may be appended again once there is room.
    pub fn append_test(&mut self, record: &TestRecord) -> Result<(), StoreError> {
        self.tests.append(record)
    }

    /// Identifiers of the tests that are finished, to be left out on resumption.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it is damaged.
    pub fn finished(&self) -> Result<BTreeSet<String>, StoreError> {
        Records::<Finished>::open(&self.dir.join(TESTS))?
            .map(|record| record.map(|record| record.test))
            .collect()
    }

    /// What is recorded of the finished tests, as [`Run::tests`] reads it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tests(
        &self,
    ) -> Result<impl Iterator<Item = Result<TestRecord, StoreError>> + use<>, StoreError> {
        latest_tests(&self.dir, &|_| true)
    }

    /// Waits until everything recorded is on the disk.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn sync(&self) -> Result<(), StoreError> {
        [&self.plan, &self.pairs, &self.sessions, &self.tests]
            .into_iter()
            .try_for_each(LineFile::sync)
    }
}

/// A run that is read: finished, interrupted, or still going on.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    /// What makes it repeatable.
    pub facts: RunFacts,
    /// Its pairs.
    pub pairs: Vec<PairRecord>,
    /// Its sessions.
    pub sessions: Vec<SessionRecord>,
    /// Its planned tests.
    pub plan: Vec<PlannedTest>,
}

impl Run {
    /// Reads everything but the tests' observations.
    ///
    /// # Errors
    /// The folder holds no run, or a file of it cannot be read.
    pub fn load(dir: &Path) -> Result<Self, StoreError> {
        let facts = read_facts(dir)?;
        let mut pairs = read_latest(&dir.join(PAIRS), |pair: &PairRecord| pair.pair.clone())?;
        let mut sessions = read_latest(&dir.join(SESSIONS), |session: &SessionRecord| {
            session.session.clone()
        })?;
        let mut plan = read_latest(&dir.join(PLAN), |test: &PlannedTest| test.id.clone())?;
        // A session that was prepared only when the run was resumed comes where it
        // would have come in an undisturbed run.
        let order: HashMap<&SessionKey, usize> = facts
            .sessions
            .iter()
            .enumerate()
            .map(|(place, key)| (key, place))
            .collect();
        let mut of_pair: HashMap<&str, usize> = HashMap::new();
        for (place, key) in facts.sessions.iter().enumerate() {
            of_pair.entry(&key.pair).or_insert(place);
        }
        let place = |key: &SessionKey| order.get(key).copied().unwrap_or(usize::MAX);
        pairs.sort_by_key(|pair| of_pair.get(&*pair.pair).copied().unwrap_or(usize::MAX));
        sessions.sort_by_key(|session| place(&session.session));
        plan.sort_by_key(|test| place(&test.session));
        Ok(Self {
            facts,
            pairs,
            sessions,
            plan,
            dir: dir.to_owned(),
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The finished tests, read one at a time. Of a test that was recorded again with
    /// more runs, the last record.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tests(
        &self,
    ) -> Result<impl Iterator<Item = Result<TestRecord, StoreError>> + use<>, StoreError> {
        latest_tests(&self.dir, &|_| true)
    }

    /// The same of some tests, by their identifiers.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn tests_of(
        &self,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<impl Iterator<Item = Result<TestRecord, StoreError>> + use<>, StoreError> {
        latest_tests(&self.dir, wanted)
    }
}

fn latest_tests(
    dir: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<impl Iterator<Item = Result<TestRecord, StoreError>> + use<>, StoreError> {
    let path = dir.join(TESTS);
    let mut last: HashMap<String, usize> = HashMap::new();
    for (line, record) in Records::<Finished>::open(&path)?.enumerate() {
        let test = record?.test;
        if wanted(&test) {
            last.insert(test, line);
        }
    }
    Ok(Records::open(&path)?.only(last.into_values().collect()))
}

/// All records of a file in the order of their first writing. A record that was
/// written again, by a resumed run, counts once, as it was written last.
fn read_latest<T, K>(path: &Path, key: impl Fn(&T) -> K) -> Result<Vec<T>, StoreError>
where
    T: DeserializeOwned + Send,
    K: std::hash::Hash + Eq,
{
    let mut records: Vec<T> = Vec::new();
    let mut places: HashMap<K, usize> = HashMap::new();
    for record in Records::open(path)? {
        let record = record?;
        match places.entry(key(&record)) {
            Entry::Occupied(place) => records[*place.get()] = record,
            Entry::Vacant(place) => {
                place.insert(records.len());
                records.push(record);
            }
        }
    }
    Ok(records)
}

fn read_facts(dir: &Path) -> Result<RunFacts, StoreError> {
    let path = dir.join(FACTS);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::NotARun(dir.to_owned()));
        }
        Err(source) => return Err(StoreError::io("read", &path, source)),
    };
    serde_json::from_slice(&text).map_err(|source| StoreError::Damaged {
        line: source.line(),
        path,
        source,
    })
}

/// Writes `run.json` aside and moves it into place, so that it is never half written.
fn write_facts(dir: &Path, facts: &RunFacts) -> Result<(), StoreError> {
    let path = dir.join(FACTS);
    let aside = dir.join(".run.json.new");
    let mut text = serde_json::to_vec_pretty(facts).map_err(|source| StoreError::Record {
        path: path.clone(),
        source,
    })?;
    text.push(b'\n');
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, &path))
        .map_err(|source| {
            // Half of it is of no use to anybody.
            let _ = fs::remove_file(&aside);
            StoreError::io("write", &path, source)
        })
}

fn lock(dir: &Path) -> Result<nix::fcntl::Flock<fs::File>, StoreError> {
    let path = dir.join(TESTS);
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(|source| StoreError::io("open", &path, source))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(
        |(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => StoreError::Busy(dir.to_owned()),
            other => StoreError::io("lock", &path, other.into()),
        },
    )
}

/// UTC time of the start and a short hash of everything that shapes the run and
/// of the process, so that two runs started in one second differ.
fn run_id(facts: &RunFacts) -> String {
    let time = facts.started.replace(['-', ':'], "");
    let mut hash = Sha256::new();
    hash.update(format!("{facts:?} {}", std::process::id()));
    let short = hash
        .finalize()
        .iter()
        .take(4)
        .fold(0, |value: u32, byte| value << 8 | u32::from(*byte));
    format!("{time}-{short:08x}")
}

#[cfg(test)]
mod tests;
