//! [pure] The policy: what a job may do, validated, each value with its origin.
//!
//! The way of a policy: `document` reads TOML by the tables of `schema` (its
//! values are in `leaf`, `words`, `text`), `layer` lays it over `presets` and
//! the `flags` over it, `validate` makes the [`Policy`] here and looks at paths
//! with `expand` and `forbidden`, at the network with `egress`
//! and `overlap`. From a policy, `effective` lists what holds;
//! `show`, `diff` and `json_schema` print. Nothing in this room reads a file:
//! the command line hands in the text.

pub mod consequence;
pub mod diff;
pub mod document;
pub mod effective;
pub mod egress;
pub mod expand;
pub mod flags;
pub mod forbidden;
pub mod json_schema;
pub mod layer;
pub mod leaf;
pub mod overlap;
pub mod presets;
pub mod schema;
pub mod show;
pub mod text;
pub mod validate;
pub mod words;

use crate::linux::capability::Capability;
use crate::net::grant::{Grant, Limits, Rules, WithoutName};
use crate::net::publish::Publish;
use crate::source::origin::{Origin, Sourced};
use flags::{Flag, Limit};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A complete, valid policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Its name, as `name = ` says or the preset's.
    pub name: String,
    /// How ids inside map to ids outside.
    pub ids: Ids,
    /// What may be done with the workspace.
    pub workspace: WorkspaceRule,
    /// Root file system, private /tmp, masks, mounts.
    pub filesystem: Filesystem,
    /// The lowest Landlock ABI that counts as full strength.
    pub landlock_minimum_abi: Sourced<u32>,
    /// The system calls.
    pub syscalls: Syscalls,
    /// Capabilities kept inside an image, over the job's own user namespace.
    pub capabilities: BTreeMap<Capability, CapabilityGrant>,
    /// Environment variables.
    pub environment: Environment,
    /// Network mode.
    pub network: Sourced<NetworkMode>,
    /// What may be reached, where the mode lets anything be.
    pub network_rules: NetworkRules,
    /// Resource limits.
    pub resources: Resources,
    /// Controls that may be weaker than asked on this host.
    pub degrade: BTreeMap<Control, Origin>,
    /// The only flags that may be used with it; without, all may.
    pub flags: Option<Sourced<BTreeSet<Flag>>>,
}

/// `[ids]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ids {
    /// Which ids are used.
    pub mode: Sourced<IdMode>,
    /// Which inside id owns the workspace.
    pub workspace_uid: Sourced<WorkspaceUid>,
    /// How many ids an exclusive slice has.
    pub exclusive_size: Sourced<u32>,
}

/// Which host ids a sandbox uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdMode {
    /// The caller and all of the caller's subordinate ids.
    Subuid,
    /// The caller and a slice of the subordinate ids no other sandbox uses.
    Exclusive,
    /// The caller's id alone; needs no newuidmap.
    Caller,
}

/// Which inside id is the caller, when the workspace is writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceUid {
    /// Inside root owns the workspace.
    Zero,
    /// The caller's own number inside owns the workspace.
    Caller,
}

/// `[workspace]`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkspaceRule {
    /// The most that `-w` may ask for.
    pub access: Sourced<Access>,
    /// Paths below the workspace, relative, that stay read-only.
    pub protected: Vec<Sourced<String>>,
}

/// How a directory of the host appears inside, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Not at all.
    None,
    /// Read-only.
    Ro,
    /// Writable inside, the host's directory unchanged.
    Copy,
    /// Writable, writes reach the host.
    Rw,
}

/// `[filesystem]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filesystem {
    /// What a `--rootfs` directory looks like inside.
    pub rootfs: Sourced<RootfsMode>,
    /// Size of the private /tmp in bytes.
    pub tmp: Sourced<u64>,
    /// Paths masked beside the built-in list, absolute.
    pub masked: Vec<Sourced<String>>,
    /// Host directories and files shown inside.
    pub mounts: Vec<MountGrant>,
    /// Empty private directories, from `--tmpfs`.
    pub tmpfs: Vec<TmpfsGrant>,
}

/// Read-only, or writes into a layer that is thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootfsMode {
    /// Nothing below the root is writable.
    ReadOnly,
    /// An overlay; the directory itself is never written.
    Overlay,
}

/// `[[filesystem.mount]]` or `--mount`.
#[derive(Clone, Debug, PartialEq)]
pub struct MountGrant {
    /// Absolute host path, already expanded.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Ro or Rw (never None or Copy).
    pub access: Access,
    /// The operator's reason; a flag is its own reason.
    pub why: String,
    /// Who granted it.
    pub origin: Origin,
}

