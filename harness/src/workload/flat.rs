//! A session script as flat tables, which a client without a heap can walk: the
//! simulator's, inside the server's process.

use kairos_simulator::pattern::{Token as FlatToken, TokenKind};
use kairos_simulator::script::{self, Kind, Span};
use nix::sys::signal::Signal;

use super::pattern::Token;
use super::script::{Port, Script, Step, Until};
use super::text::Part;

/// The tables.
#[derive(Clone, Debug, Default)]
pub struct Flat {
    steps: Vec<script::Step>,
    parts: Vec<script::Part>,
    alternatives: Vec<Span>,
    tokens: Vec<FlatToken>,
    bytes: Vec<u8>,
}

impl Flat {
    /// Takes a script; `role` is that of the server's only process, for signals.
    #[must_use]
    pub fn new(script: &Script, role: &str) -> Self {
        let mut flat = Self::default();
        for step in &script.steps {
            let step = flat.step(step, role);
            flat.steps.push(step);
        }
        flat
    }

    /// The tables as the client takes them.
    #[must_use]
    pub fn script(&self) -> script::Script<'_> {
        script::Script {
            steps: &self.steps,
            parts: &self.parts,
            alternatives: &self.alternatives,
            tokens: &self.tokens,
            bytes: &self.bytes,
        }
    }

    fn step(&mut self, step: &Step, role: &str) -> script::Step {
        let none = Span::default();
        let plain = |kind, connection: u8| script::Step {
            kind,
            connection: u32::from(connection),
            number: 0,
            a: 0,
            b: 0,
            first: none,
            second: none,
        };
        match step {
            Step::Open { connection, port } => {
                let open = plain(Kind::Open, *connection);
                match port {
                    Port::Number(number) => script::Step {
                        number: u32::from(*number),
                        ..open
                    },
                    Port::Pair(high, low) => script::Step {
                        kind: Kind::OpenPair,
                        a: u32::from(*high),
                        b: u32::from(*low),
                        ..open
                    },
                    Port::Variable(variable) => script::Step {
                        kind: Kind::OpenVariable,
                        a: u32::from(*variable),
                        ..open
                    },
                }
            }
            Step::Send { connection, text } => {
                let parts: Vec<script::Part> = text
                    .parts()
                    .iter()
                    .map(|part| match part {
                        Part::Bytes(bytes) => script::Part {
                            is_variable: 0,
                            bytes: self.text(bytes),
                        },
                        Part::Variable(variable) => script::Part {
                            is_variable: 1,
                            bytes: Span {
                                start: u32::from(*variable),
                                length: 0,
                            },
                        },
                    })
                    .collect();
                script::Step {
                    first: append(&mut self.parts, &parts),
                    ..plain(Kind::Send, *connection)
                }
            }
            Step::Await { connection, until } => self.wait(*connection, until),
            Step::Finish { connection } => plain(Kind::Finish, *connection),
            Step::Close { connection } => plain(Kind::Close, *connection),
            Step::Reset { connection } => plain(Kind::Reset, *connection),
            Step::Signal {
                role: wanted,
                signal,
            } => script::Step {
                number: signal_number(signal),
                a: u32::from(wanted == role),
                ..plain(Kind::Signal, 0)
            },
            Step::Write { path, content } => script::Step {
                first: self.text(path.as_bytes()),
                second: self.text(content),
                ..plain(Kind::Write, 0)
            },
            Step::Remove { path } => script::Step {
                first: self.text(path.as_bytes()),
                ..plain(Kind::Remove, 0)
            },
            Step::EndExchange => plain(Kind::EndExchange, 0),
        }
    }

    fn wait(&mut self, connection: u8, until: &Until) -> script::Step {
        let (kind, number, first) = match until {
            Until::Line(pattern) => {
                let spans: Vec<Span> = pattern
                    .alternatives()
                    .iter()
                    .map(|tokens| {
                        let tokens: Vec<FlatToken> =
                            tokens.iter().copied().map(flat_token).collect();
                        append(&mut self.tokens, &tokens)
                    })
                    .collect();
                (Kind::AwaitLine, 0, append(&mut self.alternatives, &spans))
            }
            Until::Lines(count) => (Kind::AwaitLines, *count, Span::default()),
            Until::Bytes(count) => (Kind::AwaitBytes, *count, Span::default()),
            Until::EndOfStream => (Kind::AwaitEnd, 0, Span::default()),
        };
        script::Step {
            kind,
            connection: u32::from(connection),
            number,
            a: 0,
            b: 0,
            first,
            second: Span::default(),
        }
    }

    fn text(&mut self, bytes: &[u8]) -> Span {
        append(&mut self.bytes, bytes)
    }
}

