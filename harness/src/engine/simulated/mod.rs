//! The engines in a simulated world, where one server is brought from point to point.
//! By rollback it takes the update in place and finishes, and then its memory and
//! registers are put back; by fork snapshot a copy of it does so, and is ended.

mod copies;
mod known_ends;
mod live;
mod marks;
mod members;
mod run;
mod seen;
mod starting;
mod state;
mod survey;

use std::time::Instant;

use super::PointRequest;
use super::names::RoleNames;
use super::parts::Parts;
use super::restart::{LAST_PID, Mode, Restart};
use super::spec::Which;
use super::stages::{Spent, Stage, StageClock};
use super::updater::AtPoint;
use super::watch::Watcher as _;
use crate::sandbox::processes;
use crate::trace::Scope;
use crate::tracee::TraceeError;
use crate::tracee::shared_world::SharedWorld;
use crate::tracee::spawn::Tracing;
use crate::verdict::Observation;
use crate::verdict::observation::Update;
use crate::world::{HostError, Limits};

pub use copies::ComingBack;
pub use live::Live;
use live::Place;
use run::Played;
use survey::Places;

/// Why a test could not be run in a simulated world. Another engine can.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// The server does something that is not simulated.
    #[error("{0}")]
    Declined(String),
    /// The session does not reach the point there.
    #[error("{0}")]
    Elsewhere(String),
    /// The point lies behind the one where the server stands.
    #[error("the server has passed the point")]
    Passed,
    /// A fault of ours or of the machine.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl From<TraceeError> for Unfit {
    fn from(error: TraceeError) -> Self {
        if error.is_gone() {
            // A server that is killed takes its world along.
            return Self::Declined(error.to_string());
        }
        Self::Host(error.into())
    }
}

impl From<crate::sandbox::SandboxError> for Unfit {
    fn from(error: crate::sandbox::SandboxError) -> Self {
        Self::Host(error.into())
    }
}

/// The server of a session that lives in a simulated world, if there is one.
#[derive(Default)]
pub struct Simulation {
    /// How it comes back to points.
    coming_back: ComingBack,
    live: Option<Live>,
    /// Where points are met.
    places: Option<Places>,
    /// Whether a test showed something else than an earlier one in the same state: none
    /// takes anything over any more.
    doubted: bool,
}

/// A test run in a simulated world.
pub struct Rolled {
    /// What was seen.
    pub observation: Observation,
    /// The exchange from whose end on it is what an earlier test showed; none if it ran
    /// to its own end.
    pub known_from: Option<u32>,
    /// What it showed otherwise than an earlier test in the same state, if it did.
    pub doubt: Option<String>,
    /// Where its time went.
    pub spent: Spent,
}

impl Simulation {
    /// Starts a server anew and plays the session: once as it is, and once to see where
    /// its points are met.
    ///
    /// # Errors
    /// When the session cannot be simulated, or the machine refuses something.
    pub fn prepare(&mut self, engine: &mut Restart, coming_back: ComingBack) -> Result<(), Unfit> {
        (self.live, self.places) = (None, None);
        self.coming_back = coming_back;
        let mut fresh = engine.simulate(coming_back)?;
        engine.play_simulated(&mut fresh)?;
        self.places = Some(engine.survey(&mut fresh)?);
        self.live = Some(fresh);
        Ok(())
    }

    /// Lets the server go: another one is about to start.
    pub fn forget(&mut self) {
        self.live = None;
    }

    /// Places of points in the order in which the session reaches them, in which the
    /// server goes from one to the next; none for those that it does not reach.
    #[must_use]
    pub fn order(&self, points: &[PointRequest]) -> Vec<Option<u32>> {
        let place = |point| self.places.as_ref().and_then(|places| places.order(point));
        points.iter().map(place).collect()
    }

    /// Runs one update test: on the server at hand if it has not passed the point, else
    /// on a new one.
    ///
    /// # Errors
    /// When the test cannot be simulated, or the machine refuses something.
    pub fn test(
        &mut self,
        engine: &mut Restart,
        limits: Limits,
        point: &PointRequest,
        at_point: AtPoint,
    ) -> Result<Rolled, Unfit> {
        if self.places.is_none() {
            self.prepare(engine, self.coming_back)?;
        }
        let place = match &self.places {
            Some(places) => places.place(point, self.coming_back)?,
            None => return Err(live::lost()),
        };
        self.roll(engine, limits, point, &place, at_point)
    }

    fn roll(
        &mut self,
        engine: &mut Restart,
        limits: Limits,
        point: &PointRequest,
        place: &Place,
        at_point: AtPoint,
    ) -> Result<Rolled, Unfit> {
        for _ in 0..2 {
            let mut server = match self.live.take() {
                Some(server) => server,
                None => engine.simulate(self.coming_back)?,
            };
            // A copy plays every test to its end, so that it checks what rollback takes over.
            server.ends.used = self.coming_back == ComingBack::PutBack && !self.doubted;
            match engine.roll(&mut server, limits, (point, place), at_point) {
                Err(Unfit::Passed) => {}
                Ok(rolled) => {
                    self.live = Some(server);
                    self.doubted |= rolled.doubt.is_some();
                    return Ok(rolled);
                }
                // What it did may not be undone: the next test gets a fresh one.
                other => return other,
            }
        }
        Err(Unfit::Passed)
    }
}

