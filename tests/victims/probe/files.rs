//! F: files of /proc, /sys, /dev and the rest of the tree.

use crate::raw::{
    CWD, Scratch, at_mut, call, descriptor, ioctl, number, open, signed, stat, text, unlink,
};
use crate::verdict::{
    Verdict, absent, allowed, attempt, clean, not_run, object, reached, refused, worst,
};
use crate::{Probe, World};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

pub const PROBES: &[Probe] = &[
    Probe {
        name: "F-01-sysrq",
        run: |_| write_open(&["/proc/sysrq-trigger"]),
    },
    Probe {
        name: "F-02-core-pattern",
        run: |_| write_open(&["/proc/sys/kernel/core_pattern"]),
    },
    Probe {
        name: "F-02-core-pattern-other-roots",
        run: |_| {
            write_open(&[
                "/proc/1/root/proc/sys/kernel/core_pattern",
                "/proc/self/root/proc/sys/kernel/core_pattern",
                "/proc/thread-self/root/proc/sys/kernel/core_pattern",
            ])
        },
    },
    Probe {
        name: "F-03-usermode-helpers",
        run: |_| {
            write_open(&[
                "/proc/sys/kernel/modprobe",
                "/proc/sys/kernel/hotplug",
                "/proc/sys/kernel/poweroff_cmd",
                "/proc/sys/kernel/usermodehelper/bset",
                "/proc/sys/kernel/usermodehelper/inheritable",
                "/sys/kernel/uevent_helper",
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/kernel/mm/ksm/run",
            ])
        },
    },
    Probe {
        name: "F-04-binfmt-register",
        run: |_| write_open(&["/proc/sys/fs/binfmt_misc/register"]),
    },
    Probe {
        name: "F-05-global-sysctls",
        run: |_| {
            write_open(&[
                "/proc/sys/vm/overcommit_memory",
                "/proc/sys/vm/panic_on_oom",
                "/proc/sys/vm/drop_caches",
                "/proc/sys/kernel/panic",
                "/proc/sys/kernel/pid_max",
                "/proc/sys/kernel/threads-max",
                "/proc/sys/kernel/yama/ptrace_scope",
                "/proc/sys/fs/file-max",
                "/proc/sys/fs/protected_hardlinks",
                "/proc/sys/net/core/somaxconn",
            ])
        },
    },
    Probe {
        name: "F-06-kernel-memory",
        run: |_| read_open(&["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"]),
    },
    Probe {
        name: "F-06-page-maps",
        run: |_| read_open(&["/proc/kpagecount", "/proc/kpageflags", "/proc/kpagecgroup"]),
    },
    Probe {
        name: "F-06-kernel-log",
        run: |_| read_open(&["/proc/kmsg", "/dev/kmsg"]),
    },
    Probe {
        name: "F-08-kernel-addresses",
        run: |_| kernel_addresses(),
    },
    Probe {
        name: "F-17-open-by-handle",
        run: |_| open_by_handle(),
    },
    Probe {
        name: "F-18-name-to-handle",
        run: |_| {
            name_to_handle("/").map_or_else(
                |errno| attempt(Err::<(), _>(errno), "name_to_handle_at(/)"),
                |_| allowed("name_to_handle_at(/)"),
            )
        },
    },
    Probe {
        name: "F-19-mknod-char",
        run: |world| mknod(world, libc::S_IFCHR, 1, 1),
    },
    Probe {
        name: "F-19-mknod-block",
        run: |world| mknod(world, libc::S_IFBLK, 8, 0),
    },
    Probe {
        name: "F-20-dev-census",
        run: |_| dev_census(),
    },
    Probe {
        name: "F-23-fuse-device",
        run: |_| object(open("/dev/fuse", libc::O_RDWR, 0), "/dev/fuse"),
    },
    Probe {
        name: "F-50-tun-device",
        run: |_| object(open("/dev/net/tun", libc::O_RDWR, 0), "/dev/net/tun"),
    },
    Probe {
        name: "F-51-host-devices",
        run: |_| {
            let devices = [
                "/dev/kvm",
                "/dev/vsock",
                "/dev/vhost-net",
                "/dev/userfaultfd",
                "/dev/loop-control",
                "/dev/btrfs-control",
                "/dev/mapper/control",
                "/dev/rtc0",
                "/dev/hwrng",
                "/dev/watchdog",
                "/dev/uinput",
                "/dev/input/event0",
                "/dev/snd/timer",
                "/dev/dri/card0",
                "/dev/ppp",
                "/dev/uhid",
                "/dev/vcs",
                "/dev/tty0",
                "/dev/console",
                "/dev/ttyS0",
                "/dev/vda",
                "/dev/sda",
                "/dev/nvme0n1",
            ];
            worst(devices.map(readable_device))
        },
    },
    Probe {
        name: "F-52-outside-file",
        run: |world| outside(world, ""),
    },
    Probe {
        name: "F-52-outside-by-dotdot",
        run: |world| outside(world, &"../".repeat(64)),
    },
    Probe {
        name: "F-52-outside-by-proc-root",
        run: |world| outside(world, "/proc/1/root"),
    },
    Probe {
        name: "F-52-outside-by-proc-cwd",
        run: |world| outside(world, &format!("/proc/1/cwd/{}", "../".repeat(64))),
    },
    Probe {
        name: "F-53-programs-write",
        run: |_| {
            write_open(&[
                "/usr/bin/env",
                "/bin/sh",
                "/lib64/ld-linux-x86-64.so.2",
                "/usr/lib/os-release",
            ])
        },
    },
    Probe {
        name: "F-53-etc-write",
        run: |_| {
            write_open(&[
                "/etc/passwd",
                "/etc/group",
                "/etc/hosts",
                "/etc/resolv.conf",
                "/etc/ssl/certs/ca-certificates.crt",
            ])
        },
    },
    Probe {
        name: "F-53-programs-create",
        run: |_| {
            worst(
                [
                    "/usr",
                    "/usr/bin",
                    "/usr/local/bin",
                    "/bin",
                    "/lib",
                    "/etc",
                    "/proc",
                    "/sys",
                    "/dev/pts",
                ]
                .map(create_in),
            )
        },
    },
    Probe {
        name: "F-54-own-program-write",
        run: |_| write_open(&["/proc/self/exe"]),
    },
    Probe {
        name: "F-55-secrets-of-host",
        run: |_| {
            read_open(&[
                "/etc/shadow",
                "/etc/gshadow",
                "/etc/sudoers",
                "/etc/ssh/ssh_host_ed25519_key",
                "/root/.bashrc",
                "/var/lib/dpkg/lock",
                "/boot",
                "/var/log",
            ])
        },
    },
    Probe {
        name: "F-56-homes",
        run: |_| homes(),
    },
    Probe {
        name: "F-57-proc-sys-writable",
        run: |_| writable_below("/proc/sys"),
    },
    Probe {
        name: "F-57-sys-writable",
        run: |_| writable_below("/sys"),
    },
    Probe {
        name: "F-58-debugfs-tracefs",
        run: |_| {
            worst(
                [
                    "/sys/kernel/debug",
                    "/sys/kernel/tracing",
                    "/sys/kernel/security",
                    "/sys/fs/bpf",
                    "/sys/fs/pstore",
                    "/sys/firmware/efi/efivars",
                ]
                .map(lists),
            )
        },
    },
    Probe {
        name: "F-59-ficlone",
        run: |world| clone_range(world, 0x4004_9409, "FICLONE"),
    },
    Probe {
        name: "F-59-ficlonerange",
        run: |world| clone_range(world, 0x4020_940d, "FICLONERANGE"),
    },
    Probe {
        name: "F-59-fideduperange",
        run: |world| clone_range(world, 0xc018_9436, "FIDEDUPERANGE"),
    },
    Probe {
        name: "F-59-ficlone-high-bits",
        run: |world| clone_range(world, 0x1_4004_9409, "FICLONE with bit 32"),
    },
    Probe {
        name: "F-60-immutable-flag",
        run: |world| immutable(world),
    },
    Probe {
        name: "F-61-oom-score",
        run: |_| oom_score(),
    },
];

