//! F, N: changing what is mounted.
//!
//! Each works in a mount namespace of its own where one is to be had, made
//! private first, so that the host's mounts are out of reach even for root.

use crate::raw::{CWD, Scratch, at, call, descriptor, number, text};
use crate::verdict::{
    Verdict, absent, allowed, attempt, clean, errno_name, not_run, reached, worst,
};
use crate::{Probe, World};
use std::path::Path;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "F-04-binfmt-mount",
        run: |world| fresh(world, c"binfmt_misc", c""),
    },
    Probe {
        name: "F-12-umount-any",
        run: |_| detached(|| worst(mounts().iter().filter(|mount| mount.at != "/").map(umount))),
    },
    Probe {
        name: "F-12-umount-masks",
        run: |_| {
            detached(|| {
                worst(
                    mounts()
                        .iter()
                        .filter(|mount| mount.below_kernel())
                        .map(umount),
                )
            })
        },
    },
    Probe {
        name: "F-13-remount-read-write",
        run: |_| {
            detached(|| {
                worst(
                    mounts()
                        .iter()
                        .filter(|mount| mount.restricted())
                        .map(remount),
                )
            })
        },
    },
    Probe {
        name: "F-13-mount-setattr-read-write",
        run: |_| {
            detached(|| {
                worst(
                    mounts()
                        .iter()
                        .filter(|mount| mount.restricted())
                        .map(clear_attributes),
                )
            })
        },
    },
    Probe {
        name: "F-13-remount-super-block",
        run: |_| super_block(),
    },
    Probe {
        name: "F-14-fresh-proc",
        run: |world| fresh(world, c"proc", c""),
    },
    Probe {
        name: "F-14-fresh-proc-by-fsopen",
        run: |_| by_fsopen(c"proc"),
    },
    Probe {
        name: "F-14-fresh-sysfs",
        run: |world| fresh(world, c"sysfs", c""),
    },
    Probe {
        name: "F-14-fresh-sysfs-by-fsopen",
        run: |_| by_fsopen(c"sysfs"),
    },
    Probe {
        name: "F-14-fresh-tmpfs",
        run: |world| fresh(world, c"tmpfs", c"size=4k"),
    },
    Probe {
        name: "F-14-fresh-devpts",
        run: |world| fresh(world, c"devpts", c"newinstance"),
    },
    Probe {
        name: "F-15-bind-proc-around-masks",
        run: bind_proc,
    },
    Probe {
        name: "F-15-open-tree-clone",
        run: |_| open_tree_clone(),
    },
    Probe {
        name: "F-16-chroot",
        run: chroot,
    },
    Probe {
        name: "F-22-overlay-mount",
        run: overlay,
    },
    Probe {
        name: "F-23-fuse-mount",
        run: fuse,
    },
    Probe {
        name: "F-31-propagation",
        run: |_| propagation(),
    },
    Probe {
        name: "F-32-pin-namespace",
        run: pin_namespace,
    },
    Probe {
        name: "F-33-mountinfo-host-paths",
        run: host_paths,
    },
    Probe {
        name: "N-13-cgroup-v1-mount",
        run: |world| fresh(world, c"cgroup", &existing_cgroup_v1()),
    },
    Probe {
        name: "N-13-cgroup-v2-mount",
        run: |world| fresh(world, c"cgroup2", &existing_cgroup_v2()),
    },
];

/// Runs `probe` in a mount namespace of its own if one can be had, else here,
/// where the same missing privilege stops the probe.
pub fn detached(probe: impl FnOnce() -> Verdict) -> Verdict {
    if call(libc::SYS_unshare, &[libc::CLONE_NEWNS as u64]).is_ok() {
        let flags = libc::MS_REC | libc::MS_PRIVATE;
        if let Err(errno) = call(libc::SYS_mount, &[0, c"/".as_ptr() as u64, 0, flags, 0]) {
            return not_run(format!("making mounts private: {}", errno_name(errno)));
        }
    }
    probe()
}

