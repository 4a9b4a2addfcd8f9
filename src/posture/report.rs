//! [pure] An observation and its differences as text for people.

use super::compare::Difference;
use super::expect::Expectation;
use super::observation::{Observation, Process, Role, Thread};
use super::words::{bound, capability_words, class_words, label};
use std::collections::BTreeSet;
use std::fmt::Write;

/// A table per process, the mounts once, then what differs.
pub fn text(
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
