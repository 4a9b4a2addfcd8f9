//! [pure] The base allow-lists: every known call stands in exactly one group, with the reason.
//!
//! `strict` is a subset of `job` by construction: a group says which is the
//! smallest profile that has it. Calls whose arguments matter are allowed here
//! and narrowed in `conditions`.

use super::Errno;
use crate::linux::syscall::Syscall::{self, *};
use crate::policy::SyscallProfile::{self, Job, Strict};

/// Calls that a profile and all larger ones allow.
#[derive(Debug)]
pub struct Allowed {
    /// The smallest profile that has them.
    pub from: SyscallProfile,
    /// What they are for.
    pub why: &'static str,
    /// The calls.
    pub calls: &'static [Syscall],
}

/// Calls that no profile allows.
#[derive(Debug)]
pub struct Refused {
    /// What they answer.
    pub errno: Errno,
    /// Refusals are rare enough, and telling enough, to be recorded one by one.
    pub cold: bool,
    /// Why.
    pub why: &'static str,
    /// The calls.
    pub calls: &'static [Syscall],
}

const fn allow(from: SyscallProfile, why: &'static str, calls: &'static [Syscall]) -> Allowed {
    Allowed { from, why, calls }
}

/// EPERM, and recorded where the policy says `record`.
const fn cold(why: &'static str, calls: &'static [Syscall]) -> Refused {
    Refused {
        errno: Errno::EPERM,
        cold: true,
        why,
        calls,
    }
}

/// EPERM, never recorded: programs try these often and go on without.
const fn quiet(why: &'static str, calls: &'static [Syscall]) -> Refused {
    Refused {
        errno: Errno::EPERM,
        cold: false,
        why,
        calls,
    }
}

/// ENOSYS, so that programs fall back as on a kernel without the call.
const fn absent(why: &'static str, calls: &'static [Syscall]) -> Refused {
    Refused {
        errno: Errno::ENOSYS,
        cold: false,
        why,
        calls,
    }
}

