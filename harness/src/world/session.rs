//! Plays a session: performs the client's actions on real sockets, waits for
//! events of sockets and server alike, and records what each exchange brought.
//!
//! The client acts, and takes what has arrived, only while every thread of the server
//! waits. Otherwise it would depend on when the scheduler, or a stop of the tracer, lets
//! the client in whether a server that is still at work finds the next request, or the
//! end of a connection, now or later.

use std::collections::BTreeMap;

use nix::poll::PollFlags;

use super::connection::{Connection, FIRST_LOCAL_PORT, Received};
use super::host::{Host, HostError, stands_still, wait, waits};
use super::stall::{Limits, StallClock, Stalled};
use crate::sandbox::root::RUN_FOLDER;
use crate::tracee::activity::Activity;
use crate::verdict::observation::Stall;
use crate::workload::{Action, Client, Event, Script};

/// Marks in a transcript for what is no text.
pub const END_OF_FILE: &str = "<EOF>\n";
/// The connection was torn down.
pub const RESET: &str = "<RESET>\n";
/// Nothing accepted the connection.
pub const REFUSED: &str = "<REFUSED>\n";

/// What a played session showed.
#[derive(Debug)]
pub struct Played {
    /// Bytes received, by connection name, for each exchange.
    pub exchanges: Vec<BTreeMap<String, Vec<u8>>>,
    /// Where it stood still.
    pub stall: Option<Stall>,
    /// Its longest pauses.
    pub longest: Limits,
}

/// Plays `script` against the server behind `host`. `first_exchange` numbers its
/// exchanges; `local_ports` numbers connections across the sessions of a run.
///
/// # Errors
/// When tracing or the machine fails; whatever the server does is in the result.
pub fn play(
    script: &Script,
    host: &mut dyn Host,
    limits: &Limits,
    first_exchange: u32,
    local_ports: &mut u16,
) -> Result<Played, HostError> {
    let mut session = Session {
        script,
        host,
        limits,
        local_ports,
        connections: script.connections.iter().map(|_| None).collect(),
        exchanges: vec![BTreeMap::new()],
        longest: Limits::NONE,
        waits: false,
    };
    let stall = session.run(first_exchange)?;
    if stall.is_none() {
        session.leave()?;
    }
    Ok(Played {
        stall,
        exchanges: session.exchanges,
        longest: session.longest,
    })
}

struct Session<'a> {
    script: &'a Script,
    host: &'a mut dyn Host,
    limits: &'a Limits,
    local_ports: &'a mut u16,
    connections: Vec<Option<Connection>>,
    exchanges: Vec<BTreeMap<String, Vec<u8>>>,
    longest: Limits,
    /// Whether the server was seen to wait, and nothing was done since.
    waits: bool,
}

