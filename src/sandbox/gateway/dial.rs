//! [gateway] Connections to published ports of the job, each made in N0 when the edge asks for it.

use crate::net::publish::{REQUEST, Request};
use crate::net::rules::{JOB, JOB6};
use crate::sys::{network, socket};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::net::SocketAddr;

/// Serves one edge.
#[derive(Debug)]
pub struct Dialler {
    socket: OwnedFd,
    ports: Vec<u16>,
}

impl Dialler {
    /// Answers on this non-blocking socket, for these ports of the job and no other.
    pub fn new(socket: OwnedFd, ports: Vec<u16>) -> Self {
        Self { socket, ports }
    }

    /// Answers one request; None when the edge is gone, says what none of ours
    /// says, or does not take its answers.
    pub fn answer(self) -> Option<Self> {
        let mut buffer = [0; REQUEST];
        let length = match socket::receive(&self.socket, &mut buffer) {
            Ok(Some((length, _))) => length,
            Err(Errno::AGAIN) => return Some(self),
            Ok(None) | Err(_) => return None,
        };
        let request = Request::decode(buffer.get(..length)?)?;
        let connecting = self.dial(request);
        let (errno, socket) = match &connecting {
            Ok(socket) => (0, Some(socket.as_fd())),
            Err(errno) => (errno.raw_os_error(), None),
        };
        socket::send(&self.socket, &errno.to_le_bytes(), socket.as_slice()).ok()?;
        Some(self)
    }

    fn dial(&self, Request { from, port }: Request) -> Result<OwnedFd, Errno> {
        if !self.ports.contains(&port) {
            return Err(Errno::ACCESS);
        }
        let job = match from {
            SocketAddr::V4(_) => JOB.into(),
            SocketAddr::V6(_) => JOB6.into(),
        };
        network::connect_as(from, SocketAddr::new(job, port))
    }
}

impl AsFd for Dialler {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
