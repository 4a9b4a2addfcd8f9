//! [host] Reads the host once and yields [`Facts`]; forks nothing and changes nothing.
//!
//! It runs before each sandbox, so it reads only what `plan` decides on. What reading cannot
//! prove is tried by [`super::deep`], for `doctor`.

use super::facts::{Facts, IdRange, Seccomp};
use super::{cgroups, ids, mounts, namespaces, network, read, visible};
use crate::sys::feature;
use rustix::process::Resource;
use std::fmt;
use std::io;

/// What the caller of the probe knows and the probe must not guess.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeRequest<'a> {
    /// Paths below /proc and /sys to mask or make read-only; `*` matches within a name.
    pub maskable: &'a [&'a str],
    /// `XDG_RUNTIME_DIR`, if it is set; else /run/user/UID is looked at.
    pub runtime_dir: Option<&'a str>,
    /// A cgroup v2 directory that the operator delegated, absolute; it must work or is an error.
    pub cgroup_dir: Option<&'a str>,
    /// Run by root: sandboxes of ours run in the default id range already, so a live process in
    /// it is no stranger.
    pub default_range_is_ours: bool,
}

/// Why the host could not be read.
#[derive(Debug)]
pub enum ProbeError {
    /// A file that should be readable is not.
    Read {
        /// Which.
        path: String,
        /// Why.
        cause: io::Error,
    },
    /// A file is larger than any real one.
    TooLarge {
        /// Which.
        path: String,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A file does not hold what the kernel writes there.
    Malformed {
        /// Which.
        path: String,
        /// What should be there.
        expected: &'static str,
    },
    /// The CPU mask could not be asked for.
    Affinity {
        /// Why.
        cause: io::Error,
    },
    /// The supplementary groups could not be asked for.
    Groups {
        /// Why.
        cause: io::Error,
    },
    /// A child for a try of `doctor` could not be made or waited for.
    Trial {
        /// Why.
        cause: io::Error,
    },
    /// The cgroup directory that the operator named is none we can use.
    CgroupDirectory {
        /// As named.
        path: String,
    },
    /// Run by root without a range in /etc/subuid, and the default one belongs to someone.
    RangeTaken {
        /// The default range.
        range: IdRange,
        /// Whose it is.
        by: String,
    },
    /// Run by root of a user namespace in which the range does not exist.
    RangeUnmapped {
        /// The map that lacks it.
        map: String,
        /// The range.
        range: IdRange,
    },
}

impl fmt::Display for ProbeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, .. } => write!(out, "cannot read {path}"),
            Self::TooLarge { path, limit } => {
                write!(
                    out,
                    "{path} is larger than {limit} bytes, which no real one is"
                )
            }
            Self::Malformed { path, expected } => {
                write!(out, "{path} does not hold {expected}")
            }
            Self::Affinity { .. } => write!(out, "cannot ask which CPUs we may run on"),
            Self::Groups { .. } => write!(out, "cannot ask for our supplementary groups"),
            Self::Trial { .. } => write!(out, "cannot make a child process to try things in"),
            Self::CgroupDirectory { path } => write!(
                out,
                "{path} is no cgroup v2 directory that we may write with a cpu, memory or pids controller; \
                 chown it, its cgroup.procs and its cgroup.subtree_control to this user"
            ),
            Self::RangeTaken { range, by } => write!(
                out,
                "the ids {} to {} that sandboxes of root use by default belong to {by}; \
                 give others with a line `containers:START:65536` in /etc/subuid and /etc/subgid",
                range.start,
                range.start + (range.count - 1),
            ),
            Self::RangeUnmapped { map, range } => write!(
                out,
                "the ids from {} on do not exist in this user namespace ({map}), as in a container; \
                 name existing ones with a line `containers:START:COUNT` in /etc/subuid and /etc/subgid",
                range.start,
            ),
        }
    }
}

