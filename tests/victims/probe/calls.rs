//! S: system calls.
//!
//! Most pass arguments that fail after the permission check and before any
//! effect; see `reached` for how the errno is read.

use crate::namespaces::worked_in_child;
use crate::raw::{CWD, at, at_mut, call, descriptor, ioctl, number, open, signed};
use crate::verdict::{
    Verdict, absent, allowed, attempt, clean, errno_name, not_run, reached, refused, worst,
};
use crate::{Probe, World};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// Every argument that ought to be a pointer.
const NULL: u64 = 0;
/// A descriptor that is never open.
const NO_FD: u64 = u64::MAX;

pub const PROBES: &[Probe] = &[
    Probe {
        name: "S-01-x32-getpid",
        run: |_| x32(39),
    },
    Probe {
        name: "S-01-x32-socket",
        run: |_| x32(41),
    },
    Probe {
        name: "S-01-x32-ptrace",
        run: |_| x32(521),
    },
    Probe {
        name: "S-02-i386-getpid",
        run: |_| i386(20, [0, 0, 0]),
    },
    Probe {
        name: "S-02-i386-socket-alg",
        run: |_| i386(359, [38, 5, 0]),
    },
    Probe {
        name: "S-02-i386-unshare-user",
        run: |_| i386(310, [libc::CLONE_NEWUSER as u64, 0, 0]),
    },
    Probe {
        name: "S-04-io-uring-setup",
        run: |_| reached(call(libc::SYS_io_uring_setup, &[0, NULL]), "io_uring_setup"),
    },
    Probe {
        name: "S-04-io-uring-enter",
        run: |_| {
            reached(
                call(libc::SYS_io_uring_enter, &[NO_FD, 0, 0, 0, NULL, 0]),
                "io_uring_enter",
            )
        },
    },
    Probe {
        name: "S-04-io-uring-register",
        run: |_| {
            reached(
                call(libc::SYS_io_uring_register, &[NO_FD, 0, NULL, 0]),
                "io_uring_register",
            )
        },
    },
    Probe {
        name: "S-05-bpf",
        run: |_| {
            worst((0..41).map(|command| {
                reached(
                    call(libc::SYS_bpf, &[command, NULL, 1 << 20]),
                    &format!("bpf {command}"),
                )
            }))
        },
    },
    Probe {
        name: "S-06-userfaultfd",
        run: |_| {
            attempt(
                descriptor(call(libc::SYS_userfaultfd, &[1 | libc::O_CLOEXEC as u64])),
                "userfaultfd(UFFD_USER_MODE_ONLY)",
            )
        },
    },
    Probe {
        name: "S-07-perf-event-open",
        run: |_| {
            reached(
                call(libc::SYS_perf_event_open, &[NULL, 0, NO_FD, NO_FD, 0]),
                "perf_event_open",
            )
        },
    },
    Probe {
        name: "S-08-add-key",
        run: |_| add_key(),
    },
    Probe {
        name: "S-08-request-key",
        run: |_| {
            reached(
                call(
                    libc::SYS_request_key,
                    &[
                        c"user".as_ptr() as u64,
                        c"probe:none".as_ptr() as u64,
                        NULL,
                        0,
                    ],
                ),
                "request_key",
            )
        },
    },
    Probe {
        name: "S-08-keyctl",
        run: |_| {
            reached(
                call(libc::SYS_keyctl, &[0, signed(-3), 0]),
                "keyctl(KEYCTL_GET_KEYRING_ID, session)",
            )
        },
    },
    Probe {
        name: "S-08-keyctl-user-keyring",
        run: |_| {
            reached(
                call(libc::SYS_keyctl, &[0, signed(-4), 0]),
                "keyctl(KEYCTL_GET_KEYRING_ID, user)",
            )
        },
    },
    Probe {
        name: "S-08-key-of-caller",
        run: |_| {
            let (kind, name) = (c"user".as_ptr() as u64, c"cofferdam-test".as_ptr() as u64);
            attempt(
                call(libc::SYS_keyctl, &[10, signed(-3), kind, name, 0]),
                "keyctl(KEYCTL_SEARCH, session)",
            )
        },
    },
    Probe {
        name: "S-12-modify-ldt",
        run: |_| modify_ldt(),
    },
    Probe {
        name: "S-14-iopl",
        run: |_| reached(call(libc::SYS_iopl, &[0]), "iopl(0)"),
    },
    Probe {
        name: "S-14-ioperm",
        run: |_| reached(call(libc::SYS_ioperm, &[0, 1, 0]), "ioperm(off)"),
    },
    Probe {
        name: "S-14-arch-prctl-odd",
        run: |_| match call(libc::SYS_arch_prctl, &[0x2003, 0x1_0000]) {
            // There is one already, says the kernel that has the code.
            Err(libc::EEXIST) => allowed("ARCH_MAP_VDSO_64: the kernel looked"),
            other => attempt(other, "ARCH_MAP_VDSO_64"),
        },
    },
    Probe {
        name: "S-15-kexec-load",
        run: |_| {
            reached(
                call(libc::SYS_kexec_load, &[0, u64::MAX, NULL, 0xdead]),
                "kexec_load",
            )
        },
    },
    Probe {
        name: "S-15-kexec-file-load",
        run: |_| {
            reached(
                call(libc::SYS_kexec_file_load, &[NO_FD, NO_FD, 0, NULL, 0xdead]),
                "kexec_file_load",
            )
        },
    },
    Probe {
        name: "S-15-init-module",
        run: |_| reached(call(libc::SYS_init_module, &[NULL, 0, NULL]), "init_module"),
    },
    Probe {
        name: "S-15-finit-module",
        run: |_| {
            reached(
                call(libc::SYS_finit_module, &[NO_FD, NULL, 0]),
                "finit_module",
            )
        },
    },
    Probe {
        name: "S-15-delete-module",
        run: |_| {
            reached(
                call(libc::SYS_delete_module, &[NULL, libc::O_NONBLOCK as u64]),
                "delete_module",
            )
        },
    },
    Probe {
        name: "S-15-reboot",
        run: |_| {
            reached(
                call(libc::SYS_reboot, &[0, 0, 0, NULL]),
                "reboot without its magic",
            )
        },
    },
    Probe {
        name: "S-15-swapon",
        run: |_| reached(call(libc::SYS_swapon, &[NULL, 0]), "swapon"),
    },
    Probe {
        name: "S-15-swapoff",
        run: |_| reached(call(libc::SYS_swapoff, &[NULL]), "swapoff"),
    },
    Probe {
        name: "S-15-acct",
        run: |_| {
            reached(
                call(libc::SYS_acct, &[c"/probe/no/such/file".as_ptr() as u64]),
                "acct",
            )
        },
    },
    Probe {
        name: "S-15-quotactl",
        run: |_| {
            reached(
                call(libc::SYS_quotactl, &[0xff_ff00, NULL, 0, NULL]),
                "quotactl",
            )
        },
    },
    Probe {
        name: "S-15-quotactl-fd",
        run: |_| {
            reached(
                call(libc::SYS_quotactl_fd, &[NO_FD, 0xff_ff00, 0, NULL]),
                "quotactl_fd",
            )
        },
    },
    Probe {
        name: "S-15-syslog",
        run: |_| {
            reached(
                call(libc::SYS_syslog, &[10, NULL, 0]),
                "syslog(SYSLOG_ACTION_SIZE_BUFFER)",
            )
        },
    },
    Probe {
        name: "S-15-vhangup",
        run: |_| vhangup(),
    },
    Probe {
        name: "S-15-sysfs",
        run: |_| reached(call(libc::SYS_sysfs, &[3, 0, 0]), "sysfs"),
    },
    Probe {
        name: "S-15-ustat",
        run: |_| reached(call(libc::SYS_ustat, &[0, NULL]), "ustat"),
    },
    Probe {
        name: "S-15-uselib",
        run: |_| reached(call(libc::SYS_uselib, &[NULL]), "uselib"),
    },
    Probe {
        name: "S-15-lookup-dcookie",
        run: |_| {
            reached(
                call(libc::SYS_lookup_dcookie, &[0, NULL, 0]),
                "lookup_dcookie",
            )
        },
    },
    Probe {
        name: "S-15-gone-calls",
        run: |_| {
            worst(
                [
                    156, 174, 177, 178, 180, 181, 182, 183, 184, 185, 214, 215, 236,
                ]
                .map(|number| reached(call(number, &[]), &format!("call {number}"))),
            )
        },
    },
    Probe {
        name: "S-17-settimeofday",
        run: |_| {
            reached(
                call(libc::SYS_settimeofday, &[NULL, NULL]),
                "settimeofday(NULL, NULL)",
            )
        },
    },
    Probe {
        name: "S-17-clock-settime",
        run: |_| reached(call(libc::SYS_clock_settime, &[0, NULL]), "clock_settime"),
    },
    Probe {
        name: "S-17-adjtimex",
        run: |_| adjust_clock(libc::SYS_adjtimex),
    },
    Probe {
        name: "S-17-clock-adjtime",
        run: |_| adjust_clock(libc::SYS_clock_adjtime),
    },
    Probe {
        name: "S-18-mount",
        run: |_| reached(call(libc::SYS_mount, &[NULL, NULL, NULL, 0, NULL]), "mount"),
    },
    Probe {
        name: "S-18-umount2",
        run: |_| reached(call(libc::SYS_umount2, &[NULL, 0]), "umount2"),
    },
    Probe {
        name: "S-18-fsopen",
        run: |_| reached(call(libc::SYS_fsopen, &[NULL, 0]), "fsopen"),
    },
    Probe {
        name: "S-18-fsconfig",
        run: |_| {
            reached(
                call(libc::SYS_fsconfig, &[NO_FD, 0, NULL, NULL, 0]),
                "fsconfig",
            )
        },
    },
    Probe {
        name: "S-18-fsmount",
        run: |_| reached(call(libc::SYS_fsmount, &[NO_FD, 0, 0]), "fsmount"),
    },
    Probe {
        name: "S-18-fspick",
        run: |_| reached(call(libc::SYS_fspick, &[CWD, NULL, 0]), "fspick"),
    },
    Probe {
        name: "S-18-move-mount",
        run: |_| {
            reached(
                call(libc::SYS_move_mount, &[NO_FD, NULL, NO_FD, NULL, 0]),
                "move_mount",
            )
        },
    },
    Probe {
        name: "S-18-open-tree",
        run: |_| reached(call(libc::SYS_open_tree, &[CWD, NULL, 0]), "open_tree"),
    },
    Probe {
        name: "S-18-open-tree-attr",
        run: |_| reached(call(467, &[CWD, NULL, 0, NULL, 0]), "open_tree_attr"),
    },
    Probe {
        name: "S-18-mount-setattr",
        run: |_| {
            reached(
                call(libc::SYS_mount_setattr, &[CWD, NULL, 0, NULL, 0]),
                "mount_setattr",
            )
        },
    },
    Probe {
        name: "S-18-pivot-root",
        run: |_| reached(call(libc::SYS_pivot_root, &[NULL, NULL]), "pivot_root"),
    },
    Probe {
        name: "S-19-statmount",
        run: |_| reached(call(457, &[NULL, NULL, 0, 0]), "statmount"),
    },
    Probe {
        name: "S-19-listmount",
        run: |_| reached(call(458, &[NULL, NULL, 0, 0]), "listmount"),
    },
    Probe {
        name: "S-19-listns",
        run: |_| reached(call(470, &[NULL, NULL, 0, 0]), "listns"),
    },
    Probe {
        name: "S-20-fanotify-init",
        run: |_| {
            reached(
                descriptor(call(libc::SYS_fanotify_init, &[0x200, 0])),
                "fanotify_init(FAN_REPORT_FID)",
            )
        },
    },
    Probe {
        name: "S-20-fanotify-mark",
        run: |_| {
            reached(
                call(libc::SYS_fanotify_mark, &[NO_FD, 0, 0, CWD, NULL]),
                "fanotify_mark",
            )
        },
    },
    Probe {
        name: "S-21-tiocsti",
        run: |_| own_terminal(0x5412),
    },
    Probe {
        name: "S-21-tiocsti-high-bits",
        run: |_| own_terminal(0x1_0000_5412),
    },
    Probe {
        name: "S-21-tiocsti-sign-extended",
        run: |_| own_terminal(0xffff_ffff_0000_5412),
    },
    Probe {
        name: "S-21-tioclinux",
        run: |_| reached(ioctl(-1, 0x541c, NULL), "ioctl(TIOCLINUX)"),
    },
    Probe {
        name: "S-21-tioclinux-high-bits",
        run: |_| {
            reached(
                ioctl(-1, 0x1_0000_541c, NULL),
                "ioctl(TIOCLINUX) with bit 32",
            )
        },
    },
    Probe {
        name: "S-23-memfd-create",
        run: |_| {
            let name = c"probe".as_ptr() as u64;
            attempt(
                descriptor(call(libc::SYS_memfd_create, &[name, 0])),
                "memfd_create",
            )
        },
    },
    Probe {
        name: "S-24-memfd-secret",
        run: |_| {
            reached(
                descriptor(call(libc::SYS_memfd_secret, &[0])),
                "memfd_secret",
            )
        },
    },
    Probe {
        name: "S-25-inner-filter",
        run: |_| inner_filter(),
    },
    Probe {
        name: "S-25-second-listener",
        run: |_| second_listener(),
    },
    Probe {
        name: "S-27-unknown-numbers",
        run: |_| unknown_numbers(),
    },
    Probe {
        name: "S-29-set-mm-program",
        run: |_| set_mm(),
    },
    Probe {
        name: "S-30-vmsplice",
        run: |_| {
            reached(
                call(libc::SYS_vmsplice, &[signed(-1), NULL, 0, 0]),
                "vmsplice",
            )
        },
    },
    Probe {
        name: "S-30-page-cache-by-pipe",
        run: page_cache_by_pipe,
    },
    Probe {
        name: "S-31-lsm-self-attributes",
        run: |_| {
            worst([459, 460, 461].map(|number| {
                reached(call(number, &[0, NULL, NULL, 0]), &format!("call {number}"))
            }))
        },
    },
    Probe {
        name: "S-32-fifo-scheduling",
        run: |_| {
            attempt(
                call(
                    libc::SYS_sched_setscheduler,
                    &[0, libc::SCHED_FIFO as u64, at(&1_i32)],
                ),
                "SCHED_FIFO",
            )
        },
    },
    Probe {
        name: "S-32-deadline-scheduling",
        run: |_| deadline(),
    },
    Probe {
        name: "S-32-nice",
        run: |_| {
            attempt(
                call(libc::SYS_setpriority, &[0, 0, signed(-20)]),
                "nice -20",
            )
        },
    },
    Probe {
        name: "S-32-io-priority",
        run: |_| {
            attempt(
                call(libc::SYS_ioprio_set, &[1, 0, 1 << 13]),
                "real-time I/O priority",
            )
        },
    },
    Probe {
        name: "S-33-move-pages",
        run: |_| {
            reached(
                call(libc::SYS_move_pages, &[1, 0, NULL, NULL, NULL, 0]),
                "move_pages",
            )
        },
    },
    Probe {
        name: "S-33-migrate-pages",
        run: |_| {
            reached(
                call(libc::SYS_migrate_pages, &[1, 0, NULL, NULL]),
                "migrate_pages",
            )
        },
    },
    Probe {
        name: "S-34-msg-oob",
        run: |_| out_of_band(),
    },
    Probe {
        name: "S-35-futex-pi",
        run: |_| futex_pi(),
    },
    Probe {
        name: "S-36-landlock-usable",
        run: |_| {
            attempt(
                call(libc::SYS_landlock_create_ruleset, &[NULL, 0, 1]),
                "landlock_create_ruleset(VERSION)",
            )
        },
    },
    Probe {
        name: "S-39-remap-file-pages",
        run: |_| {
            reached(
                call(libc::SYS_remap_file_pages, &[1, 0, 0, 0, 0]),
                "remap_file_pages",
            )
        },
    },
    Probe {
        name: "S-40-cachestat",
        run: |_| reached(call(451, &[NO_FD, NULL, NULL, 0]), "cachestat"),
    },
];

