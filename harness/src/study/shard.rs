//! `--shard k/n`: the part of a study that one machine of several runs. Tests are
//! dealt out by a hash of their identifiers, so that every machine deals alike,
//! whatever it has run already.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One part of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// Which part, from 1.
    part: u64,
    /// Of how many.
    parts: u64,
}

/// A text that is not a shard.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a shard; write which part of how many, from 1, such as 2/8")]
pub struct ParseShardError(String);

impl Shard {
    /// Whether the test or session of this identifier belongs to the part.
    #[must_use]
    pub fn takes(self, id: &str) -> bool {
        // SHA-256 and not the standard library's hash: it must be the same in every
        // release, on every machine of a cluster.
        let hash = Sha256::digest(id.as_bytes())
            .iter()
            .take(8)
            .fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        hash % self.parts == self.part - 1
    }
}

/// Whether `shard`, or the whole study where there is none, takes an identifier.
#[must_use]
pub fn takes(shard: Option<Shard>, id: &str) -> bool {
    shard.is_none_or(|shard| shard.takes(id))
}

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/').and_then(|(part, parts)| {
            Some(Self {
                part: part.parse().ok()?,
                parts: parts.parse().ok()?,
            })
        });
        numbers
            .filter(|shard| (1..=shard.parts).contains(&shard.part))
            .ok_or_else(|| ParseShardError(text.to_owned()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

impl TryFrom<String> for Shard {
    type Error = ParseShardError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_test_belongs_to_exactly_one_part(id in ".{0,40}", parts in 1u64..20) {
            let takers = (1..=parts).filter(|part| Shard { part: *part, parts }.takes(&id));
            prop_assert_eq!(takers.count(), 1);
        }
    }

    #[test]
    fn parts_are_dealt_alike_in_every_release() {
        let of = |id: &str| {
            (1..=8).find(|part| {
                Shard {
                    part: *part,
                    parts: 8,
                }
                .takes(id)
            })
        };
        let ids = [
            "tiny-v1-v2/own+redirect/process/session/server#1/0@0:1",
            "tiny-v1-v2/own+redirect/process/session/server#1/0@0:2",
            "",
        ];
        assert_eq!(ids.map(of), [Some(2), Some(6), Some(5)]);
    }

    #[test]
    fn nonsense_is_refused_with_an_example() {
        for text in ["", "3", "0/4", "5/4", "1/0", "a/b", "-1/2"] {
            let error = text.parse::<Shard>().unwrap_err().to_string();
            assert!(error.contains("2/8"), "{error}");
        }
        assert_eq!("2/8".parse::<Shard>().unwrap().to_string(), "2/8");
    }
}
