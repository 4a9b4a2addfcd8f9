//! [pure] Published ports: how one is written, whom the job sees, and what the edge asks of the gateway.
//!
//! The edge accepts on the host and cannot make a socket in N0; the gateway can.
//! It is asked with one [`Request`] for each connection and answers with the
//! socket, connecting, or with an errno.

use super::budget::Bucket;
use super::decide::Reason;
use super::grant::{Limits, Malformed};
use super::pool::Pool;
use super::special::unmapped;
use super::{GATEWAY, GATEWAY6, JOB, JOB6, PREFIX, PREFIX6};
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// The most ports that a sandbox publishes.
pub const PORTS_MAX: usize = 64;

/// Bytes of a [`Request`].
///
/// Bytes 0–15 are the address the job sees, an IPv4 one in its mapped form,
/// 16–17 the port it sees, 18–19 the job's own port.
pub const REQUEST: usize = 20;

/// Bytes of the gateway's answer: an errno, or 0 beside the socket.
pub const ANSWER: usize = 4;

/// A port of the job at an address of the host: `ADDRESS:HOSTPORT:PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// The host's address.
    pub address: IpAddr,
    /// The host's port; 0 where the kernel chooses one.
    pub host_port: u16,
    /// The job's port, never 0.
    pub port: u16,
}

impl Publish {
    /// Where the host listens.
    pub fn listens(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.host_port)
    }

    /// Whether both want a socket that only one can have.
    pub fn collides(&self, other: &Self) -> bool {
        let same = self.address == other.address;
        let family = self.address.is_ipv4() == other.address.is_ipv4();
        let all = self.address.is_unspecified() || other.address.is_unspecified();
        self.host_port == other.host_port && self.host_port != 0 && (same || (family && all))
    }
}

impl FromStr for Publish {
    type Err = Malformed;

    /// `[ADDRESS:]HOSTPORT:PORT`, an IPv6 address in brackets; 127.0.0.1 unless said.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        const FORM: Malformed = Malformed("write [ADDRESS:]HOSTPORT:PORT");
        if text.contains('/') {
            return Err(match text.rsplit_once('/') {
                Some((_, "udp")) => Malformed("only TCP can be published, and no UDP"),
                _ => Malformed("only TCP can be published; write nothing after the port"),
            });
        }
        let (outer, port) = text.rsplit_once(':').ok_or(FORM)?;
        let (address, host_port) = match outer.rsplit_once(':') {
            Some((address, host_port)) => (read_address(address)?, host_port),
            None => (IpAddr::V4(Ipv4Addr::LOCALHOST), outer),
        };
        if host_port.is_empty() || port.is_empty() {
            return Err(FORM);
        }
        let port = read_port(port)?;
        if port == 0 {
            return Err(Malformed("the job's port is a number from 1 to 65535"));
        }
        Ok(Self {
            address,
            host_port: read_port(host_port)?,
            port,
        })
    }
}

fn read_address(text: &str) -> Result<IpAddr, Malformed> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match inner {
        Some(inner) => inner.parse().map(IpAddr::V6).ok(),
        None => text.parse().map(IpAddr::V4).ok(),
    };
    match address {
        None => Err(Malformed(
            "an address of the host has four numbers, or is IPv6 in brackets; names are not looked up",
        )),
        Some(address) if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) => {
            Err(Malformed("no connection comes to such an address"))
        }
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => Err(Malformed(
            "IPv4 and IPv6 are published apart: write the IPv4 address as it is",
        )),
        Some(address) => Ok(address),
    }
}

/// Plain digits: no sign, no leading zero.
fn read_port(text: &str) -> Result<u16, Malformed> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = plain && (text.len() == 1 || !text.starts_with('0'));
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or(Malformed("a port is a number from 0 to 65535"))
}

impl fmt::Display for Publish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.listens(), self.port)
    }
}

impl TryFrom<String> for Publish {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> Self {
        publish.to_string()
    }
}

