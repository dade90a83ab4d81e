//! Chooses the engine of a session: the one that was asked for or the fastest, if the
//! session allows it and it shows the same as restart.

use super::StudyError;
use super::session::{PreparedSession, difference};
use super::store::EngineChoice;
use crate::engine::{EngineKind, EngineWish, PointRequest, RemoteEngine, Tested};
use crate::verdict::Observation;
use crate::verdict::observation::Update;

/// Points at which a faster engine is compared with restart before it is trusted.
const SAMPLED: usize = 12;
/// How often restart is asked again where another engine shows something else: a
/// server that races with itself shows more than one thing.
const AGAIN: usize = 3;

/// A choice, and what went wrong on the way to it.
pub struct Chosen {
    /// The engine.
    pub kind: EngineKind,
    /// Why this one.
    pub why: String,
    /// Where a faster one showed something else than restart, for a person.
    pub mismatch: Option<String>,
}

impl Chosen {
    /// As `run.json` has it.
    #[must_use]
    pub fn record(&self, session: &PreparedSession) -> EngineChoice {
        EngineChoice {
            session: session.record.session.clone(),
            engine: self.kind.name().to_owned(),
            why: self.why.clone(),
        }
    }

    fn restart(why: impl Into<String>) -> Self {
        Self {
            kind: EngineKind::Restart,
            why: why.into(),
            mismatch: None,
        }
    }
}

/// Chooses the engine of a session, which `worker` uses from then on. None is trusted
/// before it has shown the same as restart, whether it was asked for or not.
///
/// # Errors
/// When the worker fails.
pub fn choose(
    session: &PreparedSession,
    worker: &mut RemoteEngine,
    wish: EngineWish,
) -> Result<Chosen, StudyError> {
    let candidates = match &wish {
        EngineWish::Just(EngineKind::Restart) => {
            let why = "the default, and the oracle for the others";
            return Ok(Chosen::restart(why));
        }
        EngineWish::Just(kind) => std::slice::from_ref(kind),
        EngineWish::Auto => &EngineKind::FASTER[..],
    };
    let mut reasons = Vec::new();
    let mut mismatch = None;
    let points = sampled(session);
    let mut by_restart = None;
    for kind in candidates.iter().copied() {
        if let Some(why) = worker.use_engine(kind)? {
            reasons.push(format!("{kind}: {why}"));
            continue;
        }
        let unpatched = match points.first() {
            Some(point) => difference(&session.record.old, &worker.test(point, false)?.observation),
            None => None,
        };
        let by_kind = run(worker, &points)?;
        let by_restart = match &by_restart {
            Some(tested) => tested,
            None => {
                worker.use_engine(EngineKind::Restart)?;
                by_restart.insert(run(worker, &points)?)
            }
        };
        let apart = match unpatched {
            Some(difference) => Some(format!("without an update: {difference}")),
            None => disagreement(worker, &points, by_restart, &by_kind)?,
        };
        if let Some(where_) = apart {
            let what = format!("{kind} shows something else than restart {where_}");
            reasons.push(what.clone());
            mismatch = Some(what);
            continue;
        }
        let (slow, fast) = (median(by_restart), median(&by_kind));
        let times = format!("{fast} µs a test against {slow} by restart");
        if fast >= slow && wish == EngineWish::Auto {
            reasons.push(format!("{kind} is no faster ({times})"));
            continue;
        }
        // Comparing has ended with restart.
        worker.use_engine(kind)?;
        let asked = match wish {
            EngineWish::Auto => "the fastest that the session allows",
            EngineWish::Just(_) => "it was asked for",
        };
        let count = points.len();
        return Ok(Chosen {
            kind,
            why: format!("{asked}: {times}; the same as restart at {count} sampled points"),
            mismatch,
        });
    }
    worker.use_engine(EngineKind::Restart)?;
    Ok(Chosen {
        mismatch,
        ..Chosen::restart(reasons.join("; "))
    })
}

