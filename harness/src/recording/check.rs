//! Plays a recorded script on unpatched versions: it must pass on all of them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::engine::RemoteEngine;
use crate::engine::spec::{SessionSpec, Which};
use crate::study::StudyError;
use crate::verdict::Observation;
use crate::verdict::difference::difference;
use crate::workload::Normaliser;

/// How a script did on one version.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It passed, twice with the same replies.
    Passes(Box<Observation>),
    /// It stood still in an exchange.
    Stalled {
        /// The exchange, from 0.
        exchange: usize,
        /// What it waited for.
        waiting_for: String,
        /// What that exchange had brought so far.
        replies: BTreeMap<String, String>,
    },
    /// Two equal runs differed, and where.
    Unstable(String),
    /// The server did not run.
    Failed(String),
}

/// Plays the script of `spec` on its old version, once followed by ptrace as in a
/// study and once left alone.
///
/// # Errors
/// When no worker can be had.
pub fn check(executable: &Path, spec: &SessionSpec) -> Result<Outcome, StudyError> {
    let mut engine = RemoteEngine::start(executable, spec)?;
    let mut first: Option<Observation> = None;
    for followed in [true, false] {
        let seen = match engine.baseline(Which::Old, followed) {
            Ok(run) => run.observation,
            Err(error) => return Ok(Outcome::Failed(error.to_string())),
        };
        if let Some(stall) = &seen.stall {
            let exchange = usize::try_from(stall.exchange).unwrap_or(usize::MAX);
            return Ok(Outcome::Stalled {
                exchange,
                waiting_for: stall.waiting_for.clone(),
                replies: seen
                    .exchanges
                    .get(exchange)
                    .map(|exchange| exchange.replies.clone())
                    .unwrap_or_default(),
            });
        }
        match &first {
            None => first = Some(seen),
            Some(first) => {
                if let Some(difference) = difference(first, &seen) {
                    return Ok(Outcome::Unstable(difference));
                }
            }
        }
    }
    Ok(first.map_or_else(
        || Outcome::Failed("it was not run".to_owned()),
        |seen| Outcome::Passes(Box::new(seen)),
    ))
}

/// An exchange whose replies differ: which, on which connection, and both texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The exchange, from 0.
    pub exchange: usize,
    /// The connection.
    pub connection: String,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

/// Where replies first differ, after normalisation.
#[must_use]
pub fn first_difference(
    expected: &[BTreeMap<String, String>],
    seen: &[BTreeMap<String, String>],
) -> Option<Difference> {
    let none = BTreeMap::new();
    (0..expected.len().max(seen.len())).find_map(|exchange| {
        let of = |all: &[BTreeMap<String, String>]| all.get(exchange).unwrap_or(&none).clone();
        let (expected, seen) = (of(expected), of(seen));
        let names = expected.keys().chain(seen.keys());
        let connection = { names }.find(|name| expected.get(*name) != seen.get(*name))?;
        let text = |replies: &BTreeMap<String, String>| {
            replies.get(connection).cloned().unwrap_or_default()
        };
        Some(Difference {
            exchange,
            connection: connection.clone(),
            expected: text(&expected),
            seen: text(&seen),
        })
    })
}

/// Recorded replies as a played session shows them.
#[must_use]
pub fn normalised(
    replies: &[BTreeMap<String, Vec<u8>>],
    normaliser: &Normaliser,
) -> Vec<BTreeMap<String, String>> {
    replies
        .iter()
        .map(|exchange| {
            exchange
                .iter()
                .map(|(name, bytes)| (name.clone(), normaliser.apply(bytes)))
                .collect()
        })
        .collect()
}

/// The replies of a played session, without those of the probe.
#[must_use]
pub fn replies(seen: &Observation) -> Vec<BTreeMap<String, String>> {
    let count = usize::try_from(seen.session_exchanges).unwrap_or(usize::MAX);
    seen.exchanges
        .iter()
        .take(count)
        .map(|exchange| exchange.replies.clone())
        .collect()
}
