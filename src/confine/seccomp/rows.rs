//! [pure] Tests of what the presets decide, row by row of the test catalogue, and of their layers.

use super::check::prove;
use super::compile::compile;
use super::diff::freer;
use super::preset::{FilterContext, cold, edge_filter, filter, gateway_filter};
use super::{Errno, Filter, Verdict};
use crate::linux::syscall::{Arch, Syscall, Syscall::*};
use crate::policy::{OnDenied, SyscallGrant, SyscallProfile, Syscalls};
use crate::source::origin::{Origin, Sourced};

const ALLOW: Verdict = Verdict::Allow;
const EPERM: Verdict = Verdict::Errno(Errno::EPERM);
const ENOSYS: Verdict = Verdict::Errno(Errno::ENOSYS);
const EINVAL: Verdict = Verdict::Errno(Errno::EINVAL);
const SUCCESS: Verdict = Verdict::Errno(Errno::SUCCESS);
const EOPNOTSUPP: Verdict = Verdict::Errno(Errno::EOPNOTSUPP);
const NO_FAMILY: Verdict = Verdict::Errno(Errno::EAFNOSUPPORT);
const NO_PROTOCOL: Verdict = Verdict::Errno(Errno::EPROTONOSUPPORT);

fn policy(profile: SyscallProfile, on_denied: OnDenied) -> Syscalls {
    let profile = Sourced::new(profile, Origin::Always);
    let on_denied = Sourced::new(on_denied, Origin::Always);
    Syscalls {
        profile,
        allow: vec![],
        deny: vec![],
        on_denied,
    }
}

fn context(arch: Arch) -> FilterContext {
    FilterContext {
        arch,
        writable_host_dir: false,
        refuse_memfd: false,
        refuse_affinity: false,
        notify_available: true,
    }
}

fn base(profile: SyscallProfile) -> Filter {
    filter(&policy(profile, OnDenied::Errno), &context(Arch::X86_64)).unwrap()
}

fn grant(name: &str) -> SyscallGrant {
    SyscallGrant {
        name: name.into(),
        why: "test".into(),
        origin: Origin::Always,
    }
}

fn deny(name: &str) -> Sourced<String> {
    Sourced::new(name.into(), Origin::Always)
}

fn args(given: &[u64]) -> [u64; 6] {
    std::array::from_fn(|at| given.get(at).copied().unwrap_or(0))
}