fn append<T: Copy>(table: &mut Vec<T>, elements: &[T]) -> Span {
    let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let span = Span {
        start: count(table.len()),
        length: count(elements.len()),
    };
    table.extend_from_slice(elements);
    span
}

const fn flat_token(token: Token) -> FlatToken {
    let (kind, value) = match token {
        Token::Byte(byte) => (TokenKind::Byte, byte),
        Token::Any => (TokenKind::Any, 0),
        Token::Number(variable) => (TokenKind::Number, variable),
    };
    FlatToken { kind, value }
}

/// The number of a signal that the script's parser knew; 0 never.
#[must_use]
pub fn signal_number(name: &str) -> u32 {
    name.parse::<Signal>().map_or(0, |signal| signal as u32)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::workload::{Action, Client, Event};
    use kairos_simulator::client;

    const TEXT: &str = "eol crlf\nexchange a\nopen c 21\nawait c 2*{:p}.\nexchange b\nsend c PORT {p}\nawait c lines 2\nawait c bytes 3\nopen d {p}\nawait d 1* || x\nawait c eof\nclose c\n";

    /// The client without a heap and the one with one ask for the same.
    #[test]
    fn both_clients_walk_the_same_way() {
        let script = Script::parse("t", TEXT, &BTreeMap::new()).unwrap();
        let flat = Flat::new(&script, "server");
        let tables = flat.script();
        let mut plain = Client::default();
        let mut small = client::Client::NEW;
        let mut action = plain.begin(&script);
        small.begin(&tables);
        let replies: [&[u8]; 6] = [
            b"100 x\r\n27 77.\r\n",
            b"l1\r\nl2\r\nxy",
            b"z",
            b"x\n",
            b"",
            b"",
        ];
        let mut replies = replies.iter();
        for _ in 0..40 {
            let step = small.action(&tables).map(|step| step.kind);
            assert!(fits(&action, step), "{action:?} {step:?}");
            if action == Action::Finished {
                break;
            }
            let receives = matches!(action, Action::Receive { .. });
            let mut rest = if receives {
                *replies.next().unwrap_or(&&b""[..])
            } else {
                b""
            };
            loop {
                let (one, other) = match (receives, rest.is_empty()) {
                    (true, false) => (Event::Data(rest), client::Event::Data(rest)),
                    (true, true) => (Event::Ended, client::Event::Ended),
                    (false, _) => (Event::Done, client::Event::Done),
                };
                let (consumed, next) = plain.on(&script, one);
                assert_eq!(consumed, small.on(&tables, other));
                let goes_on = receives && !rest.is_empty() && next == action;
                rest = &rest[consumed..];
                action = next;
                if !goes_on || rest.is_empty() {
                    break;
                }
            }
            assert_eq!(plain.exchange(), small.exchange());
        }
        assert_eq!(action, Action::Finished);
        assert_eq!(small.variables()[0], 77);
    }

    /// What an action is a directive of; receiving has several.
    fn fits(action: &Action, kind: Option<Kind>) -> bool {
        use Kind::{AwaitBytes, AwaitEnd, AwaitLine, AwaitLines, Close, EndExchange, Send};
        use Kind::{Open, OpenVariable};
        match action {
            Action::Connect { .. } => matches!(kind, Some(Open | OpenVariable)),
            Action::Send { .. } => kind == Some(Send),
            Action::Close { .. } => kind == Some(Close),
            Action::Settle => kind == Some(EndExchange),
            Action::Finished => kind.is_none(),
            Action::Receive { .. } => {
                matches!(kind, Some(AwaitLine | AwaitLines | AwaitBytes | AwaitEnd))
            }
            _ => false,
        }
    }
}