impl Restart {
    /// Starts the old version in a simulated world and brings it to readiness.
    ///
    /// # Errors
    /// When the session cannot be simulated, or the machine refuses something.
    pub fn simulate(&mut self, coming_back: ComingBack) -> Result<Live, Unfit> {
        let live = self.start_simulated(coming_back);
        if live.is_err() {
            processes::end_all();
        }
        live
    }

    fn start_simulated(&mut self, coming_back: ComingBack) -> Result<Live, Unfit> {
        processes::end_all();
        self.tools.activities.forget();
        self.tools.unwinder.forget_processes();
        self.tools.libraries.forget_processes();
        self.root.set_last_pid(LAST_PID)?;
        super::restart::clear(&self.coverage)?;
        let folder = self.make_folder(Which::Old)?;
        let mode = Mode {
            version: Which::Old,
            tracing: Tracing::Seized,
            limits: Limits::BASELINE,
        };
        let shared = SharedWorld::new()?;
        let inherited = Some(shared.descriptor());
        let (pid, traced) = self.start_stopped(&mode, &starting::Counting, inherited)?;
        let Some((tree, stopped)) = traced else {
            return Err(Unfit::Declined("the server is not traced".to_owned()));
        };
        Live::start(self, coming_back, folder, shared, (pid, tree, stopped))
    }

    /// Plays the whole session once from readiness on, without an update.
    ///
    /// # Errors
    /// When the session cannot be simulated, or the machine refuses something.
    pub fn play_simulated(&mut self, live: &mut Live) -> Result<Observation, Unfit> {
        let begun = Instant::now();
        live.allow(Limits::BASELINE);
        let played = self.with_parts(live, &mut |live, parts| live.play(parts, None))?;
        let mut seen = self.seen(live, &played)?;
        live.go_back(self)?;
        seen.wall_us = microseconds(begun);
        Ok(seen)
    }

    /// Stops at every entry of the session, and puts the server back to readiness.
    fn survey(&mut self, live: &mut Live) -> Result<Places, Unfit> {
        live.allow(Limits::BASELINE);
        let survey = self.with_parts(live, &mut |live, parts| live.survey(parts))?;
        live.go_back(self)?;
        Ok(survey)
    }

    /// Runs one update test and puts the server back to the point, which the simulated
    /// session reaches at the given place. Of its stages, the
    /// one behind the point has probe and stop in it.
    ///
    /// # Errors
    /// When the session cannot be simulated, or the machine refuses something; the
    /// server is then of no use any more, unless the point was only passed.
    fn roll(
        &mut self,
        live: &mut Live,
        limits: Limits,
        (point, place): (&PointRequest, &Place),
        at_point: AtPoint,
    ) -> Result<Rolled, Unfit> {
        let begun = Instant::now();
        let mut clock = StageClock::start();
        if self.spec.scope == Scope::Tree && self.spec.roles.len() > 1 {
            return Err(Unfit::Declined(
                "scope tree of several processes".to_owned(),
            ));
        }
        live.allow(limits);
        self.with_parts(live, &mut |live, parts| live.advance(parts, place))?;
        live.remember();
        let (updater, played) = self.play_test(live, point, at_point)?;
        if let Update::NotReached { reason } = updater.update {
            live.go_back(self)?;
            return Err(Unfit::Elsewhere(reason));
        }
        clock.session_over(updater.updated_at());
        let mut seen = self.seen(live, &played)?;
        seen.update = updater.update;
        seen.old_frame_exchanges = updater.old_frame_exchanges;
        let doubt = self.complete(live, &played, &mut seen)?;
        clock.over(Stage::Look);
        live.go_back(self)?;
        clock.over(Stage::CleanUp);
        seen.wall_us = microseconds(begun);
        Ok(Rolled {
            observation: seen,
            known_from: played.known.map(|(exchange, _)| exchange),
            doubt,
            spent: clock.into_spent(),
        })
    }

    /// Completes what a test showed by what is known of its rest, and remembers it for
    /// tests that come. Tells where it ran to its end and showed something else than was
    /// expected.
    fn complete(
        &mut self,
        live: &mut Live,
        played: &Played,
        seen: &mut Observation,
    ) -> Result<Option<String>, Unfit> {
        let mut counts = live.counts()?;
        if let Some((exchange, end)) = &played.known {
            end.go_on(*exchange, seen, &mut counts);
        }
        seen.new_entries = self.counted.entries(&counts);
        let differs = live.ends.showed(seen, &counts);
        Ok(differs.map(|exchange| {
            format!(
                "it went on from the end of exchange {exchange} otherwise than an earlier \
                 test that was in the same state there"
            )
        }))
    }

    /// Does something with the server's processes and everything that is known of them.
    fn with_parts<T>(
        &mut self,
        live: &mut Live,
        act: &mut dyn FnMut(&mut Live, &mut Parts<'_>) -> Result<T, Unfit>,
    ) -> Result<T, Unfit> {
        let known = std::mem::take(&mut live.known);
        live.known.running = known.running;
        let mut parts = Parts {
            spec: &self.spec,
            tools: &mut self.tools,
            tree: std::mem::take(&mut live.tree),
            notes: known.notes,
            names: &self.names,
            exchange: live.place.as_ref().map_or(0, |place| place.exchange),
            ready: true,
            roles: RoleNames::resumed(&self.spec.roles, known.roles),
        };
        let result = act(live, &mut parts);
        live.tree = std::mem::take(&mut parts.tree);
        live.known.notes = std::mem::take(&mut parts.notes);
        live.known.roles = parts.roles.into_counts();
        result
    }
}

fn microseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
