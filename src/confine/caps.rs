//! [pure] The capability sets of a job: capabilities(7).

use crate::linux::capability::Capability;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The five sets, as bit masks, over the job's own user namespace alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilitySets {
    /// What any later program can have at most.
    pub bounding: u64,
    /// In use.
    pub effective: u64,
    /// May be put into use.
    pub permitted: u64,
    /// Always empty: a kept one would pass to file capabilities (CVE-2022-24769).
    pub inheritable: u64,
    /// Always empty: they would pass to programs run by inner users.
    pub ambient: u64,
}

/// The sets for what a policy keeps. Without a uid 0 inside nothing is kept:
/// an ordinary id would lose it at its first exec, and needs none.
pub fn sets(keep: &BTreeSet<Capability>, root_inside: bool) -> CapabilitySets {
    let kept = if root_inside {
        keep.iter().fold(0, |all, cap| all | cap.bit())
    } else {
        0
    };
    CapabilitySets {
        bounding: kept,
        effective: kept,
        permitted: kept,
        inheritable: 0,
        ambient: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_ones_are_in_three_sets_and_only_where_there_is_a_root() {
        let keep = BTreeSet::from([Capability::CHOWN, Capability::KILL]);
        let image = sets(&keep, true);
        assert_eq!(
            (image.bounding, image.effective, image.permitted),
            (0x21, 0x21, 0x21)
        );
        assert_eq!((image.inheritable, image.ambient), (0, 0));
        assert_eq!(sets(&keep, false).bounding, 0);
        assert_eq!(sets(&BTreeSet::new(), true).permitted, 0);
    }
}
