//! Names of processes and of update points, independent of engine and run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A process of the server by what it does: `session#2` is the second process
/// of the run whose role is `session`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleInstance {
    /// Role name from the manifest.
    pub role: String,
    /// Counted from 1 in order of creation.
    pub number: u32,
}

impl fmt::Display for RoleInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.role, self.number)
    }
}

/// A text that is not a role instance or point.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not {what}; expected a form such as `{example}`")]
pub struct ParsePointError {
    text: String,
    what: &'static str,
    example: &'static str,
}

impl FromStr for RoleInstance {
    type Err = ParsePointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePointError {
            text: text.to_owned(),
            what: "a role instance",
            example: "session#2",
        };
        let (role, number) = text.rsplit_once('#').ok_or_else(error)?;
        Ok(Self {
            role: role.to_owned(),
            number: number.parse().map_err(|_| error())?,
        })
    }
}

impl TryFrom<String> for RoleInstance {
    type Error = ParsePointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RoleInstance> for String {
    fn from(role: RoleInstance) -> Self {
        role.to_string()
    }
}

/// An update point: the `index`-th entry (from 1) of the program's own functions
/// by one thread of one process during one exchange. Written
/// `session#1/0@3:17`: role instance, thread, exchange, index; the exchange is
/// `start` before the server is ready.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PointId {
    /// The process.
    pub role: RoleInstance,
    /// The thread within it, by order of creation, from 0.
    pub thread: u32,
    /// The exchange, from 0; none during start-up, before the server is ready.
    pub exchange: Option<u32>,
    /// The entry within the exchange, from 1.
    pub index: u32,
}

/// How identifiers write the time before readiness.
const START_UP: &str = "start";

impl PointId {
    /// The exchange as identifiers write it: its number, or `start`.
    #[must_use]
    pub fn moment(&self) -> String {
        self.exchange
            .map_or_else(|| START_UP.to_owned(), |number| number.to_string())
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}@{}:{}",
            self.role,
            self.thread,
            self.moment(),
            self.index
        )
    }
}

impl FromStr for PointId {
    type Err = ParsePointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePointError {
            text: text.to_owned(),
            what: "an update point",
            example: "session#1/0@3:17",
        };
        let (process, moment) = text.rsplit_once('@').ok_or_else(error)?;
        let (role, thread) = process.rsplit_once('/').ok_or_else(error)?;
        let (exchange, index) = moment.split_once(':').ok_or_else(error)?;
        Ok(Self {
            role: role.parse()?,
            thread: thread.parse().map_err(|_| error())?,
            exchange: match exchange {
                START_UP => None,
                number => Some(number.parse().map_err(|_| error())?),
            },
            index: index.parse().map_err(|_| error())?,
        })
    }
}

impl TryFrom<String> for PointId {
    type Error = ParsePointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PointId> for String {
    fn from(point: PointId) -> Self {
        point.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_point_survives_its_own_text(role in "[a-z][a-z-]{0,8}", number in 1u32..99, thread in 0u32..9, exchange in proptest::option::of(0u32..999), index in 1u32..99999) {
            let point = PointId { role: RoleInstance { role, number }, thread, exchange, index };
            prop_assert_eq!(point.to_string().parse::<PointId>().unwrap(), point);
        }
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        let error = "session#1@x".parse::<PointId>().unwrap_err().to_string();
        assert!(error.contains("session#1/0@3:17"), "{error}");
    }
}
