//! Asks the kernel which ports are listened on. `/proc/net/tcp` tells it too, but
//! walks the machine's whole table of connections, which costs a millisecond.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
const STATE_LISTEN: u32 = 1 << 10;
/// Where `struct inet_diag_msg` holds the local port, in network order.
const LOCAL_PORT: usize = 4;

/// Whether a TCP socket of this network namespace listens on `port`.
///
/// # Errors
/// When the kernel refuses the question.
pub fn listens_on(port: u16) -> nix::Result<bool> {
    let question = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let message = request(u8::try_from(family).unwrap_or(0));
        send(question.as_raw_fd(), &message, MsgFlags::empty())?;
        if answers_with(port, question.as_raw_fd())? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A dump request for listening TCP sockets of one address family.
fn request(family: u8) -> [u8; HEADER + REQUEST] {
    let mut message = [0; HEADER + REQUEST];
    let length = u32::try_from(message.len()).unwrap_or(0);
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or(0);
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[HEADER] = family;
    message[HEADER + 1] = u8::try_from(libc::IPPROTO_TCP).unwrap_or(0);
    message[HEADER + 4..HEADER + 8].copy_from_slice(&STATE_LISTEN.to_ne_bytes());
    message
}

fn answers_with(port: u16, socket: i32) -> nix::Result<bool> {
    let mut found = false;
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = recv(socket, &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..length];
        while rest.len() >= HEADER {
            let size = usize::try_from(u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]))
                .unwrap_or(0);
            match u16::from_ne_bytes([rest[4], rest[5]]) {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(Errno::EPROTO),
                _ => {}
            }
            let body = rest.get(HEADER..size).ok_or(Errno::EPROTO)?;
            let local = body.get(LOCAL_PORT..LOCAL_PORT + 2).ok_or(Errno::EPROTO)?;
            found |= u16::from_be_bytes([local[0], local[1]]) == port;
            // Messages are aligned to four bytes.
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_seen_and_a_closed_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens_on(port).unwrap());
        drop(listener);
        assert!(!listens_on(port).unwrap());
    }
}
