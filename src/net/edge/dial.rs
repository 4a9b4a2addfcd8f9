//! [exposed] Which address is dialled, and dialling it: what the kernel's routing table says decides last.

use crate::net::record::Obstacle;
use crate::sys::netlink::{Kind, Netlink, Route};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{IpAddr, SocketAddr};

/// Whether this host's routing table lets an address be dialled.
///
/// `by_network` says that a grant names the network it lies in, which makes
/// neighbours reachable and nothing else. Any error is no route: blackhole,
/// prohibit and unreachable routes answer with an errno.
///
/// # Errors
/// What is in the way.
pub(super) fn check(routes: &Netlink, address: IpAddr, by_network: bool) -> Result<(), Obstacle> {
    let Ok(route) = routes.route(address) else {
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
pub(super) fn begin(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// The order in which addresses of a name are tried: families by turns (RFC 8305 §4), first
/// that by which the client came, which it chose itself.
pub(super) fn in_turn(addresses: Vec<IpAddr>, client: IpAddr) -> Vec<IpAddr> {
    let (first, then): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == client.is_ipv6());
    let most = first.len().max(then.len());
    let (mut first, mut then) = (first.into_iter(), then.into_iter());
    (0..most)
        .flat_map(|_| [first.next(), then.next()])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_local() {
        let routes = Netlink::open().unwrap();
        let check = |address: &str| check(&routes, address.parse().unwrap(), true);
        for own in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(check(own), Err(Obstacle::ThisHost), "{own}");
        }
        for nobody in ["224.0.0.1", "255.255.255.255", "ff02::1"] {
            assert!(check(nobody).is_err(), "{nobody}");
        }
    }

    #[test]
    fn families_take_turns() {
        let all = |list: &[&str]| -> Vec<IpAddr> {
            list.iter()
                .map(|address| address.parse().unwrap())
                .collect()
        };
        let found = || all(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "2001::1"]);
        let by_four = in_turn(found(), "198.18.0.1".parse().unwrap());
        assert_eq!(
            by_four,
            all(&["10.0.0.1", "2001::1", "10.0.0.2", "10.0.0.3"])
        );
        let by_six = in_turn(found(), "fd00::1".parse().unwrap());
        assert_eq!(
            by_six,
            all(&["2001::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"])
        );
    }
}
