//! [pure] What a policy lets a job reach: which grants can match at all, which need a reason, which add nothing.

use crate::net::grant::{Cidr, Grant, Malformed, Ports, Proto, Target};
use crate::net::suffix;
use crate::policy::leaf::Sentence;
use crate::policy::schema::{RawNetwork, RawReach};
use crate::policy::validate::Check;
use crate::policy::{NetworkGrant, NetworkMode, NetworkRules};
use crate::source::diagnostic::Diagnostic;
use crate::source::text::{At, Written};

/// Networks that no packet of a job reaches through us, with why.
const NEVER: &[(&str, &str)] = &[
    ("0.0.0.0/8", "no host has such an address"),
    ("127.0.0.0/8", "that is the sandbox's own loopback"),
    ("169.254.7.0/30", "these are the sandbox's own addresses"),
    (
        "198.18.0.0/15",
        "these addresses stand for names inside the sandbox",
    ),
    ("224.0.0.0/3", "no connection is made to such an address"),
];

/// The most grants of a policy: each connection is held against all of them.
const GRANTS_MAX: usize = 1024;

/// Every connection to it, to whatever address, is answered by us.
const DNS: Ports = Ports {
    first: 53,
    last: 53,
};

impl Check<'_> {
    /// `None` only with a diagnostic.
    pub(super) fn network_rules(&mut self, raw: &RawNetwork) -> Option<NetworkRules> {
        let mode = raw.mode.as_ref();
        let allow = match mode {
            Some(mode) if mode.value == NetworkMode::None => self.without_network(raw, &mode.at),
            _ => self.grants(&raw.allow),
        };
        let limits = &raw.limits;
        let without = self.need(
            &raw.tls_without_name,
            "network.tls_without_name",
            |without| *without,
        );
        let connections = self.need(&limits.connections, "network.limits.connections", |n| n.0);
        let new = self.need(
            &limits.new_per_second,
            "network.limits.new_per_second",
            |n| n.0,
        );
        let dns = self.need(
            &limits.dns_per_second,
            "network.limits.dns_per_second",
            |n| n.0,
        );
        Some(NetworkRules {
            allow,
            tls_without_name: without?,
            connections: connections?,
            new_per_second: new?,
            dns_per_second: dns?,
        })
    }

    /// With mode `none` no grant can match. `--network none` takes those of a file
    /// away; any other is a mistake of whoever wrote it beside the mode.
    fn without_network(&mut self, raw: &RawNetwork, mode: &At) -> Vec<NetworkGrant> {
        for grant in &raw.allow {
            let taken_away = matches!((mode, &grant.at), (At::Flag(_), At::Text { .. }));
            if !taken_away {
                let origin = mode.origin();
                let message = format!(
                    "network.allow: this grant can never match: network.mode is \"none\" ({origin})"
                );
                let help = "set network.mode = \"allowlist\", or remove the grant";
                self.refuse(&grant.at, Diagnostic::error(message).with_help(help));
            }
        }
        Vec::new()
    }

    /// The grants in order, of equal ones the first.
    fn grants(&mut self, raw: &[Written<RawReach>]) -> Vec<NetworkGrant> {
        let mut grants: Vec<NetworkGrant> = Vec::new();
        if let Some(beyond) = raw.get(GRANTS_MAX) {
            let message = format!("network.allow: there are more than {GRANTS_MAX} grants");
            let help = "write `*.NAME` for many names below one, and a network for many addresses";
            self.refuse(&beyond.at, Diagnostic::error(message).with_help(help));
            return grants;
        }
        for grant in raw.iter().filter_map(|grant| self.grant(grant)) {
            if !grants.iter().any(|other| other.grant == grant.grant) {
                grants.push(grant);
            }
        }
        grants
    }

    fn grant(&mut self, written: &Written<RawReach>) -> Option<NetworkGrant> {
        let (raw, at) = (&written.value, &written.at);
        let to = self.part(&raw.to, "network.allow.to", at)?;
        let to_at = raw.to.as_ref().map_or(at, |to| &to.at);
        let proto = raw.proto.as_ref();
        let possible = self.can_match(to, to_at);
        let reasoned = self.has_reason(to, raw.why.is_some(), at);
        let readable = match (to, proto) {
            (Target::Network(_), Some(proto)) if proto.value != Proto::Raw => {
                let message = "network.allow: this grant can never match: a network has no name to hold a request against";
                let help = "leave `proto` out, or name the host in `to`";
                self.refuse(&proto.at, Diagnostic::error(message).with_help(help));
                false
            }
            _ => true,
        };
        let ports = self.ports(raw, at)?;
        (possible && reasoned && readable).then(|| NetworkGrant {
            grant: Grant {
                to: to.clone(),
                ports,
                proto: match to {
                    Target::Network(_) => Some(Proto::Raw),
                    Target::Host(_) | Target::Below(_) => proto.map(|proto| proto.value),
                },
            },
            why: raw.why.as_ref().map(
                |Written {
                     value: Sentence(why),
                     ..
                 }| why.clone(),
            ),
            origin: at.origin(),
        })
    }

    /// Refuses a destination that nothing inside can ever ask for.
    fn can_match(&mut self, to: &Target, at: &At) -> bool {
        let Some(cause) = impossible(to) else {
            return true;
        };
        let message = format!("network.allow: {to} can never match: {cause}");
        let help = "remove the grant, or name what the job really needs";
        self.refuse(at, Diagnostic::error(message).with_help(help));
        false
    }

    /// Wildcards and networks need a reason.
    fn has_reason(&mut self, to: &Target, why: bool, at: &At) -> bool {
        let cause = match to {
            Target::Host(_) => return true,
            _ if why => return true,
            Target::Below(zone) if suffix::is_public(zone) => {
                format!("{to} is every name that anybody registers below {zone}")
            }
            Target::Below(_) => format!("{to} is more than one name"),
            Target::Network(_) => format!("{to} is reached without a name"),
        };
        let message = format!("network.allow: {cause}, and this grant has no `why`");
        let help = "say in one line why the job needs it: why = \"…\"";
        self.refuse(at, Diagnostic::error(message).with_help(help));
        false
    }

    /// The ports in order, those that touch as one range.
    fn ports(&mut self, raw: &RawReach, at: &At) -> Option<Vec<Ports>> {
        let mut ports: Vec<Ports> = raw.ports.iter().map(|ports| ports.value).collect();
        if ports.is_empty() {
            let message = "network.allow: this grant can never match: it names no port".to_owned();
            let help = "add the ports that the job needs: ports = [443]";
            self.refuse(at, Diagnostic::error(message).with_help(help));
            return None;
        }
        if let Some(dns) = raw.ports.iter().find(|ports| ports.value == DNS) {
            let message = "network.allow: port 53 can never match: every DNS query of a sandbox is answered by its own resolver";
            let help = "remove the port; names that `allow` has do resolve";
            self.refuse(&dns.at, Diagnostic::error(message).with_help(help));
            return None;
        }
        ports.sort_by_key(|ports| ports.first);
        let mut joined: Vec<Ports> = Vec::new();
        for next in ports {
            match joined.last_mut() {
                Some(last) if next.first <= last.last.saturating_add(1) => {
                    last.last = last.last.max(next.last);
                }
                _ => joined.push(next),
            }
        }
        Some(joined)
    }
}