/// Whom the job sees as its peer: the peer itself, or the gateway where the
/// peer's address has another meaning inside or none.
pub fn seen(peer: SocketAddr) -> SocketAddr {
    let address = match unmapped(peer.ip()) {
        IpAddr::V4(address) if is_the_peers_own(address) => address.into(),
        IpAddr::V4(_) => GATEWAY.into(),
        IpAddr::V6(address) if is_the_peers_own6(address) => address.into(),
        IpAddr::V6(_) => GATEWAY6.into(),
    };
    SocketAddr::new(address, peer.port())
}

/// A packet from 127.0.0.0/8 is a martian outside of `lo`, one from the job's own
/// address everywhere; the pool's addresses stand for names.
fn is_the_peers_own(address: Ipv4Addr) -> bool {
    let network = |address: Ipv4Addr| u32::from(address) >> (32 - u32::from(PREFIX));
    let ours = network(address) == network(JOB);
    let odd = address.is_loopback() || address.is_multicast() || address.octets()[0] == 0;
    !(ours || odd || address.is_broadcast() || Pool::holds(address.into()))
}

/// As for IPv4; and an address of one link is none on another.
fn is_the_peers_own6(address: Ipv6Addr) -> bool {
    let network = |address: Ipv6Addr| u128::from(address) >> (128 - u32::from(PREFIX6));
    let ours = network(address) == network(JOB6);
    let odd = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    !(ours || odd || address.is_unicast_link_local() || Pool::holds(address.into()))
}

/// Counts connections to published ports: no peer can use up what the job may open itself.
#[derive(Clone, Debug)]
pub struct Admission {
    most: u32,
    open: u32,
    new: Bucket,
}

impl Admission {
    /// For a sandbox to which nobody has connected yet.
    pub fn new(limits: &Limits) -> Self {
        Self {
            most: limits.connections,
            open: 0,
            new: Bucket::per_second(limits.new_per_second),
        }
    }

    /// One connection more, until [`Admission::closed`]. `now` is the time since any
    /// one moment.
    ///
    /// # Errors
    /// Why it is reset; then it does not count.
    pub fn admit(&mut self, now: Duration) -> Result<(), Reason> {
        if !self.new.take(now) {
            return Err(Reason::Rate);
        }
        if self.open >= self.most {
            return Err(Reason::Connections);
        }
        self.open = self.open.saturating_add(1);
        Ok(())
    }

    /// One connection less.
    pub fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }
}

/// A connection that the gateway is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whom the job sees.
    pub from: SocketAddr,
    /// The job's port.
    pub port: u16,
}

impl Request {
    /// The request as bytes.
    pub fn encode(&self) -> [u8; REQUEST] {
        let mut out = [0; REQUEST];
        let address = match self.from.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        out[..16].copy_from_slice(&address.octets());
        out[16..18].copy_from_slice(&self.from.port().to_le_bytes());
        out[18..].copy_from_slice(&self.port.to_le_bytes());
        out
    }

