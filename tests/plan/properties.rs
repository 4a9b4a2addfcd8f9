//! What holds for every policy, request and host.

use crate::{hosts, requests};
use cofferdam::host::facts::{Cgroup, Facts, IdRange, UserNamespaces};
use cofferdam::policy::{Access, Control, IdMode, OnDenied, Policy, RootfsMode, TmpfsGrant};
use cofferdam::sandbox::plan::{Op, Plan, Root, Upper, plan};
use cofferdam::sandbox::request::{Mount, Request, User};
use cofferdam::source::origin::{Origin, Sourced};
use proptest::prelude::*;

/// Places that are likely to meet each other.
fn place() -> impl Strategy<Value = String> {
    let likely = [
        "/data/a",
        "/data/b",
        "/data-a",
        "/tmp/x",
        "/home/job/c",
        "/srv/q",
    ];
    let odd = prop::sample::select(vec![
        "/",
        "/data",
        "/data/a",
        "/data/a/b",
        "/data-a",
        "/tmp",
        "/tmp/x",
        "/home",
        "/home/job",
        "/home/u/project",
        "/home/u/project/cache",
        "/workspace",
        "/usr",
        "/usr/local",
        "/etc",
        "/etc/hosts",
        "/proc",
        "/dev/shm",
        "/sys/x",
        "/var/tmp",
    ]);
    prop_oneof![5 => prop::sample::select(likely.to_vec()), 1 => odd].prop_map(str::to_owned)
}

fn any_range() -> impl Strategy<Value = Option<IdRange>> {
    let ids = prop_oneof![Just(100_000u32), Just(0), any::<u32>()];
    let counts = prop_oneof![Just(65_536u32), Just(0), Just(4096), any::<u32>()];
    prop::option::weighted(
        0.1,
        (ids, counts).prop_map(|(start, count)| IdRange { start, count }),
    )
}

fn any_cgroup() -> impl Strategy<Value = Cgroup> {
    let names = prop::sample::subsequence(vec!["cpu", "memory", "pids"], 0..=3);
    (0..4u8, names).prop_map(|(kind, names)| {
        let controllers: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        match kind {
            0 => Cgroup::Delegated {
                dir: "/sys/fs/cgroup/d".to_owned(),
                controllers,
            },
            1 => Cgroup::Systemd {
                bus: "/run/bus".to_owned(),
                controllers,
            },
            2 => Cgroup::V1 {
                controllers: controllers
                    .into_iter()
                    .map(|name| (name, "/cg".to_owned()))
                    .collect(),
            },
            _ => Cgroup::None {
                why: "none".to_owned(),
            },
        }
    })
}

fn any_facts() -> impl Strategy<Value = Facts> {
    let user_namespaces = prop_oneof![
        8 => Just(UserNamespaces::Available),
        1 => Just(UserNamespaces::AppArmor),
        1 => Just(UserNamespaces::LimitZero),
    ];
    let ids = prop_oneof![20 => Just(1000u32), 1 => Just(0), 1 => any::<u32>()];
    let machine = prop_oneof![8 => Just("x86_64"), 2 => Just("aarch64"), 1 => Just("riscv64")];
    let switches = prop::array::uniform5(prop::bool::weighted(0.9));
    (
        (
            user_namespaces,
            ids,
            machine,
            any_range(),
            any_range(),
            any_cgroup(),
        ),
        (switches, prop::array::uniform4(prop::bool::weighted(0.2))),
        (0..12u32, 0..300u32, any::<u64>()),
    )
        .prop_map(|(first, (good, bad), (landlock_abi, cpus, nofile_hard))| {
            let (user_namespaces, own, machine, uids, gids, cgroup) = first;
            let mut facts = hosts::debian_6_1();
            facts.user_namespaces = user_namespaces;
            (facts.caller.uid, facts.caller.gid) = (own, own);
            facts.caller.passwd_gid = Some(own);
            facts.machine = machine.to_owned();
            facts.subordinate.uids = uids.or(facts.subordinate.uids);
            facts.subordinate.gids = gids.or(facts.subordinate.gids);
            facts.cgroup = cgroup;
            facts.overlay_userxattr = good[0];
            facts.tmpfs_user_xattr = good[1];
            facts.seccomp.user_notify = good[2];
            facts.caller.supplementary_groups = good[3];
            facts.seccomp.filter = good[4] || good[3];
            facts.privileged = bad[0];
            facts.proc_overmounted = bad[1] && bad[2];
            (facts.landlock_abi, facts.cpus, facts.nofile_hard) = (landlock_abi, cpus, nofile_hard);
            facts
        })
}

