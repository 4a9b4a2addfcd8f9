//! [pure] What this host can enforce, what is missing, what that costs, and the one command that fixes it.

use super::facts::{Cgroup, Facts, IdRange, UserNamespaces};
use rustix::io::Errno;
use serde::Serialize;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It worked.
    Works,
    /// It failed with this errno.
    Fails(Errno),
}

/// What `doctor` knows beside the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deep {
    /// Making a user and mount namespace and using them.
    pub user_namespace: Outcome,
    /// newuidmap and newgidmap, run as a sandbox runs them: what they complained of, if anything.
    pub id_maps: Result<(), String>,
    /// A fresh proc in a pid namespace of our own.
    pub fresh_proc: Outcome,
    /// A fresh sysfs in a network namespace of our own.
    pub fresh_sys: Outcome,
    /// An overlay with `userxattr` in a user namespace.
    pub overlay: Outcome,
    /// A `user.` attribute on a tmpfs in a user namespace.
    pub tmpfs_xattr: Outcome,
    /// What is mounted over parts of /proc.
    pub proc_over_mounts: Vec<String>,
    /// What is mounted over parts of /sys.
    pub sys_over_mounts: Vec<String>,
    /// Kernel modules that the first sandbox would make the kernel load.
    pub modules: Vec<String>,
    /// systemd runs this host.
    pub systemd: bool,
    /// The caller's user manager lives without a session (loginctl enable-linger).
    pub linger: bool,
    /// Where a free range of 65536 subordinate ids starts.
    pub free_ids: Option<u32>,
}

/// How well a control works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The default policy cannot start without it.
    Missing,
    /// The default policy starts; something is weaker or not to be had.
    Degraded,
    /// In full strength.
    Ok,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which control.
    pub control: &'static str,
    /// How well it works.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What cannot be had because of it, if anything.
    pub costs: Option<&'static str>,
    /// The command that fixes it, or what to do where no command can.
    pub fix: Option<String>,
}

/// Landlock ABI 2 (Linux 5.19) is what the default policy asks for at least.
const MINIMUM_LANDLOCK: u32 = 2;

/// A whole set of ids as images expect it: 1 to 65535.
const WHOLE_RANGE: u32 = 65_535;

/// All findings, the worst first, else in this order.
pub fn findings(facts: &Facts, deep: &Deep) -> Vec<Finding> {
    let mut all = vec![
        kernel(facts),
        user_namespaces(facts, deep),
        subordinate_ids(facts, deep),
        id_helpers(facts, deep),
        groups(facts),
        proc(facts, deep),
        seccomp(facts),
        landlock(facts),
        cgroup(facts, deep),
        overlay(facts, deep),
        tmpfs_xattr(deep),
        sys(facts, deep),
        modules(deep),
        descriptors(facts),
    ];
    all.sort_by_key(|finding| finding.state);
    all
}

/// Whether the default policy can start.
pub fn can_start(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.state != State::Missing)
}

fn ok(control: &'static str, what: impl Into<String>) -> Finding {
    Finding {
        control,
        state: State::Ok,
        what: what.into(),
        costs: None,
        fix: None,
    }
}

fn missing(control: &'static str, what: impl Into<String>) -> Finding {
    Finding {
        state: State::Missing,
        ..ok(control, what)
    }
}

fn degraded(control: &'static str, what: impl Into<String>) -> Finding {
    Finding {
        state: State::Degraded,
        ..ok(control, what)
    }
}

impl Finding {
    fn costs(self, costs: &'static str) -> Self {
        Self {
            costs: Some(costs),
            ..self
        }
    }

    fn fix(self, fix: impl Into<String>) -> Self {
        Self {
            fix: Some(fix.into()),
            ..self
        }
    }
}

/// Linux 5.11 lets an ordinary user mount an overlay, 5.15 is the oldest release we plan for.
fn kernel(facts: &Facts) -> Finding {
    let what = format!("Linux {} on {}", facts.release, facts.machine);
    if facts.kernel < (5, 15) {
        missing("kernel", what)
            .costs("kernels before 5.15 lack calls that every sandbox uses")
            .fix("boot a newer kernel; 6.1 or later is what is tested")
    } else if !matches!(facts.machine.as_str(), "x86_64" | "aarch64") {
        missing("kernel", what)
            .costs("there is no system-call table for this machine")
            .fix("use x86_64 or aarch64")
    } else {
        ok("kernel", what)
    }
}

