//! [pure] An observation and its differences as text for people.

use super::compare::Difference;
use super::expect::Expectation;
use super::observation::{Observation, Process, Role, Thread};
use super::words::{bound, capability_words, class_words, label, map_words};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A table per process, the mounts once, then what differs.
pub fn full(
    observation: &Observation,
    expectation: &Expectation,
    differences: &[Difference],
) -> String {
    let mut text = String::new();
    for process in &observation.processes {
        text.push_str(&process_text(process, expectation));
    }
    for (index, table) in observation.mount_tables.iter().enumerate() {
        let users: Vec<String> = observation
            .processes
            .iter()
            .filter(|process| process.mounts == index && process.role != Role::Gateway)
            .map(|process| process.pid_inside.to_string())
            .collect();
        if !users.is_empty() {
            row(&mut text, &format!("mounts of {}", users.join(" ")), "");
            for mount in table {
                row(
                    &mut text,
                    "",
                    &format!("{} {} {}", mount.point, mount.fstype, mount.options),
                );
            }
        }
    }
    if !expectation.not_observable.is_empty() {
        row(
            &mut text,
            "not in /proc",
            &expectation.not_observable.join(", "),
        );
    }
    text.push_str(&verdict(differences));
    text
}

/// One line per control — what the plan asks, and on how many it was looked for —
/// then what differs.
pub fn short(
    observation: &Observation,
    expectation: &Expectation,
    differences: &[Difference],
) -> String {
    let mut text = String::new();
    for (control, planned) in controls(observation, expectation) {
        row(&mut text, control, &planned);
    }
    text.push_str(&verdict(differences));
    text
}

fn controls(found: &Observation, plan: &Expectation) -> Vec<(&'static str, String)> {
    let inside = || {
        let processes = found.processes.iter();
        processes.filter(|process| process.role != Role::Gateway)
    };
    let of =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let processes = match inside().count() {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    };
    let threads = of(
        inside().map(|process| process.threads.len()).sum(),
        "thread",
    );
    let each = || found.processes.iter().flat_map(|process| &process.threads);
    let descriptors = of(
        each().map(|thread| thread.descriptors.len()).sum(),
        "descriptor",
    );
    let tables = of(found.mount_tables.len(), "table");
    let kinds: Vec<&str> = plan.namespaces.iter().map(|kind| kind.file()).collect();
    let groups = if plan.groups_dropped {
        "no groups but mapped ones"
    } else {
        "the caller's groups"
    };
    let job = capability_words(plan.job);
    let init = capability_words(plan.init);
    let new_privileges = if plan.no_new_privileges {
        "set"
    } else {
        "not planned"
    };
    let seccomp = match plan.seccomp_filters {
        0 => "not planned".to_owned(),
        least => format!("mode 2, {least} or more filters"),
    };
    let cgroup = if plan.cgroup {
        "the sandbox's own"
    } else {
        "init's"
    };
    vec![
        (
            "looked at",
            format!("gateway and {processes} inside, {threads}"),
        ),
        (
            "id maps",
            format!(
                "uids {}, gids {}: {processes}",
                map_words(&plan.uids),
                map_words(&plan.gids)
            ),
        ),
        ("ids", format!("of the maps, {groups}: {threads}")),
        (
            "capabilities",
            format!("job at most {job}, init {init}: {threads}"),
        ),
        (
            "no_new_privs",
            format!("{new_privileges}: {threads} and the gateway"),
        ),
        ("seccomp", format!("{seccomp}: {threads} and the gateway")),
        ("namespaces", format!("own {}: {threads}", kinds.join(" "))),
        ("mounts", format!("{} planned: {tables}", plan.mounts.len())),
        (
            "roots",
            format!("root and directory in the sandbox: {threads}"),
        ),
        (
            "descriptors",
            format!("none unplanned from outside: {descriptors}"),
        ),
        (
            "limits",
            format!("{}: {processes}", of(plan.limits.len(), "limit")),
        ),
        ("cgroup", format!("{cgroup}: {processes}")),
        (
            "init",
            "not dumpable, environment empty, one socket to its supervisor".to_owned(),
        ),
        ("not in /proc", plan.not_observable.join(", ")),
    ]
}

fn verdict(differences: &[Difference]) -> String {
    if differences.is_empty() {
        return "as planned\n".to_owned();
    }
    let mut text = String::new();
    for Difference {
        process,
        what,
        expected,
        actual,
    } in differences
    {
        row(
            &mut text,
            "DIFFERS",
            &format!("{process}: {what}: planned {expected}; is {actual}"),
        );
    }
    row(
        &mut text,
        "",
        &format!("{} differences from the plan", differences.len()),
    );
    text
}

