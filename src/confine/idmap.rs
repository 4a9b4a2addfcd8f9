//! [pure] Id maps (interim).

use serde::{Deserialize, Serialize};

/// One line of a uid_map or gid_map: user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// First id inside.
    pub inside: u32,
    /// First id in the parent user namespace.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// The text the kernel reads.
pub fn text(extents: &[Extent]) -> String {
    extents.iter().map(|e| format!("{} {} {}\n", e.inside, e.outside, e.count)).collect()
}
