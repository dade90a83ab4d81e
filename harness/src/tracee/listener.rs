//! A listening TCP socket: how it was made, so that another process can make one
//! like it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

use super::batch::Batch;

/// Options that a program may have set, by level and number.
const OPTIONS: [(i32, i32); 32] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
    (libc::SOL_SOCKET, libc::SO_RCVBUF),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_DONTROUTE),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMP),
    (libc::SOL_SOCKET, libc::SO_MARK),
    (libc::SOL_SOCKET, libc::SO_BUSY_POLL),
    (libc::IPPROTO_IP, libc::IP_TOS),
    (libc::IPPROTO_IP, libc::IP_TTL),
    (libc::IPPROTO_IP, libc::IP_FREEBIND),
    (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_CORK),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_CONGESTION),
];

/// How a listening socket was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    domain: i32,
    address: Vec<u8>,
    backlog: i32,
    options: Vec<(i32, i32, Vec<u8>)>,
}

/// Why a socket cannot be made again.
#[derive(Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is no listening TCP socket.
    Kind,
    /// A client waits to be accepted.
    Client,
    /// It has an option, by level and number, that another socket does not take.
    Option(i32, i32),
    /// The kernel refused a question.
    System(Errno),
}

impl From<Errno> for Unknown {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl Listener {
    /// Reads how a socket was made, by comparison with a new one.
    ///
    /// # Errors
    /// When it is something else, or has an option that cannot be repeated.
    pub fn read(socket: BorrowedFd<'_>) -> Result<Self, Unknown> {
        let number = |option| {
            let value = option_of(socket, libc::SOL_SOCKET, option)?;
            Ok::<i32, Errno>(integer(&value))
        };
        let domain = number(libc::SO_DOMAIN)?;
        let is_tcp = [libc::AF_INET, libc::AF_INET6].contains(&domain)
            && number(libc::SO_PROTOCOL)? == libc::IPPROTO_TCP;
        if !is_tcp || number(libc::SO_ACCEPTCONN)? == 0 {
            return Err(Unknown::Kind);
        }
        let (waiting, backlog) = queue(socket)?;
        if waiting > 0 {
            return Err(Unknown::Client);
        }
        let mut options = differences(socket, &new(domain, &[])?)?;
        for (level, name, value) in &mut options {
            // The kernel doubles what it is asked for.
            let is_buffer = [libc::SO_RCVBUF, libc::SO_SNDBUF].contains(name);
            if *level == libc::SOL_SOCKET && is_buffer {
                *value = (integer(value) / 2).to_ne_bytes().to_vec();
            }
        }
        let made = new(domain, &options)?;
        if let Some((level, name, _)) = differences(socket, &made)?.first() {
            return Err(Unknown::Option(*level, *name));
        }
        Ok(Self {
            domain,
            address: address_of(socket)?,
            backlog,
            options,
        })
    }

    /// Calls and bytes of data that [`Listener::make`] needs.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let bytes = |length: usize| length.next_multiple_of(8);
        let options: usize = self.options.iter().map(|o| bytes(o.2.len())).sum();
        (5 + self.options.len(), options + bytes(self.address.len()))
    }

    /// Has a process make such a socket as descriptor `number` with these status
    /// flags; `free` is its lowest free descriptor.
    pub fn make(&self, batch: &mut Batch, number: i32, flags: i32, free: i32) {
        let word = |value: i32| i64::from(value).cast_unsigned();
        let kind = libc::SOCK_STREAM | (flags & libc::O_NONBLOCK);
        let arguments = [word(self.domain), word(kind), word(libc::IPPROTO_TCP)];
        batch.call_for(
            "socket in a copy",
            libc::SYS_socket,
            &arguments,
            free.into(),
        );
        for (level, name, value) in &self.options {
            let place = batch.data(value);
            let arguments = [
                word(free),
                word(*level),
                word(*name),
                place.0,
                value.len() as u64,
            ];
            batch.call("setsockopt in a copy", libc::SYS_setsockopt, &arguments);
        }
        let place = batch.data(&self.address);
        let arguments = [word(free), place.0, self.address.len() as u64];
        batch.call("bind in a copy", libc::SYS_bind, &arguments);
        let arguments = [word(free), word(self.backlog)];
        batch.call("listen in a copy", libc::SYS_listen, &arguments);
        let arguments = [word(free), word(number), word(flags & libc::O_CLOEXEC)];
        batch.call("dup3 in a copy", libc::SYS_dup3, &arguments);
        batch.call("close in a copy", libc::SYS_close, &[word(free)]);
    }
}

