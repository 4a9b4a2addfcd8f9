//! [pure] What the plan says of a network address.

use crate::net::grant::{Grant, Name, Rules, Target};
use crate::net::special::special;
use crate::sandbox::plan::{Namespace, Op, Plan};
use core::net::IpAddr;
use serde::Serialize;

/// Whether an address can be reached, computed from the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressAnswer {
    /// As asked.
    pub address: String,
    /// Whether anything there can be reached.
    pub reachable: bool,
    /// Why.
    pub reason: String,
    /// The policy line behind it.
    pub rule: String,
}

/// Whether a host can be reached.
pub fn why(plan: &Plan, address: &str, host: &str) -> AddressAnswer {
    let own = plan.steps.iter().any(
        |step| matches!(&step.op, Op::Namespaces { kinds } if kinds.contains(&Namespace::Network)),
    );
    let (reachable, reason) = match (own, host.parse::<IpAddr>()) {
        (false, _) => (
            true,
            "the plan has no network namespace: the host's network is the sandbox's".to_owned(),
        ),
        (true, Ok(ip)) if loopback(ip) => (true, LOOPBACK.to_owned()),
        (true, Err(_)) if host == "localhost" => (true, LOOPBACK.to_owned()),
        (true, _) if plan.network.is_some() => granted(plan.network.as_ref(), host),
        (true, Ok(_)) => (false, format!("{ALONE}; connecting answers ENETUNREACH")),
        (true, Err(_)) => (
            false,
            format!("{ALONE}; no resolver can be asked for the name either"),
        ),
    };
    let reason = match host.parse::<IpAddr>() {
        Err(_) if host == address && host != "localhost" => {
            format!("{reason} (taken as a host's name; a file is ./{host})")
        }
        _ => reason,
    };
    let control = plan
        .controls
        .iter()
        .find(|control| control.control == "network");
    let rule = control.map_or_else(|| "always".to_owned(), |control| control.why.to_string());
    AddressAnswer {
        address: address.to_owned(),
        reachable,
        reason,
        rule,
    }
}

/// What the grants say of a host, on whatever port.
fn granted(rules: Option<&Rules>, host: &str) -> (bool, String) {
    let leads = |grant: &&Grant| match (&grant.to, host.parse::<IpAddr>(), Name::parse(host)) {
        (Target::Network(network), Ok(address), _) => network.contains(address.to_canonical()),
        (Target::Host(name), Err(_), Ok(asked)) => *name == asked,
        (Target::Below(zone), Err(_), Ok(asked)) => asked.is_below(zone),
        _ => false,
    };
    let grants = rules.map(|rules| rules.grants.as_slice());
    let leading: Vec<String> = grants
        .unwrap_or_default()
        .iter()
        .filter(leads)
        .map(|grant| {
            let ports: Vec<String> = grant.ports.iter().map(ToString::to_string).collect();
            format!("{} port {}", grant.to, ports.join(", "))
        })
        .collect();
    if leading.is_empty() && rules.is_some_and(|rules| rules.open) {
        return match host.parse().ok().and_then(special) {
            None => (
                true,
                "network open: every name and public address, by TCP".to_owned(),
            ),
            Some(what) => (
                false,
                format!(
                    "network open has public addresses, and this is {what}; --allow {host}:PORT would grant it"
                ),
            ),
        };
    }
    if leading.is_empty() {
        let told = "no grant leads there: a name is answered with NXDOMAIN, a connection is reset";
        return (false, format!("{told}; --allow {host}:PORT would grant it"));
    }
    let reason = format!("granted: {}; other ports are reset", leading.join("; "));
    (true, reason)
}

const ALONE: &str = "network none: the sandbox's network namespace has only a loopback";
const LOOPBACK: &str =
    "the sandbox's own loopback: servers of the job itself answer there, never those of the host";

/// An IPv4 address written as IPv6 goes where the IPv4 address goes; 0.0.0.0 and :: mean this host.
fn loopback(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::grant::{Cidr, Limits, Ports, WithoutName};

    #[test]
    fn grants_lead_to_names_and_networks_and_nowhere_else() {
        let grant = |to, port| Grant {
            to,
            ports: vec![Ports::one(port)],
            proto: None,
        };
        let name = |text: &str| Name::parse(text).unwrap();
        let rules = Rules {
            grants: vec![
                grant(Target::Host(name("example.org")), 443),
                grant(Target::Below(name("example.net")), 80),
                grant(Target::Network(Cidr::parse("9.9.9.0/24").unwrap()), 53),
            ],
            open: false,
            tls_without_name: WithoutName::Refuse,
            limits: Limits {
                connections: 1,
                new_per_second: 1,
                dns_per_second: 1,
            },
        };
        let asked = |host: &str| granted(Some(&rules), host);
        assert!(asked("EXAMPLE.org").1.contains("example.org port 443"));
        for reachable in ["a.example.net", "9.9.9.1", "::ffff:9.9.9.1"] {
            assert!(asked(reachable).0, "{reachable}");
        }
        for refused in [
            "example.net",
            "a.example.org",
            "9.9.8.1",
            "2001:db8::1",
            "a b",
        ] {
            assert!(!asked(refused).0, "{refused}");
        }
        assert!(asked("9.9.8.1").1.contains("--allow 9.9.8.1:PORT"));
        let rules = Rules {
            open: true,
            ..rules
        };
        let asked = |host: &str| granted(Some(&rules), host).0;
        assert!(asked("a.example") && asked("9.9.8.1") && asked("2620:fe::fe"));
        assert!(!asked("10.0.0.1") && !asked("fd00:ec2::254"));
    }
}