fn user_namespaces(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "user_namespaces";
    const COSTS: &str = "no sandbox can be made";
    let refused = |what: &str, fix: &str| missing(CONTROL, what).costs(COSTS).fix(fix);
    match (facts.user_namespaces, deep.user_namespace) {
        (UserNamespaces::Missing, _) => refused(
            "the kernel has none",
            "boot a kernel built with CONFIG_USER_NS",
        ),
        (UserNamespaces::LimitZero, _) => refused(
            "user.max_user_namespaces is 0",
            &sysctl("user.max_user_namespaces=15000"),
        ),
        (UserNamespaces::SysctlOff, _) => refused(
            "kernel.unprivileged_userns_clone is 0",
            &sysctl("kernel.unprivileged_userns_clone=1"),
        ),
        (UserNamespaces::AppArmor, _) => refused(
            "AppArmor forbids them (kernel.apparmor_restrict_unprivileged_userns is 1) to programs without a profile",
            "sudo install -m 644 packaging/apparmor/cofferdam /etc/apparmor.d/cofferdam && sudo apparmor_parser -r /etc/apparmor.d/cofferdam",
        ),
        (UserNamespaces::Available, Outcome::Fails(errno)) => refused(
            &format!("the switches allow them, and making one fails: {errno}"),
            "inside a container, start it with --security-opt seccomp=unconfined; elsewhere look for a security module",
        ),
        (UserNamespaces::Available, Outcome::Works) => ok(CONTROL, "made and used one"),
    }
}

fn sysctl(setting: &str) -> String {
    format!("echo {setting} | sudo tee /etc/sysctl.d/60-cofferdam.conf && sudo sysctl --system")
}

fn subordinate_ids(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "subordinate_ids";
    let (uids, gids) = match (facts.subordinate.uids, facts.subordinate.gids) {
        (Some(uids), Some(gids)) => (uids, gids),
        (uids, _) => {
            let file = if uids.is_none() {
                "/etc/subuid"
            } else {
                "/etc/subgid"
            };
            return missing(CONTROL, format!("{file} gives none to {}", caller(facts)))
                .costs("only policies with ids.mode = \"caller\" start: one id, the caller's own")
                .fix(add_ids(facts, deep));
        }
    };
    let what = format!("uids {}, gids {}", span(uids), span(gids));
    if uids.count.min(gids.count) < WHOLE_RANGE {
        return degraded(CONTROL, what)
            .costs("files of an image that belong to higher ids cannot be shown")
            .fix(add_ids(facts, deep));
    }
    ok(CONTROL, what)
}

fn span(range: IdRange) -> String {
    format!("{}-{}", range.start, range.start + (range.count - 1))
}

fn caller(facts: &Facts) -> String {
    facts
        .caller
        .name
        .clone()
        .unwrap_or_else(|| format!("uid {}", facts.caller.uid))
}

/// usermod knows only accounts of /etc/passwd; others are written by number.
fn add_ids(facts: &Facts, deep: &Deep) -> String {
    let Some(start) = deep.free_ids else {
        return "free 65536 ids in /etc/subuid and /etc/subgid, where all are given away".into();
    };
    match &facts.caller.name {
        Some(name) => {
            let span = span(IdRange {
                start,
                count: 65_536,
            });
            format!("sudo usermod --add-subuids {span} --add-subgids {span} {name}")
        }
        None => format!(
            "echo {}:{start}:65536 | sudo tee -a /etc/subuid /etc/subgid",
            facts.caller.uid
        ),
    }
}

