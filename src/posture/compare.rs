//! [pure] Observation against Plan: every way in which a process is less confined than planned.
//!
//! Init is ours and must be exactly as planned. A job may give up more than was
//! asked of it (drop capabilities, add filters, lower limits): only what it has
//! beyond the plan is a difference.

use super::expect::{Expectation, expected};
use super::mounts;
use super::observation::{
    Class, Descriptor, Directory, Kind, Namespace, Observation, Process, Role, Thread,
};
use crate::confine::idmap::{self, Extent};
use crate::linux::capability::Capability;
use crate::sandbox::plan::Plan;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Memory of ours that only stage and gateway ever see.
const OUR_MEMORY: [&str; 3] = ["plan", "filters", "cofferdam-init"];

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
    let one = |role| observation.processes.iter().find(|process| process.role == role);
    let (Some(gateway), Some(init)) = (one(Role::Gateway), one(Role::Init)) else {
        found.push(Difference {
            process: "sandbox".to_owned(),
            what: "gateway and init".to_owned(),
            expected: "both read".to_owned(),
            actual: "not both read".to_owned(),
        });
        return found;
    };
    let sandbox = Sandbox { expectation: &expectation, observation, gateway, init };
    for process in &observation.processes {
        let mut report = Report { process: label(process), found: &mut found };
        sandbox.process(process, &mut report);
    }
    found
}

/// `job 2 (sleep)`.
pub(super) fn label(process: &Process) -> String {
    let role = match process.role {
        Role::Gateway => return format!("gateway ({})", process.name),
        Role::Init => "init",
        Role::Job => "job",
        Role::Joined => "joined",
    };
    format!("{role} {} ({})", process.pid_inside, process.name)
}

/// Differences of one process on their way out.
struct Report<'a> {
    process: String,
    found: &'a mut Vec<Difference>,
}

impl Report<'_> {
    fn add(&mut self, what: impl Into<String>, expected: impl Into<String>, actual: impl Into<String>) {
        self.found.push(Difference {
            process: self.process.clone(),
            what: what.into(),
            expected: expected.into(),
            actual: actual.into(),
        });
    }

    fn equal<T: PartialEq>(&mut self, what: &str, expected: &T, actual: &T, show: impl Fn(&T) -> String) {
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
            report.equal("uid map", &plan.outer_uids, &process.uid_map, |map| map_words(map));
            report.equal("gid map", &plan.outer_gids, &process.gid_map, |map| map_words(map));
            return;
        }
        if process.role == Role::Joined {
            report.add("parent", "init or a descendant of it", "a process outside");
        }
        report.equal("uid map", &plan.uids, &process.uid_map, |map| map_words(map));
        report.equal("gid map", &plan.gids, &process.gid_map, |map| map_words(map));
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
        for (what, directory) in [("root", &thread.root), ("working directory", &thread.directory)] {
            if !table.contains(&directory.mount) {
                report.add(what, "on a mount of the sandbox", place(directory));
            }
        }
        if thread.root.path != "/" {
            report.add("root", "/", place(&thread.root));
        }
        self.descriptors(process, thread, &table, report);
    }

    /// Ids of the mounts a process can see.
    fn table(&self, process: &Process) -> BTreeSet<u64> {
        let table = self.observation.mount_tables.get(process.mounts);
        table.into_iter().flatten().map(|mount| u64::from(mount.id)).collect()
    }

    fn namespaces(&self, thread: &Thread, report: &mut Report<'_>) {
        let shared = namespaces_of(self.init);
        let outer = namespaces_of(self.gateway).get(&Kind::User).map(|user| user.inode);
        for (kind, host) in &self.observation.host {
            let what = format!("{} namespace", kind.file());
            let Some(found) = thread.namespaces.get(kind) else {
                report.add(what, "one", "not read");
                continue;
            };
            let own = self.expectation.namespaces.contains(kind);
            if own && (found.inode == *host || (*kind == Kind::User && Some(found.inode) == outer)) {
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
            Kind::Mnt => (namespaces_of(self.init).get(&Kind::User).map(|user| user.inode), "U2"),
            _ => (outer, "U0"),
        };
        if found.owner.is_none() || found.owner != owner {
            let actual = found.owner.map_or("one above U0".to_owned(), |owner| owner.to_string());
            report.add(format!("owner of the {} namespace", kind.file()), name, actual);
        }
    }

    fn ids(&self, thread: &Thread, report: &mut Report<'_>) {
        let plan = self.expectation;
        let status = &thread.status;
        let unmapped = |map: &[Extent], ids: &[u32]| ids.iter().any(|id| !has_outside(map, *id));
        if unmapped(&plan.uids, &status.uids) {
            report.add("uids, as U0 sees them", map_words(&plan.uids), numbers(&status.uids));
        }
        if unmapped(&plan.gids, &status.gids) {
            report.add("gids, as U0 sees them", map_words(&plan.gids), numbers(&status.gids));
        }
        // Only who has SETGID can have taken groups again, of the map at most.
        let may = plan.job & Capability::SETGID.bit() != 0;
        let fine = if may { !unmapped(&plan.gids, &status.groups) } else { status.groups.is_empty() };
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
            ("inheritable capabilities", inheritable, init, found.inheritable),
            ("permitted capabilities", most, init, found.permitted),
            ("effective capabilities", most, init, found.effective),
            ("bounding capabilities", plan.bounding, fixed, found.bounding),
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
            let (is_soft, is_hard) = (found.soft.unwrap_or(u64::MAX), found.hard.unwrap_or(u64::MAX));
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
                rest.is_some_and(|rest| rest.is_empty() || init.ends_with('/') || rest.starts_with('/'))
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
        table: &BTreeSet<u64>,
        report: &mut Report<'_>,
    ) {
        let ours = self.is_our_init(process);
        let mut supervisor = ours;
        for descriptor in &thread.descriptors {
            let problem = problem(descriptor, thread, table)
                .or_else(|| ours.then(|| foreign_to_init(&descriptor.class)).flatten())
                .or_else(|| self.second_listener(descriptor));
            // Init has one socket to its supervisor.
            let expected_socket = descriptor.class == Class::Socket && descriptor.network.is_none();
            match problem {
                Some(_) if supervisor && expected_socket => supervisor = false,
                Some(problem) => report.add(
                    format!("descriptor {}", descriptor.number),
                    problem,
                    format!("{} {}", class_words(&descriptor.class), descriptor.target),
                ),
                None => {}
            }
        }
    }

    fn second_listener(&self, descriptor: &Descriptor) -> Option<&'static str> {
        let listener = descriptor.class == Class::Kernel("seccomp notify".to_owned());
        (self.expectation.listener && listener).then_some("no seccomp listener inside")
    }
}

