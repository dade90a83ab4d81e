//! From a log to a workload script that a person can read and edit. No input or
//! output: the same log gives the same script.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::captures::{self, Captures};
use super::frame::awaits;
use super::groups::{Facts, Group, facts, group};
use super::log::{Event, Log, Target};
use super::passive::asks_to_connect_back;
use super::text::{LineEnd, directives};
use crate::workload::MAX_CONNECTIONS;
use crate::workload::script::Specification;
use crate::world::session::{END_OF_FILE, REFUSED, RESET};

/// Longest label of an exchange.
const LONGEST_LABEL: usize = 32;

/// What a script's first lines say.
#[derive(Clone, Debug)]
pub struct Heading {
    /// A comment: from what it was recorded.
    pub origin: String,
    /// What the session does.
    pub about: String,
    /// The claim it makes.
    pub specification: Specification,
    /// The profile that the server was run under.
    pub profile: Option<String>,
}

/// A script, and what its exchanges brought when they were recorded.
#[derive(Clone, Debug, Default)]
pub struct Composed {
    /// The script.
    pub text: String,
    /// Labels of the exchanges.
    pub labels: Vec<String>,
    /// Bytes received in each exchange, by connection name, with the marks of a
    /// played session.
    pub replies: Vec<BTreeMap<String, Vec<u8>>>,
}

/// A session that no script can say.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ComposeError {
    /// No client connected.
    #[error("nothing was recorded: no client connected")]
    Nothing,
    /// More connections at once than a script may hold.
    #[error(
        "the client held {0} connections at once, a script at most {MAX_CONNECTIONS}; record fewer at a time"
    )]
    TooManyConnections(usize),
}

/// Writes the script of a log.
///
/// # Errors
/// When there is nothing to write, or too many connections.
pub fn compose(log: &Log, heading: &Heading) -> Result<Composed, ComposeError> {
    let facts = facts(log);
    let groups = group(log, &facts);
    if groups.is_empty() {
        return Err(ComposeError::Nothing);
    }
    let names = names(&groups, &facts)?;
    let captures = captures::find(&groups, &facts);
    let sent = groups.iter().flatten().filter_map(|event| match event {
        Event::Sent { connection, bytes } if !facts[*connection].is_data() => {
            Some(bytes.as_slice())
        }
        _ => None,
    });
    let mut writer = Writer {
        end: LineEnd::of_most(sent),
        several: facts.iter().filter(|fact| !fact.is_data()).count() > 1,
        facts: &facts,
        names: &names,
        captures: &captures,
        consumed: vec![0; facts.len()],
        ended: vec![None; facts.len()],
        closed: vec![false; facts.len()],
        received: vec![0; facts.len()],
        composed: Composed::default(),
    };
    writer.heading(heading);
    for (number, group) in groups.iter().enumerate() {
        writer.exchange(number, group, groups.get(number + 1..).unwrap_or_default());
    }
    if let Some(ending) = &log.server_ending {
        writer.line(&format!("# The server ended by itself: {ending:?}."));
    }
    Ok(writer.composed)
}

/// Names of connections: `c` for the client's own, `d` for data, numbered if
/// there are several at once.
fn names(groups: &[Group], facts: &[Facts]) -> Result<Vec<String>, ComposeError> {
    let controls = facts.iter().filter(|fact| !fact.is_data()).count();
    let (data, most_data) = slots(groups, facts, Facts::is_data);
    let (shared, most_shared) = slots(groups, facts, |fact| !fact.is_data());
    // A name of its own for each as long as there are enough.
    let own = controls + most_data <= MAX_CONNECTIONS;
    let most_controls = if own { controls } else { most_shared };
    if most_controls + most_data > MAX_CONNECTIONS {
        return Err(ComposeError::TooManyConnections(most_controls + most_data));
    }
    let name = |letter: char, slot: usize, most: usize| {
        if most > 1 {
            format!("{letter}{}", slot + 1)
        } else {
            letter.to_string()
        }
    };
    let mut control = 0;
    Ok((0..facts.len())
        .map(|connection| {
            if facts[connection].is_data() {
                return name('d', data[connection], most_data);
            }
            control += 1;
            let slot = if own { control - 1 } else { shared[connection] };
            name('c', slot, most_controls)
        })
        .collect())
}

