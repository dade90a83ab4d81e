//! The fork server engine: the server is started once, and copied for each test when
//! it is ready for clients. A copy has the number, the memory and the open files of
//! the server that was started, and is followed as the restart engine follows one.

pub mod belongings;
pub mod epoll;
pub mod keeper;
pub mod traits;
pub mod unfit;

use std::time::Instant;

use keeper::Keeper;
use unfit::{NoCopy, Unfit};

use super::restart::{Mode, Restart, Run};
use super::server::Server;
use super::stages::{Stage, StageClock};
use super::watch::Watcher;

/// Runs sessions on copies of one started server.
#[derive(Debug, Default)]
pub struct ForkServer {
    keeper: Option<Keeper>,
}

impl ForkServer {
    /// Starts the server that is copied, if none is there or the one that is has
    /// grown old.
    ///
    /// # Errors
    /// When the session does not allow it, or the harness fails.
    pub fn prepare(&mut self, engine: &mut Restart, mode: &Mode) -> Result<&Keeper, NoCopy> {
        if engine.spec.startup {
            return Err(Unfit::StartUpPoints.into());
        }
        let fresh = match self.keeper.take() {
            Some(keeper) if !keeper.is_stale() => keeper,
            old => {
                drop(old);
                Keeper::start(engine, mode)?
            }
        };
        Ok(self.keeper.insert(fresh))
    }

    /// Lets the started server go: another engine is about to start one.
    pub fn forget(&mut self) {
        self.keeper = None;
    }

    /// Runs the session once on a copy.
    ///
    /// # Errors
    /// When the session does not allow it, or the harness fails.
    pub fn run(
        &mut self,
        engine: &mut Restart,
        mode: &Mode,
        watcher: &mut dyn Watcher,
        finish: &mut dyn FnMut(&Server<'_>),
    ) -> Result<Run, NoCopy> {
        let begun = Instant::now();
        let mut clock = StageClock::start();
        let keeper = self.prepare(engine, mode)?;
        engine.forget_last_run()?;
        clock.over(Stage::Folder);
        let copied = keeper.copy(engine);
        clock.over(Stage::Start);
        let served = copied.and_then(|(tree, stopped)| {
            let root = stopped.thread();
            let server = (root, Some(tree), Some(stopped));
            let served = engine.serve(server, mode, watcher, &mut clock, finish)?;
            Ok(served)
        });
        // What a failed run leaves behind is anybody's guess.
        if served.is_err() || !keeper.put_back() {
            self.keeper = None;
        }
        clock.over(Stage::CleanUp);
        Ok(engine.finish_run(served?, begun, clock))
    }
}