fn x32(number: i64) -> Verdict {
    const X32: i64 = 0x4000_0000;
    match call(X32 | number, &[NO_FD, NO_FD, NO_FD]) {
        Err(libc::ENOSYS) => refused("ENOSYS", "x32"),
        other => reached(other, "x32"),
    }
}

/// The i386 entry. Its numbers are another table, so a filter that looks at
/// numbers alone is walked around.
fn i386(number: u64, [first, second, third]: [u64; 3]) -> Verdict {
    let result: i32;
    // SAFETY: int 0x80 clobbers no more than the call's result and, on x86_64,
    // r8 to r11; rbx belongs to the compiler, so it is exchanged and put back.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inlateout("eax") number as u32 => result,
            in("ecx") second as u32,
            in("edx") third as u32,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match result {
        0.. => allowed(format!("int 0x80 call {number} gave {result}")),
        _ => reached(Err::<(), _>(-result), &format!("int 0x80 call {number}")),
    }
}

/// Into the process's own keyring, which ends with this child.
fn add_key() -> Verdict {
    const KEY_SPEC_PROCESS_KEYRING: i32 = -2;
    let (kind, name) = (c"user".as_ptr() as u64, c"probe".as_ptr() as u64);
    attempt(
        call(
            libc::SYS_add_key,
            &[kind, name, name, 5, signed(KEY_SPEC_PROCESS_KEYRING)],
        ),
        "add_key",
    )
}

