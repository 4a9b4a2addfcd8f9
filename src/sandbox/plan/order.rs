//! [pure] Policy × Request × Facts → Plan: the whole order of a start, in one place.

use super::{
    Enforcement, MapWriter, Namespace, Op, Owners, Plan, Requires, SCHEMA, Source, Step, Supervise,
};
use super::{exec, ids, kernel, limits, lock, network, places, root, workspace};
use crate::host::facts::{Facts, UserNamespaces};
use crate::policy::words::Word;
use crate::policy::{Control, OnDenied, Policy};
use crate::sandbox::request::{HostObject, Request};
use crate::source::diagnostic::Diagnostic;
use crate::source::origin::Origin;
use std::collections::BTreeSet;

/// Bytes of output kept of a detached job.
const LOG_BYTES: u64 = 64 << 20;
/// Events kept per second.
const EVENTS_PER_SECOND: u32 = 100;

/// A plan being written: steps, sources, controls, and what cannot be done.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) policy: &'a Policy,
    pub(super) request: &'a Request,
    pub(super) facts: &'a Facts,
    pub(super) sources: Vec<Source>,
    /// Sources that are directories.
    pub(super) directories: BTreeSet<usize>,
    pub(super) steps: Vec<Step>,
    pub(super) controls: Vec<Enforcement>,
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<Diagnostic>,
}

impl Draft<'_> {
    pub(super) fn step(&mut self, op: Op, why: Origin) {
        self.steps.push(Step { op, why });
    }

    pub(super) fn always(&mut self, op: Op) {
        self.step(op, Origin::Always);
    }

    /// Adds a source and gives its index.
    pub(super) fn source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Adds what was looked at as a source, pinned by its inode.
    pub(super) fn pinned(&mut self, object: &HostObject, owners: Option<Owners>) -> usize {
        let source = self.source(Source {
            inode: Some((object.device, object.inode)),
            handed: self.facts.privileged,
            owners,
            ..Source::at(&object.path)
        });
        if object.directory {
            self.directories.insert(source);
        }
        source
    }

    pub(super) fn refuse(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    pub(super) fn control(&mut self, name: &str, requested: String, actual: String, why: &Origin) {
        self.controls.push(Enforcement {
            control: name.to_owned(),
            requested,
            actual,
            degraded: None,
            why: why.clone(),
        });
    }

    /// A control that is weaker than asked: fine if the policy names it, else a refusal.
    pub(super) fn weaker(
        &mut self,
        control: Control,
        name: &str,
        requested: String,
        actual: String,
        why: &Origin,
        fix: &str,
    ) {
        if !self.policy.degrade.contains_key(&control) {
            let word = control.word();
            self.refuse(
                Diagnostic::error(format!(
                    "{name} {requested} ({why}) cannot be enforced on this host: {actual}"
                ))
                .with_help(format!(
                    "{fix}; or name it in the policy: [degrade] allow = [\"{word}\"]"
                )),
            );
        }
        self.controls.push(Enforcement {
            control: name.to_owned(),
            requested,
            actual,
            degraded: Some(control),
            why: why.clone(),
        });
    }

    /// Can the memory limit be enforced by a cgroup here?
    pub(super) fn memory_by_cgroup(&self) -> bool {
        limits::controllers(&self.facts.cgroup).contains(&"memory")
    }
}

