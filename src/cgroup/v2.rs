//! [host] cgroup v2: a group below a directory that was delegated to us (Documentation/admin-guide/cgroup-v2.rst).

use super::directory::{Directory, keyed_value, split};
use super::members::{PATIENCE, kill_all, members, remove_when_empty, wait_for};
use super::{Error, Limits, Usage};
use rustix::event::PollFlags;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::time::Duration;

/// Where processes that are no job go: a v2 cgroup whose children have controllers may have no
/// processes itself (the "no internal processes" rule).
const OUTSIDE: &str = "cofferdam-outside";

/// Makes `name` in the delegated directory `parent`.
pub fn create(parent: &str, name: &str, limits: &Limits) -> Result<super::Group, Error> {
    let parent = Directory::open_cgroup(parent)?;
    enable(&parent, limits)?;
    let group = parent.make(name)?;
    if let Err(error) = apply(&group, limits) {
        parent.remove(name).map_err(|cause| Error::Remove {
            path: group.path().into(),
            cause,
        })?;
        return Err(error);
    }
    Ok(super::Group::V2 {
        dir: group.path().into(),
    })
}

/// The controllers that the limits need.
fn needed(limits: &Limits) -> impl Iterator<Item = &'static str> {
    let pairs = [
        ("memory", limits.memory.is_some()),
        ("cpu", limits.milli_cpus.is_some()),
        ("pids", limits.pids.is_some()),
    ];
    pairs
        .into_iter()
        .filter_map(|(controller, wanted)| wanted.then_some(controller))
}

/// Enables controllers for children one by one: the kernel refuses a whole line for one name
/// that is not available.
fn enable(parent: &Directory, limits: &Limits) -> Result<(), Error> {
    let available = parent.read("cgroup.controllers")?;
    let enabled = parent.read("cgroup.subtree_control")?;
    let has = |text: &str, name: &str| text.split_ascii_whitespace().any(|word| word == name);
    for controller in needed(limits) {
        if !has(&available, controller) {
            return Err(Error::Controller {
                controller,
                dir: parent.path().into(),
            });
        }
        if !has(&enabled, controller) {
            enable_one(parent, controller)?;
        }
    }
    Ok(())
}

/// Enables one, if need be after clearing the directory: its processes may fork while they are
/// moved, so that a few rounds are allowed.
fn enable_one(parent: &Directory, controller: &str) -> Result<(), Error> {
    const ROUNDS: usize = 16;
    let line = format!("+{controller}");
    for _ in 0..ROUNDS {
        match parent.write("cgroup.subtree_control", &line) {
            Err(Error::Write {
                cause: Errno::BUSY, ..
            }) => move_outside(parent)?,
            other => return other,
        }
    }
    parent.write("cgroup.subtree_control", &line)
}

