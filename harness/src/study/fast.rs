//! Chooses the engine of a session: the fastest that it allows, once that engine has
//! been seen to observe what the restart engine observes.

use super::StudyError;
use super::session::{difference, request};
use super::store::SessionRecord;
use crate::engine::RemoteEngine;
use crate::engine::wanted::{Chosen, Wanted};

/// Points at which the engines are compared.
const COMPARED: usize = 8;

/// Chooses the engine for the tests of a session that was just recorded on `engine`.
///
/// # Errors
/// When the worker fails.
pub fn choose(
    wanted: Wanted,
    engine: &mut RemoteEngine,
    record: &SessionRecord,
) -> Result<Chosen, StudyError> {
    if wanted == Wanted::Restart {
        return Ok(Chosen::restart("it was asked for"));
    }
    let seen = match engine.simulate()? {
        Ok(seen) => seen,
        Err(why) => return Ok(Chosen::restart(format!("not simulated: {why}"))),
    };
    let disagreed = |why: String| Chosen {
        disagreed: true,
        ..Chosen::restart(why)
    };
    if let Some(difference) = difference(&record.old, &seen) {
        return Ok(disagreed(format!(
            "the simulated session differs from the real one {difference}"
        )));
    }
    let points = &record.trace.points;
    let count = COMPARED.min(points.len());
    let requests: Vec<_> = (0..count)
        .filter_map(|number| {
            let place = (2 * number + 1) * points.len() / (2 * count);
            request(&record.trace, &points[place].id)
        })
        .collect();
    let mut rolled = Vec::new();
    for request in &requests {
        match engine.roll(request, true)? {
            Ok(seen) => rolled.push(seen),
            Err(why) => {
                return Ok(Chosen::restart(format!(
                    "not simulated at {}: {why}",
                    request.id
                )));
            }
        }
    }
    for (request, rolled) in requests.iter().zip(&rolled) {
        let restarted = engine.test(request, true)?;
        if !rolled.shows_the_same_as(&restarted) {
            let what = difference(&restarted, rolled)
                .unwrap_or_else(|| "in what became of processes or old frames".to_owned());
            return Ok(disagreed(format!(
                "rollback and restart differ at {} {what}",
                request.id
            )));
        }
    }
    Ok(Chosen {
        engine: Wanted::Rollback.name().to_owned(),
        why: format!("it agrees with restart at {count} points"),
        disagreed: false,
    })
}