/// `--tmpfs`.
#[derive(Clone, Debug, PartialEq)]
pub struct TmpfsGrant {
    /// Absolute path inside.
    pub target: String,
    /// Bytes, if a size was asked for; that is kept. Without, at most as large as `tmp`.
    pub size: Option<u64>,
    /// Who granted it.
    pub origin: Origin,
}

/// `[syscalls]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Syscalls {
    /// The base allow-list.
    pub profile: Sourced<SyscallProfile>,
    /// Calls allowed beside it, by name; none of them is in `deny`.
    pub allow: Vec<SyscallGrant>,
    /// Calls refused whatever else says, by name.
    pub deny: Vec<Sourced<String>>,
    /// What a refused call does.
    pub on_denied: Sourced<OnDenied>,
}

/// A system call allowed beside the profile.
#[derive(Clone, Debug, PartialEq)]
pub struct SyscallGrant {
    /// The kernel's name of the call.
    pub name: String,
    /// The operator's reason.
    pub why: String,
    /// Who granted it.
    pub origin: Origin,
}

/// Which base allow-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyscallProfile {
    /// What a compute job needs.
    Strict,
    /// What builds and tests need.
    Job,
}

/// What a refused call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDenied {
    /// Fails with an errno.
    Errno,
    /// Cold calls fail with an errno and leave an event; the rest as `Errno`.
    Record,
    /// Kills the process with SIGSYS.
    Kill,
}

/// A capability kept.
#[derive(Clone, Debug, PartialEq)]
pub struct CapabilityGrant {
    /// The operator's reason.
    pub why: String,
    /// Who granted it.
    pub origin: Origin,
}

/// `[environment]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// Names passed from the caller; a trailing `*` matches any rest.
    pub pass: Vec<Sourced<String>>,
    /// Values set whatever the caller has.
    pub set: BTreeMap<String, Sourced<String>>,
}

/// `[network] mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A loopback of its own and nothing else.
    None,
    /// What the policy names, and nothing else.
    Allowlist,
    /// Every name and every public unicast address by TCP, and what [`NetworkRules::allow`] names.
    Open,
}

/// `[network]` beside its mode.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRules {
    /// What may be reached; empty where the mode is `none`.
    pub allow: Vec<NetworkGrant>,
    /// TLS without the name that was asked for.
    pub tls_without_name: Sourced<WithoutName>,
    /// Ports that the host listens on; no two collide.
    pub publish: Vec<Sourced<Publish>>,
    /// Open connections at once.
    pub connections: Sourced<u32>,
    /// New connections in one second.
    pub new_per_second: Sourced<u32>,
    /// DNS queries in one second.
    pub dns_per_second: Sourced<u32>,
}

/// An element of `network.allow`, or `--allow`.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkGrant {
    /// Where to and how; a network is always [`Proto::Raw`](crate::net::grant::Proto).
    pub grant: Grant,
    /// The operator's reason; only a name and no wildcard can do without.
    pub why: Option<String>,
    /// Who granted it.
    pub origin: Origin,
}

impl Policy {
    /// Whether the job has a network at all: with mode `none` only for published ports.
    pub fn has_network(&self) -> bool {
        self.network.value != NetworkMode::None || !self.network_rules.publish.is_empty()
    }
}

impl NetworkRules {
    /// What decides about a connection or a query.
    pub fn rules(&self, mode: NetworkMode) -> Rules {
        Rules {
            open: mode == NetworkMode::Open,
            grants: self.allow.iter().map(|allow| allow.grant.clone()).collect(),
            tls_without_name: self.tls_without_name.value,
            limits: Limits {
                connections: self.connections.value,
                new_per_second: self.new_per_second.value,
                dns_per_second: self.dns_per_second.value,
            },
        }
    }
}

/// `[resources]`; a limit of `None` is "unlimited", which somebody wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Bytes.
    pub memory: Sourced<Limit<u64>>,
    /// Thousandths of a CPU.
    pub milli_cpus: Sourced<Limit<u32>>,
    /// Processes and threads.
    pub pids: Sourced<Limit<u32>>,
    /// Bytes in layers that are kept on disk.
    pub disk: Sourced<Limit<u64>>,
    /// Seconds of wall time.
    pub timeout: Sourced<Limit<u64>>,
}

/// A control that `[degrade] allow` may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Memory, cpu and pids limits by cgroup; without one they are weaker or absent.
    Cgroup,
    /// Landlock below the policy's minimum ABI.
    Landlock,
    /// Supplementary groups that a one-id map cannot drop.
    Groups,
    /// The disk limit, when it can only be polled.
    Disk,
}
