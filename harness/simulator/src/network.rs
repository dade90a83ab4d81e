//! Loopback sockets: the server's, and the client's ends of its connections.

use crate::client::MAX_CONNECTIONS;
use crate::world::Declined;

/// Most sockets of the server.
pub const MOST_SOCKETS: usize = 32;
/// Bytes that wait to be read by the server.
pub const INBOX: usize = 128 << 10;
/// Bytes that wait to be read by the client.
pub const PENDING: usize = 512 << 10;
/// No socket, no connection.
pub const NOBODY: u8 = 255;
/// First local port of client connections.
pub const FIRST_LOCAL_PORT: u16 = 30_000;

/// Nothing there yet.
pub const EAGAIN: i64 = -11;
/// The client is gone.
pub const EPIPE: i64 = -32;
/// The connection was torn down.
pub const ECONNRESET: i64 = -104;
/// No such connection.
pub const ENOTCONN: i64 = -107;
/// Something makes no sense.
pub const EINVAL: i64 = -22;

/// What a socket of the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// None.
    None,
    /// A new one.
    Fresh,
    /// It listens.
    Listening,
    /// A connection.
    Connected,
}

/// A socket of the server.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Socket {
    /// What it is.
    pub role: Role,
    /// The client's connection.
    pub link: u8,
    /// Whether the client closed its sending direction.
    pub finished: bool,
    /// Whether the client closed, so that it answers data by a reset.
    pub gone: bool,
    /// Whether the connection was reset.
    pub torn: bool,
    /// Whether the server closed its sending direction.
    pub shut: bool,
    /// Connections that wait to be accepted.
    pub queued: u8,
    /// Address family.
    pub family: u8,
    /// Its port.
    pub port: u16,
    /// The client's port.
    pub peer_port: u16,
    /// The error that the next call reports.
    pub error: i16,
    /// Connections that may wait.
    pub backlog: u16,
    /// They.
    pub queue: [u8; 16],
    /// First byte to be read.
    pub start: u32,
    /// Bytes to be read.
    pub length: u32,
}

/// How the server's side of a connection ended, as the client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// Not yet.
    Open,
    /// Closed.
    Closed,
    /// Reset.
    Reset,
}

/// The client's end of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Link {
    /// Whether the client has it open.
    pub open: bool,
    /// The server's socket.
    pub socket: u8,
    /// How the server's side ended.
    pub end: End,
    /// Whether it was reset after the client sent to a closed socket.
    pub broken: bool,
    /// First byte received but not consumed.
    pub start: u32,
    /// Such bytes.
    pub length: u32,
}

/// All of it.
#[repr(C)]
pub struct Network {
    /// The server's sockets.
    pub sockets: [Socket; MOST_SOCKETS],
    /// The client's connections.
    pub links: [Link; MAX_CONNECTIONS],
    inboxes: [[u8; INBOX]; MOST_SOCKETS],
    pending: [[u8; PENDING]; MAX_CONNECTIONS],
}

impl Socket {
    const NEW: Self = Self {
        role: Role::Fresh,
        link: NOBODY,
        finished: false,
        gone: false,
        torn: false,
        shut: false,
        queued: 0,
        family: 2,
        port: 0,
        peer_port: 0,
        error: 0,
        backlog: 0,
        queue: [0; 16],
        start: 0,
        length: 0,
    };
}

impl Network {
    /// Bytes of the tables, which come before the buffers.
    pub const TABLES: usize = core::mem::offset_of!(Self, inboxes);

    /// Tells which bytes of the buffers are in use: offset and length.
    pub fn buffers(&self, tell: &mut dyn FnMut(usize, usize)) {
        for (at, socket) in self.sockets.iter().enumerate() {
            let start = core::mem::offset_of!(Self, inboxes) + at * INBOX;
            if socket.length > 0 {
                tell(start + socket.start as usize, socket.length as usize);
            }
        }
        for (at, link) in self.links.iter().enumerate() {
            let start = core::mem::offset_of!(Self, pending) + at * PENDING;
            if link.length > 0 {
                tell(start + link.start as usize, link.length as usize);
            }
        }
    }

    /// A new socket.
    ///
    /// # Errors
    /// When there are too many.
    pub fn socket(&mut self, family: u8) -> Result<usize, Declined> {
        let free = self.sockets.iter().position(|s| s.role == Role::None);
        let at = free.ok_or(Declined("too many sockets"))?;
        self.sockets[at] = Socket {
            family,
            ..Socket::NEW
        };
        Ok(at)
    }

