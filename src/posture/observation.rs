//! [pure] What the kernel says of the processes of one sandbox, as values.
//!
//! Ids are those of U0, since U0 is where they are read from. Text that a job
//! chose (names, link targets) is bounded, and printed by nobody unescaped.

use crate::confine::idmap::Extent;
use crate::host::mounts::Mount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was read of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Namespaces of the process that looked, before it entered U0.
    pub host: BTreeMap<Kind, u64>,
    /// Gateway, init, and every process of the sandbox's pid namespace.
    pub processes: Vec<Process>,
    /// Mount tables; processes name theirs by index.
    pub mount_tables: Vec<Vec<Mount>>,
    /// What could not be read of living processes.
    pub unreadable: Vec<Unreadable>,
}

/// A file of /proc that could not be read although its process lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unreadable {
    /// Its pid outside.
    pub pid: i32,
    /// Which file, below /proc/PID.
    pub file: String,
    /// What the kernel answered, or what in the text was not as the kernel writes it.
    pub cause: String,
}

/// What a process is to its sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Holder of U0, outside of the sandbox's pid namespace.
    Gateway,
    /// Our pid 1 inside.
    Init,
    /// Started by init, or a descendant of that: the job and exec'd commands,
    /// for which the same holds.
    Job,
    /// In the pid namespace but no descendant of init: it was put there from outside.
    Joined,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// What it is.
    pub role: Role,
    /// Pid in the pid namespace of the reader.
    pub pid: i32,
    /// Pid in its own pid namespace.
    pub pid_inside: i32,
    /// Its comm, as the kernel escapes it.
    pub name: String,
    /// Its threads, each with what threads need not share.
    pub threads: Vec<Thread>,
    /// uid_map, outside ids those of U0; of the gateway, those of the reader's namespace.
    pub uid_map: Vec<Extent>,
    /// gid_map, likewise.
    pub gid_map: Vec<Extent>,
    /// Index into [`Observation::mount_tables`].
    pub mounts: usize,
    /// Resource limits by the kernel's name for them.
    pub limits: BTreeMap<String, Limit>,
    /// Lines of /proc/PID/cgroup.
    pub cgroups: Vec<String>,
    /// Owner of /proc/PID/fd in U0's ids: not the process's own uid when it is not dumpable (proc(5)).
    pub proc_owner: u32,
    /// Bytes of the environment of init.
    pub environment_bytes: Option<u64>,
}

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// /proc/PID/task/TID/status.
    pub status: Status,
    /// Namespaces by kind.
    pub namespaces: BTreeMap<Kind, Namespace>,
    /// Root directory.
    pub root: Directory,
    /// Working directory.
    pub directory: Directory,
    /// Open descriptors.
    pub descriptors: Vec<Descriptor>,
}

/// What /proc/PID/task/TID/status says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// comm, as the kernel escapes it.
    pub name: String,
    /// One letter: proc_pid_status(5).
    pub state: char,
    /// Thread id in the reader's pid namespace.
    pub tid: i32,
    /// Parent process in the reader's pid namespace.
    pub parent: i32,
    /// Thread id in the innermost pid namespace.
    pub tid_inside: i32,
    /// Real, effective, saved and file-system uid.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system gid.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Size of its table of descriptors.
    pub descriptor_table: u32,
    /// umask; a thread about to exit has none.
    pub umask: Option<u32>,
    /// Capability sets.
    pub capabilities: Capabilities,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Seccomp filters.
    pub seccomp_filters: u32,
    /// Blocked signals: bit n-1 for signal n.
    pub blocked: u64,
    /// Ignored signals.
    pub ignored: u64,
    /// Caught signals.
    pub caught: u64,
}

/// The five capability sets as bit masks: capabilities(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Kept over execve(2) of files that ask for them.
    pub inheritable: u64,
    /// May become effective.
    pub permitted: u64,
    /// In force.
    pub effective: u64,
    /// The most that execve(2) can give.
    pub bounding: u64,
    /// Kept over execve(2).
    pub ambient: u64,
}

/// A kind of namespace, named as in /proc/PID/ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// user_namespaces(7)
    User,
    /// mount_namespaces(7)
    Mnt,
    /// pid_namespaces(7)
    Pid,
    /// The one of children yet to be made.
    PidForChildren,
    /// network_namespaces(7)
    Net,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// time_namespaces(7)
    Time,
    /// The one of children yet to be made.
    TimeForChildren,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::User,
        Self::Mnt,
        Self::Pid,
        Self::PidForChildren,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
        Self::Time,
        Self::TimeForChildren,
    ];

    /// Its file in /proc/PID/ns.
    pub fn file(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mnt => "mnt",
            Self::Pid => "pid",
            Self::PidForChildren => "pid_for_children",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
            Self::TimeForChildren => "time_for_children",
        }
    }
}

/// A namespace by its inode on nsfs, which is unique while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its inode.
    pub inode: u64,
    /// Inode of the user namespace that owns it (of a user namespace: its
    /// parent); none when that is outside of U0.
    pub owner: Option<u64>,
}

/// A root or working directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its path below the root of its mount namespace.
    pub path: String,
    /// Id of the mount it lies on.
    pub mount: u64,
}

/// An open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub class: Class,
    /// Where its link in /proc/PID/fd leads.
    pub target: String,
    /// Id of the mount it was opened on, which may be internal to the kernel.
    pub mount: u64,
    /// Device of the file system it lies on: major, minor.
    pub device: (u32, u32),
    /// Inode of the network namespace of a socket; none when U0 has no say over it.
    pub network: Option<u64>,
}

/// What kind of object a descriptor is open on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The null device.
    Null,
    /// A pseudo-terminal's slave or master, or another terminal.
    Terminal,
    /// Another character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    /// A pipe without a name.
    Pipe,
    /// A pipe with a name.
    Fifo,
    /// A socket.
    Socket,
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symlink, opened with O_PATH.
    Symlink,
    /// Memory, by the name its maker gave it: memfd_create(2).
    Memory(String),
    /// A namespace, by its inode.
    Namespace(Kind, u64),
    /// Another kernel object without a place: `eventfd`, `seccomp notify`, `pidfd` …
    Kernel(String),
}

/// One resource limit; none is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Soft limit.
    pub soft: Option<u64>,
    /// Hard limit.
    pub hard: Option<u64>,
}
