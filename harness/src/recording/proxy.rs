//! Carries bytes between the user's client and the server, and logs them. What a
//! client does is handed on only while the server stands still, one act at a
//! time, so that the log says of every reply which act brought it.

use std::collections::VecDeque;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::poll::PollFlags;
use serde::{Deserialize, Serialize};

use super::link::{FromServer, Link};
use super::log::{Event, Target};
use super::passive::{Passive, asks_to_connect_back};
use crate::world::connection::{Connection, FIRST_LOCAL_PORT, Received};
use crate::world::host::{stands_still, wait};
use crate::world::{Host, HostError, Limits, StallClock};

/// How often the proxy looks around while nothing happens.
const LOOK_EVERY_MS: u8 = 250;

/// Something the user should hear of at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// A client connected to this named port.
    Connected(String),
    /// A client asked the server to connect back to it, which cannot be recorded.
    ActiveMode(String),
    /// The server did not come to rest; the recording went on without waiting.
    Restless,
}

/// A socket that clients connect to.
pub struct Door {
    listener: TcpListener,
    /// Its own port, outside the sandbox.
    outside: u16,
    leads_to: Option<(Target, u16)>,
}

impl Door {
    /// A door to a named port of the server, or one that replies will name.
    ///
    /// # Errors
    /// When the socket cannot be used.
    pub fn new(listener: TcpListener, leads_to: Option<(Target, u16)>) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            outside: listener.local_addr()?.port(),
            listener,
            leads_to,
        })
    }
}

/// What a client did and the server does not know yet.
enum Act {
    Connect { door: usize, stream: Connection },
    Send { link: usize, bytes: Vec<u8> },
    Finish { link: usize },
    Reset { link: usize },
}

/// The proxy of one recording.
pub struct Proxy<'a> {
    doors: Vec<Door>,
    /// The next door that a passive reply will name.
    next_door: usize,
    named_doors: usize,
    links: Vec<Link>,
    acts: VecDeque<Act>,
    events: Vec<Event>,
    /// Whether lines sent in one burst are handed on one by one.
    paced: bool,
    /// Where the coordinator says that the session is over.
    control: &'a mut UnixStream,
    stopping: bool,
    note: &'a mut dyn FnMut(Note),
}

impl<'a> Proxy<'a> {
    /// A proxy behind `doors`, of which the first `named_doors` lead somewhere.
    pub fn new(
        doors: Vec<Door>,
        named_doors: usize,
        paced: bool,
        control: &'a mut UnixStream,
        note: &'a mut dyn FnMut(Note),
    ) -> Self {
        Self {
            next_door: named_doors,
            named_doors,
            doors,
            links: Vec::new(),
            acts: VecDeque::new(),
            events: Vec::new(),
            paced,
            control,
            stopping: false,
            note,
        }
    }

    /// Carries until the coordinator says that the session is over and everything
    /// has come to rest. Connections still open are then closed for the client.
    ///
    /// # Errors
    /// When the machine fails.
    pub fn run(mut self, host: &mut dyn Host) -> Result<Vec<Event>, HostError> {
        let mut clock = StallClock::start();
        loop {
            // First: whatever the client did before that is then seen below.
            self.look_for_stop()?;
            self.accept()?;
            self.read_clients();
            if self.carry() {
                clock = StallClock::start();
            }
            let (still, reading) = stands_still(host)?;
            let quiet = still && !self.carry();
            clock.look(&reading);
            let restless = clock.exceeds(&Limits::BASELINE).is_some();
            if !quiet && !restless {
                wait(host, &self.sockets(), 1)?;
                continue;
            }
            clock = StallClock::start();
            if quiet {
                self.rest();
            } else {
                (self.note)(Note::Restless);
            }
            if let Some(act) = self.next_act() {
                self.perform(act);
            } else if !self.stopping {
                wait(host, &self.sockets(), LOOK_EVERY_MS)?;
            } else if !self.close_for_client() {
                return Ok(self.events);
            }
        }
    }

    fn look_for_stop(&mut self) -> Result<(), HostError> {
        if self.stopping {
            return Ok(());
        }
        let mut word = [0];
        match self.control.read(&mut word) {
            Ok(1) => self.stopping = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => {
                return Err(HostError::System {
                    operation: "recording for a coordinator that is gone",
                    errno: nix::errno::Errno::EPIPE,
                });
            }
        }
        Ok(())
    }

    fn sockets(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let mut sockets = Vec::new();
        if !self.stopping {
            sockets.push((self.control.as_fd(), PollFlags::POLLIN));
        }
        for door in &self.doors {
            sockets.push((door.listener.as_fd(), PollFlags::POLLIN));
        }
        for link in &self.links {
            sockets.extend(link.sockets());
        }
        sockets
    }