/// One line of /proc/self/mountinfo, proc_pid_mountinfo(5).
struct Mount {
    root: String,
    at: String,
    flags: String,
    tags: Vec<String>,
    kind: String,
    source: String,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        Some(Self {
            root: (*left.get(3)?).into(),
            at: left.get(4)?.replace("\\040", " "),
            flags: (*left.get(5)?).into(),
            tags: left.get(6..)?.iter().map(|tag| (*tag).into()).collect(),
            kind: (*right.first()?).into(),
            source: (*right.get(1)?).into(),
            options: right.get(2).copied().unwrap_or_default().into(),
        })
    }

    fn below_kernel(&self) -> bool {
        self.at.starts_with("/proc/") || self.at.starts_with("/sys/")
    }

    fn restricted(&self) -> bool {
        self.flags
            .split(',')
            .any(|flag| ["ro", "nosuid", "nodev", "noexec"].contains(&flag))
    }
}

fn mounts() -> Vec<Mount> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(Mount::parse).collect()
}

fn umount(mount: &Mount) -> Verdict {
    let path = text(&mount.at);
    attempt(
        call(
            libc::SYS_umount2,
            &[path.as_ptr() as u64, libc::MNT_DETACH as u64],
        ),
        &mount.at,
    )
}

fn remount(mount: &Mount) -> Verdict {
    let path = text(&mount.at);
    let flags = libc::MS_REMOUNT | libc::MS_BIND;
    attempt(
        call(libc::SYS_mount, &[0, path.as_ptr() as u64, 0, flags, 0]),
        &mount.at,
    )
}

/// mount_setattr(2): clears read-only, nosuid, nodev and noexec.
fn clear_attributes(mount: &Mount) -> Verdict {
    let path = text(&mount.at);
    let attributes: [u64; 4] = [0, 0xf, 0, 0];
    attempt(
        call(
            libc::SYS_mount_setattr,
            &[CWD, path.as_ptr() as u64, 0, at(&attributes), 32],
        ),
        &mount.at,
    )
}

/// Without MS_BIND the options of the super block change, for everybody who
/// has it mounted. The option does not exist, so that it ends there.
fn super_block() -> Verdict {
    detached(|| {
        let options = c"probe-no-such-option=1".as_ptr() as u64;
        let result = call(
            libc::SYS_mount,
            &[0, c"/".as_ptr() as u64, 0, libc::MS_REMOUNT, options],
        );
        reached(result, "remount of the root's super block")
    })
}

fn mount_at(
    scratch: &Scratch,
    kind: &std::ffi::CStr,
    options: &std::ffi::CStr,
) -> Result<i64, i32> {
    let (name, path) = (kind.as_ptr() as u64, text(&scratch.0));
    call(
        libc::SYS_mount,
        &[name, path.as_ptr() as u64, name, 0, options.as_ptr() as u64],
    )
}

fn unmount(scratch: &Scratch, mounted: bool) {
    if mounted {
        let path = text(&scratch.0);
        if let Err(errno) = call(
            libc::SYS_umount2,
            &[path.as_ptr() as u64, libc::MNT_DETACH as u64],
        ) {
            eprintln!(
                "probe: {} stays mounted: {}",
                scratch.0.display(),
                errno_name(errno)
            );
        }
    }
}

/// A new mount of a file-system type.
fn fresh(world: &World, kind: &std::ffi::CStr, options: &std::ffi::CStr) -> Verdict {
    detached(|| {
        let scratch = match Scratch::new(&world.workspace) {
            Ok(scratch) => scratch,
            Err(reason) => return not_run(reason),
        };
        let result = mount_at(&scratch, kind, options);
        unmount(&scratch, result.is_ok());
        match result {
            Err(libc::ENODEV) => absent(format!("{}: not in this kernel", kind.to_string_lossy())),
            other => attempt(other, &format!("mount -t {}", kind.to_string_lossy())),
        }
    })
}