/// Row, call, arguments, verdict of strict, verdict of job.
type Row = (&'static str, Syscall, &'static [u64], Verdict, Verdict);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("N-01 unshare user", unshare, &[0x1000_0000], EPERM, EPERM),
    ("N-02 clone newns", clone, &[0x0002_0011], EPERM, EPERM),
    ("N-02 clone newcgroup", clone, &[0x0200_0011], EPERM, EPERM),
    ("N-02 clone newuts", clone, &[0x0400_0011], EPERM, EPERM),
    ("N-02 clone newipc", clone, &[0x0800_0011], EPERM, EPERM),
    ("N-02 clone newuser", clone, &[0x1000_0011], EPERM, EPERM),
    ("N-02 clone newpid", clone, &[0x2000_0011], EPERM, EPERM),
    ("N-02 clone newnet", clone, &[0x4000_0011], EPERM, EPERM),
    ("N-02 with garbage above", clone, &[0xffff_0000_1000_0011], EPERM, EPERM),
    ("fork by clone", clone, &[0x0120_0011], ALLOW, ALLOW),
    ("thread by clone", clone, &[0x003d_0f00], ALLOW, ALLOW),
    ("N-03 clone3", clone3, &[], ENOSYS, ENOSYS),
    ("N-05 newtime", unshare, &[0x80], EPERM, EPERM),
    ("unshare files", unshare, &[0x400], EPERM, ALLOW),
    ("N-06 setns", setns, &[3, 0], EPERM, EPERM),
    ("N-11 sethostname", sethostname, &[], EPERM, EPERM),
    ("F-16 chroot", chroot, &[], EPERM, EPERM),
    ("F-17 open_by_handle_at", open_by_handle_at, &[], EPERM, EPERM),
    ("F-18 name_to_handle_at", name_to_handle_at, &[], EPERM, EPERM),
    ("F-19 mknod chr", mknod, &[0, 0o020_666], EPERM, EPERM),
    ("F-19 mknod blk", mknod, &[0, 0o060_666], EPERM, EPERM),
    ("F-19 mknodat chr", mknodat, &[0, 0, 0o020_666], EPERM, EPERM),
    ("mkfifo", mknodat, &[0, 0, 0o010_666], EPERM, ALLOW),
    ("S-04 io_uring_setup", io_uring_setup, &[], EPERM, EPERM),
    ("S-04 io_uring_enter", io_uring_enter, &[], EPERM, EPERM),
    ("S-04 io_uring_register", io_uring_register, &[], EPERM, EPERM),
    ("S-05 bpf", bpf, &[5], EPERM, EPERM),
    ("S-06 userfaultfd", userfaultfd, &[], EPERM, EPERM),
    ("S-07 perf_event_open", perf_event_open, &[], EPERM, EPERM),
    ("S-08 add_key", add_key, &[], EPERM, EPERM),
    ("S-08 request_key", request_key, &[], EPERM, EPERM),
    ("S-08 keyctl", keyctl, &[], EPERM, EPERM),
    ("S-09 ptrace", ptrace, &[16], EPERM, EPERM),
    ("S-10 process_vm_readv", process_vm_readv, &[], EPERM, EPERM),
    ("S-10 process_vm_writev", process_vm_writev, &[], EPERM, EPERM),
    ("S-11 pidfd_getfd", pidfd_getfd, &[], EPERM, EPERM),
    ("S-11 kcmp", kcmp, &[], EPERM, EPERM),
    ("S-11 process_madvise", process_madvise, &[], EPERM, EPERM),
    ("S-11 process_mrelease", process_mrelease, &[], EPERM, EPERM),
    ("S-12 modify_ldt", modify_ldt, &[1], EPERM, EPERM),
    ("S-14 iopl", iopl, &[3], EPERM, EPERM),
    ("S-14 ioperm", ioperm, &[], EPERM, EPERM),
    ("S-14 arch_prctl odd", arch_prctl, &[0x2001], EINVAL, EINVAL),
    ("arch_prctl set fs", arch_prctl, &[0x1002], ALLOW, ALLOW),
    ("S-15 kexec_load", kexec_load, &[], EPERM, EPERM),
    ("S-15 kexec_file_load", kexec_file_load, &[], EPERM, EPERM),
    ("S-15 init_module", init_module, &[], EPERM, EPERM),
    ("S-15 finit_module", finit_module, &[], EPERM, EPERM),
    ("S-15 delete_module", delete_module, &[], EPERM, EPERM),
    ("S-15 reboot", reboot, &[], EPERM, EPERM),
    ("S-15 swapon", swapon, &[], EPERM, EPERM),
    ("S-15 swapoff", swapoff, &[], EPERM, EPERM),
    ("S-15 acct", acct, &[], EPERM, EPERM),
    ("S-15 quotactl", quotactl, &[], EPERM, EPERM),
    ("S-15 quotactl_fd", quotactl_fd, &[], EPERM, EPERM),
    ("S-15 syslog", syslog, &[], EPERM, EPERM),
    ("S-15 vhangup", vhangup, &[], EPERM, EPERM),
    ("S-15 uselib", uselib, &[], ENOSYS, ENOSYS),
    ("S-15 nfsservctl", nfsservctl, &[], ENOSYS, ENOSYS),
    ("S-15 sysfs", sysfs, &[], ENOSYS, ENOSYS),
    ("S-15 ustat", ustat, &[], ENOSYS, ENOSYS),
    ("S-15 lookup_dcookie", lookup_dcookie, &[], ENOSYS, ENOSYS),
    ("S-15 create_module", create_module, &[], ENOSYS, ENOSYS),
    ("S-17 settimeofday", settimeofday, &[], EPERM, EPERM),
    ("S-17 clock_settime", clock_settime, &[], EPERM, EPERM),
    ("S-17 adjtimex", adjtimex, &[], EPERM, EPERM),
    ("S-17 clock_adjtime", clock_adjtime, &[], EPERM, EPERM),
    ("S-18 mount", mount, &[], EPERM, EPERM),
    ("S-18 umount2", umount2, &[], EPERM, EPERM),
    ("S-18 pivot_root", pivot_root, &[], EPERM, EPERM),
    ("S-18 fsopen", fsopen, &[], EPERM, EPERM),
    ("S-18 fsconfig", fsconfig, &[], EPERM, EPERM),
    ("S-18 fsmount", fsmount, &[], EPERM, EPERM),
    ("S-18 fspick", fspick, &[], EPERM, EPERM),
    ("S-18 move_mount", move_mount, &[], EPERM, EPERM),
    ("S-18 open_tree", open_tree, &[], EPERM, EPERM),
    ("S-18 open_tree_attr", open_tree_attr, &[], EPERM, EPERM),
    ("S-18 mount_setattr", mount_setattr, &[], EPERM, EPERM),
    ("S-19 statmount", statmount, &[], ENOSYS, ENOSYS),
    ("S-19 listmount", listmount, &[], ENOSYS, ENOSYS),
    ("S-19 listns", listns, &[], ENOSYS, ENOSYS),
    ("S-20 fanotify_init", fanotify_init, &[], EPERM, EPERM),
    ("S-21 TIOCSTI", ioctl, &[0, 0x5412], EPERM, EPERM),
    ("S-21 TIOCSTI with garbage above", ioctl, &[0, 0x1_0000_5412], EPERM, EPERM),
    ("S-21 TIOCLINUX", ioctl, &[0, 0xffff_ffff_0000_541c], EPERM, EPERM),
    ("TIOCSETD", ioctl, &[0, 0x5423], EPERM, EPERM),
    ("TCGETS", ioctl, &[0, 0x5401], ALLOW, ALLOW),
    ("FICLONE", ioctl, &[0, 0x4004_9409], EPERM, EOPNOTSUPP),
    ("FICLONERANGE", ioctl, &[0, 0x4020_940d], EPERM, EOPNOTSUPP),
    ("FIDEDUPERANGE", ioctl, &[0, 0xc018_9436], EPERM, EOPNOTSUPP),
    ("reflinks by copy_file_range", copy_file_range, &[], ENOSYS, ENOSYS),
    ("NS_GET_USERNS", ioctl, &[0, 0xb701], EPERM, EPERM),
    ("an odd request", ioctl, &[0, 0x1234], EPERM, ALLOW),
    ("S-23 memfd_create", memfd_create, &[], EPERM, ALLOW),
    ("S-24 memfd_secret", memfd_secret, &[], ENOSYS, ENOSYS),
    ("S-25 seccomp", seccomp, &[1], ALLOW, ALLOW),
    ("S-25 prctl seccomp", prctl, &[22], ALLOW, ALLOW),
    ("prctl PR_SET_MM", prctl, &[35], EINVAL, EINVAL),
    ("prctl PR_SET_MEMORY_MERGE", prctl, &[67], EINVAL, EINVAL),
    ("prctl PR_SCHED_CORE", prctl, &[62], EINVAL, EINVAL),
    ("S-28 TCP_ULP", setsockopt, &[3, 6, 31], EPERM, EPERM),
    ("S-28 TCP_ULP with garbage above", setsockopt, &[3, 0x7_0000_0006, 0x9_0000_001f], EPERM, EPERM),
    ("UDP_ENCAP", setsockopt, &[3, 17, 100], EPERM, EPERM),
    ("TCP_REPAIR", setsockopt, &[3, 6, 19], EPERM, EPERM),
    ("TCP_MD5SIG", setsockopt, &[3, 6, 14], EPERM, EPERM),
    ("TCP_NODELAY", setsockopt, &[3, 6, 1], ALLOW, ALLOW),
    ("IP_XFRM_POLICY", setsockopt, &[3, 0, 17], EPERM, EPERM),
    ("IP_IPSEC_POLICY", setsockopt, &[3, 0, 16], EPERM, EPERM),
    ("IPV6_XFRM_POLICY", setsockopt, &[3, 41, 35], EPERM, EPERM),
    ("IPT_SO_SET_REPLACE", setsockopt, &[3, 0, 64], EPERM, EPERM),
    ("IP_VS_SO_SET", setsockopt, &[3, 0, 0x480], EPERM, EPERM),
    ("MRT_INIT", setsockopt, &[3, 0, 200], EPERM, EPERM),
    ("IP6T_SO_SET_REPLACE", setsockopt, &[3, 41, 64], EPERM, EPERM),
    ("IPV6_TCLASS", setsockopt, &[3, 41, 67], ALLOW, ALLOW),
    ("IPV6_V6ONLY", setsockopt, &[3, 41, 26], ALLOW, ALLOW),
    ("IPV6_ADDRFORM", setsockopt, &[3, 41, 1], EPERM, EPERM),
    ("SO_REUSEADDR", setsockopt, &[3, 1, 2], ALLOW, ALLOW),
    ("SO_ATTACH_FILTER", setsockopt, &[3, 1, 26], EPERM, EPERM),
    ("SO_ZEROCOPY", setsockopt, &[3, 1, 60], EPERM, EPERM),
    ("PACKET_RX_RING", setsockopt, &[3, 263, 5], EPERM, EPERM),
    ("ALG_SET_KEY", setsockopt, &[3, 279, 1], EPERM, EPERM),
    ("TLS_TX", setsockopt, &[3, 282, 1], EPERM, EPERM),
    ("S-30 splice", splice, &[], EPERM, ALLOW),
    ("S-30 vmsplice", vmsplice, &[], EPERM, ALLOW),
    ("S-30 sendfile", sendfile, &[], EPERM, ALLOW),
    ("S-32 SCHED_FIFO", sched_setscheduler, &[0, 1], EPERM, EPERM),
    ("S-32 SCHED_RR", sched_setscheduler, &[0, 2], EPERM, EPERM),
    ("S-32 SCHED_DEADLINE by attr", sched_setattr, &[], EPERM, EPERM),
    ("SCHED_BATCH, reset on fork", sched_setscheduler, &[0, 0x4000_0003], EPERM, ALLOW),
    ("S-32 ioprio RT", ioprio_set, &[1, 0, 0x2004], EPERM, EPERM),
    ("ioprio best effort", ioprio_set, &[1, 0, 0x4004], EPERM, ALLOW),
    ("sched_setaffinity", sched_setaffinity, &[], ALLOW, ALLOW),
    ("S-34 MSG_OOB sendto", sendto, &[3, 0, 0, 1], EPERM, ALLOW),
    ("S-34 MSG_OOB recvfrom", recvfrom, &[3, 0, 0, 0x4001], EPERM, ALLOW),
    ("S-34 MSG_OOB sendmsg", sendmsg, &[3, 0, 1], EPERM, ALLOW),
    ("S-34 MSG_OOB recvmsg", recvmsg, &[3, 0, 1], EPERM, ALLOW),
    ("S-34 MSG_OOB sendmmsg", sendmmsg, &[3, 0, 1, 1], EPERM, ALLOW),
    ("S-34 MSG_OOB recvmmsg", recvmmsg, &[3, 0, 1, 1], EPERM, ALLOW),
    ("MSG_NOSIGNAL", sendto, &[3, 0, 0, 0x4000], ALLOW, ALLOW),
    ("S-35 FUTEX_LOCK_PI", futex, &[0, 6 | 128], ENOSYS, ALLOW),
    ("S-35 FUTEX_WAIT_REQUEUE_PI", futex, &[0, 11 | 256], ENOSYS, ALLOW),
    ("S-35 FUTEX_CMP_REQUEUE_PI", futex, &[0, 12], ENOSYS, ALLOW),
    ("S-35 FUTEX_LOCK_PI2", futex, &[0, 13], ENOSYS, ALLOW),
    ("FUTEX_WAKE", futex, &[0, 1 | 128], ALLOW, ALLOW),
    ("S-36 landlock_create_ruleset", landlock_create_ruleset, &[], ALLOW, ALLOW),
    ("S-36 landlock_restrict_self", landlock_restrict_self, &[], ALLOW, ALLOW),
    ("K-01 AF_UNIX stream", socket, &[1, 0x80001, 0], ALLOW, ALLOW),
    ("K-01 AF_INET stream", socket, &[2, 0x80801, 6], ALLOW, ALLOW),
    ("K-01 AF_INET6 dgram", socket, &[10, 2, 17], ALLOW, ALLOW),
    ("K-01 family in the low half", socket, &[0x1_0000_0026, 1, 0], NO_FAMILY, NO_FAMILY),
    ("K-01 AF_RDS", socket, &[21, 5, 0], NO_FAMILY, NO_FAMILY),
    ("K-01 AF_CAN", socket, &[29, 2, 0], NO_FAMILY, NO_FAMILY),
    ("K-01 AF_TIPC", socket, &[30, 2, 0], NO_FAMILY, NO_FAMILY),
    ("K-01 AF_RXRPC", socket, &[33, 2, 0], NO_FAMILY, NO_FAMILY),
    ("K-01 AF_TIPC pair", socketpair, &[30, 1, 0], NO_FAMILY, NO_FAMILY),
    ("K-03 AF_ALG", socket, &[38, 5, 0], NO_FAMILY, NO_FAMILY),
    ("K-04 AF_VSOCK", socket, &[40, 1, 0], NO_FAMILY, NO_FAMILY),
    ("K-05 raw", socket, &[2, 3, 1], EPERM, EPERM),
    ("K-05 packet", socket, &[17, 3, 0x300], EPERM, EPERM),
    ("K-05 packet, cooked", socket, &[17, 2, 0x300], NO_FAMILY, NO_FAMILY),
    ("K-05 SOCK_PACKET of AF_INET", socket, &[2, 10, 0x300], NO_PROTOCOL, NO_PROTOCOL),
    ("SCTP", socket, &[2, 1, 132], NO_PROTOCOL, NO_PROTOCOL),
    ("SCTP by type", socket, &[2, 5, 0], NO_PROTOCOL, NO_PROTOCOL),
    ("DCCP", socket, &[2, 6, 33], NO_PROTOCOL, NO_PROTOCOL),
    ("MPTCP", socket, &[2, 1, 262], NO_PROTOCOL, NO_PROTOCOL),
    ("ping", socket, &[2, 2, 1], NO_PROTOCOL, ALLOW),
    ("ping6", socket, &[10, 2, 58], NO_PROTOCOL, ALLOW),
    ("K-06 netlink route", socket, &[16, 0x80003, 0], EPERM, ALLOW),
    ("K-06 netlink xfrm", socket, &[16, 3, 6], EPERM, NO_PROTOCOL),
    ("K-06 netlink audit", socket, &[16, 3, 9], EPERM, NO_PROTOCOL),
    ("K-06 netlink netfilter", socket, &[16, 3, 12], EPERM, NO_PROTOCOL),
    ("K-06 netlink generic", socket, &[16, 3, 16], EPERM, NO_PROTOCOL),
    ("K-06 netlink crypto", socket, &[16, 2, 21], NO_FAMILY, NO_PROTOCOL),
    ("core limit set", setrlimit, &[4, 0x1000], SUCCESS, SUCCESS),
    ("core limit set, prlimit", prlimit64, &[0, 4, 0x1000, 0], SUCCESS, SUCCESS),
    ("core limit set, pointer above 4 GiB", prlimit64, &[0, 4, 0x7fff_0000_0000, 0], SUCCESS, SUCCESS),
    ("core limit read", prlimit64, &[0, 4, 0, 0x1000], ALLOW, ALLOW),
    ("core limit set and read", prlimit64, &[0, 4, 0x1000, 0x2000], EPERM, EPERM),
    ("file limit set", prlimit64, &[0, 7, 0x1000, 0], ALLOW, ALLOW),
    ("personality query", personality, &[0xffff_ffff], EPERM, ALLOW),
    ("personality READ_IMPLIES_EXEC", personality, &[0x40_0000], EPERM, EPERM),
    ("set-id bits below a 0700 directory", fchmodat, &[3, 0, 0o4755], ALLOW, ALLOW),
];

