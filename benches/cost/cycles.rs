//! Many starts and stops, and what is left of them.

use crate::host::Host;
use crate::table::Row;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const AT_A_TIME: usize = 8;
/// Namespaces and mounts of a dead process go a little after it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts of what must not grow.
#[derive(Debug, Clone, PartialEq)]
struct Census {
    processes: usize,
    mounts: usize,
    cgroups: usize,
    namespaces: usize,
    files: usize,
}

pub fn measure(host: &Host, count: usize) -> Vec<Row> {
    // Directories of ours exist from the first run on.
    host.output(&mut host.cofferdam(&["run", "--", "/bin/true"]))
        .unwrap();
    let before = settled(host, None);
    let (began, next) = (Instant::now(), AtomicUsize::new(0));
    let failures = Mutex::new(BTreeMap::<String, usize>::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let mut run = host.cofferdam(&["run", "--", "/bin/true"]);
                    if let Err(why) = host.output(&mut run) {
                        *failures.lock().unwrap().entry(why).or_default() += 1;
                    }
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let after = settled(host, Some(&before));
    let failures = failures.into_inner().unwrap();
    for (why, times) in &failures {
        eprintln!("{times} failed: {why}");
    }
    let failed: usize = failures.values().sum();
    let leaks = [
        ("processes", after.processes, before.processes),
        ("mounts", after.mounts, before.mounts),
        ("cgroups", after.cgroups, before.cgroups),
        ("namespaces", after.namespaces, before.namespaces),
        ("files", after.files, before.files),
    ];
    let leaked: Vec<String> = leaks
        .iter()
        .filter(|(_, after, before)| after > before)
        .map(|(what, after, before)| format!("{} {what}", after - before))
        .collect();
    let leaked = if leaked.is_empty() {
        "0 leaked".into()
    } else {
        format!("leaked: {}", leaked.join(", "))
    };
    vec![Row {
        what: format!("{count} starts and stops, {AT_A_TIME} at a time"),
        measured: format!("{leaked}, {failed} failed"),
        must: "0",
        aim: "0 of 10,000",
        from: format!("{:.0} a second", count as f64 / took),
    }]
}

/// Counts until nothing is above `before`, or patience ends.
fn settled(host: &Host, before: Option<&Census>) -> Census {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = census(host);
        let grown = before.is_some_and(|before| {
            now.processes > before.processes
                || now.mounts > before.mounts
                || now.cgroups > before.cgroups
                || now.namespaces > before.namespaces
                || now.files > before.files
        });
        if !grown || Instant::now() > deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn census(host: &Host) -> Census {
    let processes: Vec<_> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .map(|entry| entry.path())
        .collect();
    let ours = |process: &&std::path::PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("cofferdam"))
    };
    Census {
        processes: processes.iter().filter(ours).count(),
        mounts: fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count(),
        cgroups: groups(Path::new("/sys/fs/cgroup")),
        namespaces: processes
            .iter()
            .flat_map(|process| namespaces(process))
            .collect::<BTreeSet<_>>()
            .len(),
        files: entries(&host.runtime)
            + entries(Path::new("/run/cofferdam"))
            + entries(Path::new("/dev/shm")),
    }
}

/// Of those processes that the tester may look at.
fn namespaces(process: &Path) -> Vec<String> {
    let Ok(links) = fs::read_dir(process.join("ns")) else {
        return Vec::new();
    };
    links
        .flatten()
        .filter_map(|link| fs::read_link(link.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect()
}

/// Directories of ours in the cgroup hierarchies.
fn groups(directory: &Path) -> usize {
    let Ok(children) = fs::read_dir(directory) else {
        return 0;
    };
    children
        .flatten()
        .filter(|child| child.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|child| {
            usize::from(
                child
                    .file_name()
                    .to_string_lossy()
                    .starts_with("cofferdam-"),
            ) + groups(&child.path())
        })
        .sum()
}

fn entries(directory: &Path) -> usize {
    let Ok(children) = fs::read_dir(directory) else {
        return 0;
    };
    children
        .flatten()
        .map(|child| {
            1 + if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                entries(&child.path())
            } else {
                0
            }
        })
        .sum()
}
