//! F-70: set-id bits and file capabilities, which would reach the host through a writable workspace.
//!
//! EROFS is a refusal too: the workspace is read-only, and there nothing can
//! be made set-id.

use crate::raw::{CWD, at, at_mut, call, descriptor, number, open, text, unlink};
use crate::verdict::{Verdict, allowed, attempt, errno_name, refused};
use crate::{Probe, World};
use std::path::{Path, PathBuf};

const SET_UID: u64 = 0o4700;
const SET_GID: u64 = 0o2700;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "F-70-set-uid-chmod",
        run: |world| {
            with_file(world, |path| {
                call(libc::SYS_chmod, &[name(path).as_ptr() as u64, SET_UID])
            })
        },
    },
    Probe {
        name: "F-70-set-gid-chmod",
        run: |world| {
            with_file(world, |path| {
                call(libc::SYS_chmod, &[name(path).as_ptr() as u64, SET_GID])
            })
        },
    },
    Probe {
        name: "F-70-set-uid-chmod-high-bits",
        run: |world| {
            with_file(world, |path| {
                call(
                    libc::SYS_chmod,
                    &[name(path).as_ptr() as u64, 0x1_0001_0000 | SET_UID],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-uid-fchmodat",
        run: |world| {
            with_file(world, |path| {
                call(
                    libc::SYS_fchmodat,
                    &[CWD, name(path).as_ptr() as u64, SET_UID],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-uid-fchmodat2",
        run: |world| {
            with_file(world, |path| {
                call(
                    libc::SYS_fchmodat2,
                    &[CWD, name(path).as_ptr() as u64, SET_UID, 0],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-uid-fchmod",
        run: |world| {
            with_file(world, |path| {
                call(
                    libc::SYS_fchmod,
                    &[number(&open(path, libc::O_RDONLY, 0)?), SET_UID],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-uid-chmod-by-descriptor",
        run: |world| {
            with_file(world, |path| {
                let file = open(path, libc::O_PATH, 0)?;
                let link = format!("/proc/self/fd/{}", number(&file));
                call(libc::SYS_chmod, &[name(link).as_ptr() as u64, SET_UID])
            })
        },
    },
    Probe {
        name: "F-70-set-uid-open",
        run: |world| {
            creating(world, |path| {
                open(path, creating_flags(), SET_UID as u32).map(|_| 0)
            })
        },
    },
    Probe {
        name: "F-70-set-uid-open-old-call",
        run: |world| {
            creating(world, |path| {
                descriptor(call(
                    libc::SYS_open,
                    &[name(path).as_ptr() as u64, creating_flags() as u64, SET_UID],
                ))
                .map(|_| 0)
            })
        },
    },
    Probe {
        name: "F-70-set-uid-creat",
        run: |world| {
            creating(world, |path| {
                descriptor(call(
                    libc::SYS_creat,
                    &[name(path).as_ptr() as u64, SET_UID],
                ))
                .map(|_| 0)
            })
        },
    },
    Probe {
        name: "F-70-set-uid-openat2",
        run: |world| {
            creating(world, |path| {
                let how = [creating_flags() as u64, SET_UID, 0];
                descriptor(call(
                    libc::SYS_openat2,
                    &[CWD, name(path).as_ptr() as u64, at(&how), 24],
                ))
                .map(|_| 0)
            })
        },
    },
    Probe {
        name: "F-70-set-uid-tmpfile",
        run: |world| {
            let flags = (libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC) as u64;
            let directory = text(&world.workspace);
            attempt(
                descriptor(call(
                    libc::SYS_openat,
                    &[CWD, directory.as_ptr() as u64, flags, SET_UID],
                ))
                .map(|_| 0),
                "O_TMPFILE",
            )
        },
    },
    Probe {
        name: "F-70-set-uid-mknod",
        run: |world| {
            creating(world, |path| {
                call(
                    libc::SYS_mknod,
                    &[
                        name(path).as_ptr() as u64,
                        u64::from(libc::S_IFREG) | SET_UID,
                        0,
                    ],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-uid-mknodat",
        run: |world| {
            creating(world, |path| {
                call(
                    libc::SYS_mknodat,
                    &[
                        CWD,
                        name(path).as_ptr() as u64,
                        u64::from(libc::S_IFREG) | SET_UID,
                        0,
                    ],
                )
            })
        },
    },
    Probe {
        name: "F-70-set-gid-mkdir",
        run: |world| {
            making(world, |path| {
                call(libc::SYS_mkdir, &[name(path).as_ptr() as u64, SET_GID])
            })
        },
    },
    Probe {
        name: "F-70-set-gid-mkdirat",
        run: |world| {
            making(world, |path| {
                call(
                    libc::SYS_mkdirat,
                    &[CWD, name(path).as_ptr() as u64, SET_GID],
                )
            })
        },
    },
    Probe {
        name: "F-71-file-capability",
        run: |world| {
            with_file(world, |path| {
                set_xattr(path, c"security.capability", &CAPABILITY)
            })
        },
    },
    Probe {
        name: "F-71-file-capability-by-descriptor",
        run: |world| with_file(world, file_capability_by_descriptor),
    },
    Probe {
        name: "F-71-trusted-xattr",
        run: |world| with_file(world, |path| set_xattr(path, c"trusted.probe", b"1")),
    },
    Probe {
        name: "F-72-link-set-id-program",
        run: link_set_id_program,
    },
    Probe {
        name: "F-73-chown-to-other",
        run: |world| {
            with_file(world, |path| {
                call(
                    libc::SYS_fchownat,
                    &[CWD, name(path).as_ptr() as u64, 1, 1, 0],
                )
            })
        },
    },
];

/// struct vfs_cap_data, revision 2, effective: CAP_NET_RAW.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn name(path: impl AsRef<Path>) -> std::ffi::CString {
    text(path)
}

fn creating_flags() -> i32 {
    libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC
}

fn target(world: &World) -> PathBuf {
    Path::new(&world.workspace).join(format!("probe-set-id-{}", std::process::id()))
}

/// Tries on a fresh file of the workspace, which is removed again. Where none
/// can be made, that is the refusal, unless the filter refuses even earlier.
fn with_file(world: &World, change: impl Fn(&Path) -> Result<i64, i32>) -> Verdict {
    let path = target(world);
    let made = open(&path, creating_flags(), 0o600);
    let changed = change(&path);
    match made {
        Ok(_) if unlink(&path).is_err() => allowed(format!("{} stays behind", path.display())),
        Ok(_) => attempt(changed, &path.display().to_string()),
        Err(errno) => match changed {
            Err(earlier @ (libc::EPERM | libc::ENOSYS)) => {
                refused(&errno_name(earlier), "the filter")
            }
            _ => refused(&errno_name(errno), format!("creating {}", path.display())),
        },
    }
}

/// Tries to create a file, which is removed again.
fn creating(world: &World, create: impl Fn(&Path) -> Result<i64, i32>) -> Verdict {
    let path = target(world);
    let result = create(&path);
    if result.is_ok() && unlink(&path).is_err() {
        return allowed(format!("{} stays behind", path.display()));
    }
    attempt(result, &path.display().to_string())
}

/// As `creating`, for a directory.
fn making(world: &World, create: impl Fn(&Path) -> Result<i64, i32>) -> Verdict {
    let path = target(world);
    let result = create(&path);
    if result.is_ok() && std::fs::remove_dir(&path).is_err() {
        return allowed(format!("{} stays behind", path.display()));
    }
    attempt(result, &path.display().to_string())
}

fn set_xattr(path: &Path, attribute: &std::ffi::CStr, value: &[u8]) -> Result<i64, i32> {
    call(
        libc::SYS_setxattr,
        &[
            name(path).as_ptr() as u64,
            attribute.as_ptr() as u64,
            value.as_ptr() as u64,
            value.len() as u64,
            0,
        ],
    )
}

fn file_capability_by_descriptor(path: &Path) -> Result<i64, i32> {
    let file = open(path, libc::O_RDONLY, 0)?;
    let mut value = CAPABILITY;
    call(
        libc::SYS_fsetxattr,
        &[
            number(&file),
            c"security.capability".as_ptr() as u64,
            at_mut(&mut value),
            CAPABILITY.len() as u64,
            0,
        ],
    )
}

/// A hard link to a set-id program would survive the program's update.
fn link_set_id_program(world: &World) -> Verdict {
    let path = target(world);
    let results = ["/usr/bin/su", "/usr/bin/passwd", "/bin/mount"].map(|program| {
        let link = call(
            libc::SYS_linkat,
            &[
                CWD,
                name(program).as_ptr() as u64,
                CWD,
                name(&path).as_ptr() as u64,
                0,
            ],
        );
        if link.is_ok() && unlink(&path).is_err() {
            return allowed(format!("{} stays behind", path.display()));
        }
        match link {
            Err(libc::ENOENT) => crate::verdict::absent(program),
            other => attempt(other, program),
        }
    });
    crate::verdict::worst(results)
}
