//! [pure] The policy line that would allow what was refused, and what it would risk.

use crate::confine::seccomp::profile::{ALLOWED, BEYOND, REFUSED};
use crate::confine::seccomp::{Filter, conditions};
use crate::linux::syscall::Syscall::{self, *};
use crate::policy::SyscallProfile::{Job, Strict};
use serde::Serialize;

/// What would change an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// A line of the policy.
    Policy {
        /// The line, with its table in front.
        line: String,
        /// What it would allow, in one sentence.
        risk: String,
    },
    /// Something other than a policy line.
    Advice(String),
    /// Nothing: no policy can allow it.
    None,
}

impl Remedy {
    /// A policy line and its risk.
    pub fn policy(line: impl Into<String>, risk: impl Into<String>) -> Self {
        Self::Policy {
            line: line.into(),
            risk: risk.into(),
        }
    }
}

/// What would allow this call with these arguments.
pub fn of_call(filter: &Filter, call: Syscall, arguments: &[u64; 6]) -> Remedy {
    let reason = filter.reason(call, arguments);
    if let Some(origin) = reason.strip_prefix("denied by ") {
        return Remedy::Advice(format!("take `{call}` out of [syscalls] deny, {origin}"));
    }
    let clauses = conditions::no_set_id()
        .into_iter()
        .flat_map(|cases| cases.clauses);
    let set_id = clauses.into_iter().any(|clause| clause.why == reason);
    let listed = ALLOWED.iter().find(|group| group.calls.contains(&call));
    let always = filter
        .groups
        .iter()
        .any(|group| group.calls.contains(&call));
    match listed {
        _ if set_id => Remedy::Advice(COPY.to_owned()),
        Some(_) if always && reason != BEYOND => of_situation(call),
        Some(group) if group.from == Job && reason == BEYOND => profile(),
        Some(_) if job_allows(call, arguments) => profile(),
        _ => grant(call),
    }
}

const COPY: &str =
    "no grant lifts it while a directory of the host is writable: use --workspace DIR:copy";

/// No grant lifts what the host's situation takes away.
fn of_situation(call: Syscall) -> Remedy {
    Remedy::Advice(match call {
        openat2 | fchmodat2 => COPY.to_owned(),
        memfd_create | sched_setaffinity => {
            "no grant lifts it here: give the user a delegated cgroup, see cofferdam doctor"
                .to_owned()
        }
        _ => "no grant lifts it in this situation".to_owned(),
    })
}

fn job_allows(call: Syscall, arguments: &[u64; 6]) -> bool {
    let of = |profile| {
        conditions::of(profile)
            .into_iter()
            .find(|cases| cases.call == call)
    };
    let refuses = of(Strict).is_some_and(|cases| !cases.verdict(arguments).allows());
    refuses && of(Job).is_none_or(|cases| cases.verdict(arguments).allows())
}

fn profile() -> Remedy {
    Remedy::policy(
        "[syscalls] profile = \"job\"",
        "the job reaches all the kernel code that builds and tests need, some 90 calls more",
    )
}

fn grant(call: Syscall) -> Remedy {
    let line = format!("[syscalls] allow = [{{ name = \"{call}\", why = \"…\" }}]");
    Remedy::policy(line, risk(call))
}

/// What granting the call allows, in one sentence.
pub fn risk(call: Syscall) -> String {
    let known = RISKS.iter().find(|(calls, _)| calls.contains(&call));
    let refused = REFUSED.iter().find(|group| group.calls.contains(&call));
    match (known, refused) {
        (Some((_, risk)), _) => (*risk).to_owned(),
        (None, Some(group)) => format!("the call works again, though: {}", group.why),
        (None, None) => "the call works with all arguments, not only with these".to_owned(),
    }
}

