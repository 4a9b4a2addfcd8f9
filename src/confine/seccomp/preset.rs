//! [pure] Policy → filter: base profile, grants, what the host's situation takes away, denials.
//!
//! In that order, each layer over the one before: a grant lifts what the
//! profile says of a call, arguments included; no grant lifts what the
//! situation takes away; a denial beats a grant.

use super::profile::{ALLOWED, BEYOND, REFUSED};
use super::{Conditional, Errno, Filter, Group, Verdict, Why, conditions};
use crate::linux::syscall::{Arch, Syscall};
use crate::policy::{OnDenied, SyscallProfile, Syscalls};
use crate::source::origin::Origin;
use std::fmt;

/// What the filter depends on beside the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterContext {
    /// The machine's architecture.
    pub arch: Arch,
    /// A directory of the host is mounted writable: no set-id bits, and
    /// openat2 and fchmodat2, whose modes no filter sees, answer ENOSYS.
    pub writable_host_dir: bool,
    /// Memory is limited by the sizes of tmpfs alone: memfd_create answers ENOSYS.
    pub refuse_memfd: bool,
    /// CPUs are limited by affinity alone: sched_setaffinity is refused.
    pub refuse_affinity: bool,
    /// SECCOMP_RET_USER_NOTIF works and somebody listens; without it
    /// `on_denied = "record"` acts as `"errno"`.
    pub notify_available: bool,
}

/// A name in `[syscalls]` that is no system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCall {
    /// As written.
    pub name: String,
    /// The known name that is most like it.
    pub nearest: &'static str,
    /// Who wrote it.
    pub origin: Origin,
}

impl fmt::Display for UnknownCall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, nearest, .. } = self;
        write!(
            out,
            "unknown system call `{name}`; the nearest known one is `{nearest}`"
        )
    }
}

impl std::error::Error for UnknownCall {}

/// The filter of a job. Every name that is no system call is an error.
pub fn filter(policy: &Syscalls, context: &FilterContext) -> Result<Filter, Vec<UnknownCall>> {
    let granted = policy
        .allow
        .iter()
        .map(|grant| (&grant.name, &grant.origin));
    let denied = policy.deny.iter().map(|name| (&name.value, &name.origin));
    let unknown: Vec<_> = granted
        .chain(denied)
        .filter_map(|(name, origin)| unknown(name, origin))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let mut draft = Draft::of(policy.profile.value);
    for grant in &policy.allow {
        draft.set(
            &grant.name,
            Verdict::Allow,
            format!("granted by {}: {}", grant.origin, grant.why),
        );
    }
    draft.restrict(context);
    for name in &policy.deny {
        draft.deny(&name.value, &name.origin);
    }
    match policy.on_denied.value {
        OnDenied::Errno => {}
        OnDenied::Kill => draft.refusals(|_, verdict| match verdict {
            Verdict::Errno(Errno::EPERM) => Verdict::Kill,
            other => other,
        }),
        OnDenied::Record if context.notify_available => draft.refusals(record),
        OnDenied::Record => {}
    }
    Ok(draft.finish(context.arch))
}

/// The filter of our gateway: a poll loop over sockets and process descriptors
/// in a static program, after all set-up. It makes no files, processes or
/// executable memory; with published ports it makes TCP sockets and connects
/// them as somebody else, and no others.
pub fn gateway_filter(arch: Arch, publishes: bool) -> Filter {
    use Syscall::*;
    const LOOP: &[Syscall] = &[
        read,
        write,
        readv,
        writev,
        recvmsg,
        sendmsg,
        recvfrom,
        sendto,
        poll,
        ppoll,
        close,
        fcntl,
        pidfd_send_signal,
        waitid,
        wait4,
        restart_syscall,
        clock_gettime,
        exit,
        exit_group,
    ];
    const DIAL: &[Syscall] = &[socket, setsockopt, bind, connect];
    let (dial, cases) = match publishes {
        true => (DIAL, conditions::gateway()),
        false => (&[][..], Vec::new()),
    };
    own(
        arch,
        &[LOOP, dial].concat(),
        "polls its socket and process descriptors, and answers",
        "not needed by the gateway",
        cases,
    )
}

