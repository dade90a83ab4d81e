//! What a client sends or opens that depends on an earlier reply: a port, or a
//! token such as a number in a PING. Such values become variables.

use std::collections::BTreeMap;

use super::frame::capturing;
use super::groups::{Facts, Group};
use super::log::{Event, Target};
use super::passive::Passive;
use super::text::Insertion;

/// Shorter numbers are taken for the client's own.
const SHORTEST_TOKEN: usize = 5;
/// Tokens that are captured, at most: variables are few.
const MOST_TOKENS: usize = 6;

/// Everything that a script must capture, and where it is used.
#[derive(Debug, Default)]
pub struct Captures {
    /// Patterns for lines, by connection and where the line ends in its stream.
    pub anchors: BTreeMap<(usize, usize), String>,
    /// Ports of data connections, as `open` writes them.
    pub ports: BTreeMap<usize, String>,
    /// Variables in what was sent, by group and position of the event in it.
    pub insertions: BTreeMap<(usize, usize), Vec<Insertion>>,
}

/// Finds them.
#[must_use]
pub fn find(groups: &[Group], facts: &[Facts]) -> Captures {
    let mut captures = Captures::default();
    ports(groups, facts, &mut captures);
    tokens(groups, facts, &mut captures);
    captures
}

/// Ports: a variable is used again once the connection is open that it was for.
fn ports(groups: &[Group], facts: &[Facts], captures: &mut Captures) {
    let mut received = vec![0; facts.len()];
    let mut arrived: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut opened: Vec<(usize, (usize, usize), usize)> = Vec::new();
    for (time, event) in groups.iter().flatten().enumerate() {
        match event {
            Event::Received { connection, bytes } => {
                for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                    received[*connection] += piece.len();
                    arrived.insert((*connection, received[*connection]), time);
                }
            }
            Event::Opened {
                connection,
                target: Target::Passive { control, offset },
                ..
            } => opened.push((*connection, (*control, *offset), time)),
            _ => {}
        }
    }
    // Until when each set of variables is in use.
    let mut busy: Vec<usize> = Vec::new();
    for (connection, reply, time) in &opened {
        let line = line_before(&facts[reply.0].stream, reply.1);
        let (Some(passive), Some(from)) = (Passive::of(line), arrived.get(reply)) else {
            continue;
        };
        let set = busy.iter().position(|until| until < from);
        let set = set.unwrap_or_else(|| {
            busy.push(0);
            busy.len() - 1
        });
        busy[set] = *time;
        let suffix = if set == 0 {
            String::new()
        } else {
            format!("_{}", set + 1)
        };
        let (pattern, port) = passive.pattern(line, &suffix);
        captures.anchors.insert(*reply, pattern);
        captures.ports.insert(*connection, port);
    }
}

/// The line of a stream that ends at `end`.
fn line_before(stream: &[u8], end: usize) -> &[u8] {
    let text = &stream[..end.min(stream.len())];
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = body.iter().rposition(|byte| *byte == b'\n');
    &text[start.map_or(0, |at| at + 1)..]
}

/// Where a number was received: connection, end of its line, and place in it.
type Place = (usize, usize, std::ops::Range<usize>);

fn tokens(groups: &[Group], facts: &[Facts], captures: &mut Captures) {
    let mut received = vec![0; facts.len()];
    let mut known: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
    let mut own: std::collections::BTreeSet<Vec<u8>> = std::collections::BTreeSet::new();
    let mut names: BTreeMap<(usize, usize), String> = BTreeMap::new();
    for (group, events) in groups.iter().enumerate() {
        let begun = received.clone();
        for (at, event) in events.iter().enumerate() {
            match event {
                Event::Received { connection, bytes } if !facts[*connection].is_data() => {
                    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                        received[*connection] += piece.len();
                        let end = received[*connection];
                        let line = line_before(&facts[*connection].stream, end);
                        // A pattern sees a line only if one exchange brings all of it.
                        if !line.ends_with(b"\n") || begun[*connection] + line.len() > end {
                            continue;
                        }
                        for range in numbers(line) {
                            known.insert(line[range.clone()].to_vec(), (*connection, end, range));
                        }
                    }
                }
                Event::Sent { connection, bytes } if !facts[*connection].is_data() => {
                    for range in numbers(bytes) {
                        let token = bytes[range.clone()].to_vec();
                        let place = known.get(&token).filter(|_| !own.contains(&token));
                        let variable =
                            place.and_then(|place| variable(place, facts, captures, &mut names));
                        match variable {
                            Some(variable) => captures
                                .insertions
                                .entry((group, at))
                                .or_default()
                                .push(Insertion { range, variable }),
                            None => drop(own.insert(token)),
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// The variable that captures the number at `place`, made if it can be.
fn variable(
    place: &Place,
    facts: &[Facts],
    captures: &mut Captures,
    names: &mut BTreeMap<(usize, usize), String>,
) -> Option<String> {
    let (connection, end, range) = place;
    let anchor = (*connection, *end);
    if let Some(name) = names.get(&anchor) {
        return captures.anchors[&anchor]
            .contains(&format!("{{:{name}}}"))
            .then(|| name.clone());
    }
    if captures.anchors.contains_key(&anchor) || names.len() == MOST_TOKENS {
        return None;
    }
    let name = format!("token{}", names.len() + 1);
    let line = line_before(&facts[*connection].stream, *end);
    let pattern = capturing(line, range.clone(), &name)?;
    captures.anchors.insert(anchor, pattern);
    names.insert(anchor, name.clone());
    Some(name)
}

/// Numbers that stand by themselves and are long enough for a token.
fn numbers(text: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let length = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
        let alone = !word(at.checked_sub(1).and_then(|before| text.get(before)))
            && !word(text.get(at + length));
        // A leading zero would not survive being read as a number.
        if length >= SHORTEST_TOKEN && alone && text[at] != b'0' {
            found.push(at..at + length);
        }
        at += length.max(1);
    }
    found
}
