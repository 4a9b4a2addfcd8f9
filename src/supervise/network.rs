//! [host] The network edge of one sandbox: started with the host's resolvers, its records as events.

use crate::event::Kind;
use crate::net::DNS_PORT;
use crate::net::edge::{self, Edge, Listening, Port, Starting};
use crate::net::grant::Rules;
use crate::net::record::{Asked, Peer, Record};
use crate::sandbox::launch::Listeners;
use crate::sandbox::plan::{Plan, Published};
use crate::supervise::failure::SessionError;
use crate::sys::netlink::Netlink;
use rustix::fd::{AsFd, OwnedFd};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

/// Most bytes of /etc/resolv.conf that are read.
const LONGEST: u64 = 64 * 1024;
/// Most resolvers that are asked: MAXNS of resolv.conf(5).
const RESOLVERS: usize = 3;

/// Starts the edge of a sandbox with these rules, and these ports of the host for
/// the plan's published ones.
///
/// # Errors
/// The host's resolvers cannot be read, or the edge did not start.
pub fn start(plan: &Plan, rules: &Rules, ports: &[OwnedFd]) -> Result<Starting, SessionError> {
    let mut text = Vec::new();
    let file = std::fs::File::open("/etc/resolv.conf");
    match file.and_then(|file| file.take(LONGEST).read_to_end(&mut text)) {
        Ok(_) => {}
        // Without the file the resolver is this host: resolv.conf(5).
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let errno = rustix::io::Errno::from_io_error(&error);
            let errno = errno.unwrap_or(rustix::io::Errno::IO);
            return Err(SessionError::System("read /etc/resolv.conf", errno));
        }
    }
    let published = plan.published.iter().map(|one| one.publish.port);
    let ports: Vec<Port<'_>> = ports
        .iter()
        .zip(published)
        .map(|(listener, port)| Port {
            listener: listener.as_fd(),
            port,
        })
        .collect();
    let netlink = Netlink::open().map_err(|errno| SessionError::System("netlink", errno))?;
    let resolvers = resolvers(&String::from_utf8_lossy(&text), |link| {
        netlink.index(link).ok()
    });
    edge::start(rules, &ports, &resolvers).map_err(SessionError::Edge)
}

/// The edge serves what arrives at the sandbox's listeners.
///
/// # Errors
/// It did not start.
pub fn listen(starting: Starting, listeners: &Listeners) -> Result<Edge, SessionError> {
    let listening = Listening {
        tcp: listeners.tcp.as_fd(),
        dns_udp: listeners.dns_udp.as_fd(),
        dns_tcp: listeners.dns_tcp.as_fd(),
        gateway: listeners.dialler.as_ref().map(AsFd::as_fd),
    };
    starting.listen(listening).map_err(SessionError::Edge)
}

/// The address of a name server; `ADDRESS%LINK` where it means something on one link
/// alone (RFC 4007 §11), by name or number. None for what is neither.
fn resolver(server: &str, link: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = server.split_once('%') else {
        return Some(SocketAddr::new(server.parse().ok()?, DNS_PORT));
    };
    let scope = zone.parse().ok().or_else(|| link(zone))?;
    let address = SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope);
    Some(address.into())
}

/// The name servers of a resolv.conf(5), with the links of this host; this host where it
/// names none.
fn resolvers(text: &str, link: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let server = (words.next()? == "nameserver").then(|| words.next())??;
            resolver(server, &link)
        })
        .take(RESOLVERS)
        .collect();
    if found.is_empty() {
        found.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DNS_PORT));
    }
    found
}

/// The event of a record; None for one that this edge has no reason to send.
pub fn event(rules: &Rules, published: &[Published], record: Record) -> Option<Kind> {
    Some(match record {
        Record::Allowed(connection, asked, grant) => {
            let rule = match rules.grants.get(usize::from(grant)) {
                Some(grant) => grant.to.to_string(),
                None if rules.open => "network open".to_owned(),
                None => return None,
            };
            let (name, address, port) = parts(asked);
            Kind::NetworkAllowed {
                connection,
                name,
                address,
                port,
                rule,
            }
        }
        Record::Ended(connection, sent, received) => Kind::NetworkEnded {
            connection,
            sent,
            received,
        },
        Record::Refused(asked, reason) => {
            let (name, address, port) = parts(asked);
            Kind::NetworkRefused {
                name,
                address,
                port,
                reason,
                count: 1,
            }
        }
        Record::Accepted(connection, peer) => {
            let (peer, published, port) = peer_parts(published, peer)?;
            Kind::NetworkAccepted {
                connection,
                peer,
                published,
                port,
            }
        }
        Record::Rejected(peer, reason) => {
            let (peer, published, port) = peer_parts(published, peer)?;
            Kind::NetworkRejected {
                peer,
                published,
                port,
                reason,
            }
        }
        Record::Lost(count) => Kind::Dropped {
            count: count.into(),
        },
        Record::Ready | Record::Failed(..) => return None,
    })
}

/// Peer, where the host listens, the job's port; None for a port that is not published.
fn peer_parts(published: &[Published], peer: Peer) -> Option<(String, String, u16)> {
    let publish = published.get(usize::from(peer.port))?.publish;
    let (peer, listens) = (peer.address.to_string(), publish.listens().to_string());
    Some((peer, listens, publish.port))
}

/// A name that was only asked for has no address.
fn parts(asked: Asked) -> (Option<String>, Option<String>, u16) {
    let address = asked.address.ip();
    (
        asked.name.map(String::from),
        (!address.is_unspecified()).then(|| address.to_string()),
        asked.address.port(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_in_their_order_at_most_three() {
        let link = |name: &str| (name == "eth0").then_some(7);
        let text = "# nameserver 9.9.9.9\nsearch a\n nameserver 10.0.0.1 x\nnameserver fe80::1%eth1\n\
                    nameserver 10.0.0.1%eth0\nnameserver fe80::1%eth0\nnameserver ::1\nnameserver\n\
                    nameserver 8.8.8.8\n";
        let found = resolvers(text, link);
        let expected = ["10.0.0.1:53", "[fe80::1%7]:53", "[::1]:53"];
        assert_eq!(found, expected.map(|text| text.parse().unwrap()));
        assert_eq!(resolver("fe80::1%3", link), "[fe80::1%3]:53".parse().ok());
        assert_eq!(resolvers("", link), ["127.0.0.1:53".parse().unwrap()]);
    }
}
