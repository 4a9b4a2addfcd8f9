//! [pure] The Plan: everything that will be done, in order, each step with its origin.
//!
//! `order::plan` makes it from Policy, Request and Facts; launch, stage and
//! init obey it; nothing is decided while it is applied. It serialises to JSON
//! and back without loss: what cannot be printed cannot run.

mod exec;
mod ids;
mod kernel;
mod limits;
mod lock;
mod network;
mod order;
mod places;
mod render;
mod root;
mod workspace;

pub use order::plan;

use crate::confine::idmap::Extent;
use crate::confine::landlock::LandlockPlan;
use crate::confine::seccomp::Filter;
use crate::linux::capability::Capability;
use crate::net::grant::Rules;
use crate::net::publish::Publish;
use crate::policy::Control;
use crate::source::origin::Origin;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the Plan's JSON.
pub const SCHEMA: u32 = 1;

/// Everything one sandbox needs.
#[must_use]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the sandbox.
    pub name: String,
    /// Name of the policy.
    pub policy: String,
    /// What the plan relies on; checked again before the first step.
    pub requires: Requires,
    /// Host objects that appear inside, by the index steps use.
    pub sources: Vec<Source>,
    /// What the supervisor does and watches.
    pub supervise: Supervise,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// What the job may reach, where it has a network.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub network: Option<Rules>,
    /// Ports of the job that the host listens on.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub published: Vec<Published>,
    /// What is executed at the end.
    pub exec: Exec,
    /// Per control: what was asked and what this host gives.
    pub controls: Vec<Enforcement>,
    /// One sentence per loosening, and stated residues.
    pub warnings: Vec<String>,
}

impl Plan {
    /// What the stage needs: all but the rules of the filter, which reach it
    /// compiled and proven, and those of the network, which are kept outside.
    pub fn without_rules(&self) -> Self {
        let mut plan = self.clone();
        plan.network = None;
        for step in &mut plan.steps {
            if let Op::Seccomp { filter } = &mut step.op {
                filter.groups.clear();
                filter.conditional.clear();
            }
        }
        plan
    }

    /// Names of the layer directories it wants below the sandbox's own.
    pub fn layer_names(&self) -> impl Iterator<Item = &str> {
        let index = |upper: &Upper| match upper {
            Upper::Directory { source } => Some(*source),
            Upper::Tmpfs { .. } => None,
        };
        self.steps.iter().filter_map(move |step| {
            let source = match &step.op {
                Op::Overlay { upper, .. }
                | Op::Root {
                    root: Root::Overlay { upper, .. },
                } => index(upper)?,
                _ => return None,
            };
            self.sources.get(source)?.path.rsplit('/').next()
        })
    }
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Where the host listens, and the job's port.
    pub publish: Publish,
    /// Who published it.
    pub why: Origin,
}

/// Facts the plan relies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Host uid of U0's id 0.
    pub uid: u32,
    /// Host gid of U0's id 0.
    pub gid: u32,
    /// Machine architecture.
    pub machine: String,
    /// Landlock ABI that the rules were written for.
    pub landlock_abi: u32,
}

/// A host object to be mounted, pinned by inode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Absolute path outside, without symlinks unless `follow`.
    pub path: String,
    /// (device, inode) that must be found there; not known for the host's own programs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<(u64, u64)>,
    /// (major, minor) of the character device that must be found there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub character: Option<(u32, u32)>,
    /// Resolve symlinks: only for fixed system paths of the host view.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub follow: bool,
    /// A privileged launcher opens it and hands it over as a detached mount.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub handed: bool,
    /// The launcher maps its owners.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owners: Option<Owners>,
}

impl Source {
    /// What is at a path, opened with the caller's rights and without symlinks.
    pub fn at(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            inode: None,
            character: None,
            follow: false,
            handed: false,
            owners: None,
        }
    }
}

/// Ids of a file system (inside) as ids of the host (outside); both maps hold at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owners {
    /// Of its uids.
    pub uids: Vec<Extent>,
    /// Of its gids.
    pub gids: Vec<Extent>,
}

