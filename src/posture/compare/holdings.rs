//! [pure] What a process holds and can reach: limits, mounts, cgroups, descriptors.

use super::{Report, Sandbox, ours};
use crate::host::mounts::Mount;
use crate::posture::handed_in::{foreign_to_init, from_outside, problem};
use crate::posture::mounts;
use crate::posture::observation::{Class, Descriptor, Process, Role, Thread};
use crate::posture::words::{bound, class_words};

impl Sandbox<'_> {
    pub(super) fn limits(&self, process: &Process, report: &mut Report<'_>) {
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

    pub(super) fn mounts(&self, process: &Process, report: &mut Report<'_>) {
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
    pub(super) fn cgroups(&self, process: &Process, report: &mut Report<'_>) {
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

    pub(super) fn descriptors(
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
            ours::supervisors_socket(thread, report);
        }
    }

    fn second_listener(&self, descriptor: &Descriptor) -> Option<&'static str> {
        let listener = descriptor.class == Class::Kernel("seccomp notify".to_owned());
        (self.expectation.listener && listener).then_some("no seccomp listener inside")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::compare::differences;
    use crate::posture::compare::sample::{Change, found, hand_in, job, observation, plan};
    use crate::posture::observation::Kind;
    use crate::sandbox::plan::{Op, Step};
    use crate::source::origin::Origin;

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
}
