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
const SUCCESS: Verdict = Verdict::Errno(Errno::SUCCESS);
const NOT_HERE: Verdict = Verdict::Errno(Errno::EOPNOTSUPP);
const NO_FAMILY: Verdict = Verdict::Errno(Errno::EAFNOSUPPORT);
const NO_PROTOCOL: Verdict = Verdict::Errno(Errno::EPROTONOSUPPORT);

const NAMESPACES: &str = "makes namespaces, and with them capabilities over kernel code";
const LOCAL: &str = "local sockets";
const CORE: &str = "the core limit stays 1: shells set it as a matter of course";

/// `arg & mask` is one of `values`.
fn is(arg: u8, mask: u64, values: &[u64]) -> Test {
    let values = values.to_vec();
    Test { arg, mask, values, member: true }
}

/// At least one bit of `mask` is set.
fn any(arg: u8, mask: u64) -> Test {
    let values = vec![0];
    Test { arg, mask, values, member: false }
}

/// A rule under construction: clauses in the order in which they are tried.
struct Rules {
    call: Syscall,
    clauses: Vec<Clause>,
}

fn on(call: Syscall) -> Rules {
    let clauses = Vec::new();
    Rules { call, clauses }
}

impl Rules {
    fn answer(mut self, then: Verdict, why: &'static str, when: impl Into<Vec<Test>>) -> Self {
        let (when, why) = (when.into(), Why::Borrowed(why));
        self.clauses.push(Clause { when, then, why });
        self
    }

    fn allow(self, why: &'static str, when: impl Into<Vec<Test>>) -> Self {
        self.answer(ALLOW, why, when)
    }

    fn refuse(self, why: &'static str, when: impl Into<Vec<Test>>) -> Self {
        self.answer(EPERM, why, when)
    }

    fn otherwise(self, otherwise: Verdict, why: &'static str) -> Conditional {
        let Self { call, clauses } = self;
        let why = Why::Borrowed(why);
        Conditional { call, clauses, otherwise, why }
    }
}

/// What a profile allows of calls with arguments that matter.
pub fn of(profile: SyscallProfile) -> Vec<Conditional> {
    let mut all = vec![
        socket_rules(profile),
        socketpair_rules(),
        setsockopt_rules(),
        clone_rules(),
        prctl_rules(),
        arch_prctl_rules(),
        setrlimit_rules(),
        prlimit_rules(),
    ];
    match profile {
        SyscallProfile::Strict => all.extend(strict()),
        SyscallProfile::Job => all.extend(job()),
    }
    all
}

fn job() -> Vec<Conditional> {
    let nodes = |call, arg| {
        let devices = is(arg, process::S_IFMT, &[process::S_IFCHR, process::S_IFBLK]);
        on(call).refuse("device nodes", [devices]).otherwise(ALLOW, "files, pipes and sockets")
    };
    let namespaces = process::CLONE_NAMESPACES | process::CLONE_NEWTIME;
    let fair = is(1, process::SCHED_POLICY_MASK, process::SCHED_FAIR);
    let real_time = is(2, process::IOPRIO_CLASS_MASK, &[process::IOPRIO_CLASS_RT]);
    vec![
        ioctl_rules(),
        nodes(mknod, 1),
        nodes(mknodat, 2),
        on(unshare).refuse(NAMESPACES, [any(0, namespaces)]).otherwise(ALLOW, "file tables and attributes"),
        on(personality)
            .allow("changes nothing for others", [is(0, INT, process::PERSONALITIES)])
            .otherwise(EPERM, "old binary formats and executable stacks"),
        on(sched_setscheduler)
            .allow("fair classes", [fair])
            .otherwise(EPERM, "real-time, deadline and loadable classes"),
        on(ioprio_set).refuse("the real-time class", [real_time]).otherwise(ALLOW, "other classes"),
    ]
}

