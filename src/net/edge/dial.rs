//! [exposed] Which address is dialled, and dialling it: what the kernel's routing table says decides last.

use crate::net::record::Obstacle;
use crate::net::route::{self, Route};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, sendto,
    socket_with, sockopt,
};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A netlink socket that is asked about routes.
pub(super) struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

impl Routes {
    pub(super) fn open() -> Result<Self, Errno> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Where this host would send a packet. The kernel answers before sendto(2) returns.
    ///
    /// # Errors
    /// The errno of sendto(2) or recv(2); EPROTO when no answer was there.
    pub(super) fn ask(&mut self, address: Ipv4Addr) -> Result<Route, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = route::question(self.sequence, address);
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, &question, SendFlags::empty(), &kernel)?;
        let mut buffer = [0; 8192];
        loop {
            match recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let message = buffer.get(..length).unwrap_or_default();
                    if let Some(route) = route::answer(self.sequence, message) {
                        return Ok(route);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Errno::PROTO),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Whether an address may be dialled: `by_network` says that a grant names
    /// the network it lies in, which makes neighbours reachable and nothing else.
    pub(super) fn check(&mut self, address: Ipv4Addr, by_network: bool) -> Result<(), Obstacle> {
        match self.ask(address) {
            Ok(Route::Gateway | Route::Default) => Ok(()),
            Ok(Route::Link) if by_network => Ok(()),
            Ok(Route::Link) => Err(Obstacle::Neighbour),
            Ok(Route::Local) => Err(Obstacle::ThisHost),
            Ok(Route::Many | Route::Nowhere) | Err(_) => Err(Obstacle::NoRoute),
        }
    }
}

/// Begins to connect to exactly this address.
///
/// # Errors
/// The errno of socket(2) or connect(2), but EINPROGRESS.
pub(super) fn begin(to: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_local() {
        let mut routes = Routes::open().unwrap();
        assert_eq!(routes.ask(Ipv4Addr::LOCALHOST), Ok(Route::Local));
        assert_eq!(routes.ask(Ipv4Addr::new(127, 9, 9, 9)), Ok(Route::Local));
        assert_eq!(
            routes.check(Ipv4Addr::LOCALHOST, true),
            Err(Obstacle::ThisHost)
        );
        let multicast = Ipv4Addr::new(224, 0, 0, 1);
        assert!(routes.check(multicast, true).is_err());
        assert!(routes.check(Ipv4Addr::BROADCAST, true).is_err());
    }
}
