//! [host] For `doctor`: what reading cannot prove is tried in a child, and what only advice needs is read.

use super::accounts::free_start;
use super::doctor::{Deep, Outcome};
use super::facts::{Facts, IdRange};
use super::probe::ProbeError;
use super::{mounts, read, visible};
use crate::sys::{feature, trial};
use rustix::fs::{CWD, Mode, XattrFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use std::ffi::CStr;
use std::process::Command;

/// Tries and reads. Takes milliseconds, unlike the probe.
pub fn examine(facts: &Facts) -> Result<Deep, ProbeError> {
    let user = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
    let mounts = mounts::parse(&read::required("/proc/self/mountinfo")?).unwrap_or_default();
    let name = facts.caller.name.as_deref().unwrap_or_default();
    let subuid = read::text("/etc/subuid")?.unwrap_or_default();
    let subgid = read::text("/etc/subgid")?.unwrap_or_default();
    Ok(Deep {
        user_namespace: attempt(user, own)?,
        id_maps: id_maps(facts),
        fresh_proc: attempt(user | UnshareFlags::NEWPID, fresh_proc)?,
        overlay: attempt(user, overlay)?,
        tmpfs_xattr: attempt(user, tmpfs_xattr)?,
        landlock_errata: feature::landlock_errata(),
        proc_over_mounts: mounts::over_mounted_paths(&mounts, "proc"),
        sys_over_mounts: mounts::over_mounted_paths(&mounts, "sysfs"),
        modules: modules(&facts.release)?,
        systemd: visible::exists("/run/systemd/system")?,
        linger: !name.is_empty() && visible::exists(&format!("/var/lib/systemd/linger/{name}"))?,
        free_ids: free_start(&[&subuid, &subgid], 65_536),
    })
}

fn attempt(
    flags: UnshareFlags,
    body: fn(u32, u32) -> Result<(), Errno>,
) -> Result<Outcome, ProbeError> {
    match trial::in_new_namespaces(flags, body) {
        Ok(Ok(())) => Ok(Outcome::Works),
        Ok(Err(errno)) => Ok(Outcome::Fails(errno)),
        Err(cause) => Err(ProbeError::Trial {
            cause: cause.into(),
        }),
    }
}

/// Has newuidmap and newgidmap map what a sandbox would map, for a child that does nothing else.
/// Where there is nothing to try — root maps itself, or a part is missing — the facts say so.
fn id_maps(facts: &Facts) -> Result<(), String> {
    let ids = &facts.subordinate;
    let (Some(uids), Some(gids)) = (ids.uids, ids.gids) else {
        return Ok(());
    };
    let (Some(newuidmap), Some(newgidmap)) = (&ids.newuidmap, &ids.newgidmap) else {
        return Ok(());
    };
    if facts.caller.is_root() {
        return Ok(());
    }
    let sitter = trial::Sitter::new(UnshareFlags::NEWUSER)
        .map_err(|errno| format!("no user namespace to try in: {errno}"))?;
    map(newuidmap, sitter.pid(), facts.caller.uid, uids)?;
    map(newgidmap, sitter.pid(), facts.caller.gid, gids)
}

/// {0 → caller, 1.. → subordinate ids}, as every sandbox has it.
fn map(helper: &str, pid: u32, caller: u32, range: IdRange) -> Result<(), String> {
    let numbers = [pid, 0, caller, 1, 1, range.start, range.count];
    let ended = Command::new(helper)
        .args(numbers.map(|number| number.to_string()))
        .output();
    match ended {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            Err(text
                .lines()
                .next()
                .unwrap_or("failed without a word")
                .trim()
                .to_owned())
        }
        Err(error) => Err(format!("cannot run {helper}: {error}")),
    }
}

/// What sandboxes need beside overlayfs and the kernel may have as a module: each with its file.
const NETWORK_MODULES: [(&str, &str); 3] = [
    ("nf_tables", "net/netfilter/nf_tables.ko"),
    ("nft_tproxy", "net/netfilter/nft_tproxy.ko"),
    ("veth", "drivers/net/veth.ko"),
];