fn any_mount() -> impl Strategy<Value = Mount> {
    (place(), place(), any::<bool>(), any::<bool>()).prop_map(
        |(source, target, directory, writable)| Mount {
            object: requests::object(&source, directory),
            target,
            writable,
            sockets: vec!["s".to_owned()],
            origin: requests::flag("--mount"),
        },
    )
}

fn any_request() -> impl Strategy<Value = Request> {
    let access = prop::sample::select(vec![Access::None, Access::Ro, Access::Copy, Access::Rw]);
    let inside = prop_oneof![4 => Just("/home/u/project".to_owned()), 1 => place()];
    let workspace = prop::option::of((access, inside));
    let user = prop::option::weighted(0.1, (0..70_000u32, 0..70_000u32));
    (
        (
            any::<bool>(),
            workspace,
            prop::collection::vec(any_mount(), 0..3),
        ),
        (user, prop::array::uniform3(any::<bool>()), any::<bool>()),
        prop::option::of("[a-z]{1,8}"),
    )
        .prop_map(
            |((rootfs, workspace, mounts), (user, terminal, keep), hostname)| {
                let mut request = requests::bare();
                request.rootfs = rootfs.then(|| requests::object("/srv/image", true));
                request.workspace = workspace.map(|(access, inside)| {
                    let mut workspace = requests::workspace(access);
                    workspace.inside = inside;
                    workspace
                });
                request.mounts = mounts;
                request.user = user.map(|(uid, gid)| User { uid, gid });
                request.terminal = terminal;
                request.keep = keep;
                request.hostname = hostname;
                request.masked = [("/usr/bin/perl".to_owned(), false)].into();
                request
            },
        )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let mode = prop::sample::select(vec![
        IdMode::Subuid,
        IdMode::Subuid,
        IdMode::Exclusive,
        IdMode::Caller,
    ]);
    let all = vec![
        Control::Cgroup,
        Control::Landlock,
        Control::Groups,
        Control::Disk,
    ];
    let some = prop::sample::subsequence(all.clone(), 0..=4);
    let degrade = prop_oneof![3 => Just(all), 1 => some];
    let memory = prop::option::of(prop_oneof![1_048_576..1u64 << 34, Just(u64::MAX)]);
    let tmpfs = prop::collection::vec(
        (
            place(),
            prop::option::of(prop_oneof![Just(0u64), Just(u64::MAX), 1..1u64 << 36]),
        ),
        0..3,
    );
    (
        (any::<bool>(), mode, degrade, memory, tmpfs),
        (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            prop::bool::weighted(0.3),
        ),
    )
        .prop_map(
            |((strict, mode, degrade, memory, tmpfs), (overlay, kill, rw, masked))| {
                let mut policy =
                    Policy::preset(if strict { "strict" } else { "untrusted" }).unwrap();
                policy.ids.mode.value = mode;
                policy.degrade = degrade
                    .into_iter()
                    .map(|control| (control, Origin::Always))
                    .collect();
                policy.resources.memory.value = memory;
                policy.filesystem.tmpfs = tmpfs
                    .into_iter()
                    .map(|(target, size)| TmpfsGrant {
                        target,
                        size,
                        origin: requests::flag("--tmpfs"),
                    })
                    .collect();
                if overlay {
                    policy.filesystem.rootfs.value = RootfsMode::Overlay;
                }
                if kill {
                    policy.syscalls.on_denied.value = OnDenied::Kill;
                }
                if rw {
                    policy.workspace.access.value = Access::Rw;
                }
                if masked {
                    let path = Sourced::new("/usr/bin/perl".to_owned(), Origin::Always);
                    policy.filesystem.masked.push(path);
                }
                policy
            },
        )
}

/// The steps that change the tree of mounts.
fn mounts(op: &Op) -> bool {
    matches!(
        op,
        Op::Root { .. }
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
            | Op::SealRoot
    )
}

fn at(plan: &Plan, is: impl Fn(&Op) -> bool) -> usize {
    let found: Vec<usize> = (0..plan.steps.len())
        .filter(|&at| is(&plan.steps[at].op))
        .collect();
    assert_eq!(found.len(), 1, "exactly one such step");
    found[0]
}

fn ordered(plan: &Plan) {
    let root = at(plan, |op| matches!(op, Op::Root { .. }));
    let pivot = at(plan, |op| matches!(op, Op::Pivot));
    let user = at(plan, |op| matches!(op, Op::JobUser { .. }));
    let groups = plan.steps.iter().position(|step| step.op == Op::Groups);
    for (index, step) in plan.steps.iter().enumerate() {
        let placeholder = matches!(step.op, Op::Placeholder { .. });
        assert!(
            !mounts(&step.op) || placeholder || (root <= index && index < pivot),
            "{:?}",
            step.op
        );
    }
    assert!(groups.is_none_or(|groups| groups < user));
    assert!(pivot < user);
    assert!(at(plan, |op| matches!(op, Op::OuterUser { .. })) == 0);
    assert!(at(plan, |op| matches!(op, Op::Rlimits { .. })) < user);
    assert!(at(plan, |op| matches!(op, Op::NoNewPrivileges)) > user);
    assert_eq!(
        at(plan, |op| matches!(op, Op::Seccomp { .. })),
        plan.steps.len() - 1
    );
}

