//! [sys] rtnetlink(7): links, addresses, routes and rules, one message and one answer at a time. No unsafe here; rustix has it.

use super::network::set_option;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest answer: the kernel's are one page, and larger only for dumps.
const ANSWER: usize = 16 << 10;
/// Most messages before the acknowledgement of a request.
const MESSAGES: usize = 8;

/// A socket to the kernel's routing tables in one network namespace.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    /// Number of the last request: after a failure answers to it may still come, which must
    /// not be taken for answers to the next.
    asked: Cell<u32>,
}

/// Why the kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its number.
    pub errno: Errno,
    /// Its own words (NLMSGERR_ATTR_MSG), where it has some.
    pub said: Option<String>,
}

/// A new pair of links: veth(4).
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// Name of the end in the socket's namespace.
    pub name: &'a str,
    /// Name of the other end.
    pub peer: &'a str,
    /// Network namespace of the other end.
    pub namespace: BorrowedFd<'a>,
    /// Bytes, both ends.
    pub mtu: u32,
}

/// What the kernel would do with a packet to some address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Type of the route.
    pub kind: Kind,
    /// The next hop, unless the address is on a link of ours.
    pub gateway: Option<IpAddr>,
    /// Length of the prefix that matched: 0 for the default route.
    pub prefix: u8,
}

/// Type of a route: RTN_* of include/uapi/linux/rtnetlink.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A gateway or a direct route.
    Unicast,
    /// An address of this host.
    Local,
    /// Any other: broadcast, anycast, multicast, blackhole, unreachable, prohibit …
    Other(u8),
}

/// Which addresses a rule or route is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// struct nlmsghdr.
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Something has changed while the kernel wrote the dump.
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWRULE: u16 = 32;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_HOST: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
/// The route of the table itself instead of what became of it (4.13).
const RTM_F_FIB_MATCH: u32 = 0x2000;

const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FR_ACT_TO_TBL: u8 = 1;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

impl Netlink {
    /// A socket in the caller's network namespace, which hears nobody but the kernel.
    ///
    /// # Errors
    /// The errno of socket(2), setsockopt(2) or connect(2).
    pub fn open() -> Result<Self, Errno> {
        // NETLINK_ROUTE is 0.
        open(None).map(Self::from_socket)
    }