/// With a descriptor that is not /dev/fuse, so it ends after the permission check.
fn fuse(world: &World) -> Verdict {
    detached(|| {
        let scratch = match Scratch::new(&world.workspace) {
            Ok(scratch) => scratch,
            Err(reason) => return not_run(reason),
        };
        reached(
            mount_at(
                &scratch,
                c"fuse",
                c"fd=0,rootmode=40000,user_id=0,group_id=0",
            ),
            "mount -t fuse",
        )
    })
}

/// The new mount API; nothing is attached, so nothing stays.
fn by_fsopen(kind: &std::ffi::CStr) -> Verdict {
    const FSCONFIG_CMD_CREATE: u64 = 6;
    detached(|| {
        let result =
            descriptor(call(libc::SYS_fsopen, &[kind.as_ptr() as u64, 1])).and_then(|context| {
                call(
                    libc::SYS_fsconfig,
                    &[number(&context), FSCONFIG_CMD_CREATE, 0, 0, 0],
                )?;
                descriptor(call(libc::SYS_fsmount, &[number(&context), 1, 0]))
            });
        attempt(result, "fsopen, fsconfig, fsmount")
    })
}

/// A non-recursive bind of /proc would lie without its masks; the kernel
/// refuses it in a namespace whose mounts are locked.
fn bind_proc(world: &World) -> Verdict {
    detached(|| {
        let scratch = match Scratch::new(&world.workspace) {
            Ok(scratch) => scratch,
            Err(reason) => return not_run(reason),
        };
        let path = text(&scratch.0);
        let result = call(
            libc::SYS_mount,
            &[
                c"/proc".as_ptr() as u64,
                path.as_ptr() as u64,
                0,
                libc::MS_BIND,
                0,
            ],
        );
        unmount(&scratch, result.is_ok());
        attempt(result, "bind /proc elsewhere")
    })
}

fn open_tree_clone() -> Verdict {
    const OPEN_TREE_CLONE: u64 = 1;
    detached(|| {
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as u64;
        attempt(
            descriptor(call(
                libc::SYS_open_tree,
                &[CWD, c"/proc".as_ptr() as u64, flags],
            )),
            "open_tree(/proc, OPEN_TREE_CLONE)",
        )
    })
}

/// chroot(2) moves only this child.
fn chroot(world: &World) -> Verdict {
    match Scratch::new(&world.workspace) {
        Err(reason) => not_run(reason),
        Ok(scratch) => {
            let path = text(&scratch.0);
            let root = crate::raw::open("/", libc::O_PATH | libc::O_DIRECTORY, 0);
            let result = call(libc::SYS_chroot, &[path.as_ptr() as u64]);
            if let (Ok(_), Ok(root)) = (result, &root) {
                // The way back is the classic escape itself; without it the
                // scratch directory could not be removed by its path.
                let back = call(libc::SYS_fchdir, &[number(root)])
                    .and_then(|_| call(libc::SYS_chroot, &[c".".as_ptr() as u64]));
                return allowed(if back.is_ok() {
                    "chroot, and out again by a directory descriptor"
                } else {
                    "chroot"
                });
            }
            attempt(result, "chroot")
        }
    }
}

fn overlay(world: &World) -> Verdict {
    detached(|| {
        let scratch = match Scratch::new(&world.workspace) {
            Ok(scratch) => scratch,
            Err(reason) => return not_run(reason),
        };
        let options = text("lowerdir=/usr:/etc");
        let result = mount_at(&scratch, c"overlay", &options);
        unmount(&scratch, result.is_ok());
        match result {
            Err(libc::ENODEV) => absent("overlay: not in this kernel"),
            other => attempt(other, "mount -t overlay"),
        }
    })
}

