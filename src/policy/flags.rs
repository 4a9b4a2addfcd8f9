//! [pure] What the command line adds to a policy: the last layer, and its own reason.

use crate::policy::{Access, NetworkMode, words::Word};

/// A flag of `run` that `[flags] allow` may limit, by its long name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// `--rootfs`
    Rootfs,
    /// `--workspace`
    Workspace,
    /// `--env` and `--env-file`
    Env,
    /// `--workdir`
    Workdir,
    /// `--user`
    User,
    /// `--hostname`
    Hostname,
    /// `--mount`
    Mount,
    /// `--tmpfs`
    Tmpfs,
    /// `--network`
    Network,
    /// `--memory`
    Memory,
    /// `--cpus`
    Cpus,
    /// `--pids`
    Pids,
    /// `--disk`
    Disk,
    /// `--timeout`
    Timeout,
}

impl Flag {
    /// As typed: `--memory`.
    pub fn typed(self) -> String {
        format!("--{}", self.word())
    }
}

/// A limit as typed; `None` is `unlimited`.
pub type Limit<T> = Option<T>;

/// The flags that were given, values already read by [`crate::policy::text`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagLayer {
    /// `--memory`, bytes.
    pub memory: Option<Limit<u64>>,
    /// `--cpus`, thousandths.
    pub milli_cpus: Option<Limit<u32>>,
    /// `--pids`.
    pub pids: Option<Limit<u32>>,
    /// `--disk`, bytes.
    pub disk: Option<Limit<u64>>,
    /// `--timeout`, seconds.
    pub timeout: Option<Limit<u64>>,
    /// `--env` and `--env-file`, in order: a later one of the same name wins.
    pub env: Vec<(String, String)>,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--tmpfs`.
    pub tmpfs: Vec<TmpfsFlag>,
    /// `--workspace`: what it asks for, held against the policy's ceiling.
    pub workspace: Option<Access>,
    /// `--network`.
    pub network: Option<NetworkMode>,
    /// Flags given that set no value of a policy but that a policy may refuse.
    pub others: Vec<Flag>,
}

/// `--mount SRC=DST[:rw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// Host path; relative ones are relative to the current directory.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Writes reach the host.
    pub writable: bool,
}

/// `--tmpfs DST[:size]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsFlag {
    /// Absolute path inside.
    pub target: String,
    /// Bytes; without, as large as the policy's /tmp.
    pub size: Option<u64>,
}

impl FlagLayer {
    /// Every flag that was given, in the order of [`Flag`].
    pub fn given(&self) -> Vec<Flag> {
        let fields = [
            (self.workspace.is_some(), Flag::Workspace),
            (!self.env.is_empty(), Flag::Env),
            (!self.mounts.is_empty(), Flag::Mount),
            (!self.tmpfs.is_empty(), Flag::Tmpfs),
            (self.network.is_some(), Flag::Network),
            (self.memory.is_some(), Flag::Memory),
            (self.milli_cpus.is_some(), Flag::Cpus),
            (self.pids.is_some(), Flag::Pids),
            (self.disk.is_some(), Flag::Disk),
            (self.timeout.is_some(), Flag::Timeout),
        ];
        let given = fields.iter().filter(|(given, _)| *given);
        let mut flags: Vec<Flag> = given.map(|(_, flag)| *flag).collect();
        flags.extend(&self.others);
        flags.sort();
        flags.dedup();
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_names_what_was_given() {
        assert_eq!(FlagLayer::default().given(), []);
        let flags = FlagLayer {
            memory: Some(None),
            env: vec![("A".into(), "b".into())],
            others: vec![Flag::Rootfs, Flag::Rootfs],
            ..FlagLayer::default()
        };
        assert_eq!(flags.given(), [Flag::Rootfs, Flag::Env, Flag::Memory]);
        assert_eq!(Flag::Memory.typed(), "--memory");
    }
}