/// Which parts of the kernel that sandboxes use are modules that are not loaded yet. Namespaces,
/// seccomp, Landlock, tmpfs, devpts, proc and sysfs can only be built in.
fn modules(release: &str) -> Result<Vec<String>, ProbeError> {
    let known = read::required("/proc/filesystems")?;
    let has_overlay = known.lines().any(|line| line.ends_with("\toverlay"));
    let directory = format!("/lib/modules/{release}/kernel");
    let mut found = Vec::new();
    if !has_overlay && visible::exists(&format!("{directory}/fs/overlayfs/overlay.ko*"))? {
        found.push("overlay".to_owned());
    }
    for (name, file) in NETWORK_MODULES {
        let loaded = visible::exists(&format!("/sys/module/{name}"))?;
        if !loaded && visible::exists(&format!("{directory}/{file}*"))? {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// Makes the namespaces ours: uid 0, and mounts that nobody else sees. On Ubuntu the namespace is
/// made and its capabilities are taken away, so that the mount is what fails.
fn own(uid: u32, gid: u32) -> Result<(), Errno> {
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    let propagation = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", propagation)
}

fn write(path: &str, text: &str) -> Result<(), Errno> {
    std::fs::write(path, text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn fresh_proc(uid: u32, gid: u32) -> Result<(), Errno> {
    own(uid, gid)?;
    fresh_proc_in_child()
}

/// proc shows the pid namespace of who mounts it, and unshare(2) moves only children.
fn fresh_proc_in_child() -> Result<(), Errno> {
    trial::in_new_namespaces(UnshareFlags::empty(), |_, _| fresh(c"proc"))?
}

/// Makes a mount without a place; the kernel's check for over-mounts comes before that.
fn fresh(fstype: &CStr) -> Result<(), Errno> {
    let context = rustix::mount::fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    rustix::mount::fsmount(&context, flags, MountAttrFlags::empty()).map(drop)
}

/// A tmpfs of our own over /tmp, which exists everywhere; only the child sees it.
fn scratch(uid: u32, gid: u32) -> Result<(), Errno> {
    own(uid, gid)?;
    rustix::mount::mount("tmpfs", "/tmp", "tmpfs", MountFlags::empty(), None)?;
    for name in ["/tmp/a", "/tmp/b", "/tmp/m"] {
        rustix::fs::mkdirat(CWD, name, Mode::RWXU)?;
    }
    Ok(())
}

fn overlay(uid: u32, gid: u32) -> Result<(), Errno> {
    scratch(uid, gid)?;
    let options = c"lowerdir=/tmp/a:/tmp/b,userxattr";
    rustix::mount::mount("overlay", "/tmp/m", "overlay", MountFlags::empty(), options)
}

fn tmpfs_xattr(uid: u32, gid: u32) -> Result<(), Errno> {
    scratch(uid, gid)?;
    rustix::fs::setxattr("/tmp/a", "user.cofferdam", b"1", XattrFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::probe::{ProbeRequest, probe};

    #[test]
    fn what_was_read_agrees_with_what_works() {
        let facts = probe(&ProbeRequest::default()).unwrap();
        let deep = examine(&facts).unwrap();
        let works = |outcome| outcome == Outcome::Works;
        assert!(works(deep.user_namespace), "{deep:?}");
        assert_eq!(deep.id_maps, Ok(()));
        assert_eq!(works(deep.fresh_proc), !facts.proc_overmounted, "{deep:?}");
        assert_eq!(works(deep.overlay), facts.overlay_userxattr, "{deep:?}");
        assert_eq!(works(deep.tmpfs_xattr), facts.tmpfs_user_xattr, "{deep:?}");
    }

    fn mounted() -> Result<Vec<mounts::Mount>, Errno> {
        let text = std::fs::read_to_string("/proc/self/mountinfo").map_err(|_| Errno::NOTSUP)?;
        mounts::parse(&text).map_err(|_| Errno::NOTSUP)
    }

    /// Tries a fresh proc where every proc has `/dev/null` over a file, as a container's has: the
    /// copy for the inner user namespace has that mount locked.
    fn fresh_proc_over_masked(uid: u32, gid: u32) -> Result<(), Errno> {
        own(uid, gid)?;
        for mount in mounted()?
            .iter()
            .filter(|mount| mount.fstype == "proc" && mount.root == "/")
        {
            let file = format!("{}/version", mount.point);
            rustix::mount::mount_bind("/dev/null", file).map_err(|_| Errno::NOTSUP)?;
        }
        nested_fresh_proc(true)
    }

    fn fresh_proc_unmasked(uid: u32, gid: u32) -> Result<(), Errno> {
        own(uid, gid)?;
        nested_fresh_proc(false)
    }

    fn nested_fresh_proc(refused: bool) -> Result<(), Errno> {
        if mounts::refuses_fresh(&mounted()?, "proc") != refused {
            return Err(Errno::NOTSUP);
        }
        let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNS | UnshareFlags::NEWPID;
        trial::in_new_namespaces(flags, |_, _| fresh_proc_in_child())?
    }

    #[test]
    fn the_kernel_refuses_what_we_say_it_refuses() {
        let user = UnshareFlags::NEWUSER | UnshareFlags::NEWNS;
        let masked = trial::in_new_namespaces(user, fresh_proc_over_masked).unwrap();
        let unmasked = trial::in_new_namespaces(user, fresh_proc_unmasked).unwrap();
        assert_eq!((masked, unmasked), (Err(Errno::PERM), Ok(())));
    }
}
