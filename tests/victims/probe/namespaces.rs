//! N: namespaces, cgroups, what of the host is visible.

use crate::processes::own_stat;
use crate::raw::{Child, at, call, descriptor, exit, fork, ioctl, number, open, reap, text};
use crate::verdict::{
    Verdict, allowed, attempt, clean, errno_name, not_run, object, reached, worst,
};
use crate::{Probe, World};
use std::os::fd::AsRawFd;
use std::path::Path;

const NEWTIME: i32 = 0x80;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "N-01-unshare-user",
        run: |_| unshare(libc::CLONE_NEWUSER),
    },
    Probe {
        name: "N-02-clone-user",
        run: |_| clone(libc::CLONE_NEWUSER),
    },
    Probe {
        name: "N-02-clone-mount",
        run: |_| clone(libc::CLONE_NEWNS),
    },
    Probe {
        name: "N-02-clone-cgroup",
        run: |_| clone(libc::CLONE_NEWCGROUP),
    },
    Probe {
        name: "N-02-clone-uts",
        run: |_| clone(libc::CLONE_NEWUTS),
    },
    Probe {
        name: "N-02-clone-ipc",
        run: |_| clone(libc::CLONE_NEWIPC),
    },
    Probe {
        name: "N-02-clone-pid",
        run: |_| clone(libc::CLONE_NEWPID),
    },
    Probe {
        name: "N-02-clone-net",
        run: |_| clone(libc::CLONE_NEWNET),
    },
    Probe {
        name: "N-02-clone-user-and-net",
        run: |_| clone(libc::CLONE_NEWUSER | libc::CLONE_NEWNET),
    },
    Probe {
        name: "N-03-clone3-null",
        run: |_| clone3_null(),
    },
    Probe {
        name: "N-03-clone3-user",
        run: |_| clone3(libc::CLONE_NEWUSER as u64),
    },
    Probe {
        name: "N-03-clone3-plain",
        run: |_| clone3(0),
    },
    Probe {
        name: "N-05-unshare-mount",
        run: |_| unshare(libc::CLONE_NEWNS),
    },
    Probe {
        name: "N-05-unshare-cgroup",
        run: |_| unshare(libc::CLONE_NEWCGROUP),
    },
    Probe {
        name: "N-05-unshare-uts",
        run: |_| unshare(libc::CLONE_NEWUTS),
    },
    Probe {
        name: "N-05-unshare-ipc",
        run: |_| unshare(libc::CLONE_NEWIPC),
    },
    Probe {
        name: "N-05-unshare-pid",
        run: |_| unshare(libc::CLONE_NEWPID),
    },
    Probe {
        name: "N-05-unshare-net",
        run: |_| unshare(libc::CLONE_NEWNET),
    },
    Probe {
        name: "N-05-unshare-time",
        run: |_| unshare(NEWTIME),
    },
    Probe {
        name: "N-06-setns-own",
        run: |_| setns("/proc/self/ns/uts", libc::CLONE_NEWUTS),
    },
    Probe {
        name: "N-06-setns-pid1",
        run: |_| setns("/proc/1/ns/mnt", libc::CLONE_NEWNS),
    },
    Probe {
        name: "N-06-setns-pidfd",
        run: |_| setns_pidfd(),
    },
    Probe {
        name: "N-07-owner-of-namespaces",
        run: |_| owners(),
    },
    Probe {
        name: "N-08-host-namespaces",
        run: host_namespaces,
    },
    Probe {
        name: "N-10-sysv-shm",
        run: sysv_shm,
    },
    Probe {
        name: "N-10-message-queue",
        run: message_queue,
    },
    Probe {
        name: "N-10-dev-shm",
        run: dev_shm,
    },
    Probe {
        name: "N-11-sethostname",
        run: |_| hostname(libc::SYS_sethostname, "/proc/sys/kernel/hostname"),
    },
    Probe {
        name: "N-11-setdomainname",
        run: |_| hostname(libc::SYS_setdomainname, "/proc/sys/kernel/domainname"),
    },
    Probe {
        name: "N-12-cgroup-files",
        run: |_| cgroup_files(),
    },
    Probe {
        name: "N-12-cgroup-path",
        run: |_| cgroup_path(),
    },
    Probe {
        name: "N-12-cgroup-new",
        run: |_| cgroup_new(),
    },
    Probe {
        name: "N-14-uid-map-write",
        run: |_| map_write("/proc/self/uid_map"),
    },
    Probe {
        name: "N-14-gid-map-write",
        run: |_| map_write("/proc/self/gid_map"),
    },
    Probe {
        name: "N-14-id-limits-write",
        run: |_| limits_write(),
    },
    Probe {
        name: "D-61-session-outside",
        run: |_| session(),
    },
];

