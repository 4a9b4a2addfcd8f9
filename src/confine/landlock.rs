//! [pure] Landlock rules as values: landlock(7), include/uapi/linux/landlock.h.
//!
//! What a ruleset handles depends on the running kernel's ABI; what is allowed
//! back depends on the mounts of the plan. Network access is never handled: a
//! job's network namespace confines it, and servers on its own loopback must work.

use serde::{Deserialize, Serialize};

/// Rights over files and directories, with the ABI that brought each.
#[rustfmt::skip]
const FS_RIGHTS: &[(u64, u32)] = &[
    (EXECUTE, 1), (WRITE_FILE, 1), (READ_FILE, 1), (READ_DIR, 1),
    (REMOVE_DIR, 1), (REMOVE_FILE, 1), (MAKE_CHAR, 1), (MAKE_DIR, 1), (MAKE_REG, 1),
    (MAKE_SOCK, 1), (MAKE_FIFO, 1), (MAKE_BLOCK, 1), (MAKE_SYM, 1),
    (REFER, 2), (TRUNCATE, 3), (IOCTL_DEV, 5), (RESOLVE_UNIX, 9),
];

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
const RESOLVE_UNIX: u64 = 1 << 16;

/// Connecting to abstract sockets made outside the domain (ABI 6).
pub const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
/// Signalling processes outside the domain (ABI 6).
pub const SCOPE_SIGNAL: u64 = 1 << 1;

/// The highest ABI whose rights this version handles.
pub const NEWEST_ABI: u32 = 9;

/// The kernel that brought an ABI, as (major, minor); `None` for 0 and unknown ones.
pub fn kernel_of(abi: u32) -> Option<(u32, u32)> {
    const KERNELS: [(u32, u32); 9] = [
        (5, 13),
        (5, 19),
        (6, 2),
        (6, 7),
        (6, 10),
        (6, 12),
        (6, 15),
        (7, 0),
        (7, 1),
    ];
    KERNELS
        .get(usize::try_from(abi.checked_sub(1)?).ok()?)
        .copied()
}

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read, list, execute.
    ReadExecute,
    /// Also write, make and remove files, directories, links, pipes and sockets, and
    /// connect to sockets there. Device nodes stay forbidden.
    ReadWrite,
    /// Read, write and control, but make nothing: terminals and device files.
    Device,
}

impl Access {
    /// The rights it stands for, in the newest ABI.
    const fn bits(self) -> u64 {
        const READ: u64 = EXECUTE | READ_FILE | READ_DIR;
        match self {
            Self::ReadExecute => READ,
            Self::ReadWrite => {
                let make = MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM;
                READ | make
                    | WRITE_FILE
                    | REMOVE_DIR
                    | REMOVE_FILE
                    | REFER
                    | TRUNCATE
                    | RESOLVE_UNIX
            }
            Self::Device => READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | IOCTL_DEV,
        }
    }
}

/// What may be done below one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Absolute path inside.
    pub path: String,
    /// What.
    pub access: Access,
    /// A directory; a file takes only the rights that files have (the kernel
    /// refuses others with EINVAL).
    pub directory: bool,
}

/// A ruleset for one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandlockPlan {
    /// The ABI whose rights are used: the kernel's, or [`NEWEST_ABI`] if that is lower.
    pub abi: u32,
    /// Below the policy's minimum: weaker than asked.
    pub degraded: bool,
    /// File rights that need a rule; 0 means that files are not confined by Landlock.
    pub handled_fs: u64,
    /// Ports that need a rule: 0 for a job.
    pub handled_net: u64,
    /// Scopes.
    pub scoped: u64,
    /// What is allowed back.
    pub rules: Vec<PathBits>,
}

/// One rule with its rights as the kernel takes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathBits {
    /// Absolute path inside.
    pub path: String,
    /// Rights, never empty, all of them handled.
    pub bits: u64,
}

/// The strongest ruleset that a kernel with `abi` (0: no Landlock) can enforce.
///
/// With ABI 1 no file rights are handled: without the right REFER, a ruleset
/// that handles any of them forbids every rename and link across directories.
/// That counts as degraded, as does an ABI below `minimum`.
pub fn ruleset(abi: u32, minimum: u32, paths: &[PathRule]) -> LandlockPlan {
    let used = abi.min(NEWEST_ABI);
    let handled_fs = if used < 2 { 0 } else { rights(used) };
    let rule = |path: &PathRule| PathBits {
        path: path.path.clone(),
        bits: path.bits() & handled_fs,
    };
    let rules = if handled_fs == 0 {
        Vec::new()
    } else {
        paths.iter().map(rule).collect()
    };
    let scoped = if used < 6 {
        0
    } else {
        SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    };
    LandlockPlan {
        abi: used,
        degraded: abi < minimum || used < 2,
        handled_fs,
        handled_net: 0,
        scoped,
        rules,
    }
}