fn id_helpers(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "id_helpers";
    if facts.caller.is_root() {
        return ok(CONTROL, "root maps ids itself");
    }
    let helpers = &facts.subordinate;
    let lacking = match (&helpers.newuidmap, &helpers.newgidmap) {
        (Some(uid), Some(gid)) => return tried(format!("{uid}, {gid}"), deep),
        (None, Some(_)) => "newuidmap is",
        (Some(_), None) => "newgidmap is",
        (None, None) => "newuidmap and newgidmap are",
    };
    missing(
        CONTROL,
        format!("{lacking} not installed, or not setuid root"),
    )
    .costs("subordinate ids cannot be mapped")
    .fix("sudo apt install uidmap   (Fedora: shadow-utils, Arch: shadow, Alpine: shadow-subids)")
}

/// Installed is not enough: set-id bits do nothing below no_new_privs or on a nosuid mount, and
/// the caller must have an account.
fn tried(what: String, deep: &Deep) -> Finding {
    match &deep.id_maps {
        Ok(()) => ok("id_helpers", what),
        Err(complaint) => missing("id_helpers", format!("{what}: {complaint}"))
            .costs("subordinate ids cannot be mapped")
            .fix("start outside of containers and services with no_new_privs, from a mount without nosuid, as a user with an account"),
    }
}

/// newgidmap maps the caller's own gid only where it is the passwd entry's (newgidmap(1)).
fn groups(facts: &Facts) -> Finding {
    const CONTROL: &str = "groups";
    match facts.caller.passwd_gid {
        Some(gid) if gid != facts.caller.gid && !facts.caller.is_root() => missing(
            CONTROL,
            format!(
                "the current group is {}, and the account's is {gid}",
                facts.caller.gid
            ),
        )
        .costs("newgidmap refuses to map the current group")
        .fix(format!(
            "start from a shell of `newgrp '#{gid}'` or log in again"
        )),
        _ if facts.caller.supplementary_groups => ok(
            CONTROL,
            "supplementary groups are dropped (ids.mode = \"caller\" keeps them)",
        ),
        _ => ok(CONTROL, "no supplementary groups"),
    }
}

fn seccomp(facts: &Facts) -> Finding {
    const CONTROL: &str = "seccomp";
    if !facts.seccomp.filter {
        return missing(CONTROL, "the kernel has no filters")
            .costs("system calls cannot be refused")
            .fix("boot a kernel built with CONFIG_SECCOMP_FILTER");
    }
    if !facts.seccomp.user_notify {
        return degraded(CONTROL, "filters work, notifications do not")
            .costs("refused calls are not recorded for `cofferdam explain`");
    }
    if !facts.seccomp.wait_killable {
        return ok(
            CONTROL,
            "filters and notifications; a notified call can be interrupted (before 5.19)",
        );
    }
    ok(CONTROL, "filters and notifications")
}

fn landlock(facts: &Facts) -> Finding {
    const CONTROL: &str = "landlock";
    let newer = "boot Linux 5.19 or later";
    match facts.landlock_abi {
        0 if facts.kernel < (5, 13) => missing(CONTROL, "the kernel has none").fix(newer),
        0 => missing(CONTROL, "built without it, or not in the kernel's list of security modules")
            .fix("add `landlock` to the list in /sys/kernel/security/lsm, as lsm=landlock,… on the kernel command line"),
        abi if abi < MINIMUM_LANDLOCK => {
            missing(CONTROL, format!("ABI {abi}, which forbids every rename between directories"))
                .fix(newer)
        }
        abi => return ok(CONTROL, format!("ABI {abi}, errata {:#x}", facts.landlock_errata)),
    }
    .costs("files are confined by mounts alone; a policy starts only if it degrades `landlock`")
}

fn cgroup(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "cgroup";
    match &facts.cgroup {
        Cgroup::Delegated { dir, controllers } => controllers_of(
            format!("v2, {dir}"),
            controllers.iter().map(String::as_str),
            facts,
        ),
        Cgroup::Systemd { controllers, .. } => {
            let names = controllers.iter().map(String::as_str);
            let finding = controllers_of("v2, scopes of the user manager".into(), names, facts);
            if finding.state == State::Ok && !deep.linger {
                session_only(finding, facts)
            } else {
                finding
            }
        }
        Cgroup::V1 { controllers } => {
            let names = controllers.iter().map(|(name, _)| name.as_str());
            controllers_of("v1, by root".into(), names, facts)
        }
        Cgroup::None { why } => {
            let finding = degraded(CONTROL, why.as_str()).costs(WITHOUT_CGROUP);
            Finding {
                fix: Some(cgroup_fix(facts, deep)),
                ..finding
            }
        }
    }
}