/// Moves the processes of a delegated directory — us, and the shell that started us — into a
/// child of their own.
fn move_outside(parent: &Directory) -> Result<(), Error> {
    let outside = parent.make_or_open(OUTSIDE)?;
    for pid in members(parent)? {
        match outside.write("cgroup.procs", &pid.to_string()) {
            // It has ended meanwhile.
            Ok(())
            | Err(Error::Write {
                cause: Errno::SRCH, ..
            }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes the limits. Swap is none, or the memory limit would only move the job to disk; where
/// the kernel does not count swap there is no file.
fn apply(group: &Directory, limits: &Limits) -> Result<(), Error> {
    if let Some(bytes) = limits.memory {
        group.write("memory.max", &bytes.to_string())?;
        // One process of a build killed alone leaves the rest waiting for it.
        group.write("memory.oom.group", "1")?;
        if group.has("memory.swap.max") {
            group.write("memory.swap.max", "0")?;
        }
    }
    if let Some(milli) = limits.milli_cpus {
        group.write("cpu.max", &cpu_max(milli))?;
    }
    if let Some(pids) = limits.pids {
        group.write("pids.max", &pids.to_string())?;
    }
    Ok(())
}

/// "quota period" in microseconds. The kernel takes no quota below 1 ms.
fn cpu_max(milli_cpus: u32) -> String {
    let quota = (u64::from(milli_cpus) * 100).max(1000);
    format!("{quota} 100000")
}

/// Moves a process in.
pub fn enter(dir: &str, pid: u32) -> Result<(), Error> {
    Directory::open_cgroup(dir)?.write("cgroup.procs", &pid.to_string())
}

/// Kills all by cgroup.kill (5.14), which forks cannot outrun; before, one by one.
pub fn kill(dir: &str) -> Result<(), Error> {
    let Some(group) = Directory::find_cgroup(dir)? else {
        return Ok(());
    };
    if group.has("cgroup.kill") {
        return group.write("cgroup.kill", "1");
    }
    if group.has("pids.max") {
        group.write("pids.max", "0")?;
    }
    kill_all(&group)
}

/// What it uses.
pub fn usage(dir: &str) -> Result<Usage, Error> {
    let group = Directory::open_cgroup(dir)?;
    Ok(Usage {
        memory: group.number("memory.current")?,
        cpu_microseconds: group.keyed("cpu.stat", "usage_usec")?,
        pids: group.number("pids.current")?,
    })
}

/// How many were killed for memory.
pub fn oom_kills(dir: &str) -> Result<u64, Error> {
    let group = Directory::open_cgroup(dir)?;
    Ok(group.keyed("memory.events", "oom_kill")?.unwrap_or(0))
}

/// How often a fork failed at pids.max. Before 6.10 the limit of a group above counts as well.
pub fn refused_forks(dir: &str) -> Result<u64, Error> {
    let group = Directory::open_cgroup(dir)?;
    Ok(group.keyed("pids.events", "max")?.unwrap_or(0))
}

/// Removes it once `populated` is 0; the kernel announces the change as POLLPRI on cgroup.events.
pub fn remove(dir: &str) -> Result<(), Error> {
    let (parent, name) = split(dir)?;
    let Some(group) = Directory::find_cgroup(dir)? else {
        return Ok(());
    };
    let parent = Directory::open_cgroup(parent)?;
    let events = group.watch("cgroup.events")?;
    remove_when_empty(&parent, name, || {
        let limit = match group.read_again(&events, "cgroup.events") {
            Ok(text) if keyed_value(&text, "populated") == Some(1) => PATIENCE,
            // Empty, and yet busy: its own children are about to go.
            Ok(_) => Duration::from_millis(10),
            // Gone between the two looks.
            Err(Error::Read {
                cause: Errno::NODEV,
                ..
            }) => return Ok(()),
            Err(error) => return Err(error),
        };
        wait_for(&group, events.as_fd(), PollFlags::PRI, limit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::process::{Child, Command, Stdio};

    /// A directory with the files of a delegated cgroup, but no kernel behind them.
    struct Fake(String);

    impl Fake {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let base = std::env::temp_dir();
            let path = format!(
                "{}/cofferdam-v2-{name}-{}",
                base.display(),
                std::process::id()
            );
            fs::create_dir_all(&path).unwrap();
            for (file, text) in files {
                fs::write(format!("{path}/{file}"), text).unwrap();
            }
            Self(path)
        }

        fn open(&self) -> Directory {
            Directory::open(&self.0).unwrap()
        }

        fn text(&self, file: &str) -> String {
            fs::read_to_string(format!("{}/{file}", self.0)).unwrap()
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    const ALL: Limits = Limits {
        memory: Some(1 << 20),
        milli_cpus: Some(1500),
        pids: Some(64),
    };

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let files = [
            "memory.max",
            "memory.swap.max",
            "memory.oom.group",
            "cpu.max",
            "pids.max",
        ];
        let fake = Fake::new("limits", &files.map(|file| (file, "")));
        apply(&fake.open(), &ALL).unwrap();
        let texts = files.map(|file| fake.text(file));
        assert_eq!(texts, ["1048576", "0", "1", "150000 100000", "64"]);
    }

    #[test]
    fn no_limit_writes_nothing_and_missing_swap_accounting_is_fine() {
        let fake = Fake::new("none", &[("memory.max", ""), ("memory.oom.group", "")]);
        apply(&fake.open(), &Limits::default()).unwrap();
        assert_eq!(fake.text("memory.max"), "");
        apply(
            &fake.open(),
            &Limits {
                memory: Some(5),
                ..Limits::default()
            },
        )
        .unwrap();
        assert_eq!(
            (fake.text("memory.max"), fake.text("memory.oom.group")),
            ("5".into(), "1".into())
        );
    }

    #[test]
    fn a_limit_whose_file_is_missing_is_an_error() {
        let fake = Fake::new("missing", &[]);
        let error = apply(&fake.open(), &ALL).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Write {
                    cause: Errno::NOENT,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn controllers_are_enabled_one_at_a_time_and_only_if_needed() {
        let files = [
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cgroup.subtree_control", "cpu\n"),
        ];
        let fake = Fake::new("enable", &files);
        enable(
            &fake.open(),
            &Limits {
                pids: Some(1),
                milli_cpus: Some(1),
                ..Limits::default()
            },
        )
        .unwrap();
        assert_eq!(
            fake.text("cgroup.subtree_control"),
            "+pids",
            "one write, over the old text"
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_by_name() {
        let files = [
            ("cgroup.controllers", "cpu pids\n"),
            ("cgroup.subtree_control", "\n"),
        ];
        let fake = Fake::new("lacking", &files);
        let error = enable(&fake.open(), &ALL).unwrap_err();
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
        assert_eq!(fake.text("cgroup.subtree_control"), "\n");
    }

    #[test]
    fn the_smallest_quota_is_a_millisecond() {
        assert_eq!(cpu_max(1), "1000 100000");
        assert_eq!(cpu_max(u32::MAX), "429496729500 100000");
    }

    /// A v2 hierarchy that this process may change, which any root has: a hybrid one holds no
    /// controllers that we need, but processes, kill and events are the real thing.
    fn writable_hierarchy() -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
        let point = line.split(' ').nth(4)?.to_owned();
        rustix::fs::access(&point, rustix::fs::Access::WRITE_OK)
            .is_ok()
            .then_some(point)
    }

    /// A shell that forks only after it was told to, so that it can be moved first.
    fn held(script: &str) -> Child {
        Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn a_real_group_holds_kills_and_goes() {
        let Some(top) = writable_hierarchy() else {
            eprintln!("SKIP cgroup v2: no cgroup v2 hierarchy that this user may write");
            return;
        };
        let name = format!("cofferdam-test-{}", std::process::id());
        let group = create(&top, &name, &Limits::default()).unwrap();
        assert!(matches!(
            create(&top, &name, &Limits::default()),
            Err(Error::Exists { .. })
        ));
        let mut child = held("sleep 1000 & echo forked; sleep 1000");
        group.enter(child.id()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut forked = [0_u8; 7];
        child
            .stdout
            .take()
            .unwrap()
            .read_exact(&mut forked)
            .unwrap();
        let listed = members(&Directory::open_cgroup(&format!("{top}/{name}")).unwrap()).unwrap();
        assert!(
            listed.contains(&child.id()) && listed.len() >= 2,
            "{listed:?}"
        );
        group.kill().unwrap();
        let rebuilt: super::super::Group =
            serde_json::from_str(&serde_json::to_string(&group).unwrap()).unwrap();
        rebuilt.remove().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!fs::exists(format!("{top}/{name}")).unwrap());
        rebuilt.remove().unwrap();
        rebuilt.kill().unwrap();
    }

    #[test]
    fn a_group_that_fails_half_way_is_removed() {
        let Some(top) = writable_hierarchy() else {
            eprintln!("SKIP cgroup v2: no cgroup v2 hierarchy that this user may write");
            return;
        };
        let parent = Directory::open_cgroup(&top).unwrap();
        if parent.read("cgroup.controllers").unwrap().contains("pids") {
            eprintln!(
                "SKIP a missing controller: this hierarchy has the pids controller, so nothing fails"
            );
            return;
        }
        let limits = Limits {
            pids: Some(1),
            ..Limits::default()
        };
        let name = format!("cofferdam-half-{}", std::process::id());
        assert!(matches!(
            create(&top, &name, &limits),
            Err(Error::Controller { .. })
        ));
        assert!(!fs::exists(format!("{top}/{name}")).unwrap());
    }

    /// The one controller that a hybrid host leaves to v2 shows the rule about inner processes.
    #[test]
    fn processes_are_moved_outside_where_they_are_in_the_way() {
        let Some(top) = writable_hierarchy() else {
            eprintln!("SKIP cgroup v2: no cgroup v2 hierarchy that this user may write");
            return;
        };
        let top = Directory::open_cgroup(&top).unwrap();
        if !top.read("cgroup.controllers").unwrap().contains("hugetlb") {
            eprintln!("SKIP hugetlb: cgroup v2 has no hugetlb controller here");
            return;
        }
        let before = top.read("cgroup.subtree_control").unwrap();
        top.write("cgroup.subtree_control", "+hugetlb").unwrap();
        let name = format!("cofferdam-inner-{}", std::process::id());
        let inner = top.make(&name).unwrap();
        let mut child = held("exit 0");
        inner
            .write("cgroup.procs", &child.id().to_string())
            .unwrap();
        let plain = inner.write("cgroup.subtree_control", "+hugetlb");
        let enabled = enable_one(&inner, "hugetlb");
        let left = members(&inner);
        let outside = Directory::open_cgroup(&inner.join(OUTSIDE)).and_then(|dir| members(&dir));
        drop(child.stdin.take());
        child.wait().unwrap();
        remove(&inner.join(OUTSIDE)).unwrap();
        remove(inner.path()).unwrap();
        if !before.contains("hugetlb") {
            top.write("cgroup.subtree_control", "-hugetlb").unwrap();
        }
        assert!(
            matches!(
                plain,
                Err(Error::Write {
                    cause: Errno::BUSY,
                    ..
                })
            ),
            "{plain:?}"
        );
        enabled.unwrap();
        assert_eq!(
            (left.unwrap(), outside.unwrap()),
            (vec![], vec![child.id()])
        );
    }
}
