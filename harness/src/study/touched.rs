//! Measures which steps of a session touch the state of an update: what the update
//! itself reads and writes is declared, what its transformer does is seen in a few runs
//! of it, and who touches that in a run that is watched instruction by instruction.

use std::collections::BTreeSet;

use super::prepare::PreparedPair;
use super::session::request;
use crate::binary::{Address, Program};
use crate::engine::{EngineError, RemoteEngine};
use crate::equivalence::touched::{Touched, joined};
use crate::patch::DataAction;
use crate::trace::{Scope, Trace};
use crate::tracee::access::Access;

/// Points at which the transformer is watched.
const SPIED: usize = 5;

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
    let mut wanted = declared;
    if patch.transformer.is_some() {
        match spied(trace, engine) {
            Ok(accesses) => wanted.extend(accesses),
            Err(why) => return Some(Touched::unknown(why)),
        }
    }
    let accesses: Vec<Access> = joined(&wanted).into_iter().collect();
    let state = named(pair, &accesses);
    Some(match engine.step(&accesses) {
        Ok(watched) => Touched::of(trace, state, &watched),
        Err(error) => Touched::unknown(format!("the watched run failed: {error}")),
    })
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

/// What the transformer reads and writes, which must be the same wherever it is watched.
fn spied(trace: &Trace, engine: &mut RemoteEngine) -> Result<BTreeSet<Access>, String> {
    let mut known: Option<BTreeSet<Access>> = None;
    let count = SPIED.min(trace.points.len());
    for number in 0..count {
        let place = number * (trace.points.len() - 1) / (count - 1).max(1);
        let Some(point) = request(trace, &trace.points[place].id) else {
            continue;
        };
        let seen = match engine.spy(&point) {
            Ok(Some(accesses)) => joined(&accesses),
            Ok(None) => continue,
            Err(error) => return Err(told(&error)),
        };
        if known.as_ref().is_some_and(|known| *known != seen) {
            return Err(
                "the transformer touches other memory at one point than at another".to_owned(),
            );
        }
        known = Some(seen);
    }
    known.ok_or_else(|| "the transformer could not be watched at any point".to_owned())
}

fn told(error: &EngineError) -> String {
    format!("the transformer could not be watched: {error}")
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
