//! [pure] What one `run` asks for, with every host object it names already looked at.

use crate::policy::Access;
use crate::source::origin::Origin;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One sandbox as asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the sandbox, already checked against the name grammar.
    pub name: String,
    /// Command and arguments; never empty.
    pub argv: Vec<String>,
    /// Directory given with `--rootfs`; else the host view.
    pub rootfs: Option<HostObject>,
    /// Workspace, if any.
    pub workspace: Option<Workspace>,
    /// Mounts of policy and flags, with what their sources are.
    pub mounts: Vec<Mount>,
    /// Variables of the caller that the policy passes, as (name, value).
    pub environment: Vec<(String, String)>,
    /// `--workdir`.
    pub workdir: Option<String>,
    /// `--user`, if given.
    pub user: Option<User>,
    /// `--hostname`.
    pub hostname: Option<String>,
    /// Which of descriptors 0-2 become a terminal of the job's own.
    pub terminal: [bool; 3],
    /// The command itself is pid 1; there is no `exec` then.
    pub pid1: bool,
    /// Where an overlay keeps its layers when they cannot or must not be on tmpfs.
    pub layers: Option<String>,
    /// Keep what the job wrote into a copied workspace.
    pub keep: bool,
    /// Of the policy's masked paths those that exist inside, and whether they are directories.
    pub masked: BTreeMap<String, bool>,
}

/// A directory or file of the host, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostObject {
    /// Absolute path with no symlink in it.
    pub path: String,
    /// Device of the inode, from fstat(2).
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// A directory (else anything that can be bound as a file).
    pub directory: bool,
    /// Owner uid.
    pub uid: u32,
    /// Owner gid.
    pub gid: u32,
}

/// The workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// The directory.
    pub object: HostObject,
    /// Absolute path inside.
    pub inside: String,
    /// How it appears inside.
    pub access: Access,
    /// Who asked.
    pub origin: Origin,
    /// The policy's protected paths and what each is today, where what the job writes
    /// stays: in a writable workspace, and in a copy that is kept.
    pub protected: Vec<Protected>,
    /// Sockets found below it, relative paths.
    pub sockets: Vec<String>,
}

/// A path below the workspace that must stay as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protected {
    /// Relative path as the policy names it.
    pub path: String,
    /// How many leading components exist.
    pub existing: usize,
    /// The last existing component is a directory.
    pub directory: bool,
    /// The policy line.
    pub origin: Origin,
}

impl Protected {
    /// Its components.
    pub fn components(&self) -> Vec<&str> {
        self.path
            .split('/')
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// The first component that is missing, as a path: where a placeholder goes.
    pub fn missing(&self) -> Option<String> {
        let names = self.components();
        (self.existing < names.len()).then(|| names[..=self.existing].join("/"))
    }
}

/// A mount grant and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The source.
    pub object: HostObject,
    /// Absolute path inside.
    pub target: String,
    /// Writable.
    pub writable: bool,
    /// Sockets found below it, relative paths.
    pub sockets: Vec<String>,
    /// Who granted it.
    pub origin: Origin,
}

/// `--user U[:G]`, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Uid inside.
    pub uid: u32,
    /// Gid inside.
    pub gid: u32,
}
