//! D: what a program inherits: descriptors, directory, environment, terminal, signals, limits.

use crate::raw::{at, at_mut, call, open, signed, stat};
use crate::verdict::{
    Verdict, absent, allowed, attempt, clean, errno_name, not_run, object, worst,
};
use crate::{Probe, World};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

pub const PROBES: &[Probe] = &[
    Probe {
        name: "D-01-descriptor-census",
        run: census,
    },
    Probe {
        name: "D-02-descriptor-classes",
        run: |_| classes(),
    },
    Probe {
        name: "D-02-descriptor-reopen",
        run: |_| worst([0, 1, 2].map(reopen)),
    },
    Probe {
        name: "D-03-current-directory",
        run: |_| current_directory(),
    },
    Probe {
        name: "D-04-execute-inherited",
        run: execute_inherited,
    },
    Probe {
        name: "D-10-environment",
        run: |_| environment(),
    },
    Probe {
        name: "D-10-arguments-of-pid1",
        run: |_| match std::fs::read("/proc/1/cmdline") {
            Ok(text) if text.contains(&b'/') => allowed(String::from_utf8_lossy(&text)),
            Ok(text) => clean(String::from_utf8_lossy(&text)),
            Err(error) => not_run(error.to_string()),
        },
    },
    Probe {
        name: "D-11-controlling-terminal",
        run: |_| terminal(),
    },
    Probe {
        name: "D-11-steal-terminal",
        run: |_| steal_terminal(),
    },
    Probe {
        name: "D-12-ignored-signals",
        run: |_| signals(),
    },
    Probe {
        name: "D-13-raise-open-files",
        run: |_| raise(libc::RLIMIT_NOFILE),
    },
    Probe {
        name: "D-13-raise-processes",
        run: |_| raise(libc::RLIMIT_NPROC),
    },
    Probe {
        name: "D-13-raise-locked-memory",
        run: |_| raise(libc::RLIMIT_MEMLOCK),
    },
    Probe {
        name: "D-13-raise-message-queues",
        run: |_| raise(libc::RLIMIT_MSGQUEUE),
    },
    Probe {
        name: "D-13-raise-pending-signals",
        run: |_| raise(libc::RLIMIT_SIGPENDING),
    },
    Probe {
        name: "D-14-core-limit",
        run: |_| core_limit(),
    },
];

/// Before anything of ours is open, and without /proc.
pub fn open_above_two() -> Vec<i32> {
    (3..4096)
        .filter(|fd| call(libc::SYS_fcntl, &[signed(*fd), libc::F_GETFD as u64]).is_ok())
        .collect()
}

fn link(fd: i32) -> String {
    std::fs::read_link(format!("/proc/self/fd/{fd}"))
        .map_or_else(|_| "?".into(), |path| path.display().to_string())
}

fn census(world: &World) -> Verdict {
    let found: Vec<String> = world
        .inherited
        .iter()
        .map(|fd| format!("{fd} -> {}", link(*fd)))
        .collect();
    if found.is_empty() {
        clean("only 0, 1 and 2")
    } else {
        allowed(found.join(", "))
    }
}

/// A file, directory or device of the caller's on 0, 1 or 2 can be opened
/// again through /proc, changed in mode, or left in another state. Pipes,
/// terminals, sockets and /dev/null cannot be turned into a path.
fn classes() -> Verdict {
    worst(
        [0, 1, 2].map(|fd| match stat(format!("/proc/self/fd/{fd}")) {
            Err(errno) => absent(format!("{fd}: {}", errno_name(errno))),
            Ok(meta) => {
                let kind = meta.file_type();
                let null = kind.is_char_device() && meta.rdev() == libc::makedev(1, 3);
                let terminal = kind.is_char_device() && link(fd).starts_with("/dev/pts/");
                if kind.is_fifo() || null || terminal {
                    clean(link(fd))
                } else {
                    allowed(format!("{fd} -> {}", link(fd)))
                }
            }
        }),
    )
}

/// A descriptor open for reading becomes one for writing, and the other way round.
fn reopen(fd: i32) -> Verdict {
    let path = format!("/proc/self/fd/{fd}");
    match stat(&path) {
        Err(errno) => absent(format!("{path}: {}", errno_name(errno))),
        Ok(meta) if !meta.is_file() => clean(format!("{path} is no file")),
        Ok(_) => attempt(open(&path, libc::O_RDWR, 0), &path),
    }
}

fn current_directory() -> Verdict {
    let path = match std::env::current_dir() {
        Ok(path) => path,
        Err(error) => return allowed(format!("getcwd: {error}: the directory is outside or gone")),
    };
    let same = match (stat("."), stat(&path)) {
        (Ok(here), Ok(named)) => (here.dev(), here.ino()) == (named.dev(), named.ino()),
        _ => false,
    };
    match path.is_absolute() && same {
        true => clean(path.display().to_string()),
        false => allowed(format!("{} is not where we are", path.display())),
    }
}

