//! Tests on their way from worker to coordinator: neighbouring ones show nearly the
//! same, so that only the exchanges are sent that differ from the last test's.

use serde::{Deserialize, Serialize};

use super::Tested;
use crate::verdict::entries::Entries;
use crate::verdict::observation::SeenExchange;

/// What the last test showed that was sent, or arrived.
#[derive(Debug, Default)]
pub struct Last {
    exchanges: Vec<SeenExchange>,
    entries: Entries,
}

/// A test without what the one before it showed as well.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shortened {
    /// The test; of its exchanges and counts of entries, those that differ.
    tested: Tested,
    /// The places of these, ascending.
    places: Vec<usize>,
    /// Number of all exchanges.
    exchanges: usize,
}

impl Last {
    /// Leaves out what the last test showed, too.
    pub fn shorten(&mut self, mut tested: Tested) -> Shortened {
        let all = std::mem::take(&mut tested.observation.exchanges);
        let places: Vec<usize> = (0..all.len())
            .filter(|place| self.exchanges.get(*place) != Some(&all[*place]))
            .collect();
        let differing = places.iter().map(|place| all[*place].clone());
        tested.observation.exchanges = differing.collect();
        self.exchanges = all;
        let entries = std::mem::take(&mut tested.observation.new_entries);
        tested.observation.new_entries = entries.since(&self.entries);
        self.entries = entries;
        Shortened {
            tested,
            places,
            exchanges: self.exchanges.len(),
        }
    }

    /// Puts in what was left out. Every test that arrives must come through here, in
    /// the order in which they were sent.
    pub fn complete(&mut self, shortened: Shortened) -> Tested {
        let mut tested = shortened.tested;
        self.exchanges
            .resize_with(shortened.exchanges, SeenExchange::default);
        let differing = std::mem::take(&mut tested.observation.exchanges);
        for (place, exchange) in shortened.places.into_iter().zip(differing) {
            if let Some(known) = self.exchanges.get_mut(place) {
                *known = exchange;
            }
        }
        tested.observation.exchanges.clone_from(&self.exchanges);
        self.entries.take_over(&tested.observation.new_entries);
        tested.observation.new_entries.clone_from(&self.entries);
        tested
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::verdict::Observation;

    fn test(replies: &[&str]) -> Tested {
        let exchange = |reply: &&str| SeenExchange {
            replies: [("one".to_owned(), (*reply).to_owned())].into(),
            ..SeenExchange::default()
        };
        Tested {
            observation: Observation {
                exchanges: replies.iter().map(exchange).collect(),
                session_exchanges: 1,
                new_entries: replies.iter().map(|reply| (*reply, 1)).collect(),
                ..Observation::default()
            },
            engine: EngineKind::Rollback,
            instead: None,
            known_from: None,
            doubt: None,
            spent: Vec::new(),
        }
    }

    #[test]
    fn tests_arrive_as_they_were_sent() {
        let (mut sends, mut receives) = (Last::default(), Last::default());
        let sent: [&[&str]; 6] = [
            &["a", "b", "c"],
            &["a", "b", "c"],
            &["a", "x"],
            &["a", "x", "", "d"],
            &[],
            &["a"],
        ];
        let mut left_out = Vec::new();
        for replies in sent {
            let tested = test(replies);
            let shortened = sends.shorten(tested.clone());
            left_out.push(replies.len() - shortened.places.len());
            let text = serde_json::to_string(&shortened).unwrap();
            let arrived = receives.complete(serde_json::from_str(&text).unwrap());
            assert_eq!(arrived.observation, tested.observation);
        }
        assert_eq!(left_out, [0, 3, 1, 2, 0, 0]);
    }
}