/// Points spread evenly over the session.
fn sampled(session: &PreparedSession) -> Vec<PointRequest> {
    let points = &session.record.trace.points;
    let count = SAMPLED.min(points.len());
    (0..count)
        .filter_map(|number| {
            let place = (2 * number + 1) * points.len() / (2 * count);
            session.request(&points[place].id)
        })
        .collect()
}

fn run(worker: &mut RemoteEngine, points: &[PointRequest]) -> Result<Vec<Tested>, StudyError> {
    let tests = points.iter().map(|point| worker.test(point, true));
    Ok(tests.collect::<Result<_, _>>()?)
}

/// Where another engine shows what restart does not, however often it is asked.
fn disagreement(
    worker: &mut RemoteEngine,
    points: &[PointRequest],
    by_restart: &[Tested],
    by_other: &[Tested],
) -> Result<Option<String>, StudyError> {
    let mut found = None;
    for ((point, restart), other) in points.iter().zip(by_restart).zip(by_other) {
        let differs = |seen: &Tested| apart(&seen.observation, &other.observation);
        let Some(first) = differs(restart) else {
            continue;
        };
        worker.use_engine(EngineKind::Restart)?;
        let mut explained = false;
        for _ in 0..AGAIN {
            explained = explained || differs(&worker.test(point, true)?).is_none();
        }
        if !explained {
            found = Some(format!("at {}: {first}", point.id));
            break;
        }
    }
    Ok(found)
}

fn median(tested: &[Tested]) -> u64 {
    let mut times: Vec<u64> = tested.iter().map(|t| t.observation.wall_us).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

/// Where two observations of one test differ in what is not a matter of time.
#[must_use]
pub fn apart(one: &Observation, other: &Observation) -> Option<String> {
    let shown = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Some(format!("{what}: {one:?} against {other:?}"))
    };
    let updates = (timeless(&one.update), timeless(&other.update));
    if updates.0 != updates.1 {
        return shown("the update", &updates.0, &updates.1);
    }
    if one.stall != other.stall {
        return shown("the stall", &one.stall, &other.stall);
    }
    if let Some(difference) = difference(one, other) {
        return Some(difference);
    }
    if one.processes != other.processes {
        return shown("the processes", &one.processes, &other.processes);
    }
    if one.new_entries != other.new_entries {
        return shown("entries of new code", &one.new_entries, &other.new_entries);
    }
    if one.old_frame_exchanges != other.old_frame_exchanges {
        let frames = (&one.old_frame_exchanges, &other.old_frame_exchanges);
        return shown("exchanges with old frames", frames.0, frames.1);
    }
    None
}

/// An update without what differs between equal runs: how long it took, and how
/// often it was tried.
fn timeless(update: &Update) -> Update {
    let mut update = update.clone();
    if let Update::Applied {
        tries,
        drifted,
        apply_us,
        state,
        ..
    } = &mut update
    {
        (*tries, *drifted, *apply_us) = (1, false, 0.0);
        if let Some(state) = state {
            (state.walk_us, state.convert_us) = (0.0, 0.0);
        }
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(tries: u32, reply: &str) -> Observation {
        let exchange = serde_json::json!({"replies": {"c": reply}, "logs": {}});
        serde_json::from_value(serde_json::json!({
            "update": {
                "outcome": "applied", "function": "f", "stack": [],
                "tries": tries, "drifted": tries > 1, "apply_us": f64::from(tries),
            },
            "exchanges": [exchange], "session_exchanges": 1, "processes": [], "files": {},
            "stall": null, "new_entries": {}, "old_frame_exchanges": [], "wall_us": tries,
        }))
        .unwrap()
    }

    #[test]
    fn time_and_tries_are_no_difference_and_replies_are() {
        assert_eq!(apart(&seen(1, "OK"), &seen(2, "OK")), None);
        let difference = apart(&seen(1, "OK"), &seen(1, "NO")).unwrap();
        assert!(difference.contains("exchange 0"), "{difference}");
    }
}