const WITHOUT_CGROUP: &str = "no limit on memory as a whole, cpu only by affinity, processes by \
    RLIMIT_NPROC; a policy starts only if it degrades `cgroup`";

fn controllers_of<'a>(
    place: String,
    names: impl Iterator<Item = &'a str>,
    facts: &Facts,
) -> Finding {
    let names: Vec<_> = names.collect();
    let lacking: Vec<_> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if lacking.is_empty() {
        return ok("cgroup", place);
    }
    let finding = degraded(
        "cgroup",
        format!("{place}, without {}", lacking.join(" and ")),
    )
    .costs("these limits are weaker or absent; a policy starts only if it degrades `cgroup`");
    match facts.cgroup {
        Cgroup::Systemd { .. } => finding.fix(
            "sudo mkdir -p /etc/systemd/system/user@.service.d && \
             printf '[Service]\\nDelegate=cpu memory pids\\n' | \
             sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload",
        ),
        Cgroup::Delegated { .. } | Cgroup::V1 { .. } | Cgroup::None { .. } => finding,
    }
}

fn session_only(finding: Finding, facts: &Facts) -> Finding {
    Finding {
        state: State::Degraded,
        ..finding
    }
    .costs("sandboxes started with --detach end when the last session of this user does")
    .fix(format!("sudo loginctl enable-linger {}", caller(facts)))
}

fn cgroup_fix(facts: &Facts, deep: &Deep) -> String {
    let v1 = matches!(&facts.cgroup, Cgroup::None { why } if why.contains("v1"));
    match (v1, deep.systemd) {
        (true, true) => {
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel command line".into()
        }
        (true, false) => "run it as root, or mount only cgroup v2 at boot".into(),
        (false, true) => "sudo apt install dbus-user-session, and log in again".into(),
        (false, false) => "delegate a cgroup v2 directory to this user, or run it as root".into(),
    }
}

fn overlay(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "overlay";
    const COSTS: &str = "no --rootfs that may be written, no workspace as `copy`";
    match (facts.overlay_userxattr, deep.overlay) {
        (true, Outcome::Works) => ok(CONTROL, "mounted one in a user namespace"),
        (true, Outcome::Fails(_)) if !works(deep.user_namespace) => {
            degraded(CONTROL, "not tried, for want of a user namespace").costs(COSTS)
        }
        (true, Outcome::Fails(errno)) => degraded(
            CONTROL,
            format!("mounting one in a user namespace fails: {errno}"),
        )
        .costs(COSTS),
        (false, _) => degraded(CONTROL, "the kernel has no overlayfs for user namespaces")
            .costs(COSTS)
            .fix("install the kernel's module overlay, or boot Linux 5.11 or later"),
    }
}

fn works(outcome: Outcome) -> bool {
    outcome == Outcome::Works
}

fn tmpfs_xattr(deep: &Deep) -> Finding {
    const CONTROL: &str = "tmpfs_xattr";
    if works(deep.tmpfs_xattr) {
        return ok(CONTROL, "tmpfs keeps user attributes");
    }
    degraded(CONTROL, "tmpfs keeps no user attributes")
        .costs("layers that are thrown away lie on disk instead of in memory")
        .fix("boot Linux 6.6 or later")
}

/// A fresh proc is refused where the visible one is partly covered: a runner inside a container.
fn proc(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "proc";
    if works(deep.fresh_proc) {
        return ok(CONTROL, "a fresh one can be mounted");
    }
    let finding = match (facts.proc_overmounted, deep.fresh_proc) {
        (true, _) => missing(CONTROL, covered("/proc", &deep.proc_over_mounts))
            .fix("start the container with --security-opt systempaths=unconfined (podman: unmask=ALL, Kubernetes: procMount: Unmasked)"),
        (false, _) if !works(deep.user_namespace) => {
            missing(CONTROL, "not tried, for want of a user namespace")
        }
        (false, Outcome::Fails(errno)) => missing(CONTROL, format!("a fresh one is refused: {errno}")),
        (false, Outcome::Works) => missing(CONTROL, "a fresh one is refused"),
    };
    finding.costs("a job cannot have a /proc of its own processes")
}