/// Places for connections of a kind, used again when a connection has closed; how
/// many are needed. One that only the client has finished is still open while the
/// server says more on it, or ends it later.
fn slots(
    groups: &[Group],
    facts: &[Facts],
    is_kind: impl Fn(&Facts) -> bool,
) -> (Vec<usize>, usize) {
    let mut slots = vec![0; facts.len()];
    let mut users: Vec<Option<usize>> = Vec::new();
    let mut heard = vec![0; facts.len()];
    for (number, group) in groups.iter().enumerate() {
        for event in group {
            if let Event::Received { connection, .. } | Event::Ended { connection, .. } = event {
                heard[*connection] = number;
            }
        }
    }
    for (number, group) in groups.iter().enumerate() {
        for event in group {
            if let Event::Opened { connection, .. } = event
                && is_kind(&facts[*connection])
            {
                let free = users.iter().position(Option::is_none);
                let free = free.unwrap_or_else(|| {
                    users.push(None);
                    users.len() - 1
                });
                users[free] = Some(*connection);
                slots[*connection] = free;
            }
        }
        // A script closes at the end of an exchange at the earliest.
        for event in group {
            if let Event::Ended { connection, .. }
            | Event::Finished { connection }
            | Event::Reset { connection }
            | Event::Opened {
                connection,
                accepted: false,
                ..
            } = event
            {
                let finished = matches!(event, Event::Finished { .. });
                if finished && heard[*connection] > number {
                    continue;
                }
                for user in &mut users {
                    if *user == Some(*connection) {
                        *user = None;
                    }
                }
            }
        }
    }
    (slots, users.len())
}

struct Writer<'a> {
    end: LineEnd,
    /// Whether labels must say which connection they are about.
    several: bool,
    facts: &'a [Facts],
    names: &'a [String],
    captures: &'a Captures,
    /// How much of each connection's stream the script has consumed.
    consumed: Vec<usize>,
    /// How much of it has been received.
    received: Vec<usize>,
    /// How the server ended each connection.
    ended: Vec<Option<&'static str>>,
    closed: Vec<bool>,
    composed: Composed,
}