fn propagation() -> Verdict {
    let joined: Vec<String> = mounts()
        .iter()
        .filter(|mount| {
            mount
                .tags
                .iter()
                .any(|tag| tag.starts_with("shared:") || tag.starts_with("master:"))
        })
        .map(|mount| format!("{} {}", mount.at, mount.tags.join(",")))
        .collect();
    match (mounts().is_empty(), joined.is_empty()) {
        (true, _) => not_run("/proc/self/mountinfo is not readable".into()),
        (_, true) => clean("every mount is private"),
        (_, false) => allowed(joined.join("; ")),
    }
}

/// A bind mount of a namespace file keeps the namespace after its processes.
fn pin_namespace(world: &World) -> Verdict {
    detached(|| {
        let scratch = match Scratch::new(&world.workspace) {
            Ok(scratch) => scratch,
            Err(reason) => return not_run(reason),
        };
        let file = scratch.join("pin");
        if crate::raw::open(&file, libc::O_WRONLY | libc::O_CREAT, 0o600).is_err() {
            return not_run("cannot make a file".into());
        }
        let (from, to) = (text("/proc/self/ns/uts"), text(&file));
        let result = call(
            libc::SYS_mount,
            &[
                from.as_ptr() as u64,
                to.as_ptr() as u64,
                0,
                libc::MS_BIND,
                0,
            ],
        );
        if result.is_ok()
            && call(
                libc::SYS_umount2,
                &[to.as_ptr() as u64, libc::MNT_DETACH as u64],
            )
            .is_err()
        {
            return allowed("a namespace stays pinned");
        }
        attempt(result, "bind /proc/self/ns/uts")
    })
}

/// The workspace, what is protected in it, and this program.
fn granted(world: &World, at: &str) -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    Path::new(at).starts_with(&world.workspace) || Path::new(at) == program
}

/// Sources, roots and overlay options that name a place nobody granted.
fn host_paths(world: &World) -> Verdict {
    let Some(outside) = &world.outside else {
        return not_run("needs --outside".into());
    };
    let parent = Path::new(outside)
        .parent()
        .and_then(Path::to_str)
        .unwrap_or(outside);
    let names = [
        outside.as_str(),
        parent,
        "/.local/share/cofferdam",
        "/.cache/cofferdam",
        "/run/user/",
    ];
    let tells = |text: &str| {
        names
            .iter()
            .any(|name| name.len() > 1 && text.contains(name))
    };
    let found: Vec<String> = mounts()
        .iter()
        .filter(|mount| !granted(world, &mount.at))
        .filter(|mount| tells(&mount.root) || tells(&mount.source) || tells(&mount.options))
        .map(|mount| {
            format!(
                "{} ({}): {} {} {}",
                mount.at, mount.kind, mount.root, mount.source, mount.options
            )
        })
        .collect();
    if found.is_empty() {
        clean("no path of the host")
    } else {
        allowed(found.join("; "))
    }
}

/// The options of a hierarchy that exists, so that mounting it makes no new one.
fn existing_cgroup_v1() -> std::ffi::CString {
    const CONTROLLERS: &[&str] = &[
        "rdma", "memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "freezer", "blkio",
    ];
    let options = mounts()
        .into_iter()
        .filter(|mount| mount.kind == "cgroup")
        .map(|mount| mount.options)
        .next();
    let wanted = options.unwrap_or_default();
    let known: Vec<&str> = wanted
        .split(',')
        .filter(|word| CONTROLLERS.contains(word) || word.starts_with("name="))
        .collect();
    text(if known.is_empty() {
        "none,name=probe-none".to_owned()
    } else {
        known.join(",")
    })
}

/// A mount from the initial namespace sets the root's flags: pass those it has.
fn existing_cgroup_v2() -> std::ffi::CString {
    let options = mounts()
        .into_iter()
        .find(|mount| mount.kind == "cgroup2")
        .map(|mount| mount.options);
    let wanted = options.unwrap_or_default();
    let known: Vec<&str> = wanted
        .split(',')
        .filter(|word| !["rw", "ro", ""].contains(word))
        .collect();
    text(known.join(","))
}
