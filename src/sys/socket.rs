//! [sys] Messages with descriptors over SOCK_SEQPACKET: one packet, one message. No unsafe here; rustix has it.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// Most descriptors in one packet.
pub const DESCRIPTORS: usize = 4;

/// A connected pair, close-on-exec.
///
/// # Errors
/// The errno of socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Sends one packet. A closed peer is EPIPE, never a signal.
///
/// # Errors
/// The errno of sendmsg(2); EMSGSIZE when there are more than [`DESCRIPTORS`].
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(Errno::MSGSIZE);
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(
            &socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(Errno::IO)
    }
}

/// Receives one packet of at most `buffer` bytes; None when the peer is gone.
///
/// A peer that goes before it has read everything leaves ECONNRESET ahead of its
/// own last packets (unix(7)); it is told once, and what was sent is received.
///
/// # Errors
/// The errno of recvmsg(2); EMSGSIZE for a longer packet or more descriptors
/// than [`DESCRIPTORS`] (those that came are closed).
pub fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<Option<(usize, Vec<OwnedFd>)>, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let received = recvmsg(
            &socket,
            &mut [IoSliceMut::new(buffer)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        match received {
            Err(Errno::INTR | Errno::CONNRESET) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            descriptors.extend(fds);
        }
    }
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(Errno::MSGSIZE);
    }
    if message.bytes == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    Ok(Some((message.bytes, descriptors)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_said_last_is_received_though_it_did_not_listen() {
        let (mine, theirs) = pair().unwrap();
        send(&mine, b"unread", &[]).unwrap();
        send(&theirs, b"last", &[]).unwrap();
        drop(theirs);
        let mut buffer = [0; 8];
        let (length, _) = receive(&mine, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..length], b"last");
        assert!(receive(&mine, &mut buffer).unwrap().is_none());
    }
}
