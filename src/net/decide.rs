//! [pure] Decides about each query and connection of a job: the grant that allows it, or why none does.
//!
//! ```text
//! dns ──────────→ address of its own     connect ──→ Dial ──→ hello / request ──→ dialled ──→ closed
//!  └──→ resolved ──↗                           └───→ Refuse
//! ```
//! `connect` says what may be dialled and how the first bytes are read; what they say is
//! compared with it (`hello`, `request`), and every address is (`dialled`) right before
//! it is dialled. The caller resolves, asks the kernel for its route and dials.

use super::budget::{Bucket, NAMES_AT_ONCE, NAMES_PER_SECOND, is_too_deep};
use super::dns::{Kind, Query, Reply};
use super::grant::{Grant, Name, Proto, Rules, Target, WithoutName};
use super::pool::{NAMES, Pool};
use super::special::{block, unmapped};
use super::{http, tls};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use serde::{Deserialize, Serialize};

/// How many seconds a client keeps an address: short, since it may go to another name.
pub const TTL: u32 = 60;

/// Decides for one sandbox.
#[derive(Clone, Debug)]
pub struct Decider {
    rules: Rules,
    pool: Pool,
    open: u32,
    new: Bucket,
    dns: Bucket,
    ipv6: bool,
    names: Bucket,
}

/// What is done about a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is answered.
    pub reply: Reply,
    /// As [`Dial::grant`], or why it is not answered.
    pub verdict: Result<usize, Reason>,
}

/// What resolvers say of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These are its addresses, of both families.
    Addresses(Vec<IpAddr>),
    /// There is such a name, without addresses.
    NoAddress,
    /// There is no such name.
    NoSuchName,
    /// No resolver says anything.
    Nothing,
}

/// What is done about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on. It counts until [`Decider::closed`].
    Dial(Dial),
    /// It is reset, and counts no more. The name, if its address was one's.
    Refuse(Reason, Option<Name>),
}

/// What a connection may be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Where to.
    pub to: To,
    /// The port.
    pub port: u16,
    /// How the first bytes are read.
    pub proto: Proto,
    /// The index of the grant; the one after the last stands for [`Rules::open`].
    pub grant: usize,
}

/// Where a connection leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To an address of this name.
    Name(Name),
    /// To this address.
    Address(IpAddr),
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No grant has this name or address.
    NotGranted,
    /// Grants have this name or address, with other ports.
    Port,
    /// The address is for names, and has none.
    NoName,
    /// All addresses for names have open connections.
    PoolFull,
    /// As many connections are open as may be.
    Connections,
    /// More connections or queries than may be in a second.
    Rate,
    /// The connection does not begin with TLS, as it has to.
    NotTls,
    /// The client hello cannot be read, or in two ways.
    Hello,
    /// The client hello has no server name.
    HelloWithoutName,
    /// The client hello is for another name.
    HelloName,
    /// The HTTP request cannot be read, or in two ways.
    Request,
    /// The HTTP request is for another host.
    RequestHost,
    /// The address is special, and no grant has it.
    Special,
    /// The name has too many labels below its wildcard.
    Depth,
    /// Too many names below wildcards are new.
    Names,
}

impl Reason {
    /// All of them, each at its own number.
    pub const ALL: [Self; 15] = [
        Self::NotGranted,
        Self::Port,
        Self::NoName,
        Self::PoolFull,
        Self::Connections,
        Self::Rate,
        Self::NotTls,
        Self::Hello,
        Self::HelloWithoutName,
        Self::HelloName,
        Self::Request,
        Self::RequestHost,
        Self::Special,
        Self::Depth,
        Self::Names,
    ];

    /// What happened, for a person.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotGranted => "no grant has it",
            Self::Port => "no grant has it with this port",
            Self::NoName => "the address belongs to no name; it may be an old one",
            Self::PoolFull => "every address for names has open connections",
            Self::Connections => "as many connections are open as the policy allows",
            Self::Rate => "there were more in a second than the policy allows",
            Self::NotTls => "it does not begin with TLS, as this port has to",
            Self::Hello => "the client hello cannot be read",
            Self::HelloWithoutName => "the client hello has no server name",
            Self::HelloName => "the client hello is for another name",
            Self::Request => "the HTTP request cannot be read",
            Self::RequestHost => "the HTTP request is for another host",
            Self::Special => "the address is no public one",
            Self::Depth => "the name has too many labels below the wildcard",
            Self::Names => "there were too many new names below wildcards",
        }
    }
}

