//! [pure] Lock-down: U2, keyring, capabilities, no_new_privs, Landlock, seccomp.

use super::ids::Maps;
use super::order::Draft;
use super::{Op, root};
use crate::confine::landlock::{self, Access as Rights, PathRule};
use crate::confine::seccomp::preset::{self, FilterContext};
use crate::linux::capability::Capability;
use crate::linux::syscall::Arch;
use crate::policy::words::Word;
use crate::policy::{Access, Control};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;
use std::collections::BTreeSet;

pub(super) fn plan(draft: &mut Draft<'_>, maps: &Maps) {
    super::limits::rlimits(draft);
    draft.always(Op::JobUser {
        uids: maps.job_uids.clone(),
        gids: maps.job_gids.clone(),
        setgroups: !maps.single,
    });
    draft.always(Op::Keyring);
    capabilities(draft, maps);
    draft.always(Op::NoNewPrivileges);
    draft.control(
        "no_new_privs",
        "yes".to_owned(),
        "yes".to_owned(),
        &Origin::Always,
    );
    landlock(draft);
    seccomp(draft);
}

/// A one-id host view has no use for capabilities; an image keeps what the policy
/// says. Init needs what starting a command as another user takes.
fn capabilities(draft: &mut Draft<'_>, maps: &Maps) {
    let job: BTreeSet<Capability> = if maps.single {
        BTreeSet::new()
    } else {
        draft.policy.capabilities.keys().copied().collect()
    };
    let mut init = job.clone();
    if !maps.single {
        init.extend([Capability::SETUID, Capability::SETGID, Capability::KILL]);
    }
    let names: Vec<&str> = job.iter().map(|cap| cap.name()).collect();
    let actual = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    };
    let why = draft
        .policy
        .capabilities
        .values()
        .next()
        .map_or(Origin::Always, |grant| grant.origin.clone());
    draft.control("capabilities", actual.clone(), actual, &why);
    draft.step(
        Op::Capabilities {
            bounding: job.clone(),
            job,
            init,
        },
        why,
    );
}

fn landlock(draft: &mut Draft<'_>) {
    let minimum = draft.policy.landlock_minimum_abi.clone();
    let abi = draft.facts.landlock_abi;
    let rules = landlock::ruleset(abi, minimum.value, &rules(draft));
    let actual = match rules.handled_fs {
        0 => format!("ABI {abi}: no file rules"),
        _ => format!("ABI {abi}"),
    };
    let requested = format!("ABI {} or newer", minimum.value);
    if rules.degraded {
        draft.weaker(
            Control::Landlock,
            "landlock",
            requested,
            actual,
            &minimum.origin,
            "Linux 5.19 or newer with landlock in its lsm= list",
        );
    } else {
        draft.control("landlock", requested, actual, &minimum.origin);
    }
    if rules.handled_fs != 0 || rules.scoped != 0 {
        draft.step(Op::Landlock { rules }, minimum.origin);
    }
}

/// What is writable by its mount is writable here, and nothing else.
fn rules(draft: &Draft<'_>) -> Vec<PathRule> {
    let rule = |path: &str, access, directory| PathRule {
        path: path.to_owned(),
        access,
        directory,
    };
    let everything = if root::writable(draft) {
        Rights::ReadWrite
    } else {
        Rights::ReadExecute
    };
    let mut rules = vec![rule("/", everything, true)];
    for step in &draft.steps {
        match &step.op {
            // mq_open(2) goes through a mount of the kernel's own, below no directory:
            // only a rule for the root of the file system itself reaches its queues.
            Op::Tmpfs { path, .. } | Op::Overlay { path, .. } | Op::Mqueue { path } => {
                rules.push(rule(path, Rights::ReadWrite, true));
            }
            Op::Bind {
                path,
                attributes,
                source,
            } if !attributes.read_only && !attributes.devices => {
                let directory = draft.directories.contains(source);
                rules.push(rule(path, Rights::ReadWrite, directory));
            }
            _ => {}
        }
    }
    // Device nodes, terminals, and what a process may write of its own in /proc.
    rules.push(rule("/dev", Rights::Device, true));
    rules.push(rule("/proc", Rights::Device, true));
    rules
}

fn seccomp(draft: &mut Draft<'_>) {
    let writable_host_dir = draft
        .request
        .workspace
        .as_ref()
        .is_some_and(|workspace| workspace.access == Access::Rw)
        || draft.request.mounts.iter().any(|mount| mount.writable);
    let Some(arch) = Arch::from_machine(&draft.facts.machine) else {
        let machine = draft.facts.machine.clone();
        draft.refuse(Diagnostic::error(format!(
            "no system-call table for {machine}"
        )));
        return;
    };
    let context = FilterContext {
        arch,
        writable_host_dir,
        refuse_memfd: draft.policy.resources.memory.value.is_some() && !draft.memory_by_cgroup(),
        refuse_affinity: draft
            .steps
            .iter()
            .any(|step| matches!(step.op, Op::Affinity { .. })),
        notify_available: draft.facts.seccomp.user_notify,
    };
    let profile = draft.policy.syscalls.profile.clone();
    match preset::filter(&draft.policy.syscalls, &context) {
        Ok(filter) => {
            let word = profile.value.word().to_owned();
            draft.control("seccomp", word.clone(), word, &profile.origin);
            draft.step(Op::Seccomp { filter }, profile.origin);
        }
        Err(unknown) => {
            for call in unknown {
                draft.refuse(Diagnostic::error(format!("{}: {call}", call.origin)));
            }
        }
    }
}
