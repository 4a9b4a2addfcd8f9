//! [pure] Landlock (interim).

use serde::{Deserialize, Serialize};

/// A ruleset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ruleset {
    /// File-system rights that need a rule.
    pub handled_fs: u64,
    /// Network rights that need a rule.
    pub handled_net: u64,
    /// Scopes.
    pub scoped: u64,
    /// What is allowed where.
    pub rules: Vec<PathRule>,
}

/// Rights below a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathRule {
    /// Absolute path inside.
    pub path: String,
    /// Right bits.
    pub rights: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access { ReadExecute, ReadWrite, Devices, Kernel }

pub fn ruleset(abi: u32, rules: &[(String, Access)]) -> Ruleset {
    let all = match abi { 0 | 1 => 0, 2 => (1 << 14) - 1, 3 | 4 => (1 << 15) - 1, _ => (1 << 16) - 1 };
    let scoped = if abi >= 6 { 3 } else { 0 };
    let rx = 0b1101u64;
    let rules = rules.iter().map(|(p, a)| PathRule { path: p.clone(), rights: all & match a {
        Access::ReadExecute => rx, Access::ReadWrite => u64::MAX & !(1 << 6) & !(1 << 11), Access::Devices => rx | 2 | (1 << 14) | (1 << 15), Access::Kernel => rx | 2 | (1 << 14) } }).collect();
    Ruleset { handled_fs: all, handled_net: 0, scoped, rules: if all == 0 { Vec::new() } else { rules } }
}
