//! [pure] Observation against Plan: every way in which a process is less confined than planned.
//!
//! Init is ours and must be exactly as planned. A job may give up more than was
//! asked of it (drop capabilities, add filters, lower limits): only what it has
//! beyond the plan is a difference.

use super::expect::{Expectation, expected};
use super::handed_in::{foreign_to_init, from_outside, holds, problem};
use super::mounts;
use super::observation::{Class, Descriptor, Kind, Namespace, Observation, Process, Role, Thread};
use super::words::{bound, capability_words, class_words, label, map_words, numbers, place};
use crate::confine::idmap::Extent;
use crate::host::mounts::Mount;
use crate::linux::capability::Capability;
use crate::sandbox::plan::Plan;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One thing that is not as planned.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which process: role, pid inside, name.
    pub process: String,
    /// What of it.
    pub what: String,
    /// As planned.
    pub expected: String,
    /// As it is.
    pub actual: String,
}

/// Everything that is not as planned; empty when all is.
pub fn differences(plan: &Plan, observation: &Observation) -> Vec<Difference> {
    let expectation = expected(plan);
    let mut found = Vec::new();
    for unreadable in &observation.unreadable {
        found.push(Difference {
            process: format!("pid {} outside", unreadable.pid),
            what: format!("read /proc/{}/{}", unreadable.pid, unreadable.file),
            expected: "readable".to_owned(),
            actual: unreadable.cause.clone(),
        });
    }
    let one = |role| {
        observation
            .processes
            .iter()
            .find(|process| process.role == role)
    };
    let (Some(gateway), Some(init)) = (one(Role::Gateway), one(Role::Init)) else {
        found.push(Difference {
            process: "sandbox".to_owned(),
            what: "gateway and init".to_owned(),
            expected: "both read".to_owned(),
            actual: "not both read".to_owned(),
        });
        return found;
    };
    let sandbox = Sandbox {
        expectation: &expectation,
        observation,
        gateway,
        init,
    };
    for process in &observation.processes {
        let mut report = Report {
            process: label(process),
            found: &mut found,
        };
        sandbox.process(process, &mut report);
    }
    found
}

/// Differences of one process on their way out.
struct Report<'a> {
    process: String,
    found: &'a mut Vec<Difference>,
}

impl Report<'_> {
    fn add(
        &mut self,
        what: impl Into<String>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) {
        self.found.push(Difference {
            process: self.process.clone(),
            what: what.into(),
            expected: expected.into(),
            actual: actual.into(),
        });
    }

    fn equal<T: PartialEq>(
        &mut self,
        what: &str,
        expected: &T,
        actual: &T,
        show: impl Fn(&T) -> String,
    ) {
        if expected != actual {
            self.add(what, show(expected), show(actual));
        }
    }
}

struct Sandbox<'a> {
    expectation: &'a Expectation,
    observation: &'a Observation,
    gateway: &'a Process,
    init: &'a Process,
}

