//! The client as a state machine without input or output: events go in, the next
//! action comes out. It is a plain value with fixed tables, so that a snapshot
//! copies it and any world can drive it.

use super::pattern::Variables;
use super::script::{Script, Step, Until};
use super::{LINE_CAPACITY, MAX_CONNECTIONS, MAX_VARIABLES};

/// What the world tells the client.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The session begins, or the last action was carried out.
    Done,
    /// Bytes that arrived on the connection the client receives on.
    Data(&'a [u8]),
    /// The connection the last action concerns was refused or is gone.
    Ended,
}

/// What the client wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect to a port of the server.
    Connect {
        /// Position of the connection.
        connection: u8,
        /// Port on the loopback interface.
        port: u16,
    },
    /// Send bytes.
    Send {
        /// Position of the connection.
        connection: u8,
        /// All of them, in order.
        bytes: Vec<u8>,
    },
    /// Wait for bytes on this connection.
    Receive {
        /// Position of the connection.
        connection: u8,
    },
    /// Close the sending direction.
    Finish {
        /// Position of the connection.
        connection: u8,
    },
    /// Close, after what has arrived is recorded.
    Close {
        /// Position of the connection.
        connection: u8,
    },
    /// Close abruptly.
    Reset {
        /// Position of the connection.
        connection: u8,
    },
    /// Send a signal to the first living process of a role.
    Signal {
        /// Role name.
        role: String,
        /// Signal name.
        signal: String,
    },
    /// Replace a file of the run folder.
    Write {
        /// Path relative to the run folder.
        path: String,
        /// Its content.
        content: Vec<u8>,
    },
    /// Remove a file of the run folder.
    Remove {
        /// Path relative to the run folder.
        path: String,
    },
    /// The exchange is over: wait until the server is blocked again.
    Settle,
    /// The session is over.
    Finished,
}

/// State of one session.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    step: usize,
    exchange: u32,
    variables: Variables,
    open: [bool; MAX_CONNECTIONS],
    line: Line,
    remaining: u32,
}

/// The line being received on the connection awaited.
#[derive(Clone, Copy, Debug)]
struct Line {
    bytes: [u8; LINE_CAPACITY],
    length: usize,
}

impl Line {
    const EMPTY: Self = Self {
        bytes: [0; LINE_CAPACITY],
        length: 0,
    };

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn text(&self) -> &[u8] {
        let text = &self.bytes[..self.length];
        text.strip_suffix(b"\r").unwrap_or(text)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            step: 0,
            exchange: 0,
            variables: [0; MAX_VARIABLES],
            open: [false; MAX_CONNECTIONS],
            line: Line::EMPTY,
            remaining: 0,
        }
    }
}

impl Client {
    /// The exchange under way, from 0.
    #[must_use]
    pub fn exchange(&self) -> u32 {
        self.exchange
    }

    /// What the session begins with.
    pub fn begin(&mut self, script: &Script) -> Action {
        self.arrive(script)
    }

    /// Takes an event; returns how many bytes of data it consumed and what to do
    /// next. Data left over is offered again when the connection is next awaited.
    pub fn on(&mut self, script: &Script, event: Event<'_>) -> (usize, Action) {
        let consumed = match (script.steps.get(self.step), event) {
            (Some(Step::Await { until, .. }), Event::Data(bytes)) => {
                let (consumed, satisfied) = self.consume(until, bytes);
                if !satisfied {
                    return (consumed, self.action(script));
                }
                consumed
            }
            (
                Some(
                    Step::Await { connection, .. }
                    | Step::Open { connection, .. }
                    | Step::Send { connection, .. },
                ),
                Event::Ended,
            ) => {
                self.open[usize::from(*connection)] = false;
                0
            }
            (Some(Step::EndExchange), _) => {
                self.exchange += 1;
                0
            }
            _ => 0,
        };
        self.step += 1;
        (consumed, self.arrive(script))
    }

    /// Enters the step at hand, passing over those whose connection is gone.
    fn arrive(&mut self, script: &Script) -> Action {
        loop {
            self.line.length = 0;
            match script.steps.get(self.step) {
                Some(Step::Open { connection, .. }) => {
                    self.open[usize::from(*connection)] = true;
                }
                Some(Step::Await { connection, until }) => {
                    self.remaining = match until {
                        Until::Lines(count) | Until::Bytes(count) => *count,
                        Until::Line(_) | Until::EndOfStream => 0,
                    };
                    let nothing_to_wait_for = matches!(until, Until::Lines(0) | Until::Bytes(0));
                    if nothing_to_wait_for || !self.open[usize::from(*connection)] {
                        self.step += 1;
                        continue;
                    }
                }
                Some(Step::Send { connection, .. } | Step::Finish { connection })
                    if !self.open[usize::from(*connection)] =>
                {
                    self.step += 1;
                    continue;
                }
                Some(Step::Close { connection } | Step::Reset { connection }) => {
                    self.open[usize::from(*connection)] = false;
                }
                _ => {}
            }
            return self.action(script);
        }
    }