#[test]
fn each_row() {
    let (strict, job) = (base(SyscallProfile::Strict), base(SyscallProfile::Job));
    for (row, call, given, in_strict, in_job) in ROWS {
        assert_eq!(
            strict.verdict(*call, &args(given)),
            *in_strict,
            "{row}, strict"
        );
        assert_eq!(job.verdict(*call, &args(given)), *in_job, "{row}, job");
    }
}

#[test]
fn k_01_only_four_families_are_open() {
    let job = base(SyscallProfile::Job);
    let reachable = |family: u64| {
        (0..16).any(|kind| {
            (0..300).any(|protocol| {
                job.verdict(socket, &args(&[family, kind, protocol]))
                    .allows()
            })
        })
    };
    let families: Vec<u64> = (0..256).filter(|&family| reachable(family)).collect();
    assert_eq!(families, [1, 2, 10, 16]);
}

/// Policies and situations, without grants and denials.
#[test]
fn every_filter_compiles_and_is_proven_and_keeps_its_json() {
    for arch in [Arch::X86_64, Arch::Aarch64] {
        let mut filters = vec![
            gateway_filter(arch, false),
            gateway_filter(arch, true),
            edge_filter(arch),
        ];
        for profile in [SyscallProfile::Strict, SyscallProfile::Job] {
            for on_denied in [OnDenied::Errno, OnDenied::Record, OnDenied::Kill] {
                for bits in 0..8 {
                    let context = FilterContext {
                        writable_host_dir: bits & 1 != 0,
                        refuse_memfd: bits & 2 != 0,
                        refuse_affinity: bits & 4 != 0,
                        ..context(arch)
                    };
                    filters.push(filter(&policy(profile, on_denied), &context).unwrap());
                }
            }
        }
        for filter in filters {
            let program = compile(&filter).unwrap();
            assert!(program.len() <= 420, "{} instructions", program.len());
            assert!(prove(&filter, program).is_ok());
            let json = serde_json::to_string(&filter).unwrap();
            assert_eq!(serde_json::from_str::<Filter>(&json).unwrap(), filter);
        }
    }
}