fn strict() -> Vec<Conditional> {
    const OUT_OF_BAND: &str = "out-of-band data (CVE-2025-38236)";
    let ordered =
        |(call, flags)| on(call).refuse(OUT_OF_BAND, [any(flags, net::MSG_OOB)]).otherwise(ALLOW, "data in order");
    let messages = [(sendto, 3), (recvfrom, 3), (sendmsg, 2), (recvmsg, 2), (sendmmsg, 3), (recvmmsg, 3)];
    let inheritance = is(1, process::FUTEX_CMD_MASK, process::FUTEX_PI);
    let mut all = messages.map(ordered).to_vec();
    all.extend([
        on(ioctl)
            .allow("terminals, pipes and sockets", [is(1, INT, request::TERMINAL_AND_QUEUE)])
            .otherwise(EPERM, "every other request"),
        on(futex)
            .answer(ENOSYS, "priority inheritance (CVE-2026-43499); C libraries probe for ENOSYS", [inheritance])
            .otherwise(ALLOW, "locks"),
    ]);
    all
}

/// Family, type and protocol: anything else would load modules or reach rarely
/// used code. EAFNOSUPPORT and EPROTONOSUPPORT are what a kernel without them
/// answers; libaudit, Go and others go on after those, and not after EPERM.
fn socket_rules(profile: SyscallProfile) -> Conditional {
    use net::*;
    const OTHERS: &str = "every other family: packet, alg, vsock, rxrpc, rds, tipc, can, bluetooth …";
    let family = |families: &[u64]| is(0, INT, families);
    let kind = |kinds: &[u64]| is(1, SOCK_TYPE_MASK, kinds);
    let protocol = |protocols: &[u64]| is(2, INT, protocols);
    let ip = || family(&[AF_INET, AF_INET6]);
    let mut rules = on(socket)
        .allow("TCP", [ip(), kind(&[SOCK_STREAM]), protocol(&[0, IPPROTO_TCP])])
        .allow("UDP", [ip(), kind(&[SOCK_DGRAM]), protocol(&[0, IPPROTO_UDP])])
        .allow(LOCAL, local_socket());
    if profile == SyscallProfile::Job {
        let ping = |of, icmp| [family(&[of]), kind(&[SOCK_DGRAM]), protocol(&[icmp])];
        let route = [family(&[AF_NETLINK]), kind(&[SOCK_RAW, SOCK_DGRAM]), protocol(&[NETLINK_ROUTE])];
        rules = rules
            .allow("echo requests, icmp(7)", ping(AF_INET, IPPROTO_ICMP))
            .allow("echo requests, icmp(7)", ping(AF_INET6, IPPROTO_ICMPV6))
            .allow("interfaces and addresses; changing them takes CAP_NET_ADMIN", route)
            .answer(NO_PROTOCOL, "every other netlink protocol", [family(&[AF_NETLINK])]);
    }
    rules
        .refuse("raw sockets", [kind(&[SOCK_RAW])])
        .answer(NO_PROTOCOL, "every other IP protocol: SCTP, DCCP, MPTCP, UDP-Lite, L2TP …", [ip()])
        .otherwise(NO_FAMILY, OTHERS)
}

fn socketpair_rules() -> Conditional {
    const MADE_FIRST: &str = "the kernel makes both sockets before it finds that the family has no pairs";
    on(socketpair).allow(LOCAL, local_socket()).otherwise(NO_FAMILY, MADE_FIRST)
}

fn local_socket() -> [Test; 3] {
    use net::*;
    let kinds = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];
    [is(0, INT, &[AF_UNIX]), is(1, SOCK_TYPE_MASK, &kinds), is(2, INT, &[0, AF_UNIX])]
}