impl Decider {
    /// For a sandbox that has used nothing yet, and has IPv6 inside or not.
    pub fn new(rules: Rules, ipv6: bool) -> Self {
        Self {
            ipv6,
            pool: Pool::new(NAMES),
            open: 0,
            new: Bucket::per_second(rules.limits.new_per_second),
            dns: Bucket::per_second(rules.limits.dns_per_second),
            names: Bucket::holding(NAMES_AT_ONCE, NAMES_PER_SECOND),
            rules,
        }
    }

    /// The rules it decides by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether one more query fits into this second: to be asked for what
    /// [`super::dns::parse`] refuses, since [`Decider::dns`] asks itself. `now` is the time since
    /// any one moment.
    pub fn query_fits(&mut self, now: Duration) -> bool {
        self.dns.take(now)
    }

    /// Answers a query from what is granted; of a name without a grant nobody is ever asked.
    /// HTTPS and SVCB records are never there, so no client learns a key that would hide the
    /// server name (RFC 9848).
    ///
    /// A name that the policy spells is answered at once, whoever is silent. One that the job
    /// chose, below a wildcard or in mode open, may not exist: then this is None, and
    /// [`Decider::resolved`] answers.
    pub fn dns(&mut self, query: &Query, now: Duration) -> Option<Answer> {
        if !self.query_fits(now) {
            return Some(refuse(Reply::Refused, Reason::Rate));
        }
        let Some(grant) = self.for_query(&query.name) else {
            return Some(refuse(Reply::NameError, Reason::NotGranted));
        };
        match self.new_name(&query.name, grant, now) {
            Ok(()) => {}
            Err(Reason::Depth) => return Some(refuse(Reply::NameError, Reason::Depth)),
            Err(reason) => return Some(refuse(Reply::Refused, reason)),
        }
        let spelt = self.rules.grants.get(grant).map(|grant| &grant.to);
        match (query.kind, spelt) {
            (Kind::Aaaa, _) if !self.ipv6 => Some(answered(Reply::NoData, grant)),
            (Kind::Other(_), _) => Some(answered(Reply::NoData, grant)),
            (Kind::A | Kind::Aaaa, Some(Target::Host(_))) => Some(self.address(query, grant)),
            (Kind::A | Kind::Aaaa, _) => None,
        }
    }

    /// Answers a query of [`Decider::dns`] by what was found of its name. One with special
    /// addresses alone, which nothing granted has, leads nowhere and is refused at once.
    pub fn resolved(&mut self, query: &Query, found: &Found) -> Answer {
        let Some(grant) = self.for_query(&query.name) else {
            return refuse(Reply::NameError, Reason::NotGranted);
        };
        let found = match found {
            Found::Addresses(found) => found,
            Found::NoAddress => return answered(Reply::NoData, grant),
            Found::NoSuchName => return answered(Reply::NameError, grant),
            Found::Nothing => return answered(Reply::ServerFailure, grant),
        };
        let mut leads = found.iter().map(|address| unmapped(*address));
        let mut leads = leads
            .by_ref()
            .filter(|address| self.may_lead(*address))
            .peekable();
        if leads.peek().is_none() {
            return refuse(Reply::Refused, Reason::Special);
        }
        if leads.any(|address| address.is_ipv6() == (query.kind == Kind::Aaaa)) {
            self.address(query, grant)
        } else {
            answered(Reply::NoData, grant)
        }
    }

    /// The name's own address of the family that is asked for.
    fn address(&mut self, query: &Query, grant: usize) -> Answer {
        let address = match query.kind {
            Kind::A => self.pool.address(&query.name).map(IpAddr::V4),
            Kind::Aaaa => self.pool.address6(&query.name).map(IpAddr::V6),
            Kind::Other(_) => return answered(Reply::NoData, grant),
        };
        match address {
            Some(address) => answered(Reply::Address(address, TTL), grant),
            None => refuse(Reply::ServerFailure, Reason::PoolFull),
        }
    }

    fn for_query(&self, name: &Name) -> Option<usize> {
        let grant = self.for_name(name).next();
        grant.or_else(|| self.open_to(name))
    }

