//! [pure] Facts about the host, as values: what `plan` decides on.
//!
//! Only `host::probe` makes them from a real host; tests make them by hand.

use serde::{Deserialize, Serialize};

/// Everything `plan` may know about a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Kernel release as (major, minor), from uname(2).
    pub kernel: (u32, u32),
    /// The whole release string.
    pub release: String,
    /// Machine architecture as uname(2) says: `x86_64`, `aarch64`.
    pub machine: String,
    /// Started by root: a launcher and a cleaner keep root's rights, all else has `caller`'s.
    pub privileged: bool,
    /// Whose rights a sandbox has outside; who started us, unless that is root.
    pub caller: Caller,
    /// Whether an ordinary user may make a user namespace here.
    pub user_namespaces: UserNamespaces,
    /// Subordinate ids of the caller.
    pub subordinate: Subordinate,
    /// Landlock ABI, 0 where it is missing or switched off.
    pub landlock_abi: u32,
    /// Seccomp features.
    pub seccomp: Seccomp,
    /// Which cgroups we may use.
    pub cgroup: Cgroup,
    /// What a sandbox with a network needs.
    pub network: Network,
    /// overlayfs may be mounted in a user namespace with `userxattr` (5.11).
    pub overlay_userxattr: bool,
    /// tmpfs keeps user.* xattrs (6.6), so that it can be an overlay's upper layer.
    pub tmpfs_user_xattr: bool,
    /// /proc has over-mounts we cannot see through: a fresh proc would be refused.
    pub proc_overmounted: bool,
    /// Files of /sys that are shown, one by one.
    pub sys: Vec<String>,
    /// Paths of the built-in mask list that exist here, with what they are.
    pub maskable: Vec<Maskable>,
    /// Top-level names of the host's programs.
    pub programs: Vec<ProgramEntry>,
    /// Paths below /etc that the host view binds read-only and that exist here.
    pub etc: Vec<EtcEntry>,
    /// Number of CPUs this process may run on.
    pub cpus: u32,
    /// Hard RLIMIT_NOFILE of the caller.
    pub nofile_hard: u64,
}

/// The account that started us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// Login name, if the passwd file has one.
    pub name: Option<String>,
    /// The gid of the passwd entry; newgidmap insists on it.
    pub passwd_gid: Option<u32>,
    /// Home directory, absolute.
    pub home: Option<String>,
    /// Whether there are supplementary groups beside `gid`.
    pub supplementary_groups: bool,
}

impl Caller {
    /// Started by root of this host.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// May an ordinary user make one?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserNamespaces {
    /// Yes.
    Available,
    /// CONFIG_USER_NS is off.
    Missing,
    /// user.max_user_namespaces is 0.
    LimitZero,
    /// kernel.unprivileged_userns_clone is 0 (Debian's switch).
    SysctlOff,
    /// kernel.apparmor_restrict_unprivileged_userns is 1 and no profile lifts it for us (Ubuntu).
    AppArmor,
}

/// A range of subordinate ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRange {
    /// First host id.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Subordinate ids and the programs that map them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subordinate {
    /// The caller's largest range in /etc/subuid (for root: see ids-and-controls in ARCHITECTURE.md).
    pub uids: Option<IdRange>,
    /// The same in /etc/subgid.
    pub gids: Option<IdRange>,
    /// Absolute path of newuidmap, if it is installed and setuid or has file capabilities.
    pub newuidmap: Option<String>,
    /// Absolute path of newgidmap, likewise.
    pub newgidmap: Option<String>,
}

/// What a sandbox with a network needs of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Whether rules can hand packets to listeners.
    pub tproxy: Tproxy,
    /// Whether the kernel has IPv6, and was not started with `ipv6.disable=1`.
    pub ipv6: bool,
}

/// Whether the kernel has TPROXY for nftables (CONFIG_NFT_TPROXY, 4.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tproxy {
    /// Built in or loaded.
    Present,
    /// A module that the first rule loads.
    Loadable,
    /// The kernel's modules are there and it is none of them.
    Missing,
    /// Nothing on this host says; the first rule will.
    Unknown,
}

/// Seccomp features, from SECCOMP_GET_ACTION_AVAIL and probing flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seccomp {
    /// Filters work at all.
    pub filter: bool,
    /// SECCOMP_RET_USER_NOTIF.
    pub user_notify: bool,
    /// SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (5.19).
    pub wait_killable: bool,
}

/// Which cgroups we may put a job into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Cgroup {
    /// cgroup v2, a directory (absolute path below /sys/fs/cgroup) that we may write, and its controllers.
    Delegated {
        /// Directory in which a child per sandbox is made.
        dir: String,
        /// Controllers that may be enabled for children.
        controllers: Vec<String>,
    },
    /// cgroup v2 under a systemd user session that makes a scope on request by D-Bus.
    Systemd {
        /// Path of the user bus socket.
        bus: String,
        /// Controllers the user manager has.
        controllers: Vec<String>,
    },
    /// v1 or hybrid, started by root: mount point of each controller, e.g. ("memory", "/sys/fs/cgroup/memory").
    V1 {
        /// (controller, directory in which a child per sandbox is made).
        controllers: Vec<(String, String)>,
    },
    /// Nothing usable; why, in one line.
    None {
        /// E.g. "cgroup v1 hybrid, and not started by root".
        why: String,
    },
}

/// A path that is masked or made read-only inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maskable {
    /// Absolute path below /proc or /sys.
    pub path: String,
    /// A directory (else a file).
    pub directory: bool,
}

/// /usr, /bin, /lib64 …: a directory to bind, or a symlink to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramEntry {
    /// Absolute path.
    pub path: String,
    /// Target, when it is a symlink.
    pub link: Option<String>,
}

/// A path below /etc that is shown read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcEntry {
    /// Absolute path.
    pub path: String,
    /// A directory (else a file).
    pub directory: bool,
}
