//! [host] Which of the paths the host view shows or masks exist here.

use super::facts::{EtcEntry, Maskable, ProgramEntry};
use super::probe::ProbeError;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Where distributions keep programs and their libraries. `/opt` and `/srv` are left out: they
/// hold what an administrator put there, and a policy can name them.
const PROGRAMS: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];

/// What programs read below /etc and what holds no secret; `*` matches within a name.
/// `/etc/ssl` and `/etc/pki` are shown in parts, because they also hold private keys.
/// Each is a mount, so the list holds what common programs fail without.
const ETC: [&str; 17] = [
    "/etc/alternatives",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/java*",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/maven",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/java",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// What programs read of /sys to size themselves; nothing else of it is shown.
const SYS: [&str; 5] = [
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/cpu/present",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
];

/// The files of /sys that are shown and exist here.
pub fn sys() -> Result<Vec<String>, ProbeError> {
    let mut found = Vec::new();
    for path in SYS {
        if exists(path)? {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// The host's program directories, and the symlinks of a merged /usr.
pub fn programs() -> Result<Vec<ProgramEntry>, ProbeError> {
    let mut found = Vec::new();
    for path in PROGRAMS {
        match kind(path, AtFlags::SYMLINK_NOFOLLOW)? {
            Some(FileType::Directory) => found.push(ProgramEntry {
                path: path.into(),
                link: None,
            }),
            Some(FileType::Symlink) => {
                found.push(ProgramEntry {
                    path: path.into(),
                    link: Some(target(path)?),
                });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The parts of /etc that are shown.
pub fn etc() -> Result<Vec<EtcEntry>, ProbeError> {
    let found = existing(&ETC)?;
    Ok(found
        .into_iter()
        .map(|(path, directory)| EtcEntry { path, directory })
        .collect())
}

/// The paths to mask or make read-only, of `patterns`, that exist here.
pub fn maskable(patterns: &[&str]) -> Result<Vec<Maskable>, ProbeError> {
    let found = existing(patterns)?;
    Ok(found
        .into_iter()
        .map(|(path, directory)| Maskable { path, directory })
        .collect())
}

/// Whether anything has a name that `pattern` matches.
pub fn exists(pattern: &str) -> Result<bool, ProbeError> {
    Ok(!existing(&[pattern])?.is_empty())
}

/// Files and directories (true) that the patterns name, in the patterns' order.
fn existing(patterns: &[&str]) -> Result<Vec<(String, bool)>, ProbeError> {
    let mut found = Vec::new();
    let mut listings = Listings::new();
    for pattern in patterns {
        for path in expand(pattern, &mut listings)? {
            match kind(&path, AtFlags::empty())? {
                Some(FileType::Directory) => found.push((path, true)),
                Some(_) => found.push((path, false)),
                None => {}
            }
        }
    }
    Ok(found)
}

/// Directories that were listed already; several patterns look into /etc or the CPUs of /sys.
type Listings = BTreeMap<String, Vec<String>>;

/// Paths that may exist: the pattern itself, or one path per directory entry that its first `*`
/// matches. Further components are expanded in turn.
fn expand(pattern: &str, listings: &mut Listings) -> Result<Vec<String>, ProbeError> {
    let Some(star) = pattern.find('*') else {
        return Ok(vec![pattern.to_owned()]);
    };
    let (before, after) = pattern.split_at(star);
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let (suffix, rest) = match after[1..].find('/') {
        Some(slash) => after[1..].split_at(slash),
        None => (&after[1..], ""),
    };
    if !listings.contains_key(parent) {
        listings.insert(parent.to_owned(), names(parent)?);
    }
    let matches = |name: &&String| {
        let long_enough = name.len() >= prefix.len() + suffix.len();
        long_enough && name.starts_with(prefix) && name.ends_with(suffix)
    };
    let mut matching: Vec<String> = listings[parent]
        .iter()
        .filter(matches)
        .map(|name| format!("{parent}/{name}{rest}"))
        .collect();
    matching.sort();
    let mut paths = Vec::new();
    for path in matching {
        paths.extend(expand(&path, listings)?);
    }
    Ok(paths)
}

fn names(directory: &str) -> Result<Vec<String>, ProbeError> {
    let failed = |cause: Errno| ProbeError::Read {
        path: directory.into(),
        cause: cause.into(),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = match rustix::fs::openat(CWD, directory, flags, Mode::empty()) {
        Ok(opened) => opened,
        Err(cause) if absent(cause) => return Ok(Vec::new()),
        Err(cause) => return Err(failed(cause)),
    };
    let mut names = Vec::new();
    for entry in Dir::new(opened).map_err(failed)? {
        // A name that is no UTF-8 matches none of our patterns.
        if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// What `path` is, or `None` where it does not exist or may not be looked at by this user.
fn kind(path: &str, flags: AtFlags) -> Result<Option<FileType>, ProbeError> {
    match rustix::fs::statat(CWD, path, flags) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(cause) if absent(cause) => Ok(None),
        Err(cause) => Err(ProbeError::Read {
            path: path.into(),
            cause: cause.into(),
        }),
    }
}

fn target(path: &str) -> Result<String, ProbeError> {
    let failed = |cause: Errno| ProbeError::Read {
        path: path.into(),
        cause: cause.into(),
    };
    let target = rustix::fs::readlink(path, Vec::new()).map_err(failed)?;
    target.into_string().map_err(|_| ProbeError::Malformed {
        path: path.into(),
        expected: "a link to a UTF-8 path",
    })
}

/// A dangling link (ENOENT, ELOOP) and a directory that is closed to us (EACCES) show nothing.
fn absent(cause: Errno) -> bool {
    matches!(
        cause,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn patterns_match_within_one_name() {
        let root = std::env::temp_dir().join(format!("cofferdam-visible-{}", std::process::id()));
        for name in ["cpu0/x", "cpu1", "cpufreq/x", "idle"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("cpu1/x"), "").unwrap();
        let pattern = format!("{}/cpu*/x", root.display());
        let found = existing(&[&pattern]).unwrap();
        fs::remove_dir_all(&root).unwrap();
        let short: Vec<_> = found
            .iter()
            .map(|(p, d)| (&p[root.to_str().unwrap().len()..], *d))
            .collect();
        assert_eq!(
            short,
            [("/cpu0/x", true), ("/cpu1/x", false), ("/cpufreq/x", true)]
        );
    }

    #[test]
    fn the_running_host_shows_usr_and_a_linker_cache() {
        assert!(programs().unwrap().iter().any(|entry| entry.path == "/usr"));
        let shown = etc().unwrap();
        assert!(
            shown
                .iter()
                .any(|entry| entry.path == "/etc/ld.so.cache" && !entry.directory)
        );
        assert!(!shown.iter().any(|entry| entry.path.contains("shadow")));
    }

    #[test]
    fn what_does_not_exist_is_left_out() {
        assert_eq!(
            maskable(&["/proc/kcore-not-here", "/proc/*-not-here"]).unwrap(),
            []
        );
        let sys = maskable(&["/proc/sys"]).unwrap();
        assert_eq!(
            sys,
            [Maskable {
                path: "/proc/sys".into(),
                directory: true
            }]
        );
    }
}
