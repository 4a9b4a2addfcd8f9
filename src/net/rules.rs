//! [pure] What the kernel does in N0 with the packets of a job: rules and settings.
//!
//! Nothing in them depends on the policy. All TCP and all DNS of the job, to
//! whatever address, is handed to listeners in N0; everything else is refused
//! at once. N0 has no route but that to the job, so nothing can leave it.

use super::nft::Family::Ip;
use super::nft::Op::Neq;
use super::nft::Protocol::{Tcp, Udp};
use super::nft::Statement::{Accept, Drop, Link, Mark, Port, Reject, SetMark, Source, Tproxy};
use super::nft::{Chain, Hook, Priority, Rule, Statement, Table};
pub use super::{DNS_PORT, GATEWAY, JOB, PREFIX, RELAY_PORT};
use core::net::IpAddr;

/// The gateway's end of the pair that joins N0 and N1.
pub const GATEWAY_LINK: &str = "job";
/// The job's end.
pub const JOB_LINK: &str = "eth0";
/// MTU of both, in bytes: the pair is memory, and each packet costs.
pub const MTU: u32 = 65_520;
/// Mark of packets for our listeners; routed by [`TABLE`]. Not one that
/// /etc/iproute2/rt_marks could name, which would change how nft(8) prints it.
pub const MARK: u32 = 0xc0ff;
/// Routing table of N0 in which every address is local.
pub const TABLE: u32 = 100;

/// Settings below /proc/sys/net of N0, written before any link is up. A new
/// namespace inherits those of IPv4 from the host (devconf_inherit_init_net).
pub const GATEWAY_SETTINGS: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    // Refusals are never held back, and do not use up the host's own budget.
    ("ipv4/icmp_ratemask", "0"),
    // A peer of a published port keeps its own port, whatever that is.
    ("ipv4/ip_unprivileged_port_start", "0"),
    ("ipv6/conf/default/disable_ipv6", "1"),
];

/// Settings of N1, written before its link appears.
pub const JOB_SETTINGS: [(&str, &str); 2] = [
    ("ipv6/conf/default/disable_ipv6", "1"),
    // Every port of N1 is the job's, which has no capability over N1.
    ("ipv4/ip_unprivileged_port_start", "0"),
];

/// The rules of N0.
///
/// `tproxy` looks for an established connection of these addresses before it
/// looks for the listener (nf_tproxy_get_sock_v4), so there is no rule with
/// `socket transparent`: that would find the listeners as well, and make a
/// connection to their own ports something else than any other.
pub fn table() -> Table {
    let chain = |name, hook, priority, rules| Chain {
        name,
        hook,
        priority,
        rules,
    };
    let (mangle, filter) = (Priority::Mangle, Priority::Filter);
    let input = vec![vec![Mark(MARK), Accept]];
    Table {
        name: "cofferdam",
        chains: vec![
            chain("prerouting", Hook::Prerouting, mangle, prerouting()),
            chain("input", Hook::Input, filter, input),
            chain("forward", Hook::Forward, filter, Vec::new()),
        ],
    }
}

fn prerouting() -> Vec<Rule> {
    let hand_over = |what, port| vec![what, Tproxy(Ip, port), SetMark(MARK), Accept];
    vec![
        vec![Link(Neq, GATEWAY_LINK), Drop],
        vec![Statement::Family(Neq, Ip), Drop],
        vec![Source(Neq, IpAddr::V4(JOB)), Drop],
        hand_over(Port(Tcp, 53), DNS_PORT),
        hand_over(Port(Udp, 53), DNS_PORT),
        hand_over(Statement::Protocol(Tcp), RELAY_PORT),
        vec![Reject],
    ]
}

/// The rules exactly as `nft list ruleset` prints them.
pub fn ruleset() -> String {
    table().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_these() {
        let golden = include_str!("../../tests/golden/net/ruleset.nft");
        assert_eq!(ruleset(), golden);
    }
}
