//! N, V: other processes, first of all pid 1 and the one that started this probe.

use crate::Probe;
use crate::raw::{at, at_mut, call, descriptor, number, open, signed};
use crate::verdict::{Verdict, absent, allowed, attempt, clean, object, reached, worst};

pub const PROBES: &[Probe] = &[
    Probe {
        name: "V-02-pid1-mem",
        run: |_| pid1("mem", libc::O_RDWR),
    },
    Probe {
        name: "V-02-pid1-environ",
        run: |_| pid1("environ", libc::O_RDONLY),
    },
    Probe {
        name: "V-02-pid1-maps",
        run: |_| pid1("maps", libc::O_RDONLY),
    },
    Probe {
        name: "V-02-pid1-auxv",
        run: |_| pid1("auxv", libc::O_RDONLY),
    },
    Probe {
        name: "V-02-pid1-program",
        run: |_| pid1("exe", libc::O_RDONLY),
    },
    Probe {
        name: "V-02-pid1-program-write",
        run: |_| pid1("exe", libc::O_WRONLY),
    },
    Probe {
        name: "V-02-pid1-root",
        run: |_| pid1("root", libc::O_PATH),
    },
    Probe {
        name: "V-02-pid1-cwd",
        run: |_| pid1("cwd", libc::O_PATH),
    },
    Probe {
        name: "V-02-pid1-descriptors",
        run: |_| pid1_descriptors(),
    },
    Probe {
        name: "V-02-pid1-oom-score",
        run: |_| pid1("oom_score_adj", libc::O_WRONLY),
    },
    Probe {
        name: "V-02-pid1-id-map",
        run: |_| pid1("uid_map", libc::O_WRONLY),
    },
    Probe {
        name: "V-02-pid1-limits",
        run: |_| pid1_limits(),
    },
    Probe {
        name: "V-01-pid1-signal",
        run: |_| pid1_signal(),
    },
    Probe {
        name: "V-01-pid1-signal-by-pidfd",
        run: |_| pid1_signal_by_pidfd(),
    },
    Probe {
        name: "V-01-pid1-scheduler",
        run: |_| pid1_scheduler(),
    },
    Probe {
        name: "S-09-ptrace-seize",
        run: |_| ptrace_parent(),
    },
    Probe {
        name: "S-09-ptrace-pid1",
        run: |_| ptrace_pid1(),
    },
    Probe {
        name: "S-09-ptrace-traceme",
        run: |_| ptrace_me(),
    },
    Probe {
        name: "S-10-process-vm-readv",
        run: |_| process_vm(libc::SYS_process_vm_readv),
    },
    Probe {
        name: "S-10-process-vm-writev",
        run: |_| process_vm(libc::SYS_process_vm_writev),
    },
    Probe {
        name: "S-11-pidfd-getfd",
        run: |_| pidfd_getfd(),
    },
    Probe {
        name: "S-11-kcmp",
        run: |_| reached(call(libc::SYS_kcmp, &[me(), parent(), 2, 0, 0]), "kcmp"),
    },
    Probe {
        name: "S-11-process-madvise",
        run: |_| {
            reached(
                call(libc::SYS_process_madvise, &[signed(-1), 0, 0, 21, 0]),
                "process_madvise",
            )
        },
    },
    Probe {
        name: "S-11-process-mrelease",
        run: |_| {
            reached(
                call(libc::SYS_process_mrelease, &[signed(-1), 0]),
                "process_mrelease",
            )
        },
    },
    Probe {
        name: "N-09-host-processes",
        run: |_| kernel_threads(),
    },
];

fn me() -> u64 {
    u64::from(std::process::id())
}

fn parent() -> u64 {
    u64::from(std::os::unix::process::parent_id())
}

fn pid1(file: &str, flags: i32) -> Verdict {
    let path = format!("/proc/1/{file}");
    object(open(&path, flags, 0), &path)
}

fn pid1_descriptors() -> Verdict {
    match std::fs::read_dir("/proc/1/fd") {
        // How many there are is no secret; what they are is.
        Ok(entries) => worst(
            entries
                .flatten()
                .map(|entry| object(readlink(&entry.path()), "/proc/1/fd")),
        ),
        Err(error) => object(
            Err::<(), _>(error.raw_os_error().unwrap_or(0)),
            "/proc/1/fd",
        ),
    }
}

fn readlink(path: &std::path::Path) -> Result<std::path::PathBuf, i32> {
    std::fs::read_link(path).map_err(|error| error.raw_os_error().unwrap_or(0))
}

