//! [pure] Addresses that are no public host: no name may lead a job to one of them.
//!
//! From IANA's registries of special-purpose addresses (RFC 6890, RFC 8190) and of
//! IPv6 address space (RFC 4291), also where these call a block globally reachable:
//! what serves a protocol and no host is nothing that a job asks for by name. Beside
//! them stand the addresses at which clouds serve a machine's credentials.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A block of special addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What its addresses are.
    pub what: &'static str,
    /// The length of its prefix, in the family of the address that was asked about.
    pub prefix: u8,
}

/// What [`Block::what`] says of where clouds serve a machine's credentials.
pub const METADATA: &str = "a cloud's metadata";

/// What kind of special address it is, or `None` for public unicast.
///
/// An address that carries an IPv4 one for the kernel or a translator to take out
/// (IPv4-mapped, the well-known NAT64 prefix) is what it carries.
pub fn special(address: IpAddr) -> Option<&'static str> {
    block(address).map(|block| block.what)
}

/// The narrowest block of special addresses around it, or `None` for public unicast.
pub fn block(address: IpAddr) -> Option<Block> {
    match address {
        IpAddr::V4(address) => block4(address),
        IpAddr::V6(address) => match carried(address) {
            Some(inner) => block4(inner).map(|block| Block {
                prefix: block.prefix.saturating_add(96),
                ..block
            }),
            None => block6(address),
        },
    }
}

/// The address that connect(2) really uses: an IPv4-mapped one is IPv4 (ipv6(7)).
pub fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// First match wins: what lies in a wider block stands above it.
const BLOCKS4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "a private network"),
    ([100, 100, 100, 200], 32, METADATA),
    ([100, 64, 0, 0], 10, "shared between carrier and customer"),
    ([127, 0, 0, 0], 8, "loopback"),
    ([168, 63, 129, 16], 32, METADATA),
    ([169, 254, 169, 254], 32, METADATA),
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "a private network"),
    ([192, 0, 0, 0], 24, "assigned to protocols"),
    ([192, 0, 2, 0], 24, "documentation"),
    ([192, 31, 196, 0], 24, "assigned to protocols"),
    ([192, 52, 193, 0], 24, "assigned to protocols"),
    ([192, 88, 99, 0], 24, "6to4"),
    ([192, 168, 0, 0], 16, "a private network"),
    ([192, 175, 48, 0], 24, "assigned to protocols"),
    ([198, 18, 0, 0], 15, "benchmarking"),
    ([198, 51, 100, 0], 24, "documentation"),
    ([203, 0, 113, 0], 24, "documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

/// As above. What none of them has and lies outside 2000::/3 is not handed out as unicast.
const BLOCKS6: &[([u16; 8], u8, &str)] = &[
    ([0; 8], 128, "unspecified"),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, "loopback"),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, "a local NAT64"),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 64, "discarded"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "Teredo"),
    ([0x2001, 2, 0, 0, 0, 0, 0, 0], 48, "benchmarking"),
    ([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28, "ORCHID"),
    ([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28, "ORCHID"),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, "assigned to protocols"),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, "documentation"),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, "6to4"),
    (
        [0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0],
        48,
        "assigned to protocols",
    ),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, "documentation"),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, "segment routing"),
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, "a private network"),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, "link-local"),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, "site-local"),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, "multicast"),
];

/// All global unicast there is (RFC 4291 §2.4, as IANA hands it out).
const GLOBAL: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

fn block4(address: Ipv4Addr) -> Option<Block> {
    let bits = u32::from(address);
    let mut blocks = BLOCKS4.iter();
    let (_, prefix, what) = *blocks.find(|(network, prefix, _)| {
        let different = bits ^ u32::from_be_bytes(*network);
        different.leading_zeros() >= u32::from(*prefix)
    })?;
    Some(Block { what, prefix })
}

