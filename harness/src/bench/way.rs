//! The ways to play a session that a bench compares.

use serde::Serialize;

use crate::engine::EngineKind;

/// A way to play a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Start, session, probe and stop, left alone: what no test can do without.
    Untraced,
    /// A restart test that stops at the point and applies nothing.
    StopAndGo,
    /// A restart test.
    Restart,
    /// The same test on a copy of a started server.
    ForkServer,
    /// The same test on a copy of a server that stands at the point, in a simulated world.
    ForkSnapshot,
    /// The same test by rollback in a simulated world.
    Rollback,
    /// One by rollback that applies nothing: what no update can do without.
    Floor,
    /// A gdb batch script that does the same.
    Gdb,
}

impl Way {
    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::StopAndGo => "stop-and-go",
            Self::Restart => "restart",
            Self::ForkServer => "fork-server",
            Self::ForkSnapshot => "fork-snapshot",
            Self::Rollback => "rollback",
            Self::Floor => "floor",
            Self::Gdb => "gdb",
        }
    }

    /// The faster engine that runs its tests, if one does.
    pub(super) const fn engine(self) -> Option<EngineKind> {
        match self {
            Self::ForkServer => Some(EngineKind::ForkServer),
            Self::ForkSnapshot => Some(EngineKind::ForkSnapshot),
            Self::Rollback | Self::Floor => Some(EngineKind::Rollback),
            Self::Untraced | Self::StopAndGo | Self::Restart | Self::Gdb => None,
        }
    }

    /// How tests of an engine are run.
    pub(super) const fn of(kind: EngineKind) -> Self {
        match kind {
            EngineKind::Restart => Self::Restart,
            EngineKind::ForkServer => Self::ForkServer,
            EngineKind::ForkSnapshot => Self::ForkSnapshot,
            EngineKind::Rollback => Self::Rollback,
        }
    }
}
