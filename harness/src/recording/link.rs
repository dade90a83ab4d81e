//! One proxied connection: its two ends and what is under way between them.

use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::passive::may_become;
use crate::world::connection::{Connection, Received};

/// What a server did on a connection.
pub enum FromServer {
    /// It sent bytes.
    Bytes(Vec<u8>),
    /// It closed, or tore the connection down.
    End {
        /// Whether it tore it down.
        torn: bool,
    },
}

/// A client's connection and the server's.
pub struct Link {
    /// The client's end; gone when the client is.
    pub client: Option<Connection>,
    /// Whether the client will send no more.
    pub client_ended: bool,
    /// Whether it carries data rather than lines.
    pub data: bool,
    /// Bytes that the server sent so far.
    pub received: usize,
    server: Option<Connection>,
    outgoing: Vec<u8>,
    finishing: bool,
    incoming: Vec<u8>,
    server_ended: bool,
    /// A line that is held back until it is complete: it may name a port.
    held: Vec<u8>,
    within_line: bool,
}

impl Link {
    /// A new connection; without a `server` that accepted it the client is refused.
    #[must_use]
    pub fn new(client: Connection, server: Option<Connection>, data: bool) -> Self {
        let refused = server.is_none();
        if refused {
            client.make_abrupt();
        }
        Self {
            client: (!refused).then_some(client),
            client_ended: refused,
            data,
            received: 0,
            server,
            outgoing: Vec::new(),
            finishing: false,
            incoming: Vec::new(),
            server_ended: refused,
            held: Vec::new(),
            within_line: false,
        }
    }

    /// What to wait for.
    #[must_use]
    pub fn sockets(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let ends = [
            (&self.client, !self.client_ended, !self.incoming.is_empty()),
            (&self.server, !self.server_ended, !self.outgoing.is_empty()),
        ];
        ends.into_iter()
            .filter_map(|(end, reads, writes)| {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::POLLIN, reads);
                flags.set(PollFlags::POLLOUT, writes);
                // One that is waited for without a flag reports its end again and again.
                let wanted = end.as_ref().filter(|_| !flags.is_empty())?;
                Some((wanted.descriptor(), flags))
            })
            .collect()
    }

    /// What the server did next, if anything.
    pub fn read_server(&mut self) -> Option<FromServer> {
        let server = self.server.as_mut().filter(|_| !self.server_ended)?;
        let torn = match server.receive() {
            Received::Bytes(count) => return Some(FromServer::Bytes(server.consume(count))),
            Received::Nothing => return None,
            Received::End => false,
            Received::Reset => true,
        };
        self.server_ended = true;
        if torn {
            self.server = None;
            if let Some(client) = self.client.take() {
                client.make_abrupt();
            }
            self.client_ended = true;
        }
        Some(FromServer::End { torn })
    }

    /// Takes a piece of what the server sent, up to a line end at most; returns
    /// what is to be passed on now, and whether it is a whole line.
    pub fn line(&mut self, piece: &[u8]) -> Option<(Vec<u8>, bool)> {
        let ends = piece.last() == Some(&b'\n');
        if !self.within_line {
            self.held.extend_from_slice(piece);
            if !ends && may_become(&self.held) {
                return None;
            }
            self.within_line = !ends;
            return Some((std::mem::take(&mut self.held), ends));
        }
        self.within_line = !ends;
        Some((piece.to_vec(), false))
    }

    /// Passes on a line that the server has left incomplete.
    pub fn release(&mut self) {
        if !self.held.is_empty() {
            self.within_line = true;
            let held = std::mem::take(&mut self.held);
            self.to_client(&held);
        }
    }

    /// Puts bytes on their way to the client.
    pub fn to_client(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    /// Puts bytes on their way to the server.
    pub fn to_server(&mut self, bytes: &[u8]) {
        self.outgoing.extend_from_slice(bytes);
        self.flush();
    }

    /// The client sends no more.
    pub fn finish(&mut self) {
        self.finishing = true;
        self.flush();
    }

    /// The client tore the connection down.
    pub fn reset(&mut self) {
        if let Some(server) = self.server.take() {
            server.make_abrupt();
        }
        self.client = None;
        self.server_ended = true;
    }

    /// Moves what is under way, as far as it goes; tells whether the client
    /// proved to be gone while the server still wrote to it.
    pub fn flush(&mut self) -> bool {
        if let Some(server) = &mut self.server {
            match push(server, &mut self.outgoing) {
                Pushed::All if self.finishing => {
                    server.finish();
                    self.finishing = false;
                }
                Pushed::All | Pushed::Some => {}
                // The reading side says how it ended.
                Pushed::Gone => self.outgoing.clear(),
            }
        }
        let mut gone = false;
        if let Some(client) = &mut self.client {
            match push(client, &mut self.incoming) {
                Pushed::All if self.server_ended && self.held.is_empty() => {
                    client.finish();
                    if self.client_ended || self.server.is_none() {
                        self.client = None;
                        self.server = None;
                    }
                }
                Pushed::All | Pushed::Some => {}
                Pushed::Gone => gone = true,
            }
        }
        if gone {
            self.client = None;
            self.client_ended = true;
            self.incoming.clear();
            // As the client's own system does with what nobody will read.
            if let Some(server) = self.server.take().filter(|_| !self.server_ended) {
                server.make_abrupt();
                self.server_ended = true;
                return true;
            }
        }
        false
    }
}

enum Pushed {
    All,
    Some,
    Gone,
}

fn push(to: &mut Connection, bytes: &mut Vec<u8>) -> Pushed {
    while !bytes.is_empty() {
        match to.send(bytes) {
            None => return Pushed::Gone,
            Some(0) => return Pushed::Some,
            Some(count) => drop(bytes.drain(..count)),
        }
    }
    Pushed::All
}
