//! [pure] What the kernel does in N0 with the packets of a job: rules and settings.
//!
//! Nothing in them depends on the policy. All TCP and all DNS of the job, to
//! whatever address, is handed to listeners in N0; everything else is refused
//! at once. N0 has no route but that to the job, so nothing can leave it.

use super::nft::Family::Ip;
use super::nft::Op::Neq;
use super::nft::Protocol::{Tcp, Udp};
use super::nft::Statement::{
    Accept, Drop, Link, Mark, Neighbour, Port, Reject, SetMark, Source, Tproxy,
};
use super::nft::{Chain, Discovery, Hook, Priority, Rule, Statement, Table};
pub use super::{DNS_PORT, GATEWAY, GATEWAY6, JOB, JOB6, PREFIX, PREFIX6, RELAY_PORT};
use core::net::{IpAddr, Ipv6Addr};

/// The gateway's end of the pair that joins N0 and N1.
pub const GATEWAY_LINK: &str = "job";
/// The job's end.
pub const JOB_LINK: &str = "eth0";
/// What the gateway's end has beside its address: an address of the link.
pub const GATEWAY_ON_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
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
    NO_PACING,
];

/// The same for IPv6, where the host has it.
pub const GATEWAY_SETTINGS6: [(&str, &str); 5] = [
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    NO_LINK_LOCAL,
    // Types whose messages are held back; none has this one (5.2).
    ("ipv6/icmp/ratemask", "255"),
];

/// Settings of N1, written before its link appears.
pub const JOB_SETTINGS: [(&str, &str); 2] = [
    // Every port of N1 is the job's, which has no capability over N1.
    ("ipv4/ip_unprivileged_port_start", "0"),
    NO_PACING,
];

/// Congestion control of TCP, IPv6 included, between N0 and N1, where nothing can be
/// congested; a host's may set a timer for each packet, as bbr does. Every kernel has
/// this one, and every namespace may choose it. Outward the host's own stays.
const NO_PACING: (&str, &str) = ("ipv4/tcp_congestion_control", "reno");

/// The same for IPv6: its address is the one we give it.
pub const JOB_SETTINGS6: [(&str, &str); 3] = [
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    NO_LINK_LOCAL,
];

/// Settings of N0 and N1 where the host has no IPv6 that works, as the plan says.
pub const WITHOUT_IPV6: [(&str, &str); 1] = [("ipv6/conf/default/disable_ipv6", "1")];

/// IN6_ADDR_GEN_MODE_NONE: without an address of the link there is no solicitation of
/// routers, and nothing has to wait for the check of one that is made up.
const NO_LINK_LOCAL: (&str, &str) = ("ipv6/conf/default/addr_gen_mode", "1");

/// The rules of N0.
///
/// `tproxy` looks for an established connection of these addresses before it
/// looks for the listener (nf_tproxy_get_sock_v4), so there is no rule with
/// `socket transparent`: that would find the listeners as well, and make a
/// connection to their own ports something else than any other.
///
/// With `ipv6` the pair has IPv6 too, and its neighbours are found by two ICMPv6
/// messages of the job's own address; no other reaches N0.
pub fn table(ipv6: bool) -> Table {
    let chain = |name, hook, priority, rules| Chain {
        name,
        hook,
        priority,
        rules,
    };
    let (mangle, filter) = (Priority::Mangle, Priority::Filter);
    let mut input = neighbours(ipv6);
    input.push(vec![Mark(MARK), Accept]);
    Table {
        name: "cofferdam",
        chains: vec![
            chain("prerouting", Hook::Prerouting, mangle, prerouting(ipv6)),
            chain("input", Hook::Input, filter, input),
            chain("forward", Hook::Forward, filter, Vec::new()),
        ],
    }
}

fn prerouting(ipv6: bool) -> Vec<Rule> {
    // Where the other family has an address too, one hand-over is for both.
    let family = (!ipv6).then_some(Ip);
    let hand_over = |what, port| vec![what, Tproxy(family, port), SetMark(MARK), Accept];
    let mut rules = vec![vec![Link(Neq, GATEWAY_LINK), Drop]];
    rules.push(match ipv6 {
        true => vec![Source(Neq, IpAddr::V6(JOB6)), Drop],
        false => vec![Statement::Family(Neq, Ip), Drop],
    });
    rules.push(vec![Source(Neq, IpAddr::V4(JOB)), Drop]);
    rules.extend(neighbours(ipv6));
    rules.extend([
        hand_over(Port(Tcp, 53), DNS_PORT),
        hand_over(Port(Udp, 53), DNS_PORT),
        hand_over(Statement::Protocol(Tcp), RELAY_PORT),
        vec![Reject],
    ]);
    rules
}

/// Neighbour discovery; the kernel takes none that was forwarded.
fn neighbours(ipv6: bool) -> Vec<Rule> {
    let allowed = |message| vec![Neighbour(message), Accept];
    match ipv6 {
        true => [Discovery::Solicit, Discovery::Advert].map(allowed).into(),
        false => Vec::new(),
    }
}

/// The rules exactly as `nft list ruleset` prints them.
pub fn ruleset(ipv6: bool) -> String {
    table(ipv6).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_these() {
        let golden = include_str!("../../tests/golden/net/ruleset.nft");
        assert_eq!(ruleset(true), golden);
        let golden = include_str!("../../tests/golden/net/ruleset-ipv4.nft");
        assert_eq!(ruleset(false), golden);
    }
}
