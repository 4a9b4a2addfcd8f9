//! [pure] Calls whose arguments decide: what of them each profile allows.
//!
//! Every argument here that the kernel takes as an int is compared on its low
//! 32 bits. Pointers are compared whole, and only with null: what they point to
//! can change between our look and the kernel's.

use super::{Clause, Conditional, Errno, Test, Verdict, Why};
use crate::linux::syscall::Syscall::{self, *};
use crate::linux::{ioctl as request, process, socket as net};
use crate::policy::SyscallProfile;

const INT: u64 = 0xffff_ffff;
const ALLOW: Verdict = Verdict::Allow;
const EPERM: Verdict = Verdict::Errno(Errno::EPERM);
const ENOSYS: Verdict = Verdict::Errno(Errno::ENOSYS);
const EINVAL: Verdict = Verdict::Errno(Errno::EINVAL);

/// `arg & mask` is one of `values`.
fn is(arg: u8, mask: u64, values: &[u64]) -> Test {
    Test {
        arg,
        mask,
        values: values.to_vec(),
        member: true,
    }
}

/// `arg & mask` is none of `values`.
fn is_not(arg: u8, mask: u64, values: &[u64]) -> Test {
    Test {
        arg,
        mask,
        values: values.to_vec(),
        member: false,
    }
}

/// At least one bit of `mask` is set.
fn any(arg: u8, mask: u64) -> Test {
    is_not(arg, mask, &[0])
}

fn clause(when: Vec<Test>, then: Verdict, why: &'static str) -> Clause {
    Clause {
        when,
        then,
        why: Why::Borrowed(why),
    }
}

fn cases(
    call: Syscall,
    clauses: Vec<Clause>,
    otherwise: Verdict,
    why: &'static str,
) -> Conditional {
    Conditional {
        call,
        clauses,
        otherwise,
        why: Why::Borrowed(why),
    }
}

/// What both profiles allow of calls with arguments that matter.
pub fn of(profile: SyscallProfile) -> Vec<Conditional> {
    let mut all = vec![
        socketpair_cases(),
        setsockopt_cases(),
        clone_cases(),
        cases(
            prctl,
            vec![clause(
                vec![is(0, INT, process::PRCTL_OPTIONS)],
                ALLOW,
                "acts on the caller alone",
            )],
            EINVAL,
            "not on the list: as on a kernel without the option",
        ),
        cases(
            arch_prctl,
            vec![clause(
                vec![is(0, INT, process::ARCH_PRCTL_CODES)],
                ALLOW,
                "thread-local storage, CPUID, AMX, shadow stacks",
            )],
            EINVAL,
            "not on the list: as on a kernel without the code",
        ),
        rlimit_cases(setrlimit),
        rlimit_cases(prlimit64),
    ];
    match profile {
        SyscallProfile::Strict => all.extend(strict()),
        SyscallProfile::Job => all.extend(job()),
    }
    all
}

fn job() -> Vec<Conditional> {
    let device = [process::S_IFCHR, process::S_IFBLK];
    let nodes = |call, arg| {
        let test = is(arg, process::S_IFMT, &device);
        cases(
            call,
            vec![clause(vec![test], EPERM, "device nodes")],
            ALLOW,
            "files, pipes and sockets",
        )
    };
    vec![
        socket_cases(SyscallProfile::Job),
        ioctl_job(),
        nodes(mknod, 1),
        nodes(mknodat, 2),
        cases(
            unshare,
            vec![clause(
                vec![any(0, process::CLONE_NAMESPACES | process::CLONE_NEWTIME)],
                EPERM,
                "makes namespaces, and with them capabilities over kernel code",
            )],
            ALLOW,
            "file tables and attributes",
        ),
        cases(
            personality,
            vec![clause(
                vec![is(0, INT, process::PERSONALITIES)],
                ALLOW,
                "changes nothing for others",
            )],
            EPERM,
            "old binary formats and executable stacks",
        ),
        cases(
            sched_setscheduler,
            vec![clause(
                vec![is(1, process::SCHED_POLICY_MASK, process::SCHED_FAIR)],
                ALLOW,
                "fair classes",
            )],
            EPERM,
            "real-time, deadline and loadable classes",
        ),
        cases(
            ioprio_set,
            vec![clause(
                vec![is(
                    2,
                    process::IOPRIO_CLASS_MASK,
                    &[process::IOPRIO_CLASS_RT],
                )],
                EPERM,
                "the real-time class",
            )],
            ALLOW,
            "other classes",
        ),
    ]
}

