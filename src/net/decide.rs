//! [pure] Rules and what was asked for, to the grant that allows it or the reason why none does.

use crate::net::grant::{Grant, Name, Proto, Rules, Target};
use crate::net::record::Reason;
use core::net::Ipv4Addr;

/// A grant that covers what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Its index in the rules.
    pub grant: u16,
    /// How the connection is read.
    pub proto: Proto,
}

/// Whether any grant covers a name, on any port.
///
/// # Errors
/// Not granted.
pub fn decide_query(rules: &Rules, name: &Name) -> Result<(), Reason> {
    let covers = |grant: &Grant| is_of(&grant.to, name);
    let covered = rules.grants.iter().any(covers);
    covered.then_some(()).ok_or(Reason::NotGranted)
}

/// The first grant that covers a name and port.
///
/// # Errors
/// Not granted, or not this port.
pub fn decide_name(rules: &Rules, name: &Name, port: u16) -> Result<Allowed, Reason> {
    let found = first(rules, port, |target| is_of(target, name))?;
    let by_port = match port {
        443 => Proto::Tls,
        80 => Proto::Http,
        _ => Proto::Raw,
    };
    Ok(Allowed {
        grant: found.0,
        proto: found.1.proto.unwrap_or(by_port),
    })
}

/// The first grant that covers an address and port.
///
/// # Errors
/// Not granted, or not this port.
pub fn decide_address(rules: &Rules, address: Ipv4Addr, port: u16) -> Result<Allowed, Reason> {
    let within = |target: &Target| match target {
        Target::Network(network) => network.contains(address.into()),
        Target::Host(_) | Target::Below(_) => false,
    };
    let (grant, _) = first(rules, port, within)?;
    Ok(Allowed {
        grant,
        proto: Proto::Raw,
    })
}

fn is_of(target: &Target, name: &Name) -> bool {
    match target {
        Target::Host(host) => host == name,
        Target::Below(zone) => name.is_below(zone),
        Target::Network(_) => false,
    }
}

fn first(
    rules: &Rules,
    port: u16,
    covers: impl Fn(&Target) -> bool,
) -> Result<(u16, &Grant), Reason> {
    let mut why = Reason::NotGranted;
    for (index, grant) in (0..).zip(&rules.grants) {
        if !covers(&grant.to) {
            continue;
        }
        let open = |ports: &crate::net::grant::Ports| ports.first <= port && port <= ports.last;
        if grant.ports.iter().any(open) {
            return Ok((index, grant));
        }
        why = Reason::Port;
    }
    Err(why)
}
