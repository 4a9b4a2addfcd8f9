//! [pure] What a policy grants: names, networks, ports, and how a connection is read.

use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// A host name as policy and wire agree on it: LDH labels of 1–63 bytes, lower
/// case, no trailing dot, at most 253 bytes, at least two labels or one that is
/// no number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// A network: no bit below the prefix is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// Where a grant leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// This name and no other.
    Host(Name),
    /// Every name below this one, and not itself: `*.NAME`.
    Below(Name),
    /// Addresses that are dialled as they are.
    Network(Cidr),
}

/// Ports from first to last, both in it; first is at most last, and not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// How the first bytes of a connection are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proto {
    /// A TLS client hello whose server name is the name that was asked for.
    Tls,
    /// HTTP/1 requests whose host is the name that was asked for, each of them.
    Http,
    /// Not at all: the name or network and the port decide.
    Raw,
}

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Where to.
    pub to: Target,
    /// Which ports, never empty.
    pub ports: Vec<Ports>,
    /// How it is read: by default 443 is TLS, 80 is HTTP and the rest raw.
    pub proto: Option<Proto>,
}

/// What becomes of a TLS connection whose hello names no server, or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutName {
    /// Reset.
    Refuse,
    /// Passed on, to an address of the name that was asked for.
    Allow,
}

/// What one sandbox may use of the network at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open connections.
    pub connections: u32,
    /// New connections in one second.
    pub new_per_second: u32,
    /// DNS queries in one second.
    pub dns_per_second: u32,
}

/// All that decides about a connection or a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// What is granted; nothing else is reachable unless `open`.
    pub grants: Vec<Grant>,
    /// Beside them every name and every public unicast address, on all ports and unread:
    /// where everything is reachable, no name that a client says could be held against it.
    pub open: bool,
    /// TLS without the right name.
    pub tls_without_name: WithoutName,
    /// Limits.
    pub limits: Limits,
}

/// Why a text is no name or network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl Name {
    /// Reads a name: bytes of letters, digits and hyphens, in any case.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() || text.len() > 253 {
            return Err(Malformed("a name has 1 to 253 bytes"));
        }
        for label in text.split('.') {
            let bytes = label.as_bytes();
            if bytes.is_empty() || bytes.len() > 63 {
                return Err(Malformed("a label of a name has 1 to 63 bytes"));
            }
            if !bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            {
                return Err(Malformed(
                    "a name has letters, digits, hyphens and dots; write others in their xn-- form",
                ));
            }
            if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
                return Err(Malformed("a label neither begins nor ends with a hyphen"));
            }
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last.to_ascii_lowercase().strip_prefix("0x").is_some();
        if number {
            return Err(Malformed("a name that ends in a number is an address"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this name lies below `other` and is not itself it.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0
            .strip_suffix(other.as_str())
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl Cidr {
    /// Reads `ADDRESS/PREFIX`, or an address for itself alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address
            .parse()
            .map_err(|_| Malformed("an address has four numbers, or groups with colons"))?;
        let most = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|length| *length <= most)
                .ok_or(Malformed("a prefix length is at most 32, or 128 for IPv6"))?,
        };
        let cidr = Self { network, prefix };
        if cidr.masked(network) == bits(network) {
            Ok(cidr)
        } else {
            Err(Malformed("the address has bits below its prefix"))
        }
    }

    /// Its lowest address.
    pub fn lowest(&self) -> IpAddr {
        self.network
    }

    /// The length of its prefix.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in it; never for another family.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.network.is_ipv4() && self.masked(address) == bits(self.network)
    }

    /// Whether every address of `other` is in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.network)
    }

    /// A network of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    fn masked(&self, address: IpAddr) -> u128 {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let below = width - u32::from(self.prefix);
        bits(address)
            .checked_shr(below)
            .and_then(|top| top.checked_shl(below))
            .unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl Target {
    /// Reads `NAME`, `*.NAME`, `ADDRESS` or `ADDRESS/PREFIX`. What ends in a number or
    /// has a `/` or `:` is an address and never a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.contains("://") {
            return Err(Malformed("a destination has no scheme and no path"));
        }
        if let Some(zone) = text.strip_prefix("*.") {
            return Name::parse(zone).map(Self::Below);
        }
        if text.contains('*') {
            return Err(Malformed("`*` stands only in front of a name: *.NAME"));
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if number || text.contains(['/', ':']) {
            Cidr::parse(text).map(Self::Network)
        } else {
            Name::parse(text).map(Self::Host)
        }
    }

    /// Whether whatever `other` leads to, this one does too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(name), Self::Host(other)) => name == other,
            (Self::Below(zone), Self::Host(name)) => name.is_below(zone),
            (Self::Below(zone), Self::Below(other)) => zone == other || other.is_below(zone),
            (Self::Network(network), Self::Network(other)) => network.covers(other),
            (Self::Host(_), _) | (Self::Below(_), _) | (Self::Network(_), _) => false,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host(name) => name.fmt(out),
            Self::Below(zone) => write!(out, "*.{zone}"),
            Self::Network(network) => network.fmt(out),
        }
    }
}

