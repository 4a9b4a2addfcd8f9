//! What of the host must be the same before, during and after, whatever a job tries.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files whose content or attributes a successful escape would change.
const FILES: &[&str] = &[
    "/etc/passwd",
    "/etc/group",
    "/etc/subuid",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/usr/bin/env",
    "/bin/sh",
    "/proc/modules",
    "/proc/filesystems",
    "/proc/swaps",
    "/proc/net/route",
    "/proc/net/if_inet6",
];

/// Settings that are the whole host's.
const SYSCTLS: &[&str] = &[
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/panic",
    "kernel/pid_max",
    "kernel/yama/ptrace_scope",
    "vm/overcommit_memory",
    "fs/file-max",
    "fs/protected_hardlinks",
    "net/ipv4/ip_forward",
    "net/core/somaxconn",
    "user/max_user_namespaces",
];

/// Digests by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canaries(BTreeMap<String, String>);

impl Canaries {
    /// The host's own, and every file below `trees`, links not followed.
    pub fn take(trees: &[&Path]) -> Self {
        let mut all = BTreeMap::new();
        for path in FILES {
            all.insert((*path).into(), digest(Path::new(path)));
        }
        for name in SYSCTLS {
            let path = format!("/proc/sys/{name}");
            all.insert(path.clone(), digest(Path::new(&path)));
        }
        if let Ok(output) = Command::new("nft").args(["list", "ruleset"]).output() {
            all.insert("nft list ruleset".into(), hash(&output.stdout));
        }
        for tree in trees {
            add_tree(tree, &mut all);
        }
        Self(all)
    }

    /// What differs, by name.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys());
        let differs = |name: &&String| self.0.get(*name) != later.0.get(*name);
        let mut changed: Vec<String> = names.filter(differs).cloned().collect();
        changed.dedup();
        changed
    }
}

fn add_tree(directory: &Path, all: &mut BTreeMap<String, String>) {
    all.insert(directory.display().to_string(), digest(directory));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_tree(&path, all);
        } else {
            all.insert(path.display().to_string(), digest(&path));
        }
    }
}

/// Mode, owner and content; for what cannot be read, the reason.
fn digest(path: &Path) -> String {
    let attributes = match fs::symlink_metadata(path) {
        Ok(meta) => format!(
            "{:o} {} {} {}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink()
        ),
        Err(error) => return error.to_string(),
    };
    let content = match fs::symlink_metadata(path).map(|meta| meta.file_type()) {
        Ok(kind) if kind.is_file() => fs::read(path).map(|bytes| hash(&bytes)),
        Ok(kind) if kind.is_symlink() => fs::read_link(path).map(|link| link.display().to_string()),
        _ => Ok(String::new()),
    };
    format!(
        "{attributes} {}",
        content.unwrap_or_else(|error| error.to_string())
    )
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