fn modify_ldt() -> Verdict {
    let mut table = [0_u64; 2];
    reached(
        call(libc::SYS_modify_ldt, &[0, at_mut(&mut table), 16]),
        "modify_ldt(read)",
    )
}

/// With a controlling terminal this would hang it up, so it is left behind first.
fn vhangup() -> Verdict {
    let terminal = crate::processes::own_stat(4);
    match (terminal.as_deref(), call(libc::SYS_setsid, &[])) {
        (Some("0"), _) | (_, Ok(_)) => reached(call(libc::SYS_vhangup, &[]), "vhangup"),
        (_, Err(errno)) => crate::verdict::not_run(format!("setsid: {}", errno_name(errno))),
    }
}

/// Sets the tick to the value it has.
fn adjust_clock(number: libc::c_long) -> Verdict {
    const ADJ_TICK: u32 = 0x4000;
    // SAFETY: timex is integers only, for which all-zero is a value.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    let run = |timex: &mut libc::timex| match number {
        libc::SYS_adjtimex => call(number, &[at_mut(timex)]),
        _ => call(number, &[0, at_mut(timex)]),
    };
    if let Err(errno) = run(&mut timex) {
        return attempt(Err::<(), _>(errno), "reading the clock's adjustment");
    }
    timex.modes = ADJ_TICK;
    attempt(run(&mut timex), "ADJ_TICK")
}