impl Sandbox<'_> {
    fn process(&self, process: &Process, report: &mut Report<'_>) {
        let plan = self.expectation;
        if process.role == Role::Gateway {
            report.equal("uid map", &plan.outer_uids, &process.uid_map, |map| {
                map_words(map)
            });
            report.equal("gid map", &plan.outer_gids, &process.gid_map, |map| {
                map_words(map)
            });
            return gateway(process, report);
        }
        if process.role == Role::Joined {
            report.add("parent", "init or a descendant of it", "a process outside");
        }
        report.equal("uid map", &plan.uids, &process.uid_map, |map| {
            map_words(map)
        });
        report.equal("gid map", &plan.gids, &process.gid_map, |map| {
            map_words(map)
        });
        self.limits(process, report);
        self.mounts(process, report);
        self.cgroups(process, report);
        if self.is_our_init(process) {
            our_init(process, report);
        }
        for thread in &process.threads {
            self.thread(process, thread, report);
        }
    }

    /// With --pid1 the first process is the job's.
    fn is_our_init(&self, process: &Process) -> bool {
        process.role == Role::Init && !self.expectation.job_is_init
    }

    fn thread(&self, process: &Process, thread: &Thread, report: &mut Report<'_>) {
        self.namespaces(thread, report);
        self.ids(thread, report);
        self.capabilities(self.is_our_init(process), thread, report);
        self.locks(self.is_our_init(process), thread, report);
        let table = self.table(process);
        for (what, directory) in [
            ("root", &thread.root),
            ("working directory", &thread.directory),
        ] {
            if !holds(table, directory.mount) {
                report.add(what, "on a mount of the sandbox", place(directory));
            }
        }
        if thread.root.path != "/" {
            report.add("root", "/", place(&thread.root));
        }
        self.descriptors(process, thread, table, report);
    }

    /// The mounts a process can see.
    fn table(&self, process: &Process) -> &[Mount] {
        self.observation
            .mount_tables
            .get(process.mounts)
            .map_or(&[], Vec::as_slice)
    }

    fn namespaces(&self, thread: &Thread, report: &mut Report<'_>) {
        let shared = namespaces_of(self.init);
        let outer = namespaces_of(self.gateway)
            .get(&Kind::User)
            .map(|user| user.inode);
        for (kind, host) in &self.observation.host {
            let what = format!("{} namespace", kind.file());
            let Some(found) = thread.namespaces.get(kind) else {
                report.add(what, "one", "not read");
                continue;
            };
            let own = self.expectation.namespaces.contains(kind);
            if own && (found.inode == *host || (*kind == Kind::User && Some(found.inode) == outer))
            {
                report.add(&what, "the sandbox's own", "one outside of it");
            }
            if !own && found.inode != *host {
                report.add(&what, "the host's", format!("{}", found.inode));
            }
            if shared.get(kind).map(|init| init.inode) != Some(found.inode) {
                report.add(&what, "that of init", format!("{}", found.inode));
            }
            if own {
                self.owner(*kind, found, outer, report);
            }
        }
    }

    /// Mounts belong to U2, so that they are locked copies; all else to U0, out of reach of the job.
    fn owner(&self, kind: Kind, found: &Namespace, outer: Option<u64>, report: &mut Report<'_>) {
        let (owner, name) = match kind {
            Kind::Mnt => (
                namespaces_of(self.init)
                    .get(&Kind::User)
                    .map(|user| user.inode),
                "U2",
            ),
            _ => (outer, "U0"),
        };
        if found.owner.is_none() || found.owner != owner {
            let actual = found
                .owner
                .map_or("one above U0".to_owned(), |owner| owner.to_string());
            report.add(
                format!("owner of the {} namespace", kind.file()),
                name,
                actual,
            );
        }
    }

    fn ids(&self, thread: &Thread, report: &mut Report<'_>) {
        let plan = self.expectation;
        let status = &thread.status;
        let unmapped = |map: &[Extent], ids: &[u32]| ids.iter().any(|id| !has_outside(map, *id));
        if unmapped(&plan.uids, &status.uids) {
            report.add(
                "uids, as U0 sees them",
                map_words(&plan.uids),
                numbers(&status.uids),
            );
        }
        if unmapped(&plan.gids, &status.gids) {
            report.add(
                "gids, as U0 sees them",
                map_words(&plan.gids),
                numbers(&status.gids),
            );
        }
        // Only who has SETGID can have taken groups again, of the map at most.
        let may = plan.job & Capability::SETGID.bit() != 0;
        let fine = if may {
            !unmapped(&plan.gids, &status.groups)
        } else {
            status.groups.is_empty()
        };
        if plan.groups_dropped && !fine {
            report.add("supplementary groups", "none", numbers(&status.groups));
        }
    }

    fn capabilities(&self, init: bool, thread: &Thread, report: &mut Report<'_>) {
        let plan = self.expectation;
        let found = thread.status.capabilities;
        let most = if init { plan.init } else { plan.job };
        let (inheritable, ambient) = if init { (0, 0) } else { (most, most) };
        // Leaving the bounding set takes SETPCAP: without it, it is as it was.
        let fixed = init || plan.job & Capability::SETPCAP.bit() == 0;
        for (what, most, exact, found) in [
            (
                "inheritable capabilities",
                inheritable,
                init,
                found.inheritable,
            ),
            ("permitted capabilities", most, init, found.permitted),
            ("effective capabilities", most, init, found.effective),
            (
                "bounding capabilities",
                plan.bounding,
                fixed,
                found.bounding,
            ),
            ("ambient capabilities", ambient, init, found.ambient),
        ] {
            if found & !most != 0 || (exact && found != most) {
                report.add(what, capability_words(most), capability_words(found));
            }
        }
    }

    fn locks(&self, init: bool, thread: &Thread, report: &mut Report<'_>) {
        let plan = self.expectation;
        let status = &thread.status;
        if plan.no_new_privileges && !status.no_new_privileges {
            report.add("no_new_privs", "1", "0");
        }
        if plan.seccomp_filters == 0 {
            return;
        }
        if status.seccomp != 2 {
            report.add("seccomp mode", "2 (filter)", status.seccomp.to_string());
        }
        let (least, found) = (plan.seccomp_filters, status.seccomp_filters);
        if found < least || (init && found != least) {
            report.add("seccomp filters", format!("{least}"), found.to_string());
        }
    }

    fn limits(&self, process: &Process, report: &mut Report<'_>) {
        let exact = self.is_our_init(process);
        for (name, (soft, hard)) in &self.expectation.limits {
            let Some(found) = process.limits.get(name) else {
                report.add(format!("limit {name}"), hard.to_string(), "not read");
                continue;
            };
            let (is_soft, is_hard) = (
                found.soft.unwrap_or(u64::MAX),
                found.hard.unwrap_or(u64::MAX),
            );
            let same = (is_soft, is_hard) == (*soft, *hard);
            if is_soft > *hard || is_hard > *hard || (exact && !same) {
                report.add(
                    format!("limit {name}"),
                    format!("{soft} soft, {hard} hard"),
                    format!("{} soft, {} hard", bound(found.soft), bound(found.hard)),
                );
            }
        }
    }

    fn mounts(&self, process: &Process, report: &mut Report<'_>) {
        // One table for all is the rule: it is judged once, with init.
        if process.role != Role::Init && process.mounts == self.init.mounts {
            return;
        }
        let Some(table) = self.observation.mount_tables.get(process.mounts) else {
            return report.add("mounts", "a table", "not read");
        };
        for (what, expected, actual) in mounts::deviations(&self.expectation.mounts, table) {
            report.add(what, expected, actual);
        }
    }

    /// Everything is in init's cgroups or below, and those are the sandbox's own where it has one.
    fn cgroups(&self, process: &Process, report: &mut Report<'_>) {
        let below = |line: &str| {
            self.init.cgroups.iter().any(|init| {
                let rest = line.strip_prefix(init.as_str());
                rest.is_some_and(|rest| {
                    rest.is_empty() || init.ends_with('/') || rest.starts_with('/')
                })
            })
        };
        for line in process.cgroups.iter().filter(|line| !below(line)) {
            report.add("cgroup", "that of init", line);
        }
        if self.expectation.cgroup && process.cgroups == self.gateway.cgroups {
            report.add("cgroup", "the sandbox's own", process.cgroups.join(" "));
        }
    }

    fn descriptors(
        &self,
        process: &Process,
        thread: &Thread,
        table: &[Mount],
        report: &mut Report<'_>,
    ) {
        let ours = self.is_our_init(process);
        for descriptor in &thread.descriptors {
            if ours && from_outside(descriptor) {
                continue;
            }
            let problem = problem(descriptor, thread, table)
                .or_else(|| ours.then(|| foreign_to_init(&descriptor.class)).flatten())
                .or_else(|| self.second_listener(descriptor));
            if let Some(problem) = problem {
                let actual = format!("{} {}", class_words(&descriptor.class), descriptor.target);
                report.add(format!("descriptor {}", descriptor.number), problem, actual);
            }
        }
        if ours {
            supervisors_socket(thread, report);
        }
    }

    fn second_listener(&self, descriptor: &Descriptor) -> Option<&'static str> {
        let listener = descriptor.class == Class::Kernel("seccomp notify".to_owned());
        (self.expectation.listener && listener).then_some("no seccomp listener inside")
    }
}

