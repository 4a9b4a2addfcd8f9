//! F: files of /proc, /sys, /dev and the tree.

use super::{Control, Expect, Positive, Removal, Row, row};

pub const ROWS: &[Row] = &[
    row(
        "F-01-sysrq",
        "opens /proc/sysrq-trigger for writing",
        Expect::Host(
            &[Expect::Absent, Expect::Errno("EACCES")],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/sysrq-trigger"),
        Positive::Caller,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-02-core-pattern",
        "opens core_pattern for writing: the host would run what it names",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/proc/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-02-core-pattern-other-roots",
        "the same through /proc/PID/root",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/proc/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-03-usermode-helpers",
        "opens what names a program the kernel runs, or tunes its memory",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/proc/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-04-binfmt-register",
        "opens binfmt_misc for writing",
        Expect::Absent,
        Control::ReadOnly("/proc/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    )
    .unproven("the build hosts have none; it works in the guest"),
    row(
        "F-05-global-sysctls",
        "opens sysctls that no namespace holds, and some that one does",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/proc/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-06-kernel-memory",
        "opens kcore, mem, kmem, port",
        Expect::Host(
            &[Expect::Absent, Expect::Clean, Expect::Errno("EACCES")],
            "not every kernel has the file; the mask lies over it",
        ),
        Control::Mask("/proc/kcore"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    )
    .unproven("the build hosts have none; it works in the guest"),
    row(
        "F-06-page-maps",
        "opens /proc/kpage*",
        Expect::Clean,
        Control::Mask("/proc/kpagecount"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-06-kernel-log",
        "opens kmsg, in /proc and /dev",
        Expect::Clean,
        Control::Mask("/proc/kmsg"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-08-kernel-addresses",
        "reads kernel addresses from kallsyms",
        Expect::Clean,
        Control::Kernel,
        Positive::Root,
        &[Removal::Behind("kptr_restrict, or a mask")],
    ),
    row(
        "F-17-open-by-handle",
        "opens the root of the file system by a forged handle",
        Expect::Errno("EPERM"),
        Control::Seccomp("open_by_handle_at"),
        Positive::Root,
        &[Removal::Behind("CAP_DAC_READ_SEARCH over the file system")],
    ),
    row(
        "F-18-name-to-handle",
        "asks for a file handle",
        Expect::Recorded("useless without open_by_handle_at, and some programs ask"),
        Control::Seccomp("name_to_handle_at"),
        Positive::Caller,
        &[Removal::DropSeccompRule("name_to_handle_at")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-19-mknod-char",
        "makes the device of physical memory",
        Expect::Errno("EPERM"),
        Control::Capabilities,
        Positive::Root,
        &[Removal::Behind(
            "the kernel: CAP_MKNOD over the initial user namespace",
        )],
    ),
    row(
        "F-19-mknod-block",
        "makes the first disk",
        Expect::Errno("EPERM"),
        Control::Capabilities,
        Positive::Root,
        &[Removal::Behind(
            "the kernel: CAP_MKNOD over the initial user namespace",
        )],
    ),
    row(
        "F-20-dev-census",
        "lists /dev for more than a job needs",
        Expect::Clean,
        Control::Mounts("/dev"),
        Positive::Caller,
        &[Removal::AddBind("/dev")],
    ),
    row(
        "F-23-fuse-device",
        "opens /dev/fuse",
        Expect::Absent,
        Control::Mounts("/dev"),
        Positive::Root,
        &[Removal::Behind(
            "the node's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-50-tun-device",
        "opens /dev/net/tun",
        Expect::Absent,
        Control::Mounts("/dev"),
        Positive::Root,
        &[Removal::Behind(
            "the node's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-51-host-devices",
        "asks for access to disks, kvm, consoles, input, a watchdog …",
        Expect::Absent,
        Control::Mounts("/dev"),
        Positive::Root,
        &[Removal::Behind(
            "the node's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-52-outside-file",
        "reads a file of the caller that nothing grants",
        Expect::Absent,
        Control::Mounts("/"),
        Positive::Caller,
        &[Removal::AddBind("OUTSIDE")],
    ),
    row(
        "F-52-outside-by-dotdot",
        "the same by 64 steps up",
        Expect::Absent,
        Control::Mounts("/"),
        Positive::Caller,
        &[Removal::AddBind("OUTSIDE")],
    ),
    row(
        "F-52-outside-by-proc-root",
        "the same through the root of pid 1",
        Expect::Errno("EACCES"),
        Control::InitUndumpable,
        Positive::UserNamespace,
        &[Removal::InitDumpable, Removal::AddBind("OUTSIDE")],
    ),
    row(
        "F-52-outside-by-proc-cwd",
        "the same through the directory of pid 1",
        Expect::Errno("EACCES"),
        Control::InitUndumpable,
        Positive::UserNamespace,
        &[Removal::InitDumpable, Removal::AddBind("OUTSIDE")],
    ),
    row(
        "F-53-programs-write",
        "opens programs and libraries for writing",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/usr"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-53-etc-write",
        "opens passwd, hosts, certificates … for writing",
        Expect::Errno("EACCES"),
        Control::ReadOnly("/etc"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-53-programs-create",
        "makes a file among programs, in /etc, /proc, /sys",
        Expect::Errno("EROFS"),
        Control::ReadOnly("/usr"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-54-own-program-write",
        "opens its own program for writing",
        Expect::Host(
            &[Expect::Errno("EACCES"), Expect::Errno("ETXTBSY")],
            "whoever owns the program meets its being executed first",
        ),
        Control::Kernel,
        Positive::Nowhere("a running program is never writable"),
        &[Removal::Behind("a running program is busy")],
    )
    .unproven("the kernel refuses it everywhere"),
    row(
        "F-55-secrets-of-host",
        "reads what the host view leaves out: shadow, keys, logs",
        Expect::Absent,
        Control::Mounts("/"),
        Positive::Caller,
        &[Removal::AddBind("/var/log")],
    ),
    row(
        "F-56-homes",
        "looks into home directories",
        Expect::Clean,
        Control::Mounts("/"),
        Positive::Caller,
        &[Removal::AddBind("HOME")],
    ),
    row(
        "F-57-proc-sys-writable",
        "looks for any writable file below /proc/sys",
        Expect::Clean,
        Control::ReadOnly("/proc/sys"),
        Positive::Caller,
        &[Removal::DropStep("read_only", "/proc/sys")],
    ),
    row(
        "F-57-sys-writable",
        "looks for any writable file below /sys",
        Expect::Clean,
        Control::Mounts("/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    ),
    row(
        "F-58-debugfs-tracefs",
        "lists debugfs, tracefs, bpffs, pstore, efivars",
        Expect::Absent,
        Control::Mounts("/sys"),
        Positive::Root,
        &[Removal::Behind(
            "the file's mode: only the host's root may, and it is not mapped",
        )],
    )
    .unproven("none of them is mounted on the build hosts; it works in the guest"),
    row(
        "F-59-ficlone",
        "ioctl FICLONE (CVE-2026-64600)",
        Expect::Errno("EOPNOTSUPP"),
        Control::Seccomp("ioctl"),
        Positive::Caller,
        &[Removal::DropSeccompRule("ioctl")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-59-ficlonerange",
        "ioctl FICLONERANGE (CVE-2026-64600)",
        Expect::Errno("EOPNOTSUPP"),
        Control::Seccomp("ioctl"),
        Positive::Caller,
        &[Removal::DropSeccompRule("ioctl")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-59-fideduperange",
        "ioctl FIDEDUPERANGE (CVE-2026-64600)",
        Expect::Errno("EOPNOTSUPP"),
        Control::Seccomp("ioctl"),
        Positive::Caller,
        &[Removal::DropSeccompRule("ioctl")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-59-ficlone-high-bits",
        "ioctl FICLONE with bit 32 set, which the kernel ignores (CVE-2026-64600)",
        Expect::Errno("EOPNOTSUPP"),
        Control::Seccomp("ioctl"),
        Positive::Caller,
        &[Removal::DropSeccompRule("ioctl")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-60-immutable-flag",
        "makes a file immutable, so that clean-up fails",
        Expect::Host(
            &[Expect::Errno("EPERM"), Expect::Errno("ENOTTY")],
            "tmpfs takes attributes since 6.6",
        ),
        Control::Capabilities,
        Positive::Root,
        &[Removal::Behind(
            "CAP_LINUX_IMMUTABLE over the initial user namespace",
        )],
    ),
    row(
        "F-61-oom-score",
        "lowers its own oom_score_adj",
        Expect::Errno("EACCES"),
        Control::Capabilities,
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "F-07-mask-acpi",
        "looks whether /proc/acpi is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/acpi"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/acpi")],
    ),
    row(
        "F-07-mask-asound",
        "looks whether /proc/asound is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/asound"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/asound")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-interrupts",
        "looks whether /proc/interrupts is covered",
        Expect::Clean,
        Control::Mask("/proc/interrupts"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/interrupts")],
    ),
    row(
        "F-07-mask-kcore",
        "looks whether /proc/kcore is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/kcore"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/kcore")],
    )
    .unproven("the build hosts have none; it works in the guest"),
    row(
        "F-07-mask-keys",
        "looks whether /proc/keys is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/keys"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/keys")],
    ),
    row(
        "F-07-mask-latency-stats",
        "looks whether /proc/latency_stats is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/latency_stats"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/latency_stats")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-sched-debug",
        "looks whether /proc/sched_debug is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/sched_debug"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/sched_debug")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-scsi",
        "looks whether /proc/scsi is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/scsi"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/scsi")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-timer-list",
        "looks whether /proc/timer_list is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/timer_list"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/timer_list")],
    ),
    row(
        "F-07-mask-timer-stats",
        "looks whether /proc/timer_stats is covered",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/timer_stats"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/timer_stats")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-powercap",
        "looks whether /sys/devices/virtual/powercap is covered",
        Expect::Absent,
        Control::Mounts("/sys"),
        Positive::Caller,
        &[Removal::AddBind("/sys")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-firmware",
        "looks whether /sys/firmware is covered",
        Expect::Absent,
        Control::Mounts("/sys"),
        Positive::Caller,
        &[Removal::AddBind("/sys")],
    ),
    row(
        "F-07-mask-selinux",
        "looks whether /sys/fs/selinux is covered",
        Expect::Absent,
        Control::Mounts("/sys"),
        Positive::Caller,
        &[Removal::AddBind("/sys")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-07-mask-thermal-throttle",
        "looks whether /sys/devices/system/cpu/cpu0/thermal_throttle is covered",
        Expect::Absent,
        Control::Mounts("/sys"),
        Positive::Caller,
        &[Removal::AddBind("/sys")],
    )
    .unproven("the build hosts have none; nor has the guest"),
    row(
        "F-09-read-only-proc-bus",
        "looks whether /proc/bus is read-only",
        Expect::Clean,
        Control::Mask("/proc/bus"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/bus")],
    ),
    row(
        "F-09-read-only-proc-fs",
        "looks whether /proc/fs is read-only",
        Expect::Clean,
        Control::Mask("/proc/fs"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/fs")],
    ),
    row(
        "F-09-read-only-proc-irq",
        "looks whether /proc/irq is read-only",
        Expect::Clean,
        Control::Mask("/proc/irq"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/irq")],
    ),
    row(
        "F-09-read-only-proc-sys",
        "looks whether /proc/sys is read-only",
        Expect::Clean,
        Control::ReadOnly("/proc/sys"),
        Positive::Caller,
        &[Removal::DropStep("read_only", "/proc/sys")],
    ),
    row(
        "F-09-read-only-sysrq-trigger",
        "looks whether /proc/sysrq-trigger is read-only",
        Expect::Host(
            &[Expect::Clean, Expect::Absent],
            "not every kernel has the file",
        ),
        Control::Mask("/proc/sysrq-trigger"),
        Positive::Caller,
        &[Removal::DropStep("mask", "/proc/sysrq-trigger")],
    )
    .unproven("the build hosts have none; it works in the guest"),
    row(
        "F-09-read-only-sys",
        "looks whether /sys is read-only",
        Expect::Clean,
        Control::Mounts("/sys"),
        Positive::Caller,
        &[Removal::AddBind("/sys")],
    ),
];