/// What init is beside its capabilities and limits: not dumpable, its environment empty.
/// The ids say nothing of dumpability where init is U0's id 0 itself.
fn our_init(process: &Process, report: &mut Report<'_>) {
    if process.proc_owner != 0 {
        report.add("owner of /proc/1/fd", "0 (not dumpable)", process.proc_owner.to_string());
    }
    if process.environment_bytes != 0 {
        report.add("environment", "empty", format!("{} bytes", process.environment_bytes));
    }
}

/// What no job can have opened itself, so that it must have been handed in.
fn problem(
    descriptor: &Descriptor,
    thread: &Thread,
    table: &BTreeSet<u64>,
) -> Option<&'static str> {
    let own_network = thread.namespaces.get(&Kind::Net).map(|network| network.inode);
    match &descriptor.class {
        Class::Null | Class::Pipe => None,
        Class::Terminal
        | Class::Character(..)
        | Class::Block(..)
        | Class::Fifo
        | Class::Regular
        | Class::Directory
        | Class::Symlink => {
            (!table.contains(&descriptor.mount)).then_some("on a mount of the sandbox")
        }
        Class::Socket => (descriptor.network.is_none() || descriptor.network != own_network)
            .then_some("a socket of the sandbox's network namespace"),
        Class::Memory(name) => {
            OUR_MEMORY.contains(&name.as_str()).then_some("no memory of the launcher")
        }
        Class::Kernel(kind) => kernel_problem(kind, descriptor, thread),
    }
}

fn kernel_problem(kind: &str, descriptor: &Descriptor, thread: &Thread) -> Option<&'static str> {
    // Made with capabilities over mounts, which nobody inside has.
    if kind == "fscontext" {
        return Some("no file system being made");
    }
    let known = Kind::ALL.into_iter().find(|known| known.file() == kind)?;
    let inode = super::tables::inode(descriptor.target.as_bytes());
    let own = thread.namespaces.get(&known).map(|namespace| namespace.inode);
    (inode.is_none() || inode != own).then_some("no namespace but its own")
}

/// Init serves with what it has: no file, no directory, no memory.
fn foreign_to_init(class: &Class) -> Option<&'static str> {
    match class {
        Class::Null | Class::Pipe | Class::Socket | Class::Terminal => None,
        Class::Kernel(kind) if kind == "signalfd" || kind == "pidfd" => None,
        _ => Some("null, pipe, terminal, signalfd, pidfd or its supervisor's socket"),
    }
}

fn namespaces_of(process: &Process) -> BTreeMap<Kind, Namespace> {
    process.threads.first().map(|thread| thread.namespaces.clone()).unwrap_or_default()
}

fn has_outside(map: &[Extent], id: u32) -> bool {
    map.iter().any(|extent| id >= extent.outside && id - extent.outside < extent.count)
}

fn map_words(map: &[Extent]) -> String {
    if map.is_empty() { "empty".to_owned() } else { idmap::describe(map) }
}

/// `none`, or names of a capability set.
pub(super) fn capability_words(set: u64) -> String {
    if set == 0 {
        return "none".to_owned();
    }
    let known = Capability::ALL.iter().fold(0, |bits, cap| bits | cap.bit());
    if set == known {
        return "all".to_owned();
    }
    let names = Capability::ALL.iter().filter(|cap| set & cap.bit() != 0).map(|cap| cap.name());
    let mut words: Vec<String> = names.map(str::to_owned).collect();
    if set & !known != 0 {
        words.push(format!("{:#x}", set & !known));
    }
    words.join(" ")
}

/// A class in a word or two.
pub(super) fn class_words(class: &Class) -> String {
    match class {
        Class::Null => "null".to_owned(),
        Class::Terminal => "terminal".to_owned(),
        Class::Character(major, minor) => format!("character device {major}:{minor}"),
        Class::Block(major, minor) => format!("block device {major}:{minor}"),
        Class::Pipe => "pipe".to_owned(),
        Class::Fifo => "named pipe".to_owned(),
        Class::Socket => "socket".to_owned(),
        Class::Regular => "file".to_owned(),
        Class::Directory => "directory".to_owned(),
        Class::Symlink => "symlink".to_owned(),
        Class::Memory(name) => format!("memory {name:?}"),
        Class::Kernel(kind) => kind.clone(),
    }
}

/// A limit as the kernel prints it.
pub(super) fn bound(value: Option<u64>) -> String {
    value.map_or("unlimited".to_owned(), |value| value.to_string())
}

fn numbers(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

fn place(directory: &Directory) -> String {
    format!("{} on mount {}", directory.path, directory.mount)
}