/// One step: who does it, what, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The effect.
    pub op: Op,
    /// Who decided it.
    pub why: Origin,
}

/// What holds a protected path that does not exist, so that the job cannot make it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placeholder {
    /// A socket that nobody listens on: git neither lists nor adds it, no tool
    /// takes `.git` for a repository then, and opening it is ENXIO. An empty
    /// directory makes go(1) fail, and empty files get committed.
    Socket,
    /// A file with this text.
    File(String),
}

impl Placeholder {
    /// What holds this path of a workspace. git reads two of them wherever they
    /// exist and fails on what is no file; their text says what their absence
    /// says, gitrepository-layout(5).
    pub fn holding(path: &str) -> Self {
        match path {
            ".git/commondir" => Self::File(".\n".to_owned()),
            ".git/config.worktree" => Self::File(String::new()),
            _ => Self::Socket,
        }
    }
}

/// One kernel effect. Paths are absolute inside the new root; `owner` is an id of U0, used as uid and gid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "the sentence of a variant says what its fields are"
)]
pub enum Op {
    /// Outer user namespace U0, its maps written by `writer`.
    OuterUser {
        uids: Vec<Extent>,
        gids: Vec<Extent>,
        writer: MapWriter,
    },
    /// Namespaces of the sandbox, all owned by U0.
    Namespaces { kinds: Vec<Namespace> },
    /// `user.*` limits of U0, by sysctl name.
    NamespaceLimits { limits: BTreeMap<String, u64> },
    /// Cgroup with these limits, entered before anything of the job exists.
    Cgroup { limits: CgroupLimits },
    /// Drops all supplementary groups.
    Groups,
    /// Pins the job to `cpus` of the CPUs there are, from the `first` on.
    Affinity { first: u32, cpus: u32 },
    /// N0 behind N1, which is what the job then gets: these rules are loaded
    /// into N0, where listeners wait for all that the job sends; both have IPv6
    /// only with `ipv6`. Comes before the loopback, and needs two network
    /// namespaces of U0.
    Network { ruleset: String, ipv6: bool },
    /// Brings up the loopback of N1.
    Loopback,
    /// uts hostname.
    Hostname { name: String },
    /// The new root.
    Root { root: Root },
    /// File with this content, mode 0444 unless writable.
    File { path: String, content: String },
    /// Symlink below the root.
    Symlink { path: String, target: String },
    /// Mount of a source.
    Bind {
        source: usize,
        path: String,
        attributes: Attributes,
    },
    /// Placeholder in the host's workspace, removed again at the end.
    Placeholder {
        source: usize,
        path: String,
        kind: Placeholder,
    },
    /// Mounts a directory inside over itself, so that it cannot be renamed; optionally read-only.
    Pin { path: String, read_only: bool },
    /// tmpfs.
    Tmpfs {
        path: String,
        size: u64,
        mode: u32,
        owner: u32,
        attributes: Attributes,
    },
    /// Overlay of a source with a layer that is thrown away or kept.
    Overlay {
        source: usize,
        path: String,
        upper: Upper,
        owner: u32,
        attributes: Attributes,
    },
    /// Fresh procfs of the sandbox's pid namespace.
    Proc { path: String },
    /// Fresh devpts.
    Devpts { path: String, max: u32 },
    /// POSIX message queues of the sandbox's ipc namespace: mq_overview(7).
    Mqueue { path: String },
    /// Terminal of our own on the new devpts, its master passed to the supervisor.
    Terminal { owner: u32 },
    /// Hides a path behind an empty file or directory.
    Mask { path: String, directory: bool },
    /// Makes a path of /proc read-only.
    ReadOnly { path: String },
    /// Makes the root itself read-only.
    SealRoot,
    /// The new root becomes the root; the host's tree is gone.
    Pivot,
    /// Resource limits: name, soft, hard.
    Rlimits { limits: Vec<(Rlimit, u64, u64)> },
    /// Job user namespace U2 and a locked copy of the mounts.
    JobUser {
        uids: Vec<Extent>,
        gids: Vec<Extent>,
        setgroups: bool,
    },
    /// Fresh session keyring.
    Keyring,
    /// Capability sets of the job; init keeps `init` besides.
    Capabilities {
        bounding: BTreeSet<Capability>,
        job: BTreeSet<Capability>,
        init: BTreeSet<Capability>,
    },
    /// no_new_privs.
    NoNewPrivileges,
    /// Landlock domain of init and job.
    Landlock { rules: LandlockPlan },
    /// Seccomp filter of init and job.
    Seccomp { filter: Filter },
}

