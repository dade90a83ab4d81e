//! Measures which steps of a session touch the state of an update: what the update
//! itself reads and writes is declared, what its transformer does is seen in a few runs
//! of it, and who touches that in a run that is watched instruction by instruction.

use std::collections::{BTreeMap, BTreeSet};

use super::prepare::PreparedPair;
use super::session::requests;
use crate::binary::{Address, Program};
use crate::engine::stepper::{FOREIGN, Wanted};
use crate::engine::{PointRequest, RemoteEngine};
use crate::equivalence::followed::Followed;
use crate::equivalence::touched::{ANOTHER_WAY, Touched, conflict, joined};
use crate::patch::DataAction;
use crate::trace::{PointId, RoleInstance, Scope, Trace};
use crate::tracee::access::Access;

/// Points, evenly spread, at which the transformer is watched to begin with.
const SPIED: usize = 5;

/// Points at which it is watched in all, behind steps that touch what it touched before.
const MOST_SPIED: usize = 200;

/// How often steps are searched for that touch what it was seen to touch so far.
const MOST_ROUNDS: usize = 4;

/// Points of a session for which all that steps access is recorded.
const MOST_POINTS: usize = 5000;

/// Measures a session; none where the update touches no state. What cannot be measured
/// is said, and is no error: then every step conflicts.
#[must_use]
pub fn measure(
    pair: &PreparedPair<'_>,
    scope: Scope,
    trace: &Trace,
    engine: &mut RemoteEngine,
) -> Option<Touched> {
    let patch = &pair.patch;
    let declared = declared(&patch.data);
    if patch.state.is_some() {
        return Some(Touched::unknown("the update converts live state"));
    }
    if declared.is_empty() && patch.transformer.is_none() {
        return None;
    }
    if scope == Scope::Tree {
        let why = "what processes do with state of their own at once is not measured";
        return Some(Touched::unknown(why));
    }
    let mut measuring = Measuring {
        pair,
        trace,
        requests: requests(trace),
        engine,
        declared,
        spied: 0,
    };
    Some(measuring.touched().unwrap_or_else(Touched::unknown))
}

struct Measuring<'a, 'p> {
    pair: &'a PreparedPair<'p>,
    trace: &'a Trace,
    requests: Vec<Option<PointRequest>>,
    engine: &'a mut RemoteEngine,
    declared: Vec<Access>,
    spied: usize,
}

impl Measuring<'_, '_> {
    fn touched(&mut self) -> Result<Touched, String> {
        if self.pair.patch.transformer.is_none() {
            return self.touching(&joined(&self.declared));
        }
        if let Some(touched) = self.always_the_same()? {
            return Ok(touched);
        }
        if self.trace.points.len() <= MOST_POINTS
            && let Ok(touched) = self.step_by_step()
        {
            return Ok(touched);
        }
        self.together()
    }

    /// Where the transformer touches the same memory at every point.
    fn always_the_same(&mut self) -> Result<Option<Touched>, String> {
        let Some(known) = self.same_at(self.sample().into_iter(), None)? else {
            return Ok(None);
        };
        let touched = self.touching(&known)?;
        // It touches the same until something that it reads is written.
        let behind = spread(&self.behind(&touched), MOST_SPIED);
        let same = self.same_at(behind.into_iter(), Some(known))?;
        Ok(same.map(|_| touched))
    }

    /// Where it touches other memory at other points, all of it counts everywhere: what
    /// it touches at a point is what it touches behind the last step that touches any of
    /// that, or where the thread begins.
    fn together(&mut self) -> Result<Touched, String> {
        let mut places = self.sample();
        places.extend(self.first_of_threads());
        let mut known = self.all_at(&places, BTreeSet::new())?;
        if known.is_empty() {
            return Err("the transformer could not be watched at any point".to_owned());
        }
        for _ in 0..MOST_ROUNDS {
            let touched = self.touching(&known)?;
            let behind = spread(&self.behind(&touched), MOST_SPIED);
            let all = self.all_at(&behind, known.clone())?;
            if all == known {
                return Ok(touched);
            }
            known = all;
        }
        Err("the transformer touches other memory again and again".to_owned())
    }

    /// What is known, and what the update touches at these points.
    fn all_at(
        &mut self,
        places: &[usize],
        known: BTreeSet<Access>,
    ) -> Result<BTreeSet<Access>, String> {
        let mut all: Vec<Access> = known.into_iter().collect();
        for place in places {
            all.extend(self.spy(*place)?.unwrap_or_default());
        }
        Ok(joined(&all))
    }

    /// A few points, evenly spread over the session.
    fn sample(&self) -> Vec<usize> {
        let last = self.trace.points.len().saturating_sub(1);
        let places = (0..SPIED).map(|number| number * last / (SPIED - 1));
        places.collect()
    }

    /// The first point of each thread.
    fn first_of_threads(&self) -> Vec<usize> {
        let mut firsts: BTreeMap<(&RoleInstance, u32), usize> = BTreeMap::new();
        for (place, point) in self.trace.points.iter().enumerate() {
            let thread = (&point.id.role, point.id.thread);
            firsts.entry(thread).or_insert(place);
        }
        firsts.into_values().collect()
    }

    /// Points behind steps that touch what the update touches.
    fn behind(&self, touched: &Touched) -> Vec<usize> {
        let steps = touched.steps.keys();
        steps
            .filter_map(|place| self.next_of_thread(usize::try_from(*place).ok()?))
            .collect()
    }

