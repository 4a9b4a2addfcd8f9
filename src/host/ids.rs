//! [host] The account that started us, and the subordinate ids it may map.

use super::accounts::{accounts, grants, largest, mapped, overlap};
use super::facts::{Caller, IdRange, Subordinate};
use super::probe::ProbeError;
use super::read;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::os::unix::fs::MetadataExt;

/// Where newuidmap is looked for: never along PATH, which the caller's environment sets.
const HELPER_DIRECTORIES: [&str; 4] = ["/usr/bin", "/bin", "/usr/local/bin", "/run/wrappers/bin"];

/// Owners in /etc/subuid whose range a sandbox of root uses, in this order.
pub const ROOT_OWNERS: [&str; 2] = ["cofferdam", "containers"];

/// The ids that sandboxes of root use where /etc/subuid names none: from 1879048192, the first
/// id above those that systemd gives to containers, to below its foreign range
/// (systemd's UIDS-GIDS.md). No distribution gives these to users.
pub const ROOT_DEFAULT: IdRange = IdRange {
    start: 1_879_048_192,
    count: 1 << 20,
};

/// The caller, by effective ids.
pub fn caller(passwd: &str) -> Result<Caller, ProbeError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let groups = rustix::process::getgroups().map_err(|cause| ProbeError::Groups {
        cause: cause.into(),
    })?;
    let account = accounts(passwd).find(|account| account.uid == uid);
    Ok(Caller {
        uid,
        gid,
        passwd_gid: account.as_ref().map(|account| account.gid),
        supplementary_groups: groups.iter().any(|group| group.as_raw() != gid),
        home: account
            .as_ref()
            .map(|a| a.home.clone())
            .filter(|home| home.starts_with('/')),
        name: account.map(|account| account.name),
    })
}

/// The caller's subordinate ids and the programs that map them.
pub fn subordinate(
    caller: &Caller,
    passwd: &str,
    default_range_is_ours: bool,
) -> Result<Subordinate, ProbeError> {
    let subuid = read::text("/etc/subuid")?.unwrap_or_default();
    let subgid = read::text("/etc/subgid")?.unwrap_or_default();
    let (uids, gids) = if caller.is_root() {
        let texts = [subuid.as_str(), subgid.as_str()];
        let (uids, gids) = root_ranges(texts, passwd, default_range_is_ours)?;
        (Some(uids), Some(gids))
    } else {
        let uid = caller.uid.to_string();
        let owners = [caller.name.as_deref().unwrap_or(&uid), &uid];
        (largest(&subuid, &owners), largest(&subgid, &owners))
    };
    Ok(Subordinate {
        uids,
        gids,
        newuidmap: helper("newuidmap")?,
        newgidmap: helper("newgidmap")?,
    })
}

/// Root's ranges: what /etc/subuid and /etc/subgid give to one of [`ROOT_OWNERS`], else
/// [`ROOT_DEFAULT`] if nobody has those ids.
fn root_ranges(
    [subuid, subgid]: [&str; 2],
    passwd: &str,
    default_range_is_ours: bool,
) -> Result<(IdRange, IdRange), ProbeError> {
    let owned = ROOT_OWNERS
        .iter()
        .find_map(|owner| Some((largest(subuid, &[owner])?, largest(subgid, &[owner])?)));
    let (uids, gids) = match owned {
        Some(ranges) => ranges,
        None => {
            default_is_free([subuid, subgid], passwd, default_range_is_ours)?;
            (ROOT_DEFAULT, ROOT_DEFAULT)
        }
    };
    is_mapped("/proc/self/uid_map", uids)?;
    is_mapped("/proc/self/gid_map", gids)?;
    Ok((uids, gids))
}

fn default_is_free(subs: [&str; 2], passwd: &str, ours: bool) -> Result<(), ProbeError> {
    let taken = |by: String| {
        Err(ProbeError::RangeTaken {
            range: ROOT_DEFAULT,
            by,
        })
    };
    let within = |uid: u32| {
        overlap(
            IdRange {
                start: uid,
                count: 1,
            },
            ROOT_DEFAULT,
        )
    };
    if let Some(account) = accounts(passwd).find(|account| within(account.uid)) {
        return taken(format!("the account {}", account.name));
    }
    let mut entries = subs.into_iter().flat_map(grants);
    if let Some(grant) = entries.find(|grant| overlap(grant.range, ROOT_DEFAULT)) {
        return taken(format!("the subordinate ids of {}", grant.owner));
    }
    if ours {
        return Ok(());
    }
    match live_process(within)? {
        Some(pid) => taken(format!("process {pid}")),
        None => Ok(()),
    }
}

/// A process whose uid `wanted` accepts. One that ends meanwhile is none.
fn live_process(wanted: impl Fn(u32) -> bool) -> Result<Option<u32>, ProbeError> {
    let failed = |cause| ProbeError::Read {
        path: "/proc".into(),
        cause,
    };
    for entry in std::fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if entry
            .metadata()
            .is_ok_and(|metadata| wanted(metadata.uid()))
        {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

fn is_mapped(map: &str, range: IdRange) -> Result<(), ProbeError> {
    if mapped(&read::required(map)?, range) {
        Ok(())
    } else {
        Err(ProbeError::RangeUnmapped {
            map: map.into(),
            range,
        })
    }
}

/// The absolute path of a set-id helper, if it is installed and can do its work: it has the
/// set-user-id bit, or file capabilities (as Fedora ships it).
fn helper(name: &str) -> Result<Option<String>, ProbeError> {
    for directory in HELPER_DIRECTORIES {
        let path = format!("{directory}/{name}");
        let stat = match rustix::fs::stat(&path) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(cause) => {
                return Err(ProbeError::Read {
                    path,
                    cause: cause.into(),
                });
            }
        };
        let setuid = stat.st_uid == 0 && Mode::from_raw_mode(stat.st_mode).contains(Mode::SUID);
        if setuid || has_file_capabilities(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn has_file_capabilities(path: &str) -> bool {
    // struct vfs_ns_cap_data has 24 bytes; capabilities(7).
    rustix::fs::getxattr(path, "security.capability", &mut [0_u8; 24]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_prefers_the_named_entries() {
        let sub = "containers:200000:65536\ncofferdam:300000:65536\nann:1879048192:65536\n";
        let named = IdRange {
            start: 300_000,
            count: 65_536,
        };
        assert_eq!(root_ranges([sub, sub], "", false).unwrap(), (named, named));
        let only_uid = [
            "cofferdam:1:5\ncontainers:200000:65536",
            "containers:400000:65536",
        ];
        let (uids, gids) = root_ranges(only_uid, "", false).unwrap();
        assert_eq!((uids.start, gids.start), (200_000, 400_000));
    }

    #[test]
    fn the_default_is_refused_when_someone_has_it() {
        let account = "x:x:1879048200:5::/:/bin/sh\n";
        let error = root_ranges(["", ""], account, true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the account x"), "{error}");
        let error = root_ranges(["", "ann:1879000000:65536"], "", true)
            .unwrap_err()
            .to_string();
        assert!(error.contains("the subordinate ids of ann"), "{error}");
        assert_eq!(root_ranges(["", ""], "", true).unwrap().0, ROOT_DEFAULT);
    }

    #[test]
    fn live_processes_are_found_by_uid() {
        let uid = rustix::process::geteuid().as_raw();
        assert!(live_process(|other| other == uid).unwrap().is_some());
        assert_eq!(live_process(|_| false).unwrap(), None);
    }
}
