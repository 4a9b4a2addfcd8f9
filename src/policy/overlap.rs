//! [pure] How grants of the network stand to each other: which lets through what another one does, which contradict.

use crate::net::decide::default_proto;
use crate::net::grant::{Cidr, Grant, Ports, Proto, Target};
use crate::net::special::{Block, block};
use crate::policy::NetworkGrant;
use crate::policy::words::Word;

/// How a connection to this port is read.
fn reads(grant: &Grant, port: u16) -> Proto {
    grant.proto.unwrap_or_else(|| default_proto(port))
}

/// Ports of a range that stand for all of it: those whose reading has a default
/// of its own, and one other, which three in a row always have.
fn samples(ports: Ports) -> impl Iterator<Item = u16> {
    let first = ports.first;
    let row = [first, first.saturating_add(1), first.saturating_add(2)];
    let all = [80, 443].into_iter().chain(row);
    all.filter(move |port| ports.covers(Ports::one(*port)))
}

/// The special addresses in which the network lies, and which it therefore opens:
/// a wider network opens public addresses only.
pub fn special(network: &Cidr) -> Option<Block> {
    block(network.lowest()).filter(|block| block.prefix <= network.prefix())
}

/// Whether every address that `narrow` opens is opened by `wide`, too.
fn opens(wide: &Cidr, narrow: &Cidr) -> bool {
    let special = block(narrow.lowest());
    let reaches = special.is_none_or(|block| block.prefix <= wide.prefix());
    wide == narrow || (wide.covers(narrow) && reaches)
}

/// Whether `wide` lets through all that `narrow` does. What is not read at all
/// lets everything through; ports are as [`NetworkGrant`] has them, joined.
pub fn covers(wide: &Grant, narrow: &Grant) -> bool {
    let target = match (&wide.to, &narrow.to) {
        (Target::Network(wide), Target::Network(narrow)) => opens(wide, narrow),
        (wide, narrow) => wide.covers(narrow),
    };
    let read = |port| {
        let by_wide = reads(wide, port);
        by_wide == Proto::Raw || by_wide == reads(narrow, port)
    };
    let port = |ports: &Ports| {
        wide.ports.iter().any(|wide| wide.covers(*ports)) && samples(*ports).all(read)
    };
    target && narrow.ports.iter().all(port)
}

/// Says so if both grants have a name and a port in common and read it differently.
///
/// A name by itself may go unread where a wildcard around it is read: the edge
/// takes the name's own grant first. Any other such pair would let the order of
/// grants decide, and taking the stricter one away would let more through.
pub fn contradiction(earlier: &NetworkGrant, later: &NetworkGrant) -> Option<String> {
    let (one, other) = (&earlier.grant, &later.grant);
    if !one.to.covers(&other.to) && !other.to.covers(&one.to) {
        return None;
    }
    let exception = |port| match (&one.to, &other.to) {
        (Target::Host(_), Target::Below(_)) => reads(one, port) == Proto::Raw,
        (Target::Below(_), Target::Host(_)) => reads(other, port) == Proto::Raw,
        _ => false,
    };
    let differs = |port: &u16| reads(one, *port) != reads(other, *port) && !exception(*port);
    let port = common(&one.ports, &other.ports)
        .flat_map(samples)
        .find(differs)?;
    Some(format!(
        "port {port} of {} is read as {} here and as {} by {} ({})",
        other.to,
        reads(other, port).word(),
        reads(one, port).word(),
        one.to,
        earlier.origin
    ))
}

/// The ranges that both have.
fn common<'p>(one: &'p [Ports], other: &'p [Ports]) -> impl Iterator<Item = Ports> + 'p {
    let pairs = one
        .iter()
        .flat_map(move |one| other.iter().map(move |other| (one, other)));
    pairs.filter_map(|(one, other)| {
        let (first, last) = (one.first.max(other.first), one.last.min(other.last));
        (first <= last).then_some(Ports { first, last })
    })
}

/// A sentence for each grant that adds nothing to another one.
pub fn redundant(allow: &[NetworkGrant]) -> Vec<String> {
    let one = |(at, narrow): (usize, &NetworkGrant)| {
        let mut others = allow.iter().enumerate();
        let (_, wide) = others.find(|(other, wide)| {
            // Of two that cover each other the first stays.
            let first = *other < at || !covers(&narrow.grant, &wide.grant);
            *other != at && covers(&wide.grant, &narrow.grant) && first
        })?;
        Some(format!(
            "network.allow with {} ({}) adds nothing to {} ({})",
            narrow.grant.to, narrow.origin, wide.grant.to, wide.origin
        ))
    };
    allow.iter().enumerate().filter_map(one).collect()
}