impl std::error::Error for ProbeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { cause, .. }
            | Self::Affinity { cause }
            | Self::Groups { cause }
            | Self::Trial { cause } => Some(cause),
            Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::CgroupDirectory { .. }
            | Self::RangeTaken { .. }
            | Self::RangeUnmapped { .. } => None,
        }
    }
}

/// The facts about this host, now.
pub fn probe(request: &ProbeRequest) -> Result<Facts, ProbeError> {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let kernel = version(&release)?;
    let passwd = read::text("/etc/passwd")?.unwrap_or_default();
    let caller = ids::caller(&passwd)?;
    let mounts = mounts::parse(&read::required("/proc/self/mountinfo")?)
        .map_err(|_| malformed("/proc/self/mountinfo", "lines of proc_pid_mountinfo(5)"))?;
    Ok(Facts {
        kernel,
        machine: uname.machine().to_string_lossy().into_owned(),
        user_namespaces: namespaces::user_namespaces(caller.is_root())?,
        subordinate: ids::subordinate(&caller, &passwd, request.default_range_is_ours)?,
        landlock_abi: feature::landlock_abi(),
        seccomp: seccomp(),
        cgroup: cgroups::cgroup(request, &mounts, caller.uid)?,
        network: network::network(&release)?,
        overlay_userxattr: kernel >= (5, 11) && has_overlay(&release)?,
        tmpfs_user_xattr: kernel >= (6, 6),
        proc_overmounted: mounts::refuses_fresh(&mounts, "proc"),
        sys: visible::sys()?,
        maskable: visible::maskable(request.maskable)?,
        programs: visible::programs()?,
        etc: visible::etc()?,
        cpus: cpus()?,
        nofile_hard: rustix::process::getrlimit(Resource::Nofile)
            .maximum
            .unwrap_or(u64::MAX),
        release,
        privileged: caller.is_root(),
        caller,
    })
}

fn malformed(path: &str, expected: &'static str) -> ProbeError {
    ProbeError::Malformed {
        path: path.into(),
        expected,
    }
}

/// (major, minor) of a release such as `6.8.0-31-generic` or `6.1+`.
fn version(release: &str) -> Result<(u32, u32), ProbeError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(malformed(
            "/proc/sys/kernel/osrelease",
            "a version such as 6.1.0",
        )),
    }
}

fn seccomp() -> Seccomp {
    let notify = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // The flag is valid only together with a listener.
    let wait_killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | notify;
    Seccomp {
        filter: feature::seccomp_action_available(libc::SECCOMP_RET_ERRNO),
        user_notify: feature::seccomp_action_available(libc::SECCOMP_RET_USER_NOTIF),
        wait_killable: feature::seccomp_flags_known(wait_killable),
    }
}

/// overlayfs is there, or is a module that its first mount loads.
fn has_overlay(release: &str) -> Result<bool, ProbeError> {
    let known = read::required("/proc/filesystems")?;
    if known.lines().any(|line| line.ends_with("\toverlay")) {
        return Ok(true);
    }
    let module = format!("/lib/modules/{release}/kernel/fs/overlayfs/overlay.ko*");
    visible::exists(&module)
}

fn cpus() -> Result<u32, ProbeError> {
    let set = rustix::thread::sched_getaffinity(None).map_err(|cause| ProbeError::Affinity {
        cause: cause.into(),
    })?;
    Ok(set.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.8.0-31-generic").unwrap(), (6, 8));
        assert_eq!(version("6.1+").unwrap(), (6, 1));
        assert!(version("linux").is_err());
    }

    #[test]
    fn this_host_has_facts_that_survive_json() {
        let request = ProbeRequest {
            maskable: &["/proc/kcore", "/proc/sys"],
            ..Default::default()
        };
        let facts = probe(&request).unwrap();
        assert!(facts.kernel >= (5, 11), "{:?}", facts.kernel);
        assert!(facts.cpus >= 1 && facts.nofile_hard >= 64);
        assert!(facts.seccomp.filter);
        assert!(facts.programs.iter().any(|entry| entry.path == "/usr"));
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }
}
