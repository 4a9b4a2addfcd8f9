//! [host] cgroup v1: one directory per controller below our own, for root on older or hybrid hosts.

use super::directory::{Directory, split};
use super::members::{kill_all, remove_when_empty};
use super::{Error, Group, Limits, Usage};
use rustix::io::Errno;
use std::time::Duration;

/// (controller, absolute path) pairs.
type Directories = [(String, String)];

/// Makes `name` below the directory of each controller.
pub fn create(parents: &Directories, name: &str, limits: &Limits) -> Result<Group, Error> {
    let mut dirs = Vec::new();
    let made = all_needed(parents, limits).and_then(|()| {
        for (controller, parent) in parents {
            let group = Directory::open_cgroup(parent)?.make(name)?;
            dirs.push((controller.clone(), group.path().to_owned()));
            apply(&group, controller, limits)?;
        }
        Ok(())
    });
    match made {
        Ok(()) => Ok(Group::V1 { dirs }),
        Err(error) => {
            remove(&dirs)?;
            Err(error)
        }
    }
}

fn all_needed(parents: &Directories, limits: &Limits) -> Result<(), Error> {
    let needed = [
        ("memory", limits.memory.is_some()),
        ("cpu", limits.milli_cpus.is_some()),
        ("pids", limits.pids.is_some()),
    ];
    let lacking = |name: &str| !parents.iter().any(|(controller, _)| controller == name);
    match needed
        .into_iter()
        .find(|&(name, wanted)| wanted && lacking(name))
    {
        Some((controller, _)) => Err(Error::Controller {
            controller,
            dir: "the mounted v1 hierarchies".into(),
        }),
        None => Ok(()),
    }
}

fn apply(group: &Directory, controller: &str, limits: &Limits) -> Result<(), Error> {
    match (controller, limits) {
        (
            "memory",
            Limits {
                memory: Some(bytes),
                ..
            },
        ) => apply_memory(group, *bytes),
        (
            "cpu",
            Limits {
                milli_cpus: Some(milli),
                ..
            },
        ) => {
            // The kernel takes no quota below 1 ms.
            let quota = (u64::from(*milli) * 100).max(1000);
            group.write("cpu.cfs_period_us", "100000")?;
            group.write("cpu.cfs_quota_us", &quota.to_string())
        }
        (
            "pids",
            Limits {
                pids: Some(pids), ..
            },
        ) => group.write("pids.max", &pids.to_string()),
        _ => Ok(()),
    }
}

/// The memory limit, and the same for memory and swap together, which is not there without swap
/// accounting. Memory first: the sum may not be below it.
fn apply_memory(group: &Directory, bytes: u64) -> Result<(), Error> {
    group.write("memory.limit_in_bytes", &bytes.to_string())?;
    if group.has("memory.memsw.limit_in_bytes") {
        group.write("memory.memsw.limit_in_bytes", &bytes.to_string())?;
    }
    Ok(())
}

/// Moves a process into each.
pub fn enter(dirs: &Directories, pid: u32) -> Result<(), Error> {
    for (_, dir) in dirs {
        Directory::open_cgroup(dir)?.write("cgroup.procs", &pid.to_string())?;
    }
    Ok(())
}

/// Stops forks where there is a pids controller, then kills one by one. The directories hold the
/// same processes; all are looked at, because a crash may have come between two of the moves.
pub fn kill(dirs: &Directories) -> Result<(), Error> {
    if let Some(group) = find(dirs, "pids")? {
        group.write("pids.max", "0")?;
    }
    for (_, dir) in dirs {
        if let Some(group) = Directory::find_cgroup(dir)? {
            kill_all(&group)?;
        }
    }
    Ok(())
}

/// What it uses.
pub fn usage(dirs: &Directories) -> Result<Usage, Error> {
    let number = |controller, file| match find(dirs, controller)? {
        Some(group) => group.number(file),
        None => Ok(None),
    };
    Ok(Usage {
        memory: number("memory", "memory.usage_in_bytes")?,
        // cpuacct is a hierarchy of its own here, and carries no limit.
        cpu_microseconds: number("cpu", "cpuacct.usage")?.map(|nanoseconds| nanoseconds / 1000),
        pids: number("pids", "pids.current")?,
    })
}

/// How many were killed for memory (in memory.oom_control since 4.13).
pub fn oom_kills(dirs: &Directories) -> Result<u64, Error> {
    match find(dirs, "memory")? {
        Some(group) => Ok(group.keyed("memory.oom_control", "oom_kill")?.unwrap_or(0)),
        None => Ok(0),
    }
}

/// How often a fork failed at pids.max (pids.events, since 4.8).
pub fn refused_forks(dirs: &Directories) -> Result<u64, Error> {
    match find(dirs, "pids")? {
        Some(group) => Ok(group.keyed("pids.events", "max")?.unwrap_or(0)),
        None => Ok(0),
    }
}

fn find(dirs: &Directories, controller: &str) -> Result<Option<Directory>, Error> {
    match dirs.iter().find(|(name, _)| name == controller) {
        Some((_, dir)) => Directory::find_cgroup(dir),
        None => Ok(None),
    }
}

/// Removes each. v1 announces nothing that can be polled, so between two attempts passes a
/// millisecond.
pub fn remove(dirs: &Directories) -> Result<(), Error> {
    for (_, dir) in dirs {
        let (parent, name) = split(dir)?;
        if let Some(parent) = Directory::find_cgroup(parent)? {
            remove_when_empty(&parent, name, || pause(parent.path()))?;
        }
    }
    Ok(())
}