    /// Whether a socket listens on a port.
    #[must_use]
    pub fn listener(&self, port: u16) -> Option<usize> {
        self.sockets
            .iter()
            .position(|s| s.role == Role::Listening && s.port == port)
    }

    /// The client connects; whether somebody listened.
    ///
    /// # Errors
    /// When more wait to be accepted than is simulated.
    pub fn connect(&mut self, link: usize, port: u16, local: u16) -> Result<bool, Declined> {
        let Some(listener) = self.listener(port) else {
            return Ok(false);
        };
        let queued = usize::from(self.sockets[listener].queued);
        if queued == self.sockets[listener].queue.len()
            || queued > usize::from(self.sockets[listener].backlog)
        {
            return Err(Declined("a full queue of connections to accept"));
        }
        let family = self.sockets[listener].family;
        let at = self.socket(family)?;
        self.sockets[at] = Socket {
            role: Role::Connected,
            link: link as u8,
            port,
            peer_port: local,
            ..self.sockets[at]
        };
        self.sockets[listener].queue[queued] = at as u8;
        self.sockets[listener].queued += 1;
        self.links[link] = Link {
            open: true,
            socket: at as u8,
            end: End::Open,
            broken: false,
            start: 0,
            length: 0,
        };
        Ok(true)
    }

    /// Takes the next connection from a listening socket.
    pub fn accept(&mut self, listener: usize) -> Option<usize> {
        let socket = &mut self.sockets[listener];
        if socket.queued == 0 {
            return None;
        }
        let first = socket.queue[0];
        socket.queue.copy_within(1.., 0);
        socket.queued -= 1;
        Some(usize::from(first))
    }

    /// The client sends; how many bytes were taken, none when the connection is gone.
    pub fn send(&mut self, link: usize, bytes: &[u8]) -> Option<usize> {
        let known = &mut self.links[link];
        if !known.open || known.broken || known.end == End::Reset {
            return None;
        }
        if known.socket == NOBODY {
            // The server closed: it answers by a reset, which the next call reports.
            known.broken = true;
            return Some(bytes.len());
        }
        let at = usize::from(known.socket);
        let socket = &mut self.sockets[at];
        let inbox = &mut self.inboxes[at];
        if socket.length == 0 {
            socket.start = 0;
        } else if socket.start as usize + socket.length as usize + bytes.len() > INBOX {
            let (start, length) = (socket.start as usize, socket.length as usize);
            inbox.copy_within(start..start + length, 0);
            socket.start = 0;
        }
        let from = (socket.start + socket.length) as usize;
        let count = bytes.len().min(INBOX - from);
        inbox[from..from + count].copy_from_slice(&bytes[..count]);
        socket.length += count as u32;
        Some(count)
    }

    /// The client closes its sending direction.
    pub fn finish(&mut self, link: usize) {
        if let Some(socket) = self.server_side(link) {
            socket.finished = true;
        }
    }

    /// The client closes, or resets.
    pub fn drop_link(&mut self, link: usize, abrupt: bool) {
        if let Some(socket) = self.server_side(link) {
            socket.link = NOBODY;
            socket.finished = true;
            socket.gone = true;
            if abrupt {
                socket.torn = true;
                socket.error = -ECONNRESET as i16;
            }
        }
        self.links[link].open = false;
    }

    fn server_side(&mut self, link: usize) -> Option<&mut Socket> {
        let known = self.links[link];
        (known.open && known.socket != NOBODY).then(|| &mut self.sockets[usize::from(known.socket)])
    }

    /// What the client has received but not consumed.
    #[must_use]
    pub fn pending(&self, link: usize) -> &[u8] {
        let known = &self.links[link];
        let start = known.start as usize;
        &self.pending[link][start..start + known.length as usize]
    }

    /// Takes bytes as consumed.
    pub fn consume(&mut self, link: usize, count: usize) {
        let known = &mut self.links[link];
        known.start += count as u32;
        known.length -= count as u32;
        if known.length == 0 {
            known.start = 0;
        }
    }

    /// Whether a call on a connection must report an error.
    fn take_error(&mut self, at: usize) -> Option<i64> {
        let error = core::mem::take(&mut self.sockets[at].error);
        (error != 0).then(|| -i64::from(error))
    }