/// Who writes U0's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapWriter {
    /// newuidmap and newgidmap, at the same time.
    Helpers,
    /// The caller itself: its own id only, setgroups denied.
    Caller,
    /// A privileged launcher.
    Launcher,
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// mount_namespaces(7)
    Mount,
    /// pid_namespaces(7)
    Pid,
    /// network_namespaces(7): N1; with a network N0, and N1 behind it
    Network,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
}

/// The root of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Root {
    /// An empty tmpfs that the following steps fill: the host view.
    Tmpfs {
        /// Bytes.
        size: u64,
    },
    /// An overlay over a source; the source is never written.
    Overlay {
        /// Index into the sources.
        source: usize,
        /// Where writes go.
        upper: Upper,
        /// Id of U0 that owns the upper layer.
        owner: u32,
    },
}

/// Where an overlay's writes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Upper {
    /// A tmpfs of this size.
    Tmpfs {
        /// Bytes.
        size: u64,
    },
    /// Directories `upper` and `work` below this source.
    Directory {
        /// Index into the sources.
        source: usize,
    },
}

/// Mount attributes; nosuid and nodev unless said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// MOUNT_ATTR_RDONLY
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// MOUNT_ATTR_NOEXEC
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_exec: bool,
    /// Set-id files count, below a directory nobody else can reach.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub set_id: bool,
    /// Device nodes count: only for the nodes of /dev themselves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub devices: bool,
}

/// A resource limit of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rlimit {
    /// RLIMIT_CORE, bytes
    Core,
    /// RLIMIT_NOFILE, descriptors
    Nofile,
    /// RLIMIT_NPROC, processes of the uid
    Nproc,
    /// RLIMIT_MEMLOCK, bytes
    Memlock,
    /// RLIMIT_MSGQUEUE, bytes
    Msgqueue,
    /// RLIMIT_SIGPENDING
    Sigpending,
    /// RLIMIT_RTPRIO
    Rtprio,
    /// RLIMIT_NICE
    Nice,
}

/// What a cgroup limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CgroupLimits {
    /// Bytes.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub milli_cpus: Option<u32>,
    /// Tasks.
    pub pids: Option<u32>,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory inside.
    pub directory: String,
    /// Uid inside.
    pub uid: u32,
    /// Gid inside.
    pub gid: u32,
    /// The command is pid 1.
    pub pid1: bool,
    /// Which of descriptors 0-2 are a terminal of its own.
    pub terminal: [bool; 3],
}

/// What the supervisor watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Supervise {
    /// Seconds until the job is ended.
    pub timeout: Option<u64>,
    /// Bytes of output kept when detached.
    pub log_bytes: u64,
    /// Events kept per second.
    pub events_per_second: u32,
    /// Refused cold calls are answered by the supervisor and leave an event.
    pub records_refusals: bool,
    /// A recorded call, once received, waits for its answer whatever signals come (5.19).
    pub wait_killable: bool,
    /// Polled limit on layers kept on disk, bytes.
    pub disk: Option<u64>,
    /// Protected paths of a copied workspace that is kept, relative: what the job
    /// wrote there is removed before anybody looks at the copy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub not_kept: Vec<String>,
}

/// One control: what was asked for and what will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enforcement {
    /// Its name in output: `memory`, `landlock`, `seccomp` …
    pub control: String,
    /// What the policy asks.
    pub requested: String,
    /// What this host gives.
    pub actual: String,
    /// Weaker than asked, allowed by this `degrade` entry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub degraded: Option<Control>,
    /// Who asked.
    pub why: Origin,
}
