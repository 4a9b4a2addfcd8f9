//! [pure] Findings about what a sandbox with a network needs.

use super::{Finding, degraded, ok};
use crate::host::facts::{Facts, Tproxy};

const CONTROL: &str = "network";
const COSTS: &str = "a job can have no network: only --network none starts";

/// TPROXY in the kernel. No policy that has no network misses it.
pub fn network(facts: &Facts) -> Finding {
    let ipv6 = if facts.network.ipv6 {
        ""
    } else {
        "; jobs have IPv4 only, since this kernel has no IPv6 or was started with ipv6.disable=1"
    };
    match facts.network.tproxy {
        Tproxy::Missing => degraded(CONTROL, "the kernel has no TPROXY")
            .costs(COSTS)
            .fix("boot a kernel built with CONFIG_NFT_TPROXY"),
        Tproxy::Present => ok(CONTROL, format!("the kernel has TPROXY{ipv6}")),
        Tproxy::Loadable => ok(CONTROL, format!("TPROXY is a module of the kernel{ipv6}")),
        Tproxy::Unknown => ok(
            CONTROL,
            format!("whether the kernel has TPROXY, the first start says{ipv6}"),
        ),
    }
}