fn strict() -> Vec<Conditional> {
    let no_oob = |call, arg| {
        let test = any(arg, net::MSG_OOB);
        cases(
            call,
            vec![clause(
                vec![test],
                EPERM,
                "out-of-band data (CVE-2025-38236)",
            )],
            ALLOW,
            "data in order",
        )
    };
    vec![
        socket_cases(SyscallProfile::Strict),
        cases(
            ioctl,
            vec![clause(
                vec![is(1, INT, request::TERMINAL_AND_QUEUE)],
                ALLOW,
                "terminals, pipes and sockets",
            )],
            EPERM,
            "every other request",
        ),
        no_oob(sendto, 3),
        no_oob(recvfrom, 3),
        no_oob(sendmsg, 2),
        no_oob(recvmsg, 2),
        no_oob(sendmmsg, 3),
        no_oob(recvmmsg, 3),
        cases(
            futex,
            vec![clause(
                vec![is(1, process::FUTEX_CMD_MASK, process::FUTEX_PI)],
                ENOSYS,
                "priority inheritance (CVE-2026-43499); ENOSYS is what C libraries probe for",
            )],
            ALLOW,
            "locks",
        ),
    ]
}

/// Family, type and protocol: anything else would load modules or reach rarely
/// used code. EAFNOSUPPORT and EPROTONOSUPPORT are what a kernel without them
/// answers; libaudit, Go and others go on after those, and not after EPERM.
fn socket_cases(profile: SyscallProfile) -> Conditional {
    use net::*;
    let ip = || is(0, INT, &[AF_INET, AF_INET6]);
    let kind = |kinds: &[u64]| is(1, SOCK_TYPE_MASK, kinds);
    let protocol = |protocols: &[u64]| is(2, INT, protocols);
    let unknown = Verdict::Errno(Errno::EPROTONOSUPPORT);
    let mut clauses = vec![
        clause(
            vec![ip(), kind(&[SOCK_STREAM]), protocol(&[0, IPPROTO_TCP])],
            ALLOW,
            "TCP",
        ),
        clause(
            vec![ip(), kind(&[SOCK_DGRAM]), protocol(&[0, IPPROTO_UDP])],
            ALLOW,
            "UDP",
        ),
        clause(
            vec![
                is(0, INT, &[AF_UNIX]),
                kind(&[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]),
                protocol(&[0, AF_UNIX]),
            ],
            ALLOW,
            "local sockets",
        ),
    ];
    if profile == SyscallProfile::Job {
        let ping = |family, icmp| {
            let when = vec![
                is(0, INT, &[family]),
                kind(&[SOCK_DGRAM]),
                protocol(&[icmp]),
            ];
            clause(when, ALLOW, "echo requests, icmp(7)")
        };
        let route = vec![
            is(0, INT, &[AF_NETLINK]),
            kind(&[SOCK_RAW, SOCK_DGRAM]),
            protocol(&[NETLINK_ROUTE]),
        ];
        clauses.extend([
            ping(AF_INET, IPPROTO_ICMP),
            ping(AF_INET6, IPPROTO_ICMPV6),
            clause(route, ALLOW, "interfaces and addresses; changing them takes a capability over the network namespace"),
            clause(vec![is(0, INT, &[AF_NETLINK])], unknown, "every other netlink protocol"),
        ]);
    }
    clauses.extend([
        clause(vec![kind(&[SOCK_RAW])], EPERM, "raw sockets"),
        clause(
            vec![ip()],
            unknown,
            "every other IP protocol: SCTP, DCCP, MPTCP, UDP-Lite, L2TP …",
        ),
    ]);
    cases(
        socket,
        clauses,
        Verdict::Errno(Errno::EAFNOSUPPORT),
        "every other family: packet, alg, vsock, rxrpc, rds, tipc, can, bluetooth …",
    )
}