/// The filter of our network edge: an epoll loop over the sockets it was given
/// and those it makes, all of them TCP or UDP. It opens no file, makes no
/// process, no other socket and no executable memory.
pub fn edge_filter(arch: Arch) -> Filter {
    use Syscall::*;
    const LOOP: &[Syscall] = &[
        read,
        write,
        recvfrom,
        sendto,
        recvmsg,
        sendmsg,
        splice,
        pipe2,
        fcntl,
        accept4,
        socket,
        connect,
        getsockname,
        getsockopt,
        setsockopt,
        shutdown,
        close,
        epoll_ctl,
        epoll_wait,
        epoll_pwait,
        epoll_pwait2,
        restart_syscall,
        clock_gettime,
        exit,
        exit_group,
    ];
    own(
        arch,
        LOOP,
        "relays connections and answers DNS",
        "not needed by the network edge",
        conditions::edge(),
    )
}

/// A filter of one of our own static programs: its loop, and what any needs.
fn own(
    arch: Arch,
    calls: &[Syscall],
    why: &'static str,
    beyond: &'static str,
    cases: Vec<Conditional>,
) -> Filter {
    use Syscall::*;
    const RUNTIME: &[Syscall] = &[
        mmap,
        mprotect,
        munmap,
        mremap,
        madvise,
        brk,
        futex,
        getrandom,
        sched_yield,
        sigaltstack,
        rt_sigreturn,
        rt_sigprocmask,
        rt_sigaction,
        getpid,
        gettid,
        tgkill,
    ];
    let mut draft = Draft::refusing(beyond);
    draft.allow(calls, why);
    draft.allow(RUNTIME, "memory, locks and signals of a static program");
    conditions::no_new_code()
        .into_iter()
        .chain(cases)
        .for_each(|cases| draft.narrow(cases));
    draft.finish(arch)
}

fn unknown(name: &str, origin: &Origin) -> Option<UnknownCall> {
    let known = Syscall::from_name(name).is_some();
    let unknown = || UnknownCall {
        name: name.to_owned(),
        nearest: Syscall::nearest(name),
        origin: origin.clone(),
    };
    (!known).then(unknown)
}

/// `record` turns refusals of cold calls into notifications with the same errno.
/// ENOSYS stays: programs try those calls at every start.
fn record(call: Syscall, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Errno(errno @ (Errno::EPERM | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT))
            if cold(call) =>
        {
            Verdict::Record(errno)
        }
        other => other,
    }
}

/// Whether refusals of this call are recorded: all of `profile`'s cold groups,
/// and those whose refused arguments no ordinary program uses.
pub fn cold(call: Syscall) -> bool {
    use Syscall::*;
    let listed = REFUSED
        .iter()
        .any(|group| group.cold && group.calls.contains(&call));
    listed
        || matches!(
            call,
            socket | clone | unshare | personality | mknod | mknodat
        )
}

/// The rule of one call while layers are put over each other.
enum Entry {
    Always(Verdict, Why),
    Cases(Conditional),
}

/// One entry for each known call.
struct Draft(Vec<Entry>);

impl Draft {
    fn refusing(why: &'static str) -> Self {
        let refused = || Entry::Always(Verdict::Errno(Errno::EPERM), why.into());
        Self(Syscall::ALL.iter().map(|_| refused()).collect())
    }

    fn of(profile: SyscallProfile) -> Self {
        let mut draft = Self::refusing(BEYOND);
        let within = |from| from == SyscallProfile::Strict || profile == SyscallProfile::Job;
        for group in ALLOWED.iter().filter(|group| within(group.from)) {
            draft.allow(group.calls, group.why);
        }
        for group in REFUSED {
            for &call in group.calls {
                draft.0[call as usize] =
                    Entry::Always(Verdict::Errno(group.errno), group.why.into());
            }
        }
        conditions::of(profile)
            .into_iter()
            .for_each(|cases| draft.narrow(cases));
        draft
    }