/// The gateway keeps its capabilities over U0, which it holds for the undo, but
/// under a filter of its own and with nothing open that is init's or the stage's.
fn gateway(process: &Process, report: &mut Report<'_>) {
    for thread in &process.threads {
        let status = &thread.status;
        if !status.no_new_privileges {
            report.add("no_new_privs", "1", "0");
        }
        if (status.seccomp, status.seccomp_filters) != (2, 1) {
            let actual = format!(
                "mode {}, filters {}",
                status.seccomp, status.seccomp_filters
            );
            report.add("seccomp", "mode 2, filters 1", actual);
        }
        for descriptor in &thread.descriptors {
            if matches!(&descriptor.class, Class::Memory(_) | Class::Directory) {
                let actual = format!("{} {}", class_words(&descriptor.class), descriptor.target);
                report.add(
                    format!("descriptor {}", descriptor.number),
                    "no memory and no directory",
                    actual,
                );
            }
        }
        supervisors_socket(thread, report);
    }
}

/// What init is beside its capabilities and limits: not dumpable, its environment empty.
/// The ids say nothing of dumpability where init is U0's id 0 itself.
fn our_init(process: &Process, report: &mut Report<'_>) {
    if process.proc_owner != 0 {
        report.add(
            "owner of /proc/1/fd",
            "0 (not dumpable)",
            process.proc_owner.to_string(),
        );
    }
    if process.environment_bytes != Some(0) {
        let bytes = process.environment_bytes;
        let actual = bytes.map_or("not read".to_owned(), |bytes| format!("{bytes} bytes"));
        report.add("environment", "empty", actual);
    }
}

