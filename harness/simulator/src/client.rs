//! The client as a state machine without input or output: events go in, the next
//! action comes out. A plain value with fixed tables.

use crate::pattern::{self, Variables};
use crate::script::{Kind, Script, Step};

/// Most connections one session may hold.
pub const MAX_CONNECTIONS: usize = 8;
/// Bytes of a line that patterns see.
pub const LINE_CAPACITY: usize = 1000;

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

/// State of one session.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Client {
    step: u32,
    exchange: u32,
    variables: Variables,
    open: [bool; MAX_CONNECTIONS],
    remaining: u32,
    line_length: u32,
    line: [u8; LINE_CAPACITY],
}

impl Client {
    /// Before the session.
    pub const NEW: Self = Self {
        step: 0,
        exchange: 0,
        variables: [0; pattern::MAX_VARIABLES],
        open: [false; MAX_CONNECTIONS],
        remaining: 0,
        line_length: 0,
        line: [0; LINE_CAPACITY],
    };

    /// The exchange under way, from 0.
    #[must_use]
    pub fn exchange(&self) -> u32 {
        self.exchange
    }

    /// The captured numbers.
    #[must_use]
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// The directive that is being carried out; none once the session is over. An
    /// await stands for receiving on its connection.
    #[must_use]
    pub fn action<'a>(&self, script: &Script<'a>) -> Option<&'a Step> {
        script.steps.get(self.step as usize)
    }

    /// Enters the first directive.
    pub fn begin(&mut self, script: &Script<'_>) {
        self.arrive(script);
    }

    /// Takes an event; returns how many bytes of data it consumed. Data left over is
    /// offered again when the connection is next awaited.
    pub fn on(&mut self, script: &Script<'_>, event: Event<'_>) -> usize {
        let mut consumed = 0;
        if let Some(step) = self.action(script) {
            match (step.kind, event) {
                (
                    Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd,
                    Event::Data(bytes),
                ) => {
                    let satisfied;
                    (consumed, satisfied) = self.consume(script, step, bytes);
                    if !satisfied {
                        return consumed;
                    }
                }
                (
                    Kind::AwaitLine
                    | Kind::AwaitLines
                    | Kind::AwaitBytes
                    | Kind::AwaitEnd
                    | Kind::Open
                    | Kind::OpenPair
                    | Kind::OpenVariable
                    | Kind::Send,
                    Event::Ended,
                ) => self.set_open(step, false),
                (Kind::EndExchange, _) => self.exchange += 1,
                _ => {}
            }
        }
        self.step += 1;
        self.arrive(script);
        consumed
    }

    fn is_open(&self, step: &Step) -> bool {
        self.open
            .get(step.connection as usize)
            .copied()
            .unwrap_or(false)
    }

    fn set_open(&mut self, step: &Step, open: bool) {
        if let Some(known) = self.open.get_mut(step.connection as usize) {
            *known = open;
        }
    }

    /// Enters the step at hand, passing over those whose connection is gone.
    fn arrive(&mut self, script: &Script<'_>) {
        loop {
            self.line_length = 0;
            let Some(step) = self.action(script) else {
                return;
            };
            match step.kind {
                Kind::Open | Kind::OpenPair | Kind::OpenVariable => self.set_open(step, true),
                Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd => {
                    let counts = matches!(step.kind, Kind::AwaitLines | Kind::AwaitBytes);
                    self.remaining = if counts { step.number } else { 0 };
                    let nothing_to_wait_for = counts && step.number == 0;
                    if nothing_to_wait_for || !self.is_open(step) {
                        self.step += 1;
                        continue;
                    }
                }
                Kind::Send | Kind::Finish if !self.is_open(step) => {
                    self.step += 1;
                    continue;
                }
                Kind::Close | Kind::Reset => self.set_open(step, false),
                _ => {}
            }
            return;
        }
    }

    fn consume(&mut self, script: &Script<'_>, step: &Step, bytes: &[u8]) -> (usize, bool) {
        match step.kind {
            Kind::AwaitEnd => (bytes.len(), false),
            Kind::AwaitBytes => {
                let take = bytes.len().min(self.remaining as usize);
                self.remaining -= take as u32;
                (take, self.remaining == 0)
            }
            _ => {
                for (index, byte) in bytes.iter().enumerate() {
                    if *byte != b'\n' {
                        if let Some(place) = self.line.get_mut(self.line_length as usize) {
                            *place = *byte;
                            self.line_length += 1;
                        }
                    } else if self.line_ends(script, step) {
                        return (index + 1, true);
                    }
                }
                (bytes.len(), false)
            }
        }
    }

    fn line_ends(&mut self, script: &Script<'_>, step: &Step) -> bool {
        let satisfied = if step.kind == Kind::AwaitLine {
            let line = &self.line[..self.line_length as usize];
            let text = line.strip_suffix(b"\r").unwrap_or(line);
            let mut found = false;
            for alternative in step.first.of(script.alternatives) {
                let mut captured = self.variables;
                if pattern::matches(alternative.of(script.tokens), text, &mut captured) {
                    self.variables = captured;
                    found = true;
                    break;
                }
            }
            found
        } else {
            self.remaining = self.remaining.saturating_sub(1);
            self.remaining == 0
        };
        self.line_length = 0;
        satisfied
    }
}