fn pause(path: &str) -> Result<(), Error> {
    let failed = |cause| Error::Wait {
        path: path.into(),
        cause,
    };
    let time = rustix::event::Timespec::try_from(Duration::from_millis(1))
        .map_err(|_| failed(Errno::INVAL))?;
    match rustix::event::poll(&mut [], Some(&time)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(cause) => Err(failed(cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{facts, probe};
    use std::fs;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    /// Where root of a v1 host may make groups; tests elsewhere say that they were skipped.
    fn parents(test: &str) -> Option<Vec<(String, String)>> {
        match probe::probe(&probe::ProbeRequest::default())
            .unwrap()
            .cgroup
        {
            facts::Cgroup::V1 { controllers } => Some(controllers),
            other => {
                eprintln!("SKIP {test}: needs root on cgroup v1, this is {other:?}");
                None
            }
        }
    }

    fn name(test: &str) -> String {
        format!("cofferdam-v1-{test}-{}", std::process::id())
    }

    /// A shell that waits for a line before it runs `script`, so that it can be moved first.
    fn held(script: &str) -> Child {
        Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn go(child: &mut Child) {
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    fn assert_gone(group: &Group) {
        let Group::V1 { dirs } = group else {
            panic!("{group:?}")
        };
        assert!(!dirs.is_empty());
        for (_, dir) in dirs {
            assert!(!fs::exists(dir).unwrap(), "{dir}");
        }
    }

    #[test]
    fn the_pids_limit_stops_forks() {
        let Some(parents) = parents("the_pids_limit_stops_forks") else {
            return;
        };
        let limits = Limits {
            pids: Some(3),
            ..Limits::default()
        };
        let group = create(&parents, &name("pids"), &limits).unwrap();
        let mut child = held("sleep 1000 & sleep 1000 & sleep 1000 & echo all");
        group.enter(child.id()).unwrap();
        go(&mut child);
        let mut out = String::new();
        // dash gives up at the fork that fails; the sleeps keep the pipe until they are killed.
        let mut stdout = child.stdout.take().unwrap();
        let status = child.wait().unwrap();
        assert!(!status.success());
        assert_eq!(group.usage().unwrap().pids, Some(2));
        assert_eq!(group.refused_forks().unwrap(), 1);
        group.kill().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        assert_eq!(out, "");
        group.remove().unwrap();
        assert_gone(&group);
    }

    #[test]
    fn the_memory_limit_kills_and_is_counted() {
        let Some(parents) = parents("the_memory_limit_kills_and_is_counted") else {
            return;
        };
        let limits = Limits {
            memory: Some(16 << 20),
            ..Limits::default()
        };
        let group = create(&parents, &name("memory"), &limits).unwrap();
        assert_eq!(group.oom_kills().unwrap(), 0);
        let mut child = held("exec tail /dev/zero");
        group.enter(child.id()).unwrap();
        go(&mut child);
        assert!(!child.wait().unwrap().success());
        assert!(group.oom_kills().unwrap() >= 1);
        group.remove().unwrap();
        assert_gone(&group);
    }

    #[test]
    fn the_cpu_limit_is_in_force() {
        let Some(parents) = parents("the_cpu_limit_is_in_force") else {
            return;
        };
        let limits = Limits {
            milli_cpus: Some(250),
            ..Limits::default()
        };
        let group = create(&parents, &name("cpu"), &limits).unwrap();
        let Group::V1 { dirs } = &group else { panic!() };
        let cpu = find(dirs, "cpu").unwrap().unwrap();
        assert_eq!(cpu.read("cpu.cfs_quota_us").unwrap(), "25000\n");
        assert_eq!(cpu.read("cpu.cfs_period_us").unwrap(), "100000\n");
        group.remove().unwrap();
        assert_gone(&group);
    }

    #[test]
    fn a_fork_bomb_is_killed_and_leaves_nothing() {
        let Some(parents) = parents("a_fork_bomb_is_killed_and_leaves_nothing") else {
            return;
        };
        let limits = Limits {
            pids: Some(200),
            ..Limits::default()
        };
        let group = create(&parents, &name("bomb"), &limits).unwrap();
        let mut child = held("bomb() { bomb | bomb & }; bomb; sleep 1000");
        group.enter(child.id()).unwrap();
        go(&mut child);
        while group.usage().unwrap().pids < Some(50) {
            pause("test").unwrap();
        }
        let text = serde_json::to_string(&group).unwrap();
        let rebuilt: Group = serde_json::from_str(&text).unwrap();
        rebuilt.kill().unwrap();
        child.wait().unwrap();
        rebuilt.remove().unwrap();
        rebuilt.remove().unwrap();
        rebuilt.kill().unwrap();
        assert_gone(&group);
    }

    #[test]
    fn what_fails_half_way_is_undone() {
        let Some(parents) = parents("what_fails_half_way_is_undone") else {
            return;
        };
        let first = name("half");
        let taken = Directory::open_cgroup(&parents[2].1)
            .unwrap()
            .make(&first)
            .unwrap();
        let error = create(&parents, &first, &Limits::default()).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error:?}");
        assert!(!fs::exists(format!("{}/{first}", parents[0].1)).unwrap());
        remove(&[("x".into(), taken.path().into())]).unwrap();
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_by_name() {
        let limits = Limits {
            memory: Some(1),
            ..Limits::default()
        };
        let only_pids = [("pids".to_owned(), "/not/looked/at".to_owned())];
        let error = create(&only_pids, "x", &limits).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Controller {
                    controller: "memory",
                    ..
                }
            ),
            "{error:?}"
        );
    }
}