    /// A socket that [`Netlink::open`] made elsewhere; it acts in its own namespace.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self {
            socket,
            asked: Cell::new(0),
        }
    }

    /// Index of the link with this name.
    ///
    /// # Errors
    /// ENODEV when there is none.
    pub fn index(&self, name: &str) -> Result<u32, Refused> {
        rustix::net::netdevice::name_to_index(&self.socket, name).map_err(Refused::from)
    }

    /// Makes a pair of links, both down.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_pair(&self, pair: Pair<'_>) -> Result<(), Refused> {
        let mut message = Message::new(RTM_NEWLINK, NEW).fixed(&link_header(0, 0));
        message.end_of_pair(pair.name, pair.mtu);
        message.nest(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.bytes.extend(link_header(0, 0));
                    peer.end_of_pair(pair.peer, pair.mtu);
                    let namespace = pair.namespace.as_raw_fd();
                    peer.attribute(IFLA_NET_NS_FD, &namespace.to_ne_bytes());
                });
            });
        });
        self.request(message).map(drop)
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn set_up(&self, index: u32) -> Result<(), Refused> {
        let up = libc::IFF_UP as u32;
        self.request(Message::new(RTM_NEWLINK, 0).fixed(&link_header(index, up)))
            .map(drop)
    }

    /// Whether a link that was brought up sends and receives by now (IFF_RUNNING):
    /// the end of a pair whose peer came up last is started from a work queue.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn is_running(&self, index: u32) -> Result<bool, Refused> {
        let answer = self.request(Message::new(RTM_GETLINK, 0).fixed(&link_header(index, 0)))?;
        let flags = answer.and_then(|body| number(&body, 8));
        let flags = flags.ok_or(Refused::from(Errno::BADMSG))?;
        Ok(flags & libc::IFF_RUNNING as u32 != 0)
    }

    /// Gives a link an address. Nobody is asked whether it has an IPv6 one already;
    /// the route that makes that one local still comes from a work queue.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Refused> {
        let [a, b, c, d] = index.to_ne_bytes();
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let header = [
            family(address),
            prefix,
            flags,
            RT_SCOPE_UNIVERSE,
            a,
            b,
            c,
            d,
        ];
        let mut message = Message::new(RTM_NEWADDR, NEW).fixed(&header);
        message.attribute(IFA_LOCAL, &octets(address));
        message.attribute(IFA_ADDRESS, &octets(address));
        self.request(message).map(drop)
    }

    /// The default route, by a gateway on a link that is up.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_default(&self, gateway: IpAddr) -> Result<(), Refused> {
        let mut header = route_header(RT_TABLE_MAIN, RT_SCOPE_UNIVERSE, RTN_UNICAST);
        header[0] = family(gateway);
        let mut message = Message::new(RTM_NEWROUTE, NEW).fixed(&header);
        message.attribute(RTA_GATEWAY, &octets(gateway));
        self.request(message).map(drop)
    }

    /// Makes every address of a family local, by a link that is up, in a table of its own.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_local_default(&self, family: Family, index: u32, table: u32) -> Result<(), Refused> {
        let mut header = route_header(0, RT_SCOPE_HOST, RTN_LOCAL);
        header[0] = family.number();
        let mut message = Message::new(RTM_NEWROUTE, NEW).fixed(&header);
        message.attribute(RTA_OIF, &index.to_ne_bytes());
        message.attribute(RTA_TABLE, &table.to_ne_bytes());
        self.request(message).map(drop)
    }

    /// Packets of a family with this mark are routed by this table.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn add_mark_rule(&self, family: Family, mark: u32, table: u32) -> Result<(), Refused> {
        let header = [family.number(), 0, 0, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        let mut message = Message::new(RTM_NEWRULE, NEW).fixed(&header);
        message.attribute(FRA_FWMARK, &mark.to_ne_bytes());
        message.attribute(FRA_TABLE, &table.to_ne_bytes());
        self.request(message).map(drop)
    }

    /// Asks the kernel how it would route a packet to this address now.
    ///
    /// # Errors
    /// What the kernel said where it would not: ENETUNREACH, EHOSTUNREACH,
    /// EACCES, EINVAL for unreachable, prohibited and blackhole routes.
    pub fn route(&self, to: IpAddr) -> Result<Route, Refused> {
        let taken = self.ask_route(to, 0)?;
        let matched = self.ask_route(to, RTM_F_FIB_MATCH)?;
        Ok(Route {
            prefix: matched.prefix,
            ..taken
        })
    }

    /// Whether the kernel takes packets to this address as its own.
    ///
    /// # Errors
    /// What the kernel said, but that there is no route.
    pub fn is_local(&self, address: IpAddr) -> Result<bool, Refused> {
        match self.ask_route(address, 0) {
            Ok(route) => Ok(route.kind == Kind::Local),
            Err(refused) if refused.errno == Errno::NETUNREACH => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    fn ask_route(&self, to: IpAddr, flags: u32) -> Result<Route, Refused> {
        let mut header = route_header(0, 0, 0);
        let octets = octets(to);
        header[0] = family(to);
        header[1] = (octets.len() * 8) as u8;
        header[8..].copy_from_slice(&flags.to_ne_bytes());
        let mut message = Message::new(RTM_GETROUTE, 0).fixed(&header);
        message.attribute(RTA_DST, &octets);
        let answer = self.request(message)?;
        answer
            .and_then(|body| read_route(&body))
            .ok_or(Refused::from(Errno::BADMSG))
    }

    /// Sends one request and waits for its acknowledgement; gives the message
    /// that came before that, if one did.
    fn request(&self, message: Message) -> Result<Option<Vec<u8>>, Refused> {
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        let bytes = message.finish(number);
        let sent = rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        if sent != bytes.len() {
            return Err(Refused::from(Errno::IO));
        }
        let mut answer = None;
        let mut buffer = [0; ANSWER];
        for _ in 0..MESSAGES {
            let received = || rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC);
            let (_, length) = rustix::io::retry_on_intr(received)?;
            let datagram = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            if sequence(datagram).ok_or(Errno::BADMSG)? != number {
                continue;
            }
            match read(datagram).ok_or(Errno::BADMSG)? {
                Answer::Done => return Ok(answer),
                Answer::Refused(refused) => return Err(refused),
                Answer::Body(body) => answer = Some(body.to_vec()),
            }
        }
        Err(Refused::from(Errno::BADMSG))
    }
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Ipv4 => AF_INET,
            Self::Ipv6 => AF_INET6,
        }
    }
}

/// A socket of a netlink protocol, which hears nobody but the kernel.
pub(super) fn open(protocol: Option<Protocol>) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    set_option(&socket, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
    set_option(&socket, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self { errno, said: None }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Some(said) => write!(out, "{said} ({})", self.errno),
            None => write!(out, "{}", self.errno),
        }
    }
}

