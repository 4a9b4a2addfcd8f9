//! [exposed] Limits, id maps, mounts and links of /proc/PID as values: total on any bytes.

use super::observation::{Class, Kind, Limit};
use super::text::{Malformed, shown};
use crate::confine::idmap::Extent;
use crate::host::mounts::{self, Mount};
use std::collections::BTreeMap;

/// /proc/PID/limits: a heading, then columns of 26, 21 and 21 bytes (proc_pid_limits in fs/proc/base.c).
///
/// # Errors
/// A line that has no such columns.
pub fn limits(bytes: &[u8]) -> Result<BTreeMap<String, Limit>, Malformed> {
    bytes
        .split(|byte| *byte == b'\n')
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| limit(line).ok_or(Malformed::value("a line of limits")))
        .collect()
}

fn limit(line: &[u8]) -> Option<(String, Limit)> {
    let name = std::str::from_utf8(line.get(..26)?).ok()?.trim();
    let soft = bound(line.get(26..47)?)?;
    let hard = bound(line.get(47..68)?)?;
    Some((name.to_owned(), Limit { soft, hard }))
}

fn bound(field: &[u8]) -> Option<Option<u64>> {
    match std::str::from_utf8(field).ok()?.trim() {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

/// uid_map or gid_map: user_namespaces(7).
///
/// # Errors
/// A line that is not three numbers.
pub fn id_map(bytes: &[u8]) -> Result<Vec<Extent>, Malformed> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| extent(line).ok_or(Malformed::value("a line of an id map")))
        .collect()
}

fn extent(line: &[u8]) -> Option<Extent> {
    let mut numbers = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut next = || numbers.next()?.parse().ok();
    let extent = Extent {
        inside: next()?,
        outside: next()?,
        count: next()?,
    };
    numbers.next().is_none().then_some(extent)
}

/// /proc/PID/mountinfo.
///
/// # Errors
/// A line that is not as proc_pid_mountinfo(5) says.
pub fn mountinfo(bytes: &[u8]) -> Result<Vec<Mount>, Malformed> {
    mounts::parse(&String::from_utf8_lossy(bytes))
        .map_err(|_| Malformed::value("a line of mountinfo"))
}

/// The inode in `net:[4026531840]`.
pub fn inode(link: &[u8]) -> Option<u64> {
    let (_, rest) = std::str::from_utf8(link).ok()?.split_once(":[")?;
    rest.strip_suffix(']')?.parse().ok()
}

/// What statx(2) says of an open descriptor, as far as its class depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// st_mode.
    pub mode: u32,
    /// Major and minor of a device node.
    pub device: (u32, u32),
    /// It lies on one of the kernel's own mounts for memory: shmem or hugetlbfs.
    pub memory: bool,
}

/// The class of a descriptor. A link that does not begin with a slash was
/// written by the kernel; one that does may be any text, so the inode decides.
pub fn class(link: &[u8], object: Object) -> Class {
    const FORMAT: u32 = 0o170_000;
    let placed = link.first() == Some(&b'/');
    match object.mode & FORMAT {
        0o010_000 if placed => Class::Fifo,
        0o010_000 => Class::Pipe,
        0o140_000 => Class::Socket,
        _ if !placed => namespace(link).unwrap_or_else(|| Class::Kernel(kernel_object(link))),
        0o040_000 => Class::Directory,
        0o120_000 => Class::Symlink,
        0o020_000 => character(object.device),
        0o060_000 => Class::Block(object.device.0, object.device.1),
        0o100_000 if object.memory => Class::Memory(memory_name(link)),
        0o100_000 => Class::Regular,
        _ => Class::Kernel(shown(link)),
    }
}

/// Numbers from Documentation/admin-guide/devices.txt.
fn character(device: (u32, u32)) -> Class {
    match device {
        (1, 3) => Class::Null,
        (4 | 5 | 136..=143, _) => Class::Terminal,
        (major, minor) => Class::Character(major, minor),
    }
}

/// `net:[4026531840]`.
fn namespace(link: &[u8]) -> Option<Class> {
    let name = link.split(|byte| *byte == b':').next()?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.file().as_bytes() == name)?;
    Some(Class::Namespace(kind, inode(link)?))
}

/// `eventfd` of `anon_inode:[eventfd]`, `pidfd` of `pidfd:[12]`.
fn kernel_object(link: &[u8]) -> String {
    let name = link.strip_prefix(b"anon_inode:").unwrap_or(link);
    let name = match name.strip_prefix(b"[") {
        Some(rest) => rest.strip_suffix(b"]").unwrap_or(rest),
        None => name.split(|byte| *byte == b':').next().unwrap_or(name),
    };
    shown(name)
}