impl Session<'_> {
    fn run(&mut self, first_exchange: u32) -> Result<Option<Stall>, HostError> {
        let mut client = Client::default();
        let mut action = client.begin(self.script);
        loop {
            if action == Action::Finished {
                return Ok(None);
            }
            let number = first_exchange + client.exchange();
            match self.perform(&action, &mut client, number)? {
                Ok(next) => action = next,
                Err(stalled) => {
                    return Ok(Some(Stall {
                        exchange: number,
                        waiting_for: self.describe(&action),
                        busy: stalled.busy,
                    }));
                }
            }
        }
    }

    /// Carries out one action; the outer error is ours, the inner one a stall.
    fn perform(
        &mut self,
        action: &Action,
        client: &mut Client,
        number: u32,
    ) -> Result<Result<Action, Stalled>, HostError> {
        let script = self.script;
        let mut event = Event::Done;
        if let Err(stalled) = self.ready_for(action)? {
            return Ok(Err(stalled));
        }
        match action {
            Action::Connect { connection, port } => {
                let local = FIRST_LOCAL_PORT + *self.local_ports;
                *self.local_ports += 1;
                if let Ok(opened) = Connection::open(local, *port) {
                    self.connections[usize::from(*connection)] = Some(opened);
                } else {
                    self.record(*connection, REFUSED.as_bytes());
                    event = Event::Ended;
                }
            }
            Action::Send { connection, bytes } => match self.send(*connection, bytes)? {
                Ok(true) => {}
                Ok(false) => event = Event::Ended,
                Err(stalled) => return Ok(Err(stalled)),
            },
            Action::Receive { connection } => {
                return self.receive(*connection, client);
            }
            Action::Finish { connection } => {
                if let Some(open) = &self.connections[usize::from(*connection)] {
                    open.finish();
                }
            }
            Action::Close { connection } | Action::Reset { connection } => {
                self.close(*connection, matches!(action, Action::Reset { .. }));
            }
            Action::Signal { role, signal } => self.host.signal(role, signal),
            Action::Write { path, content } => {
                let path = format!("{RUN_FOLDER}/{path}");
                std::fs::write(&path, content)
                    .map_err(crate::sandbox::SandboxError::file("write", &path))?;
            }
            Action::Remove { path } => {
                // Whether it was there is the subject's affair, and compared at the end.
                let _ = std::fs::remove_file(format!("{RUN_FOLDER}/{path}"));
            }
            Action::Settle => {
                self.host.exchange_over(number)?;
                self.exchanges.push(BTreeMap::new());
            }
            Action::Finished => {}
        }
        let next = client.on(script, event).1;
        if next == Action::Finished {
            self.exchanges.pop();
        }
        Ok(Ok(next))
    }

    /// Waits until the server is where the client does such a thing.
    fn ready_for(&mut self, action: &Action) -> Result<Result<(), Stalled>, HostError> {
        match action {
            Action::Close { .. } | Action::Reset { .. } | Action::Settle => {
                let settled = self.settle()?;
                self.waits = matches!(action, Action::Settle);
                Ok(settled)
            }
            // It waits by itself, whenever it takes something.
            Action::Receive { .. } | Action::Finished => Ok(Ok(())),
            _ => {
                let mut clock = StallClock::start();
                let waits = self.let_wait(&mut clock)?;
                self.longest = self.longest.longest(clock.pause());
                self.waits = false;
                Ok(waits)
            }
        }
    }

    /// Lets the server run until it waits.
    fn let_wait(&mut self, clock: &mut StallClock) -> Result<Result<(), Stalled>, HostError> {
        while !self.waits {
            let (waits, reading) = waits(self.host)?;
            self.waits = waits;
            clock.look(&reading);
            if waits {
                break;
            }
            if let Some(stalled) = clock.exceeds(self.limits) {
                return Ok(Err(stalled));
            }
            // The server shares this processor: let it run.
            std::thread::yield_now();
        }
        Ok(Ok(()))
    }

    /// The client is gone, and its connections with it: the server takes note of that
    /// before anybody comes again.
    fn leave(&mut self) -> Result<(), HostError> {
        self.connections.clear();
        self.waits = false;
        // What the server makes of it is not the client's affair any more.
        let _ = self.let_wait(&mut StallClock::start())?;
        Ok(())
    }

    fn send(&mut self, at: u8, bytes: &[u8]) -> Result<Result<bool, Stalled>, HostError> {
        let mut rest = bytes;
        let mut clock = StallClock::start();
        while let Some(connection) = &mut self.connections[usize::from(at)] {
            let Some(count) = connection.send(rest) else {
                return Ok(Ok(false));
            };
            rest = &rest[count..];
            if rest.is_empty() {
                return Ok(Ok(true));
            }
            if let Err(stalled) = self.wait_for(at, PollFlags::POLLOUT, &mut clock)? {
                return Ok(Err(stalled));
            }
        }
        Ok(Ok(false))
    }

    fn receive(
        &mut self,
        at: u8,
        client: &mut Client,
    ) -> Result<Result<Action, Stalled>, HostError> {
        let script = self.script;
        let mut clock = StallClock::start();
        loop {
            let Some(connection) = &mut self.connections[usize::from(at)] else {
                return Ok(Ok(client.on(script, Event::Ended).1));
            };
            if !connection.pending().is_empty() {
                let (count, next) = client.on(script, Event::Data(connection.pending()));
                let consumed = connection.consume(count);
                self.record(at, &consumed);
                if next != (Action::Receive { connection: at }) || count == 0 {
                    return Ok(Ok(next));
                }
                // Either the same await goes on or the next one begins: both read here.
                continue;
            }
            if let Err(stalled) = self.let_wait(&mut clock)? {
                return Ok(Err(stalled));
            }
            let Some(connection) = &mut self.connections[usize::from(at)] else {
                continue;
            };
            let mark = match connection.receive() {
                Received::Bytes(_) => {
                    // It may have waited for room.
                    self.waits = false;
                    self.longest = self.longest.longest(clock.pause());
                    clock = StallClock::start();
                    continue;
                }
                Received::Nothing => {
                    if let Err(stalled) = self.wait_for(at, PollFlags::POLLIN, &mut clock)? {
                        return Ok(Err(stalled));
                    }
                    continue;
                }
                Received::End => END_OF_FILE,
                Received::Reset => RESET,
            };
            self.longest = self.longest.longest(clock.pause());
            self.record(at, mark.as_bytes());
            self.connections[usize::from(at)] = None;
            self.waits = false;
            return Ok(Ok(client.on(script, Event::Ended).1));
        }
    }

    /// Waits until the connection is ready or the pause has become a stall. What
    /// arrives on other connections meanwhile is taken in, though not consumed: a
    /// server may wait for its acknowledgement.
    fn wait_for(
        &mut self,
        at: u8,
        flags: PollFlags,
        clock: &mut StallClock,
    ) -> Result<Result<(), Stalled>, HostError> {
        const LOOK_EVERY_MS: u8 = 20;
        self.waits = false;
        loop {
            self.host.pump()?;
            let open: Vec<usize> = (0..self.connections.len())
                .filter(|index| {
                    let connection = self.connections[*index].as_ref();
                    connection.is_some_and(|c| *index == usize::from(at) || !c.has_ended())
                })
                .collect();
            if !open.contains(&usize::from(at)) {
                return Ok(Ok(()));
            }
            let sockets: Vec<_> = open
                .iter()
                .filter_map(|index| {
                    let wanted = if *index == usize::from(at) {
                        flags
                    } else {
                        PollFlags::POLLIN
                    };
                    Some((self.connections[*index].as_ref()?.descriptor(), wanted))
                })
                .collect();
            let ready = wait(self.host, &sockets, LOOK_EVERY_MS)?;
            let mut arrived = false;
            for (index, ready) in open.into_iter().zip(ready) {
                match &mut self.connections[index] {
                    Some(_) if ready && index == usize::from(at) => arrived = true,
                    Some(other) if ready => {
                        other.receive();
                    }
                    _ => {}
                }
            }
            if arrived {
                return Ok(Ok(()));
            }
            self.host.pump()?;
            clock.look(&self.host.reading());
            if let Some(stalled) = clock.exceeds(self.limits) {
                return Ok(Err(stalled));
            }
        }
    }

    /// Waits until the server stands still.
    fn settle(&mut self) -> Result<Result<(), Stalled>, HostError> {
        let (outcome, pause) = settle(self.host, self.limits)?;
        self.longest = self.longest.longest(pause);
        Ok(outcome)
    }

    /// Records what has arrived and closes.
    fn close(&mut self, at: u8, abrupt: bool) {
        let Some(mut connection) = self.connections[usize::from(at)].take() else {
            return;
        };
        let mark = loop {
            match connection.receive() {
                Received::Bytes(_) => {}
                Received::Nothing => break "",
                Received::End => break END_OF_FILE,
                Received::Reset => break RESET,
            }
        };
        let rest = connection.consume(connection.pending().len());
        if abrupt {
            connection.make_abrupt();
        }
        self.record(at, &rest);
        self.record(at, mark.as_bytes());
    }

    fn record(&mut self, at: u8, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let name = self.script.connections[usize::from(at)].clone();
        if let Some(exchange) = self.exchanges.last_mut() {
            exchange.entry(name).or_default().extend_from_slice(bytes);
        }
    }

    fn describe(&self, action: &Action) -> String {
        let name = |at: &u8| self.script.connections[usize::from(*at)].as_str();
        match action {
            Action::Receive { connection } => format!("a reply on {}", name(connection)),
            Action::Send { connection, .. } => {
                format!("the server to read from {}", name(connection))
            }
            _ => "the server to come to rest".to_owned(),
        }
    }
}

/// Waits until every thread of the server is blocked; gives up when the pause
/// exceeds `limits`.
///
/// # Errors
/// When tracing fails.
pub fn settle(
    host: &mut dyn Host,
    limits: &Limits,
) -> Result<(Result<(), Stalled>, Limits), HostError> {
    let mut clock = StallClock::start();
    loop {
        let (still, reading) = stands_still(host)?;
        if still {
            return Ok((Ok(()), clock.pause()));
        }
        clock.look(&reading);
        if let Some(stalled) = clock.exceeds(limits) {
            return Ok((Err(stalled), clock.pause()));
        }
        if reading.activity == Activity::Sleeping {
            wait(host, &[], 1)?;
        } else {
            // The server shares this processor: let it run.
            std::thread::yield_now();
        }
    }
}
