//! [pure] The network of a sandbox: none, or what the policy names.

use super::Op;
use super::order::Draft;
use crate::host::facts::Tproxy;
use crate::net::grant::{Limits, Proto, Rules, Target, WithoutName};
use crate::net::{rules, suffix};
use crate::policy::NetworkMode;
use crate::policy::overlap::{ports_text, redundant};
use crate::policy::words::Word;
use crate::source::diagnostic::Diagnostic;

/// What the job may reach, if anything; says so in the controls.
pub(super) fn plan(draft: &mut Draft<'_>) -> Option<Rules> {
    let mode = draft.policy.network.clone();
    let (actual, rules) = match mode.value {
        NetworkMode::None => ("own namespace, loopback only".to_owned(), None),
        NetworkMode::Allowlist => {
            require(draft);
            warn(draft);
            let rules = draft.policy.network_rules.rules();
            (
                format!(
                    "own namespace without a route; {} through the relay",
                    count(rules.grants.len())
                ),
                Some(rules),
            )
        }
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
    let mode = &draft.policy.network;
    if mode.value == NetworkMode::Allowlist {
        let (ruleset, why) = (rules::ruleset(), mode.origin.clone());
        draft.step(Op::Network { ruleset }, why);
    }
}

fn count(grants: usize) -> String {
    match grants {
        0 => "nothing".to_owned(),
        1 => "1 grant".to_owned(),
        more => format!("{more} grants"),
    }
}

/// What a sandbox with a network needs of the host beside the rest.
fn require(draft: &mut Draft<'_>) {
    let origin = &draft.policy.network.origin;
    if draft.facts.network.tproxy == Tproxy::Missing {
        let release = &draft.facts.release;
        let message =
            format!("network allowlist ({origin}) needs TPROXY, which kernel {release} lacks");
        let help = "a kernel with CONFIG_NFT_TPROXY is needed; or run with --network none";
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
    let rest = if lines.is_empty() {
        "nothing"
    } else {
        "nothing else"
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
