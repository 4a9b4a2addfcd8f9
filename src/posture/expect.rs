//! [pure] What a Plan says /proc must show.

use super::observation::Kind;
use crate::confine::idmap::Extent;
use crate::linux::capability::Capability;
use crate::sandbox::plan::{Attributes, Namespace, Op, Plan, Rlimit, Root};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What must hold of the processes of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// Namespaces that are not the host's.
    pub namespaces: BTreeSet<Kind>,
    /// Maps of U0.
    pub outer_uids: Vec<Extent>,
    /// Maps of U0.
    pub outer_gids: Vec<Extent>,
    /// Maps of U2.
    pub uids: Vec<Extent>,
    /// Maps of U2.
    pub gids: Vec<Extent>,
    /// Supplementary groups of the caller are gone.
    pub groups_dropped: bool,
    /// Bounding set of everybody inside.
    pub bounding: u64,
    /// The most a job may have.
    pub job: u64,
    /// Exactly what init has.
    pub init: u64,
    /// no_new_privs.
    pub no_new_privileges: bool,
    /// Seccomp filters of each thread, at least.
    pub seccomp_filters: u32,
    /// The filter has a listener, and so nobody else makes one.
    pub listener: bool,
    /// Pid 1 is the job itself.
    pub job_is_init: bool,
    /// The gateway's network namespace is another than everybody else's.
    pub behind_gateway: bool,
    /// Everything inside is in a cgroup of its own.
    pub cgroup: bool,
    /// Limits by the kernel's name: soft, hard.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// Mounts in the order they are made.
    pub mounts: Vec<ExpectedMount>,
    /// Controls of the plan that /proc does not show.
    pub not_observable: Vec<&'static str>,
}

/// A planned mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedMount {
    /// Where.
    pub path: String,
    /// Its type; any for mounts of what exists already.
    pub kind: Option<&'static str>,
    /// Options it must have.
    pub options: BTreeSet<&'static str>,
    /// It has no other of the options that restrict than those.
    pub exact: bool,
    /// Mounts of the host below the source come with it, restricted likewise.
    pub carries: bool,
    /// Root of the mounted file system that it must show.
    pub root: Option<&'static str>,
}

/// What the plan says of the processes of its sandbox.
pub fn expected(plan: &Plan) -> Expectation {
    let mut expectation = Expectation {
        job_is_init: plan.exec.pid1,
        ..Expectation::default()
    };
    for step in &plan.steps {
        add(&mut expectation, &step.op);
        if let Some(mount) = mount(&step.op) {
            expectation.mounts.push(mount);
        }
    }
    expectation.listener = plan.supervise.records_refusals;
    expectation
}

fn add(expectation: &mut Expectation, op: &Op) {
    match op {
        Op::OuterUser { uids, gids, .. } => {
            expectation.outer_uids.clone_from(uids);
            expectation.outer_gids.clone_from(gids);
        }
        Op::Namespaces { kinds } => {
            expectation
                .namespaces
                .extend(kinds.iter().flat_map(|kind| kinds_of(*kind)));
        }
        Op::JobUser { uids, gids, .. } => {
            expectation.namespaces.extend([Kind::User, Kind::Mnt]);
            expectation.uids.clone_from(uids);
            expectation.gids.clone_from(gids);
        }
        Op::Groups => expectation.groups_dropped = true,
        Op::Capabilities {
            bounding,
            job,
            init,
        } => {
            expectation.bounding = bits(bounding);
            expectation.job = bits(job);
            expectation.init = bits(init);
        }
        Op::NoNewPrivileges => expectation.no_new_privileges = true,
        Op::Seccomp { .. } => expectation.seccomp_filters += 1,
        Op::Cgroup { .. } => expectation.cgroup = true,
        Op::Rlimits { limits } => {
            expectation.limits = limits
                .iter()
                .map(|(name, soft, hard)| (limit(*name).to_owned(), (*soft, *hard)))
                .collect();
        }
        Op::SealRoot => seal(&mut expectation.mounts),
        Op::Landlock { .. } => expectation.not_observable.push("landlock domain"),
        Op::Keyring => expectation.not_observable.push("session keyring"),
        Op::NamespaceLimits { .. } => expectation.not_observable.push("user.* limits of U0"),
        Op::Affinity { .. } => expectation.not_observable.push("CPU affinity"),
        Op::Network { .. } => expectation.behind_gateway = true,
        Op::Loopback
        | Op::Hostname { .. }
        | Op::Root { .. }
        | Op::File { .. }
        | Op::Symlink { .. }
        | Op::Bind { .. }
        | Op::Placeholder { .. }
        | Op::Pin { .. }
        | Op::Tmpfs { .. }
        | Op::Overlay { .. }
        | Op::Proc { .. }
        | Op::Devpts { .. }
        | Op::Mqueue { .. }
        | Op::Terminal { .. }
        | Op::Mask { .. }
        | Op::ReadOnly { .. }
        | Op::Pivot => {}
    }
}