/// Opens for writing and writes nothing.
fn write_open(paths: &[&str]) -> Verdict {
    worst(
        paths
            .iter()
            .map(|path| object(open(path, libc::O_WRONLY, 0), path)),
    )
}

/// By access(2) alone: a watchdog starts when it is opened.
fn readable_device(path: &str) -> Verdict {
    let asked = text(path);
    object(
        call(
            libc::SYS_faccessat2,
            &[
                CWD,
                asked.as_ptr() as u64,
                libc::R_OK as u64,
                libc::AT_EACCESS as u64,
            ],
        ),
        path,
    )
}

/// What covers a file opens too, and tells nothing: it lies on another device.
fn read_open(paths: &[&str]) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &str| stat(path).map(|found| found.dev()).ok();
    worst(
        paths
            .iter()
            .map(|path| match open(path, libc::O_RDONLY, 0) {
                Ok(_) if path.starts_with("/proc/") && device(path) != device("/proc") => {
                    clean(format!("{path} is covered"))
                }
                opened => object(opened, path),
            }),
    )
}

/// kptr_restrict shows zeros to the unprivileged; real addresses defeat KASLR.
fn kernel_addresses() -> Verdict {
    match std::fs::read_to_string("/proc/kallsyms") {
        Ok(text)
            if text
                .lines()
                .take(50)
                .any(|line| !line.starts_with("0000000000000000")) =>
        {
            allowed("/proc/kallsyms shows addresses")
        }
        Ok(_) => clean("/proc/kallsyms is empty or shows zeros"),
        Err(error) => object(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "/proc/kallsyms",
        ),
    }
}

