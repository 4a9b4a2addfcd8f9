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
