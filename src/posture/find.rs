//! [host] Which processes belong to a sandbox: found by descent and by pid namespace.
//!
//! Both, because a process that execs a file it may not read hides its
//! namespaces from U0 (would_dump in fs/exec.c) but never its parent, and one
//! put into the pid namespace from outside has a foreign parent.

use super::PostureError;
use super::files::{Failed, Files, all_processes};
use super::observation::{Kind, Observation, Role, Unreadable};
use super::read::{Gone, Reader};
use super::status;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};

/// Scans of /proc until one finds nothing new: processes start while we look.
const SCANS: usize = 8;

/// The namespaces of this process; kinds that this kernel lacks are absent.
pub(super) fn own_namespaces() -> Result<BTreeMap<Kind, u64>, PostureError> {
    let files = Files::of_process(own_pid()).map_err(failed("open", "/proc/self"))?;
    let mut namespaces = BTreeMap::new();
    for kind in Kind::ALL {
        match files.namespace(kind.file()) {
            Ok(inode) => {
                namespaces.insert(kind, inode);
            }
            Err(Failed::Kernel(Errno::NOENT)) => {}
            Err(error) => {
                return Err(kernel(
                    "readlink",
                    format!("/proc/self/ns/{}", kind.file()),
                    &error,
                ));
            }
        }
    }
    Ok(namespaces)
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn failed(call: &'static str, object: &str) -> impl FnOnce(Errno) -> PostureError {
    move |errno| PostureError::System {
        call,
        object: object.to_owned(),
        errno,
    }
}

pub(super) fn kernel(call: &'static str, object: String, failed: &Failed) -> PostureError {
    let errno = match failed {
        Failed::Kernel(errno) => *errno,
        Failed::TooLong => Errno::FBIG,
        Failed::Malformed(_) => Errno::INVAL,
    };
    PostureError::System {
        call,
        object,
        errno,
    }
}

/// Reads gateway, init and everything in init's pid namespace. Called inside U0.
pub(super) fn sandbox(
    host: BTreeMap<Kind, u64>,
    gateway: i32,
    init: i32,
) -> Result<Observation, PostureError> {
    let files = Files::of_process(init).map_err(failed("open", &format!("/proc/{init}")))?;
    if !below_us(&files) {
        return Err(PostureError::Stranger { init });
    }
    let namespace = files
        .namespace("pid")
        .map_err(|error| kernel("readlink", format!("/proc/{init}/ns/pid"), &error))?;
    if host.get(&Kind::Pid) == Some(&namespace) {
        return Err(PostureError::Stranger { init });
    }
    let mut reader = Reader::new(host).map_err(failed("memfd_create", ""))?;
    take(&mut reader, gateway, Role::Gateway, true)?;
    take(&mut reader, init, Role::Init, true)?;
    let mut seen = BTreeSet::from([gateway, init]);
    for _ in 0..SCANS {
        let found: Vec<_> = scan(init, namespace)?
            .into_iter()
            .filter(|(pid, _)| seen.insert(*pid))
            .collect();
        if found.is_empty() {
            return Ok(reader.finish());
        }
        for (pid, role) in found {
            take(&mut reader, pid, role, false)?;
        }
    }
    reader.unreadable(Unreadable {
        pid: init,
        file: "task".to_owned(),
        cause: "processes start faster than they can be read".to_owned(),
    });
    Ok(reader.finish())
}

/// Whether the user namespace of this process is a child of the one we are in.
fn below_us(files: &Files) -> bool {
    let own = Files::of_process(own_pid()).and_then(|own| own.stat("ns/user"));
    let parent = files.open("ns/user").and_then(crate::sys::namespace::owner);
    match (own, parent.and_then(rustix::fs::fstat)) {
        (Ok(own), Ok(parent)) => own.stx_ino == parent.st_ino,
        _ => false,
    }
}

/// Reads one process. Gateway and init must be there; others may have ended.
fn take(reader: &mut Reader, pid: i32, role: Role, needed: bool) -> Result<(), PostureError> {
    match reader.process(pid, role) {
        Ok(()) => Ok(()),
        Err(Gone) if needed => Err(failed("read", &format!("/proc/{pid}"))(Errno::SRCH)),
        Err(Gone) => Ok(()),
    }
}

/// Everything below init, or in its pid namespace.
fn scan(init: i32, namespace: u64) -> Result<Vec<(i32, Role)>, PostureError> {
    let all = all_processes().map_err(|error| kernel("read", "/proc".to_owned(), &error))?;
    let mut parents = BTreeMap::new();
    let mut inside = BTreeSet::new();
    for pid in all {
        let Ok(files) = Files::of_process(pid) else {
            continue;
        };
        match files.parsed("status", status::parent) {
            Ok(parent) => {
                parents.insert(pid, parent);
            }
            Err(Failed::Kernel(Errno::NOENT | Errno::SRCH)) => continue,
            Err(error) => return Err(kernel("read", format!("/proc/{pid}/status"), &error)),
        }
        // Of other users' processes this is refused; those are not of our pid namespace.
        if files.namespace("pid").is_ok_and(|found| found == namespace) {
            inside.insert(pid);
        }
    }
    let below = descendants(init, &parents);
    let joined = inside
        .difference(&below)
        .filter(|pid| **pid != init)
        .map(|pid| (*pid, Role::Joined));
    let joined: Vec<_> = joined.collect();
    Ok(below
        .iter()
        .map(|pid| (*pid, Role::Job))
        .chain(joined)
        .collect())
}

/// All whose chain of parents leads to `root`.
fn descendants(root: i32, parents: &BTreeMap<i32, i32>) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| {
                !found.contains(*pid) && (**parent == root || found.contains(*parent))
            })
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_follows_every_generation_and_ends_on_loops() {
        let parents = BTreeMap::from([(2, 1), (3, 2), (9, 3), (4, 7), (5, 6), (6, 5), (10, 9)]);
        assert_eq!(descendants(2, &parents), BTreeSet::from([3, 9, 10]));
        assert_eq!(descendants(1, &parents), BTreeSet::from([2, 3, 9, 10]));
        assert_eq!(descendants(8, &parents), BTreeSet::new());
    }
}