    /// Whether an address could be dialled by some port.
    fn may_lead(&self, address: IpAddr) -> bool {
        block(address).is_none() || self.for_address(address).next().is_some()
    }

    /// Names that the job invents below a wildcard have a budget; those it has already, and
    /// those that the policy names, cost nothing.
    fn new_name(&mut self, name: &Name, grant: usize, now: Duration) -> Result<(), Reason> {
        let Some(Target::Below(zone)) = self.rules.grants.get(grant).map(|grant| &grant.to) else {
            return Ok(());
        };
        if is_too_deep(name, zone) {
            return Err(Reason::Depth);
        }
        if self.pool.has(name) || self.names.take(now) {
            Ok(())
        } else {
            Err(Reason::Names)
        }
    }

    /// Decides about a connection by the address and port that the job asked for, which is
    /// never an IPv4-mapped one.
    pub fn connect(&mut self, asked: SocketAddr, now: Duration) -> Verdict {
        if !self.new.take(now) {
            return Verdict::Refuse(Reason::Rate, None);
        }
        if self.open >= self.rules.limits.connections {
            return Verdict::Refuse(Reason::Connections, None);
        }
        let verdict = self.target(asked);
        if let Verdict::Dial(_) = verdict {
            self.open = self.open.saturating_add(1);
            self.pool.open(asked.ip());
        }
        verdict
    }

    fn target(&self, asked: SocketAddr) -> Verdict {
        let (address, port) = (asked.ip(), asked.port());
        if !Pool::holds(address) {
            let grants = self.for_address(address);
            return match self.with_port(grants, port).or_else(|reason| {
                match (self.rules.open, block(address)) {
                    (false, _) => Err(reason),
                    (true, None) => Ok(self.rules.grants.len()),
                    (true, Some(_)) => Err(Reason::Special),
                }
            }) {
                Ok(grant) => self.dial(To::Address(address), port, grant),
                Err(reason) => Verdict::Refuse(reason, None),
            };
        }
        let Some(name) = self.pool.name(address) else {
            return Verdict::Refuse(Reason::NoName, None);
        };
        let granted = self.with_port(self.for_name(name), port);
        match granted.or_else(|reason| self.open_to(name).ok_or(reason)) {
            Ok(grant) => self.dial(To::Name(name.clone()), port, grant),
            Err(reason) => Verdict::Refuse(reason, Some(name.clone())),
        }
    }

    /// What stands for a name that no grant has, with this port: in mode open all of them,
    /// but `localhost`, which is never asked of a resolver (RFC 6761 §6.3).
    fn open_to(&self, name: &Name) -> Option<usize> {
        let own = name.as_str().rsplit('.').next() == Some("localhost");
        (self.rules.open && !own).then_some(self.rules.grants.len())
    }

    fn dial(&self, to: To, port: u16, grant: usize) -> Verdict {
        let asked = match self.rules.grants.get(grant) {
            Some(grant) => grant.proto,
            None => Some(Proto::Raw),
        };
        let proto = match (&to, asked) {
            // An address has no name that a hello or a request could be compared with.
            (To::Address(_), _) => Proto::Raw,
            (To::Name(_), Some(proto)) => proto,
            (To::Name(_), None) => default_proto(port),
        };
        Verdict::Dial(Dial {
            to,
            port,
            proto,
            grant,
        })
    }

    /// One connection less, which [`Decider::connect`] had let through.
    pub fn closed(&mut self, asked: SocketAddr) {
        self.open = self.open.saturating_sub(1);
        self.pool.close(asked.ip());
    }

    /// Compares how a connection begins with the name that was asked for.
    ///
    /// # Errors
    /// Why it is reset.
    pub fn hello(&self, asked: &Name, hello: &tls::Outcome) -> Result<(), Reason> {
        let reason = match hello {
            tls::Outcome::Name { name, .. } if name == asked => return Ok(()),
            tls::Outcome::Name { .. } => Reason::HelloName,
            tls::Outcome::NoName { .. } => Reason::HelloWithoutName,
            tls::Outcome::NotTls => return Err(Reason::NotTls),
            tls::Outcome::Malformed(_) => return Err(Reason::Hello),
        };
        match self.rules.tls_without_name {
            WithoutName::Refuse => Err(reason),
            WithoutName::Allow => Ok(()),
        }
    }

