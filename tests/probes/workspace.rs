//! F: the workspace: set-id bits, file capabilities, protected paths.

use super::{Control, Expect, Positive, Removal, Row, row};

pub const ROWS: &[Row] = &[
    row(
        "F-21-workspace-nosuid",
        "looks whether the workspace is nosuid",
        Expect::Clean,
        Control::Mounts("WORKSPACE"),
        Positive::Caller,
        &[Removal::DropMountFlag("WORKSPACE", "nosuid")],
    ),
    row(
        "F-21-workspace-nodev",
        "looks whether the workspace is nodev",
        Expect::Clean,
        Control::Mounts("WORKSPACE"),
        Positive::Caller,
        &[Removal::DropMountFlag("WORKSPACE", "nodev")],
    ),
    row(
        "F-21-no-mount-with-set-id-programs",
        "looks whether a set-id program of the host would give anything",
        Expect::Clean,
        Control::NoNewPrivs,
        Positive::Caller,
        &[
            Removal::SkipNoNewPrivs,
            Removal::DropMountFlag("/usr", "nosuid"),
        ],
    ),
    row(
        "F-70-set-uid-chmod",
        "a set-uid bit in the workspace by chmod",
        Expect::Errno("EPERM"),
        Control::Seccomp("chmod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("chmod")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-gid-chmod",
        "a set-gid bit in the workspace by chmod",
        Expect::Errno("EPERM"),
        Control::Seccomp("chmod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("chmod")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-chmod-high-bits",
        "a set-uid bit in the workspace by chmod with bits the kernel ignores",
        Expect::Errno("EPERM"),
        Control::Seccomp("chmod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("chmod")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-fchmodat",
        "a set-uid bit in the workspace by fchmodat",
        Expect::Errno("EPERM"),
        Control::Seccomp("fchmodat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("fchmodat")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-fchmodat2",
        "a set-uid bit in the workspace by fchmodat2",
        Expect::Errno("ENOSYS"),
        Control::Seccomp("fchmodat2"),
        Positive::Caller,
        &[Removal::DropSeccompRule("fchmodat2")],
    )
    .strict(Expect::Host(
        &[Expect::Errno("EROFS"), Expect::Errno("ENOSYS")],
        "the call is of Linux 6.6",
    )),
    row(
        "F-70-set-uid-fchmod",
        "a set-uid bit in the workspace by fchmod",
        Expect::Errno("EPERM"),
        Control::Seccomp("fchmod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("fchmod")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-chmod-by-descriptor",
        "a set-uid bit in the workspace by chmod of /proc/self/fd/N",
        Expect::Errno("EPERM"),
        Control::Seccomp("chmod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("chmod")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-open",
        "a set-uid bit in the workspace by openat that creates",
        Expect::Errno("EPERM"),
        Control::Seccomp("openat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("openat")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-open-old-call",
        "a set-uid bit in the workspace by open that creates",
        Expect::Errno("EPERM"),
        Control::Seccomp("open"),
        Positive::Caller,
        &[Removal::DropSeccompRule("open")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-creat",
        "a set-uid bit in the workspace by creat",
        Expect::Errno("EPERM"),
        Control::Seccomp("creat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("creat")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-openat2",
        "a set-uid bit in the workspace by openat2 that creates",
        Expect::Errno("ENOSYS"),
        Control::Seccomp("openat2"),
        Positive::Caller,
        &[Removal::DropSeccompRule("openat2")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-tmpfile",
        "a set-uid bit in the workspace by O_TMPFILE",
        Expect::Errno("EPERM"),
        Control::Seccomp("openat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("openat")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-uid-mknod",
        "a set-uid bit in the workspace by mknod of a file",
        Expect::Errno("EPERM"),
        Control::Seccomp("mknod"),
        Positive::Caller,
        &[Removal::DropSeccompRule("mknod")],
    ),
    row(
        "F-70-set-uid-mknodat",
        "a set-uid bit in the workspace by mknodat of a file",
        Expect::Errno("EPERM"),
        Control::Seccomp("mknodat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("mknodat")],
    ),
    row(
        "F-70-set-gid-mkdir",
        "a set-gid bit in the workspace by mkdir",
        Expect::Errno("EPERM"),
        Control::Seccomp("mkdir"),
        Positive::Caller,
        &[Removal::DropSeccompRule("mkdir")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-70-set-gid-mkdirat",
        "a set-gid bit in the workspace by mkdirat",
        Expect::Errno("EPERM"),
        Control::Seccomp("mkdirat"),
        Positive::Caller,
        &[Removal::DropSeccompRule("mkdirat")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-71-file-capability",
        "a file capability on a file of the workspace",
        Expect::Errno("EPERM"),
        Control::Capabilities,
        Positive::UserNamespace,
        &[Removal::AddCapability("SETFCAP")],
    ),
    row(
        "F-71-file-capability-by-descriptor",
        "a file capability on a file of the workspace through a descriptor",
        Expect::Errno("EPERM"),
        Control::Capabilities,
        Positive::UserNamespace,
        &[Removal::AddCapability("SETFCAP")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-71-trusted-xattr",
        "a trusted.* attribute, which overlays believe",
        Expect::Errno("EPERM"),
        Control::Capabilities,
        Positive::Root,
        &[Removal::Behind(
            "CAP_SYS_ADMIN over the initial user namespace",
        )],
    ),
    row(
        "F-72-link-set-id-program",
        "a hard link to a set-id program, which would outlive its update",
        Expect::Errno("EXDEV"),
        Control::Mounts("/usr"),
        Positive::Root,
        &[Removal::Behind("fs.protected_hardlinks")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-73-chown-to-other",
        "gives a file to uid 1",
        Expect::Errno("EINVAL"),
        Control::IdMap,
        Positive::Root,
        &[Removal::Behind("one id is mapped")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-80-protected-open",
        "opens .git/config for writing",
        Expect::Errno("EROFS"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    )
    .strict(Expect::Errno("EACCES")),
    row(
        "F-80-protected-reopen",
        "reopens a read-only descriptor through /proc/self/fd",
        Expect::Errno("EROFS"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    )
    .strict(Expect::Errno("EACCES")),
    row(
        "F-80-protected-truncate",
        "truncates .git/config to its length",
        Expect::Errno("EROFS"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    )
    .strict(Expect::Host(
        &[Expect::Errno("EACCES"), Expect::Errno("EROFS")],
        "Landlock knows truncation from ABI 3 on",
    )),
    row(
        "F-80-protected-chmod",
        "sets the mode of .git/hooks to what it is",
        Expect::Errno("EROFS"),
        Control::Protected(".git/hooks"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/hooks")],
    ),
    row(
        "F-80-protected-times",
        "sets the times of .git/config to what they are",
        Expect::Errno("EROFS"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    ),
    row(
        "F-80-protected-xattr",
        "sets an attribute of .git/config",
        Expect::Errno("EROFS"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    )
    .strict(Expect::Errno("EPERM")),
    row(
        "F-80-protected-new-hook",
        "makes a hook",
        Expect::Errno("EROFS"),
        Control::Protected(".git/hooks"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/hooks")],
    ),
    row(
        "F-80-protected-new-file",
        "makes .envrc, which is not there",
        Expect::Errno("EACCES"),
        Control::Protected(".envrc"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".envrc")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-new-directory",
        "makes .vscode, which is not there",
        Expect::Errno("EEXIST"),
        Control::Protected(".vscode"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".vscode")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-new-symlink",
        "makes .envrc a symlink",
        Expect::Errno("EEXIST"),
        Control::Protected(".envrc"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".envrc")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-rename",
        "renames .git/config",
        Expect::Errno("EBUSY"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git/config")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-rename-parent",
        "renames .git away, as a whole",
        Expect::Errno("EBUSY"),
        Control::Protected(".git"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-exchange-parent",
        "exchanges .git with a directory of its own",
        Expect::Errno("EBUSY"),
        Control::Protected(".git"),
        Positive::Caller,
        &[Removal::DropStep("protect", ".git")],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-exchange-file",
        "exchanges .git/config with a file of its own",
        Expect::Errno("EXDEV"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[
            Removal::DropStep("protect", ".git"),
            Removal::DropStep("protect", ".git/config"),
        ],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-unlink",
        "unlinks .git/config",
        Expect::Errno("EXDEV"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[
            Removal::DropStep("protect", ".git"),
            Removal::DropStep("protect", ".git/config"),
        ],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-hard-link",
        "writes .git/config through a second link",
        Expect::Errno("EXDEV"),
        Control::Protected(".git/config"),
        Positive::Caller,
        &[
            Removal::DropStep("protect", ".git"),
            Removal::DropStep("protect", ".git/config"),
        ],
    )
    .strict(Expect::Errno("EROFS")),
    row(
        "F-80-protected-bind-over",
        "mounts over .git",
        Expect::Errno("EPERM"),
        Control::Seccomp("mount"),
        Positive::UserNamespace,
        &[
            Removal::DropSeccompRule("mount"),
            Removal::AddCapability("SYS_ADMIN"),
            Removal::DropStep("landlock", ""),
        ],
    ),
    row(
        "F-81-workspace-parent-write",
        "makes a file beside the workspace",
        Expect::Recorded(
            "that directory is the sandbox's own; the test looks whether the host's changed",
        ),
        Control::Mounts("/"),
        Positive::Caller,
        &[Removal::Behind("the job's id owns nothing outside")],
    )
    .strict(Expect::Errno("EACCES")),
];