/// Reads the limit and, if that works, sets it to what it is.
fn pid1_limits() -> Verdict {
    let mut limit = [0_u64; 2];
    let files = u64::from(libc::RLIMIT_NOFILE);
    let read = call(libc::SYS_prlimit64, &[1, files, 0, at_mut(&mut limit)]);
    match read {
        Err(_) => attempt(read, "prlimit(1), reading"),
        Ok(_) => attempt(
            call(libc::SYS_prlimit64, &[1, files, at(&limit), 0]),
            "prlimit(1)",
        ),
    }
}

/// Signal 0 asks for the permission and sends nothing.
fn pid1_signal() -> Verdict {
    attempt(call(libc::SYS_kill, &[1, 0]), "kill(1, 0)")
}

fn pid1_signal_by_pidfd() -> Verdict {
    let sent = descriptor(call(libc::SYS_pidfd_open, &[1, 0]))
        .and_then(|pidfd| call(libc::SYS_pidfd_send_signal, &[number(&pidfd), 0, 0, 0]));
    attempt(sent, "pidfd_send_signal(1, 0)")
}

/// To the policy and the priority it has, so nothing changes.
fn pid1_scheduler() -> Verdict {
    let nice = call(libc::SYS_getpriority, &[0, 1]);
    match nice {
        Err(_) => attempt(nice, "getpriority(1)"),
        Ok(raw) => attempt(
            call(libc::SYS_setpriority, &[0, 1, (20 - raw) as u64]),
            "setpriority(1)",
        ),
    }
}

/// PTRACE_SEIZE does not stop its target and ends with this child.
fn seize(pid: u64) -> Result<i64, i32> {
    const PTRACE_SEIZE: u64 = 0x4206;
    call(libc::SYS_ptrace, &[PTRACE_SEIZE, pid, 0, 0])
}

fn ptrace_parent() -> Verdict {
    attempt(seize(parent()), "PTRACE_SEIZE of the parent")
}

/// A field of /proc/PID/stat, counted from the state, which is 0: proc_pid_stat(5).
fn stat_field(pid: &str, field: usize) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(field).map(str::to_owned)
}

/// The same of this process.
pub fn own_stat(field: usize) -> Option<String> {
    stat_field("self", field)
}

fn is_kernel_thread(pid: &str) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let flags = stat_field(pid, 6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// The host's own pid 1 is left alone: reading its memory asks the same.
fn ptrace_pid1() -> Verdict {
    if is_kernel_thread("2") {
        return object(
            open("/proc/1/mem", libc::O_RDONLY, 0),
            "/proc/1/mem in place of PTRACE_SEIZE",
        );
    }
    attempt(seize(1), "PTRACE_SEIZE of pid 1")
}

fn ptrace_me() -> Verdict {
    attempt(call(libc::SYS_ptrace, &[0, 0, 0, 0]), "PTRACE_TRACEME")
}

/// One byte that parent and child have at the same address.
static BYTE: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(7);

fn process_vm(number: libc::c_long) -> Verdict {
    let mut byte = 7_u8;
    let ours = [at_mut(&mut byte), 1];
    let theirs = [at(&BYTE), 1];
    attempt(
        call(number, &[parent(), at(&ours), 1, at(&theirs), 1, 0]),
        "the parent's memory",
    )
}

fn pidfd_getfd() -> Verdict {
    let parent = match descriptor(call(libc::SYS_pidfd_open, &[parent(), 0])) {
        Ok(parent) => parent,
        Err(_) => {
            return reached(
                call(libc::SYS_pidfd_getfd, &[signed(-1), 0, 0]),
                "pidfd_getfd(-1)",
            );
        }
    };
    attempt(
        descriptor(call(libc::SYS_pidfd_getfd, &[number(&parent), 1, 0])),
        "pidfd_getfd of the parent",
    )
}

fn pids() -> Vec<String> {
    let Ok(listing) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    listing
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

/// Kernel threads live in the host's pid namespace only.
fn kernel_threads() -> Verdict {
    let pids = pids();
    let threads = pids.iter().filter(|pid| is_kernel_thread(pid)).count();
    match (pids.len(), threads) {
        (0, _) => absent("/proc shows no processes"),
        (all, 0) => clean(format!("{all} processes, no kernel thread")),
        (_, threads) => allowed(format!("{threads} kernel threads of the host")),
    }
}