#[test]
fn strict_allows_nothing_that_job_does_not() {
    for writable_host_dir in [false, true] {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let context = FilterContext {
                writable_host_dir,
                ..context(arch)
            };
            let of = |profile| filter(&policy(profile, OnDenied::Errno), &context).unwrap();
            let (strict, job) = (of(SyscallProfile::Strict), of(SyscallProfile::Job));
            assert_eq!(freer(&strict, &job), []);
            assert!(freer(&job, &strict).len() > 80);
        }
    }
}

#[test]
fn a_difference_names_arguments_and_reason() {
    let (strict, job) = (base(SyscallProfile::Strict), base(SyscallProfile::Job));
    let found = freer(&job, &strict);
    let of = |call| {
        found
            .iter()
            .find(|difference| difference.call == call)
            .unwrap()
    };
    assert!(!of(splice).in_part);
    assert!(of(socket).in_part);
    assert!(job.verdict(socket, &of(socket).example).allows());
    assert!(!strict.verdict(socket, &of(socket).example).allows());
    assert!(
        of(splice)
            .to_string()
            .starts_with("splice: copies within the kernel")
    );
}

#[test]
fn a_writable_host_directory_takes_set_id_bits_away() {
    for profile in [SyscallProfile::Strict, SyscallProfile::Job] {
        let mut policy = policy(profile, OnDenied::Errno);
        policy.allow = vec![grant("openat2"), grant("fchmod")];
        let context = FilterContext {
            writable_host_dir: true,
            ..context(Arch::X86_64)
        };
        let filter = filter(&policy, &context).unwrap();
        let verdict = |call, given: &[u64]| filter.verdict(call, &args(given));
        for bits in [0o4755, 0o2755, 0o6000] {
            for (call, arg) in [
                (chmod, 1),
                (fchmod, 1),
                (fchmodat, 2),
                (mkdir, 1),
                (mkdirat, 2),
                (creat, 1),
            ] {
                let mut given = [0; 6];
                given[arg] = bits;
                assert_eq!(verdict(call, &given), EPERM, "{call}");
                given[arg] = 0o1755;
                assert_eq!(verdict(call, &given), ALLOW, "{call}, sticky");
            }
            assert_eq!(verdict(open, &[0, 0o101, bits]), EPERM);
            assert_eq!(
                verdict(open, &[0, 0o1, bits]),
                ALLOW,
                "the mode is not read"
            );
            assert_eq!(
                verdict(openat, &[0, 0, 0o20_200_002, bits]),
                EPERM,
                "O_TMPFILE"
            );
            assert_eq!(verdict(openat, &[0, 0, 0o20_200_002, 0o600]), ALLOW);
            assert_eq!(verdict(mknod, &[0, 0o100_000 | bits]), EPERM);
            assert_eq!(verdict(mknodat, &[0, 0, 0o100_000 | bits]), EPERM);
        }
        assert_eq!(verdict(mknod, &[0, 0o020_666]), EPERM, "still no devices");
        assert_eq!(
            (verdict(openat2, &[]), verdict(fchmodat2, &[])),
            (ENOSYS, ENOSYS)
        );
    }
}