/// The ruleset that allows nothing: no file by path, no TCP port of its own
/// (LANDLOCK_ACCESS_NET_BIND_TCP, ABI 4), for a process that works on descriptors.
///
/// ABI 1 is of use here: who opens nothing also renames nothing.
pub fn nothing(abi: u32) -> LandlockPlan {
    const BIND_TCP: u64 = 1;
    let mut plan = ruleset(abi, 1, &[]);
    plan.handled_fs = rights(plan.abi);
    plan.handled_net = if plan.abi < 4 { 0 } else { BIND_TCP };
    plan.degraded = plan.abi == 0;
    plan
}

impl PathRule {
    fn bits(&self) -> u64 {
        const OF_FILES: u64 =
            EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX;
        let bits = self.access.bits();
        if self.directory {
            bits
        } else {
            bits & OF_FILES
        }
    }
}

/// Every file right that `abi` knows.
fn rights(abi: u32) -> u64 {
    FS_RIGHTS
        .iter()
        .filter(|right| right.1 <= abi)
        .fold(0, |all, right| all | right.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, access: Access, directory: bool) -> PathRule {
        PathRule {
            path: path.into(),
            access,
            directory,
        }
    }

    #[test]
    fn each_abi_handles_what_its_kernel_knows() {
        let handled = |abi| ruleset(abi, 2, &[]).handled_fs;
        let expected = [
            0, 0, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff, 0xffff, 0xffff, 0x1_ffff, 0x1_ffff,
        ];
        for (abi, bits) in (0..).zip(expected) {
            assert_eq!(handled(abi), bits, "ABI {abi}");
        }
    }

    #[test]
    fn scopes_come_with_abi_6_and_the_network_never() {
        for abi in 0..12 {
            let plan = ruleset(abi, 2, &[]);
            assert_eq!(plan.scoped, if abi < 6 { 0 } else { 3 });
            assert_eq!(plan.handled_net, 0);
        }
    }

    #[test]
    fn abi_0_and_1_are_degraded_even_if_the_policy_asks_for_1() {
        let paths = [rule("/usr", Access::ReadExecute, true)];
        for abi in [0, 1] {
            let plan = ruleset(abi, 1, &paths);
            assert!(plan.degraded && plan.rules.is_empty());
        }
        assert!(!ruleset(2, 2, &paths).degraded);
        assert!(ruleset(3, 4, &paths).degraded);
    }

    #[test]
    fn rules_hold_only_handled_rights_and_files_only_those_of_files() {
        let paths = [
            rule("/usr", Access::ReadExecute, true),
            rule("/tmp", Access::ReadWrite, true),
            rule("/dev/null", Access::Device, false),
        ];
        for abi in 2..=NEWEST_ABI {
            let plan = ruleset(abi, 2, &paths);
            assert!(
                plan.rules
                    .iter()
                    .all(|rule| rule.bits != 0 && rule.bits & !plan.handled_fs == 0)
            );
            assert_eq!(plan.rules[0].bits, 0b1101);
            assert_eq!(plan.rules[1].bits & (MAKE_CHAR | MAKE_BLOCK), 0);
            assert_eq!(plan.rules[2].bits & READ_DIR, 0);
        }
    }

    #[test]
    fn nothing_is_everything_handled_and_nothing_allowed() {
        for abi in 0..=NEWEST_ABI {
            let plan = nothing(abi);
            assert_eq!(plan.handled_fs, rights(abi));
            assert_eq!(plan.handled_net, u64::from(abi >= 4));
            assert!(plan.rules.is_empty());
        }
        assert_eq!(nothing(1).handled_fs, 0x1fff);
    }

    #[test]
    fn kernels_of_abis() {
        assert_eq!(kernel_of(0), None);
        assert_eq!(kernel_of(2), Some((5, 19)));
        assert_eq!(kernel_of(9), Some((7, 1)));
        assert_eq!(kernel_of(10), None);
    }
}