fn socketpair_cases() -> Conditional {
    use net::*;
    let kinds = is(
        1,
        SOCK_TYPE_MASK,
        &[SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET],
    );
    let local = vec![is(0, INT, &[AF_UNIX]), kinds, is(2, INT, &[0, AF_UNIX])];
    cases(
        socketpair,
        vec![clause(local, ALLOW, "local sockets")],
        Verdict::Errno(Errno::EAFNOSUPPORT),
        "the kernel makes both sockets before it finds that the family has no pairs",
    )
}

fn setsockopt_cases() -> Conditional {
    use net::*;
    let level = |levels: &[u64]| is(1, INT, levels);
    let option = |options: &[u64]| is(2, INT, options);
    let refuse = |when, why| clause(when, EPERM, why);
    cases(
        setsockopt,
        vec![
            refuse(
                vec![
                    level(&[SOL_SOCKET]),
                    option(&[
                        SO_ATTACH_FILTER,
                        SO_ATTACH_BPF,
                        SO_ATTACH_REUSEPORT_CBPF,
                        SO_ATTACH_REUSEPORT_EBPF,
                    ]),
                ],
                "programs for the kernel's just-in-time compiler",
            ),
            refuse(
                vec![level(&[SOL_SOCKET]), option(&[SO_ZEROCOPY])],
                "page references from the network stack (CVE-2026-43503 and kin)",
            ),
            refuse(
                vec![level(&[IPPROTO_TCP]), option(&[TCP_ULP])],
                "kTLS, espintcp, smc (CVE-2023-0461, CVE-2026-46300)",
            ),
            refuse(
                vec![level(&[IPPROTO_TCP]), option(&[TCP_REPAIR])],
                "checkpointing",
            ),
            refuse(
                vec![
                    level(&[IPPROTO_TCP]),
                    option(&[
                        TCP_MD5SIG,
                        TCP_MD5SIG_EXT,
                        TCP_AO_ADD_KEY,
                        TCP_AO_DEL_KEY,
                        TCP_AO_INFO,
                    ]),
                ],
                "routers' authentication: loads cryptographic modules",
            ),
            refuse(
                vec![level(&[IPPROTO_UDP]), option(&[UDP_ENCAP])],
                "ESP in UDP (CVE-2026-43284)",
            ),
            refuse(
                vec![level(&[SOL_IP]), option(&[IP_IPSEC_POLICY, IP_XFRM_POLICY])],
                "IPsec policies",
            ),
            refuse(
                vec![level(&[SOL_IP]), any(2, INT & !0x3f)],
                "tables of iptables, arptables, ebtables, IPVS and multicast routing: every option from 64 on",
            ),
            refuse(
                vec![
                    level(&[SOL_IPV6]),
                    option(&[IPV6_IPSEC_POLICY, IPV6_XFRM_POLICY]),
                ],
                "IPsec policies",
            ),
            refuse(
                vec![level(&[SOL_IPV6]), is(2, INT & !1, &[64])],
                "tables of ip6tables",
            ),
            refuse(
                vec![level(&[SOL_IPV6]), any(2, INT & !0x7f)],
                "tables and multicast routing: every option from 128 on",
            ),
            clause(
                vec![level(&[
                    SOL_SOCKET,
                    SOL_IP,
                    IPPROTO_TCP,
                    IPPROTO_UDP,
                    SOL_IPV6,
                    IPPROTO_ICMPV6,
                    SOL_NETLINK,
                ])],
                ALLOW,
                "options of the families that are allowed",
            ),
        ],
        EPERM,
        "levels of families and protocols that are refused: packet, alg, tls, xdp, sctp …",
    )
}