fn bits(set: &BTreeSet<Capability>) -> u64 {
    set.iter().fold(0, |bits, cap| bits | cap.bit())
}

fn kinds_of(namespace: Namespace) -> Vec<Kind> {
    match namespace {
        Namespace::Mount => vec![Kind::Mnt],
        Namespace::Pid => vec![Kind::Pid, Kind::PidForChildren],
        Namespace::Network => vec![Kind::Net],
        Namespace::Ipc => vec![Kind::Ipc],
        Namespace::Uts => vec![Kind::Uts],
        Namespace::Cgroup => vec![Kind::Cgroup],
    }
}

/// Names of `lnames` in fs/proc/base.c.
fn limit(name: Rlimit) -> &'static str {
    match name {
        Rlimit::Core => "Max core file size",
        Rlimit::Nofile => "Max open files",
        Rlimit::Nproc => "Max processes",
        Rlimit::Memlock => "Max locked memory",
        Rlimit::Msgqueue => "Max msgqueue size",
        Rlimit::Sigpending => "Max pending signals",
        Rlimit::Rtprio => "Max realtime priority",
        Rlimit::Nice => "Max nice priority",
    }
}

fn seal(mounts: &mut [ExpectedMount]) {
    for root in mounts.iter_mut().filter(|mount| mount.path == "/") {
        root.options.insert("ro");
    }
}

/// The options of mountinfo that these attributes become.
fn options(attributes: Attributes) -> BTreeSet<&'static str> {
    [
        ("ro", attributes.read_only),
        ("noexec", attributes.no_exec),
        ("nosuid", !attributes.set_id),
        ("nodev", !attributes.devices),
    ]
    .into_iter()
    .filter_map(|(option, set)| set.then_some(option))
    .collect()
}

/// A file system of our own: exactly these options.
fn own(path: &str, kind: &'static str, attributes: Attributes) -> ExpectedMount {
    ExpectedMount {
        path: path.to_owned(),
        kind: Some(kind),
        options: options(attributes),
        exact: true,
        carries: false,
        root: Some("/"),
    }
}

/// A mount of what is there already: at least these options.
fn existing(path: &str, attributes: Attributes, carries: bool) -> ExpectedMount {
    let options = options(attributes);
    ExpectedMount {
        path: path.to_owned(),
        kind: None,
        options,
        exact: false,
        carries,
        root: None,
    }
}

fn mount(op: &Op) -> Option<ExpectedMount> {
    let plain = Attributes::default();
    let kernel = Attributes {
        no_exec: true,
        ..plain
    };
    let set_id = Attributes {
        set_id: true,
        ..plain
    };
    Some(match op {
        Op::Root {
            root: Root::Tmpfs { .. },
        } => own("/", "tmpfs", plain),
        Op::Root {
            root: Root::Overlay { .. },
        } => own("/", "overlay", set_id),
        Op::Bind {
            path, attributes, ..
        } => existing(path, *attributes, true),
        Op::Tmpfs {
            path, attributes, ..
        } => own(path, "tmpfs", *attributes),
        Op::Overlay {
            path, attributes, ..
        } => own(path, "overlay", *attributes),
        Op::Proc { path } => own(path, "proc", kernel),
        Op::Mqueue { path } => own(path, "mqueue", kernel),
        Op::Devpts { path, .. } => own(
            path,
            "devpts",
            Attributes {
                devices: true,
                ..kernel
            },
        ),
        Op::Pin { path, read_only } => existing(
            path,
            Attributes {
                read_only: *read_only,
                ..plain
            },
            true,
        ),
        Op::ReadOnly { path } => existing(
            path,
            Attributes {
                read_only: true,
                ..kernel
            },
            true,
        ),
        Op::Mask { path, directory } => ExpectedMount {
            root: Some(if *directory { "/directory" } else { "/file" }),
            ..own(
                path,
                "tmpfs",
                Attributes {
                    read_only: true,
                    ..kernel
                },
            )
        },
        _ => return None,
    })
}