fn integer(value: &[u8]) -> i32 {
    value.try_into().map_or(0, i32::from_ne_bytes)
}

/// A new listening socket of a domain, on any port, with these options.
fn new(domain: i32, options: &[(i32, i32, Vec<u8>)]) -> Result<OwnedFd, Unknown> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes numbers and gives a new descriptor, which is ours alone.
    let socket = unsafe {
        OwnedFd::from_raw_fd(Errno::result(libc::socket(
            domain,
            kind,
            libc::IPPROTO_TCP,
        ))?)
    };
    for (level, name, value) in options {
        // SAFETY: the kernel reads as many bytes as the value has.
        let answer = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                *level,
                *name,
                value.as_ptr().cast(),
                u32::try_from(value.len()).unwrap_or(0),
            )
        };
        Errno::result(answer).map_err(|_| Unknown::Option(*level, *name))?;
    }
    // Unbound, it is bound to any address and port.
    // SAFETY: the call takes numbers.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), 1) })?;
    Ok(socket)
}

/// Options in which a socket differs from another, with its values.
fn differences(socket: BorrowedFd<'_>, other: &OwnedFd) -> Result<Vec<(i32, i32, Vec<u8>)>, Errno> {
    use std::os::fd::AsFd as _;
    let mut found = Vec::new();
    for (level, name) in OPTIONS {
        let own = match option_of(socket, level, name) {
            Ok(own) => own,
            // Not of this family, or unknown to this kernel: it cannot have been set.
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => continue,
            Err(errno) => return Err(errno),
        };
        if own != option_of(other.as_fd(), level, name)? {
            found.push((level, name, own));
        }
    }
    Ok(found)
}

fn option_of(socket: BorrowedFd<'_>, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; 256];
    let mut length = 256_u32;
    // SAFETY: the kernel writes at most `length` bytes, which the buffer has.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(answer)?;
    value.truncate(length as usize);
    Ok(value)
}

/// How many clients wait to be accepted, and how many may.
fn queue(socket: BorrowedFd<'_>) -> Result<(u32, i32), Errno> {
    // Of a listening socket these two fields of `struct tcp_info` tell the queue.
    const WAITING: usize = 24;
    const MOST: usize = 28;
    let info = option_of(socket, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    let field = |at: usize| {
        let bytes = info.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    Ok((
        field(WAITING),
        i32::try_from(field(MOST)).unwrap_or(i32::MAX),
    ))
}

fn address_of(socket: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut address = vec![0_u8; 128];
    let mut length = 128_u32;
    // SAFETY: the kernel writes at most `length` bytes, which the buffer has.
    let answer = unsafe {
        libc::getsockname(
            socket.as_raw_fd(),
            address.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(answer)?;
    address.truncate(length as usize);
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_was_set_is_read_back() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_recv_buffer_size(40_000).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        socket.listen(7).unwrap();
        let read = Listener::read(socket.as_fd()).unwrap();
        assert_eq!(read.backlog, 7);
        let names: Vec<_> = read.options.iter().map(|(l, n, _)| (*l, *n)).collect();
        assert_eq!(
            names,
            [
                (libc::SOL_SOCKET, libc::SO_REUSEADDR),
                (libc::SOL_SOCKET, libc::SO_RCVBUF),
                (libc::IPPROTO_TCP, libc::TCP_NODELAY)
            ]
        );
    }

    #[test]
    fn other_sockets_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(Listener::read(client.as_fd()), Err(Unknown::Kind));
        assert_eq!(Listener::read(listener.as_fd()), Err(Unknown::Client));
    }
}