/// Why nothing a job does can lead there, if so.
fn impossible(to: &Target) -> Option<String> {
    match to {
        Target::Host(name) | Target::Below(name) => {
            let own = name.as_str().rsplit('.').next() == Some("localhost");
            own.then(|| "localhost is the sandbox itself".to_owned())
        }
        Target::Network(network) if !network.is_ipv4() => {
            Some("sandboxes have IPv4 only in this version".to_owned())
        }
        Target::Network(network) => {
            let within = |never: &str| -> Result<bool, Malformed> {
                Ok(Cidr::parse(never)?.covers(network))
            };
            let never = NEVER.iter().find(|(never, _)| within(never) == Ok(true));
            never.map(|(_, why)| (*why).to_owned())
        }
    }
}

/// How a connection to a port of the grant is read; `None` where its ports differ in that.
fn reads(grant: &Grant, ports: Ports) -> Option<Proto> {
    match grant.proto {
        Some(proto) => Some(proto),
        None if ports == Ports::one(443) => Some(Proto::Tls),
        None if ports == Ports::one(80) => Some(Proto::Http),
        None if ports.covers(Ports::one(443)) || ports.covers(Ports::one(80)) => None,
        None => Some(Proto::Raw),
    }
}

/// Whether `wide` lets through all that `narrow` does. What is not read at all
/// lets everything through; ports are as [`NetworkGrant`] has them, joined.
pub fn covers(wide: &Grant, narrow: &Grant) -> bool {
    let port = |ports: &Ports| {
        let (ports, read) = (*ports, reads(narrow, *ports));
        let same = wide.proto == Some(Proto::Raw)
            || (read.is_some() && read == reads(wide, ports))
            || wide.proto == narrow.proto;
        same && wide.ports.iter().any(|wide| wide.covers(ports))
    };
    wide.to.covers(&narrow.to) && narrow.ports.iter().all(port)
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

    fn grant(to: &str, ports: &str, proto: Option<Proto>) -> Grant {
        Grant {
            to: Target::parse(to).unwrap(),
            ports: vec![Ports::parse(ports).unwrap()],
            proto,
        }
    }

    #[test]
    fn what_can_never_match_is_known() {
        let impossible = |to: &str| impossible(&Target::parse(to).unwrap()).is_some();
        for to in [
            "localhost",
            "*.localhost",
            "a.localhost",
            "127.0.0.1",
            "127.1.0.0/16",
            "0.0.0.0",
            "169.254.7.1",
            "198.18.0.0/15",
            "239.0.0.1",
            "255.255.255.255",
            "2001:db8::/32",
        ] {
            assert!(impossible(to), "{to}");
        }
        for to in [
            "localhost.example",
            "0.0.0.0/0",
            "126.0.0.0/7",
            "169.254.0.0/16",
            "169.254.169.254",
            "10.0.0.0/8",
        ] {
            assert!(!impossible(to), "{to}");
        }
        for (never, _) in NEVER {
            assert!(Cidr::parse(never).is_ok(), "{never}");
        }
        for ours in [crate::net::GATEWAY, crate::net::JOB] {
            assert!(impossible(&ours.to_string()), "{ours}");
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
    }

    #[test]
    fn of_equal_grants_the_later_is_redundant() {
        let allow = |to: &str, line| NetworkGrant {
            grant: grant(to, "443", None),
            why: None,
            origin: crate::source::origin::Origin::File {
                path: "p".into(),
                line,
            },
        };
        let found = redundant(&[allow("x.a.b", 1), allow("*.a.b", 2), allow("c.d", 3)]);
        assert_eq!(
            found,
            ["network.allow with x.a.b (p:1) adds nothing to *.a.b (p:2)"]
        );
        let twice = redundant(&[allow("a.b", 1), allow("a.b", 2)]);
        assert_eq!(
            twice,
            ["network.allow with a.b (p:2) adds nothing to a.b (p:1)"]
        );
    }
}