/// execveat(2) of a descriptor needs no path. The arguments are no addresses,
/// so it ends there; what cannot be executed at all is refused with EACCES.
fn execute_inherited(world: &World) -> Verdict {
    worst(world.inherited.iter().map(|fd| {
        let (path, flags) = (c"".as_ptr() as u64, libc::AT_EMPTY_PATH as u64);
        let what = format!("execveat({fd})");
        match call(libc::SYS_execveat, &[signed(*fd), path, 1, 1, flags]) {
            Err(libc::EFAULT) => allowed(what),
            other => attempt(other, &what),
        }
    }))
}

/// Names that the presets pass or set; any other came from the caller.
fn environment() -> Verdict {
    const USUAL: &[&str] = &[
        "PATH", "HOME", "LANG", "TERM", "CI", "USER", "LOGNAME", "SHELL", "PWD", "TMPDIR",
        "HOSTNAME",
    ];
    let names: Vec<String> = std::env::vars_os()
        .map(|(name, _)| name.to_string_lossy().into_owned())
        .filter(|name| !USUAL.contains(&name.as_str()))
        .collect();
    if names.is_empty() {
        clean("only the usual names")
    } else {
        allowed(names.join(" "))
    }
}

/// Ours is a pts of our own /dev/pts; anything else is the caller's.
fn terminal() -> Verdict {
    match open("/dev/tty", libc::O_RDWR, 0) {
        Err(errno) => object(Err::<(), _>(errno), "/dev/tty"),
        Ok(terminal) => {
            use std::os::fd::AsRawFd;
            let mut number = 0_u32;
            let asked = crate::raw::ioctl(terminal.as_raw_fd(), 0x8004_5430, at_mut(&mut number));
            let ours =
                asked.is_ok() && stat(format!("/dev/pts/{number}")).is_ok() && only_own_terminals();
            if ours {
                clean(format!("/dev/pts/{number}"))
            } else {
                allowed("a terminal of the caller")
            }
        }
    }
}

/// A devpts of our own has few terminals and its own number 0.
fn only_own_terminals() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.contains(" /dev/pts ") && line.contains("nosuid"))
        && std::fs::read_dir("/dev/pts").is_ok_and(|entries| entries.count() <= 3)
}

/// TIOCSCTTY with 1 takes a terminal from another session; CAP_SYS_ADMIN over
/// the initial user namespace. Asked in a session of its own.
fn steal_terminal() -> Verdict {
    let terminals: Vec<i32> = (0..3)
        .filter(|fd| link(*fd).starts_with("/dev/pts/"))
        .collect();
    let Some(fd) = terminals.first() else {
        return absent("no terminal on 0, 1 or 2");
    };
    match call(libc::SYS_setsid, &[]) {
        Ok(_) => attempt(
            crate::raw::ioctl(*fd, u64::from(libc::TIOCSCTTY as u32), 0),
            "TIOCSCTTY",
        ),
        Err(errno) => not_run(format!("setsid: {}", errno_name(errno))),
    }
}

/// Rust itself ignores SIGPIPE before main; all else would be the caller's.
fn signals() -> Verdict {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key))?;
        u64::from_str_radix(value.trim(), 16).ok()
    };
    let pipe = 1 << (libc::SIGPIPE - 1);
    match (mask("SigIgn:"), mask("SigBlk:")) {
        (Some(ignored), Some(0)) if ignored & !pipe == 0 => clean("none ignored, none blocked"),
        (Some(ignored), Some(blocked)) => {
            allowed(format!("ignored {ignored:#x}, blocked {blocked:#x}"))
        }
        _ => not_run("/proc/self/status is not readable".into()),
    }
}

fn limit(resource: u32) -> Result<[u64; 2], i32> {
    let mut limits = [0_u64; 2];
    call(
        libc::SYS_prlimit64,
        &[0, resource.into(), 0, at_mut(&mut limits)],
    )
    .map(|_| limits)
}

/// One more than the hard limit, for this child alone.
fn raise(resource: u32) -> Verdict {
    match limit(resource) {
        Err(errno) => attempt(Err::<(), _>(errno), "prlimit64, reading"),
        Ok([_, u64::MAX]) => allowed("there is no limit"),
        Ok([soft, hard]) => {
            let raised = call(
                libc::SYS_prlimit64,
                &[0, resource.into(), at(&[soft, hard + 1]), 0],
            );
            // A filter may pretend success, so what counts is what is set then.
            match (raised, limit(resource)) {
                (Ok(_), Ok([_, now])) if now == hard => clean("nothing changed"),
                _ => attempt(raised, &format!("hard limit {hard} + 1")),
            }
        }
    }
}

/// A pipe handler of the host is started for a core limit of 0, not for 1 (core(5)).
fn core_limit() -> Verdict {
    match limit(libc::RLIMIT_CORE) {
        Ok([_, 1]) => clean("hard 1"),
        Ok([_, hard]) => allowed(format!("hard {hard}")),
        Err(errno) => attempt(Err::<(), _>(errno), "prlimit64, reading"),
    }
}