#[rustfmt::skip]
const RISKS: &[(&[Syscall], &str)] = &[
    (&[clone, clone3, unshare, setns],
        "the job can make and join namespaces and hold every capability in them; most kernel exploits of a container begin there"),
    (&[mount, umount2, pivot_root, chroot, fsopen, fsconfig, fsmount, fspick, move_mount, open_tree, open_tree_attr, mount_setattr],
        "the job reaches the kernel's mount code; the mounts it sees stay locked, but bugs in that code have broken out of containers"),
    (&[bpf, perf_event_open, userfaultfd],
        "the job reaches a part of the kernel whose bugs have often given root on the host, or that makes other bugs easy to use"),
    (&[io_uring_setup, io_uring_enter, io_uring_register],
        "the job opens files and sockets past this filter, through code whose bugs have often given root on the host"),
    (&[add_key, request_key, keyctl],
        "the job uses the keyring code, counts against the quota of the host's user, and may reach keys that user holds"),
    (&[ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, kcmp, process_madvise, process_mrelease],
        "one process of the job can read and change every other process of the same sandbox; none outside its pid namespace"),
    (&[open_by_handle_at, name_to_handle_at],
        "the job may open files of a mounted host file system by number, past the mounts that confine it"),
    (&[reboot, kexec_load, kexec_file_load, init_module, finit_module, delete_module, swapon, swapoff, acct, syslog, vhangup, quotactl, quotactl_fd, sethostname, setdomainname],
        "the kernel still asks for a capability that the job does not have, so the call fails all the same; its code becomes reachable"),
    (&[settimeofday, clock_settime, clock_adjtime, adjtimex],
        "the kernel still asks for CAP_SYS_TIME over the host, so setting fails all the same; reading the clock's state works"),
    (&[iopl, ioperm, modify_ldt],
        "the job reaches rarely used entry code of the processor, where bugs have given root on the host"),
    (&[fanotify_init, fanotify_mark],
        "the job can watch accesses to the file systems it sees, the host's programs among them"),
    (&[socket],
        "every family and protocol works: the kernel loads rarely used network modules for the job, where many of its exploitable bugs were"),
    (&[setsockopt],
        "every option of every protocol works, kTLS, packet filters and IPsec among them, where many exploitable bugs were"),
    (&[ioctl],
        "every request works: the job may type into a terminal that it shares, and reaches file-system code of the host"),
    (&[mknod, mknodat],
        "the job may ask for device nodes; its mounts are nodev and the kernel wants a capability, so few of them work"),
    (&[personality],
        "old binary formats and executable stacks work, which makes bugs in the job's programs easier to use"),
    (&[sched_setscheduler, sched_setattr, ioprio_set],
        "real-time classes may starve other programs of the host, as far as its limits let the job use them"),
    (&[migrate_pages, move_pages],
        "the job can move memory pages between nodes, and learn where they lie"),
    (&[copy_file_range],
        "the job can share extents of files with the host's file system, code that had exploitable bugs (CVE-2026-64600)"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::seccomp::preset::{self, FilterContext, cold};
    use crate::linux::syscall::Arch;
    use crate::policy::{OnDenied, SyscallProfile, Syscalls};
    use crate::source::origin::{Origin, Sourced};

    fn filter(profile: SyscallProfile, deny: &[&str]) -> Filter {
        let policy = Syscalls {
            profile: Sourced::new(profile, Origin::Always),
            allow: vec![],
            deny: deny
                .iter()
                .map(|name| {
                    Sourced::new(
                        (*name).to_owned(),
                        Origin::File {
                            path: "p.toml".into(),
                            line: 3,
                        },
                    )
                })
                .collect(),
            on_denied: Sourced::new(OnDenied::Record, Origin::Always),
        };
        let context = FilterContext {
            arch: Arch::X86_64,
            writable_host_dir: true,
            refuse_memfd: true,
            refuse_affinity: true,
            notify_available: true,
        };
        preset::filter(&policy, &context).unwrap()
    }

    fn line(filter: &Filter, call: Syscall, arguments: [u64; 6]) -> String {
        assert!(
            !filter.verdict(call, &arguments).allows(),
            "{call} is allowed"
        );
        match of_call(filter, call, &arguments) {
            Remedy::Policy { line, .. } => line,
            Remedy::Advice(advice) => advice,
            Remedy::None => "none".to_owned(),
        }
    }

    #[test]
    fn the_line_fits_the_reason() {
        let (job, strict) = (filter(Job, &["ptrace"]), filter(Strict, &[]));
        let grant = |name| format!("[syscalls] allow = [{{ name = \"{name}\", why = \"…\" }}]");
        let profile = "[syscalls] profile = \"job\"";
        assert_eq!(line(&job, bpf, [0; 6]), grant("bpf"));
        assert_eq!(line(&job, socket, [17, 3, 0, 0, 0, 0]), grant("socket"));
        assert_eq!(
            line(&job, clone, [0x1000_0000, 0, 0, 0, 0, 0]),
            grant("clone")
        );
        assert_eq!(
            line(&job, ptrace, [0; 6]),
            "take `ptrace` out of [syscalls] deny, p.toml:3"
        );
        assert_eq!(line(&job, chmod, [0, 0o4755, 0, 0, 0, 0]), COPY);
        assert_eq!(line(&job, openat2, [0; 6]), COPY);
        assert!(line(&job, memfd_create, [0; 6]).contains("delegated cgroup"));
        assert_eq!(line(&strict, chown, [0; 6]), profile);
        assert_eq!(line(&strict, socket, [16, 3, 0, 0, 0, 0]), profile);
        assert_eq!(line(&strict, socket, [17, 3, 0, 0, 0, 0]), grant("socket"));
        assert_eq!(line(&strict, ptrace, [0; 6]), grant("ptrace"));
    }

    #[test]
    fn what_the_line_says_is_true() {
        for (&call, arguments) in Syscall::ALL.iter().zip(std::iter::repeat([0; 6])) {
            let strict = filter(Strict, &[]);
            if strict.verdict(call, &arguments).allows() || call.number(Arch::X86_64).is_none() {
                continue;
            }
            if let Remedy::Policy { line, .. } = of_call(&strict, call, &arguments)
                && line.contains("profile")
            {
                assert!(
                    filter(Job, &[]).verdict(call, &arguments).allows(),
                    "{call}"
                );
            }
        }
    }

    #[test]
    fn every_recorded_call_has_a_risk_of_its_own() {
        for &call in Syscall::ALL.iter().filter(|&&call| cold(call)) {
            assert!(
                RISKS.iter().any(|(calls, _)| calls.contains(&call)),
                "{call}"
            );
        }
    }
}
