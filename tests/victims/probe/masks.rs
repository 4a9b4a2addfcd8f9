//! F-07: each path that must be covered, looked at one by one.
//!
//! A mask is another file system over the path, so the device number differs
//! from that of /proc or /sys around it. This sees a missing mask even where
//! the file's mode would stop this user from reading it.

use crate::raw::stat;
use crate::verdict::{Verdict, absent, allowed, clean};
use crate::{Probe, World};
use std::os::unix::fs::MetadataExt;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "F-07-mask-acpi",
        run: |_| covered("/proc/acpi"),
    },
    Probe {
        name: "F-07-mask-asound",
        run: |_| covered("/proc/asound"),
    },
    Probe {
        name: "F-07-mask-interrupts",
        run: |_| covered("/proc/interrupts"),
    },
    Probe {
        name: "F-07-mask-kcore",
        run: |_| covered("/proc/kcore"),
    },
    Probe {
        name: "F-07-mask-keys",
        run: |_| covered("/proc/keys"),
    },
    Probe {
        name: "F-07-mask-latency-stats",
        run: |_| covered("/proc/latency_stats"),
    },
    Probe {
        name: "F-07-mask-sched-debug",
        run: |_| covered("/proc/sched_debug"),
    },
    Probe {
        name: "F-07-mask-scsi",
        run: |_| covered("/proc/scsi"),
    },
    Probe {
        name: "F-07-mask-timer-list",
        run: |_| covered("/proc/timer_list"),
    },
    Probe {
        name: "F-07-mask-timer-stats",
        run: |_| covered("/proc/timer_stats"),
    },
    Probe {
        name: "F-07-mask-powercap",
        run: |_| covered("/sys/devices/virtual/powercap"),
    },
    Probe {
        name: "F-07-mask-firmware",
        run: |_| covered("/sys/firmware"),
    },
    Probe {
        name: "F-07-mask-selinux",
        run: |_| covered("/sys/fs/selinux"),
    },
    Probe {
        name: "F-07-mask-thermal-throttle",
        run: |_| thermal_throttle(),
    },
    Probe {
        name: "F-09-read-only-proc-bus",
        run: |_| read_only("/proc/bus"),
    },
    Probe {
        name: "F-09-read-only-proc-fs",
        run: |_| read_only("/proc/fs"),
    },
    Probe {
        name: "F-09-read-only-proc-irq",
        run: |_| read_only("/proc/irq"),
    },
    Probe {
        name: "F-09-read-only-proc-sys",
        run: |_| read_only("/proc/sys"),
    },
    Probe {
        name: "F-09-read-only-sysrq-trigger",
        run: |_| read_only("/proc/sysrq-trigger"),
    },
    Probe {
        name: "F-09-read-only-sys",
        run: |_| read_only("/sys"),
    },
    Probe {
        name: "F-21-workspace-nosuid",
        run: |world| mounted_with(&world.workspace, libc::ST_NOSUID, "nosuid"),
    },
    Probe {
        name: "F-21-workspace-nodev",
        run: |world| mounted_with(&world.workspace, libc::ST_NODEV, "nodev"),
    },
    Probe {
        name: "F-21-no-mount-with-set-id-programs",
        run: set_id_gain,
    },
];

fn covered(path: &str) -> Verdict {
    let top = if path.starts_with("/proc") {
        "/proc"
    } else {
        "/sys"
    };
    match (stat(path), stat(top)) {
        (Err(_), _) | (_, Err(_)) => absent(path),
        (Ok(object), Ok(around)) if object.dev() != around.dev() => {
            let empty = std::fs::read_dir(path).map(|mut entries| entries.next().is_none());
            match empty {
                Ok(false) => allowed(format!("{path} is covered, but not by an empty directory")),
                _ => clean(format!("{path} is covered")),
            }
        }
        (Ok(_), Ok(_)) => allowed(format!("{path} is not covered")),
    }
}

/// Each CPU has one; GHSA-6fw5-f8r9-fgfm.
fn thermal_throttle() -> Verdict {
    let Ok(cpus) = std::fs::read_dir("/sys/devices/system/cpu") else {
        return absent("/sys/devices/system/cpu");
    };
    crate::verdict::worst(
        cpus.flatten()
            .map(|cpu| covered(&cpu.path().join("thermal_throttle").display().to_string())),
    )
}

fn mount_flags(path: &str) -> Option<u64> {
    let path = crate::raw::text(path);
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in NUL and the buffer is a whole statvfs.
    let failed = unsafe { libc::statvfs(path.as_ptr(), info.as_mut_ptr()) } != 0;
    // SAFETY: all-zero bytes are a valid statvfs, and the kernel filled it.
    let info = unsafe { info.assume_init() };
    (!failed).then_some(info.f_flag)
}

fn mounted_with(path: &str, flag: u64, name: &str) -> Verdict {
    match mount_flags(path) {
        None => absent(path),
        Some(flags) if flags & flag != 0 => clean(format!("{path} is {name}")),
        Some(_) => allowed(format!("{path} is not {name}")),
    }
}

fn read_only(path: &str) -> Verdict {
    mounted_with(path, libc::ST_RDONLY, "read-only")
}

/// A set-id program of the host gives something unless its mount is nosuid or
/// this process has no_new_privs.
fn set_id_gain(_: &World) -> Verdict {
    let programs = [
        "/usr/bin/su",
        "/bin/su",
        "/usr/bin/passwd",
        "/usr/bin/newuidmap",
        "/usr/bin/mount",
    ];
    let Some(program) = programs
        .into_iter()
        .find(|path| stat(path).is_ok_and(|meta| meta.mode() & 0o4000 != 0))
    else {
        return absent("no set-id program");
    };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let no_new_privs = status
        .lines()
        .any(|line| line.split_whitespace().eq(["NoNewPrivs:", "1"]));
    match mount_flags(program) {
        Some(flags) if flags & libc::ST_NOSUID != 0 => {
            clean(format!("{program} is on a nosuid mount"))
        }
        _ if no_new_privs => clean(format!("{program} is set-id, and no_new_privs is on")),
        _ => allowed(format!("{program} works")),
    }
}