fn unshare(flag: i32) -> Verdict {
    attempt(
        call(libc::SYS_unshare, &[flag as u64]),
        &format!("unshare({flag:#x})"),
    )
}

/// clone(2) as fork(2) does it, with namespace flags; the child ends at once.
fn clone(flags: i32) -> Verdict {
    let all = (flags | libc::SIGCHLD) as u64;
    let result = call(libc::SYS_clone, &[all, 0, 0, 0, 0]);
    match result {
        Ok(0) => exit(0),
        Ok(pid) => {
            reap(pid as i32);
            allowed(format!("clone({flags:#x})"))
        }
        Err(_) => attempt(result, &format!("clone({flags:#x})")),
    }
}

fn clone3_null() -> Verdict {
    reached(call(libc::SYS_clone3, &[0, 0]), "clone3(NULL, 0)")
}

/// struct clone_args, its first 64 bytes.
fn clone3(flags: u64) -> Verdict {
    let mut arguments = [0_u64; 8];
    (arguments[0], arguments[4]) = (flags, libc::SIGCHLD as u64);
    let result = call(libc::SYS_clone3, &[at(&arguments), 64]);
    match result {
        Ok(0) => exit(0),
        Ok(pid) => {
            reap(pid as i32);
            allowed(format!("clone3({flags:#x})"))
        }
        Err(_) => attempt(result, &format!("clone3({flags:#x})")),
    }
}

fn setns(path: &str, kind: i32) -> Verdict {
    match open(path, libc::O_RDONLY, 0) {
        Ok(file) => attempt(call(libc::SYS_setns, &[number(&file), kind as u64]), path),
        Err(errno) => object(Err::<(), _>(errno), path),
    }
}

fn setns_pidfd() -> Verdict {
    let parent = u64::from(std::os::unix::process::parent_id());
    let joined = descriptor(call(libc::SYS_pidfd_open, &[parent, 0])).and_then(|pidfd| {
        call(
            libc::SYS_setns,
            &[number(&pidfd), libc::CLONE_NEWUTS as u64],
        )
    });
    attempt(joined, "setns by pidfd")
}

/// ioctl_ns(2): the owner of a namespace is told only to those in it or above.
/// Refused for each means: the job's user namespace owns none of them, so even
/// a full capability set there is worth nothing over them.
fn owners() -> Verdict {
    const NS_GET_USERNS: u64 = 0xb701;
    let owner = |kind: &str| match open(format!("/proc/self/ns/{kind}"), libc::O_RDONLY, 0) {
        Ok(file) => attempt(descriptor(ioctl(file.as_raw_fd(), NS_GET_USERNS, 0)), kind),
        Err(errno) => object(Err::<(), _>(errno), kind),
    };
    worst(["pid", "ipc", "uts", "cgroup", "net"].map(owner))
}

fn host_namespaces(world: &World) -> Verdict {
    if world.host_namespaces.is_empty() {
        return not_run("needs --host-namespaces".into());
    }
    let ours: Vec<String> = crate::plant::namespaces();
    if ours.is_empty() {
        return not_run("/proc/self/ns is not readable".into());
    }
    let shared: Vec<&str> = ours
        .iter()
        .filter(|link| world.host_namespaces.contains(link))
        .map(String::as_str)
        .collect();
    if shared.is_empty() {
        clean(ours.join(" "))
    } else {
        allowed(shared.join(" "))
    }
}

fn sysv_shm(world: &World) -> Verdict {
    let Some(key) = world.shm_key else {
        return not_run("needs --shm-key".into());
    };
    object(call(libc::SYS_shmget, &[key as u64, 0, 0]), "shmget")
}

fn message_queue(world: &World) -> Verdict {
    let Some(name) = &world.ipc_name else {
        return not_run("needs --ipc-name".into());
    };
    let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
    object(
        descriptor(call(
            libc::SYS_mq_open,
            &[text(name).as_ptr() as u64, flags, 0, 0],
        )),
        "mq_open",
    )
}

