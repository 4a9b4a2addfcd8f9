//! [pure] What of /proc a job must not read, or not write. Of /sys it sees a few files only.
//!
//! None of these is namespaced: they tell of, or change, the whole machine.
//! Whoever mounts finds out which exist; one that does not exist needs nothing.

/// A path and the reason it is hidden or read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Absolute; a `*` component segment matches any characters but `/`.
    pub pattern: &'static str,
    /// What a job could learn or do.
    pub why: &'static str,
}

const fn path(pattern: &'static str, why: &'static str) -> Path {
    Path { pattern, why }
}

/// Hidden: directories under an empty read-only tmpfs, files under /dev/null.
#[rustfmt::skip]
pub const MASKED: &[Path] = &[
    path("/proc/acpi", "hardware state; writes put the machine to sleep (CVE-2018-10892)"),
    path("/proc/asound", "sound hardware, and activity of the host's user"),
    path("/proc/buddyinfo", "the host's memory, page by page"),
    path("/proc/bus", "the host's hardware; writes reach PCI configuration"),
    path("/proc/cmdline", "the host's boot parameters, which may hold secrets"),
    path("/proc/config.gz", "the kernel's build options, a list of what to attack"),
    path("/proc/diskstats", "activity of the host's disks"),
    path("/proc/driver", "the host's hardware: serial numbers of GPUs and clocks"),
    path("/proc/dynamic_debug", "switches the kernel's messages"),
    path("/proc/fs", "the host's file systems: devices, journals, nfsd"),
    path("/proc/interrupts", "timing of keys and packets (GHSA-6fw5-f8r9-fgfm)"),
    path("/proc/irq", "the host's hardware; writes move interrupts"),
    path("/proc/kallsyms", "addresses of kernel symbols"),
    path("/proc/kcore", "all of the machine's memory"),
    path("/proc/key-users", "keys of other users, which no namespace hides"),
    path("/proc/keys", "keys of the host's user, which no namespace hides"),
    path("/proc/kmsg", "the kernel's messages"),
    path("/proc/kpagecgroup", "physical pages of others"),
    path("/proc/kpagecount", "physical pages of others"),
    path("/proc/kpageflags", "physical pages of others"),
    path("/proc/latency_stats", "what other processes wait for"),
    path("/proc/locks", "file locks of other processes, with their pids"),
    path("/proc/mdstat", "the host's disks"),
    path("/proc/modules", "loaded modules, a list of what to attack"),
    path("/proc/mtrr", "memory types; writes change them"),
    path("/proc/pagetypeinfo", "the host's memory, page by page"),
    path("/proc/partitions", "the host's disks"),
    path("/proc/pressure", "load caused by others; opening one for writing makes kernel threads"),
    path("/proc/sched_debug", "all processes of the host, by name"),
    path("/proc/schedstat", "activity of other processes"),
    path("/proc/scsi", "the host's disks; writes remove them"),
    path("/proc/slabinfo", "kernel objects, which heap attacks aim by"),
    path("/proc/softirqs", "timing of packets, as /proc/interrupts"),
    path("/proc/swaps", "the host's disks"),
    path("/proc/sysrq-trigger", "reboots or crashes the machine"),
    path("/proc/timer_list", "all processes of the host with timers, by name"),
    path("/proc/timer_stats", "all processes of the host with timers, by name"),
    path("/proc/tty/driver", "serial lines and bytes through them"),
    path("/proc/vmallocinfo", "kernel addresses"),
    path("/proc/zoneinfo", "the host's memory, zone by zone"),
];

/// Visible and read-only.
#[rustfmt::skip]
pub const READ_ONLY: &[Path] = &[
    path("/proc/sys", "settings of the kernel; core_pattern and modprobe name programs that run as root"),
];

/// Whether an absolute path is one that `pattern` means.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut wanted = pattern.split('/');
    let mut have = path.split('/');
    loop {
        match (wanted.next(), have.next()) {
            (None, None) => return true,
            (Some(pattern), Some(name)) if segment(pattern, name) => {}
            _ => return false,
        }
    }
}

/// One name against one pattern with at most one `*`.
fn segment(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => {
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_is_sorted_absolute_and_reasoned() {
        for list in [MASKED, READ_ONLY] {
            assert!(list.iter().map(|path| path.pattern).is_sorted());
            for path in list {
                assert!(path.pattern.starts_with("/proc/") || path.pattern.starts_with("/sys/"));
                assert!(
                    !path.pattern.ends_with('/') && path.why.len() > 8,
                    "{path:?}"
                );
                assert!(
                    path.pattern
                        .split('/')
                        .all(|part| part.matches('*').count() <= 1)
                );
            }
        }
    }

    #[test]
    fn no_path_lies_below_another() {
        let all: Vec<_> = MASKED
            .iter()
            .chain(READ_ONLY)
            .map(|path| path.pattern)
            .collect();
        for outer in &all {
            let below = |inner: &&&str| {
                inner
                    .strip_prefix(outer)
                    .is_some_and(|rest| rest.starts_with('/'))
            };
            assert_eq!(all.iter().find(below), None, "below {outer}");
        }
    }

    #[test]
    fn the_list_of_f_07_and_the_leaks_of_group_l_are_masked() {
        let needed = [
            "/proc/acpi",
            "/proc/asound",
            "/proc/interrupts",
            "/proc/kcore",
            "/proc/keys",
            "/proc/key-users",
            "/proc/latency_stats",
            "/proc/sched_debug",
            "/proc/scsi",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sysrq-trigger",
            "/proc/kpagecount",
            "/proc/slabinfo",
            "/proc/pressure",
            "/proc/config.gz",
            "/proc/vmallocinfo",
            "/proc/pagetypeinfo",
        ];
        for path in needed {
            assert!(
                MASKED.iter().any(|masked| matches(masked.pattern, path)),
                "{path}"
            );
        }
    }

    #[test]
    fn a_star_stays_within_its_component() {
        assert!(matches("/a/b*/c", "/a/b/c"));
        assert!(matches("/a/b*/c", "/a/b7/c"));
        assert!(!matches("/a/b*/c", "/a/b/x/c"));
        assert!(!matches("/a/b*/c", "/a/b7"));
    }
}