    /// Which steps touch this memory.
    fn touching(&mut self, wanted: &BTreeSet<Access>) -> Result<Touched, String> {
        let accesses: Vec<Access> = wanted.iter().copied().collect();
        let state = named(self.pair, &accesses);
        let watched = self.engine.step(Wanted::These(accesses));
        let watched = watched.map_err(|error| format!("the watched run failed: {error}"))?;
        Ok(Touched::of(self.trace, state, &watched))
    }

    /// What the update touches at these points, if it is everywhere the same.
    fn same_at(
        &mut self,
        places: impl Iterator<Item = usize>,
        mut known: Option<BTreeSet<Access>>,
    ) -> Result<Option<BTreeSet<Access>>, String> {
        for place in places {
            let Some(seen) = self.spy(place)? else {
                continue;
            };
            if known.as_ref().is_some_and(|known| *known != seen) {
                return Ok(None);
            }
            known = Some(seen);
        }
        let none = || "the transformer could not be watched at any point".to_owned();
        known.map(Some).ok_or_else(none)
    }

    /// What the update touches at a point; none if it cannot be applied there.
    fn spy(&mut self, place: usize) -> Result<Option<BTreeSet<Access>>, String> {
        self.spied += 1;
        let Some(Some(point)) = self.requests.get(place) else {
            return Ok(None);
        };
        let seen = self.engine.spy(point);
        let seen = seen.map_err(|error| format!("the transformer failed: {error}"))?;
        Ok(seen.map(|mut accesses| {
            accesses.extend(&self.declared);
            joined(&accesses)
        }))
    }

    /// Where the transformer touches other memory at other points, it is watched again
    /// behind each step that touches what it touched before.
    fn step_by_step(&mut self) -> Result<Touched, String> {
        let trace = self.trace;
        let watched = self.engine.step(Wanted::All);
        let watched = watched.map_err(|error| format!("the watched run failed: {error}"))?;
        let followed = Followed::of(trace, &watched);
        let nothing = BTreeSet::new();
        let mut steps = BTreeMap::new();
        let mut known: BTreeMap<(&RoleInstance, u32), Option<BTreeSet<Access>>> = BTreeMap::new();
        for (place, point) in trace.points.iter().enumerate() {
            let thread = (&point.id.role, point.id.thread);
            let wanted = if let Some(Some(wanted)) = known.get(&thread) {
                wanted.clone()
            } else {
                if self.spied >= SPIED + MOST_SPIED {
                    return Err("the transformer touches other memory too often".to_owned());
                }
                self.spy(place)?.unwrap_or_default()
            };
            let what = match followed.step(place) {
                None => Some(ANOTHER_WAY),
                // Where the update cannot be applied nothing is known.
                Some(_) if wanted.is_empty() => Some("what could not be watched"),
                Some(_) if wanted.iter().any(|access| access.address >= FOREIGN) => {
                    return Err("the transformer touches a library's data or a stack".to_owned());
                }
                Some((stretch, entries)) => {
                    let accessed = stretch.accessed.get(&entries);
                    conflict(accessed.unwrap_or(&nothing), &wanted)
                        .then_some("what the transformer touches")
                }
            };
            if let Some(what) = what {
                steps.insert(u32::try_from(place).unwrap_or(u32::MAX), what.to_owned());
            }
            known.insert(thread, what.is_none().then_some(wanted));
        }
        Ok(Touched {
            steps,
            ..Touched::default()
        })
    }

    /// The next point of the same thread.
    fn next_of_thread(&self, place: usize) -> Option<usize> {
        let point = &self.trace.points.get(place)?.id;
        let after = self.trace.points.iter().enumerate().skip(place + 1);
        let same = |other: &PointId| other.role == point.role && other.thread == point.thread;
        after
            .filter(|(_, other)| same(&other.id))
            .map(|(place, _)| place)
            .next()
    }
}

/// At most so many of the places, evenly spread.
fn spread(places: &[usize], most: usize) -> Vec<usize> {
    let count = places.len().min(most);
    (0..count)
        .map(|number| places[number * places.len() / count])
        .collect()
}

/// What the update itself reads and writes.
fn declared(data: &[DataAction]) -> Vec<Access> {
    let accesses = data.iter().filter_map(|action| match action {
        DataAction::Reinitialise { old, size, .. } => Some((*old, *size, true)),
        // Its value is taken along; old frames keep the old place.
        DataAction::Carry { old, old_size, .. } => Some((*old, *old_size, false)),
        DataAction::Add { .. } | DataAction::Renew { .. } => None,
    });
    accesses
        .map(|(address, length, writes)| Access {
            address,
            length,
            writes,
        })
        .collect()
}

/// Accesses with the names of the old program's data objects that they are to.
fn named(pair: &PreparedPair<'_>, accesses: &[Access]) -> Vec<(Access, String)> {
    let program = Program::open(&pair.old.program).ok();
    let name = |address: Address| {
        let objects = program.as_ref().map_or(&[][..], Program::objects);
        let behind = objects.partition_point(|object| object.address <= address);
        let object = objects.get(behind.checked_sub(1)?)?;
        (address.since(object.address) < object.size.max(1)).then(|| object.name.clone())
    };
    accesses
        .iter()
        .map(|access| {
            let name = name(access.address);
            (*access, name.unwrap_or_else(|| access.address.to_string()))
        })
        .collect()
}
