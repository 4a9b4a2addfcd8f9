//! What an account has running, mounted and made; taken before and after.

use super::user::Account;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Things that a sandbox could leave behind, each as a line to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Processes of the account's ids: pid, start time, name.
    pub processes: BTreeSet<String>,
    /// Namespaces those processes are in.
    pub namespaces: BTreeSet<String>,
    /// Mounts of the tester's mount namespace.
    pub mounts: BTreeSet<String>,
    /// Directories of every cgroup hierarchy.
    pub cgroups: BTreeSet<String>,
    /// Files below the directories asked for.
    pub files: BTreeSet<String>,
    /// Open descriptors of the processes asked for: pid, number, target.
    pub descriptors: BTreeSet<String>,
}

impl Census {
    /// Counts now. Processes of other accounts come and go, so they are left out.
    pub fn take(account: &Account, directories: &[&Path], pids: &[u32]) -> Self {
        let mut census = Self::default();
        for pid in numeric_entries("/proc") {
            census.add_process(account, pid);
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        census.mounts = mountinfo.lines().map(without_number).collect();
        walk(Path::new("/sys/fs/cgroup"), &mut |path, is_dir| {
            if is_dir {
                census.cgroups.insert(path.display().to_string());
            }
        });
        for directory in directories {
            walk(directory, &mut |path, _| {
                census.files.insert(path.display().to_string());
            });
        }
        for pid in pids {
            for fd in numeric_entries(&format!("/proc/{pid}/fd")) {
                let target = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
                census
                    .descriptors
                    .insert(format!("{pid}: {fd} -> {}", target.display()));
            }
        }
        census
    }

    fn add_process(&mut self, account: &Account, pid: u32) {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        // Each file may be gone by now; then so is the process.
        let Ok(meta) = fs::metadata(&directory) else {
            return;
        };
        let Ok(stat) = fs::read_to_string(directory.join("stat")) else {
            return;
        };
        if !account.owns(real_uid(&directory).unwrap_or(meta.uid())) {
            return;
        }
        let name = stat.split(['(', ')']).nth(1).unwrap_or_default();
        let start = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(19))
            .unwrap_or_default();
        self.processes.insert(format!("{pid} {start} {name}"));
        for entry in fs::read_dir(directory.join("ns"))
            .into_iter()
            .flatten()
            .flatten()
        {
            if let Ok(link) = fs::read_link(entry.path()) {
                self.namespaces.insert(link.display().to_string());
            }
        }
    }

    /// What `later` has and this one had not, each line with its kind.
    pub fn leaks(&self, later: &Self) -> Vec<String> {
        let kinds = [
            ("process", &self.processes, &later.processes),
            ("namespace", &self.namespaces, &later.namespaces),
            ("mount", &self.mounts, &later.mounts),
            ("cgroup", &self.cgroups, &later.cgroups),
            ("file", &self.files, &later.files),
            ("descriptor", &self.descriptors, &later.descriptors),
        ];
        let new = |(kind, before, after): (&str, &BTreeSet<String>, &BTreeSet<String>)| {
            after
                .difference(before)
                .map(|line| format!("{kind} {line}"))
                .collect::<Vec<_>>()
        };
        kinds.into_iter().flat_map(new).collect()
    }
}

/// The owner of /proc/PID is root for an undumpable process; the status is not.
fn real_uid(process: &Path) -> Option<u32> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn numeric_entries(directory: &str) -> Vec<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// mountinfo without the mount's own number and its parent's, which are reused.
fn without_number(line: &str) -> String {
    line.splitn(3, ' ').nth(2).unwrap_or(line).into()
}

fn walk(directory: &Path, see: &mut impl FnMut(&Path, bool)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        see(&entry.path(), is_dir);
        if is_dir {
            walk(&entry.path(), see);
        }
    }
}
