//! [pure] A small sandbox as planned and as observed, and what one change of it makes differ, for tests.

use super::differences;
use crate::confine::idmap::Extent;
use crate::linux::capability::Capability;
use crate::posture::observation::{
    Capabilities, Class, Descriptor, Directory, Kind, Limit, Namespace, Observation, Process, Role,
    Status, Thread,
};
use crate::sandbox::plan::{
    Exec, MapWriter, Namespace as Ns, Op, Plan, Requires, Rlimit, Root, SCHEMA, Step, Supervise,
};
use crate::source::origin::Origin;
use std::collections::BTreeMap;

fn one(outside: u32) -> Vec<Extent> {
    vec![Extent {
        inside: 1002,
        outside,
        count: 1,
    }]
}

pub fn plan() -> Plan {
    let outer = vec![Extent {
        inside: 0,
        outside: 1002,
        count: 1,
    }];
    let ops = vec![
        Op::OuterUser {
            uids: outer.clone(),
            gids: outer,
            writer: MapWriter::Helpers,
        },
        Op::Namespaces {
            kinds: vec![
                Ns::Mount,
                Ns::Pid,
                Ns::Network,
                Ns::Ipc,
                Ns::Uts,
                Ns::Cgroup,
            ],
        },
        Op::Groups,
        Op::Root {
            root: Root::Tmpfs { size: 1 },
        },
        Op::SealRoot,
        Op::Rlimits {
            limits: vec![(Rlimit::Nofile, 100, 200)],
        },
        Op::JobUser {
            uids: one(1),
            gids: one(1),
            setgroups: false,
        },
        Op::Capabilities {
            bounding: [Capability::CHOWN].into(),
            job: [Capability::CHOWN].into(),
            init: [Capability::CHOWN, Capability::KILL].into(),
        },
        Op::NoNewPrivileges,
        Op::Seccomp { filter: filter() },
    ];
    Plan {
        schema: SCHEMA,
        name: "test".to_owned(),
        policy: "test".to_owned(),
        requires: Requires {
            uid: 1002,
            gid: 1002,
            machine: "x86_64".to_owned(),
            landlock_abi: 0,
        },
        sources: vec![],
        supervise: Supervise {
            timeout: None,
            log_bytes: 0,
            events_per_second: 0,
            records_refusals: true,
            wait_killable: true,
            disk: None,
            not_kept: vec![],
        },
        steps: ops
            .into_iter()
            .map(|op| Step {
                op,
                why: Origin::Always,
            })
            .collect(),
        network: None,
        published: vec![],
        exec: Exec {
            argv: vec!["true".to_owned()],
            environment: BTreeMap::new(),
            directory: "/".to_owned(),
            uid: 1002,
            gid: 1002,
            pid1: false,
            terminal: [false; 3],
        },
        controls: vec![],
        warnings: vec![],
    }
}

fn filter() -> crate::confine::seccomp::Filter {
    crate::confine::seccomp::preset::gateway_filter(crate::linux::syscall::Arch::X86_64, false)
}

pub const U0: u64 = 100;

/// User 101, mnt 102 and so on inside; 1, 2 … outside.
fn namespaces(inside: bool) -> BTreeMap<Kind, Namespace> {
    let kinds = Kind::ALL.into_iter().enumerate().map(|(index, kind)| {
        let number = index as u64 + 1;
        let time = matches!(kind, Kind::Time | Kind::TimeForChildren);
        let owner = match kind {
            Kind::Mnt => 101,
            _ => U0,
        };
        let found = if inside && !time {
            Namespace {
                inode: 100 + number,
                owner: Some(owner),
            }
        } else {
            Namespace {
                inode: number,
                owner: None,
            }
        };
        (kind, found)
    });
    let mut kinds: BTreeMap<_, _> = kinds.collect();
    if let (true, Some(pid)) = (inside, kinds.get(&Kind::Pid).copied()) {
        kinds.insert(Kind::PidForChildren, pid);
    }
    kinds
}

pub fn descriptor(number: u32, class: Class) -> Descriptor {
    Descriptor {
        number,
        class,
        target: format!("object {number}"),
        mount: 2,
        device: (0, 40),
        network: None,
    }
}

pub fn process(role: Role, pid_inside: i32) -> Process {
    let inside = role != Role::Gateway;
    let chown = Capability::CHOWN.bit();
    let most = if role == Role::Init {
        chown | Capability::KILL.bit()
    } else {
        chown
    };
    let mut namespaces = namespaces(inside);
    if !inside {
        namespaces.insert(
            Kind::User,
            Namespace {
                inode: U0,
                owner: None,
            },
        );
    }
    let mut descriptors = vec![descriptor(0, Class::Null), descriptor(1, Class::Pipe)];
    if role != Role::Job {
        descriptors.push(descriptor(4, Class::Socket));
    }
    let id = u32::from(inside);
    let status = Status {
        name: "test".to_owned(),
        state: 'S',
        tid: 1000 + pid_inside,
        parent: 1,
        tid_inside: pid_inside,
        uids: [id; 4],
        gids: [id; 4],
        groups: vec![],
        descriptor_table: 64,
        umask: Some(0o22),
        capabilities: Capabilities {
            permitted: most,
            effective: most,
            bounding: chown,
            ..Capabilities::default()
        },
        no_new_privileges: true,
        seccomp: 2,
        seccomp_filters: 1,
        blocked: 0,
        ignored: 0,
        caught: 0,
    };
    let directory = Directory {
        path: "/".to_owned(),
        mount: 2,
    };
    let outer = vec![Extent {
        inside: 0,
        outside: 1002,
        count: 1,
    }];
    Process {
        role,
        pid: 1000 + pid_inside,
        pid_inside,
        name: "test".to_owned(),
        threads: vec![Thread {
            status,
            namespaces,
            root: directory.clone(),
            directory,
            descriptors,
        }],
        uid_map: if inside { one(1) } else { outer.clone() },
        gid_map: if inside { one(1) } else { outer },
        mounts: 0,
        limits: [(
            "Max open files".to_owned(),
            Limit {
                soft: Some(100),
                hard: Some(200),
            },
        )]
        .into(),
        cgroups: vec!["0::/a".to_owned()],
        proc_owner: 0,
        environment_bytes: (role == Role::Init).then_some(0),
    }
}

pub fn observation() -> Observation {
    let table = "2 1 0:40 / / ro,nosuid,nodev,relatime - tmpfs cofferdam rw\n";
    Observation {
        host: namespaces(false)
            .into_iter()
            .map(|(kind, found)| (kind, found.inode))
            .collect(),
        processes: vec![
            process(Role::Gateway, 0),
            process(Role::Init, 1),
            process(Role::Job, 2),
        ],
        mount_tables: vec![crate::host::mounts::parse(table).unwrap()],
        unreadable: vec![],
    }
}

pub type Change = fn(&mut Observation);

/// What one change makes differ, by process and thing.
pub fn found(change: Change) -> Vec<(String, String)> {
    let mut observation = observation();
    change(&mut observation);
    let found = differences(&plan(), &observation);
    found
        .into_iter()
        .map(|found| (found.process, found.what))
        .collect()
}

pub fn job(observation: &mut Observation) -> &mut Thread {
    &mut observation.processes[2].threads[0]
}

pub fn init(observation: &mut Observation) -> &mut Thread {
    &mut observation.processes[1].threads[0]
}

pub fn hand_in(observation: &mut Observation, class: Class, mount: u64) {
    job(observation).descriptors.push(Descriptor {
        mount,
        ..descriptor(9, class)
    });
}
