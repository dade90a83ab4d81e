//! Which sessions of a run applied one update by more than one mechanism, and may be
//! compared: how much of update safety is a matter of the moment, and how much of the
//! mechanism. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::counts;
use super::sessions::StudiedSession;
use crate::study::plan::SessionKey;
use crate::study::store::{Division, PairRecord};
use crate::trace::Scope;

/// One side of a comparison: an update, or all compared updates of one subject, under
/// one mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The update, as `subject-old-new`, or the subject with the number of updates.
    pub name: String,
    /// The mechanism, and what becomes of the state where that is unusual.
    pub mechanism: String,
    /// The sessions that count for it.
    pub sessions: BTreeSet<SessionKey>,
}

/// What one side of an update may be compared with: the same workloads in the same
/// scopes.
type Ran = BTreeSet<(String, Scope)>;

/// The pairs of one update, by mechanism. Those that lack a transformer on purpose
/// stand apart, and belong to no sum.
type Sides<'a> = BTreeMap<(&'a str, bool), Vec<&'a SessionKey>>;

/// The sides of all comparisons: for each update those of its mechanisms, then the
/// sums over each subject that has several such updates. Only sessions count whose
/// workload and scope each side of the update ran.
#[must_use]
pub fn compared(sessions: &[StudiedSession<'_>]) -> Vec<Side> {
    let mut updates: BTreeMap<(&str, String), Sides<'_>> = BTreeMap::new();
    for session in sessions.iter().filter(|of| counts(of.pair.arm)) {
        let key = &session.record.session;
        let update = (session.pair.subject.as_str(), update_of(session.pair));
        let lacking = session.pair.division() == Division::LackingTransformer;
        let sides = updates.entry(update).or_default();
        let side = sides.entry((&key.mechanism, lacking)).or_default();
        side.push(key);
    }
    let mut compared = Vec::new();
    let mut sums: BTreeMap<(&str, &str), (usize, BTreeSet<SessionKey>)> = BTreeMap::new();
    for ((subject, name), sides) in &updates {
        if sides.len() < 2 {
            continue;
        }
        let shared = shared(sides);
        for ((mechanism, lacking), keys) in sides {
            let counted = keys.iter().filter(|key| shared.contains(&ran(key)));
            let sessions: BTreeSet<SessionKey> = counted.copied().cloned().collect();
            if sessions.is_empty() {
                continue;
            }
            if !lacking {
                let sum = sums.entry((subject, mechanism)).or_default();
                sum.0 += 1;
                sum.1.extend(sessions.iter().cloned());
            }
            compared.push(Side {
                name: name.clone(),
                mechanism: if *lacking {
                    format!("{mechanism}, no transformer")
                } else {
                    (*mechanism).to_owned()
                },
                sessions,
            });
        }
    }
    let several = sums.into_iter().filter(|(_, (updates, _))| *updates > 1);
    compared.extend(
        several.map(|((subject, mechanism), (updates, sessions))| Side {
            name: format!("{subject}, {updates} updates"),
            mechanism: mechanism.to_owned(),
            sessions,
        }),
    );
    compared
}

/// The pair without its variant.
fn update_of(pair: &PairRecord) -> String {
    let parts: Vec<&str> = pair.pair.splitn(4, '-').take(3).collect();
    parts.join("-")
}

fn ran(key: &SessionKey) -> (String, Scope) {
    (key.workload.clone(), key.scope)
}

/// What every side of an update ran.
fn shared(sides: &Sides<'_>) -> Ran {
    let mut all = sides
        .values()
        .map(|keys| keys.iter().map(|key| ran(key)).collect::<Ran>());
    let first = all.next().unwrap_or_default();
    all.fold(first, |shared, of| {
        shared.intersection(&of).cloned().collect()
    })
}
