//! Hosts as values.

use cofferdam::host::facts::{
    Caller, Cgroup, EtcEntry, Facts, IdRange, Maskable, Network, ProgramEntry, Seccomp,
    Subordinate, Tproxy, UserNamespaces,
};

const ALL: [&str; 3] = ["cpu", "memory", "pids"];

fn controllers(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn range(start: u32) -> Option<IdRange> {
    Some(IdRange {
        start,
        count: 65536,
    })
}

fn programs() -> Vec<ProgramEntry> {
    let entry = |path: &str, link: Option<&str>| ProgramEntry {
        path: path.to_owned(),
        link: link.map(str::to_owned),
    };
    vec![
        entry("/usr", None),
        entry("/bin", Some("usr/bin")),
        entry("/lib64", Some("usr/lib64")),
        entry("/opt", None),
    ]
}

/// Debian 12, an ordinary user with a systemd session: the host that others are compared with.
pub fn debian_6_1() -> Facts {
    let entry = |path: &str, directory| Maskable {
        path: path.to_owned(),
        directory,
    };
    Facts {
        kernel: (6, 1),
        release: "6.1.0-38-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        privileged: false,
        caller: Caller {
            uid: 1000,
            gid: 1000,
            name: Some("u".to_owned()),
            passwd_gid: Some(1000),
            home: Some("/home/u".to_owned()),
            supplementary_groups: true,
        },
        user_namespaces: UserNamespaces::Available,
        subordinate: Subordinate {
            uids: range(100_000),
            gids: range(200_000),
            newuidmap: Some("/usr/bin/newuidmap".to_owned()),
            newgidmap: Some("/usr/bin/newgidmap".to_owned()),
        },
        landlock_abi: 2,
        seccomp: Seccomp {
            filter: true,
            user_notify: true,
            wait_killable: true,
        },
        cgroup: Cgroup::Systemd {
            bus: "/run/user/1000/bus".to_owned(),
            controllers: controllers(&ALL),
        },
        network: Network {
            tproxy: Tproxy::Loadable,
            ipv6: true,
        },
        overlay_userxattr: true,
        tmpfs_user_xattr: false,
        proc_overmounted: false,
        sys: vec!["/sys/devices/system/cpu/online".to_owned()],
        maskable: vec![
            entry("/proc/kcore", false),
            entry("/proc/acpi", true),
            entry("/proc/sys", true),
        ],
        programs: programs(),
        etc: vec![EtcEntry {
            path: "/etc/ssl/certs".to_owned(),
            directory: true,
        }],
        cpus: 4,
        nofile_hard: 1 << 20,
    }
}

fn no_cgroup(why: &str) -> Cgroup {
    Cgroup::None {
        why: why.to_owned(),
    }
}

/// As root starts a sandbox that writes nothing of the host's: the first id of root's range acts.
fn by_root(facts: Facts) -> Facts {
    Facts {
        privileged: true,
        caller: Caller {
            uid: 100_000,
            gid: 100_000,
            name: None,
            passwd_gid: None,
            home: None,
            supplementary_groups: false,
        },
        subordinate: Subordinate {
            uids: range(100_001),
            gids: range(100_001),
            newuidmap: None,
            newgidmap: None,
        },
        ..facts
    }
}

/// The other hosts, by the names of their goldens.
pub fn others() -> impl Iterator<Item = (&'static str, Facts)> {
    let delegated = Cgroup::Delegated {
        dir: "/sys/fs/cgroup/user.slice/job".to_owned(),
        controllers: controllers(&ALL),
    };
    let v1 = Cgroup::V1 {
        controllers: ALL
            .iter()
            .map(|&name| (name.to_owned(), format!("/sys/fs/cgroup/{name}")))
            .collect(),
    };
    let debian = debian_6_1();
    let ubuntu = Facts {
        kernel: (6, 8),
        release: "6.8.0-60-generic".to_owned(),
        landlock_abi: 4,
        tmpfs_user_xattr: true,
        ..debian.clone()
    };
    let newest = Facts {
        kernel: (6, 18),
        release: "6.18.1".to_owned(),
        landlock_abi: 7,
        tmpfs_user_xattr: true,
        cgroup: delegated,
        ..debian.clone()
    };
    let mut no_ids = debian.clone();
    no_ids.subordinate.uids = None;
    no_ids.subordinate.gids = None;
    let mut no_helpers = debian.clone();
    no_helpers.subordinate.newuidmap = None;
    let hosts = [
        (
            "5.15-user-none",
            Facts {
                kernel: (5, 15),
                release: "5.15.0-100-generic".to_owned(),
                landlock_abi: 1,
                seccomp: Seccomp {
                    wait_killable: false,
                    ..debian.seccomp
                },
                cgroup: no_cgroup("no systemd user session"),
                ..debian.clone()
            },
        ),
        (
            "6.1-user-none",
            Facts {
                cgroup: no_cgroup("cgroup v1 hybrid, and not started by root"),
                ..debian.clone()
            },
        ),
        ("6.1-user-no-subids", no_ids),
        ("6.1-user-no-helpers", no_helpers),
        (
            "6.1-root-v1",
            Facts {
                cgroup: v1,
                ..by_root(debian.clone())
            },
        ),
        (
            "6.8-ubuntu-restricted",
            Facts {
                user_namespaces: UserNamespaces::AppArmor,
                ..ubuntu.clone()
            },
        ),
        ("6.8-ubuntu-lifted", ubuntu),
        (
            "6.18-user-none",
            Facts {
                cgroup: no_cgroup("no systemd user session"),
                ..newest.clone()
            },
        ),
        ("6.18-root-delegated", by_root(newest.clone())),
        ("6.18-user-delegated", newest),
        (
            "6.1-in-a-container",
            Facts {
                proc_overmounted: true,
                ..debian
            },
        ),
    ];
    hosts.into_iter()
}