    /// Reads a request; None for another length.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; REQUEST] = bytes.try_into().ok()?;
        let octets: [u8; 16] = *bytes.first_chunk()?;
        let address = Ipv6Addr::from(octets).to_canonical();
        let port = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        Some(Self {
            from: SocketAddr::new(address, port(16)?),
            port: port(18)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<String, &'static str> {
        let publish = text.parse::<Publish>();
        publish
            .map(|publish| publish.to_string())
            .map_err(|error| error.0)
    }

    #[test]
    fn a_port_is_published_on_loopback_unless_an_address_is_given() {
        for (text, is) in [
            ("8080:80", "127.0.0.1:8080:80"),
            ("0:80", "127.0.0.1:0:80"),
            ("0.0.0.0:8080:80", "0.0.0.0:8080:80"),
            ("[::]:8080:80", "[::]:8080:80"),
            ("[2001:db8::1]:1:65535", "[2001:db8::1]:1:65535"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(is));
            assert_eq!(read(is).as_deref(), Ok(is));
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "80",
            ":80",
            "8080:",
            "8080:0",
            "8080:65536",
            "65536:80",
            "+1:80",
            "01:80",
            "8080:080",
            " 8080:80",
            "8080:80 ",
            "a:80",
            "8080:80:",
            ":8080:80",
            "localhost:8080:80",
            "::1:8080:80",
            "[::1]8080:80",
            "[::1:8080:80",
            "[127.0.0.1]:8080:80",
            "[::ffff:127.0.0.1]:8080:80",
            "[fe80::1%eth0]:8080:80",
            "127.1:8080:80",
            "0x7f.0.0.1:8080:80",
            "127.0.0.01:8080:80",
            "224.0.0.1:8080:80",
            "255.255.255.255:8080:80",
            "[ff02::1]:8080:80",
            "8080-8081:80",
            "8080:80/tcp",
            "8080:80/sctp",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read("53:53/udp").unwrap_err().contains("no UDP"));
    }

    #[test]
    fn an_address_collides_with_all_of_its_family() {
        let collide = |one: &str, other: &str| {
            let read = |text: &str| text.parse::<Publish>().unwrap();
            read(one).collides(&read(other))
        };
        assert!(collide("8080:80", "8080:81"));
        assert!(collide("8080:80", "0.0.0.0:8080:80"));
        assert!(!collide("8080:80", "[::]:8080:80"));
        assert!(!collide("8080:80", "8081:80"));
        assert!(!collide("127.0.0.2:8080:80", "8080:80"));
        assert!(!collide("0:80", "0:80"));
    }

    #[test]
    fn the_job_sees_its_peer_unless_that_would_be_another() {
        let seen = |peer: &str| seen(peer.parse().unwrap()).to_string();
        for own in [
            "10.9.0.2:1",
            "93.184.216.34:65535",
            "169.254.7.4:5",
            "[2001:db8::1]:7",
            "[fd09::1]:8",
        ] {
            assert_eq!(seen(own), own);
        }
        assert_eq!(seen("[::ffff:10.9.0.2]:1"), "10.9.0.2:1");
        for other in [
            "127.0.0.1:7",
            "127.9.9.9:7",
            "169.254.7.1:7",
            "169.254.7.2:7",
            "198.18.0.1:7",
            "198.19.255.255:7",
            "0.0.0.0:7",
            "[::ffff:127.0.0.1]:7",
            "255.255.255.255:7",
        ] {
            assert_eq!(seen(other), "169.254.7.1:7", "{other}");
        }
        for other in [
            "[::1]:7",
            "[::]:7",
            "[ff02::1]:7",
            "[fe80::1]:7",
            "[fdc0:ffda:7::1]:7",
            "[fdc0:ffda:7::2]:7",
            "[fdc0:ffda:7:1::9]:7",
        ] {
            assert_eq!(seen(other), "[fdc0:ffda:7::1]:7", "{other}");
        }
    }

    #[test]
    fn peers_are_admitted_as_far_as_the_limits_go() {
        let limits = Limits {
            connections: 2,
            new_per_second: 3,
            dns_per_second: 0,
        };
        let mut admission = Admission::new(&limits);
        let now = Duration::from_secs(9);
        assert_eq!(admission.admit(now), Ok(()));
        assert_eq!(admission.admit(now), Ok(()));
        assert_eq!(admission.admit(now), Err(Reason::Connections));
        admission.closed();
        assert_eq!(admission.admit(now), Err(Reason::Rate));
        assert_eq!(admission.admit(now + Duration::from_secs(1)), Ok(()));
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_written(bytes in any::<[u8; REQUEST]>()) {
            let request = Request::decode(&bytes).unwrap();
            prop_assert_eq!(request.encode(), bytes);
            prop_assert_eq!(Request::decode(&bytes[1..]), None);
        }
    }
}
