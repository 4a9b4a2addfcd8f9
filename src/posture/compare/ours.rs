//! [pure] What gateway and init, our own processes, must be beside what everybody inside is.

use super::Report;
use crate::posture::handed_in::from_outside;
use crate::posture::observation::{Class, Process, Thread};
use crate::posture::words::class_words;
use std::collections::BTreeSet;

/// The gateway keeps its capabilities over U0, which it holds for the undo, but
/// under a filter of its own and with nothing open that is init's or the stage's.
pub(super) fn gateway(process: &Process, report: &mut Report<'_>) {
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
pub(super) fn init(process: &Process, report: &mut Report<'_>) {
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
pub(super) fn supervisors_socket(thread: &Thread, report: &mut Report<'_>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::compare::sample::{Change, descriptor, found, init};
    use crate::posture::observation::Limit;

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
}
