//! F-80: protected paths of a writable workspace, and every way around them.
//!
//! The workspace must hold `.git/config` and `.git/hooks/`, and neither
//! `.envrc` nor `.vscode`: `probe plant` lays that out. Everything that works is
//! undone at once.

use crate::mounts::detached;
use crate::raw::{CWD, at, at_mut, call, number, open, rename, stat, text, unlink};
use crate::verdict::{Verdict, allowed, attempt, errno_name, not_run};
use crate::{Probe, World};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub const PROBES: &[Probe] = &[
    Probe {
        name: "F-80-protected-open",
        run: |world| {
            with_git(world, |git| {
                attempt(
                    open(git.join("config"), libc::O_WRONLY | libc::O_APPEND, 0),
                    "open .git/config",
                )
            })
        },
    },
    Probe {
        name: "F-80-protected-reopen",
        run: |world| with_git(world, reopen),
    },
    Probe {
        name: "F-80-protected-truncate",
        run: |world| with_git(world, truncate),
    },
    Probe {
        name: "F-80-protected-chmod",
        run: |world| with_git(world, chmod),
    },
    Probe {
        name: "F-80-protected-times",
        run: |world| with_git(world, times),
    },
    Probe {
        name: "F-80-protected-xattr",
        run: |world| with_git(world, xattr),
    },
    Probe {
        name: "F-80-protected-new-hook",
        run: |world| {
            with_git(world, |git| {
                create_and_remove(&git.join("hooks/post-checkout"))
            })
        },
    },
    Probe {
        name: "F-80-protected-new-file",
        run: |world| write_or_create(&Path::new(&world.workspace).join(".envrc")),
    },
    Probe {
        name: "F-80-protected-new-directory",
        run: new_directory,
    },
    Probe {
        name: "F-80-protected-new-symlink",
        run: new_symlink,
    },
    Probe {
        name: "F-80-protected-rename",
        run: |world| {
            with_git(world, |git| {
                rename_and_back(&git.join("config"), &git.join("config.probe"))
            })
        },
    },
    Probe {
        name: "F-80-protected-rename-parent",
        run: |world| {
            with_git(world, |git| {
                rename_and_back(git, &git.with_extension("probe"))
            })
        },
    },
    Probe {
        name: "F-80-protected-exchange-parent",
        run: |world| with_git(world, exchange),
    },
    Probe {
        name: "F-80-protected-exchange-file",
        run: |world| with_git(world, exchange_file),
    },
    Probe {
        name: "F-80-protected-unlink",
        run: |world| with_git(world, unlink_with_spare),
    },
    Probe {
        name: "F-80-protected-hard-link",
        run: |world| with_git(world, hard_link),
    },
    Probe {
        name: "F-80-protected-bind-over",
        run: |world| with_git(world, bind_over),
    },
    Probe {
        name: "F-81-workspace-parent-write",
        run: |world| {
            create_and_remove(&Path::new(&world.workspace).join("../probe-beside-workspace"))
        },
    },
];

fn with_git(world: &World, probe: impl Fn(&Path) -> Verdict) -> Verdict {
    let git: PathBuf = Path::new(&world.workspace).join(".git");
    match stat(git.join("config")) {
        Ok(_) => probe(&git),
        Err(errno) => not_run(format!("{}/config: {}", git.display(), errno_name(errno))),
    }
}

/// Through the magic link of a read-only descriptor.
fn reopen(git: &Path) -> Verdict {
    match open(git.join("config"), libc::O_RDONLY, 0) {
        Ok(file) => attempt(
            open(
                format!("/proc/self/fd/{}", number(&file)),
                libc::O_WRONLY,
                0,
            ),
            "reopen .git/config",
        ),
        Err(errno) => not_run(format!("open .git/config: {}", errno_name(errno))),
    }
}

/// To the length it has.
fn truncate(git: &Path) -> Verdict {
    let path = git.join("config");
    let length = stat(&path).map_or(0, |meta| meta.len());
    attempt(
        call(libc::SYS_truncate, &[text(&path).as_ptr() as u64, length]),
        "truncate .git/config",
    )
}

/// To the mode it has.
fn chmod(git: &Path) -> Verdict {
    let path = git.join("hooks");
    let mode = stat(&path).map_or(0o755, |meta| meta.mode() & 0o777);
    attempt(
        call(
            libc::SYS_fchmodat,
            &[CWD, text(&path).as_ptr() as u64, mode.into()],
        ),
        "chmod .git/hooks",
    )
}

/// To the times it has: UTIME_OMIT for both changes nothing, so the time of access is set to itself.
fn times(git: &Path) -> Verdict {
    let path = git.join("config");
    let Ok(meta) = stat(&path) else {
        return not_run("stat .git/config".into());
    };
    let times = [
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
    ];
    attempt(
        call(
            libc::SYS_utimensat,
            &[CWD, text(&path).as_ptr() as u64, at(&times), 0],
        ),
        "utimensat .git/config",
    )
}

/// A user attribute, removed again.
fn xattr(git: &Path) -> Verdict {
    let path = text(git.join("config"));
    let mut value = *b"1";
    let name = c"user.probe".as_ptr() as u64;
    let set = call(
        libc::SYS_setxattr,
        &[path.as_ptr() as u64, name, at_mut(&mut value), 1, 0],
    );
    if set.is_ok() && call(libc::SYS_removexattr, &[path.as_ptr() as u64, name]).is_err() {
        return allowed("setxattr .git/config, and it stays behind");
    }
    attempt(set, "setxattr .git/config")
}