/// Types a character into a terminal that this child just made; where there
/// is no terminal to be had, the filter is asked with no descriptor.
fn own_terminal(command: u64) -> Verdict {
    let what = format!("ioctl({command:#x})");
    let pair = || -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd), i32> {
        let master = crate::raw::open("/dev/ptmx", libc::O_RDWR, 0)?;
        let mut unlock = 0_i32;
        ioctl(master.as_raw_fd(), 0x4004_5431, at_mut(&mut unlock))?;
        let slave = descriptor(ioctl(
            master.as_raw_fd(),
            0x5441,
            (libc::O_RDWR | libc::O_NOCTTY) as u64,
        ))?;
        call(libc::SYS_setsid, &[])?;
        ioctl(slave.as_raw_fd(), u64::from(libc::TIOCSCTTY as u32), 0)?;
        Ok((master, slave))
    };
    match pair() {
        Ok((master, slave)) => {
            let typed = ioctl(slave.as_raw_fd(), command, c"x".as_ptr() as u64);
            // Closing the master hangs up on us, who lead the session.
            std::mem::forget(master);
            attempt(typed, &what)
        }
        Err(_) => reached(ioctl(-1, command, c"x".as_ptr() as u64), &what),
    }
}

/// struct sock_fprog over one instruction: return `action`.
fn one_instruction(action: u32) -> (Box<[libc::sock_filter; 1]>, libc::sock_fprog) {
    let mut program = Box::new([libc::sock_filter {
        code: 6,
        jt: 0,
        jf: 0,
        k: action,
    }]);
    let header = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    (program, header)
}

