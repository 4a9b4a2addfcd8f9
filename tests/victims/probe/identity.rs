//! C: ids, capabilities, no_new_privs, the filter on every thread.

use crate::Probe;
use crate::raw::{at, at_mut, call, stat};
use crate::verdict::{Verdict, absent, allowed, attempt, clean, errno_name, not_run, worst};
use std::os::unix::fs::MetadataExt;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "C-01-inheritable",
        run: |_| capability_set("CapInh:"),
    },
    Probe {
        name: "C-01-permitted",
        run: |_| capability_set("CapPrm:"),
    },
    Probe {
        name: "C-01-effective",
        run: |_| capability_set("CapEff:"),
    },
    Probe {
        name: "C-01-bounding",
        run: |_| capability_set("CapBnd:"),
    },
    Probe {
        name: "C-01-ambient",
        run: |_| capability_set("CapAmb:"),
    },
    Probe {
        name: "C-02-no-new-privs",
        run: |_| status_is("NoNewPrivs:", "1"),
    },
    Probe {
        name: "C-02-no-new-privs-everywhere",
        run: |_| everywhere("NoNewPrivs:", "1"),
    },
    Probe {
        name: "C-03-capset-widen",
        run: |_| widen(),
    },
    Probe {
        name: "C-03-ambient-raise",
        run: |_| ambient(),
    },
    Probe {
        name: "C-04-setuid-zero",
        run: |_| attempt(call(libc::SYS_setresuid, &[0, 0, 0]), "setresuid(0, 0, 0)"),
    },
    Probe {
        name: "C-04-setuid-other",
        run: |_| attempt(call(libc::SYS_setresuid, &[1, 1, 1]), "setresuid(1, 1, 1)"),
    },
    Probe {
        name: "C-04-setgid-other",
        run: |_| attempt(call(libc::SYS_setresgid, &[1, 1, 1]), "setresgid(1, 1, 1)"),
    },
    Probe {
        name: "C-04-setfsuid-zero",
        run: |_| setfsuid(),
    },
    Probe {
        name: "C-06-securebits",
        run: |_| {
            attempt(
                call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS as u64, 0x2f]),
                "PR_SET_SECUREBITS",
            )
        },
    },
    Probe {
        name: "C-06-bounding-drop",
        run: |_| {
            attempt(
                call(libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as u64, 0]),
                "PR_CAPBSET_DROP",
            )
        },
    },
    Probe {
        name: "C-07-groups",
        run: |_| groups(),
    },
    Probe {
        name: "C-07-setgroups",
        run: |_| attempt(call(libc::SYS_setgroups, &[0, 0]), "setgroups(0)"),
    },
    Probe {
        name: "C-08-host-root-mapped",
        run: |_| host_root(),
    },
    Probe {
        name: "C-08-whole-id-range",
        run: |_| id_range(),
    },
    Probe {
        name: "C-09-personality-no-randomise",
        run: |_| {
            attempt(
                call(libc::SYS_personality, &[0x0004_0000]),
                "ADDR_NO_RANDOMIZE",
            )
        },
    },
    Probe {
        name: "C-09-personality-high-bits",
        run: |_| {
            attempt(
                call(libc::SYS_personality, &[0x1_0004_0000]),
                "ADDR_NO_RANDOMIZE with bit 32",
            )
        },
    },
    Probe {
        name: "C-10-keep-caps-locked",
        run: |_| keep_caps(),
    },
    Probe {
        name: "S-38-filter-on",
        run: |_| status_is("Seccomp:", "2"),
    },
    Probe {
        name: "S-38-filter-everywhere",
        run: |_| everywhere("Seccomp:", "2"),
    },
];

fn status(path: &str, key: &str) -> Result<String, i32> {
    let text = std::fs::read_to_string(path).map_err(|error| error.raw_os_error().unwrap_or(0))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.map(|value| value.trim().to_owned())
        .ok_or(libc::ENOENT)
}

fn capability_set(key: &str) -> Verdict {
    match status("/proc/self/status", key) {
        Ok(value) if value.bytes().all(|digit| digit == b'0') => clean(format!("{key} {value}")),
        Ok(value) => allowed(format!("{key} {value}")),
        Err(errno) => not_run(format!("/proc/self/status {key} {}", errno_name(errno))),
    }
}

fn status_is(key: &str, wanted: &str) -> Verdict {
    match status("/proc/self/status", key) {
        Ok(value) if value == wanted => clean(format!("{key} {value}")),
        Ok(value) => allowed(format!("{key} {value}")),
        Err(errno) => not_run(format!("/proc/self/status {key} {}", errno_name(errno))),
    }
}

