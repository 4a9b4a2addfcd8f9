//! [pure] Observation against Plan: every way in which a process is less confined than planned.
//!
//! Init is ours and must be exactly as planned. A job may give up more than was
//! asked of it (drop capabilities, add filters, lower limits): only what it has
//! beyond the plan is a difference.

mod holdings;
mod identity;
mod ours;
#[cfg(test)]
pub mod sample;

use super::expect::{Expectation, expected};
use super::handed_in::holds;
use super::observation::{Observation, Process, Role, Thread};
use super::words::{label, map_words, place};
use crate::host::mounts::Mount;
use crate::sandbox::plan::Plan;
use serde::Serialize;

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
            if plan.behind_gateway {
                self.own_network(process, report);
            }
            return ours::gateway(process, report);
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
            ours::init(process, report);
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
}

#[cfg(test)]
mod tests {
    use super::sample::{Change, found, hand_in, job, observation, plan, process};
    use super::*;
    use crate::posture::observation::{Class, Kind, Limit, Unreadable};

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
    fn observations_survive_the_pipe() {
        let observation = observation();
        let text = serde_json::to_string(&observation).unwrap();
        assert_eq!(
            serde_json::from_str::<Observation>(&text).unwrap(),
            observation
        );
    }
}