/// Init has one socket that was made outside, that to its supervisor: by more
/// than one it could speak as somebody else.
fn supervisors_socket(thread: &Thread, report: &mut Report<'_>) {
    let sockets: BTreeSet<&str> = thread
        .descriptors
        .iter()
        .filter(|descriptor| from_outside(descriptor))
        .map(|descriptor| descriptor.target.as_str())
        .collect();
    if sockets.len() != 1 {
        let sockets: Vec<&str> = sockets.into_iter().collect();
        report.add(
            "sockets from outside",
            "one, to its supervisor",
            sockets.join(" "),
        );
    }
}

fn namespaces_of(process: &Process) -> BTreeMap<Kind, Namespace> {
    process
        .threads
        .first()
        .map(|thread| thread.namespaces.clone())
        .unwrap_or_default()
}

fn has_outside(map: &[Extent], id: u32) -> bool {
    map.iter()
        .any(|extent| id >= extent.outside && id - extent.outside < extent.count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::mounts;
    use crate::posture::observation::{Capabilities, Directory, Limit, Status, Unreadable};
    use crate::sandbox::plan::MapWriter;
    use crate::sandbox::plan::{
        Exec, Namespace as Ns, Op, Requires, Rlimit, Root, SCHEMA, Step, Supervise,
    };
    use crate::source::origin::Origin;

    fn one(outside: u32) -> Vec<Extent> {
        vec![Extent {
            inside: 1002,
            outside,
            count: 1,
        }]
    }

    fn plan() -> Plan {
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
        crate::confine::seccomp::preset::gateway_filter(crate::linux::syscall::Arch::X86_64)
    }

    const U0: u64 = 100;

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

    fn descriptor(number: u32, class: Class) -> Descriptor {
        Descriptor {
            number,
            class,
            target: format!("object {number}"),
            mount: 2,
            device: (0, 40),
            network: None,
        }
    }

    fn process(role: Role, pid_inside: i32) -> Process {
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

    fn observation() -> Observation {
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
            mount_tables: vec![mounts::parse(table).unwrap()],
            unreadable: vec![],
        }
    }

    type Change = fn(&mut Observation);

    /// What one change makes differ, by process and thing.
    fn found(change: Change) -> Vec<(String, String)> {
        let mut observation = observation();
        change(&mut observation);
        let found = differences(&plan(), &observation);
        found
            .into_iter()
            .map(|found| (found.process, found.what))
            .collect()
    }

    fn job(observation: &mut Observation) -> &mut Thread {
        &mut observation.processes[2].threads[0]
    }

    fn init(observation: &mut Observation) -> &mut Thread {
        &mut observation.processes[1].threads[0]
    }

    fn hand_in(observation: &mut Observation, class: Class, mount: u64) {
        job(observation).descriptors.push(Descriptor {
            mount,
            ..descriptor(9, class)
        });
    }

    #[test]
    fn a_sandbox_as_planned_has_no_difference() {
        assert_eq!(found(|_| ()), []);
    }

    #[test]
    fn each_single_deviation_of_a_job_is_reported_and_nothing_else() {
        let changes: [(&str, Change); 31] = [
            ("inheritable capabilities", |o| {
                job(o).status.capabilities.inheritable = 2
            }),
            ("permitted capabilities", |o| {
                job(o).status.capabilities.permitted |= 1 << 21
            }),
            ("effective capabilities", |o| {
                job(o).status.capabilities.effective |= 1 << 63
            }),
            ("bounding capabilities", |o| {
                job(o).status.capabilities.bounding |= 2
            }),
            ("bounding capabilities", |o| {
                job(o).status.capabilities.bounding = 0
            }),
            ("ambient capabilities", |o| {
                job(o).status.capabilities.ambient = 2
            }),
            ("no_new_privs", |o| job(o).status.no_new_privileges = false),
            ("seccomp mode", |o| job(o).status.seccomp = 0),
            ("seccomp filters", |o| job(o).status.seccomp_filters = 0),
            ("uids, as U0 sees them", |o| job(o).status.uids[3] = 0),
            ("gids, as U0 sees them", |o| job(o).status.gids[0] = 2),
            ("supplementary groups", |o| job(o).status.groups = vec![1]),
            ("uid map", |o| o.processes[2].uid_map[0].outside = 0),
            ("gid map", |o| o.processes[2].gid_map[0].count = 2),
            ("limit Max open files", |o| {
                o.processes[2].limits.insert(
                    "Max open files".to_owned(),
                    Limit {
                        soft: Some(1),
                        hard: None,
                    },
                );
            }),
            ("limit Max open files", |o| o.processes[2].limits.clear()),
            ("cgroup", |o| {
                o.processes[2].cgroups = vec!["0::/ab".to_owned()]
            }),
            ("root", |o| job(o).root.path = "/tmp".to_owned()),
            ("root", |o| job(o).root.mount = 77),
            ("working directory", |o| job(o).directory.mount = 77),
            ("descriptor 9", |o| hand_in(o, Class::Regular, 77)),
            ("descriptor 9", |o| hand_in(o, Class::Directory, 77)),
            ("descriptor 9", |o| hand_in(o, Class::Terminal, 77)),
            ("descriptor 9", |o| hand_in(o, Class::Block(8, 0), 77)),
            ("descriptor 9", |o| hand_in(o, Class::Socket, 77)),
            ("descriptor 9", |o| {
                hand_in(o, Class::Memory("plan".to_owned()), 77)
            }),
            ("descriptor 9", |o| {
                hand_in(o, Class::Kernel("seccomp notify".to_owned()), 77)
            }),
            ("descriptor 9", |o| {
                hand_in(o, Class::Kernel("fscontext".to_owned()), 77)
            }),
            ("descriptor 9", |o| {
                hand_in(o, Class::Namespace(Kind::Mnt, 77), 77)
            }),
            ("mounts", |o| o.processes[2].mounts = 9),
            ("parent", |o| o.processes[2].role = Role::Joined),
        ];
        for (what, change) in changes {
            let all = found(change);
            assert!(
                all.iter().any(|(_, found)| found == what),
                "{what}: {all:?}"
            );
            // Without a mount table nothing lies on it.
            let more = what == "mounts";
            assert!(
                more || all.iter().all(|(_, found)| found == what),
                "{what}: {all:?}"
            );
            assert!(
                all.iter().all(|(who, _)| !who.starts_with("init")),
                "{what}: {all:?}"
            );
        }
    }

    #[test]
    fn what_a_job_can_open_itself_is_no_difference() {
        let changes: [Change; 7] = [
            |o| hand_in(o, Class::Regular, 2),
            |o| hand_in(o, Class::Memory("shm".to_owned()), 77),
            |o| hand_in(o, Class::Kernel("eventfd".to_owned()), 77),
            |o| hand_in(o, Class::Null, 77),
            |o| {
                hand_in(o, Class::Socket, 77);
                let network = job(o).namespaces[&Kind::Net].inode;
                job(o).descriptors.last_mut().unwrap().network = Some(network);
            },
            |o| job(o).status.seccomp_filters = 3,
            |o| job(o).status.capabilities.permitted = 0,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            assert_eq!(found(change), [], "change {index}");
        }
    }

    #[test]
    fn a_terminal_counts_by_its_devpts() {
        let own: Change = |o| {
            o.mount_tables[0][0].fstype = "devpts".to_owned();
            hand_in(o, Class::Terminal, 77);
        };
        // The root that became a devpts is what differs, of init.
        assert!(found(own).iter().all(|(who, _)| who.starts_with("init")));
        let foreign: Change = |o| {
            o.mount_tables[0][0].fstype = "devpts".to_owned();
            hand_in(o, Class::Terminal, 77);
            job(o).descriptors.last_mut().unwrap().device = (0, 99);
        };
        assert!(
            found(foreign)
                .iter()
                .any(|(_, what)| what == "descriptor 9")
        );
    }

    #[test]
    fn each_namespace_is_compared_with_the_hosts_inits_and_its_owner() {
        for kind in Kind::ALL {
            let mut observation = observation();
            let host = observation.host[&kind];
            let time = matches!(kind, Kind::Time | Kind::TimeForChildren);
            let other = Namespace {
                inode: if time { 999 } else { host },
                owner: Some(U0),
            };
            job(&mut observation).namespaces.insert(kind, other);
            let found = differences(&plan(), &observation);
            let what = format!("{} namespace", kind.file());
            assert!(
                found.iter().any(|found| found.what == what),
                "{what}: {found:?}"
            );
        }
        for kind in [Kind::Net, Kind::Pid, Kind::Mnt, Kind::User] {
            let mut observation = observation();
            job(&mut observation)
                .namespaces
                .get_mut(&kind)
                .unwrap()
                .owner = Some(555);
            let found = differences(&plan(), &observation);
            assert_eq!(found.len(), 1, "{kind:?}: {found:?}");
            assert!(found[0].what.starts_with("owner of"), "{found:?}");
        }
    }

    #[test]
    fn a_user_namespace_that_is_the_outer_one_is_reported() {
        let all = found(|o| {
            for index in [1, 2] {
                let kinds = &mut o.processes[index].threads[0].namespaces;
                kinds.insert(
                    Kind::User,
                    Namespace {
                        inode: U0,
                        owner: Some(U0),
                    },
                );
                kinds.get_mut(&Kind::Mnt).unwrap().owner = Some(U0);
            }
        });
        assert_eq!(all.len(), 2, "{all:?}");
    }

    #[test]
    fn init_is_exactly_as_planned() {
        let changes: [(&str, Change); 9] = [
            ("permitted capabilities", |o| {
                init(o).status.capabilities.permitted = 0
            }),
            ("effective capabilities", |o| {
                init(o).status.capabilities.effective |= 2
            }),
            ("seccomp filters", |o| init(o).status.seccomp_filters = 2),
            ("owner of /proc/1/fd", |o| o.processes[1].proc_owner = 1),
            ("environment", |o| {
                o.processes[1].environment_bytes = Some(20)
            }),
            ("descriptor 9", |o| {
                init(o).descriptors.push(descriptor(9, Class::Regular))
            }),
            ("sockets from outside", |o| {
                init(o).descriptors.push(descriptor(9, Class::Socket))
            }),
            ("sockets from outside", |o| init(o).descriptors.truncate(2)),
            ("limit Max open files", |o| {
                o.processes[1].limits.insert(
                    "Max open files".to_owned(),
                    Limit {
                        soft: Some(99),
                        hard: Some(200),
                    },
                );
            }),
        ];
        for (what, change) in changes {
            assert_eq!(
                found(change),
                [("init 1 (test)".to_owned(), what.to_owned())]
            );
        }
    }

    #[test]
    fn the_gateway_is_filtered_and_holds_nothing_of_others() {
        let changes: [(&str, Change); 6] = [
            ("uid map", |o| o.processes[0].uid_map.clear()),
            ("no_new_privs", |o| {
                o.processes[0].threads[0].status.no_new_privileges = false
            }),
            ("seccomp", |o| o.processes[0].threads[0].status.seccomp = 0),
            ("descriptor 6", |o| {
                o.processes[0].threads[0]
                    .descriptors
                    .push(descriptor(6, Class::Memory("filters".to_owned())));
            }),
            ("descriptor 6", |o| {
                o.processes[0].threads[0]
                    .descriptors
                    .push(descriptor(6, Class::Directory))
            }),
            ("sockets from outside", |o| {
                o.processes[0].threads[0]
                    .descriptors
                    .push(descriptor(3, Class::Socket))
            }),
        ];
        for (what, change) in changes {
            assert_eq!(
                found(change),
                [("gateway (test)".to_owned(), what.to_owned())]
            );
        }
    }

    #[test]
    fn a_second_thread_is_looked_at_too() {
        let all = found(|o| {
            let mut thread = job(o).clone();
            thread.status.seccomp = 0;
            o.processes[2].threads.push(thread);
        });
        assert_eq!(
            all,
            [("job 2 (test)".to_owned(), "seccomp mode".to_owned())]
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_difference() {
        let all = found(|o| {
            o.unreadable.push(Unreadable {
                pid: 7,
                file: "fd".to_owned(),
                cause: "EACCES".to_owned(),
            });
        });
        assert_eq!(
            all,
            [("pid 7 outside".to_owned(), "read /proc/7/fd".to_owned())]
        );
        assert_eq!(found(|o| o.processes.truncate(1)).len(), 1);
    }

    #[test]
    fn a_pid_1_that_is_the_job_is_judged_as_a_job() {
        let mut plan = plan();
        plan.exec.pid1 = true;
        let mut observation = observation();
        let of_job = process(Role::Job, 1);
        observation.processes.truncate(2);
        observation.processes[1] = Process {
            role: Role::Init,
            proc_owner: 1,
            ..of_job
        };
        assert_eq!(differences(&plan, &observation), []);
    }

    #[test]
    fn a_planned_cgroup_is_not_the_gateways() {
        let mut plan = plan();
        plan.steps.push(Step {
            op: Op::Cgroup {
                limits: crate::sandbox::plan::CgroupLimits::default(),
            },
            why: Origin::Always,
        });
        let found = differences(&plan, &observation());
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|found| found.what == "cgroup"));
    }

    #[test]
    fn observations_survive_the_pipe() {
        let observation = observation();
        let text = serde_json::to_string(&observation).unwrap();
        assert_eq!(
            serde_json::from_str::<Observation>(&text).unwrap(),
            observation
        );
    }
}