#[test]
fn degraded_limits_take_their_calls_away_whatever_is_granted() {
    let mut policy = policy(SyscallProfile::Job, OnDenied::Errno);
    policy.allow = vec![grant("memfd_create"), grant("sched_setaffinity")];
    let context = FilterContext {
        refuse_memfd: true,
        refuse_affinity: true,
        ..context(Arch::X86_64)
    };
    let filter = filter(&policy, &context).unwrap();
    assert_eq!(filter.verdict(memfd_create, &[0; 6]), ENOSYS);
    assert_eq!(filter.verdict(sched_setaffinity, &[0; 6]), EPERM);
}

#[test]
fn a_grant_opens_a_call_and_a_denial_beats_it() {
    let mut policy = policy(SyscallProfile::Strict, OnDenied::Errno);
    policy.allow = vec![grant("ptrace"), grant("kcmp"), grant("futex")];
    policy.deny = vec![deny("kcmp"), deny("getpid"), deny("clone3")];
    let filter = filter(&policy, &context(Arch::X86_64)).unwrap();
    let verdict = |call, given: &[u64]| filter.verdict(call, &args(given));
    assert_eq!(verdict(ptrace, &[]), ALLOW);
    assert_eq!(verdict(futex, &[0, 6]), ALLOW);
    assert_eq!(verdict(kcmp, &[]), EPERM);
    assert_eq!(verdict(getpid, &[]), EPERM);
    assert_eq!(verdict(clone3, &[]), ENOSYS);
    assert_eq!(filter.reason(ptrace, &[0; 6]), "granted by always: test");
}