fn block6(address: Ipv6Addr) -> Option<Block> {
    let bits = u128::from(address);
    let holds = |network: [u16; 8], prefix: u8| {
        let different = bits ^ u128::from(Ipv6Addr::from(network));
        different.leading_zeros() >= u32::from(prefix)
    };
    let mut blocks = BLOCKS6.iter();
    if let Some((_, prefix, what)) = blocks.find(|(network, prefix, _)| holds(*network, *prefix)) {
        let (what, prefix) = (*what, *prefix);
        return Some(Block { what, prefix });
    }
    let (what, prefix) = ("not global unicast", GLOBAL.1);
    (!holds(GLOBAL.0, GLOBAL.1)).then_some(Block { what, prefix })
}

/// The IPv4 address in `::ffff:0:0/96` (RFC 4291) or `64:ff9b::/96` (RFC 6052).
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Option<&'static str> {
        special(address.parse().unwrap())
    }

    /// First and last address, what they are, and what lies before and after.
    type Edge = (
        &'static str,
        &'static str,
        &'static str,
        Option<&'static str>,
        Option<&'static str>,
    );

    const PROTOCOLS: &str = "assigned to protocols";
    const PRIVATE: &str = "a private network";
    const METADATA: &str = "a cloud's metadata";
    const LOCAL: Option<&str> = Some("link-local");
    const NOT_GLOBAL: Option<&str> = Some("not global unicast");

    #[rustfmt::skip]
    const EDGES4: &[Edge] = &[
        ("0.0.0.0", "0.255.255.255", "this network", Some("broadcast"), None),
        ("10.0.0.0", "10.255.255.255", PRIVATE, None, None),
        ("100.64.0.0", "100.100.100.199", "shared between carrier and customer", None, Some(METADATA)),
        ("100.100.100.201", "100.127.255.255", "shared between carrier and customer", Some(METADATA), None),
        ("127.0.0.0", "127.255.255.255", "loopback", None, None),
        ("168.63.129.16", "168.63.129.16", METADATA, None, None),
        ("169.254.0.0", "169.254.169.253", "link-local", None, Some(METADATA)),
        ("169.254.169.254", "169.254.169.254", METADATA, LOCAL, LOCAL),
        ("169.254.169.255", "169.254.255.255", "link-local", Some(METADATA), None),
        ("172.16.0.0", "172.31.255.255", PRIVATE, None, None),
        ("192.0.0.0", "192.0.0.255", PROTOCOLS, None, None),
        ("192.0.2.0", "192.0.2.255", "documentation", None, None),
        ("192.31.196.0", "192.31.196.255", PROTOCOLS, None, None),
        ("192.52.193.0", "192.52.193.255", PROTOCOLS, None, None),
        ("192.88.99.0", "192.88.99.255", "6to4", None, None),
        ("192.168.0.0", "192.168.255.255", PRIVATE, None, None),
        ("192.175.48.0", "192.175.48.255", PROTOCOLS, None, None),
        ("198.18.0.0", "198.19.255.255", "benchmarking", None, None),
        ("198.51.100.0", "198.51.100.255", "documentation", None, None),
        ("203.0.113.0", "203.0.113.255", "documentation", None, None),
        ("224.0.0.0", "239.255.255.255", "multicast", None, Some("reserved")),
        ("240.0.0.0", "255.255.255.254", "reserved", Some("multicast"), Some("broadcast")),
        ("255.255.255.255", "255.255.255.255", "broadcast", Some("reserved"), Some("this network")),
    ];

    #[rustfmt::skip]
    const EDGES6: &[Edge] = &[
        ("::", "::", "unspecified", Some("multicast"), Some("loopback")),
        ("::1", "::1", "loopback", Some("unspecified"), NOT_GLOBAL),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "a local NAT64", NOT_GLOBAL, NOT_GLOBAL),
        ("100::", "100::ffff:ffff:ffff:ffff", "discarded", NOT_GLOBAL, NOT_GLOBAL),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "Teredo", None, Some(PROTOCOLS)),
        ("2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff", "benchmarking", Some(PROTOCOLS), Some(PROTOCOLS)),
        ("2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff", "ORCHID", Some(PROTOCOLS), Some(PROTOCOLS)),
        ("2001:30::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", PROTOCOLS, Some("ORCHID"), None),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "documentation", None, None),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "6to4", None, None),
        ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff", PROTOCOLS, None, None),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "documentation", None, None),
        ("4000::", "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "not global unicast", None, Some("segment routing")),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "segment routing", NOT_GLOBAL, NOT_GLOBAL),
        ("fc00::", "fd00:ec2::253", PRIVATE, NOT_GLOBAL, Some(METADATA)),
        ("fd00:ec2::254", "fd00:ec2::254", METADATA, Some(PRIVATE), Some(PRIVATE)),
        ("fd00:ec2::255", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", PRIVATE, Some(METADATA), NOT_GLOBAL),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "link-local", NOT_GLOBAL, Some("site-local")),
        ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "site-local", LOCAL, Some("multicast")),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "multicast", Some("site-local"), Some("unspecified")),
    ];

    fn neighbour(address: &str, up: bool) -> IpAddr {
        match address.parse().unwrap() {
            IpAddr::V4(a) if up => IpAddr::V4(u32::from(a).wrapping_add(1).into()),
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).wrapping_sub(1).into()),
            IpAddr::V6(a) if up => IpAddr::V6(u128::from(a).wrapping_add(1).into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).wrapping_sub(1).into()),
        }
    }

    #[test]
    fn both_edges_of_every_block() {
        for (first, last, what, before, after) in EDGES4.iter().chain(EDGES6) {
            assert_eq!(of(first), Some(*what), "{first}");
            assert_eq!(of(last), Some(*what), "{last}");
            assert_eq!(special(neighbour(first, false)), *before, "before {first}");
            assert_eq!(special(neighbour(last, true)), *after, "after {last}");
        }
        let tested = |what: &str| EDGES4.iter().chain(EDGES6).any(|edge| edge.2 == what);
        let names = BLOCKS4.iter().map(|block| block.2);
        for what in names.chain(BLOCKS6.iter().map(|block| block.2)) {
            assert!(tested(what), "{what} has no edge in the tests");
        }
        assert_eq!(of("100.100.100.200"), Some(METADATA));
    }

    #[test]
    fn blocks_have_no_bits_below_their_prefix() {
        for (network, prefix, _) in BLOCKS4 {
            let zeros = u32::from_be_bytes(*network).trailing_zeros();
            assert!(zeros + u32::from(*prefix) >= 32, "{network:?}");
        }
        for (network, prefix, _) in BLOCKS6 {
            let zeros = u128::from(Ipv6Addr::from(*network)).trailing_zeros();
            assert!(zeros + u32::from(*prefix) >= 128, "{network:?}");
        }
    }

    #[test]
    fn a_carried_address_is_what_it_carries() {
        for (address, what) in [
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:169.254.169.254", Some(METADATA)),
            ("::ffff:9.9.9.9", None),
            ("64:ff9b::10.0.0.1", Some(PRIVATE)),
            ("64:ff9b::9.9.9.9", None),
            ("64:ff9b:0:0:0:1::", NOT_GLOBAL),
            ("::127.0.0.1", NOT_GLOBAL),
            ("::fffe:9.9.9.9", NOT_GLOBAL),
            ("2606:4700:4700::1111", None),
        ] {
            assert_eq!(of(address), what, "{address}");
        }
        let prefix = |address: &str| block(address.parse().unwrap()).unwrap().prefix;
        assert_eq!((prefix("10.0.0.1"), prefix("64:ff9b::10.0.0.1")), (8, 104));
        assert_eq!((prefix("169.254.169.254"), prefix("4000::")), (32, 3));
        let mapped = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(unmapped(mapped), "127.0.0.1".parse::<IpAddr>().unwrap());
    }
}