fn memory_name(link: &[u8]) -> String {
    let name = link.strip_prefix(b"/memfd:").unwrap_or(link);
    shown(name.strip_suffix(b" (deleted)").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn limits_are_columns() {
        let text = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max open files            1024                 9999                 files     
Max nice priority         0                    0                    
";
        let limits = limits(text.as_bytes()).unwrap();
        assert_eq!(
            limits["Max open files"],
            Limit {
                soft: Some(1024),
                hard: Some(9999)
            }
        );
        assert_eq!(
            limits["Max cpu time"],
            Limit {
                soft: None,
                hard: None
            }
        );
        assert_eq!(limits.len(), 3);
        assert!(super::limits(b"heading\nMax open files 1024 9999 files\n").is_err());
        assert!(super::limits(b"heading\nMax open files            -1                   9999                 files\n").is_err());
    }

    #[test]
    fn id_maps_are_three_numbers_a_line() {
        let text = "         0       1002          1\n         1     165536      65536\n";
        assert_eq!(
            id_map(text.as_bytes()).unwrap(),
            [
                Extent {
                    inside: 0,
                    outside: 1002,
                    count: 1
                },
                Extent {
                    inside: 1,
                    outside: 165_536,
                    count: 65_536
                }
            ]
        );
        for bad in ["0 1\n", "0 1 2 3\n", "0 1 4294967296\n", "\u{fffd}\n"] {
            assert!(id_map(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn mounts_keep_their_propagation() {
        let text = "36 35 98:0 /m\\040n /a\\134b rw,nosuid shared:1 master:2 - ext4 /dev/sda rw\n";
        let mounts = mountinfo(text.as_bytes()).unwrap();
        assert_eq!(mounts[0].point, "/a\\b");
        assert_eq!(mounts[0].propagation, "shared:1 master:2");
        assert!(mountinfo(b"36 35 98:0 / /\n").is_err());
        assert!(mountinfo(b"x 35 98:0 / / rw - ext4 y rw\n").is_err());
    }

    fn object(mode: u32) -> Object {
        Object {
            mode,
            device: (1, 3),
            memory: false,
        }
    }

    #[test]
    fn the_inode_decides_the_class_and_not_the_name() {
        assert_eq!(class(b"/tmp/socket:[1]", object(0o100_644)), Class::Regular);
        assert_eq!(
            class(b"/memfd:plan (deleted)", object(0o100_644)),
            Class::Regular
        );
        let memory = Object {
            memory: true,
            ..object(0o100_777)
        };
        assert_eq!(
            class(b"/memfd:plan (deleted)", memory),
            Class::Memory("plan".to_owned())
        );
        assert_eq!(class(b"/dev/sda", object(0o020_666)), Class::Null);
        let terminal = Object {
            device: (136, 4),
            ..object(0o020_620)
        };
        assert_eq!(class(b"/dev/null", terminal), Class::Terminal);
        assert_eq!(class(b"pipe:[7]", object(0o010_600)), Class::Pipe);
        assert_eq!(class(b"/tmp/pipe:[7]", object(0o010_600)), Class::Fifo);
        assert_eq!(class(b"/", object(0o040_755)), Class::Directory);
    }

    #[test]
    fn kernel_objects_have_the_kernels_name() {
        for (link, name) in [
            ("anon_inode:[eventfd]", "eventfd"),
            ("anon_inode:seccomp notify", "seccomp notify"),
            ("anon_inode:[signalfd]", "signalfd"),
            ("pidfd:[12]", "pidfd"),
        ] {
            let class = class(link.as_bytes(), object(0o100_444));
            assert_eq!(class, Class::Kernel(name.to_owned()), "{link}");
        }
        let net = Class::Namespace(Kind::Net, 4_026_531_840);
        assert_eq!(class(b"net:[4026531840]", object(0o100_444)), net);
    }

    #[test]
    fn inodes_of_namespace_links() {
        assert_eq!(inode(b"net:[4026531840]"), Some(4_026_531_840));
        for bad in ["net:4026531840", "net:[]", "net:[1", "net:[-1]", ""] {
            assert_eq!(inode(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes: Vec<u8>, mode: u32) {
            let lines = [b"Name:\t".as_slice(), &bytes].concat();
            prop_assert!(super::super::status::parse(&lines).is_err());
            let table = limits(&bytes).map_or(0, |limits| limits.len());
            let maps = id_map(&bytes).map_or(0, |map| map.len());
            let mounts = mountinfo(&bytes).map_or(0, |mounts| mounts.len());
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(table.max(maps).max(mounts) <= lines);
            if let Class::Memory(name) | Class::Kernel(name) = class(&bytes, object(mode)) {
                prop_assert!(name.is_ascii() && name.len() <= 4 * 256 + 3);
            }
        }
    }
}
