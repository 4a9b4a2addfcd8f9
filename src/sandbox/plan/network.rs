//! [pure] The network of a sandbox: none, or what the policy names.

use super::order::Draft;
use super::{Op, Published};
use crate::host::facts::Tproxy;
use crate::net::grant::{Limits, Proto, Rules, Target, WithoutName};
use crate::net::publish::Publish;
use crate::net::{rules, suffix};
use crate::policy::overlap::{ports_text, redundant};
use crate::policy::words::Word;
use crate::policy::{NetworkMode, Policy};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;

/// What the job may reach, if anything; says so in the controls.
pub(super) fn plan(draft: &mut Draft<'_>) -> Option<Rules> {
    let mode = draft.policy.network.clone();
    let (actual, rules) = if draft.policy.has_network() {
        require(draft);
        warn(draft);
        let rules = draft.policy.network_rules.rules(mode.value);
        let reached = match (rules.open, rules.grants.len()) {
            (true, 0) => "every public address".to_owned(),
            (true, grants) => format!("every public address and {}", count(grants, "grant")),
            (false, grants) => count(grants, "grant"),
        };
        let published = match draft.policy.network_rules.publish.len() {
            0 => String::new(),
            ports => format!(", {} from outside", count(ports, "port")),
        };
        let family = match draft.facts.network.ipv6 {
            true => "",
            false => "; IPv4 only, this kernel has no IPv6",
        };
        let actual = format!(
            "own namespace without a route; {reached} through the relay{published}{family}"
        );
        (actual, Some(rules))
    } else {
        ("own namespace, loopback only".to_owned(), None)
    };
    draft.control(
        "network",
        mode.value.word().to_owned(),
        actual,
        &mode.origin,
    );
    rules
}

/// N0 and N1, for whoever has a network. What is missing was refused by [`plan`].
pub(super) fn step(draft: &mut Draft<'_>) {
    if draft.policy.has_network() {
        let why = reason(draft).1;
        let ipv6 = draft.facts.network.ipv6;
        let ruleset = rules::ruleset(ipv6);
        draft.step(Op::Network { ruleset, ipv6 }, why);
    }
}

/// What needs a network, and who said so: the mode, or the first published port.
fn reason(draft: &Draft<'_>) -> (String, Origin) {
    let mode = &draft.policy.network;
    match draft.policy.network_rules.publish.first() {
        Some(first) if mode.value == NetworkMode::None => {
            ("a published port".to_owned(), first.origin.clone())
        }
        _ => (
            format!("network {}", mode.value.word()),
            mode.origin.clone(),
        ),
    }
}

/// The published ports with who published them.
pub(super) fn published(policy: &Policy) -> Vec<Published> {
    let ports = policy.network_rules.publish.iter();
    ports
        .map(|port| Published {
            publish: port.value,
            why: port.origin.clone(),
        })
        .collect()
}

fn count(number: usize, what: &str) -> String {
    match number {
        0 => "nothing".to_owned(),
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    }
}

/// What a sandbox with a network needs of the host beside the rest.
fn require(draft: &mut Draft<'_>) {
    let (what, origin) = reason(draft);
    if draft.facts.network.tproxy == Tproxy::Missing {
        let release = &draft.facts.release;
        let message = format!("{what} ({origin}) needs TPROXY, which kernel {release} lacks");
        let help = "a kernel with CONFIG_NFT_TPROXY is needed; or run with --network none and no --publish";
        draft.refuse(Diagnostic::error(message).with_help(help));
    }
}

fn warn(draft: &mut Draft<'_>) {
    let allow = &draft.policy.network_rules.allow;
    let world = allow.iter().filter_map(|allow| match &allow.grant.to {
        Target::Below(zone) if suffix::is_public(zone) => Some(format!(
            "network.allow with *.{zone} ({}) is every name that anybody registers below {zone}",
            allow.origin
        )),
        Target::Host(_) | Target::Below(_) | Target::Network(_) => None,
    });
    let warnings: Vec<String> = world.chain(redundant(allow)).collect();
    draft.warnings.extend(warnings);
}

/// A published port, for a person.
pub(super) fn published_text(publish: &Publish) -> String {
    let at = match publish.host_port {
        0 => format!("a free port of {}", publish.address),
        _ => publish.listens().to_string(),
    };
    format!("{at} leads to port {}", publish.port)
}

/// What is reachable, one line each.
pub(super) fn text(rules: &Rules) -> Vec<String> {
    let grant = |grant: &crate::net::grant::Grant| {
        let read = match grant.proto {
            Some(Proto::Raw) => ", not read",
            Some(Proto::Tls) => ", as TLS",
            Some(Proto::Http) => ", as HTTP",
            None => "",
        };
        format!("{} port {}{read}", grant.to, ports_text(&grant.ports))
    };
    let mut lines: Vec<String> = rules.grants.iter().map(grant).collect();
    let rest = match (rules.open, lines.is_empty()) {
        (true, _) => "every name and public address by TCP, not read",
        (false, true) => "nothing",
        (false, false) => "nothing else",
    };
    let without = match rules.tls_without_name {
        WithoutName::Refuse => "refused",
        WithoutName::Allow => "passed on",
    };
    lines.push(format!("{rest}; TLS without the right name is {without}"));
    let Limits {
        connections,
        new_per_second,
        dns_per_second,
    } = rules.limits;
    lines.push(format!(
        "at most {connections} connections, {new_per_second} new and {dns_per_second} DNS queries a second"
    ));
    lines
}