fn setsockopt_rules() -> Conditional {
    use net::*;
    const OTHERS: &str = "levels of what is refused as a socket: packet, alg, tls, xdp, sctp …";
    let level = |levels: &[u64]| is(1, INT, levels);
    let option = |of: u64, options: &[u64]| [level(&[of]), is(2, INT, options)];
    let programs = [SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_ATTACH_REUSEPORT_CBPF, SO_ATTACH_REUSEPORT_EBPF];
    let keys = [TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_AO_ADD_KEY, TCP_AO_DEL_KEY, TCP_AO_INFO];
    let levels = [SOL_SOCKET, SOL_IP, IPPROTO_TCP, IPPROTO_UDP, SOL_IPV6, IPPROTO_ICMPV6, SOL_NETLINK];
    on(setsockopt)
        .refuse("programs for the kernel's just-in-time compiler", option(SOL_SOCKET, &programs))
        .refuse("page references from the network (CVE-2026-43503)", option(SOL_SOCKET, &[SO_ZEROCOPY]))
        .refuse("kTLS, espintcp, smc (CVE-2023-0461, CVE-2026-46300)", option(IPPROTO_TCP, &[TCP_ULP]))
        .refuse("checkpointing", option(IPPROTO_TCP, &[TCP_REPAIR]))
        .refuse("routers' authentication: loads cryptographic modules", option(IPPROTO_TCP, &keys))
        .refuse("ESP in UDP (CVE-2026-43284)", option(IPPROTO_UDP, &[UDP_ENCAP]))
        .refuse("IPsec policies", option(SOL_IP, &[IP_IPSEC_POLICY, IP_XFRM_POLICY]))
        .refuse("iptables, arptables, ebtables, IPVS, multicast routing", [level(&[SOL_IP]), any(2, INT & !0x3f)])
        .refuse("IPsec policies for IPv6", option(SOL_IPV6, &[IPV6_IPSEC_POLICY, IPV6_XFRM_POLICY]))
        .refuse("changes a socket's family in use: a class of bugs, and nothing needs it", option(SOL_IPV6, &[IPV6_ADDRFORM]))
        .refuse("ip6tables", [level(&[SOL_IPV6]), is(2, INT & !1, &[64])])
        .refuse("multicast routing for IPv6", [level(&[SOL_IPV6]), any(2, INT & !0x7f)])
        .allow("options of the families that are allowed", [level(&levels)])
        .otherwise(EPERM, OTHERS)
}

fn ioctl_rules() -> Conditional {
    use request::*;
    let requests = |values: &[u64]| [is(1, INT, values)];
    let terminals = [TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD, TIOCVHANGUP, TIOCSLCKTRMIOS];
    let encryption = [FS_IOC_SET_ENCRYPTION_POLICY, FS_IOC_ADD_ENCRYPTION_KEY, FS_IOC_REMOVE_ENCRYPTION_KEY];
    let attributes = [FS_IOC_FSSETXATTR, FS_IOC_ENABLE_VERITY];
    let reflinks = requests(&[FICLONE, FICLONERANGE, FIDEDUPERANGE]);
    on(ioctl)
        .refuse("types into, takes over or hangs up terminals; line disciplines", requests(&terminals))
        .answer(NOT_HERE, "reflinks (CVE-2026-64600); other file systems answer so", reflinks)
        .answer(NOT_HERE, "keys of the host's file system", requests(&encryption))
        .answer(NOT_HERE, "quotas and verity of the host's file system", requests(&attributes))
        .refuse("freezes or trims the host's file system", requests(&[FIFREEZE, FITHAW, FITRIM]))
        .refuse("descriptors of other namespaces", [is(1, TYPE_MASK, &[NSFS_TYPE])])
        .otherwise(ALLOW, "of the files that are there: /dev holds no device of the host")
}

fn clone_rules() -> Conditional {
    on(clone).refuse(NAMESPACES, [any(0, process::CLONE_NAMESPACES)]).otherwise(ALLOW, "processes and threads")
}

fn prctl_rules() -> Conditional {
    on(prctl)
        .allow("acts on the caller alone", [is(0, INT, process::PRCTL_OPTIONS)])
        .otherwise(EINVAL, "not on the list: as on a kernel without the option")
}

fn arch_prctl_rules() -> Conditional {
    on(arch_prctl)
        .allow("thread-local storage, CPUID, AMX, shadow stacks", [is(0, INT, process::ARCH_PRCTL_CODES)])
        .otherwise(EINVAL, "not on the list: as on a kernel without the code")
}

/// A core limit of exactly 1 keeps the host's core_pattern program from being
/// run (fs/coredump.c); 0 would not. So it stays, and setting it seems to work.
fn setrlimit_rules() -> Conditional {
    let core = is(0, INT, &[process::RLIMIT_CORE]);
    on(setrlimit).answer(SUCCESS, CORE, [core]).otherwise(ALLOW, "other limits")
}