/// Every thread of every visible process but pid 1, which is ours, not the job's.
fn everywhere(key: &str, wanted: &str) -> Verdict {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return absent("/proc");
    };
    let numeric = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let pids = processes
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    worst(
        pids.filter(|name| numeric(name) && name != "1")
            .flat_map(|pid| {
                let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
                    return Vec::new();
                };
                let check = |task: std::fs::DirEntry| match status(
                    &format!("{}/status", task.path().display()),
                    key,
                ) {
                    Ok(value) if value == wanted => clean(format!("{key} {value}")),
                    Ok(value) => allowed(format!(
                        "task {}: {key} {value}",
                        task.file_name().to_string_lossy()
                    )),
                    // Gone between listing and reading.
                    Err(_) => absent(format!("{}", task.path().display())),
                };
                tasks.flatten().map(check).collect()
            }),
    )
}

/// capset(2), version 3: everything permitted and effective.
fn widen() -> Verdict {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut current = [0_u32; 6];
    if let Err(errno) = call(libc::SYS_capget, &[at(&header), at_mut(&mut current)]) {
        return attempt(Err::<(), _>(errno), "capget");
    }
    let wide = [u32::MAX, u32::MAX, 0, 0x1ff, 0x1ff, 0];
    attempt(
        call(libc::SYS_capset, &[at(&header), at(&wide)]),
        "capset to everything",
    )
}

/// Needs the capability permitted and inheritable, so that is set first.
fn ambient() -> Verdict {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut sets = [0_u32; 6];
    if let Err(errno) = call(libc::SYS_capget, &[at(&header), at_mut(&mut sets)]) {
        return attempt(Err::<(), _>(errno), "capget");
    }
    sets[2] |= 1;
    let inherited = call(libc::SYS_capset, &[at(&header), at(&sets)]);
    let raise = [
        libc::PR_CAP_AMBIENT as u64,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        0,
        0,
        0,
    ];
    attempt(
        inherited.and_then(|_| call(libc::SYS_prctl, &raise)),
        "ambient CAP_CHOWN",
    )
}

/// setfsuid(2) never fails; the second call tells what the first did.
fn setfsuid() -> Verdict {
    if call(libc::SYS_getuid, &[]) == Ok(0) {
        return allowed("already uid 0");
    }
    let answers = [
        call(libc::SYS_setfsuid, &[0]),
        call(libc::SYS_setfsuid, &[0]),
    ];
    match answers[1] {
        Ok(0) => allowed("setfsuid(0)"),
        Ok(_) => clean("setfsuid(0) changed nothing"),
        Err(_) => attempt(answers[1], "setfsuid(0)"),
    }
}

/// Groups beside our own, by whatever number they show.
fn groups() -> Verdict {
    let field = |key| status("/proc/self/status", key);
    match (field("Groups:"), field("Gid:")) {
        (Ok(groups), Ok(gids)) => {
            let own: Vec<&str> = gids.split_whitespace().collect();
            let others: Vec<&str> = groups
                .split_whitespace()
                .filter(|group| !own.contains(group))
                .collect();
            if others.is_empty() {
                clean("no other groups")
            } else {
                allowed(format!("groups {}", others.join(" ")))
            }
        }
        (Err(errno), _) | (_, Err(errno)) => {
            not_run(format!("/proc/self/status: {}", errno_name(errno)))
        }
    }
}

/// Files of the host's root show the overflow id where uid 0 is not mapped.
fn host_root() -> Verdict {
    let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(65534);
    match stat("/proc/sys/kernel/ostype") {
        Ok(meta) if meta.uid() == overflow => clean("the host's root is not mapped"),
        Ok(meta) => allowed(format!("the host's root is uid {} here", meta.uid())),
        Err(errno) => not_run(format!(
            "stat /proc/sys/kernel/ostype: {}",
            errno_name(errno)
        )),
    }
}

/// The identity map of all ids is the initial user namespace's, or as good.
fn id_range() -> Verdict {
    match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => {
            let whole = map
                .lines()
                .any(|line| line.split_whitespace().nth(2) == Some("4294967295"));
            if whole {
                allowed("all ids are mapped")
            } else {
                clean(map.trim().replace('\n', "; "))
            }
        }
        Err(error) => not_run(format!("/proc/self/uid_map: {error}")),
    }
}

/// With SECBIT_KEEP_CAPS a process could keep capabilities over setuid(2); without any it is moot.
fn keep_caps() -> Verdict {
    match (
        call(libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 1]),
        status("/proc/self/status", "CapPrm:"),
    ) {
        (Ok(_), Ok(permitted)) if permitted.bytes().any(|digit| digit != b'0') => {
            allowed("PR_SET_KEEPCAPS with capabilities to keep")
        }
        (Ok(_), _) => clean("nothing to keep"),
        (Err(errno), _) => crate::verdict::refused(&errno_name(errno), "PR_SET_KEEPCAPS"),
    }
}
