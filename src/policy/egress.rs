//! [pure] What a policy lets a job reach: which grants can match at all, and which need a reason.

use crate::net::grant::{Cidr, Grant, Malformed, Ports, Proto, Target};
use crate::net::publish::{PORTS_MAX as PUBLISHED_MAX, Publish};
use crate::net::suffix;
use crate::policy::overlap::contradiction;
use crate::policy::schema::{RawNetwork, RawReach};
use crate::policy::validate::Check;
use crate::policy::{NetworkGrant, NetworkMode, NetworkRules};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Sourced;
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

/// The most ports and ranges of a grant, once those that touch are joined.
const PORTS_MAX: usize = 64;

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
        let publish = self.published(&raw.publish);
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
            publish,
            connections: connections?,
            new_per_second: new?,
            dns_per_second: dns?,
        })
    }

    /// A mistake in a grant; a flag says its own name.
    fn refuse_grant(&mut self, at: &At, cause: &str, help: &str) {
        let message = match at {
            At::Flag(_) => cause.to_owned(),
            At::Text { .. } => format!("network.allow: {cause}"),
        };
        self.refuse(at, Diagnostic::error(message).with_help(help));
    }

    /// With mode `none` no grant can match. `--network none` takes those of a file
    /// away; any other is a mistake of whoever wrote it beside the mode.
    fn without_network(&mut self, raw: &RawNetwork, mode: &At) -> Vec<NetworkGrant> {
        let cause = format!(
            "this grant can never match: network.mode is \"none\" ({})",
            mode.origin()
        );
        for grant in &raw.allow {
            match (mode, &grant.at) {
                (At::Flag(_), At::Text { .. }) => {}
                (_, At::Flag(_)) => self.refuse_grant(&grant.at, &cause, "leave one of them out"),
                (At::Text { .. }, At::Text { .. }) => {
                    let help = "set network.mode = \"allowlist\", or remove the grant";
                    self.refuse_grant(&grant.at, &cause, help);
                }
            }
        }
        Vec::new()
    }

    /// The published ports in order, of equal ones the first.
    fn published(&mut self, raw: &[Written<Publish>]) -> Vec<Sourced<Publish>> {
        let mut published: Vec<Sourced<Publish>> = Vec::new();
        let mut refuse = |at: &At, cause: String, help: &str| {
            let message = match at {
                At::Flag(_) => cause,
                At::Text { .. } => format!("network.publish: {cause}"),
            };
            self.refuse(at, Diagnostic::error(message).with_help(help));
        };
        for written in raw {
            let new = written.value;
            if published.iter().any(|other| other.value == new) {
                continue;
            }
            if let Some(other) = published.iter().find(|other| other.value.collides(&new)) {
                let cause = format!(
                    "{new} wants the same port of the host as {} ({})",
                    other.value, other.origin
                );
                refuse(
                    &written.at,
                    cause,
                    "give one of them another port, or another address",
                );
            }
            published.push(written.sourced(new));
        }
        if let Some(beyond) = raw
            .get(PUBLISHED_MAX)
            .filter(|_| published.len() > PUBLISHED_MAX)
        {
            let cause = format!("there are more than {PUBLISHED_MAX} published ports");
            refuse(
                &beyond.at,
                cause,
                "publish one port and let the job tell requests apart",
            );
        }
        published
    }

    /// The grants in order, of equal ones the first.
    fn grants(&mut self, raw: &[Written<RawReach>]) -> Vec<NetworkGrant> {
        let mut grants: Vec<NetworkGrant> = Vec::new();
        if let Some(beyond) = raw.get(GRANTS_MAX) {
            let cause = format!("there are more than {GRANTS_MAX} grants");
            let help = "write `*.NAME` for many names below one, and a network for many addresses";
            self.refuse_grant(&beyond.at, &cause, help);
            return grants;
        }
        for written in raw {
            let Some(new) = self.grant(written) else {
                continue;
            };
            if grants.iter().any(|other| other.grant == new.grant) {
                continue;
            }
            if let Some(cause) = grants.iter().find_map(|other| contradiction(other, &new)) {
                let help = "say one `proto` in both, or give them different ports";
                self.refuse_grant(&written.at, &cause, help);
            }
            grants.push(new);
        }
        grants
    }

    fn grant(&mut self, written: &Written<RawReach>) -> Option<NetworkGrant> {
        let (raw, at) = (&written.value, &written.at);
        let to = self.part(&raw.to, "network.allow.to", at)?;
        let to_at = raw.to.as_ref().map_or(at, |to| &to.at);
        let possible = self.can_match(to, to_at);
        let reasoned = self.has_reason(to, raw.why.is_some(), at);
        let readable = self.can_be_read(to, &raw.proto);
        let ports = self.ports(&raw.ports, at)?;
        let proto = match to {
            Target::Network(_) => Some(Proto::Raw),
            Target::Host(_) | Target::Below(_) => raw.proto.as_ref().map(|proto| proto.value),
        };
        (possible && reasoned && readable).then(|| NetworkGrant {
            grant: Grant {
                to: to.clone(),
                ports,
                proto,
            },
            why: raw.why.as_ref().map(|why| why.value.0.clone()),
            origin: at.origin(),
        })
    }

    /// Refuses a destination that nothing inside can ever ask for.
    fn can_match(&mut self, to: &Target, at: &At) -> bool {
        let Some(cause) = impossible(to) else {
            return true;
        };
        let help = "remove the grant, or name what the job really needs";
        self.refuse_grant(at, &format!("{to} can never match: {cause}"), help);
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
        let help = "say in one line why the job needs it: why = \"…\"";
        self.refuse_grant(at, &format!("{cause}, and this grant has no `why`"), help);
        false
    }

    /// An address has no name that what a job sends could be held against.
    fn can_be_read(&mut self, to: &Target, proto: &Option<Written<Proto>>) -> bool {
        match (to, proto) {
            (Target::Network(_), Some(proto)) if proto.value != Proto::Raw => {
                let cause =
                    "this grant can never match: a network has no name to hold a request against";
                let help = "leave `proto` out, or name the host in `to`";
                self.refuse_grant(&proto.at, cause, help);
                false
            }
            _ => true,
        }
    }

    /// The ports in order, those that touch as one range.
    fn ports(&mut self, written: &[Written<Ports>], at: &At) -> Option<Vec<Ports>> {
        if let Some(dns) = written.iter().find(|ports| ports.value == DNS) {
            let cause = "port 53 can never match: every DNS query of a sandbox is answered by its own resolver";
            let help = "remove the port; names that `allow` has do resolve";
            self.refuse_grant(&dns.at, cause, help);
            return None;
        }
        let joined = joined(written);
        let (cause, help) = match joined.len() {
            0 => (
                "this grant can never match: it names no port".to_owned(),
                "add the ports that the job needs: ports = [443]",
            ),
            1..=PORTS_MAX => return Some(joined),
            more => (
                format!("{more} ports and ranges are more than {PORTS_MAX}"),
                "write a range that holds them: ports = [\"8000-8099\"]",
            ),
        };
        self.refuse_grant(at, &cause, help);
        None
    }
}

fn joined(written: &[Written<Ports>]) -> Vec<Ports> {
    let mut ports: Vec<Ports> = written.iter().map(|ports| ports.value).collect();
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
    joined
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