impl std::error::Error for Refused {}

/// A request being written: nlmsghdr, a fixed header, attributes.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { bytes }
    }

    fn fixed(mut self, header: &[u8]) -> Self {
        self.bytes.extend(header);
        self
    }

    /// What is said of each end of a pair.
    fn end_of_pair(&mut self, name: &str, mtu: u32) {
        self.attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        self.attribute(IFLA_MTU, &mtu.to_ne_bytes());
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nest(kind, |inner| inner.bytes.extend(value));
    }

    /// An attribute that holds what `fill` writes; all of ours are far shorter than 64 KiB.
    fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend([0; 4]);
        fill(self);
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The whole request, with its number.
    fn finish(mut self, number: u32) -> Vec<u8> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        self.bytes
    }
}

/// struct ifinfomsg.
fn link_header(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// struct rtmsg.
fn route_header(table: u8, scope: u8, kind: u8) -> [u8; 12] {
    [
        AF_INET,
        0,
        0,
        0,
        table,
        RTPROT_STATIC,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ]
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// One message of the kernel.
pub(super) enum Answer<'a> {
    /// The request is done, or the dump at its end.
    Done,
    /// It is not.
    Refused(Refused),
    /// What was asked for, or a part of it.
    Body(&'a [u8]),
}

/// The first message of a datagram, which holds no other where no dump was asked for.
pub(super) fn read(datagram: &[u8]) -> Option<Answer<'_>> {
    let kind = short(datagram, 4)?;
    let flags = short(datagram, 6)?;
    let body = datagram.get(HEADER..length(datagram)?)?;
    // Of a dump the flag means what it says; an acknowledgement has none of these bits.
    if flags & NLM_F_DUMP_INTR != 0 {
        return Some(Answer::Refused(Refused::from(Errno::AGAIN)));
    }
    if kind != NLMSG_ERROR && kind != NLMSG_DONE {
        return Some(Answer::Body(body));
    }
    let error = number(body, 0)? as i32;
    if error == 0 {
        return Some(Answer::Done);
    }
    // The header of the request comes between; NETLINK_CAP_ACK leaves its body out.
    let rest = body.get(4 + HEADER..).unwrap_or_default();
    let said = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| find(rest, NLMSGERR_ATTR_MSG))
        .flatten();
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.trim_end_matches('\0').to_owned()
    };
    Some(Answer::Refused(Refused {
        errno: super::errno(error.checked_neg()?),
        said: said.map(text),
    }))
}

/// Bytes of the first message.
pub(super) fn length(datagram: &[u8]) -> Option<usize> {
    number(datagram, 0).map(|length| length as usize)
}

/// Number of the request that it answers.
fn sequence(datagram: &[u8]) -> Option<u32> {
    number(datagram, 8)
}