/// The allow-lists.
#[rustfmt::skip]
pub const ALLOWED: &[Allowed] = &[
    allow(Strict, "reads and writes open files", &[
        read, write, readv, writev, pread64, pwrite64, preadv, pwritev, preadv2, pwritev2,
        lseek, close, close_range, dup, dup2, dup3, fcntl, flock, ioctl,
        fsync, fdatasync, ftruncate, fallocate, fadvise64,
    ]),
    allow(Strict, "opens, lists, makes and removes files; paths are confined by mounts and Landlock", &[
        open, openat, openat2, creat, access, faccessat, faccessat2,
        stat, lstat, fstat, newfstatat, statx, statfs, fstatfs,
        getdents, getdents64, getcwd, chdir, fchdir, readlink, readlinkat,
        mkdir, mkdirat, rmdir, unlink, unlinkat, rename, renameat, renameat2,
        link, linkat, symlink, symlinkat, truncate, umask,
        chmod, fchmod, fchmodat, fchmodat2, utimensat, utimes, utime, futimesat,
        getxattr, lgetxattr, fgetxattr, getxattrat, listxattr, llistxattr, flistxattr, listxattrat,
    ]),
    allow(Strict, "its own memory", &[
        mmap, mprotect, munmap, mremap, madvise, brk, msync, membarrier, mseal,
        pkey_alloc, pkey_free, pkey_mprotect, map_shadow_stack,
    ]),
    allow(Strict, "processes and threads; clone is narrowed to no namespace flags", &[
        clone, fork, vfork, execve, execveat, exit, exit_group, wait4, waitid,
        set_tid_address, set_robust_list, rseq, restart_syscall, arch_prctl, prctl,
        getpid, getppid, gettid, getpgid, getpgrp, getsid, setpgid, setsid,
        pidfd_open, pidfd_send_signal,
    ]),
    allow(Strict, "locks and scheduling hints of its own threads", &[
        futex, sched_yield, sched_getaffinity, sched_setaffinity, sched_getparam,
        sched_getscheduler, sched_get_priority_max, sched_get_priority_min,
        sched_rr_get_interval, getpriority, getcpu,
    ]),
    allow(Strict, "signals within its own pid namespace", &[
        rt_sigaction, rt_sigprocmask, rt_sigreturn, rt_sigpending, rt_sigsuspend,
        rt_sigtimedwait, rt_sigqueueinfo, rt_tgsigqueueinfo, sigaltstack,
        kill, tkill, tgkill, pause, signalfd, signalfd4,
    ]),
    allow(Strict, "time and timers", &[
        nanosleep, clock_nanosleep, clock_gettime, clock_getres, gettimeofday, time, times,
        alarm, getitimer, setitimer, timerfd_create, timerfd_settime, timerfd_gettime,
    ]),
    allow(Strict, "waits for several descriptors, pipes and event counters", &[
        poll, ppoll, select, pselect6, epoll_create, epoll_create1, epoll_ctl, epoll_wait,
        epoll_pwait, epoll_pwait2, eventfd, eventfd2, pipe, pipe2,
    ]),
    allow(Strict, "reads its identity, limits and the host's name", &[
        getuid, geteuid, getgid, getegid, getresuid, getresgid, getgroups, capget,
        getrlimit, setrlimit, prlimit64, getrusage, uname, sysinfo, getrandom,
    ]),
    allow(Strict, "sockets; family, type and protocol are narrowed", &[
        socket, socketpair, bind, connect, listen, accept, accept4, shutdown,
        getsockname, getpeername, setsockopt, getsockopt,
        sendto, recvfrom, sendmsg, recvmsg, sendmmsg, recvmmsg,
    ]),
    allow(Strict, "init starts commands under this same filter: their ids, and no capability left", &[
        capset, setresuid, setresgid, setgroups,
    ]),
    allow(Strict, "confines itself further", &[
        seccomp, landlock_create_ruleset, landlock_add_rule, landlock_restrict_self,
    ]),
    allow(Strict, "called by trampolines of the kernel where the host traces a program; useless elsewhere", &[
        uprobe, uretprobe,
    ]),
    allow(Job, "package managers and archives set owners, attributes and special files", &[
        chown, fchown, lchown, fchownat, mknod, mknodat,
        setxattr, lsetxattr, fsetxattr, setxattrat,
        removexattr, lremovexattr, fremovexattr, removexattrat,
    ]),
    allow(Job, "changes ids within what its user namespace maps", &[
        setuid, setgid, setreuid, setregid, setfsuid, setfsgid,
    ]),
    allow(Job, "databases and language runtimes: locked memory, NUMA placement, residency", &[
        mlock, mlock2, mlockall, munlock, munlockall, mincore,
        mbind, get_mempolicy, set_mempolicy, set_mempolicy_home_node,
    ]),
    allow(Job, "priorities; real-time classes are refused", &[
        setpriority, sched_setparam, sched_setscheduler, sched_getattr, ioprio_get, ioprio_set, get_robust_list,
    ]),
    allow(Job, "copies within the kernel", &[sendfile, splice, tee, vmsplice, readahead]),
    allow(Job, "writes back what it wrote", &[sync, syncfs, sync_file_range]),
    allow(Job, "databases write asynchronously (libaio)", &[
        io_setup, io_destroy, io_submit, io_cancel, io_getevents, io_pgetevents,
    ]),
    allow(Job, "POSIX timers: profilers and language runtimes", &[
        timer_create, timer_settime, timer_gettime, timer_getoverrun, timer_delete,
    ]),
    allow(Job, "System V and POSIX queues, of its own ipc namespace", &[
        shmget, shmat, shmctl, shmdt, semget, semop, semtimedop, semctl,
        msgget, msgsnd, msgrcv, msgctl,
        mq_open, mq_unlink, mq_timedsend, mq_timedreceive, mq_notify, mq_getsetattr,
    ]),
    allow(Job, "watches files", &[inotify_init, inotify_init1, inotify_add_watch, inotify_rm_watch]),
    allow(Job, "unshares file tables and attributes; namespaces are refused", &[unshare]),
    allow(Job, "setarch, gdb and sanitizers; other personalities are refused", &[personality]),
    allow(Job, "memory files; execution of one is no more than of a file in /tmp", &[memfd_create]),
    allow(Job, "futexes of more than one word", &[
        futex_waitv, futex_wait, futex_wake, futex_requeue,
    ]),
];