const ALLOW: u32 = 0x7fff_0000;

/// A filter of the job's own that allows everything must not lift ours.
fn inner_filter() -> Verdict {
    let (_program, header) = one_instruction(ALLOW);
    let answer = worked_in_child(|| {
        // Either may be refused; what counts is the call after them.
        for install in [
            (
                libc::SYS_prctl,
                [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0],
            ),
            (libc::SYS_seccomp, [1, 0, at(&header), 0, 0]),
        ] {
            if let Err(errno) = call(install.0, &install.1) {
                eprintln!("probe: the inner filter: {}", errno_name(errno));
            }
        }
        call(libc::SYS_unshare, &[libc::CLONE_NEWUSER as u64]).is_ok()
    });
    match answer {
        Ok(true) => allowed("unshare(CLONE_NEWUSER) after an inner filter that allows all"),
        Ok(false) => {
            clean("unshare(CLONE_NEWUSER) is refused after an inner filter that allows all")
        }
        Err(verdict) => verdict,
    }
}

/// One listener per stack of filters: EBUSY while ours exists.
fn second_listener() -> Verdict {
    let (_program, header) = one_instruction(ALLOW);
    let quiet = call(
        libc::SYS_prctl,
        &[libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0],
    );
    attempt(
        quiet.and_then(|_| descriptor(call(libc::SYS_seccomp, &[1, 8, at(&header)]))),
        "SECCOMP_FILTER_FLAG_NEW_LISTENER",
    )
}