    fn accept(&mut self) -> Result<(), HostError> {
        for (door, place) in self.doors.iter().enumerate() {
            loop {
                match place.listener.accept() {
                    Ok((stream, _)) => {
                        if let Ok(stream) = Connection::accepted(stream) {
                            self.acts.push_back(Act::Connect { door, stream });
                        }
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    // The client was gone before it was taken.
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        return Err(HostError::System {
                            operation: "accept of a client",
                            errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)),
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn read_clients(&mut self) {
        for (number, link) in self.links.iter_mut().enumerate() {
            while !link.client_ended
                && let Some(client) = &mut link.client
            {
                match client.receive() {
                    Received::Nothing => break,
                    Received::Bytes(count) => {
                        let bytes = client.consume(count);
                        match self.acts.back_mut() {
                            Some(Act::Send { link, bytes: more }) if *link == number => {
                                more.extend_from_slice(&bytes);
                            }
                            _ => self.acts.push_back(Act::Send {
                                link: number,
                                bytes,
                            }),
                        }
                    }
                    Received::End => {
                        link.client_ended = true;
                        self.acts.push_back(Act::Finish { link: number });
                    }
                    Received::Reset => {
                        link.client_ended = true;
                        self.acts.push_back(Act::Reset { link: number });
                    }
                }
            }
        }
    }

    /// Moves what servers sent to clients, and what is under way to servers; tells
    /// whether a server sent anything.
    fn carry(&mut self) -> bool {
        let mut any = false;
        for connection in 0..self.links.len() {
            while let Some(news) = self.links[connection].read_server() {
                any = true;
                match news {
                    FromServer::Bytes(bytes) => {
                        self.deliver(connection, &bytes);
                        match self.events.last_mut() {
                            Some(Event::Received {
                                connection: last,
                                bytes: more,
                            }) if *last == connection => more.extend_from_slice(&bytes),
                            _ => self.events.push(Event::Received { connection, bytes }),
                        }
                    }
                    FromServer::End { torn } => {
                        self.events.push(Event::Ended { connection, torn });
                    }
                }
            }
            if self.links[connection].flush() {
                self.events.push(Event::Reset { connection });
            }
        }
        any
    }

    /// Passes a reply on to the client, line by line, with ports that it names
    /// replaced by doors of ours.
    fn deliver(&mut self, connection: usize, bytes: &[u8]) {
        let begun = self.links[connection].received;
        self.links[connection].received += bytes.len();
        if self.links[connection].data {
            self.links[connection].to_client(bytes);
            return;
        }
        let mut end = begun;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            end += piece.len();
            let Some((line, whole)) = self.links[connection].line(piece) else {
                continue;
            };
            let line = match Passive::of(&line) {
                Some(passive) if whole => self.behind_a_door(connection, end, &passive, &line),
                _ => line,
            };
            self.links[connection].to_client(&line);
        }
    }

    fn behind_a_door(
        &mut self,
        control: usize,
        offset: usize,
        passive: &Passive,
        line: &[u8],
    ) -> Vec<u8> {
        if self.next_door >= self.doors.len() {
            self.next_door = self.named_doors;
        }
        let Some(door) = self.doors.get_mut(self.next_door) else {
            return line.to_vec();
        };
        self.next_door += 1;
        door.leads_to = Some((Target::Passive { control, offset }, passive.port));
        passive.rewritten(line, door.outside)
    }

    /// The server stands still and everything it sent was logged.
    fn rest(&mut self) {
        for link in &mut self.links {
            link.release();
            link.flush();
        }
        if !matches!(self.events.last(), None | Some(Event::Rest)) {
            self.events.push(Event::Rest);
        }
    }

    fn next_act(&mut self) -> Option<Act> {
        let act = self.acts.pop_front()?;
        if let Act::Send { link, bytes } = &act
            && self.paced
            && !self.links[*link].data
            && let Some(end) = bytes.iter().position(|byte| *byte == b'\n')
            && end + 1 < bytes.len()
        {
            let (link, rest) = (*link, bytes[end + 1..].to_vec());
            let bytes = bytes[..=end].to_vec();
            self.acts.push_front(Act::Send { link, bytes: rest });
            return Some(Act::Send { link, bytes });
        }
        Some(act)
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Connect { door, stream } => self.connect(door, stream),
            Act::Send { link, bytes } => {
                if !self.links[link].data {
                    let asking = bytes
                        .split(|byte| *byte == b'\n')
                        .find(|line| asks_to_connect_back(line));
                    if let Some(line) = asking {
                        let line = String::from_utf8_lossy(line).trim().to_owned();
                        (self.note)(Note::ActiveMode(line));
                    }
                }
                self.links[link].to_server(&bytes);
                self.events.push(Event::Sent {
                    connection: link,
                    bytes,
                });
            }
            Act::Finish { link } => {
                self.links[link].finish();
                self.events.push(Event::Finished { connection: link });
            }
            Act::Reset { link } => {
                self.links[link].reset();
                self.events.push(Event::Reset { connection: link });
            }
        }
    }

    fn connect(&mut self, door: usize, client: Connection) {
        let Some((target, port)) = self.doors[door].leads_to.clone() else {
            // No reply has named it: nobody who plays by the protocol comes here.
            return;
        };
        let connection = self.links.len();
        let local = FIRST_LOCAL_PORT + u16::try_from(connection).unwrap_or(0);
        let server = Connection::open(local, port).ok();
        if let Target::Port(name) = &target {
            (self.note)(Note::Connected(name.clone()));
        }
        self.events.push(Event::Opened {
            connection,
            accepted: server.is_some(),
            target: target.clone(),
        });
        let data = matches!(target, Target::Passive { .. });
        self.links.push(Link::new(client, server, data));
    }

    /// Closes one connection that the client has left open; tells whether there
    /// was one.
    fn close_for_client(&mut self) -> bool {
        let open = self
            .links
            .iter()
            .position(|link| link.client.is_some() && !link.client_ended);
        if let Some(link) = open {
            self.links[link].client_ended = true;
            self.acts.push_back(Act::Finish { link });
        }
        open.is_some()
    }
}