    /// Compares the host of a request with the name and port that were asked for.
    ///
    /// # Errors
    /// [`Reason::RequestHost`].
    pub fn request(&self, asked: &Name, port: u16, host: &http::Host) -> Result<(), Reason> {
        if host.name == *asked && host.port.is_none_or(|written| written == port) {
            Ok(())
        } else {
            Err(Reason::RequestHost)
        }
    }

    /// Decides about an address right before it is dialled, wherever it came from: a special one
    /// needs a grant of a network inside its special block, so that `0.0.0.0/0` opens neither
    /// loopback nor metadata, and `169.254.0.0/16` no metadata.
    ///
    /// # Errors
    /// [`Reason::Special`].
    pub fn dialled(&self, address: IpAddr, port: u16) -> Result<(), Reason> {
        let address = unmapped(address);
        if block(address).is_none() || self.with_port(self.for_address(address), port).is_ok() {
            Ok(())
        } else {
            Err(Reason::Special)
        }
    }

    /// Whether a network that is granted with this port has the address: then it may be a
    /// neighbour of this host, which no name may lead to.
    pub fn has_network(&self, address: IpAddr, port: u16) -> bool {
        let grants = self.for_address(unmapped(address));
        self.with_port(grants, port).is_ok()
    }

    /// Grants of the name, those that have it by itself first.
    fn for_name<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = usize> + 'a {
        let itself = self.granted(move |to| matches!(to, Target::Host(host) if host == name));
        let below =
            self.granted(move |to| matches!(to, Target::Below(zone) if name.is_below(zone)));
        itself.chain(below)
    }

    /// Grants of a network with the address. Of two networks with one address in common the
    /// one with the longer prefix lies in the other.
    fn for_address(&self, address: IpAddr) -> impl Iterator<Item = usize> + '_ {
        let least = block(address).map_or(0, |block| block.prefix);
        self.granted(move |to| match to {
            Target::Network(network) => network.contains(address) && network.prefix() >= least,
            Target::Host(_) | Target::Below(_) => false,
        })
    }

    fn granted<'a>(
        &'a self,
        is: impl Fn(&Target) -> bool + 'a,
    ) -> impl Iterator<Item = usize> + 'a {
        let grants = self.rules.grants.iter().enumerate();
        grants
            .filter(move |(_, grant)| is(&grant.to))
            .map(|(at, _)| at)
    }

    /// The first of these grants that has the port.
    fn with_port(&self, grants: impl Iterator<Item = usize>, port: u16) -> Result<usize, Reason> {
        let mut reason = Reason::NotGranted;
        for at in grants {
            match self.rules.grants.get(at) {
                Some(grant) if has_port(grant, port) => return Ok(at),
                _ => reason = Reason::Port,
            }
        }
        Err(reason)
    }
}

fn refuse(reply: Reply, reason: Reason) -> Answer {
    Answer {
        reply,
        verdict: Err(reason),
    }
}

fn answered(reply: Reply, grant: usize) -> Answer {
    Answer {
        reply,
        verdict: Ok(grant),
    }
}

fn has_port(grant: &Grant, port: u16) -> bool {
    let mut ports = grant.ports.iter();
    ports.any(|ports| ports.first <= port && port <= ports.last)
}

