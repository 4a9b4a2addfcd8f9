//! [pure] Findings about what a sandbox with a network needs.

use super::{Finding, degraded, ok};
use crate::host::facts::{Facts, Tproxy};

const CONTROL: &str = "network";
const COSTS: &str = "a job can have no network: only --network none starts";

/// nft, and TPROXY in the kernel. No policy that has no network misses them.
pub fn network(facts: &Facts) -> Finding {
    let Some(nft) = &facts.network.nft else {
        return degraded(CONTROL, "nft is not installed")
            .costs(COSTS)
            .fix("sudo apt install nftables, or what your distribution calls it");
    };
    let ipv6 = if facts.network.ipv6 {
        ""
    } else {
        "; jobs have IPv4 only, since this kernel has no IPv6 or was started with ipv6.disable=1"
    };
    match facts.network.tproxy {
        Tproxy::Missing => degraded(CONTROL, format!("{nft}; the kernel has no TPROXY"))
            .costs(COSTS)
            .fix("boot a kernel built with CONFIG_NFT_TPROXY"),
        Tproxy::Present => ok(CONTROL, format!("{nft}; the kernel has TPROXY{ipv6}")),
        Tproxy::Loadable => ok(
            CONTROL,
            format!("{nft}; TPROXY is a module of the kernel{ipv6}"),
        ),
        Tproxy::Unknown => ok(
            CONTROL,
            format!("{nft}; whether the kernel has TPROXY, the first start says{ipv6}"),
        ),
    }
}