impl Ports {
    /// One port.
    pub fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// Reads `PORT` or `FIRST-LAST`, each 1 to 65535.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let port = |text: &str| {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
            let number = text.parse().ok().filter(|_| plain);
            number.ok_or(Malformed("a port is a number from 1 to 65535"))
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(Malformed("the last port is below the first"));
        }
        Ok(Self { first, last })
    }

    /// Whether every port of `other` is in it.
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(out),
            false => write!(out, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        assert_eq!(Name::parse("Crates.IO").unwrap().as_str(), "crates.io");
        for bad in [
            "", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a_b.c", "ä.de", "1.2.3.4", "a.0x7f",
            "a b", "a\0b", "127.1", "xn--.1",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Name::parse(&"a".repeat(64)).is_err());
    }

    #[test]
    fn below_is_a_whole_label_away() {
        let zone = Name::parse("example.com").unwrap();
        assert!(Name::parse("a.b.example.com").unwrap().is_below(&zone));
        assert!(!zone.is_below(&zone));
        assert!(!Name::parse("badexample.com").unwrap().is_below(&zone));
    }

    #[test]
    fn a_network_has_no_bits_below_its_prefix() {
        let network = Cidr::parse("10.1.2.0/24").unwrap();
        assert!(network.contains("10.1.2.255".parse().unwrap()));
        assert!(!network.contains("10.1.3.0".parse().unwrap()));
        assert!(!network.contains("::ffff:10.1.2.3".parse().unwrap()));
        assert!(
            Cidr::parse("0.0.0.0/0")
                .unwrap()
                .contains("9.9.9.9".parse().unwrap())
        );
        assert!(
            Cidr::parse("::/0")
                .unwrap()
                .contains("2001:db8::1".parse().unwrap())
        );
        for bad in [
            "10.1.2.3/24",
            "10.0.0.0/33",
            "10.1/16",
            "010.1.2.3",
            "10.0.0.0/",
            "x",
        ] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_is_a_name_or_an_address_and_never_both() {
        let shown = |text: &str| Target::parse(text).map(|target| target.to_string());
        for (text, printed) in [
            ("Crates.IO", "crates.io"),
            ("*.Example.org", "*.example.org"),
            ("10.1.2.0/24", "10.1.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(printed));
            assert_eq!(shown(printed).as_deref(), Ok(printed));
        }
        for bad in [
            "",
            "*",
            "*.",
            "a.*.b",
            "*a.b",
            "*.*.a",
            "https://a.b",
            "a.b/c",
            "a.b:1",
            "127.1",
            "010.0.0.1",
            "1.2.3.4.5",
            "a.0x7f",
            "*.1.2.3.4",
            "10.0.0.1/8",
            "a.b.",
            "a b",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn targets_cover_what_lies_in_them() {
        let covers = |wide: &str, narrow: &str| {
            Target::parse(wide)
                .unwrap()
                .covers(&Target::parse(narrow).unwrap())
        };
        assert!(covers("*.a.b", "x.a.b") && covers("*.a.b", "*.x.a.b"));
        assert!(!covers("*.a.b", "a.b") && !covers("*.x.a.b", "*.a.b"));
        assert!(covers("10.0.0.0/8", "10.1.0.0/16") && !covers("10.1.0.0/16", "10.0.0.0/8"));
        assert!(!covers("0.0.0.0/0", "::/0") && !covers("0.0.0.0/0", "a.b"));
    }

    #[test]
    fn ports_are_plain_numbers_in_order() {
        let ports = Ports::parse("80-443").unwrap();
        assert!(ports.covers(Ports::one(80)) && ports.covers(Ports::one(443)));
        assert!(!ports.covers(Ports::one(444)));
        assert_eq!(ports.to_string(), "80-443");
        assert_eq!(Ports::parse("7-7").unwrap().to_string(), "7");
        for bad in [
            "", "0", "65536", "+1", "01", "-1", "1-", "2-1", "1-2-3", "https",
        ] {
            assert!(Ports::parse(bad).is_err(), "{bad}");
        }
    }
}
