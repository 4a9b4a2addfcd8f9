//! [exposed] Which address is dialled, and dialling it: what the kernel's routing table says decides last.

use crate::net::record::Obstacle;
use crate::sys::netlink::{Kind, Netlink, Route};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

/// Whether this host's routing table lets an address be dialled.
///
/// `by_network` says that a grant names the network it lies in, which makes
/// neighbours reachable and nothing else. Any error is no route: blackhole,
/// prohibit and unreachable routes answer with an errno.
///
/// # Errors
/// What is in the way.
pub(super) fn check(routes: &Netlink, address: Ipv4Addr, by_network: bool) -> Result<(), Obstacle> {
    let Ok(route) = routes.route(IpAddr::V4(address)) else {
        return Err(Obstacle::NoRoute);
    };
    let Route {
        kind,
        gateway,
        prefix,
    } = route;
    match kind {
        Kind::Unicast if by_network || gateway.is_some() || prefix == 0 => Ok(()),
        Kind::Unicast => Err(Obstacle::Neighbour),
        Kind::Local => Err(Obstacle::ThisHost),
        Kind::Other(_) => Err(Obstacle::NoRoute),
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
        let routes = Netlink::open().unwrap();
        for own in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 9, 9, 9)] {
            assert_eq!(check(&routes, own, true), Err(Obstacle::ThisHost));
        }
        assert!(check(&routes, Ipv4Addr::new(224, 0, 0, 1), true).is_err());
        assert!(check(&routes, Ipv4Addr::BROADCAST, true).is_err());
    }
}