/// Cannot fail: a String takes everything.
fn row(text: &mut String, name: &str, value: &str) {
    match writeln!(text, "{}", format!("  {name:<16} {value}").trim_end()) {
        Ok(()) | Err(_) => {}
    }
}

fn process_text(process: &Process, expectation: &Expectation) -> String {
    let mut text = format!("{}, pid {} outside\n", label(process), process.pid);
    for (name, get) in ROWS {
        // Threads usually agree; where they do not, each different answer is shown.
        let values: BTreeSet<String> = process.threads.iter().map(get).collect();
        for value in values {
            row(&mut text, name, &value);
        }
    }
    row(&mut text, "threads", &process.threads.len().to_string());
    row(
        &mut text,
        "uid map",
        &crate::confine::idmap::describe(&process.uid_map),
    );
    row(
        &mut text,
        "gid map",
        &crate::confine::idmap::describe(&process.gid_map),
    );
    row(&mut text, "cgroup", &process.cgroups.join(" "));
    if process.role != Role::Gateway {
        for (name, limit) in &process.limits {
            if let Some((soft, hard)) = expectation.limits.get(name) {
                let is = format!("{} {}", bound(limit.soft), bound(limit.hard));
                row(
                    &mut text,
                    "limit",
                    &format!("{name}: {is} (planned {soft} {hard})"),
                );
            }
        }
    }
    text
}

type Row = (&'static str, fn(&Thread) -> String);

const ROWS: [Row; 14] = [
    ("uid gid", |thread| {
        format!("{:?} {:?}", thread.status.uids, thread.status.gids)
    }),
    ("groups", |thread| format!("{:?}", thread.status.groups)),
    ("effective", |thread| {
        capability_words(thread.status.capabilities.effective)
    }),
    ("permitted", |thread| {
        capability_words(thread.status.capabilities.permitted)
    }),
    ("inheritable", |thread| {
        capability_words(thread.status.capabilities.inheritable)
    }),
    ("ambient", |thread| {
        capability_words(thread.status.capabilities.ambient)
    }),
    ("bounding", |thread| {
        capability_words(thread.status.capabilities.bounding)
    }),
    ("no_new_privs", |thread| {
        u8::from(thread.status.no_new_privileges).to_string()
    }),
    ("seccomp", |thread| {
        format!(
            "mode {}, filters {}",
            thread.status.seccomp, thread.status.seccomp_filters
        )
    }),
    ("namespaces", |thread| {
        let names = thread
            .namespaces
            .iter()
            .map(|(kind, found)| format!("{} {}", kind.file(), found.inode));
        names.collect::<Vec<_>>().join(", ")
    }),
    ("root", |thread| thread.root.path.clone()),
    ("directory", |thread| thread.directory.path.clone()),
    ("signals", |thread| {
        let status = &thread.status;
        format!(
            "blocked {:x}, ignored {:x}, caught {:x}",
            status.blocked, status.ignored, status.caught
        )
    }),
    ("descriptors", |thread| {
        let words = thread
            .descriptors
            .iter()
            .map(|descriptor| format!("{} {}", descriptor.number, class_words(&descriptor.class)));
        words.collect::<Vec<_>>().join(", ")
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posture::compare::differences;
    use crate::posture::compare::sample::{Change, job, observation, plan};
    use crate::posture::expect::expected;

    fn shortly(change: Change) -> String {
        let mut observation = observation();
        change(&mut observation);
        let plan = plan();
        short(
            &observation,
            &expected(&plan),
            &differences(&plan, &observation),
        )
    }

    #[test]
    fn the_short_form_has_a_line_per_control_and_the_verdict() {
        let text = shortly(|_| ());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 15, "{text}");
        assert_eq!(
            lines[0],
            "  looked at        gateway and 2 processes inside, 2 threads"
        );
        assert_eq!(
            lines[3],
            "  capabilities     job at most CHOWN, init CHOWN KILL: 2 threads"
        );
        assert_eq!(
            lines[5],
            "  seccomp          mode 2, 1 or more filters: 2 threads and the gateway"
        );
        assert_eq!(
            lines[9],
            "  descriptors      none unplanned from outside: 8 descriptors"
        );
        assert_eq!(lines[14], "as planned");
    }

    #[test]
    fn the_short_form_has_every_difference_in_full() {
        let text = shortly(|observation| {
            job(observation).status.seccomp = 0;
            job(observation).status.no_new_privileges = false;
        });
        for line in [
            "  DIFFERS          job 2 (test): no_new_privs: planned 1; is 0\n",
            "  DIFFERS          job 2 (test): seccomp mode: planned 2 (filter); is 0\n",
            "2 differences from the plan\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("as planned"));
    }
}
