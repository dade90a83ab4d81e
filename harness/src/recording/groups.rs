//! From a log to exchanges: one act of a client, and everything that it brought.

use super::log::{Event, Log, Target};

/// The events of one exchange, in order.
pub type Group = Vec<Event>;

/// What a log says of one connection as a whole.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where it went.
    pub target: Target,
    /// Everything that it received.
    pub stream: Vec<u8>,
}

impl Facts {
    /// Whether it was opened for data that another connection asked for.
    #[must_use]
    pub fn is_data(&self) -> bool {
        matches!(self.target, Target::Passive { .. })
    }
}

/// The connections of a log, in order of opening.
#[must_use]
pub fn facts(log: &Log) -> Vec<Facts> {
    let mut facts: Vec<Facts> = Vec::new();
    for event in &log.events {
        match event {
            Event::Opened { target, .. } => facts.push(Facts {
                target: target.clone(),
                stream: Vec::new(),
            }),
            Event::Received { connection, bytes } => {
                if let Some(fact) = facts.get_mut(*connection) {
                    fact.stream.extend_from_slice(bytes);
                }
            }
            _ => {}
        }
    }
    facts
}

/// Groups the events of a log into exchanges.
#[must_use]
pub fn group(log: &Log, facts: &[Facts]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut rested = false;
    for event in without_echoes(&log.events) {
        if event == Event::Rest {
            rested = true;
            continue;
        }
        match groups.last_mut() {
            // What comes after a rest comes unasked.
            Some(group) if !event.is_clients() && !rested => group.push(event),
            _ => groups.push(vec![event]),
        }
        rested = false;
    }
    let mut merged: Vec<Group> = Vec::new();
    for group in groups {
        match merged.last_mut() {
            Some(last) if belongs_to(last, &group, facts) => join(last, group),
            _ => merged.push(group),
        }
    }
    merged
}

/// Leaves out what cannot reach the other side any more: acts on a connection that
/// the server has closed, and replies to a client that is gone.
fn without_echoes(events: &[Event]) -> Vec<Event> {
    let mut ended = std::collections::BTreeSet::new();
    let mut gone = std::collections::BTreeSet::new();
    let mut kept = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let dropped = event.connection().is_some_and(|connection| {
            gone.contains(&connection) || (event.is_clients() && ended.contains(&connection))
        });
        if dropped {
            continue;
        }
        match event {
            Event::Ended { connection, .. } => {
                ended.insert(*connection);
            }
            Event::Reset { connection } => {
                gone.insert(*connection);
            }
            // It may have closed one direction or both: a later reset tells.
            Event::Finished { connection } if !hears_more(&events[at + 1..], *connection) => {
                gone.insert(*connection);
            }
            _ => {}
        }
        kept.push(event.clone());
    }
    kept
}

/// Whether a client that finished still received something, and took it.
fn hears_more(later: &[Event], finished: usize) -> bool {
    let of_it = || {
        later
            .iter()
            .filter(move |event| event.connection() == Some(finished))
    };
    of_it().any(|event| matches!(event, Event::Received { .. }))
        && !of_it().any(|event| matches!(event, Event::Reset { .. }))
}

fn belongs_to(last: &Group, next: &Group, facts: &[Facts]) -> bool {
    let is_data = |connection: usize| facts.get(connection).is_some_and(Facts::is_data);
    let Some(first) = next.first().filter(|event| event.is_clients()) else {
        return false;
    };
    // A data connection only serves the command that it was opened for.
    let only_opens_data = last
        .iter()
        .all(|event| matches!(event, Event::Opened { connection, .. } if is_data(*connection)));
    if only_opens_data {
        return true;
    }
    match (last.last(), first) {
        // One text, which the network cut.
        (
            Some(Event::Sent { connection, bytes }),
            Event::Sent {
                connection: again, ..
            },
        ) => connection == again && (is_data(*again) || !bytes.ends_with(b"\n")),
        (Some(Event::Sent { connection, .. }), Event::Finished { connection: closed }) => {
            connection == closed && is_data(*closed)
        }
        // A reply that ends within a line is framed by the close that follows.
        (Some(Event::Received { connection, bytes }), Event::Finished { connection: closed }) => {
            connection == closed && !bytes.ends_with(b"\n")
        }
        _ => false,
    }
}

fn join(last: &mut Group, next: Group) {
    for event in next {
        match (last.last_mut(), event) {
            (
                Some(Event::Sent { connection, bytes }),
                Event::Sent {
                    connection: again,
                    bytes: more,
                },
            ) if *connection == again => bytes.extend_from_slice(&more),
            (_, event) => last.push(event),
        }
    }
}