/// Plans one sandbox.
///
/// Total: the same three values give the same answer, and nothing else is looked at.
///
/// # Errors
/// Every reason why this request cannot be met on this host under this policy.
pub fn plan(policy: &Policy, request: &Request, facts: &Facts) -> Result<Plan, Vec<Diagnostic>> {
    let mut draft = Draft {
        policy,
        request,
        facts,
        sources: Vec::new(),
        directories: BTreeSet::new(),
        steps: Vec::new(),
        controls: Vec::new(),
        warnings: Vec::new(),
        problems: Vec::new(),
    };
    require_host(&mut draft);
    let maps = ids::maps(&mut draft);
    let network = network::plan(&mut draft);
    let published = network::published(policy);
    namespaces(&mut draft, &maps);
    limits::plan(&mut draft);
    network::step(&mut draft);
    draft.always(Op::Loopback);
    hostname(&mut draft);
    root::plan(&mut draft, &maps);
    kernel::devices(&mut draft, &maps);
    workspace::plan(&mut draft, &maps);
    kernel::file_systems(&mut draft);
    places::masks(&mut draft);
    places::check(&mut draft);
    limits::fit_tmpfs(&mut draft);
    if !root::writable(&draft) {
        let why = draft.policy.filesystem.rootfs.origin.clone();
        draft.step(Op::SealRoot, why);
    }
    draft.always(Op::Pivot);
    lock::plan(&mut draft, &maps);
    let exec = exec::plan(&mut draft, &maps);
    if !draft.problems.is_empty() {
        return Err(draft.problems);
    }
    Ok(Plan {
        schema: SCHEMA,
        name: request.name.clone(),
        policy: policy.name.clone(),
        requires: Requires {
            uid: facts.caller.uid,
            gid: facts.caller.gid,
            machine: facts.machine.clone(),
            landlock_abi: facts.landlock_abi,
        },
        sources: draft.sources,
        supervise: Supervise {
            timeout: policy.resources.timeout.value,
            log_bytes: LOG_BYTES,
            events_per_second: EVENTS_PER_SECOND,
            records_refusals: policy.syscalls.on_denied.value == OnDenied::Record
                && facts.seccomp.user_notify,
            wait_killable: facts.seccomp.wait_killable,
            disk: limits::disk(policy, request, facts),
            not_kept: workspace::not_kept(request),
        },
        steps: draft.steps,
        network,
        published,
        exec,
        controls: draft.controls,
        warnings: draft.warnings,
    })
}

/// What no policy can do without.
fn require_host(draft: &mut Draft<'_>) {
    if let Some((cause, fix)) = user_namespace_problem(draft.facts.user_namespaces) {
        draft
            .refuse(Diagnostic::error(format!("this host lets {cause}")).with_help(fix.to_owned()));
    }
    if !draft.facts.seccomp.filter {
        draft.refuse(
            Diagnostic::error("this kernel has no seccomp filters")
                .with_help("a kernel with CONFIG_SECCOMP_FILTER is needed"),
        );
    }
    if draft.facts.kernel < (5, 12) {
        let release = &draft.facts.release;
        draft.refuse(
            Diagnostic::error(format!("kernel {release} has no mount_setattr(2)"))
                .with_help("Linux 5.12 or newer is needed; 6.1 and newer are tested"),
        );
    }
    if draft.facts.proc_overmounted {
        draft.refuse(
            Diagnostic::error(
                "/proc has mounts over it, so the kernel refuses a fresh one in a user namespace",
            )
            .with_help(
                "this is usual inside a container: run on the host, or give the container an unmasked /proc",
            ),
        );
    }
}

fn user_namespace_problem(state: UserNamespaces) -> Option<(&'static str, &'static str)> {
    match state {
        UserNamespaces::Available => None,
        UserNamespaces::Missing => Some((
            "no one make user namespaces: the kernel was built without them",
            "a kernel with CONFIG_USER_NS is needed",
        )),
        UserNamespaces::LimitZero => Some((
            "no one make user namespaces: user.max_user_namespaces is 0",
            "sudo sysctl -w user.max_user_namespaces=65536",
        )),
        UserNamespaces::SysctlOff => Some((
            "only root make user namespaces: kernel.unprivileged_userns_clone is 0",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        )),
        UserNamespaces::AppArmor => Some((
            "only confined programs make user namespaces: kernel.apparmor_restrict_unprivileged_userns is 1",
            "load packaging/apparmor/cofferdam: sudo apparmor_parser -r /etc/apparmor.d/cofferdam",
        )),
    }
}

fn namespaces(draft: &mut Draft<'_>, maps: &ids::Maps) {
    let writer = maps.writer;
    draft.always(Op::OuterUser {
        uids: maps.outer_uids.clone(),
        gids: maps.outer_gids.clone(),
        writer,
    });
    let kinds = vec![
        Namespace::Mount,
        Namespace::Pid,
        Namespace::Network,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Cgroup,
    ];
    draft.always(Op::Namespaces { kinds });
    if writer != MapWriter::Caller {
        draft.always(Op::Groups);
    }
}

fn hostname(draft: &mut Draft<'_>) {
    let (name, why) = match &draft.request.hostname {
        Some(name) => (
            name.clone(),
            Origin::Flag {
                name: "--hostname".to_owned(),
            },
        ),
        None => ("cofferdam".to_owned(), Origin::Always),
    };
    draft.step(Op::Hostname { name }, why);
}