/// The ports as people write them: `80, 443, 8000-8099`.
pub fn ports_text(ports: &[Ports]) -> String {
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::origin::Origin;

    fn grant(to: &str, ports: &str, proto: Option<Proto>) -> Grant {
        Grant {
            to: Target::parse(to).unwrap(),
            ports: vec![Ports::parse(ports).unwrap()],
            proto,
        }
    }

    fn allow(grant: Grant, line: u32) -> NetworkGrant {
        NetworkGrant {
            grant,
            why: None,
            origin: Origin::File {
                path: "p".into(),
                line,
            },
        }
    }

    #[test]
    fn a_grant_covers_what_it_lets_through() {
        let web = grant("*.a.b", "443", None);
        assert!(covers(&web, &grant("x.a.b", "443", None)));
        assert!(covers(&web, &grant("x.a.b", "443", Some(Proto::Tls))));
        assert!(!covers(&web, &grant("x.a.b", "443", Some(Proto::Raw))));
        assert!(!covers(&web, &grant("x.a.b", "444", None)));
        let raw = grant("x.a.b", "1-65535", Some(Proto::Raw));
        assert!(covers(&raw, &grant("x.a.b", "443", None)));
        let every = grant("x.a.b", "1-65535", None);
        assert!(covers(&every, &grant("x.a.b", "22", Some(Proto::Raw))));
        assert!(covers(&every, &grant("x.a.b", "80-443", None)));
        assert!(covers(&every, &grant("x.a.b", "443", Some(Proto::Tls))));
        assert!(!covers(&every, &grant("x.a.b", "443", Some(Proto::Http))));
        assert!(!covers(&every, &raw));
        assert!(!covers(
            &every,
            &grant("x.a.b", "442-444", Some(Proto::Raw))
        ));
    }

    #[test]
    fn a_wide_network_covers_no_special_one() {
        let network = |to: &str| grant(to, "22", Some(Proto::Raw));
        let covers = |wide: &str, narrow: &str| covers(&network(wide), &network(narrow));
        assert!(covers("0.0.0.0/0", "9.9.9.0/24") && covers("10.0.0.0/8", "10.1.0.0/16"));
        assert!(!covers("0.0.0.0/0", "10.0.0.0/8") && !covers("10.0.0.0/7", "10.0.0.0/8"));
        assert!(!covers("169.254.0.0/16", "169.254.169.254"));
        for network in [
            "0.0.0.0/0",
            "10.0.0.0/7",
            "169.254.0.0/16",
            "169.254.169.254/31",
        ] {
            assert!(covers(network, network), "{network}");
        }
    }

    #[test]
    fn grants_that_read_one_port_of_one_name_differently_contradict() {
        let said = |one: Grant, other: Grant| contradiction(&allow(one, 1), &allow(other, 2));
        let raw = Some(Proto::Raw);
        assert_eq!(
            said(grant("*.a.b", "1-500", raw), grant("x.a.b", "443", None)).as_deref(),
            Some("port 443 of x.a.b is read as tls here and as raw by *.a.b (p:1)")
        );
        let fine = [
            (grant("*.a.b", "443", None), grant("x.a.b", "443", raw)),
            (grant("x.a.b", "443", raw), grant("*.a.b", "443", None)),
            (
                grant("*.a.b", "443", None),
                grant("x.a.b", "443", Some(Proto::Tls)),
            ),
            (grant("*.a.b", "443", None), grant("a.b", "443", raw)),
            (grant("a.b", "443", None), grant("a.b", "444", raw)),
        ];
        for (one, other) in fine {
            assert_eq!(said(one, other), None);
        }
        let bad = [
            (grant("a.b", "443", None), grant("a.b", "443", raw)),
            (grant("*.a.b", "80", None), grant("*.x.a.b", "80", raw)),
            (grant("*.x.a.b", "80", raw), grant("*.a.b", "80", None)),
            (
                grant("x.a.b", "8443", Some(Proto::Tls)),
                grant("*.a.b", "8000-9000", None),
            ),
            (grant("a.b", "79-81", raw), grant("a.b", "78-90", None)),
        ];
        for (one, other) in bad {
            assert!(
                said(one.clone(), other.clone()).is_some(),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn of_equal_grants_the_later_is_redundant() {
        let web = |to: &str, line| allow(grant(to, "443", None), line);
        assert_eq!(
            redundant(&[web("x.a.b", 1), web("*.a.b", 2), web("c.d", 3)]),
            ["network.allow with x.a.b (p:1) adds nothing to *.a.b (p:2)"]
        );
        assert_eq!(
            redundant(&[web("a.b", 1), web("a.b", 2)]),
            ["network.allow with a.b (p:2) adds nothing to a.b (p:1)"]
        );
    }
}