fn sys(facts: &Facts, deep: &Deep) -> Finding {
    const CONTROL: &str = "sys";
    const COSTS: &str = "a sandbox has no /sys of its own network";
    if works(deep.fresh_sys) {
        return ok(CONTROL, "a fresh one can be mounted");
    }
    if facts.sys_overmounted {
        return degraded(CONTROL, covered("/sys", &deep.sys_over_mounts)).costs(COSTS);
    }
    degraded(CONTROL, "a fresh one is refused").costs(COSTS)
}

fn covered(place: &str, over: &[String]) -> String {
    match over {
        [] => format!("{place} is mounted read-only or in parts, as in a container"),
        [first] => format!("{first} is mounted over, as in a container"),
        [first, rest @ ..] => {
            format!(
                "{first} and {} more are mounted over, as in a container",
                rest.len()
            )
        }
    }
}

fn modules(deep: &Deep) -> Finding {
    if deep.modules.is_empty() {
        return ok("modules", "a sandbox makes the kernel load none");
    }
    let names = deep.modules.join(" ");
    degraded("modules", format!("not loaded yet: {names}"))
        .costs("the first sandbox that needs it makes the kernel load it")
        .fix(format!(
            "echo {names} | sudo tee /etc/modules-load.d/cofferdam.conf && sudo modprobe -a {names}"
        ))
}