/// The refusals.
#[rustfmt::skip]
pub const REFUSED: &[Refused] = &[
    absent("its flags lie in memory where no filter sees them; C libraries then use clone", &[clone3]),
    cold("mounts: the view of files is what confines", &[
        mount, umount2, pivot_root, chroot, fsopen, fsconfig, fsmount, fspick,
        move_mount, open_tree, open_tree_attr, mount_setattr,
    ]),
    absent("tell mounts and namespaces of the host; tools then read /proc/self/mountinfo", &[
        statmount, listmount, listns,
    ]),
    cold("joins namespaces", &[setns]),
    cold("in-kernel programs, traces and page faults handled by the job: a class of kernel bugs each", &[
        bpf, perf_event_open, userfaultfd,
    ]),
    cold("does what the filter refuses without a system call, and had many bugs", &[
        io_uring_setup, io_uring_enter, io_uring_register,
    ]),
    cold("keyrings are shared with the host's user (CVE-2016-0728)", &[add_key, request_key, keyctl]),
    cold("reads, writes or takes from other processes; granted by name for debuggers", &[
        ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, kcmp,
        process_madvise, process_mrelease,
    ]),
    cold("opens files past every path check (shocker)", &[open_by_handle_at, name_to_handle_at]),
    cold("changes the machine", &[
        reboot, kexec_load, kexec_file_load, init_module, finit_module, delete_module,
        swapon, swapoff, acct, syslog, vhangup, quotactl, quotactl_fd,
        sethostname, setdomainname,
    ]),
    cold("sets the machine's clock", &[settimeofday, clock_settime, clock_adjtime, adjtimex]),
    cold("reaches hardware ports and descriptor tables", &[iopl, ioperm, modify_ldt]),
    cold("decides over other processes' file accesses", &[fanotify_init, fanotify_mark]),
    quiet("its policy lies in memory where no filter sees it; nice and sched_setscheduler remain", &[sched_setattr]),
    quiet("moves pages of other processes", &[migrate_pages, move_pages]),
    absent("reflinks like FICLONE (CVE-2026-64600); programs then read and write", &[copy_file_range]),
    absent("tells which pages of shared files others have read", &[cachestat]),
    absent("memory that the kernel itself cannot read: no use here, and it prevents hibernation", &[memfd_secret]),
    absent("sets project ids and extended flags; tools then do without", &[file_getattr, file_setattr]),
    absent("security module attributes: nothing here uses them yet", &[
        lsm_get_self_attr, lsm_set_self_attr, lsm_list_modules,
    ]),
    absent("asks the scheduler for longer slices", &[rseq_slice_yield]),
    absent("obsolete, and gone from current kernels", &[
        _sysctl, afs_syscall, create_module, epoll_ctl_old, epoll_wait_old, get_kernel_syms,
        get_thread_area, getpmsg, lookup_dcookie, nfsservctl, putpmsg, query_module,
        remap_file_pages, security, set_thread_area, sysfs, tuxcall, uselib, ustat, vserver,
    ]),
];

/// Why a call of a larger profile is missing in a smaller one.
pub const BEYOND: &str = "not needed by a compute job";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_call_is_in_exactly_one_group() {
        let allowed = ALLOWED.iter().flat_map(|group| group.calls);
        let refused = REFUSED.iter().flat_map(|group| group.calls);
        let mut calls: Vec<Syscall> = allowed.chain(refused).copied().collect();
        calls.sort_unstable();
        assert_eq!(calls, Syscall::ALL);
    }

    #[test]
    fn every_group_has_a_reason_of_its_own() {
        let mut reasons: Vec<&str> = ALLOWED.iter().map(|group| group.why).collect();
        reasons.extend(REFUSED.iter().map(|group| group.why));
        let all = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), all);
        assert!(reasons.iter().all(|why| why.len() > 8));
    }
}