    fn allow(&mut self, calls: &[Syscall], why: &'static str) {
        for &call in calls {
            self.0[call as usize] = Entry::Always(Verdict::Allow, why.into());
        }
    }

    fn set(&mut self, name: &str, verdict: Verdict, why: String) {
        if let Some(call) = Syscall::from_name(name) {
            self.0[call as usize] = Entry::Always(verdict, why.into());
        }
    }

    /// Puts clauses in front of what a call has; a refused call stays refused.
    fn narrow(&mut self, mut cases: Conditional) {
        let entry = &mut self.0[cases.call as usize];
        match entry {
            Entry::Always(Verdict::Allow, _) => *entry = Entry::Cases(cases),
            Entry::Always(..) => {}
            Entry::Cases(have) => {
                cases.clauses.append(&mut have.clauses);
                have.clauses = cases.clauses;
            }
        }
    }

    fn restrict(&mut self, context: &FilterContext) {
        const UNSEEN: &str = "modes with set-id bits would lie in memory where no filter sees them";
        if context.writable_host_dir {
            conditions::no_set_id()
                .into_iter()
                .for_each(|cases| self.narrow(cases));
            self.refuse(Syscall::openat2, Errno::ENOSYS, UNSEEN);
            self.refuse(Syscall::fchmodat2, Errno::ENOSYS, UNSEEN);
        }
        if context.refuse_memfd {
            self.refuse(
                Syscall::memfd_create,
                Errno::ENOSYS,
                "memory is limited by tmpfs sizes alone on this host",
            );
        }
        if context.refuse_affinity {
            self.refuse(
                Syscall::sched_setaffinity,
                Errno::EPERM,
                "cpus are limited by affinity alone on this host",
            );
        }
    }

    fn refuse(&mut self, call: Syscall, errno: Errno, why: &'static str) {
        self.0[call as usize] = Entry::Always(Verdict::Errno(errno), why.into());
    }

    /// A call the profile already refuses keeps its errno: C libraries depend
    /// on ENOSYS for clone3, say.
    fn deny(&mut self, name: &str, origin: &Origin) {
        let Some(call) = Syscall::from_name(name) else {
            return;
        };
        let kept = match REFUSED.iter().find(|group| group.calls.contains(&call)) {
            Some(group) => group.errno,
            None => Errno::EPERM,
        };
        self.set(name, Verdict::Errno(kept), format!("denied by {origin}"));
    }

    /// Changes every verdict that is not an allowance.
    fn refusals(&mut self, change: impl Fn(Syscall, Verdict) -> Verdict) {
        for (&call, entry) in Syscall::ALL.iter().zip(&mut self.0) {
            match entry {
                Entry::Always(verdict, _) => *verdict = change(call, *verdict),
                Entry::Cases(cases) => {
                    let thens = cases.clauses.iter_mut().map(|clause| &mut clause.then);
                    thens
                        .chain([&mut cases.otherwise])
                        .for_each(|verdict| *verdict = change(call, *verdict));
                }
            }
        }
    }

    /// Collects calls with one verdict and reason; drops what the architecture lacks.
    fn finish(self, arch: Arch) -> Filter {
        let unlisted = Verdict::Errno(Errno::ENOSYS);
        let mut filter = Filter {
            arch,
            groups: Vec::new(),
            conditional: Vec::new(),
            unlisted,
        };
        for (&call, entry) in Syscall::ALL.iter().zip(self.0) {
            match entry {
                _ if call.number(arch).is_none() => {}
                Entry::Cases(cases) => filter.conditional.push(cases),
                Entry::Always(then, why) => {
                    match filter
                        .groups
                        .iter_mut()
                        .find(|group| group.then == then && group.why == why)
                    {
                        Some(group) => group.calls.push(call),
                        None => filter.groups.push(Group {
                            then,
                            why,
                            calls: vec![call],
                        }),
                    }
                }
            }
        }
        filter
    }
}