/// The pointers to new and old limit are compared with null alone. Setting and
/// reading the core limit at once is refused: success would leave the old one unset.
fn prlimit_rules() -> Conditional {
    let core = || is(1, INT, &[process::RLIMIT_CORE]);
    let (new, old) = (|| any(2, u64::MAX), any(3, u64::MAX));
    on(prlimit64)
        .refuse("limits of other processes: pid 1 has the job's ids", [any(0, INT), new()])
        .refuse("sets and reads the core limit in one call", [core(), new(), old])
        .answer(SUCCESS, CORE, [core(), new()])
        .otherwise(ALLOW, "other limits, and reading")
}

/// With a writable directory of the host, no file in it may get set-id bits:
/// outside they would work for the caller's user. All clauses are refusals.
pub fn no_set_id() -> Vec<Conditional> {
    const SET_ID: &str = "set-id bits on a file of the host";
    const OTHERS: &str = "other modes";
    let bits = |arg| any(arg, process::S_ISUID_ISGID);
    let made = |(call, arg)| on(call).refuse(SET_ID, [bits(arg)]).otherwise(ALLOW, OTHERS);
    let opened = |(call, flags)| {
        let reads_mode = any(flags, process::O_CREAT_TMPFILE);
        on(call).refuse(SET_ID, [reads_mode, bits(flags + 1)]).otherwise(ALLOW, OTHERS)
    };
    let modes =
        [(chmod, 1), (fchmod, 1), (fchmodat, 2), (mkdir, 1), (mkdirat, 2), (mknod, 1), (mknodat, 2), (creat, 1)];
    modes.map(made).into_iter().chain([(open, 1), (openat, 2)].map(opened)).collect()
}

/// No executable memory beyond the program itself, for our own processes.
pub fn no_new_code() -> [Conditional; 2] {
    [mmap, mprotect].map(|call| on(call).refuse("new code", [any(2, process::PROT_EXEC)]).otherwise(ALLOW, "data"))
}

/// What our gateway makes for published ports: TCP sockets that connect as
/// somebody else.
pub fn gateway() -> Vec<Conditional> {
    const OTHER: &str = "not needed by the gateway";
    let option = |level, name| [is(1, INT, &[level]), is(2, INT, &[name])];
    vec![
        on(socket)
            .allow("TCP", [
                is(0, INT, &[net::AF_INET, net::AF_INET6]),
                is(1, net::SOCK_TYPE_MASK, &[net::SOCK_STREAM]),
                is(2, INT, &[0]),
            ])
            .otherwise(EPERM, OTHER),
        on(setsockopt)
            .allow("one peer, two ports", option(net::SOL_SOCKET, net::SO_REUSEADDR))
            .allow("the peer's own address", option(net::SOL_IP, net::IP_TRANSPARENT))
            .allow("the peer's own address", option(net::SOL_IPV6, net::IPV6_TRANSPARENT))
            .otherwise(EPERM, OTHER),
    ]
}

/// What our network edge makes and sets: TCP and UDP sockets, their end without a
/// reset's delay, no delay of small writes, and the size of a pipe.
pub fn edge() -> Vec<Conditional> {
    const OTHER: &str = "not needed by the network edge";
    let kinds = [net::SOCK_STREAM, net::SOCK_DGRAM];
    let option = |level, name| [is(1, INT, &[level]), is(2, INT, &[name])];
    vec![
        on(socket)
            .allow("TCP and UDP", [
                is(0, INT, &[net::AF_INET, net::AF_INET6]),
                is(1, net::SOCK_TYPE_MASK, &kinds),
                is(2, INT, &[0]),
            ])
            .otherwise(EPERM, OTHER),
        on(setsockopt)
            .allow("resets", option(net::SOL_SOCKET, net::SO_LINGER))
            .allow("small writes at once", option(net::IPPROTO_TCP, net::TCP_NODELAY))
            .otherwise(EPERM, OTHER),
        on(fcntl).allow("large pipes", [is(1, INT, &[process::F_SETPIPE_SZ])]).otherwise(EPERM, OTHER),
        on(getsockopt)
            .allow("errors of connect", option(net::SOL_SOCKET, net::SO_ERROR))
            .allow("what has yet to arrive", option(net::SOL_SOCKET, net::SO_MEMINFO))
            .otherwise(EPERM, OTHER),
    ]
}