#[test]
fn unknown_names_are_errors_with_the_nearest() {
    let mut policy = policy(SyscallProfile::Job, OnDenied::Errno);
    policy.allow = vec![grant("ptrase"), grant("open")];
    policy.deny = vec![deny("SYS_read")];
    let unknown = filter(&policy, &context(Arch::X86_64)).unwrap_err();
    let found: Vec<_> = unknown
        .iter()
        .map(|call| (call.name.as_str(), call.nearest))
        .collect();
    assert_eq!(found, [("ptrase", "ptrace"), ("SYS_read", "read")]);
}

#[test]
fn a_call_that_the_architecture_lacks_may_be_named() {
    let mut policy = policy(SyscallProfile::Job, OnDenied::Errno);
    policy.allow = vec![grant("open")];
    policy.deny = vec![deny("iopl")];
    let filter = filter(&policy, &context(Arch::Aarch64)).unwrap();
    assert!(filter.rule(open).is_none() && filter.rule(iopl).is_none());
}

#[test]
fn recording_is_for_cold_calls_and_needs_a_listener() {
    let policy = policy(SyscallProfile::Job, OnDenied::Record);
    let recorded = filter(&policy, &context(Arch::X86_64)).unwrap();
    let eperm = Verdict::Record(Errno::EPERM);
    assert_eq!(recorded.verdict(mount, &[0; 6]), eperm);
    assert_eq!(recorded.verdict(unshare, &args(&[0x1000_0000])), eperm);
    assert_eq!(
        recorded.verdict(socket, &args(&[38, 5, 0])),
        Verdict::Record(Errno::EAFNOSUPPORT)
    );
    assert_eq!(recorded.verdict(clone3, &[0; 6]), ENOSYS);
    assert_eq!(recorded.verdict(ioctl, &args(&[0, 0x5412])), EPERM);
    for hot in [
        openat, read, write, newfstatat, close, futex, execve, mmap, ioctl, prctl,
    ] {
        assert!(!cold(hot), "{hot}");
    }
    let deaf = FilterContext {
        notify_available: false,
        ..context(Arch::X86_64)
    };
    assert_eq!(filter(&policy, &deaf).unwrap(), base(SyscallProfile::Job));
}