/// struct file_handle: length, type, then up to 128 bytes.
type Handle = [u32; 34];

fn name_to_handle(path: &str) -> Result<Handle, i32> {
    let mut handle: Handle = [0; 34];
    handle[0] = 128;
    let mut mount = 0_i32;
    let path = text(path);
    call(
        libc::SYS_name_to_handle_at,
        &[
            CWD,
            path.as_ptr() as u64,
            at_mut(&mut handle),
            at_mut(&mut mount),
            0,
        ],
    )?;
    Ok(handle)
}

/// Inode 2 is the root of ext4: the "shocker" escape. CAP_DAC_READ_SEARCH over
/// the initial user namespace, or (6.11) over the file system's own.
fn open_by_handle() -> Verdict {
    let forged = || {
        let mut handle: Handle = [0; 34];
        (handle[0], handle[1], handle[2]) = (8, 1, 2);
        handle
    };
    let mut handle = name_to_handle("/").unwrap_or_else(|_| forged());
    let Ok(root) = open("/", libc::O_RDONLY, 0) else {
        return not_run("cannot open /".into());
    };
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
    reached(
        descriptor(call(
            libc::SYS_open_by_handle_at,
            &[number(&root), at_mut(&mut handle), flags],
        )),
        "open_by_handle_at(/)",
    )
}

fn mknod(world: &World, kind: u32, major: u32, minor: u32) -> Verdict {
    let scratch = match Scratch::new(&world.workspace) {
        Ok(scratch) => scratch,
        Err(reason) => return not_run(reason),
    };
    let path = text(scratch.join("node"));
    let device = libc::makedev(major, minor);
    let made = call(
        libc::SYS_mknodat,
        &[CWD, path.as_ptr() as u64, (kind | 0o600).into(), device],
    );
    attempt(made, &format!("mknod {major}:{minor}"))
}

/// Everything in /dev that a job has no use for.
fn dev_census() -> Verdict {
    const USUAL: &[&str] = &[
        "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd",
        "stdin", "stdout", "stderr", "console", "core",
    ];
    let names = match entries("/dev") {
        Ok(names) => names,
        Err(errno) => return object(Err::<(), _>(errno), "/dev"),
    };
    let odd: Vec<String> = names
        .into_iter()
        .filter(|name| !USUAL.contains(&name.as_str()))
        .collect();
    if odd.is_empty() {
        clean("only the usual devices")
    } else {
        allowed(format!(
            "{} odd entries: {}",
            odd.len(),
            odd[..odd.len().min(12)].join(" ")
        ))
    }
}