fn never_hosts_root(plan: &Plan) {
    for step in &plan.steps {
        if let Op::OuterUser { uids, gids, .. } = &step.op {
            assert!(uids.iter().chain(gids).all(|extent| extent.outside > 0));
        }
        if let Op::JobUser { uids, gids, .. } = &step.op {
            assert!(!uids.is_empty() && !gids.is_empty());
        }
    }
    for source in &plan.sources {
        assert!(
            source
                .owners
                .iter()
                .flat_map(|owners| owners.uids.iter().chain(&owners.gids))
                .all(|extent| extent.outside > 0),
            "{source:?}"
        );
    }
}

fn tmpfs_bytes(plan: &Plan) -> u128 {
    let size = |op: &Op| match op {
        Op::Tmpfs { size, .. }
        | Op::Root {
            root:
                Root::Tmpfs { size }
                | Root::Overlay {
                    upper: Upper::Tmpfs { size },
                    ..
                },
        }
        | Op::Overlay {
            upper: Upper::Tmpfs { size },
            ..
        } => *size,
        _ => 0,
    };
    plan.steps
        .iter()
        .map(|step| u128::from(size(&step.op)))
        .sum()
}

fn holds(policy: &Policy, request: &Request, plan: &Plan) {
    ordered(plan);
    never_hosts_root(plan);
    for control in &plan.controls {
        let allowed = |degraded: &Control| policy.degrade.contains_key(degraded);
        assert!(control.degraded.as_ref().is_none_or(allowed), "{control:?}");
    }
    let by_cgroup = plan
        .steps
        .iter()
        .any(|step| matches!(&step.op, Op::Cgroup { limits } if limits.memory.is_some()));
    if let (Some(memory), false) = (policy.resources.memory.value, by_cgroup) {
        assert!(
            tmpfs_bytes(plan) <= u128::from(memory),
            "{} > {memory}",
            tmpfs_bytes(plan)
        );
    }
    for grant in &policy.filesystem.tmpfs {
        let kept = |op: &Op| matches!(op, Op::Tmpfs { path, size, .. } if *path == grant.target && grant.size.is_none_or(|asked| *size == asked.max(4096)));
        assert!(plan.steps.iter().any(|step| kept(&step.op)), "{grant:?}");
    }
    for step in &plan.steps {
        assert!(!step.why.to_string().is_empty() && !step.op.summary().is_empty());
        if let Op::Bind { source, .. }
        | Op::Overlay { source, .. }
        | Op::Placeholder { source, .. } = &step.op
        {
            assert!(*source < plan.sources.len());
        }
    }
    for masked in &policy.filesystem.masked {
        let is = |op: &Op| matches!(op, Op::Mask { path, .. } if *path == masked.value);
        assert!(plan.steps.iter().any(|step| is(&step.op)), "{masked:?}");
    }
    let writes = request
        .workspace
        .as_ref()
        .is_some_and(|workspace| workspace.access == Access::Rw);
    assert!(!writes || policy.workspace.access.value == Access::Rw);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_holds_what_is_promised(policy in any_policy(), request in any_request(), facts in any_facts()) {
        let first = plan(&policy, &request, &facts);
        prop_assert_eq!(&first, &plan(&policy, &request, &facts));
        match first {
            Ok(planned) => {
                holds(&policy, &request, &planned);
                let text = serde_json::to_string(&planned).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Plan>(&text).unwrap(), &planned);
                prop_assert!(planned.text().lines().count() > planned.steps.len());
            }
            Err(diagnostics) => {
                prop_assert!(!diagnostics.is_empty());
                for diagnostic in diagnostics {
                    prop_assert!(!diagnostic.message.contains('\n'), "{}", diagnostic.message);
                }
            }
        }
    }
}

#[test]
fn the_strategies_make_plans_and_refusals() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut planned = 0;
    for _ in 0..300 {
        let any = (any_policy(), any_request(), any_facts());
        let (policy, request, facts) = any.new_tree(&mut runner).unwrap().current();
        planned += usize::from(plan(&policy, &request, &facts).is_ok());
    }
    assert!(
        (10..290).contains(&planned),
        "{planned} of 300 were planned"
    );
}