fn dev_shm(world: &World) -> Verdict {
    let Some(name) = &world.ipc_name else {
        return not_run("needs --ipc-name".into());
    };
    let path = format!("/dev/shm/{name}");
    object(open(&path, libc::O_RDONLY, 0), &path)
}

/// To the name it has.
fn hostname(number: libc::c_long, file: &str) -> Verdict {
    let name = std::fs::read_to_string(file).unwrap_or_default();
    let name = name.trim_end();
    attempt(
        call(number, &[name.as_ptr() as u64, name.len() as u64]),
        file,
    )
}

fn cgroup_mounts() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .collect()
}

/// Limits and membership, in the visible root and above it.
fn cgroup_files() -> Verdict {
    let files = [
        "memory.max",
        "pids.max",
        "cpu.max",
        "cgroup.procs",
        "cgroup.subtree_control",
        "cgroup.kill",
        "release_agent",
        "notify_on_release",
        "tasks",
        "pids/pids.max",
        "memory/memory.limit_in_bytes",
        "../cgroup.procs",
    ];
    let all = cgroup_mounts();
    worst(all.iter().flat_map(|mount| {
        files.map(|file| {
            let path = format!("{mount}/{file}");
            object(open(&path, libc::O_WRONLY, 0), &path)
        })
    }))
}

fn cgroup_new() -> Verdict {
    let all = cgroup_mounts();
    worst(all.iter().map(|mount| {
        let path = Path::new(mount).join(format!("probe-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) if std::fs::remove_dir(&path).is_err() => {
                allowed(format!("{} stays behind", path.display()))
            }
            Ok(()) => allowed(path.display().to_string()),
            Err(error) => object(Err::<(), _>(error.raw_os_error().unwrap_or(0)), mount),
        }
    }))
}

/// In a cgroup namespace of its own a process sees itself at `/`.
fn cgroup_path() -> Verdict {
    match std::fs::read_to_string("/proc/self/cgroup") {
        Err(error) => object(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "/proc/self/cgroup",
        ),
        Ok(text) => {
            let deep: Vec<&str> = text.lines().filter(|line| !line.ends_with(":/")).collect();
            if deep.is_empty() {
                clean("every path is /")
            } else {
                allowed(deep.join(" "))
            }
        }
    }
}

/// A map is written once; a second line is refused in any namespace.
fn map_write(path: &str) -> Verdict {
    let line = "0 0 4294967295\n";
    match open(path, libc::O_WRONLY, 0) {
        Ok(file) => attempt(
            call(
                libc::SYS_write,
                &[number(&file), line.as_ptr() as u64, line.len() as u64],
            ),
            path,
        ),
        Err(errno) => object(Err::<(), _>(errno), path),
    }
}

/// The limits set above the job must not be open to it.
fn limits_write() -> Verdict {
    let files = [
        "max_user_namespaces",
        "max_net_namespaces",
        "max_mnt_namespaces",
        "max_inotify_instances",
        "max_inotify_watches",
        "max_fanotify_groups",
    ];
    worst(files.map(|file| {
        let path = format!("/proc/sys/user/{file}");
        object(open(&path, libc::O_WRONLY, 0), &path)
    }))
}

/// A session or process group led from outside the pid namespace shows as 0.
/// The session is the way to the caller's terminal.
fn session() -> Verdict {
    match (own_stat(2).as_deref(), own_stat(3).as_deref()) {
        (_, Some("0")) => allowed("the session's leader is outside"),
        (Some("0"), _) => allowed("the process group's leader is outside"),
        (Some(_), Some(session)) => clean(format!("session {session}")),
        _ => not_run("/proc/self/stat is not readable".into()),
    }
}

/// Runs `probe` in a child whose answer is its exit code: 0 for "it worked".
pub fn worked_in_child(probe: impl FnOnce() -> bool) -> Result<bool, Verdict> {
    match fork() {
        Child::Here => exit(i32::from(!probe())),
        Child::There(pid) => Ok(crate::raw::exit_code(pid) == Some(0)),
        Child::Failed(errno) => Err(not_run(format!("fork: {}", errno_name(errno)))),
    }
}