fn entries(directory: impl AsRef<Path>) -> Result<Vec<String>, i32> {
    let listing =
        std::fs::read_dir(directory).map_err(|error| error.raw_os_error().unwrap_or(0))?;
    Ok(listing
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

fn lists(directory: &str) -> Verdict {
    match entries(directory) {
        Ok(names) if names.is_empty() => clean(format!("{directory} is empty")),
        Ok(_) => allowed(directory),
        Err(errno) => object(Err::<(), _>(errno), directory),
    }
}

fn outside(world: &World, prefix: &str) -> Verdict {
    let Some(outside) = &world.outside else {
        return not_run("needs --outside".into());
    };
    let path = format!("{prefix}{outside}/secret");
    object(open(&path, libc::O_RDONLY, 0), &path)
}

fn create_in(directory: &str) -> Verdict {
    let path = Path::new(directory).join(format!("probe-{}", std::process::id()));
    let made = open(&path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600);
    if made.is_ok() && unlink(&path).is_err() {
        return allowed(format!("{} and it stays behind", path.display()));
    }
    object(made, directory)
}

/// Other people's homes, or our own beside the workspace.
fn homes() -> Verdict {
    let mut homes: Vec<PathBuf> = entries("/home")
        .unwrap_or_default()
        .iter()
        .map(|name| Path::new("/home").join(name))
        .collect();
    homes.push("/root".into());
    let open_home = |home: &PathBuf| {
        let hidden = [
            ".ssh", ".config", ".profile", ".bashrc", ".aws", ".docker", ".gnupg", ".local",
        ];
        let found: Vec<&str> = hidden
            .into_iter()
            .filter(|name| home.join(name).exists())
            .collect();
        if found.is_empty() {
            clean(format!("{} shows nothing", home.display()))
        } else {
            allowed(format!("{}: {}", home.display(), found.join(" ")))
        }
    };
    worst(homes.iter().map(open_home))
}

/// By access(2) and never by opening: some files of /sys act on being opened.
fn writable_below(top: &str) -> Verdict {
    let mut found = Vec::new();
    let mut looked = 0_u32;
    let mut pending = vec![PathBuf::from(top)];
    while let Some(directory) = pending.pop() {
        let Ok(listing) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in listing.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && looked < 60_000 {
                pending.push(entry.path());
            } else if kind.is_file() && found.len() < 6 {
                looked += 1;
                let path = text(entry.path());
                let answer = call(
                    libc::SYS_faccessat2,
                    &[
                        CWD,
                        path.as_ptr() as u64,
                        libc::W_OK as u64,
                        libc::AT_EACCESS as u64,
                    ],
                );
                if answer.is_ok() {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    match (looked, found.is_empty()) {
        (0, _) => absent(format!("{top} shows no files")),
        (_, true) => clean(format!("none of {looked} files")),
        (_, false) => allowed(found.join(" ")),
    }
}

/// The ioctl is refused before the file system sees it, so any other errno counts as reached.
fn clone_range(world: &World, command: u64, what: &str) -> Verdict {
    let scratch = match Scratch::new(&world.workspace) {
        Ok(scratch) => scratch,
        Err(reason) => return not_run(reason),
    };
    let target = match open(scratch.join("clone"), libc::O_RDWR | libc::O_CREAT, 0o600) {
        Ok(target) => target,
        Err(errno) => {
            return not_run(format!(
                "no file to clone into: {}",
                crate::verdict::errno_name(errno)
            ));
        }
    };
    // The kernel finds no source, or no range: EBADF or EFAULT. File systems
    // without reflinks say EOPNOTSUPP to what is whole.
    let argument = if command & 0xff == 9 { signed(-1) } else { 0 };
    match ioctl(target.as_raw_fd(), command, argument) {
        Err(libc::EOPNOTSUPP) => refused("EOPNOTSUPP", what),
        other => reached(other, what),
    }
}

/// CAP_LINUX_IMMUTABLE: an immutable file outlives every clean-up by its owner.
fn immutable(world: &World) -> Verdict {
    const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
    const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
    const IMMUTABLE: u64 = 0x10;
    let scratch = match Scratch::new(&world.workspace) {
        Ok(scratch) => scratch,
        Err(reason) => return not_run(reason),
    };
    let Ok(file) = open(scratch.join("file"), libc::O_RDWR | libc::O_CREAT, 0o600) else {
        return not_run("cannot make a file".into());
    };
    let mut flags = 0_u64;
    if let Err(errno) = ioctl(file.as_raw_fd(), FS_IOC_GETFLAGS, at_mut(&mut flags)) {
        return attempt(Err::<(), _>(errno), "FS_IOC_GETFLAGS");
    }
    let mut wanted = flags | IMMUTABLE;
    let result = ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, at_mut(&mut wanted));
    if result.is_ok() && ioctl(file.as_raw_fd(), FS_IOC_SETFLAGS, at_mut(&mut flags)).is_err() {
        return allowed("FS_IOC_SETFLAGS, and it cannot be taken back");
    }
    attempt(result, "FS_IOC_SETFLAGS +i")
}

/// Lowering needs CAP_SYS_RESOURCE; the child that did it is gone a moment later.
fn oom_score() -> Verdict {
    let Ok(current) = std::fs::read_to_string("/proc/self/oom_score_adj") else {
        return absent("/proc/self/oom_score_adj");
    };
    let lower = current.trim().parse::<i32>().unwrap_or(0) - 1;
    let file = match open("/proc/self/oom_score_adj", libc::O_WRONLY, 0) {
        Ok(file) => file,
        Err(errno) => return attempt(Err::<(), _>(errno), "/proc/self/oom_score_adj"),
    };
    let value = lower.max(-1000).to_string();
    attempt(
        call(
            libc::SYS_write,
            &[
                signed(file.as_raw_fd()),
                value.as_ptr() as u64,
                value.len() as u64,
            ],
        ),
        &format!("oom_score_adj {value}"),
    )
}