fn ioctl_job() -> Conditional {
    use request::*;
    let refuse = |requests: &[u64], then, why| clause(vec![is(1, INT, requests)], then, why);
    let missing = Verdict::Errno(Errno::EOPNOTSUPP);
    cases(
        ioctl,
        vec![
            refuse(
                &[
                    TIOCSTI,
                    TIOCLINUX,
                    TIOCCONS,
                    TIOCSETD,
                    TIOCVHANGUP,
                    TIOCSLCKTRMIOS,
                ],
                EPERM,
                "types into, takes over or hangs up terminals; line disciplines",
            ),
            refuse(
                &[FICLONE, FICLONERANGE, FIDEDUPERANGE],
                missing,
                "reflinks (CVE-2026-64600); EOPNOTSUPP is what other file systems answer",
            ),
            refuse(
                &[
                    FS_IOC_FSSETXATTR,
                    FS_IOC_ENABLE_VERITY,
                    FS_IOC_SET_ENCRYPTION_POLICY,
                    FS_IOC_ADD_ENCRYPTION_KEY,
                    FS_IOC_REMOVE_ENCRYPTION_KEY,
                ],
                missing,
                "quotas, verity and encryption of the host's file system",
            ),
            refuse(
                &[FIFREEZE, FITHAW, FITRIM],
                EPERM,
                "freezes or trims the host's file system",
            ),
            clause(
                vec![is(1, TYPE_MASK, &[NSFS_TYPE])],
                EPERM,
                "descriptors of other namespaces",
            ),
        ],
        ALLOW,
        "requests of the files that are there: /dev holds no device of the host",
    )
}

fn clone_cases() -> Conditional {
    let namespaces = any(0, process::CLONE_NAMESPACES);
    cases(
        clone,
        vec![clause(
            vec![namespaces],
            EPERM,
            "makes namespaces, and with them capabilities over kernel code",
        )],
        ALLOW,
        "processes and threads",
    )
}

/// A core limit of exactly 1 keeps the host's core_pattern program from being
/// run (fs/coredump.c); 0 would not. So it stays, and setting it seems to work.
fn rlimit_cases(call: Syscall) -> Conditional {
    let (resource, new, old) = if call == setrlimit {
        (0, 1, None)
    } else {
        (1, 2, Some(3))
    };
    let core = || {
        vec![
            is(resource, INT, &[process::RLIMIT_CORE]),
            any(new, u64::MAX),
        ]
    };
    let mut clauses = Vec::new();
    if let Some(old) = old {
        let mut both = core();
        both.push(any(old, u64::MAX));
        clauses.push(clause(
            both,
            EPERM,
            "sets and reads the core limit in one call: success would leave the old value unset",
        ));
    }
    clauses.push(clause(
        core(),
        Verdict::Errno(Errno::SUCCESS),
        "the core limit stays 1: shells set it as a matter of course",
    ));
    cases(call, clauses, ALLOW, "other limits, and reading")
}

/// With a writable directory of the host, no file in it may get set-id bits:
/// outside they would work for the caller's user.
pub fn no_set_id() -> Vec<Conditional> {
    const WHY: &str = "set-id bits on a file of the host";
    let mode = |call, arg| {
        let test = any(arg, process::S_ISUID_ISGID);
        cases(
            call,
            vec![clause(vec![test], EPERM, WHY)],
            ALLOW,
            "other modes",
        )
    };
    let opened = |call, flags, mode| {
        let when = vec![
            any(flags, process::O_CREAT_TMPFILE),
            any(mode, process::S_ISUID_ISGID),
        ];
        cases(call, vec![clause(when, EPERM, WHY)], ALLOW, "other modes")
    };
    vec![
        mode(chmod, 1),
        mode(fchmod, 1),
        mode(fchmodat, 2),
        mode(mkdir, 1),
        mode(mkdirat, 2),
        mode(mknod, 1),
        mode(mknodat, 2),
        mode(creat, 1),
        opened(open, 1, 2),
        opened(openat, 2, 3),
    ]
}

/// No executable memory beyond the program itself, for our own processes.
pub fn no_new_code() -> Vec<Conditional> {
    let code = |call| {
        let test = any(2, process::PROT_EXEC);
        cases(
            call,
            vec![clause(vec![test], EPERM, "new code")],
            ALLOW,
            "data",
        )
    };
    vec![code(mmap), code(mprotect)]
}
