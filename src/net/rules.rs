//! [pure] What the kernel does in N0 with the packets of a job: rules, settings, and how rules are read back.
//!
//! Nothing in them depends on the policy. All TCP and all DNS of the job, to
//! whatever address, is handed to listeners in N0; everything else is refused
//! at once. N0 has no route but that to the job, so nothing can leave it.

pub use super::{DNS_PORT, GATEWAY, GATEWAY6, JOB, JOB6, PREFIX, PREFIX6, RELAY_PORT};

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
pub const GATEWAY_SETTINGS: [(&str, &str); 5] = [
    ("ipv4/ip_forward", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/default/route_localnet", "0"),
    // Refusals are never held back, and do not use up the host's own budget.
    ("ipv4/icmp_ratemask", "0"),
    // A peer of a published port keeps its own port, whatever that is.
    ("ipv4/ip_unprivileged_port_start", "0"),
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
pub const JOB_SETTINGS: [(&str, &str); 1] = [
    // Every port of N1 is the job's, which has no capability over N1.
    ("ipv4/ip_unprivileged_port_start", "0"),
];

/// The same for IPv6: its address is the one we give it.
pub const JOB_SETTINGS6: [(&str, &str); 3] = [
    ("ipv6/conf/all/disable_ipv6", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    NO_LINK_LOCAL,
];

/// Settings of N0 and N1 where the host has no IPv6 that works, as the plan says.
pub const WITHOUT_IPV6: [(&str, &str); 1] = [("ipv6/conf/default/disable_ipv6", "1")];

/// IN6_ADDR_GEN_MODE_NONE: with an address of its own a link sends no solicitation
/// of routers, and nothing has to wait for the check of that address.
const NO_LINK_LOCAL: (&str, &str) = ("ipv6/conf/default/addr_gen_mode", "1");

/// The rules of N0, for `nft -f` and exactly as `nft list ruleset` prints them.
///
/// `tproxy` looks for an established connection of these addresses before it
/// looks for the listener (nf_tproxy_get_sock_v4), so there is no rule with
/// `socket transparent`: that would find the listeners as well, and make a
/// connection to their own ports something else than any other.
///
/// With `ipv6` the pair has IPv6 too, and its neighbours are found by two ICMPv6
/// messages of the job's own address; no other reaches N0.
pub fn ruleset(ipv6: bool) -> String {
    let tproxy = if ipv6 { "tproxy" } else { "tproxy ip" };
    let hand_over = |what: &str, port: u16| {
        format!("\t\t{what} {tproxy} to :{port} meta mark set 0x{MARK:08x} accept\n")
    };
    let tcp_dns = hand_over("tcp dport 53", DNS_PORT);
    let udp_dns = hand_over("udp dport 53", DNS_PORT);
    let tcp = hand_over("meta l4proto tcp", RELAY_PORT);
    let (family, neighbours) = if ipv6 {
        (format!("ip6 saddr != {JOB6} drop"), NEIGHBOURS)
    } else {
        ("meta nfproto != ipv4 drop".to_owned(), "")
    };
    format!(
        "table inet cofferdam {{\n\
         \tchain prerouting {{\n\
         \t\ttype filter hook prerouting priority mangle; policy drop;\n\
         \t\tiifname != \"{GATEWAY_LINK}\" drop\n\
         \t\t{family}\n\
         \t\tip saddr != {JOB} drop\n\
         {neighbours}{tcp_dns}{udp_dns}{tcp}\
         \t\treject\n\
         \t}}\n\
         \n\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy drop;\n\
         {neighbours}\
         \t\tmeta mark 0x{MARK:08x} accept\n\
         \t}}\n\
         \n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy drop;\n\
         \t}}\n\
         }}\n"
    )
}

/// Neighbour discovery (RFC 4861 §4.3, §4.4); the kernel takes none that was forwarded.
const NEIGHBOURS: &str = "\t\ticmpv6 type nd-neighbor-solicit accept\n\
                          \t\ticmpv6 type nd-neighbor-advert accept\n";

/// The first line in which rules that were loaded and rules that were listed
/// differ, as (loaded, listed); None when they are the same. White space at the
/// ends of lines and empty lines say nothing.
pub fn difference<'a>(loaded: &'a str, listed: &'a str) -> Option<(&'a str, &'a str)> {
    let (mut loaded, mut listed) = (lines(loaded), lines(listed));
    loop {
        match (loaded.next(), listed.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => return Some((one.unwrap_or("nothing"), other.unwrap_or("nothing"))),
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
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

    #[test]
    fn rules_read_back_only_if_every_line_does() {
        let rules = ruleset(true);
        assert_eq!(difference(&rules, &rules.replace('\t', "  ")), None);
        let without = rules.replace("\t\tip saddr != 169.254.7.2 drop\n", "");
        let found = difference(&rules, &without);
        assert_eq!(found.unwrap().0, "ip saddr != 169.254.7.2 drop");
        let more = format!("{rules}table ip nat {{\n}}\n");
        assert_eq!(
            difference(&rules, &more),
            Some(("nothing", "table ip nat {"))
        );
        assert_eq!(difference(&rules, "").unwrap().1, "nothing");
        let open = rules.replacen("policy drop", "policy accept", 1);
        assert!(difference(&rules, &open).is_some());
    }
}
