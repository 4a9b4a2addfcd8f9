//! [pure] What a thread is: its namespaces, ids, capabilities and locks.

use super::{Report, Sandbox};
use crate::confine::idmap::Extent;
use crate::linux::capability::Capability;
use crate::posture::observation::{Kind, Namespace, Process, Thread};
use crate::posture::words::{capability_words, map_words, numbers};
use std::collections::BTreeMap;

impl Sandbox<'_> {
    pub(super) fn namespaces(&self, thread: &Thread, report: &mut Report<'_>) {
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

    /// The gateway stays in N0 when the job has a network: neither the host's
    /// namespace nor N1.
    pub(super) fn own_network(&self, gateway: &Process, report: &mut Report<'_>) {
        let network = |process| {
            namespaces_of(process)
                .get(&Kind::Net)
                .map(|found| found.inode)
        };
        let found = network(gateway);
        let others = [
            network(self.init),
            self.observation.host.get(&Kind::Net).copied(),
        ];
        if found.is_none() || others.contains(&found) {
            let actual = found.map_or("not read".to_owned(), |inode| inode.to_string());
            report.add("net namespace", "N0, of its own", actual);
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

    pub(super) fn ids(&self, thread: &Thread, report: &mut Report<'_>) {
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

    pub(super) fn capabilities(&self, init: bool, thread: &Thread, report: &mut Report<'_>) {
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

    pub(super) fn locks(&self, init: bool, thread: &Thread, report: &mut Report<'_>) {
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
    use crate::posture::compare::differences;
    use crate::posture::compare::sample::{U0, found, job, observation, plan};

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
    fn with_a_network_the_gateway_is_in_a_namespace_of_its_own() {
        let mut plan = plan();
        plan.steps.push(crate::sandbox::plan::Step {
            op: crate::sandbox::plan::Op::Network {
                ruleset: String::new(),
                ipv6: true,
            },
            why: crate::source::origin::Origin::Always,
        });
        let mut observation = observation();
        let host = observation.host[&Kind::Net];
        let n1 = job(&mut observation).namespaces[&Kind::Net].inode;
        for (inode, differs) in [(host, true), (n1, true), (777, false)] {
            let kinds = &mut observation.processes[0].threads[0].namespaces;
            kinds.get_mut(&Kind::Net).unwrap().inode = inode;
            let found = differences(&plan, &observation);
            assert_eq!(!found.is_empty(), differs, "{found:?}");
            assert!(found.iter().all(|found| found.what == "net namespace"));
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
}