    /// The error that `SO_ERROR` reports, positive.
    pub fn last_error(&mut self, at: usize) -> i32 {
        i32::from(core::mem::take(&mut self.sockets[at].error))
    }

    /// The server writes to a connection.
    ///
    /// # Errors
    /// When more waits to be read than is simulated.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> Result<i64, Declined> {
        let socket = self.sockets[at];
        if socket.role != Role::Connected {
            return Ok(EPIPE);
        }
        if let Some(error) = self.take_error(at) {
            return Ok(error);
        }
        if socket.shut || socket.torn {
            return Ok(EPIPE);
        }
        if socket.gone {
            // The reset that answers it is reported by the next call.
            self.sockets[at].torn = true;
            self.sockets[at].error = -EPIPE as i16;
            return Ok(bytes.len() as i64);
        }
        let link = usize::from(socket.link);
        let known = &mut self.links[link];
        let from = (known.start + known.length) as usize;
        if from + bytes.len() > PENDING {
            return Err(Declined("the client is sent more than it reads"));
        }
        self.pending[link][from..from + bytes.len()].copy_from_slice(bytes);
        known.length += bytes.len() as u32;
        Ok(bytes.len() as i64)
    }

    /// The server reads from a connection; `peek` leaves the bytes.
    pub fn read(&mut self, at: usize, bytes: &mut [u8], peek: bool) -> i64 {
        let socket = self.sockets[at];
        if socket.role != Role::Connected {
            return ENOTCONN;
        }
        if socket.length > 0 {
            let count = bytes.len().min(socket.length as usize);
            let start = socket.start as usize;
            bytes[..count].copy_from_slice(&self.inboxes[at][start..start + count]);
            if !peek {
                self.sockets[at].start += count as u32;
                self.sockets[at].length -= count as u32;
            }
            return count as i64;
        }
        // A client that closed first has said so before any reset.
        if socket.finished && socket.error != -ECONNRESET as i16 {
            return 0;
        }
        if let Some(error) = self.take_error(at) {
            return error;
        }
        if socket.finished || socket.torn {
            return 0;
        }
        EAGAIN
    }

    /// The server closes one direction or both.
    pub fn shutdown(&mut self, at: usize, how: u64) -> i64 {
        let socket = &mut self.sockets[at];
        if socket.role != Role::Connected || socket.torn {
            return ENOTCONN;
        }
        if how != 0 {
            socket.shut = true;
            let link = socket.link;
            if let Some(link) = self.links.get_mut(usize::from(link)) {
                link.end = End::Closed;
            }
        }
        if how != 1 {
            self.sockets[at].finished = true;
        }
        0
    }

    /// The server closes a socket for good.
    pub fn close(&mut self, at: usize) {
        let socket = self.sockets[at];
        if socket.role == Role::Listening {
            for queued in &socket.queue[..usize::from(socket.queued)] {
                self.reset(usize::from(*queued));
            }
        }
        if let Some(link) = self.links.get_mut(usize::from(socket.link)) {
            link.socket = NOBODY;
            // The kernel says so if bytes were left unread.
            let end = if socket.length > 0 {
                End::Reset
            } else {
                End::Closed
            };
            if link.end == End::Open {
                link.end = end;
            } else if end == End::Reset {
                link.broken = true;
            }
        }
        self.sockets[at].role = Role::None;
    }

    fn reset(&mut self, at: usize) {
        if let Some(link) = self.links.get_mut(usize::from(self.sockets[at].link)) {
            link.socket = NOBODY;
            link.end = End::Reset;
        }
        self.sockets[at].role = Role::None;
    }

    /// What a socket is ready for, as `poll` says it.
    #[must_use]
    pub fn ready(&self, at: usize) -> u32 {
        use crate::waiting::{ERROR, HANG_UP, INPUT, OUTPUT, PEER_HANG_UP};
        let socket = &self.sockets[at];
        match socket.role {
            Role::None => 0,
            Role::Fresh => OUTPUT | HANG_UP,
            Role::Listening if socket.queued > 0 => INPUT,
            Role::Listening => 0,
            Role::Connected => {
                let mut events = OUTPUT;
                if socket.length > 0 {
                    events |= INPUT;
                }
                if socket.finished || socket.torn {
                    events |= INPUT | PEER_HANG_UP;
                }
                if socket.torn || (socket.finished && socket.shut) {
                    events |= HANG_UP;
                }
                if socket.error != 0 {
                    events |= ERROR;
                }
                events
            }
        }
    }
}
