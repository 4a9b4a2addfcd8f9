//! [host] The control socket, both ends: addressed through a directory descriptor, open to the same user only.

use crate::sandbox::message::PACKET;
use crate::supervise::control::{Answer, Ask};
use crate::supervise::state::{Home, SOCKET};
use crate::sys::socket;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// `/proc/self/fd/N/control`: sun_path has 108 bytes, a directory's path may have more.
fn address(directory: &OwnedFd) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).as_str())
}

fn unconnected() -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Listens in a sandbox's directory, which is 0700.
///
/// # Errors
/// The errno of socket(2), bind(2) or listen(2).
pub fn serve(home: &Home) -> Result<OwnedFd, Errno> {
    let socket = unconnected()?;
    bind(&socket, &address(&home.live)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection, if it is from the same user or from root.
pub fn accept(listener: &OwnedFd) -> Option<OwnedFd> {
    let socket = accept_with(listener, SocketFlags::CLOEXEC).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    let same = peer.uid == rustix::process::geteuid() || peer.uid.is_root();
    same.then_some(socket)
}

/// Connects to a sandbox's supervisor.
///
/// # Errors
/// ECONNREFUSED or ENOENT when nobody listens any more.
pub fn connect_to(home: &Home) -> Result<OwnedFd, Errno> {
    let socket = unconnected()?;
    connect(&socket, &address(&home.live)?)?;
    Ok(socket)
}

/// Sends an answer.
///
/// # Errors
/// The errno of sendmsg(2).
pub fn send(to: &OwnedFd, answer: &Answer, descriptor: Option<&OwnedFd>) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(answer).map_err(|_| Errno::INVAL)?;
    let fds: Vec<BorrowedFd<'_>> = descriptor.iter().map(|fd| fd.as_fd()).collect();
    socket::send(to, &bytes, &fds)
}

/// Sends a request.
///
/// # Errors
/// The errno of sendmsg(2); E2BIG for a command that does not fit a packet.
pub fn ask(to: &OwnedFd, ask: &Ask, descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(ask).map_err(|_| Errno::INVAL)?;
    if bytes.len() > PACKET {
        return Err(Errno::TOOBIG);
    }
    socket::send(to, &bytes, descriptors)
}

/// The next answer and its descriptor; None when the supervisor has ended.
///
/// # Errors
/// The errno of recvmsg(2); EPROTO for something else than an answer.
pub fn answer(from: &OwnedFd) -> Result<Option<(Answer, Option<OwnedFd>)>, Errno> {
    let mut buffer = vec![0; PACKET];
    match socket::receive(from, &mut buffer) {
        Ok(None) | Err(Errno::CONNRESET) => Ok(None),
        Ok(Some((length, mut descriptors))) => {
            let bytes = buffer.get(..length).unwrap_or_default();
            let answer = serde_json::from_slice(bytes).map_err(|_| Errno::PROTO)?;
            Ok(Some((answer, descriptors.pop())))
        }
        Err(errno) => Err(errno),
    }
}
