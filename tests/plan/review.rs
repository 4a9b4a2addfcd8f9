//! Cases that a reviewer would ask about, each by name.

use crate::{hosts, requests};
use cofferdam::host::facts::{Cgroup, Facts, IdRange};
use cofferdam::policy::{Access, IdMode, Policy, RootfsMode, TmpfsGrant};
use cofferdam::sandbox::plan::{Exec, Op, Plan, plan};
use cofferdam::sandbox::request::{Mount, Request, User};
use cofferdam::source::origin::{Origin, Sourced};

fn preset(name: &str) -> Policy {
    Policy::preset(name).unwrap()
}

fn refused(policy: &Policy, request: &Request, facts: &Facts) -> String {
    let diagnostics = plan(policy, request, facts).expect_err("must be refused");
    let text = |d: &cofferdam::source::diagnostic::Diagnostic| d.message.clone();
    diagnostics.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn accepted(policy: &Policy, request: &Request) -> Plan {
    plan(policy, request, &hosts::debian_6_1()).expect("must be planned")
}

fn mount(source: &str, target: &str) -> Mount {
    Mount {
        object: requests::object(source, true),
        target: target.to_owned(),
        writable: false,
        sockets: Vec::new(),
        origin: requests::flag("--mount"),
    }
}

/// The request of this name.
fn asked(wanted: &str) -> Request {
    let found = requests::all().find_map(|(name, request)| (name == wanted).then_some(request));
    found.unwrap()
}

fn masked(path: &str) -> Sourced<String> {
    let origin = Origin::File {
        path: "p.toml".to_owned(),
        line: 3,
    };
    Sourced::new(path.to_owned(), origin)
}

#[test]
fn a_mask_is_a_step_with_the_policy_line_after_all_mounts() {
    let mut policy = preset("strict");
    policy.filesystem.masked = vec![masked("/usr/bin/perl"), masked("/proc/kcore")];
    let mut request = requests::bare();
    request.masked = [
        ("/usr/bin/perl".to_owned(), false),
        ("/proc/kcore".to_owned(), false),
    ]
    .into();
    let plan = accepted(&policy, &request);
    let masks: Vec<_> = plan
        .steps
        .iter()
        .filter(|step| matches!(&step.op, Op::Mask { path, .. } if path == "/usr/bin/perl"))
        .collect();
    assert_eq!(masks.len(), 1);
    assert_eq!(masks[0].why.to_string(), "p.toml:3");
    // What the built-in list hides is hidden once.
    let kcore = |op: &Op| matches!(op, Op::Mask { path, .. } if path == "/proc/kcore");
    assert_eq!(plan.steps.iter().filter(|step| kcore(&step.op)).count(), 1);
}

#[test]
fn a_mask_of_nothing_or_of_everything_is_refused() {
    let mut policy = preset("strict");
    policy.filesystem.masked = vec![masked("/usr/bin/pearl")];
    let cause = refused(&policy, &requests::bare(), &hosts::debian_6_1());
    assert!(
        cause.contains("/usr/bin/pearl (p.toml:3): nothing is there"),
        "{cause}"
    );
    policy.filesystem.masked = vec![masked("/")];
    let mut request = requests::bare();
    request.masked = [("/".to_owned(), true)].into();
    let cause = refused(&policy, &request, &hosts::debian_6_1());
    assert!(cause.contains("the root cannot be masked"), "{cause}");
}

#[test]
fn exclusive_without_a_slice_never_falls_back_to_the_whole_range() {
    let mut policy = preset("strict");
    policy.ids.mode.value = IdMode::Exclusive;
    let mut host = hosts::debian_6_1();
    let cause = refused(&policy, &requests::bare(), &host);
    assert!(cause.contains("no slice of ids"), "{cause}");
    let slice = Some(IdRange {
        start: 150_000,
        count: 4096,
    });
    (host.subordinate.uids, host.subordinate.gids) = (slice, slice);
    let planned = plan(&policy, &requests::bare(), &host).unwrap();
    let outside: Vec<u32> = planned
        .steps
        .iter()
        .find_map(|step| match &step.op {
            Op::OuterUser { uids, .. } => Some(uids.iter().map(|e| e.outside).collect()),
            _ => None,
        })
        .unwrap();
    assert_eq!(outside, [1000, 150_000]);
}

#[test]
fn parents_are_mounted_before_children_whatever_the_order_of_flags() {
    let mut policy = preset("strict");
    policy.filesystem.tmpfs = vec![TmpfsGrant {
        target: "/data".to_owned(),
        size: Some(1 << 20),
        origin: requests::flag("--tmpfs"),
    }];
    let mut request = requests::bare();
    request.mounts = vec![mount("/srv/b", "/data/b/c"), mount("/srv/a", "/data/a")];
    let plan = accepted(&policy, &request);
    let at = |wanted: &str| {
        let is = |op: &Op| matches!(op, Op::Bind { path, .. } | Op::Tmpfs { path, .. } if path == wanted);
        plan.steps.iter().position(|step| is(&step.op)).unwrap()
    };
    assert!(at("/data") < at("/data/a") && at("/data/a") < at("/data/b/c"));
}

#[test]
fn places_that_clash_are_refused_and_say_with_what() {
    let clash = |targets: &[&str], workspace: Option<Access>| {
        let mut request = requests::bare();
        request.mounts = targets
            .iter()
            .map(|target| mount("/srv/x", target))
            .collect();
        request.workspace = workspace.map(requests::workspace);
        refused(&preset("untrusted"), &request, &hosts::debian_6_1())
    };
    for (targets, workspace, cause) in [
        (&["/data", "/data"][..], None, "it would hide /data"),
        (&["/home"], None, "it would hide /home/job"),
        (&["/etc"], None, "it would hide /etc/ssl/certs"),
        (&["/usr"], None, "it would hide /usr"),
        (
            &["/usr/local/x"],
            None,
            "/usr (always) is a directory of the host",
        ),
        (&["/bin/x"], None, "/bin (always) is no directory"),
        (&["/dev"], None, "it would hide"),
        (&["/proc/x"], None, "cannot mount at /proc"),
        (&["/"], None, "cannot mount at /"),
        (
            &["/data", "/data/x"],
            None,
            "is a directory of the host, and nothing is made in it",
        ),
        (
            &["/home/u/project/cache"],
            Some(Access::Rw),
            "is a directory of the host",
        ),
        (&["/home/u"], Some(Access::Rw), "is a directory of the host"),
    ] {
        let got = clash(targets, workspace);
        assert!(got.contains(cause), "{targets:?}: {got}");
    }
}

#[test]
fn below_our_own_directories_and_in_a_copy_there_is_room() {
    for (target, access) in [
        ("/tmp/x", None),
        ("/home/job/.cache", None),
        ("/workspace", None),
        ("/home/u/project/cache", Some(Access::Copy)),
    ] {
        let mut request = requests::bare();
        request.mounts = vec![mount("/srv/x", target)];
        request.workspace = access.map(requests::workspace);
        let plan = accepted(&preset("untrusted"), &request);
        let here = |op: &Op| matches!(op, Op::Bind { path, .. } | Op::Tmpfs { path, .. } if path == target);
        assert_eq!(
            plan.steps.iter().filter(|step| here(&step.op)).count(),
            1,
            "{target}"
        );
    }
}

#[test]
fn the_same_place_below_the_hosts_programs_is_a_mount_point_already() {
    let mut request = requests::bare();
    request.mounts = vec![mount("/opt/tool", "/opt/tool")];
    let here = |op: &Op| matches!(op, Op::Bind { path, .. } if path == "/opt/tool");
    assert!(
        accepted(&preset("strict"), &request)
            .steps
            .iter()
            .any(|step| here(&step.op))
    );
    request.mounts = vec![mount("/srv/tool", "/opt/tool")];
    let cause = refused(&preset("strict"), &request, &hosts::debian_6_1());
    assert!(
        cause.contains("/opt (always) is a directory of the host"),
        "{cause}"
    );
}

#[test]
fn a_tmpfs_never_has_the_size_that_means_no_limit() {
    let mut policy = preset("strict");
    policy.filesystem.tmpfs = vec![TmpfsGrant {
        target: "/data".to_owned(),
        size: Some(0),
        origin: requests::flag("--tmpfs"),
    }];
    let plan = accepted(&policy, &requests::bare());
    let sizes = plan.steps.iter().filter_map(|step| match &step.op {
        Op::Tmpfs { size, .. } => Some(*size),
        _ => None,
    });
    assert!(sizes.min().unwrap() >= 4096);
}

#[test]
fn the_ceiling_of_the_policy_holds_for_a_request_that_ignores_it() {
    let mut request = requests::bare();
    request.workspace = Some(requests::workspace(Access::Rw));
    let cause = refused(&preset("strict"), &request, &hosts::debian_6_1());
    assert!(
        cause.contains("\"rw\" is more than workspace.access = \"ro\""),
        "{cause}"
    );
}

#[test]
fn an_overlay_that_cannot_be_mounted_is_refused_before_anything_starts() {
    let mut facts = hosts::debian_6_1();
    facts.overlay_userxattr = false;
    let mut request = requests::bare();
    request.rootfs = Some(requests::object("/srv/image", true));
    let cause = refused(&preset("untrusted"), &request, &facts);
    assert!(cause.contains("--rootfs needs an overlay"), "{cause}");
    request.rootfs = None;
    request.workspace = Some(requests::workspace(Access::Copy));
    let cause = refused(&preset("untrusted"), &request, &facts);
    assert!(
        cause.contains("a copied workspace needs an overlay"),
        "{cause}"
    );
}

#[test]
fn layers_without_a_place_are_refused() {
    let mut request = requests::bare();
    request.rootfs = Some(requests::object("/srv/image", true));
    request.layers = None;
    let cause = refused(&preset("untrusted"), &request, &hosts::debian_6_1());
    assert!(cause.contains("has no place"), "{cause}");
}

#[test]
fn one_cause_gives_one_refusal() {
    let mut facts = hosts::debian_6_1();
    facts.subordinate.uids = None;
    facts.subordinate.gids = None;
    let cause = refused(&preset("untrusted"), &requests::bare(), &facts);
    assert_eq!(
        cause,
        "user u has no subordinate ids in /etc/subuid and /etc/subgid"
    );
}

#[test]
fn a_read_only_root_writes_no_layer_so_no_disk_limit_is_weaker() {
    let mut request = requests::bare();
    request.rootfs = Some(requests::object("/srv/image", true));
    let plan = accepted(&preset("strict"), &request);
    assert_eq!(plan.supervise.disk, None);
    assert!(plan.steps.iter().any(|step| step.op == Op::SealRoot));
    let mut policy = preset("strict");
    policy.filesystem.rootfs.value = RootfsMode::Overlay;
    let cause = refused(&policy, &request, &hosts::debian_6_1());
    assert!(cause.contains("disk 1G"), "{cause}");
}

#[test]
fn more_cpus_than_there_are_is_no_weaker_limit() {
    let mut facts = hosts::debian_6_1();
    facts.cgroup = Cgroup::None {
        why: "none".to_owned(),
    };
    let cpus = |facts: &Facts| {
        let plan = plan(&preset("untrusted"), &requests::bare(), facts).unwrap();
        let found = plan
            .controls
            .iter()
            .find(|control| control.control == "cpus");
        found.unwrap().degraded.is_some()
    };
    assert!(cpus(&facts));
    facts.cpus = 2;
    assert!(!cpus(&facts));
}

fn executed(change: impl Fn(&mut Policy, &mut Request)) -> Exec {
    let (mut policy, mut request) = (preset("untrusted"), requests::bare());
    change(&mut policy, &mut request);
    accepted(&policy, &request).exec
}

#[test]
fn home_is_one_that_exists_inside_unless_somebody_sets_it() {
    let home = |exec: Exec| exec.environment["HOME"].clone();
    assert_eq!(home(executed(|_, _| ())), "/home/job");
    let image = |request: &mut Request| request.rootfs = Some(requests::object("/srv/image", true));
    assert_eq!(home(executed(|_, request| image(request))), "/root");
    let user = |request: &mut Request| {
        request.user = Some(User {
            uid: 1000,
            gid: 1000,
        })
    };
    let exec = executed(|_, request| {
        image(request);
        user(request);
    });
    assert_eq!((exec.uid, exec.gid), (1000, 1000));
    assert_eq!(home(exec), "/");
    let set = executed(|policy, _| {
        let value = Sourced::new("/tmp".to_owned(), requests::flag("--env"));
        policy.environment.set.insert("HOME".to_owned(), value);
    });
    assert_eq!(home(set), "/tmp");
}

#[test]
fn what_is_set_wins_over_what_is_passed_and_that_over_our_own() {
    let exec = executed(|policy, request| {
        request
            .environment
            .push(("LANG".to_owned(), "de_DE.UTF-8".to_owned()));
        let value = Sourced::new("/opt/bin".to_owned(), requests::flag("--env"));
        policy.environment.set.insert("PATH".to_owned(), value);
    });
    assert_eq!(exec.environment["PATH"], "/opt/bin");
    assert_eq!(exec.environment["LANG"], "de_DE.UTF-8");
}

#[test]
fn a_user_that_is_not_mapped_is_refused_by_number() {
    let mut request = requests::bare();
    request.user = Some(User { uid: 7, gid: 7 });
    let cause = refused(&preset("untrusted"), &request, &hosts::debian_6_1());
    assert_eq!(cause, "--user 7:7: no such id in this sandbox");
}

#[test]
fn every_step_says_in_a_few_words_what_it_does() {
    let mut seen = std::collections::BTreeSet::new();
    let all = requests::all().map(|(_, request)| request);
    for request in all {
        for facts in [hosts::debian_6_1()]
            .into_iter()
            .chain(hosts::others().map(|(_, f)| f))
        {
            let Ok(plan) = plan(&preset("untrusted"), &request, &facts) else {
                continue;
            };
            for step in &plan.steps {
                let summary = step.op.summary();
                assert!(
                    !summary.is_empty() && !summary.contains('\n'),
                    "{summary:?}"
                );
                let value = serde_json::to_value(&step.op).unwrap();
                seen.insert(match value {
                    serde_json::Value::String(name) => name,
                    other => other.as_object().unwrap().keys().next().unwrap().clone(),
                });
            }
        }
    }
    let expected = [
        "affinity",
        "bind",
        "capabilities",
        "cgroup",
        "devpts",
        "file",
        "groups",
        "hostname",
        "job_user",
        "keyring",
        "landlock",
        "loopback",
        "mask",
        "mqueue",
        "namespace_limits",
        "namespaces",
        "no_new_privileges",
        "outer_user",
        "overlay",
        "pin",
        "pivot",
        "placeholder",
        "proc",
        "read_only",
        "rlimits",
        "root",
        "seal_root",
        "seccomp",
        "symlink",
        "terminal",
        "tmpfs",
    ];
    assert_eq!(
        seen.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn owners_of_roots_sources_have_a_map_for_gids_of_their_own() {
    let mut facts = hosts::others()
        .find_map(|(name, facts)| (name == "6.18-root-delegated").then_some(facts))
        .unwrap();
    facts.caller.gid = 300_000;
    facts.subordinate.gids = Some(IdRange {
        start: 300_001,
        count: 65536,
    });
    let first = |request: &Request| {
        let plan = plan(&preset("untrusted"), request, &facts).unwrap();
        let owners = plan.sources.into_iter().find_map(|source| source.owners);
        let owners = owners.expect("owners are mapped");
        [owners.uids[0], owners.gids[0]].map(|extent| (extent.inside, extent.outside))
    };
    assert_eq!(first(&asked("rootfs")), [(0, 100_001), (0, 300_001)]);
    let mut copy = asked("copy");
    let object = &mut copy.workspace.as_mut().unwrap().object;
    (object.uid, object.gid) = (0, 7);
    assert_eq!(first(&copy), [(0, 100_000), (7, 300_000)]);
}

fn without_cgroup() -> Facts {
    hosts::others()
        .find_map(|(name, facts)| (name == "6.1-user-none").then_some(facts))
        .unwrap()
}

fn tmpfs(size: Option<u64>) -> TmpfsGrant {
    TmpfsGrant {
        target: "/scratch".to_owned(),
        size,
        origin: requests::flag("--tmpfs"),
    }
}

#[test]
fn an_asked_tmpfs_size_is_kept_or_refused_and_never_shrinks() {
    let mut policy = preset("untrusted");
    policy.resources.memory.value = Some(64 << 20);
    let sizes = |policy: &Policy| -> Vec<(String, u64)> {
        let plan = plan(policy, &requests::bare(), &without_cgroup()).unwrap();
        let size = |op: Op| match op {
            Op::Tmpfs { path, size, .. } => Some((path, size)),
            _ => None,
        };
        plan.steps.into_iter().filter_map(|s| size(s.op)).collect()
    };
    let of = |sizes: &[(String, u64)], wanted: &str| {
        let found = sizes.iter().find(|(path, _)| path == wanted);
        found.unwrap().1
    };
    policy.filesystem.tmpfs = vec![tmpfs(Some(5000))];
    assert_eq!(of(&sizes(&policy), "/scratch"), 5000);
    policy.filesystem.tmpfs = vec![tmpfs(Some(60 << 20))];
    let large = sizes(&policy);
    assert_eq!(of(&large, "/scratch"), 60 << 20);
    assert!((64 << 10..4 << 20).contains(&of(&large, "/tmp")));
    // Nobody asked for this one: it shrinks with the others.
    policy.filesystem.tmpfs = vec![tmpfs(None)];
    let shared = sizes(&policy);
    assert_eq!(of(&shared, "/scratch"), of(&shared, "/tmp"));
    policy.filesystem.tmpfs = vec![tmpfs(Some(64 << 20))];
    let cause = refused(&policy, &requests::bare(), &without_cgroup());
    assert!(
        cause.contains("memory 64M (preset untrusted:")
            && cause.contains("67108864 of them asked for by --tmpfs"),
        "{cause}"
    );
}

#[test]
fn a_rootfs_of_the_callers_files_without_a_workspace_says_what_that_means() {
    let said = |policy: &str, request: &Request, facts: &Facts| {
        let plan = plan(&preset(policy), request, facts).unwrap();
        plan.warnings.join("\n")
    };
    let host = hosts::debian_6_1();
    let warned = said("untrusted", &asked("rootfs"), &host);
    assert!(
        warned.contains("files of uid 1000 are nobody's inside") && warned.contains("-w DIR"),
        "{warned}"
    );
    assert!(!said("untrusted", &asked("rootfs-rw"), &host).contains("nobody's"));
    // Read-only anyway, mapped by the launcher, or of a subordinate id.
    assert_eq!(said("strict", &asked("rootfs"), &host), "");
    let root = hosts::others().find_map(|(n, f)| (n == "6.1-root-v1").then_some(f));
    assert_eq!(said("untrusted", &asked("rootfs"), &root.unwrap()), "");
    let mut subordinate = asked("rootfs");
    subordinate.rootfs.as_mut().unwrap().uid = 100_000;
    assert_eq!(said("untrusted", &subordinate, &host), "");
    let mut roots = asked("rootfs");
    roots.rootfs.as_mut().unwrap().uid = 0;
    assert!(said("untrusted", &roots, &host).contains("unpack the directory as yourself"));
}

#[test]
fn a_mask_in_what_is_made_empty_is_refused() {
    let mut policy = preset("untrusted");
    let mut request = asked("rootfs");
    for path in ["/tmp/cache", "/dev/shm/x", "/dev/pts/9"] {
        policy.filesystem.masked = vec![masked(path)];
        request.masked = [(path.to_owned(), false)].into();
        let cause = refused(&policy, &request, &hosts::debian_6_1());
        assert!(
            cause.contains(&format!("masked {path} (p.toml:3): "))
                && cause.contains("is made empty for each sandbox"),
            "{cause}"
        );
    }
    // What a mount shows there is there.
    policy.filesystem.masked = vec![masked("/tmp/data/key")];
    request.masked = [("/tmp/data/key".to_owned(), false)].into();
    request.mounts = vec![mount("/srv/data", "/tmp/data")];
    assert!(plan(&policy, &request, &hosts::debian_6_1()).is_ok());
}

#[test]
fn recorded_calls_wait_killably_where_the_kernel_can() {
    let mut host = hosts::debian_6_1();
    for known in [true, false] {
        host.seccomp.wait_killable = known;
        let plan = plan(&preset("untrusted"), &requests::bare(), &host).unwrap();
        assert!(plan.supervise.records_refusals);
        assert_eq!(plan.supervise.wait_killable, known);
    }
}