/// How a connection to a name is read where its grant does not say.
pub fn default_proto(port: u16) -> Proto {
    match port {
        443 => Proto::Tls,
        80 => Proto::Http,
        _ => Proto::Raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns;
    use crate::net::grant::{Cidr, Limits, Ports};
    use core::net::Ipv4Addr;

    const START: Duration = Duration::ZERO;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn grant(to: Target, ports: &[u16], proto: Option<Proto>) -> Grant {
        let ports = ports.iter().map(|&port| Ports {
            first: port,
            last: port,
        });
        Grant {
            to,
            ports: ports.collect(),
            proto,
        }
    }

    fn network(text: &str) -> Target {
        Target::Network(Cidr::parse(text).unwrap())
    }

    fn decider(limits: Limits) -> Decider {
        let rules = Rules {
            grants: vec![
                grant(Target::Below(name("cdn.example")), &[80, 443], None),
                grant(Target::Host(name("git.example")), &[22, 443], None),
                grant(
                    Target::Host(name("raw.cdn.example")),
                    &[443],
                    Some(Proto::Raw),
                ),
                grant(network("10.1.2.0/24"), &[443, 5432], None),
                grant(network("0.0.0.0/0"), &[123], None),
                grant(network("169.254.0.0/16"), &[80], None),
            ],
            open: false,
            tls_without_name: WithoutName::Refuse,
            limits,
        };
        Decider::new(rules, true)
    }

    const MANY: Limits = Limits {
        connections: 1000,
        new_per_second: 1000,
        dns_per_second: 1000,
    };

    fn ask(decider: &mut Decider, text: &str) -> Answer {
        ask_for(
            decider,
            text,
            dns::Kind::A,
            &["93.184.216.34", "2606:2800::1"],
        )
    }

    /// With what is found of a name that has to be resolved.
    fn ask_for(decider: &mut Decider, text: &str, kind: dns::Kind, found: &[&str]) -> Answer {
        let query = dns::parse(&dns::query(1, &name(text), kind)).unwrap();
        let found = found.iter().map(|address| address.parse().unwrap());
        let found = Found::Addresses(found.collect());
        let answer = decider.dns(&query, START);
        answer.unwrap_or_else(|| decider.resolved(&query, &found))
    }

    fn address(decider: &mut Decider, text: &str) -> IpAddr {
        match ask(decider, text).reply {
            Reply::Address(address, _) => address,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn connect(decider: &mut Decider, address: IpAddr, port: u16) -> Verdict {
        decider.connect(SocketAddr::new(address, port), START)
    }

    #[test]
    fn only_granted_names_have_an_address() {
        let mut decider = decider(MANY);
        assert_eq!(ask(&mut decider, "git.example").verdict, Ok(1));
        assert_eq!(ask(&mut decider, "a.b.cdn.example").verdict, Ok(0));
        assert_eq!(ask(&mut decider, "raw.cdn.example").verdict, Ok(2));
        for none in ["cdn.example", "a.git.example", "xgit.example", "example"] {
            let refused = Answer {
                reply: Reply::NameError,
                verdict: Err(Reason::NotGranted),
            };
            assert_eq!(ask(&mut decider, none), refused, "{none}");
        }
    }

    #[test]
    fn other_records_of_a_granted_name_are_not_there() {
        let mut decider = decider(MANY);
        for kind in [64, 65, 16, 255] {
            let mut message = dns::query(1, &name("git.example"), dns::Kind::A);
            let at = message.len() - 3;
            message[at] = kind;
            let answer = decider.dns(&dns::parse(&message).unwrap(), START).unwrap();
            assert_eq!(
                (answer.reply, answer.verdict),
                (Reply::NoData, Ok(1)),
                "{kind}"
            );
        }
    }

    #[test]
    fn both_addresses_of_a_name_lead_to_it_where_there_is_ipv6() {
        let mut decider = decider(MANY);
        let six = dns::query(1, &name("git.example"), dns::Kind::Aaaa);
        let six = dns::parse(&six).unwrap();
        let Reply::Address(to, TTL) = decider.dns(&six, START).unwrap().reply else {
            panic!("no address");
        };
        assert!(to.is_ipv6());
        let one = connect(&mut decider, to, 443);
        assert!(matches!(&one, Verdict::Dial(dial) if dial.to == To::Name(name("git.example"))));
        let other = address(&mut decider, "git.example");
        assert_eq!(connect(&mut decider, other, 443), one);
        decider.ipv6 = false;
        assert_eq!(decider.dns(&six, START).unwrap().reply, Reply::NoData);
    }

    #[test]
    fn a_name_with_an_open_connection_keeps_its_address() {
        let mut decider = decider(MANY);
        decider.pool = Pool::new(2);
        let leads = |decider: &mut Decider, at| match connect(decider, at, 443) {
            Verdict::Dial(Dial { to, .. }) => to,
            other => panic!("{other:?}"),
        };
        let at = address(&mut decider, "a.cdn.example");
        let a = To::Name(name("a.cdn.example"));
        assert_eq!(leads(&mut decider, at), a);
        for other in ["b", "c", "d", "e"] {
            address(&mut decider, &format!("{other}.cdn.example"));
        }
        assert_eq!(leads(&mut decider, at), a);
        let asked = SocketAddr::new(at, 443);
        for (closed, kept) in [(1, true), (2, false)] {
            decider.closed(asked);
            for other in ["f", "g", "h"] {
                address(&mut decider, &format!("{other}{closed}.cdn.example"));
            }
            assert_eq!(decider.pool.name(at) == Some(&name("a.cdn.example")), kept);
        }
    }

    #[test]
    fn a_neighbour_needs_a_network_with_its_port() {
        let decider = decider(MANY);
        for (address, port, has) in [
            ("10.1.2.3", 443, true),
            ("::ffff:10.1.2.3", 443, true),
            ("10.1.2.3", 22, false),
            ("10.1.3.3", 443, false),
            ("9.9.9.9", 123, true),
            ("2620:fe::fe", 123, false),
        ] {
            let found = decider.has_network(address.parse().unwrap(), port);
            assert_eq!(found, has, "{address} {port}");
        }
    }

    #[test]
    fn an_address_of_a_name_leads_to_it_with_its_ports() {
        let mut decider = decider(MANY);
        for (text, port, proto, grant) in [
            ("git.example", 443, Proto::Tls, 1),
            ("git.example", 22, Proto::Raw, 1),
            ("a.cdn.example", 80, Proto::Http, 0),
            ("raw.cdn.example", 443, Proto::Raw, 2),
            ("raw.cdn.example", 80, Proto::Http, 0),
        ] {
            let address = address(&mut decider, text);
            let to = To::Name(name(text));
            let dial = Dial {
                to,
                port,
                proto,
                grant,
            };
            assert_eq!(connect(&mut decider, address, port), Verdict::Dial(dial));
        }
        let address = address(&mut decider, "git.example");
        let refused = Verdict::Refuse(Reason::Port, Some(name("git.example")));
        assert_eq!(connect(&mut decider, address, 80), refused);
        let nobody = Verdict::Refuse(Reason::NoName, None);
        assert_eq!(connect(&mut decider, [198, 19, 0, 9].into(), 443), nobody);
    }

    #[test]
    fn addresses_are_dialled_by_networks_only() {
        let mut decider = decider(MANY);
        let to = |address: [u8; 4], port, grant| {
            Verdict::Dial(Dial {
                to: To::Address(IpAddr::from(address)),
                port,
                proto: Proto::Raw,
                grant,
            })
        };
        let refused = |reason| Verdict::Refuse(reason, None);
        for (address, port, verdict) in [
            ([10, 1, 2, 3], 5432, to([10, 1, 2, 3], 5432, 3)),
            ([10, 1, 2, 3], 443, to([10, 1, 2, 3], 443, 3)),
            ([10, 1, 2, 3], 22, refused(Reason::Port)),
            ([10, 1, 3, 3], 5432, refused(Reason::NotGranted)),
            ([9, 9, 9, 9], 123, to([9, 9, 9, 9], 123, 4)),
            ([9, 9, 9, 9], 53, refused(Reason::Port)),
            ([127, 0, 0, 1], 123, refused(Reason::NotGranted)),
            ([169, 254, 169, 254], 123, refused(Reason::NotGranted)),
            ([198, 18, 0, 1], 123, refused(Reason::NoName)),
        ] {
            assert_eq!(
                connect(&mut decider, IpAddr::from(address), port),
                verdict,
                "{address:?}"
            );
        }
    }

    #[test]
    fn open_adds_every_name_and_public_address_and_nothing_special() {
        let mut decider = decider(MANY);
        decider.rules.open = true;
        let open = decider.rules.grants.len();
        assert_eq!(ask(&mut decider, "any.example").verdict, Ok(open));
        assert_eq!(
            ask(&mut decider, "a.localhost").verdict,
            Err(Reason::NotGranted)
        );
        let at = address(&mut decider, "any.example");
        let dials = |verdict: Verdict| match verdict {
            Verdict::Dial(dial) => Ok((dial.proto, dial.grant)),
            Verdict::Refuse(reason, _) => Err(reason),
        };
        assert_eq!(
            dials(connect(&mut decider, at, 443)),
            Ok((Proto::Raw, open))
        );
        // A grant still says how it is read.
        let at = address(&mut decider, "git.example");
        assert_eq!(dials(connect(&mut decider, at, 443)), Ok((Proto::Tls, 1)));
        assert_eq!(dials(connect(&mut decider, at, 25)), Ok((Proto::Raw, open)));
        for (address, port, verdict) in [
            ("9.9.9.9", 443, Ok((Proto::Raw, open))),
            ("2620:fe::fe", 443, Ok((Proto::Raw, open))),
            ("10.1.2.3", 5432, Ok((Proto::Raw, 3))),
            ("10.1.2.3", 22, Err(Reason::Special)),
            ("127.0.0.1", 22, Err(Reason::Special)),
            ("169.254.169.254", 80, Err(Reason::Special)),
            ("fd00:ec2::254", 80, Err(Reason::Special)),
            ("64:ff9b::10.0.0.1", 22, Err(Reason::Special)),
            ("fe80::1", 22, Err(Reason::Special)),
            ("224.0.0.1", 22, Err(Reason::Special)),
            ("198.18.9.9", 22, Err(Reason::NoName)),
        ] {
            let told = dials(connect(&mut decider, address.parse().unwrap(), port));
            assert_eq!(told, verdict, "{address} {port}");
        }
        assert!(
            decider
                .dialled("192.168.0.1".parse().unwrap(), 443)
                .is_err()
        );
    }

    #[test]
    fn a_special_address_needs_a_special_grant() {
        let decider = decider(MANY);
        for (address, port, may) in [
            ("9.9.9.9", 443, true),
            ("10.1.2.3", 443, true),
            ("::ffff:10.1.2.3", 443, true),
            ("10.1.2.3", 22, false),
            ("10.1.3.3", 443, false),
            ("127.0.0.1", 123, false),
            ("::ffff:127.0.0.1", 123, false),
            ("169.254.169.254", 123, false),
            ("169.254.169.254", 80, false),
            ("169.254.169.253", 80, true),
            ("64:ff9b::a9fe:a9fe", 123, false),
            ("198.18.0.1", 123, false),
            ("::1", 443, false),
        ] {
            let verdict = decider.dialled(address.parse().unwrap(), port);
            assert_eq!(verdict.is_ok(), may, "{address} {port}");
        }
    }

    #[test]
    fn a_hello_is_for_the_name_that_was_asked_for() {
        let mut decider = decider(MANY);
        let asked = name("git.example");
        let encrypted = false;
        let named = |text| tls::Outcome::Name {
            name: name(text),
            encrypted,
        };
        let none = tls::Outcome::NoName { encrypted };
        let cases = [
            (named("git.example"), Ok(()), Ok(())),
            (named("a.cdn.example"), Err(Reason::HelloName), Ok(())),
            (none, Err(Reason::HelloWithoutName), Ok(())),
            (
                tls::Outcome::NotTls,
                Err(Reason::NotTls),
                Err(Reason::NotTls),
            ),
            (
                tls::Outcome::Malformed("x"),
                Err(Reason::Hello),
                Err(Reason::Hello),
            ),
        ];
        for (outcome, refusing, _) in &cases {
            assert_eq!(decider.hello(&asked, outcome), *refusing);
        }
        decider.rules.tls_without_name = WithoutName::Allow;
        for (outcome, _, allowing) in &cases {
            assert_eq!(decider.hello(&asked, outcome), *allowing);
        }
    }

    #[test]
    fn a_request_is_for_the_name_and_port_that_were_asked_for() {
        let decider = decider(MANY);
        let asked = name("a.cdn.example");
        for (text, port, may) in [
            ("a.cdn.example", None, true),
            ("a.cdn.example", Some(80), true),
            ("a.cdn.example", Some(81), false),
            ("b.cdn.example", None, false),
        ] {
            let host = http::Host {
                name: name(text),
                port,
            };
            assert_eq!(
                decider.request(&asked, 80, &host).is_ok(),
                may,
                "{text} {port:?}"
            );
        }
    }

    #[test]
    fn open_connections_have_a_limit() {
        let mut decider = decider(Limits {
            connections: 2,
            ..MANY
        });
        let asked = SocketAddr::new(address(&mut decider, "git.example"), 443);
        let full = Verdict::Refuse(Reason::Connections, None);
        for _ in 0..2 {
            assert!(matches!(decider.connect(asked, START), Verdict::Dial(_)));
        }
        assert_eq!(decider.connect(asked, START), full);
        decider.closed(asked);
        let refused = SocketAddr::new(asked.ip(), 1);
        assert!(matches!(
            decider.connect(refused, START),
            Verdict::Refuse(Reason::Port, _)
        ));
        assert!(
            matches!(decider.connect(asked, START), Verdict::Dial(_)),
            "a refused one is none"
        );
        assert_eq!(decider.connect(asked, START), full);
    }

    #[test]
    fn a_second_has_a_limit_and_refills() {
        let mut decider = decider(Limits {
            new_per_second: 4,
            dns_per_second: 2,
            ..MANY
        });
        let asked = SocketAddr::new(Ipv4Addr::new(10, 1, 2, 3).into(), 443);
        let mut at = |millis| decider.connect(asked, Duration::from_millis(millis));
        let fast = Verdict::Refuse(Reason::Rate, None);
        for _ in 0..4 {
            assert_ne!(at(1000), fast);
        }
        assert_eq!(at(1000), fast);
        assert_eq!(at(1249), fast);
        assert_ne!(at(1250), fast);
        assert_eq!(at(0), fast, "time does not go back");
        for _ in 0..4 {
            assert_ne!(at(100_000), fast);
        }
        assert_eq!(at(100_000), fast, "what was not used is not saved");
        assert!(decider.query_fits(START));
        assert_eq!(ask(&mut decider, "git.example").verdict, Ok(1));
        let answer = ask(&mut decider, "git.example");
        assert_eq!(
            (answer.reply, answer.verdict),
            (Reply::Refused, Err(Reason::Rate))
        );
    }

    #[test]
    fn a_name_that_the_job_chose_is_resolved_first() {
        use dns::Kind::{A, Aaaa};
        let mut decider = decider(MANY);
        let query = |text, kind| dns::parse(&dns::query(1, &name(text), kind)).unwrap();
        assert!(decider.dns(&query("git.example", A), START).is_some());
        assert!(decider.dns(&query("other.example", A), START).is_some());
        let below = query("a.cdn.example", A);
        assert_eq!(decider.dns(&below, START), None);
        for (found, reply) in [
            (Found::NoSuchName, Reply::NameError),
            (Found::NoAddress, Reply::NoData),
            (Found::Nothing, Reply::ServerFailure),
        ] {
            assert_eq!(decider.resolved(&below, &found), answered(reply, 0));
        }
        assert!(!decider.pool.has(&below.name));
        for (kind, found, has) in [
            (A, &["1.1.1.1"][..], true),
            (Aaaa, &["1.1.1.1"], false),
            (A, &["2606:4700::1"], false),
            (Aaaa, &["2606:4700::1", "10.9.9.9"], true),
            (A, &["2606:4700::1", "10.9.9.9"], false),
            // A network that is granted has it.
            (A, &["10.1.2.3"], true),
        ] {
            let answer = ask_for(&mut decider, "a.cdn.example", kind, found);
            assert_eq!(matches!(answer.reply, Reply::Address(..)), has, "{found:?}");
            assert_eq!(answer.verdict, Ok(0), "{found:?}");
        }
        for inward in [
            "127.0.0.1",
            "10.9.9.9",
            "::1",
            "::ffff:10.9.9.9",
            "169.254.169.254",
        ] {
            let answer = ask_for(&mut decider, "a.cdn.example", A, &[inward]);
            assert_eq!(answer, refuse(Reply::Refused, Reason::Special), "{inward}");
        }
    }

    #[test]
    fn names_below_a_wildcard_have_a_budget() {
        let mut decider = decider(MANY);
        let deep = ask(&mut decider, "a.b.c.d.e.f.cdn.example");
        assert_eq!(
            (deep.reply, deep.verdict),
            (Reply::NameError, Err(Reason::Depth))
        );
        for number in 0..NAMES_AT_ONCE {
            let answer = ask(&mut decider, &format!("x{number}.cdn.example"));
            assert_eq!(answer.verdict, Ok(0), "{number}");
        }
        let spent = ask(&mut decider, "one-more.cdn.example");
        assert_eq!(
            (spent.reply, spent.verdict),
            (Reply::Refused, Err(Reason::Names))
        );
        for known in ["x7.cdn.example", "raw.cdn.example", "git.example"] {
            assert!(ask(&mut decider, known).verdict.is_ok(), "{known}");
        }
    }

    #[test]
    fn reasons_have_their_number() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, at);
            assert!(!reason.text().is_empty());
        }
    }
}