fn create_and_remove(path: &Path) -> Verdict {
    let made = open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o700);
    if made.is_ok() && unlink(path).is_err() {
        return allowed(format!("{} stays behind", path.display()));
    }
    attempt(made, &format!("create {}", path.display()))
}

/// A path that is protected before it exists may be there as a placeholder:
/// then writing to it is the question.
fn write_or_create(path: &Path) -> Verdict {
    match open(path, libc::O_WRONLY, 0) {
        Err(libc::ENOENT) => create_and_remove(path),
        other => attempt(other, &format!("write {}", path.display())),
    }
}

fn new_directory(world: &World) -> Verdict {
    let path = Path::new(&world.workspace).join(".vscode");
    if path.is_dir() {
        return create_and_remove(&path.join("probe"));
    }
    let made = call(
        libc::SYS_mkdirat,
        &[CWD, text(&path).as_ptr() as u64, 0o700],
    );
    if made.is_ok() && std::fs::remove_dir(&path).is_err() {
        return allowed(".vscode stays behind");
    }
    attempt(made, "mkdir .vscode")
}

fn new_symlink(world: &World) -> Verdict {
    let path = Path::new(&world.workspace).join(".envrc");
    let made = call(
        libc::SYS_symlinkat,
        &[
            c"elsewhere".as_ptr() as u64,
            CWD,
            text(&path).as_ptr() as u64,
        ],
    );
    if made.is_ok() && unlink(&path).is_err() {
        return allowed(".envrc stays behind");
    }
    attempt(made, "symlink .envrc")
}

fn rename_and_back(from: &Path, to: &Path) -> Verdict {
    let moved = rename(from, to, 0);
    if moved.is_ok() && rename(to, from, 0).is_err() {
        return allowed(format!("{} stays renamed", from.display()));
    }
    attempt(moved, &format!("rename {}", from.display()))
}

fn exchange_paths(first: &Path, second: &Path) -> Verdict {
    let swapped = rename(first, second, libc::RENAME_EXCHANGE);
    if swapped.is_ok() && rename(first, second, libc::RENAME_EXCHANGE).is_err() {
        return allowed(format!("{} stays exchanged", first.display()));
    }
    attempt(swapped, &format!("exchange {}", first.display()))
}

/// A directory of ours takes the place of .git in one step.
fn exchange(git: &Path) -> Verdict {
    let other = git.with_extension("probe");
    if let Err(error) = std::fs::create_dir(&other) {
        return attempt(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "mkdir beside .git",
        );
    }
    let verdict = exchange_paths(git, &other);
    match std::fs::remove_dir(&other) {
        Ok(()) => verdict,
        Err(error) => allowed(format!("{} stays behind: {error}", other.display())),
    }
}

fn exchange_file(git: &Path) -> Verdict {
    let other = git.with_extension("probe-file");
    if let Err(errno) = open(&other, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600) {
        return attempt(Err::<(), _>(errno), "create beside .git");
    }
    let verdict = exchange_paths(&git.join("config"), &other);
    match unlink(&other) {
        Ok(_) => verdict,
        Err(errno) => allowed(format!(
            "{} stays behind: {}",
            other.display(),
            errno_name(errno)
        )),
    }
}

fn link(from: &Path, to: &Path) -> Result<i64, i32> {
    call(
        libc::SYS_linkat,
        &[
            CWD,
            text(from).as_ptr() as u64,
            CWD,
            text(to).as_ptr() as u64,
            0,
        ],
    )
}

/// With a second link as the way back. Without one, a rename away would be the
/// same question, and that is asked elsewhere.
fn unlink_with_spare(git: &Path) -> Verdict {
    let (config, spare) = (git.join("config"), git.with_extension("spare"));
    if let Err(errno) = link(&config, &spare) {
        return attempt(Err::<(), _>(errno), "link .git/config, before unlinking it");
    }
    let removed = unlink(&config);
    if rename(&spare, &config, 0).is_err() || (removed.is_err() && unlink(&spare).is_err()) {
        return allowed("unlink .git/config, and it is now .git.spare");
    }
    attempt(removed, "unlink .git/config")
}

/// A second name outside the protected path, and writing through it.
fn hard_link(git: &Path) -> Verdict {
    let second = git.with_extension("second");
    if let Err(errno) = link(&git.join("config"), &second) {
        return attempt(Err::<(), _>(errno), "link .git/config");
    }
    let opened = open(&second, libc::O_WRONLY | libc::O_APPEND, 0);
    if unlink(&second).is_err() {
        return allowed(".git.second stays behind");
    }
    attempt(opened, "write through a second link")
}

fn bind_over(git: &Path) -> Verdict {
    detached(|| {
        let (from, to) = (text("/tmp"), text(git));
        let bind = call(
            libc::SYS_mount,
            &[
                from.as_ptr() as u64,
                to.as_ptr() as u64,
                0,
                libc::MS_BIND,
                0,
            ],
        );
        attempt(bind, "bind /tmp over .git")
    })
}