/// Numbers the kernel never used, and -1: always ENOSYS, never an errno that a
/// program would take for an answer. Each in the child; 335 and 336 are left
/// out, they are the kernel's own trampolines.
fn unknown_numbers() -> Verdict {
    let strange = |number: &i64| !matches!(call(*number, &[]), Err(libc::ENOSYS));
    let odd: Vec<i64> = (337..424)
        .chain(600..2048)
        .chain([-1, 0x1_0000])
        .filter(strange)
        .collect();
    if odd.is_empty() {
        refused("ENOSYS", "every one")
    } else {
        allowed(format!("{odd:?}"))
    }
}

/// PR_SET_MM_EXE_FILE changes what /proc/self/exe says.
/// The kernel would say EPERM or EBADF; EINVAL is what it says without the option.
fn set_mm() -> Verdict {
    const PR_SET_MM: u64 = 35;
    const PR_SET_MM_EXE_FILE: u64 = 13;
    let arguments = [PR_SET_MM, PR_SET_MM_EXE_FILE, NO_FD, 0, 0];
    match call(libc::SYS_prctl, &arguments) {
        Err(libc::EINVAL) => refused("EINVAL", "PR_SET_MM_EXE_FILE"),
        other => reached(other, "PR_SET_MM_EXE_FILE"),
    }
}

/// struct sched_attr for SCHED_DEADLINE: 1 ms in each 100.
fn deadline() -> Verdict {
    let attributes: [u64; 6] = [48 | 6 << 32, 0, 0, 1_000_000, 100_000_000, 100_000_000];
    attempt(
        call(libc::SYS_sched_setattr, &[0, at(&attributes), 0]),
        "SCHED_DEADLINE",
    )
}

/// MSG_OOB on AF_UNIX: CVE-2025-38236.
fn out_of_band() -> Verdict {
    let mut pair = [-1_i32; 2];
    let made = call(
        libc::SYS_socketpair,
        &[
            libc::AF_UNIX as u64,
            libc::SOCK_STREAM as u64,
            0,
            at_mut(&mut pair),
        ],
    );
    if made.is_err() {
        return attempt(made, "socketpair");
    }
    attempt(
        call(
            libc::SYS_sendto,
            &[
                signed(pair[0]),
                c"x".as_ptr() as u64,
                1,
                libc::MSG_OOB as u64,
                NULL,
                0,
            ],
        ),
        "send(MSG_OOB)",
    )
}

fn futex_pi() -> Verdict {
    let mut word = 0_u32;
    let lock = libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG;
    attempt(
        call(
            libc::SYS_futex,
            &[at_mut(&mut word), lock as u64, 0, NULL, NULL, 0],
        ),
        "FUTEX_LOCK_PI",
    )
}

/// A pipe whose slots were all used once gets a page of a file that is open for
/// reading; what is written then must not land in that page. The file is the
/// workspace's own, laid out by the test.
fn page_cache_by_pipe(world: &World) -> Verdict {
    let path = format!("{}/.git/config", world.workspace);
    let Ok(before) = std::fs::read(&path) else {
        return absent(path);
    };
    let file = match open(&path, libc::O_RDONLY, 0) {
        Ok(file) => file,
        Err(errno) => return attempt(Err::<(), _>(errno), &path),
    };
    let Ok((reader, writer)) = std::io::pipe() else {
        return not_run("no pipe".into());
    };
    let (mut inward, mut outward) = (&writer, &reader);
    let mut page = [0; 4096];
    for _ in 0..16 {
        if inward.write_all(&page).is_err() || outward.read_exact(&mut page).is_err() {
            return not_run("a pipe of 16 pages".into());
        }
    }
    let (from, to) = (number(&file), writer.as_raw_fd() as u64);
    if let Err(errno) = call(libc::SYS_splice, &[from, NULL, to, NULL, 1, 0]) {
        return attempt(Err::<(), _>(errno), "splice");
    }
    if inward.write_all(b"written by a probe").is_err() {
        return not_run("a pipe".into());
    }
    match std::fs::read(&path) {
        Ok(after) if after == before => clean(path),
        _ => allowed(path),
    }
}
