//! [pure] A made-up plan and its events, for tests.

use crate::confine::landlock::{Access, PathRule, ruleset};
use crate::confine::seccomp::preset::{self, FilterContext};
use crate::event::{Decider, Event, Kind, Refusal, Status};
use crate::linux::syscall::{Arch, Syscall};
use crate::policy::{Control, OnDenied, SyscallProfile, Syscalls};
use crate::sandbox::plan::{
    Attributes, Enforcement, Exec, Namespace, Op, Plan, Requires, Root, Source, Step, Supervise,
};
use crate::source::origin::{Origin, Sourced};
use std::collections::BTreeMap;

fn preset(line: u32) -> Origin {
    Origin::Preset {
        name: "untrusted".to_owned(),
        line,
    }
}

fn bind(source: usize, path: &str, read_only: bool, devices: bool) -> Op {
    let attributes = Attributes {
        read_only,
        devices,
        ..Attributes::default()
    };
    Op::Bind {
        source,
        path: path.to_owned(),
        attributes,
    }
}

fn tmpfs(path: &str) -> Op {
    let attributes = Attributes::default();
    Op::Tmpfs {
        path: path.to_owned(),
        size: 1 << 30,
        mode: 0o1777,
        owner: 1,
        attributes,
    }
}

fn seccomp() -> Op {
    let policy = Syscalls {
        profile: Sourced::new(SyscallProfile::Job, preset(31)),
        allow: vec![],
        deny: vec![],
        on_denied: Sourced::new(OnDenied::Record, preset(35)),
    };
    let context = FilterContext {
        arch: Arch::X86_64,
        writable_host_dir: true,
        refuse_memfd: true,
        refuse_affinity: true,
        notify_available: true,
    };
    Op::Seccomp {
        filter: preset::filter(&policy, &context).unwrap(),
    }
}

fn landlock() -> Op {
    let rule = |path: &str, access| PathRule {
        path: path.to_owned(),
        access,
        directory: true,
    };
    let rules = [
        rule("/", Access::ReadExecute),
        rule("/tmp", Access::ReadWrite),
        rule("/home/me/src", Access::ReadWrite),
        rule("/dev", Access::Device),
        rule("/proc", Access::Device),
    ];
    Op::Landlock {
        rules: ruleset(3, 2, &rules),
    }
}

/// A host view with a writable workspace under `untrusted`.
pub(crate) fn plan() -> Plan {
    let workspace = Origin::Flag {
        name: "--workspace".to_owned(),
    };
    let text = |text: &str| text.to_owned();
    let always = [
        Op::Namespaces {
            kinds: vec![Namespace::Mount, Namespace::Network],
        },
        Op::Root {
            root: Root::Tmpfs { size: 8 << 20 },
        },
        bind(0, "/usr", true, false),
        Op::Symlink {
            path: text("/bin"),
            target: text("usr/bin"),
        },
        Op::File {
            path: text("/etc/passwd"),
            content: text("job:x:1000:1000::/home/job:/bin/sh\n"),
        },
        tmpfs("/tmp"),
        tmpfs("/dev"),
        tmpfs("/forgotten"),
        bind(1, "/dev/null", false, true),
    ];
    let job = [
        bind(2, "/home/me/src", false, false),
        Op::Mask {
            path: text("/home/me/src/agent.sock"),
            directory: false,
        },
    ];
    let pins =
        [(".git", false), (".git/hooks", true), (".envrc", true)].map(|(path, read_only)| {
            Op::Pin {
                path: format!("/home/me/src/{path}"),
                read_only,
            }
        });
    let kernel = [
        Op::Proc {
            path: text("/proc"),
        },
        Op::Mask {
            path: text("/proc/kcore"),
            directory: false,
        },
        Op::ReadOnly {
            path: text("/proc/sys"),
        },
        Op::SealRoot,
        landlock(),
    ];
    let step = |why: &Origin| {
        let why = why.clone();
        move |op| Step {
            op,
            why: why.clone(),
        }
    };
    let steps = always.into_iter().map(step(&Origin::Always));
    let steps = steps.chain(job.into_iter().map(step(&workspace)));
    let steps = steps.chain(pins.into_iter().map(step(&preset(60))));
    let steps = steps.chain(kernel.into_iter().map(step(&Origin::Always)));
    let steps = steps.chain([seccomp()].into_iter().map(step(&preset(31))));
    Plan {
        schema: crate::sandbox::plan::SCHEMA,
        name: text("build-7"),
        policy: text("untrusted"),
        requires: Requires {
            uid: 1000,
            gid: 1000,
            machine: text("x86_64"),
            landlock_abi: 3,
        },
        sources: ["/usr", "/dev/null", "/home/me/src"]
            .map(Source::at)
            .to_vec(),
        supervise: Supervise {
            timeout: Some(3600),
            log_bytes: 64 << 20,
            events_per_second: 100,
            records_refusals: true,
            wait_killable: true,
            disk: None,
            not_kept: Vec::new(),
        },
        steps: steps.collect(),
        network: None,
        published: vec![],
        exec: Exec {
            argv: vec![text("make")],
            environment: BTreeMap::new(),
            directory: text("/home/me/src"),
            uid: 1000,
            gid: 1000,
            pid1: false,
            terminal: [false; 3],
        },
        controls: vec![
            Enforcement {
                control: text("memory"),
                requested: text("4294967296"),
                actual: text("tmpfs sizes only"),
                degraded: Some(Control::Cgroup),
                why: preset(61),
            },
            Enforcement {
                control: text("network"),
                requested: text("none"),
                actual: text("own namespace, loopback only"),
                degraded: None,
                why: Origin::Preset {
                    name: text("strict"),
                    line: 107,
                },
            },
        ],
        warnings: vec![],
    }
}

fn refused(call: Syscall, arguments: [u64; 6], errno: i32, count: u64) -> Kind {
    let number = call.number(Arch::X86_64).unwrap();
    let rule = "as the filter says".to_owned();
    Kind::Refused(Refusal {
        who: Decider::Broker,
        call,
        number,
        errno,
        rule,
        arguments,
        count,
    })
}

/// What happened to it.
pub(crate) fn events() -> Vec<Event> {
    let kinds = [
        Kind::Started { pid: 4242 },
        refused(Syscall::socket, [17, 3, 0x300, 0, 0, 0], 1, 1),
        refused(Syscall::ptrace, [16, 99, 0, 0, 0, 0], 1, 1),
        refused(Syscall::ptrace, [16, 99, 0, 0, 0, 0], 1, 40),
        refused(Syscall::socket, [38, 5, 0, 0, 0, 0], 97, 2),
        Kind::Dropped { count: 7 },
        Kind::Exited {
            status: Status::Code(2),
        },
        Kind::Ended,
    ];
    let time = crate::event::time::rfc3339;
    let event = |(seq, kind)| Event {
        seq,
        time: time(seq),
        kind,
    };
    (0..).zip(kinds).map(event).collect()
}
