//! [pure] What this host can enforce, what is missing, what that costs, and the one command that fixes it.

mod identity;
mod kernel;
mod limits;
mod network;

use super::facts::Facts;
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
    /// An overlay with `userxattr` in a user namespace.
    pub overlay: Outcome,
    /// A `user.` attribute on a tmpfs in a user namespace.
    pub tmpfs_xattr: Outcome,
    /// Bits of the Landlock errata fixed (LANDLOCK_CREATE_RULESET_ERRATA), 0 where unknown. Only
    /// reported: no plan can make up for one that is not fixed.
    pub landlock_errata: u32,
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

/// All findings, the worst first, else in this order.
pub fn findings(facts: &Facts, deep: &Deep) -> Vec<Finding> {
    let mut all = vec![
        kernel::kernel(facts),
        identity::user_namespaces(facts, deep),
        identity::subordinate_ids(facts, deep),
        identity::id_helpers(facts, deep),
        identity::groups(facts),
        kernel::proc(facts, deep),
        kernel::seccomp(facts),
        kernel::landlock(facts, deep),
        limits::cgroup(facts, deep),
        kernel::overlay(facts, deep),
        kernel::tmpfs_xattr(deep),
        kernel::modules(deep),
        limits::descriptors(facts),
        network::network(facts),
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

fn works(outcome: Outcome) -> bool {
    outcome == Outcome::Works
}

#[cfg(test)]
mod tests {
    use super::super::facts::{
        Caller, Cgroup, IdRange, Network, Seccomp, Subordinate, Tproxy, UserNamespaces,
    };
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
            privileged: false,
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
            seccomp: Seccomp {
                filter: true,
                user_notify: true,
                wait_killable: true,
            },
            cgroup: Cgroup::Systemd {
                bus: "/run/user/1000/bus".into(),
                controllers: ["cpu", "memory", "pids"].map(String::from).to_vec(),
            },
            network: Network {
                tproxy: Tproxy::Loadable,
                ipv6: true,
            },
            overlay_userxattr: true,
            tmpfs_user_xattr: true,
            proc_overmounted: false,
            sys: vec![],
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
            overlay: Outcome::Works,
            tmpfs_xattr: Outcome::Works,
            landlock_errata: 0,
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
            deep.fresh_proc = refused;
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
    fn without_tproxy_there_is_no_network() {
        let (control, state, fix) = one(|facts, _| facts.network.tproxy = Tproxy::Missing);
        assert_eq!((control, state), ("network", State::Degraded));
        assert_eq!(fix, "boot a kernel built with CONFIG_NFT_TPROXY");
        assert_eq!(
            trouble(|facts, _| facts.network.tproxy = Tproxy::Unknown),
            []
        );
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
            "printf '%s\\n' overlay | sudo tee /etc/modules-load.d/cofferdam.conf && sudo modprobe -a overlay"
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
