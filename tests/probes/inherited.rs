//! D: what a program inherits.

use super::{Arrangement, Control, Expect, Positive, Removal, Row, row};

pub const ROWS: &[Row] = &[
    row(
        "D-01-descriptor-census",
        "looks for descriptors above 2",
        Expect::Clean,
        Control::Descriptors,
        Positive::Arranged(Arrangement::InheritedDescriptor),
        &[Removal::Forget("descriptors")],
    ),
    row(
        "D-02-descriptor-classes",
        "looks for a file, directory or device of the caller on 0, 1 and 2 (stdin is a regular file in the tests)",
        Expect::Clean,
        Control::Descriptors,
        Positive::Caller,
        &[Removal::SkipStdioPipes],
    ),
    row(
        "D-02-descriptor-reopen",
        "reopens 0, 1 and 2 for reading and writing",
        Expect::Clean,
        Control::Descriptors,
        Positive::Caller,
        &[Removal::SkipStdioPipes],
    ),
    row(
        "D-03-current-directory",
        "looks whether the current directory is outside (CVE-2024-21626)",
        Expect::Clean,
        Control::Directory,
        Positive::Arranged(Arrangement::VanishedDirectory),
        &[Removal::Forget("getcwd")],
    ),
    row(
        "D-04-execute-inherited",
        "executes an inherited descriptor",
        Expect::Absent,
        Control::Descriptors,
        Positive::Arranged(Arrangement::InheritedDescriptor),
        &[Removal::Forget("descriptors")],
    ),
    row(
        "D-10-environment",
        "looks for variables beyond those a preset names",
        Expect::Clean,
        Control::Environment,
        Positive::Caller,
        &[Removal::SkipEnvironment],
    ),
    row(
        "D-10-arguments-of-pid1",
        "looks in the arguments of pid 1 for a path",
        Expect::Clean,
        Control::Namespace("pid"),
        Positive::Caller,
        &[Removal::Behind("init's arguments are constants")],
    ),
    row(
        "D-11-controlling-terminal",
        "opens the controlling terminal",
        Expect::Absent,
        Control::Terminal,
        Positive::Arranged(Arrangement::Terminal),
        &[Removal::Forget("session")],
    ),
    row(
        "D-11-steal-terminal",
        "takes a terminal from another session",
        Expect::Absent,
        Control::Terminal,
        Positive::Nowhere("it would take the tester's terminal"),
        &[Removal::Behind(
            "CAP_SYS_ADMIN over the initial user namespace",
        )],
    )
    .unproven("not tried: it would take the tester's terminal"),
    row(
        "D-12-ignored-signals",
        "looks for ignored or blocked signals",
        Expect::Clean,
        Control::Signals,
        Positive::Arranged(Arrangement::IgnoredSignal),
        &[Removal::Forget("signals")],
    ),
    row(
        "D-13-raise-open-files",
        "raises the hard RLIMIT_NOFILE",
        Expect::Errno("EPERM"),
        Control::Rlimit("NOFILE"),
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "D-13-raise-processes",
        "raises the hard RLIMIT_NPROC",
        Expect::Errno("EPERM"),
        Control::Rlimit("NPROC"),
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "D-13-raise-locked-memory",
        "raises the hard RLIMIT_MEMLOCK",
        Expect::Errno("EPERM"),
        Control::Rlimit("MEMLOCK"),
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "D-13-raise-message-queues",
        "raises the hard RLIMIT_MSGQUEUE",
        Expect::Errno("EPERM"),
        Control::Rlimit("MSGQUEUE"),
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "D-13-raise-pending-signals",
        "raises the hard RLIMIT_SIGPENDING",
        Expect::Errno("EPERM"),
        Control::Rlimit("SIGPENDING"),
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_RESOURCE over the initial user namespace",
        )],
    )
    .unproven("the root of the build hosts lacks CAP_SYS_RESOURCE; it works in the guest"),
    row(
        "D-14-core-limit",
        "looks whether a crash would start the host's core handler (core(5))",
        Expect::Clean,
        Control::Rlimit("CORE"),
        Positive::Caller,
        &[Removal::RaiseRlimit("CORE")],
    ),
];
