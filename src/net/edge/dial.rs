//! [exposed] Which addresses are dialled, and dialling them: what the kernel's routing table says decides last.

use super::flow::End;
use crate::net::record::{Obstacle, Reason};
use crate::sys::netlink::{Kind, Netlink, Route};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long an address has before the next one is dialled beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are dialled at once.
const AT_ONCE: usize = 6;
/// Numbers of a connection's sockets: 0 is the client's, the others one address's each.
pub(super) const SOCKETS: u64 = 8;

/// The addresses of one destination, of which the first to answer is taken.
pub(super) struct Dialling {
    /// Those that have been dialled and have not answered yet.
    pub attempts: Vec<Attempt>,
    /// Which one was given up last, and why.
    pub failed: (SocketAddr, Reason),
    /// When all of them are given up.
    pub until: Instant,
    rest: std::vec::IntoIter<IpAddr>,
    made: u64,
}

/// One address, being dialled.
pub(super) struct Attempt {
    pub to: SocketAddr,
    pub end: End,
    /// Of its socket, from 1 to [`SOCKETS`] - 1.
    pub number: u64,
}

impl Dialling {
    /// Begins with no address; `failed` is said where there is none that may be dialled.
    pub(super) fn new(
        addresses: Vec<IpAddr>,
        until: Instant,
        failed: (SocketAddr, Reason),
    ) -> Self {
        Self {
            attempts: Vec::new(),
            failed,
            until,
            rest: addresses.into_iter(),
            made: 0,
        }
    }

    /// The next address, while there may be one more.
    pub(super) fn next(&mut self) -> Option<IpAddr> {
        let room = self.attempts.len() < AT_ONCE;
        room.then(|| self.rest.next()).flatten()
    }

    /// A number for a socket. It is used again only after all others, when no event of its
    /// first one can be left to handle.
    pub(super) fn number(&mut self) -> u64 {
        self.made += 1;
        1 + self.made % (SOCKETS - 1)
    }

    /// How long nothing is to be done unless an address answers.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let left = self.until.saturating_duration_since(now);
        let more = self.attempts.len() < AT_ONCE && self.rest.len() > 0;
        if more { left.min(STAGGER) } else { left }
    }

    /// The first that was dialled.
    pub(super) fn first(&self) -> SocketAddr {
        let first = self.attempts.first();
        first.map_or(self.failed.0, |attempt| attempt.to)
    }
}

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