impl Writer<'_> {
    fn line(&mut self, text: &str) {
        self.composed.text.push_str(text);
        self.composed.text.push('\n');
    }

    fn heading(&mut self, heading: &Heading) {
        let specification = match heading.specification {
            Specification::BackwardCompatible => "backward-compatible",
            Specification::PostUpdate => "post-update",
            Specification::Conformable => "conformable",
        };
        for line in heading.origin.lines() {
            self.line(&format!("# {line}"));
        }
        self.line(&format!("about {}", heading.about));
        if let Some(profile) = &heading.profile {
            self.line(&format!("profile {profile}"));
        }
        self.line(&format!("specification {specification}"));
        self.line(&format!("eol {}", self.end.name()));
    }

    fn exchange(&mut self, number: usize, group: &Group, later: &[Group]) {
        let label = self.label(group);
        self.line("");
        self.line(&format!("exchange {label}"));
        self.composed.labels.push(label);
        self.composed.replies.push(BTreeMap::new());
        if group.first().is_some_and(|event| !event.is_clients()) {
            self.line("# Nothing was sent: the server spoke by itself.");
        }
        let mut spoke: Vec<usize> = Vec::new();
        for (at, event) in group.iter().enumerate() {
            let closes = match event {
                Event::Finished { connection } => {
                    let mut more = group[at + 1..].iter().chain(later.iter().flatten());
                    let hears = |event: &Event| matches!(event, Event::Received { connection: c, .. } if c == connection);
                    (!more.any(hears)).then_some(*connection)
                }
                _ => None,
            };
            if event.is_clients() {
                // Unread bytes of a connection are its close's to take.
                self.take_replies(&mut spoke, closes);
            }
            match event {
                Event::Opened {
                    connection,
                    target,
                    accepted,
                } => self.open(*connection, target, *accepted),
                Event::Sent { connection, bytes } => {
                    let insertions = self.captures.insertions.get(&(number, at));
                    let insertions = insertions.map_or(&[][..], Vec::as_slice);
                    let name = &self.names[*connection];
                    let mut lines = bytes.split(|byte| *byte == b'\n');
                    if lines.any(asks_to_connect_back) && !self.facts[*connection].is_data() {
                        self.line("# Active mode: the server cannot reach the client it asks for.");
                    }
                    for directive in directives(name, bytes, self.end, insertions) {
                        self.line(&directive);
                    }
                }
                Event::Finished { connection } if closes.is_none() => {
                    self.line(&format!("finish {}", self.names[*connection]));
                }
                Event::Finished { connection } => self.close("close", *connection),
                Event::Reset { connection } => self.close("reset", *connection),
                Event::Received { connection, bytes } => {
                    self.received[*connection] += bytes.len();
                    speaks(&mut spoke, *connection);
                }
                Event::Ended { connection, torn } => {
                    self.ended[*connection] = Some(if *torn { RESET } else { END_OF_FILE });
                    speaks(&mut spoke, *connection);
                }
                Event::Rest => {}
            }
        }
        self.take_replies(&mut spoke, None);
    }

    fn open(&mut self, connection: usize, target: &Target, accepted: bool) {
        let port = match target {
            Target::Port(name) => name.clone(),
            Target::Passive { .. } => self
                .captures
                .ports
                .get(&connection)
                .cloned()
                .unwrap_or_default(),
        };
        self.line(&format!("open {} {port}", self.names[connection]));
        if !accepted {
            self.note(connection, REFUSED.as_bytes());
            self.closed[connection] = true;
        }
    }

    /// Awaits what connections received. Data is not awaited: its connection is
    /// closed when the reply on the other one is there, whether the server used it
    /// or not, and the close takes what arrived.
    fn take_replies(&mut self, spoke: &mut Vec<usize>, closing: Option<usize>) {
        let (data, lines): (Vec<usize>, Vec<usize>) = spoke
            .drain(..)
            .filter(|connection| !self.closed[*connection])
            .partition(|connection| self.facts[*connection].is_data());
        for connection in lines {
            let (from, to) = (self.consumed[connection], self.received[connection]);
            let reply = &self.facts[connection].stream[from..to];
            let anchors = self
                .captures
                .anchors
                .range((connection, from)..=(connection, to))
                .filter(|((_, end), _)| *end > from)
                .map(|((_, end), pattern)| (end - from, pattern.clone()))
                .collect();
            let mut operands = awaits(reply, &anchors);
            let within_line = !reply.is_empty() && !reply.ends_with(b"\n");
            let rest_is_taken = closing == Some(connection) || self.ended[connection].is_some();
            if within_line && rest_is_taken {
                operands.pop();
            }
            for operand in &operands {
                self.line(&format!("await {} {operand}", self.names[connection]));
            }
            if closing != Some(connection) {
                self.note(connection, reply);
                self.consumed[connection] = to;
            }
            if let Some(mark) = self.ended[connection] {
                self.line(&format!("await {} eof", self.names[connection]));
                self.note(connection, mark.as_bytes());
                self.ended[connection] = None;
                self.close("close", connection);
            }
        }
        for connection in data {
            if self.ended[connection].is_some() {
                self.close("close", connection);
            }
        }
    }

    /// A close takes what has arrived.
    fn close(&mut self, directive: &str, connection: usize) {
        if self.closed[connection] {
            return;
        }
        self.line(&format!("{directive} {}", self.names[connection]));
        let (from, to) = (self.consumed[connection], self.received[connection]);
        let rest = self.facts[connection].stream[from..to].to_vec();
        self.note(connection, &rest);
        if let Some(mark) = self.ended[connection] {
            self.note(connection, mark.as_bytes());
        }
        self.consumed[connection] = to;
        self.closed[connection] = true;
    }

    fn note(&mut self, connection: usize, bytes: &[u8]) {
        if let Some(replies) = self.composed.replies.last_mut()
            && !bytes.is_empty()
        {
            let name = self.names[connection].clone();
            replies.entry(name).or_default().extend_from_slice(bytes);
        }
    }

    /// The first words of what was sent, or what else happened.
    fn label(&self, group: &Group) -> String {
        let name = |connection: usize| &self.names[connection];
        let speaking = group.iter().find(|event| {
            matches!(event, Event::Sent { connection, .. } if !self.facts[*connection].is_data())
        });
        match speaking.or_else(|| group.first()) {
            Some(Event::Sent { connection, .. }) if self.facts[*connection].is_data() => {
                format!("data on {}", name(*connection))
            }
            Some(Event::Sent { connection, bytes }) => {
                let words = first_words(bytes);
                match (self.several, words.is_empty()) {
                    (false, false) => words,
                    (true, false) => format!("{} {words}", name(*connection)),
                    (_, true) => format!("{} sends", name(*connection)),
                }
            }
            Some(Event::Opened { connection, .. }) => format!("{} connects", name(*connection)),
            Some(Event::Finished { connection }) => format!("{} closes", name(*connection)),
            Some(Event::Reset { connection }) => format!("{} resets", name(*connection)),
            Some(Event::Received { connection, .. } | Event::Ended { connection, .. }) => {
                format!("unasked on {}", name(*connection))
            }
            Some(Event::Rest) | None => String::new(),
        }
    }
}

/// Notes that a connection has something to await, last in order.
fn speaks(spoke: &mut Vec<usize>, connection: usize) {
    spoke.retain(|known| *known != connection);
    spoke.push(connection);
}

/// The first words of a text, as far as a label can hold them: two of the first
/// line, and how many lines follow.
fn first_words(bytes: &[u8]) -> String {
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty());
    let first = lines.next().unwrap_or_default();
    let is_plain = |word: &&[u8]| {
        word.iter().all(u8::is_ascii_graphic)
            && !word.starts_with(b"#")
            && word.len() <= LONGEST_LABEL
    };
    let words: Vec<&str> = first
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .take_while(is_plain)
        .take(2)
        .filter_map(|word| std::str::from_utf8(word).ok())
        .collect();
    // A password is no label.
    let secret = words
        .first()
        .is_some_and(|word| word.eq_ignore_ascii_case("PASS"));
    let mut label = words[..words.len().min(if secret { 1 } else { 2 })].join(" ");
    if label.len() > LONGEST_LABEL {
        label.truncate(LONGEST_LABEL);
    }
    let more = lines.count();
    if more > 0 && !label.is_empty() {
        let _ = write!(label, " and {more} more");
    }
    label
}
