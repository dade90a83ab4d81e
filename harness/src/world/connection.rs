//! One client connection over a real loopback socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use socket2::SockRef;

/// First local port of client connections; each takes the next, so that a
/// connection has the same pair of ports in every run.
pub const FIRST_LOCAL_PORT: u16 = 30_000;

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing yet.
    Nothing,
    /// The peer closed.
    End,
    /// The connection was torn down.
    Reset,
}

/// An open connection and what was received but not yet consumed.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    pending: Vec<u8>,
    ended: Option<Received>,
}

impl Connection {
    /// Connects to a port of the loopback interface from a given local port.
    ///
    /// # Errors
    /// When nothing listens there, or the machine has no sockets left.
    pub fn open(local: u16, port: u16) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
        let bound = |port| SockaddrIn::from(SocketAddrV4::new([127, 0, 0, 1].into(), port));
        bind(socket.as_raw_fd(), &bound(local))?;
        connect(socket.as_raw_fd(), &bound(port))?;
        let stream = TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        SockRef::from(&stream).set_tcp_quickack(true)?;
        Ok(Self {
            stream,
            pending: Vec::new(),
            ended: None,
        })
    }

    /// Wraps a connection that a client of the user's opened.
    ///
    /// # Errors
    /// When its settings are refused.
    pub fn accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            pending: Vec::new(),
            ended: None,
        })
    }

    /// Bytes received but not consumed.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Takes `count` bytes as consumed.
    pub fn consume(&mut self, count: usize) -> Vec<u8> {
        self.pending.drain(..count).collect()
    }

    /// Reads what has arrived into the pending bytes.
    pub fn receive(&mut self) -> Received {
        if let Some(ended) = self.ended {
            return ended;
        }
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.ended = Some(Received::End);
                Received::End
            }
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                // The kernel forgets it after a while: a delayed acknowledgement holds
                // back the second half of a server's reply for 40 ms.
                let _ = SockRef::from(&self.stream).set_tcp_quickack(true);
                Received::Bytes(count)
            }
            Err(error) if is_not_yet(&error) => Received::Nothing,
            Err(_) => {
                self.ended = Some(Received::Reset);
                Received::Reset
            }
        }
    }

    /// Whether nothing more will arrive.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Sends as much as fits; none when the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.stream.write(bytes) {
            Ok(count) => Some(count),
            Err(error) if is_not_yet(&error) => Some(0),
            Err(_) => None,
        }
    }

    /// Closes the sending direction.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes the close abrupt: the peer sees a reset.
    pub fn make_abrupt(&self) {
        let linger = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        let _ = setsockopt(&self.stream, sockopt::Linger, &linger);
    }

    /// For waiting.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) || error.raw_os_error() == Some(Errno::EAGAIN as i32)
}