#[test]
fn kill_is_for_refusals_that_imitate_no_missing_feature() {
    let killing = filter(
        &policy(SyscallProfile::Job, OnDenied::Kill),
        &context(Arch::X86_64),
    )
    .unwrap();
    assert_eq!(killing.verdict(mount, &[0; 6]), Verdict::Kill);
    assert_eq!(killing.verdict(ioctl, &args(&[0, 0x5412])), Verdict::Kill);
    assert_eq!(killing.verdict(clone3, &[0; 6]), ENOSYS);
    assert_eq!(killing.verdict(socket, &args(&[38, 5, 0])), NO_FAMILY);
    assert_eq!(killing.unlisted, ENOSYS);
}

#[test]
fn the_gateway_makes_nothing() {
    let gateway = gateway_filter(Arch::X86_64, false);
    for call in [
        openat, open, socket, execve, clone, fork, vfork, clone3, mount, setns, unshare, ptrace,
        kill, ioctl,
    ] {
        assert!(!gateway.verdict(call, &[0; 6]).allows(), "{call}");
    }
    assert_eq!(gateway.verdict(mmap, &args(&[0, 0, 7])), EPERM);
    assert_eq!(gateway.verdict(mmap, &args(&[0, 0, 3])), ALLOW);
    assert_eq!(gateway.verdict(ppoll, &[0; 6]), ALLOW);
}