    fn action(&self, script: &Script) -> Action {
        let Some(step) = script.steps.get(self.step) else {
            return Action::Finished;
        };
        match step {
            Step::Open { connection, port } => Action::Connect {
                connection: *connection,
                port: port.number(&self.variables),
            },
            Step::Send { connection, text } => Action::Send {
                connection: *connection,
                bytes: text.fill(&self.variables),
            },
            Step::Await { connection, .. } => Action::Receive {
                connection: *connection,
            },
            Step::Finish { connection } => Action::Finish {
                connection: *connection,
            },
            Step::Close { connection } => Action::Close {
                connection: *connection,
            },
            Step::Reset { connection } => Action::Reset {
                connection: *connection,
            },
            Step::Signal { role, signal } => Action::Signal {
                role: role.clone(),
                signal: signal.clone(),
            },
            Step::Write { path, content } => Action::Write {
                path: path.clone(),
                content: content.clone(),
            },
            Step::Remove { path } => Action::Remove { path: path.clone() },
            Step::EndExchange => Action::Settle,
        }
    }

    fn consume(&mut self, until: &Until, bytes: &[u8]) -> (usize, bool) {
        match until {
            Until::EndOfStream => (bytes.len(), false),
            Until::Bytes(_) => {
                let take = bytes.len().min(self.remaining as usize);
                self.remaining -= u32::try_from(take).unwrap_or(self.remaining);
                (take, self.remaining == 0)
            }
            Until::Line(_) | Until::Lines(_) => {
                for (index, byte) in bytes.iter().enumerate() {
                    if *byte != b'\n' {
                        self.line.push(*byte);
                    } else if self.line_ends(until) {
                        return (index + 1, true);
                    }
                }
                (bytes.len(), false)
            }
        }
    }

    fn line_ends(&mut self, until: &Until) -> bool {
        let satisfied = if let Until::Line(pattern) = until {
            pattern.matches(self.line.text(), &mut self.variables)
        } else {
            self.remaining = self.remaining.saturating_sub(1);
            self.remaining == 0
        };
        self.line.length = 0;
        satisfied
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "eol crlf\nexchange a\nopen c 21\nawait c 2*{:p}.\nexchange b\nsend c PORT {p}\nawait c lines 2\nawait c bytes 3\nawait c eof\nclose c\n";

    fn script() -> Script {
        Script::parse("t", TEXT, &BTreeMap::new()).unwrap()
    }

    #[test]
    fn walks_a_session() {
        let script = script();
        let mut client = Client::default();
        assert_eq!(
            client.begin(&script),
            Action::Connect {
                connection: 0,
                port: 21
            }
        );
        assert_eq!(
            client.on(&script, Event::Done).1,
            Action::Receive { connection: 0 }
        );
        let (consumed, action) = client.on(&script, Event::Data(b"100-x\r\n2ab77.\r\nrest"));
        assert_eq!((consumed, action), (15, Action::Settle));
        assert_eq!(client.exchange(), 0);
        assert_eq!(
            client.on(&script, Event::Done).1,
            Action::Send {
                connection: 0,
                bytes: b"PORT 77\r\n".to_vec()
            }
        );
        assert_eq!(client.exchange(), 1);
    }

    #[test]
    fn a_gone_connection_is_passed_over() {
        let script = script();
        let mut client = Client::default();
        client.begin(&script);
        assert_eq!(client.on(&script, Event::Ended).1, Action::Settle);
        assert_eq!(
            client.on(&script, Event::Done).1,
            Action::Close { connection: 0 }
        );
    }

    proptest! {
        /// How the network cuts a reply into pieces never changes the outcome.
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(1usize..9, 1..40)) {
            let script = script();
            let reply = b"200 x\r\nnothing\r\n2zz9.\r\nl1\r\nl2\r\nxyz tail";
            let run = |cuts: &[usize]| {
                let mut client = Client::default();
                let mut action = client.begin(&script);
                let mut rest: &[u8] = reply;
                let mut log = Vec::new();
                let mut cut = cuts.iter().cycle();
                while action != Action::Finished {
                    let next = match &action {
                        Action::Receive { .. } if rest.is_empty() => client.on(&script, Event::Ended),
                        Action::Receive { .. } => {
                            let piece = rest.len().min(*cut.next().unwrap());
                            let step = client.on(&script, Event::Data(&rest[..piece]));
                            rest = &rest[step.0..];
                            step
                        }
                        other => {
                            log.push((other.clone(), rest.len()));
                            client.on(&script, Event::Done)
                        }
                    };
                    action = next.1;
                }
                log
            };
            prop_assert_eq!(run(&cuts), run(&[1000]));
        }
    }
}
