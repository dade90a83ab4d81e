//! The runs that are not tests: baselines of both versions, the trace, and the
//! controls that show tracing itself to change nothing.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use super::restart::{Mode, Restart};
use super::server::identified;
use super::spec::Which;
use super::surroundings::ThreadIndex;
use super::timer::Timer;
use super::tracer::Tracer;
use super::watch::Idle;
use crate::trace::{ExchangeFacts, TimedThread, Timing, Trace};
use crate::tracee::spawn::Tracing;
use crate::verdict::Observation;
use crate::world::{HostError, Limits};

/// An unpatched run with its longest pauses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// What it showed.
    pub observation: Observation,
    /// The longest pauses, from which the limits of tests are taken.
    pub longest: Limits,
}

/// Runs one version unpatched; followed by ptrace, or wholly left alone.
///
/// # Errors
/// When the harness or the machine fails, or the server never becomes ready.
pub fn baseline(
    engine: &mut Restart,
    version: Which,
    followed: bool,
) -> Result<Baseline, HostError> {
    let mode = Mode {
        version,
        tracing: if followed {
            Tracing::Seized
        } else {
            Tracing::None
        },
        limits: Limits::BASELINE,
    };
    let run = engine.run(&mode, &mut Idle, &mut |_| {})?;
    Ok(Baseline {
        observation: run.observation,
        longest: run.longest,
    })
}

/// A recorded run of the old version, with what it showed to the client: being
/// traced must not change that.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traced {
    /// The record.
    pub trace: Trace,
    /// What the run showed.
    pub observation: Observation,
}

/// Records a run of the old version.
///
/// # Errors
/// When the harness or the machine fails, or the server never becomes ready.
pub fn trace(engine: &mut Restart) -> Result<Traced, HostError> {
    let mode = Mode {
        version: Which::Old,
        tracing: Tracing::Seized,
        limits: Limits::BASELINE,
    };
    let mut tracer = Tracer::new(engine.spec().startup);
    let mut facts = Vec::new();
    // The watcher is lent to the run; the process facts are read at its end.
    let observation = {
        let run = engine.run(&mode, &mut tracer, &mut |server| {
            facts = server
                .parts
                .tree
                .processes
                .iter()
                .zip(&server.parts.notes)
                .map(|(process, note)| (process.parent, process.threads_ever, note.clone()))
                .collect();
        })?;
        run.observation
    };
    let processes = tracer.process_facts(&facts);
    let facts_of = |labels: &[String], first: usize| -> Vec<ExchangeFacts> {
        labels
            .iter()
            .enumerate()
            .map(|(index, label)| ExchangeFacts {
                label: label.clone(),
                writers: u32::try_from(first + index)
                    .ok()
                    .and_then(|number| tracer.writers.get(&number).cloned())
                    .unwrap_or_default(),
                span_us: (0, 0),
            })
            .collect()
    };
    let session = &engine.script().exchanges;
    let exchanges = facts_of(session, 0);
    let probe = engine
        .probe()
        .map(|probe| facts_of(&probe.exchanges, session.len()))
        .unwrap_or_default();
    Ok(Traced {
        trace: Trace {
            version: engine.spec().old.label.clone(),
            workload: engine.script().name.clone(),
            exchanges,
            probe,
            processes,
            points: tracer.points,
            stacks: tracer.interned.stacks,
            waits: tracer.waits,
            word_sets: tracer.interned.word_sets,
            events: Some(tracer.events),
        },
        observation,
    })
}

/// Times a run of the old version in which entries are stamped without stopping.
///
/// # Errors
/// When the harness or the machine fails, or the server never becomes ready.
pub fn time(engine: &mut Restart) -> Result<Timing, HostError> {
    let mode = Mode {
        version: Which::Old,
        tracing: Tracing::Seized,
        limits: Limits::BASELINE,
    };
    engine.clear_stamps()?;
    let mut timer = Timer::default();
    let mut roles = Vec::new();
    engine.run(&mode, &mut timer, &mut |server| {
        roles = server.parts.notes.iter().map(|n| n.role.clone()).collect();
    })?;
    let clock = timer.clock();
    let mut threads: BTreeMap<ThreadIndex, TimedThread> = BTreeMap::new();
    for stamp in engine.stamps()? {
        let thread = identified(stamp.identity);
        let Some(role) = roles.get(thread.0) else {
            continue;
        };
        let entries = threads.entry(thread).or_insert_with(|| TimedThread {
            role: role.clone(),
            thread: thread.1,
            entries: Vec::new(),
        });
        let time = clock.microseconds(stamp.ticks);
        entries.entries.push((stamp.function, time));
    }
    Ok(Timing {
        exchanges: timer.exchanges(clock),
        threads: threads.into_values().collect(),
    })
}
