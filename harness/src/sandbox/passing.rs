//! Hands open descriptors to a process in another network: a socket stays in the
//! network where it was made, whoever uses it.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors of one message.
pub const MOST: usize = 128;

/// Sends `descriptors`, at most [`MOST`] of them, in one message.
///
/// # Errors
/// When the other end is gone or the kernel refuses.
pub fn send(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    if descriptors.len() > MOST {
        return Err(Errno::EMSGSIZE);
    }
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    // Descriptors travel only with at least one byte.
    let byte = [IoSlice::new(b"d")];
    sendmsg::<()>(socket.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None).map(drop)
}

/// Receives the descriptors of one message; they are not inherited further.
///
/// # Errors
/// When the other end is gone or the kernel refuses.
pub fn receive(socket: &UnixStream) -> nix::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut bytes,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            received.extend(numbers.into_iter().map(|number| {
                // SAFETY: the kernel has just made this descriptor for us alone.
                unsafe { OwnedFd::from_raw_fd(number) }
            }));
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_listener_works_at_the_other_end() {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&one, &[listener.as_fd()]).unwrap();
        drop(listener);
        let mut received = receive(&other).unwrap();
        assert_eq!(received.len(), 1);
        let listener = TcpListener::from(received.remove(0));
        let _client = TcpStream::connect(address).unwrap();
        assert!(listener.accept().is_ok());
    }
}
