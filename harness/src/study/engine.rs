//! Chooses the engine of a session: the one that was asked for or the fastest, if the
//! session allows it and it shows the same as restart.

use super::StudyError;
use super::session::PreparedSession;
use super::store::EngineChoice;
use crate::engine::{EngineKind, EngineWish, PointRequest, RemoteEngine, Tested};
use crate::verdict::Observation;
use crate::verdict::alike::{self, Endings};
use crate::verdict::difference::difference;
use crate::verdict::observation::Update;

/// Points at which a faster engine is compared with restart before it is trusted.
const SAMPLED: usize = 12;
/// How often both engines are asked again where they show different things.
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
            let why = "the oracle for the others; it was asked for";
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
        let unpatched = unpatched(session, worker, points.first())?;
        let by_kind = run(worker, &points)?;
        let by_restart = if let Some(tested) = &by_restart {
            tested
        } else {
            worker.use_engine(EngineKind::Restart)?;
            by_restart.insert(run(worker, &points)?)
        };
        let apart = if let Some(difference) = unpatched {
            Some(format!("without an update: {difference}"))
        } else {
            let mut comparison = Comparison::default();
            comparison.note(&session.record.old);
            let runs = (&by_restart[..], &by_kind[..]);
            disagreement(worker, kind, &mut comparison, &points, runs)?
        };
        if let Some(where_) = apart {
            let what = format!("{kind} shows something else than restart {where_}");
            reasons.push(what.clone());
            mismatch = Some(what);
            continue;
        }
        let (slow, fast) = (median(by_restart), median(&by_kind));
        let times = format!("{fast} µs a test against {slow} by restart");
        // A simulated world is dear to begin and cheap from then on; that a few tests show
        // no gain on a busy machine must not decide.
        let may_cost_more = kind == EngineKind::ForkServer && fast >= slow;
        if may_cost_more && wish == EngineWish::Auto {
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

/// Where the session without an update is not the baseline's, however often it is
/// played.
fn unpatched(
    session: &PreparedSession,
    worker: &mut RemoteEngine,
    point: Option<&PointRequest>,
) -> Result<Option<String>, StudyError> {
    let Some(point) = point else { return Ok(None) };
    let mut found = None;
    for _ in 0..=AGAIN {
        let seen = worker.test(point, false)?.observation;
        found = difference(&session.record.old, &seen);
        if found.is_none() {
            break;
        }
    }
    Ok(found)
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

/// Where another engine shows what restart does not, however often both are asked.
fn disagreement(
    worker: &mut RemoteEngine,
    kind: EngineKind,
    comparison: &mut Comparison,
    points: &[PointRequest],
    (by_restart, by_other): (&[Tested], &[Tested]),
) -> Result<Option<String>, StudyError> {
    for seen in by_restart {
        comparison.note(&seen.observation);
    }
    for ((point, restart), other) in points.iter().zip(by_restart).zip(by_other) {
        let ask = &mut |engine| {
            worker.use_engine(engine)?;
            Ok(worker.test(point, true)?.observation)
        };
        let seen = [&restart.observation, &other.observation];
        if let Some(difference) = comparison.differ(kind, seen, ask)?.difference {
            return Ok(Some(format!("at {}: {difference}", point.id)));
        }
    }
    Ok(None)
}

fn median(tested: &[Tested]) -> u64 {
    let mut times: Vec<u64> = tested.iter().map(|t| t.observation.wall_us).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

/// Compares observations of one test by two engines in what is not a matter of time:
/// as [`alike`] says, and in how the update went.
#[derive(Debug, Default)]
pub struct Comparison {
    endings: Endings,
}

/// How two engines compare at one point.
#[derive(Debug, Default)]
pub struct Compared {
    /// Whether both had to be asked again.
    pub repeated: bool,
    /// What differs; none if they show the same.
    pub difference: Option<String>,
}

impl Comparison {
    /// Takes note of what restart, or a baseline, showed.
    pub fn note(&mut self, seen: &Observation) {
        self.endings.note(seen);
    }

    /// Compares what restart and another engine showed of one test. Where they differ
    /// both are asked again: in a server that races with itself or with the clock, one
    /// test shows more than one thing, and the engines agree if they have one of
    /// these in common.
    ///
    /// # Errors
    /// When `ask` fails.
    pub fn differ(
        &mut self,
        other: EngineKind,
        [by_restart, by_other]: [&Observation; 2],
        ask: &mut dyn FnMut(EngineKind) -> Result<Observation, StudyError>,
    ) -> Result<Compared, StudyError> {
        self.note(by_restart);
        let Some(difference) = self.apart(by_restart, by_other) else {
            return Ok(Compared::default());
        };
        let mut restarted = vec![by_restart.clone()];
        let mut others = vec![by_other.clone()];
        for _ in 0..AGAIN {
            let seen = ask(EngineKind::Restart)?;
            self.note(&seen);
            restarted.push(seen);
            others.push(ask(other)?);
            let alike = |one: &Observation| others.iter().any(|o| self.apart(one, o).is_none());
            if restarted.iter().any(alike) {
                return Ok(Compared {
                    repeated: true,
                    difference: None,
                });
            }
        }
        Ok(Compared {
            repeated: true,
            difference: Some(difference),
        })
    }

    /// Where two observations differ.
    #[must_use]
    pub fn apart(&self, restart: &Observation, other: &Observation) -> Option<String> {
        let updates = (timeless(&restart.update), timeless(&other.update));
        if updates.0 != updates.1 {
            let (one, other) = updates;
            return Some(format!("the update: {one:?} against {other:?}"));
        }
        alike::apart(restart, other, &self.endings, None)
    }
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
    use crate::trace::RoleInstance;
    use crate::verdict::observation::{Ending, SeenProcess};

    fn seen(tries: u32, reply: &str) -> Observation {
        let exchange = serde_json::json!({"replies": {"c": reply}, "logs": {}});
        serde_json::from_value(serde_json::json!({
            "update": {
                "outcome": "applied", "function": "f",
                "stack": {"frames": [], "complete": true},
                "tries": tries, "drifted": tries > 1, "apply_us": f64::from(tries),
            },
            "exchanges": [exchange], "session_exchanges": 1, "processes": [], "files": {},
            "stall": null, "new_entries": {}, "old_frame_exchanges": [], "wall_us": tries,
        }))
        .unwrap()
    }

    #[test]
    fn time_and_tries_are_no_difference_and_replies_are() {
        let comparison = Comparison::default();
        assert_eq!(comparison.apart(&seen(1, "OK"), &seen(2, "OK")), None);
        let difference = comparison.apart(&seen(1, "OK"), &seen(1, "NO")).unwrap();
        assert!(difference.contains("exchange 0"), "{difference}");
    }

    #[test]
    fn an_ending_is_the_same_only_where_runs_without_an_update_show_it() {
        let ended = |status: i32, updated: bool| {
            let mut seen = seen(1, "OK");
            let process = |role: &str, ending| SeenProcess {
                role: RoleInstance {
                    role: role.to_owned(),
                    number: 1,
                },
                updated,
                ended_in: 1,
                ending,
                fault: None,
            };
            seen.processes = vec![
                process("listener", Ending::Exited(0)),
                process("session", Ending::Exited(status)),
            ];
            seen
        };
        let mut comparison = Comparison::default();
        comparison.note(&ended(0, false));
        comparison.note(&ended(2, true));
        let apart = comparison.apart(&ended(0, true), &ended(2, true));
        assert!(apart.unwrap().contains("a process"));
        comparison.note(&ended(2, false));
        assert_eq!(comparison.apart(&ended(0, true), &ended(2, true)), None);
    }
}