/// struct rtmsg and its attributes.
fn read_route(body: &[u8]) -> Option<Route> {
    let attributes = body.get(12..)?;
    let kind = match *body.get(7)? {
        RTN_UNICAST => Kind::Unicast,
        RTN_LOCAL => Kind::Local,
        other => Kind::Other(other),
    };
    let gateway = match (
        find(attributes, RTA_GATEWAY),
        find(attributes, RTA_VIA).and_then(|via| via.get(2..)),
    ) {
        (Some(bytes), _) | (None, Some(bytes)) => Some(address(bytes)?),
        (None, None) => None,
    };
    Some(Route {
        kind,
        gateway,
        prefix: *body.get(1)?,
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(octets).into())
}

/// The value of the first attribute of this kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(short(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if short(attributes, 2)? == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*two))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernel_routes_loopback_to_itself() {
        let netlink = Netlink::open().unwrap();
        for address in ["127.0.0.1", "127.9.9.9", "::1"] {
            let route = netlink.route(address.parse().unwrap()).unwrap();
            assert_eq!(
                (route.kind, route.gateway),
                (Kind::Local, None),
                "{address}"
            );
            assert!(route.prefix >= 8);
        }
        let all = netlink.route("224.0.0.1".parse().unwrap());
        assert!(all.is_err() || all.unwrap().kind == Kind::Other(5));
    }

    /// In a network namespace of this thread's own, which takes root's rights.
    #[test]
    fn a_route_is_told_with_gateway_and_prefix() {
        let unshared = super::super::process::unshare(rustix::thread::UnshareFlags::NEWNET);
        if unshared == Err(Errno::PERM) {
            return;
        }
        super::super::network::loopback_up().unwrap();
        let netlink = Netlink::open().unwrap();
        let namespace = super::super::namespace::of_socket(&netlink).unwrap();
        let pair = Pair {
            name: "one",
            peer: "other",
            namespace: namespace.as_fd(),
            mtu: 9000,
        };
        netlink.add_pair(pair).unwrap();
        assert_eq!(netlink.add_pair(pair).unwrap_err().errno, Errno::EXIST);
        let one = netlink.index("one").unwrap();
        let address = Ipv4Addr::new(10, 1, 1, 1);
        assert_eq!(netlink.is_running(one), Ok(false));
        assert_eq!(netlink.is_local(address.into()), Ok(false));
        netlink.add_address(one, address.into(), 24).unwrap();
        netlink.set_up(one).unwrap();
        netlink.set_up(netlink.index("other").unwrap()).unwrap();
        assert_eq!(netlink.is_local(address.into()), Ok(true));
        while !netlink.is_running(one).unwrap() {
            std::thread::yield_now();
        }
        let route = |to: &str| netlink.route(to.parse().unwrap());
        assert_eq!(route("9.9.9.9").unwrap_err().errno, Errno::NETUNREACH);
        let gateway = Ipv4Addr::new(10, 1, 1, 2);
        netlink.add_default(gateway.into()).unwrap();
        let again = netlink.add_default(gateway.into()).unwrap_err();
        assert_eq!(again.errno, Errno::EXIST);
        let elsewhere = IpAddr::from([9, 9, 9, 9]);
        let off_link = netlink.add_default(elsewhere).unwrap_err();
        assert_eq!(
            off_link.said.as_deref(),
            Some("Nexthop has invalid gateway")
        );
        for (to, kind, by, prefix) in [
            ("9.9.9.9", Kind::Unicast, Some(gateway.into()), 0),
            ("10.1.1.9", Kind::Unicast, None, 24),
            ("10.1.1.1", Kind::Local, None, 32),
            ("127.0.0.9", Kind::Local, None, 8),
            ("10.1.1.255", Kind::Other(3), None, 32),
        ] {
            let gateway = by;
            let expected = Route {
                kind,
                gateway,
                prefix,
            };
            assert_eq!(route(to), Ok(expected), "{to}");
        }
    }

    #[test]
    fn a_refusal_has_the_kernels_number_and_words() {
        let netlink = Netlink::open().unwrap();
        let refused = netlink.set_up(0x7fff_fff0).unwrap_err();
        assert!(
            matches!(refused.errno, Errno::NODEV | Errno::PERM),
            "{refused}"
        );
        // No family has this type of message.
        let refused = netlink.request(Message::new(0xfff0, 0)).unwrap_err();
        assert_ne!(refused.errno, Errno::BADMSG);
        assert_eq!(
            netlink.index("no-such-link").unwrap_err().errno,
            Errno::NODEV
        );
    }

    #[test]
    fn an_answer_is_read_with_its_words() {
        let mut message = Message::new(NLMSG_ERROR, NLM_F_ACK_TLVS)
            .fixed(&(-libc::EINVAL).to_ne_bytes())
            .fixed(&[0; HEADER]);
        message.attribute(2, &[0; 4]);
        message.attribute(NLMSGERR_ATTR_MSG, b"Nexthop has invalid gateway\0");
        let bytes = message.finish(1);
        let Some(Answer::Refused(refused)) = read(&bytes) else {
            panic!("no refusal");
        };
        assert_eq!(refused.errno, Errno::INVAL);
        assert_eq!(refused.said.as_deref(), Some("Nexthop has invalid gateway"));
        for short in 0..bytes.len() {
            assert!(read(&bytes[..short]).is_none());
        }
    }

    /// A socket with the other end of which a test answers as the kernel.
    fn kernel() -> (Netlink, OwnedFd) {
        let (ours, kernel) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        (Netlink::from_socket(ours), kernel)
    }

    /// An answer to a request's number, with these flags and this body.
    fn says(number: u32, kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = Message::new(kind, 0).fixed(body).finish(number);
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    /// A route by this gateway, out of the default route.
    fn by(gateway: [u8; 4]) -> Vec<u8> {
        let mut message = Message::new(0, 0).fixed(&route_header(0, 0, RTN_UNICAST));
        message.attribute(RTA_GATEWAY, &gateway);
        message.bytes.split_off(HEADER)
    }

    /// What becomes of the first request where the kernel says this.
    fn asked(answers: &[Vec<u8>]) -> Result<Option<Vec<u8>>, Errno> {
        let (netlink, kernel) = kernel();
        for answer in answers {
            rustix::net::send(&kernel, answer, SendFlags::empty()).unwrap();
        }
        let asked = netlink.request(Message::new(RTM_GETROUTE, 0));
        asked.map_err(|refused| refused.errno)
    }

    #[test]
    fn what_is_no_whole_answer_is_none() {
        let done = || says(1, NLMSG_ERROR, 0, &[0; 4 + HEADER]);
        let route = || says(1, RTM_NEWROUTE, 0, &by([1; 4]));
        assert_eq!(asked(&[done()]), Ok(None));
        assert_eq!(asked(&[route(), done()]), Ok(Some(by([1; 4]))));
        // The acknowledgement never comes, or too much before it.
        assert_eq!(asked(&[route()]), Err(Errno::AGAIN));
        assert_eq!(asked(&vec![route(); MESSAGES]), Err(Errno::BADMSG));
        let no = (-libc::ENETUNREACH).to_ne_bytes();
        let refused = says(1, NLMSG_ERROR, 0, &[&no[..], &[0; HEADER]].concat());
        assert_eq!(asked(&[route(), refused]), Err(Errno::NETUNREACH));
        let disturbed = says(1, RTM_NEWROUTE, NLM_F_DUMP_INTR, &by([1; 4]));
        assert_eq!(asked(&[disturbed, done()]), Err(Errno::AGAIN));
        assert_eq!(asked(&[vec![0; ANSWER + 1]]), Err(Errno::MSGSIZE));
        for cut in 0..route().len() {
            assert_eq!(
                asked(&[route()[..cut].to_vec()]),
                Err(Errno::BADMSG),
                "{cut}"
            );
        }
        let mut longer = done();
        longer[0] += 1;
        assert_eq!(asked(&[longer]), Err(Errno::BADMSG));
        // Numbers that are no errno.
        for (odd, errno) in [
            (1, Errno::PROTO),
            (-4096, Errno::PROTO),
            (i32::MIN, Errno::BADMSG),
        ] {
            let odd = says(1, NLMSG_ERROR, 0, &odd.to_ne_bytes());
            assert_eq!(asked(&[odd]), Err(errno));
        }
    }

    #[test]
    fn an_answer_to_an_earlier_question_is_not_one_to_this() {
        let (netlink, kernel) = kernel();
        let send = |bytes: Vec<u8>| {
            rustix::net::send(&kernel, &bytes, SendFlags::empty()).unwrap();
        };
        let done = |number| says(number, NLMSG_ERROR, 0, &[0; 4 + HEADER]);
        let ask = || netlink.request(Message::new(RTM_GETROUTE, 0));
        send(vec![0; 3]);
        assert_eq!(ask().unwrap_err().errno, Errno::BADMSG);
        send(says(1, RTM_NEWROUTE, 0, &by([1; 4])));
        send(done(1));
        send(says(2, RTM_NEWROUTE, 0, &by([2; 4])));
        send(done(2));
        assert_eq!(ask(), Ok(Some(by([2; 4]))));
        // One from the future is none either.
        send(says(9, RTM_NEWROUTE, 0, &by([1; 4])));
        send(done(3));
        assert_eq!(ask(), Ok(None));
    }

    #[test]
    fn attributes_of_a_route_that_do_not_fit_are_not_there() {
        let route = |bytes: &[u8]| read_route(bytes).map(|route| route.gateway);
        let whole = by([1, 2, 3, 4]);
        assert_eq!(route(&whole), Some(Some([1, 2, 3, 4].into())));
        assert_eq!(route(&whole[..11]), None);
        for cut in 12..whole.len() {
            assert_eq!(route(&whole[..cut]), Some(None), "{cut}");
        }
        let with = |kind, value: &[u8]| {
            let mut message = Message::new(0, 0).fixed(&route_header(0, 0, RTN_UNICAST));
            message.attribute(9, b"x");
            message.attribute(kind, value);
            message.bytes.split_off(HEADER)
        };
        assert_eq!(route(&with(RTA_GATEWAY, &[1; 5])), None);
        assert_eq!(route(&with(RTA_VIA, &[2])), Some(None));
        let via = [&[10, 0][..], &[1; 16]].concat();
        assert_eq!(route(&with(RTA_VIA, &via)), Some(Some([1; 16].into())));
        // A length of less than its own four bytes would never end.
        let mut endless = with(RTA_GATEWAY, &[1; 4]);
        endless[12] = 0;
        assert_eq!(route(&endless), Some(None));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(Answer::Body(body)) = read(&bytes) {
                prop_assert!(body.len() < bytes.len());
            }
            if let Some(route) = read_route(&bytes) {
                prop_assert_eq!(Some(&route.prefix), bytes.get(1));
            }
        }
    }
}
