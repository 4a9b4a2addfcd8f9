//! [pure] /proc/self/mountinfo as values, and the kernel's rule for a fresh proc or sysfs.

use serde::{Deserialize, Serialize};

/// One line of mountinfo, the fields we use (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Mount id.
    pub id: u32,
    /// Id of the mount it stands on.
    pub parent: u32,
    /// Device of the file system: major, minor.
    pub device: (u32, u32),
    /// Which directory of the file system is its root.
    pub root: String,
    /// Where it stands, absolute.
    pub point: String,
    /// Per-mount options, comma-separated.
    pub options: String,
    /// Peer group and master, `shared:7 master:1`; empty when it is private.
    pub propagation: String,
    /// File-system type.
    pub fstype: String,
    /// Options of the file system, comma-separated; names the controllers of a v1 cgroup.
    pub super_options: String,
}

impl Mount {
    /// Whether a per-mount option is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|word| word == option)
    }
}

/// All mounts, or the line that is not as the kernel writes it.
pub fn parse(mountinfo: &str) -> Result<Vec<Mount>, String> {
    mountinfo
        .lines()
        .map(|line| mount(line).ok_or_else(|| line.to_owned()))
        .collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let mut right = right.split(' ');
    Some(Mount {
        id: left.next()?.parse().ok()?,
        parent: left.next()?.parse().ok()?,
        device: device(left.next()?)?,
        root: unescape(left.next()?),
        point: unescape(left.next()?),
        options: left.next()?.to_owned(),
        propagation: left.collect::<Vec<_>>().join(" "),
        fstype: right.next()?.to_owned(),
        super_options: right.nth(1).unwrap_or_default().to_owned(),
    })
}

fn device(field: &str) -> Option<(u32, u32)> {
    let (major, minor) = field.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    const ESCAPES: [(&str, &str); 4] = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    if !field.contains('\\') {
        return field.to_owned();
    }
    ESCAPES
        .iter()
        .fold(field.to_owned(), |text, (octal, byte)| {
            text.replace(octal, byte)
        })
}

/// Directories that the kernel makes for others to be mounted on and that are always empty below:
/// every user of `proc_create_mount_point`, `register_sysctl_mount_point` and
/// `sysfs_create_mount_point` in Linux 6.18. A mount there hides nothing.
const EMPTY_BY_DESIGN: [&str; 17] = [
    "/fs/nfsd",
    "/openprom",
    "/xen",
    "/sys/fs/binfmt_misc",
    "/firmware/efi/efivars",
    "/fs/bpf",
    "/fs/cgroup",
    "/fs/fuse/connections",
    "/fs/pstore",
    "/fs/resctrl",
    "/fs/selinux",
    "/fs/smackfs",
    "/hypervisor/s390",
    "/kernel/config",
    "/kernel/debug",
    "/kernel/security",
    "/kernel/tracing",
];

/// Whether the kernel would refuse a fresh, writable mount of `fstype` (`proc` or `sysfs`) in a
/// mount namespace copied into a new user namespace. The rule is `mnt_already_visible` in
/// fs/namespace.c: some mount of the type must show the whole file system, be as permissive as the
/// new one (the copy locks `ro` and the atime mode; ours is `relatime`), and have nothing mounted
/// over it except on directories that are empty by design.
pub fn refuses_fresh(mounts: &[Mount], fstype: &str) -> bool {
    !mounts
        .iter()
        .any(|mount| mount.fstype == fstype && fully_visible(mounts, mount))
}

fn fully_visible(mounts: &[Mount], mount: &Mount) -> bool {
    mount.root == "/"
        && mount.has("rw")
        && mount.has("relatime")
        && over_mounts(mounts, mount).next().is_none()
}

fn over_mounts<'a>(mounts: &'a [Mount], on: &'a Mount) -> impl Iterator<Item = &'a Mount> {
    mounts
        .iter()
        .filter(move |child| child.parent == on.id && child.id != on.id)
        .filter(|child| match child.point.strip_prefix(&on.point) {
            Some(inside) => !EMPTY_BY_DESIGN.contains(&inside),
            None => true,
        })
}

/// Where something is mounted over a part of `fstype`, for the reader of `doctor`.
pub fn over_mounted_paths(mounts: &[Mount], fstype: &str) -> Vec<String> {
    let full = mounts
        .iter()
        .filter(|mount| mount.fstype == fstype && mount.root == "/");
    full.flat_map(|mount| over_mounts(mounts, mount))
        .map(|child| child.point.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
23 27 0:22 / /sys rw,relatime shared:7 master:1 - sysfs sysfs rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
40 22 0:30 / /proc/sys/fs/binfmt_misc rw,relatime - binfmt_misc none rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
";

    fn refused(text: &str, fstype: &str) -> bool {
        refuses_fresh(&parse(text).unwrap(), fstype)
    }

    #[test]
    fn a_plain_host_refuses_nothing() {
        assert!(!refused(HOST, "proc"));
        assert!(!refused(HOST, "sysfs"));
    }

    #[test]
    fn a_container_s_masks_refuse_a_fresh_proc() {
        let masked =
            format!("{HOST}50 22 0:5 /null /proc/kcore rw,nosuid - devtmpfs devtmpfs rw\n");
        assert!(refused(&masked, "proc"));
        assert!(!refused(&masked, "sysfs"));
        let mounts = parse(&masked).unwrap();
        assert_eq!(over_mounted_paths(&mounts, "proc"), ["/proc/kcore"]);
    }

    #[test]
    fn a_second_whole_proc_is_enough() {
        let text = format!(
            "{HOST}50 22 0:5 /null /proc/kcore rw - devtmpfs devtmpfs rw\n51 27 0:21 / /srv/p rw,relatime - proc proc rw\n"
        );
        assert!(!refused(&text, "proc"));
    }

    #[test]
    fn read_only_noatime_partial_and_missing_mounts_do_not_count() {
        for line in [
            "22 27 0:21 / /proc ro,relatime - proc proc rw",
            "22 27 0:21 / /proc rw,noatime - proc proc rw",
            "22 27 0:21 /sys /proc/sys rw,relatime - proc proc rw",
            "",
        ] {
            assert!(refused(line, "proc"), "{line}");
        }
    }

    #[test]
    fn fields_are_unescaped_and_bad_lines_named() {
        let mounts = parse("5 1 0:1 /a\\040b /c\\134040 rw shared:1 - tmpfs x rw,size=4k").unwrap();
        assert_eq!(
            (mounts[0].root.as_str(), mounts[0].point.as_str()),
            ("/a b", "/c\\040")
        );
        assert_eq!(parse("5 1 0:1 / /x rw").unwrap_err(), "5 1 0:1 / /x rw");
    }
}
