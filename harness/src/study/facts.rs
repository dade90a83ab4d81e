//! What `run.json` says of a study: which Kairos ran what, where, and how it went.

use super::choice::{ChosenPair, sessions};
use super::hashes;
use super::options::Options;
use super::plan::SessionKey;
use super::session::PreparedSession;
use super::store::{EngineChoice, KairosFacts, MachineFacts, RunFacts, RunOptions};
use crate::engine::wanted::Chosen;
use crate::policy::DEFINITION_OF_CHANGED;
use crate::subject::BuildOptions;

/// The facts of a run that is about to begin.
#[must_use]
pub fn of_new_run(
    options: &Options,
    recorded: &RunOptions,
    build: &BuildOptions,
    chosen: &[ChosenPair<'_>],
) -> RunFacts {
    RunFacts {
        arguments: options.arguments.clone(),
        seed: recorded.seed,
        sample: recorded.sample,
        sessions: sessions(chosen, recorded),
        options: Some(recorded.clone()),
        shard: options.shard,
        kairos: kairos(),
        machine: MachineFacts::read(&build.compiler.version),
        hashes: hashes::of(chosen),
        definition_of_changed: DEFINITION_OF_CHANGED.to_owned(),
        ..RunFacts::default()
    }
}

/// Which Kairos this is.
#[must_use]
pub fn kairos() -> KairosFacts {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git")
            .args(arguments)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    KairosFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(&["rev-parse", "HEAD"]),
        dirty: git(&["status", "--porcelain"]).map(|text| !text.is_empty()),
    }
}

/// Adds what is known of a session once it is ready.
pub fn add_session(facts: &mut RunFacts, session: &PreparedSession) {
    let key = &session.record.session;
    let chosen = session.record.engine.clone();
    let chosen = chosen.unwrap_or_else(|| Chosen::restart("there was no other"));
    facts.engines.retain(|choice| choice.session != *key);
    facts.engines.push(EngineChoice {
        session: key.clone(),
        engine: chosen.engine,
        why: chosen.why,
    });
    facts.limits.insert(
        format!("{}/{}", key.label(), key.workload),
        serde_json::json!({
            "waiting_us": session.limits.waiting.as_micros(),
            "busy_us": session.limits.busy.as_micros(),
            "stopping_us": session.limits.stopping.as_micros(),
        }),
    );
    sort(facts);
}

/// Puts what is listed by session into the order of the sessions.
pub fn sort(facts: &mut RunFacts) {
    let sessions = std::mem::take(&mut facts.sessions);
    let place = |key: &SessionKey| {
        let place = sessions.iter().position(|session| session == key);
        place.unwrap_or(usize::MAX)
    };
    facts.engines.sort_by_key(|choice| place(&choice.session));
    facts
        .controls
        .sort_by_key(|control| place(&control.session));
    facts.sessions = sessions;
}