/// The job's own hard limit is kept below half of ours.
fn descriptors(facts: &Facts) -> Finding {
    let what = format!("at most {} open files", facts.nofile_hard);
    if facts.nofile_hard >= 4096 {
        return ok("descriptors", what);
    }
    degraded("descriptors", what)
        .costs("a job gets less than half of them, too few for some builds")
        .fix("ulimit -Hn 524288   (as root, before starting)")
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Caller, Seccomp, Subordinate};
    use super::*;

    /// Debian 12 with systemd and everything installed, for the user ann.
    fn good() -> (Facts, Deep) {
        let range = Some(IdRange {
            start: 100_000,
            count: 65_536,
        });
        let facts = Facts {
            kernel: (6, 1),
            release: "6.1.0-38-amd64".into(),
            machine: "x86_64".into(),
            caller: Caller {
                uid: 1000,
                gid: 1000,
                name: Some("ann".into()),
                passwd_gid: Some(1000),
                home: Some("/home/ann".into()),
                supplementary_groups: false,
            },
            user_namespaces: UserNamespaces::Available,
            subordinate: Subordinate {
                uids: range,
                gids: range,
                newuidmap: Some("/usr/bin/newuidmap".into()),
                newgidmap: Some("/usr/bin/newgidmap".into()),
            },
            landlock_abi: 2,
            landlock_errata: 0,
            seccomp: Seccomp {
                filter: true,
                user_notify: true,
                wait_killable: true,
            },
            cgroup: Cgroup::Systemd {
                bus: "/run/user/1000/bus".into(),
                controllers: ["cpu", "memory", "pids"].map(String::from).to_vec(),
            },
            overlay_userxattr: true,
            tmpfs_user_xattr: true,
            proc_overmounted: false,
            sys_overmounted: false,
            maskable: Vec::new(),
            programs: Vec::new(),
            etc: Vec::new(),
            cpus: 2,
            nofile_hard: 20_000,
        };
        let deep = Deep {
            user_namespace: Outcome::Works,
            id_maps: Ok(()),
            fresh_proc: Outcome::Works,
            fresh_sys: Outcome::Works,
            overlay: Outcome::Works,
            tmpfs_xattr: Outcome::Works,
            proc_over_mounts: Vec::new(),
            sys_over_mounts: Vec::new(),
            modules: Vec::new(),
            systemd: true,
            linger: true,
            free_ids: Some(165_536),
        };
        (facts, deep)
    }

    /// The findings that are not Ok, as (control, state, fix), after `change` to the good host.
    fn trouble(change: impl FnOnce(&mut Facts, &mut Deep)) -> Vec<(&'static str, State, String)> {
        let (mut facts, mut deep) = good();
        change(&mut facts, &mut deep);
        let all = findings(&facts, &deep);
        let bad = all.into_iter().filter(|finding| finding.state != State::Ok);
        bad.map(|finding| {
            assert!(finding.costs.is_some(), "{finding:?}");
            (
                finding.control,
                finding.state,
                finding.fix.unwrap_or_default(),
            )
        })
        .collect()
    }

    fn one(change: impl FnOnce(&mut Facts, &mut Deep)) -> (&'static str, State, String) {
        let all = trouble(change);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    #[test]
    fn a_good_host_has_no_trouble() {
        assert_eq!(trouble(|_, _| {}), []);
        let (facts, deep) = good();
        assert!(can_start(&findings(&facts, &deep)));
    }

    #[test]
    fn ubuntu_s_restriction_names_the_profile() {
        let all = trouble(|facts, deep| {
            facts.kernel = (6, 8);
            facts.user_namespaces = UserNamespaces::AppArmor;
            let refused = Outcome::Fails(Errno::ACCESS);
            deep.user_namespace = refused;
            (deep.fresh_proc, deep.fresh_sys) = (refused, refused);
            (deep.overlay, deep.tmpfs_xattr) = (refused, refused);
        });
        assert_eq!(
            all[0],
            (
                "user_namespaces",
                State::Missing,
                "sudo install -m 644 packaging/apparmor/cofferdam /etc/apparmor.d/cofferdam && \
                 sudo apparmor_parser -r /etc/apparmor.d/cofferdam"
                    .into()
            )
        );
    }

    #[test]
    fn switches_that_are_off_name_the_switch() {
        let (_, state, fix) = one(|facts, _| facts.user_namespaces = UserNamespaces::LimitZero);
        assert_eq!(state, State::Missing);
        assert_eq!(
            fix,
            "echo user.max_user_namespaces=15000 | sudo tee /etc/sysctl.d/60-cofferdam.conf && sudo sysctl --system"
        );
        let (_, _, fix) = one(|facts, _| facts.user_namespaces = UserNamespaces::SysctlOff);
        assert!(fix.contains("kernel.unprivileged_userns_clone=1"), "{fix}");
    }

    #[test]
    fn no_subordinate_ids_gives_a_free_range() {
        let (control, state, fix) = one(|facts, _| facts.subordinate.gids = None);
        assert_eq!((control, state), ("subordinate_ids", State::Missing));
        assert_eq!(
            fix,
            "sudo usermod --add-subuids 165536-231071 --add-subgids 165536-231071 ann"
        );
        let (_, _, fix) = one(|facts, _| {
            facts.subordinate.uids = None;
            facts.caller.name = None;
        });
        assert_eq!(
            fix,
            "echo 1000:165536:65536 | sudo tee -a /etc/subuid /etc/subgid"
        );
    }

    #[test]
    fn a_small_range_is_weaker() {
        let small = Some(IdRange {
            start: 1,
            count: 1000,
        });
        let (control, state, _) = one(|facts, _| facts.subordinate.uids = small);
        assert_eq!((control, state), ("subordinate_ids", State::Degraded));
    }

    #[test]
    fn missing_helpers_name_the_package_but_root_needs_none() {
        let (control, state, fix) = one(|facts, _| facts.subordinate.newuidmap = None);
        assert_eq!((control, state), ("id_helpers", State::Missing));
        assert!(fix.starts_with("sudo apt install uidmap"), "{fix}");
        let root = |facts: &mut Facts, _: &mut Deep| {
            facts.subordinate.newuidmap = None;
            facts.caller.uid = 0;
        };
        assert_eq!(trouble(root), []);
    }

    #[test]
    fn helpers_that_fail_are_quoted() {
        let (mut facts, mut deep) = good();
        facts.caller.supplementary_groups = true;
        deep.id_maps = Err("newuidmap: write to uid_map failed".into());
        let all = findings(&facts, &deep);
        assert_eq!(
            (all[0].control, all[0].state),
            ("id_helpers", State::Missing)
        );
        assert_eq!(
            all[0].what,
            "/usr/bin/newuidmap, /usr/bin/newgidmap: newuidmap: write to uid_map failed"
        );
    }

    #[test]
    fn another_group_than_the_account_s_is_refused_by_newgidmap() {
        let (control, state, fix) = one(|facts, _| facts.caller.gid = 27);
        assert_eq!((control, state), ("groups", State::Missing));
        assert_eq!(
            fix,
            "start from a shell of `newgrp '#1000'` or log in again"
        );
        assert_eq!(
            trouble(|facts, _| facts.caller.supplementary_groups = true),
            []
        );
    }

    #[test]
    fn landlock_off_old_and_oldest() {
        let (control, state, fix) = one(|facts, _| facts.landlock_abi = 0);
        assert_eq!((control, state), ("landlock", State::Missing));
        assert!(fix.contains("lsm=landlock"), "{fix}");
        let (_, _, fix) = one(|facts, _| facts.landlock_abi = 1);
        assert_eq!(fix, "boot Linux 5.19 or later");
    }

    #[test]
    fn cgroups_of_each_kind() {
        let none = |why: &str| Cgroup::None { why: why.into() };
        let (control, state, fix) = one(|facts, deep| {
            facts.cgroup = none("cgroup v1 hybrid, and not started by root");
            deep.systemd = false;
        });
        assert_eq!((control, state), ("cgroup", State::Degraded));
        assert_eq!(fix, "run it as root, or mount only cgroup v2 at boot");
        let (_, _, fix) = one(|facts, _| facts.cgroup = none("cgroup v2 under systemd, no bus"));
        assert_eq!(fix, "sudo apt install dbus-user-session, and log in again");
        let (_, state, fix) = one(|_, deep| deep.linger = false);
        assert_eq!(
            (state, fix.as_str()),
            (State::Degraded, "sudo loginctl enable-linger ann")
        );
        let (_, state, fix) = one(|facts, _| {
            facts.cgroup = Cgroup::Systemd {
                bus: "/b".into(),
                controllers: vec!["pids".into()],
            };
        });
        assert_eq!(state, State::Degraded);
        assert!(fix.contains("Delegate=cpu memory pids"), "{fix}");
    }

    #[test]
    fn a_runner_inside_a_container_is_named() {
        let (mut facts, mut deep) = good();
        facts.proc_overmounted = true;
        deep.fresh_proc = Outcome::Fails(Errno::PERM);
        deep.proc_over_mounts = vec!["/proc/kcore".into(), "/proc/keys".into()];
        let all = findings(&facts, &deep);
        assert_eq!((all[0].control, all[0].state), ("proc", State::Missing));
        assert_eq!(
            all[0].what,
            "/proc/kcore and 1 more are mounted over, as in a container"
        );
        assert!(
            all[0]
                .fix
                .as_ref()
                .unwrap()
                .contains("systempaths=unconfined")
        );
        assert!(!can_start(&all));
    }

    #[test]
    fn overlay_modules_and_attributes_weaken_only() {
        let all = trouble(|facts, deep| {
            facts.overlay_userxattr = false;
            deep.tmpfs_xattr = Outcome::Fails(Errno::OPNOTSUPP);
            deep.modules = vec!["overlay".into()];
            facts.nofile_hard = 1024;
            facts.seccomp.user_notify = false;
        });
        let controls: Vec<_> = all.iter().map(|(control, _, _)| *control).collect();
        assert_eq!(
            controls,
            [
                "seccomp",
                "overlay",
                "tmpfs_xattr",
                "modules",
                "descriptors"
            ]
        );
        assert!(
            all.iter().all(|(_, state, _)| *state == State::Degraded),
            "{all:?}"
        );
        assert_eq!(
            all[3].2,
            "echo overlay | sudo tee /etc/modules-load.d/cofferdam.conf && sudo modprobe -a overlay"
        );
    }

    #[test]
    fn an_old_or_foreign_kernel_stops_all() {
        assert_eq!(one(|facts, _| facts.kernel = (5, 10)).1, State::Missing);
        assert_eq!(one(|facts, _| facts.machine = "riscv64".into()).0, "kernel");
        assert_eq!(
            one(|facts, _| facts.seccomp.filter = false).1,
            State::Missing
        );
    }
}
