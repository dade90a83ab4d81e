//! The engines by name, and which of them is asked for.

use serde::{Deserialize, Serialize};

/// An engine that runs update tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// A new server for each test.
    #[default]
    Restart,
    /// A copy of a started server for each test.
    ForkServer,
    /// One server in a simulated world, a copy of which runs each test.
    ForkSnapshot,
    /// One server in a simulated world, put back after each test.
    Rollback,
}

impl EngineKind {
    /// Engines beside restart, the fastest first.
    pub const FASTER: [Self; 3] = [Self::Rollback, Self::ForkSnapshot, Self::ForkServer];

    /// Its name in options and results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::ForkServer => "fork-server",
            Self::ForkSnapshot => "fork-snapshot",
            Self::Rollback => "rollback",
        }
    }

    /// The engine of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Restart]
            .into_iter()
            .chain(Self::FASTER)
            .find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for EngineKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Which engine a session's tests are to be run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineWish {
    /// The fastest that the session allows and that agrees with restart.
    Auto,
    /// This one; restart where the session does not allow it.
    #[serde(untagged)]
    Just(EngineKind),
}

impl Default for EngineWish {
    fn default() -> Self {
        Self::Just(EngineKind::Restart)
    }
}

impl std::fmt::Display for EngineWish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Just(kind) => kind.fmt(f),
        }
    }
}

impl std::str::FromStr for EngineWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, EngineKind::of_name(text)) {
            ("auto", _) => Ok(Self::Auto),
            (_, Some(kind)) => Ok(Self::Just(kind)),
            _ => Err(
                "there are `restart`, `fork-server`, `fork-snapshot`, `rollback` and `auto`"
                    .to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_written_alike() {
        for text in [
            "auto",
            "restart",
            "fork-server",
            "fork-snapshot",
            "rollback",
        ] {
            let wish: EngineWish = text.parse().unwrap();
            assert_eq!(wish.to_string(), text);
            let json = serde_json::to_string(&wish).unwrap();
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<EngineWish>(&json).unwrap(), wish);
        }
        assert!("fast".parse::<EngineWish>().is_err());
    }
}
