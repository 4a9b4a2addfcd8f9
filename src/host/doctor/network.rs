//! [pure] Findings about what a sandbox with a network needs.

use super::{Finding, degraded, ok};
use crate::host::facts::{Facts, Tproxy};

const CONTROL: &str = "network";
const COSTS: &str = "a job can have no network: only --network none starts";

/// TPROXY in the kernel. No policy that has no network misses it.
pub fn network(facts: &Facts) -> Finding {
    match facts.network.tproxy {
        Tproxy::Missing => degraded(CONTROL, "the kernel has no TPROXY")
            .costs(COSTS)
            .fix("boot a kernel built with CONFIG_NFT_TPROXY"),
        Tproxy::Present => ok(CONTROL, "the kernel has TPROXY"),
        Tproxy::Loadable => ok(CONTROL, "TPROXY is a module of the kernel"),
        Tproxy::Unknown => ok(
            CONTROL,
            "whether the kernel has TPROXY, the first start says",
        ),
    }
}
