//! [pure] What the plan says of a network address.

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

const ALONE: &str = "network none: the sandbox's network namespace has only a loopback";
const LOOPBACK: &str =
    "the sandbox's own loopback: servers of the job itself answer there, never those of the host";

/// An IPv4 address written as IPv6 goes where the IPv4 address goes; 0.0.0.0 and :: mean this host.
fn loopback(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}
