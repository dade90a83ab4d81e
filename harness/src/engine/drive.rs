//! Runs an unpatched server for somebody else than the script to talk to: for
//! recording a session.

use super::lifecycle::{Started, stop, wait_until_ready};
use super::restart::{LAST_PID, Mode, Restart};
use super::server::{Frame, Server};
use super::spec::Which;
use super::watch::Idle;
use crate::sandbox::processes;
use crate::tracee::spawn::Tracing;
use crate::verdict::observation::Ending;
use crate::world::{HostError, Limits};

impl Restart {
    /// Runs the server untraced and lets `session` talk to it in place of the
    /// script; then asks it to stop. Returns also how its first process ended, if
    /// it did so before that.
    ///
    /// # Errors
    /// When the harness or the machine fails, or the server never becomes ready.
    pub fn drive<T>(
        &mut self,
        version: Which,
        session: &mut dyn FnMut(&mut Server<'_>) -> Result<T, HostError>,
    ) -> Result<(T, Option<Ending>), HostError> {
        self.tools.activities.forget();
        self.root.set_last_pid(LAST_PID)?;
        let folder = self.make_folder(version)?;
        let result = self.drive_in_folder(version, session);
        processes::end_all();
        drop(folder);
        result
    }

    fn drive_in_folder<T>(
        &mut self,
        version: Which,
        session: &mut dyn FnMut(&mut Server<'_>) -> Result<T, HostError>,
    ) -> Result<(T, Option<Ending>), HostError> {
        let mode = Mode {
            version,
            tracing: Tracing::None,
            limits: Limits::BASELINE,
        };
        let mut watcher = Idle;
        let (root, tree) = self.start(&mode, &watcher)?;
        let frame = Frame {
            normaliser: &self.normaliser,
            reports: &self.reports,
            session_exchanges: 0,
        };
        let mut server = Server::new(
            &self.spec,
            &self.names,
            &mut self.tools,
            &mut watcher,
            &frame,
            root,
            tree,
        );
        if let Started::Failed(what, _) =
            wait_until_ready(&mut server, &self.spec.ready, &mode.limits)?
        {
            return Err(HostError::NotReady(what));
        }
        let told = session(&mut server)?;
        let ending = server.root_ending().cloned();
        let _ = stop(&mut server, &self.spec, &mode.limits)?;
        Ok((told, ending))
    }
}