#[test]
fn with_published_ports_the_gateway_connects_and_never_listens() {
    let gateway = gateway_filter(Arch::X86_64, true);
    for call in [
        openat, open, execve, clone, fork, vfork, clone3, mount, setns, unshare, ptrace, kill,
        ioctl, listen, accept, accept4, socketpair, splice, getsockopt,
    ] {
        assert!(!gateway.verdict(call, &[0; 6]).allows(), "{call}");
    }
    let allowed =
        |family, kind, protocol| gateway.verdict(socket, &args(&[family, kind, protocol])) == ALLOW;
    let made: Vec<(u64, u64)> = (0..64)
        .flat_map(|family| (0..16).map(move |kind| (family, kind)))
        .filter(|(family, kind)| allowed(*family, *kind | 0o2_004_000, 0))
        .collect();
    assert_eq!(made, [(2, 1), (10, 1)]);
    assert!(!allowed(2, 1, 132));
    let set = |level, name| {
        gateway
            .verdict(setsockopt, &args(&[3, level, name]))
            .allows()
    };
    assert!(set(1, 2) && set(0, 19) && set(41, 75));
    assert!(!set(1, 15) && !set(1, 36) && !set(1, 26) && !set(0, 64) && !set(6, 31));
    assert!(gateway.verdict(bind, &[0; 6]).allows() && gateway.verdict(connect, &[0; 6]).allows());
}

#[test]
fn the_edge_makes_tcp_and_udp_sockets_and_nothing_else() {
    let edge = edge_filter(Arch::X86_64);
    for call in [
        openat,
        open,
        openat2,
        execve,
        clone,
        fork,
        vfork,
        clone3,
        mount,
        setns,
        unshare,
        ptrace,
        kill,
        ioctl,
        bind,
        listen,
        fcntl,
        socketpair,
        io_uring_setup,
        prctl,
    ] {
        assert!(!edge.verdict(call, &[0; 6]).allows(), "{call}");
    }
    let allowed =
        |family, kind, protocol| edge.verdict(socket, &args(&[family, kind, protocol])) == ALLOW;
    let made: Vec<(u64, u64)> = (0..64)
        .flat_map(|family| (0..16).map(move |kind| (family, kind)))
        .filter(|(family, kind)| allowed(*family, *kind | 0o2_004_000, 0))
        .collect();
    assert_eq!(made, [(2, 1), (2, 2), (10, 1), (10, 2)]);
    assert!(!allowed(2, 1, 132));
    let control = |command| edge.verdict(fcntl, &args(&[3, command])).allows();
    assert_eq!(
        (0..2048)
            .filter(|command| control(*command))
            .collect::<Vec<_>>(),
        [1031]
    );
    let set = |level, name| edge.verdict(setsockopt, &args(&[3, level, name])).allows();
    assert!(set(1, 13) && set(6, 1));
    assert!(!set(0, 19) && !set(1, 36) && !set(6, 31));
    assert_eq!(edge.verdict(mmap, &args(&[0, 0, 7])), EPERM);
}
