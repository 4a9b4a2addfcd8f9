//! [host] Which cgroups the caller may put a job into.

use super::facts::Cgroup;
use super::mounts::Mount;
use super::probe::{ProbeError, ProbeRequest};
use super::read;
use rustix::fs::Access;

/// The controllers that carry a limit of ours.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// The strongest that is there: a directory named by the operator, our own if it was delegated,
/// the top for root, a scope of systemd's user manager, and for root the v1 hierarchies.
pub fn cgroup(request: &ProbeRequest, mounts: &[Mount], uid: u32) -> Result<Cgroup, ProbeError> {
    if let Some(dir) = request.cgroup_dir {
        return named(dir);
    }
    let own = read::required("/proc/self/cgroup")?;
    if let Some((mount, dir)) = own_v2(mounts, &own)
        && !controllers(mount)?.is_empty()
    {
        return v2(request, mount, &dir, uid);
    }
    let v1 = own_v1(mounts, &own);
    Ok(match (v1.is_empty(), uid) {
        (true, _) => none("no cgroup controllers are mounted"),
        (false, 0) if v1.iter().all(|(_, dir)| writable(dir)) => Cgroup::V1 { controllers: v1 },
        (false, 0) => none("cgroup v1, mounted read-only"),
        (false, _) => none("cgroup v1 hybrid, and not started by root"),
    })
}

fn none(why: &str) -> Cgroup {
    Cgroup::None { why: why.into() }
}

/// A directory that the operator names must work as it is: nothing else is tried.
fn named(dir: &str) -> Result<Cgroup, ProbeError> {
    let controllers = controllers(dir)?;
    if controllers.is_empty() || !delegated_files_writable(dir) {
        return Err(ProbeError::CgroupDirectory { path: dir.into() });
    }
    Ok(Cgroup::Delegated {
        dir: dir.into(),
        controllers,
    })
}

fn v2(request: &ProbeRequest, mount: &str, own: &str, uid: u32) -> Result<Cgroup, ProbeError> {
    if is_marked_delegated(own) && delegated_files_writable(own) {
        return Ok(Cgroup::Delegated {
            dir: own.into(),
            controllers: controllers(own)?,
        });
    }
    if uid == 0 {
        return Ok(if delegated_files_writable(mount) {
            Cgroup::Delegated {
                dir: mount.into(),
                controllers: controllers(mount)?,
            }
        } else {
            none("cgroup v2, mounted read-only")
        });
    }
    let default = format!("/run/user/{uid}");
    let bus = format!("{}/bus", request.runtime_dir.unwrap_or(&default));
    let manager = format!("{mount}/user.slice/user-{uid}.slice/user@{uid}.service");
    let controllers = controllers(&manager)?;
    Ok(if controllers.is_empty() {
        none("cgroup v2, and no directory of it is delegated to you")
    } else if !is_own_socket(&bus, uid) {
        none("cgroup v2 under systemd, and your session has no user bus")
    } else {
        Cgroup::Systemd { bus, controllers }
    })
}

/// The v2 mount point and our own directory below it.
fn own_v2<'a>(mounts: &'a [Mount], own: &str) -> Option<(&'a str, String)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mount = mounts.iter().find(|mount| mount.fstype == "cgroup2")?;
    Some((&mount.point, below(mount, path)?))
}

/// (controller, our own directory) of each v1 controller that carries a limit.
fn own_v1(mounts: &[Mount], own: &str) -> Vec<(String, String)> {
    let directory = |controller: &str| {
        let path = own.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            names
                .split(',')
                .any(|name| name == controller)
                .then_some(path)
        })?;
        let mount = mounts.iter().find(|mount| {
            mount.fstype == "cgroup" && mount.super_options.split(',').any(|o| o == controller)
        })?;
        Some((controller.to_owned(), below(mount, path)?))
    };
    CONTROLLERS
        .iter()
        .filter_map(|controller| directory(controller))
        .collect()
}

/// Where the cgroup `path` is under this mount, which may show only a part of the hierarchy (a
/// container without a cgroup namespace). A path outside of the part or of our cgroup namespace
/// (`/../..`, cgroup_namespaces(7)) is nowhere.
fn below(mount: &Mount, path: &str) -> Option<String> {
    let root = mount.root.trim_end_matches('/');
    let rest = path.strip_prefix(root)?;
    let whole = rest.is_empty() || rest.starts_with('/');
    let inside = !rest.split('/').any(|name| name == "..");
    (whole && inside).then(|| format!("{}{}", mount.point, rest.trim_end_matches('/')))
}

/// Those of our controllers that may be enabled for children of `dir`.
fn controllers(dir: &str) -> Result<Vec<String>, ProbeError> {
    let text = read::text(&format!("{dir}/cgroup.controllers"))?.unwrap_or_default();
    let wanted = text
        .split_ascii_whitespace()
        .filter(|name| CONTROLLERS.contains(name));
    Ok(wanted.map(str::to_owned).collect())
}

/// systemd marks the cgroups that it leaves to others (systemd.resource-control(5), since 251).
/// Being writable is not enough: it keeps all cgroups of a user writable for that user.
fn is_marked_delegated(dir: &str) -> bool {
    let mut value = [0_u8; 4];
    matches!(rustix::fs::getxattr(dir, "user.delegate", &mut value), Ok(1) if value[0] == b'1')
}

fn delegated_files_writable(dir: &str) -> bool {
    writable(dir)
        && writable(&format!("{dir}/cgroup.procs"))
        && writable(&format!("{dir}/cgroup.subtree_control"))
}

fn writable(path: &str) -> bool {
    rustix::fs::access(path, Access::WRITE_OK).is_ok()
}

fn is_own_socket(path: &str, uid: u32) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| {
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Socket
            && stat.st_uid == uid
    })
}

#[cfg(test)]
mod tests {
    use super::super::mounts::parse;
    use super::*;
    use std::fs;
    use std::os::unix::net::UnixListener;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

    #[test]
    fn own_directories_of_v1() {
        let own = "8:pids:/docker/x/y\n4:memory:/\n1:cpuacct,cpu:/a\n0::/b\n";
        let mounts = parse(HYBRID).unwrap();
        let expected = [
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/a"),
            ("memory", "/sys/fs/cgroup/memory"),
            ("pids", "/sys/fs/cgroup/pids/y"),
        ];
        let found = own_v1(&mounts, own);
        let found: Vec<_> = found
            .iter()
            .map(|(c, d)| (c.as_str(), d.as_str()))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(own_v2(&mounts, own).unwrap().1, "/sys/fs/cgroup/unified/b");
    }

    #[test]
    fn a_path_outside_of_what_is_mounted_is_nowhere() {
        let mounts = parse(HYBRID).unwrap();
        assert_eq!(below(&mounts[2], "/docker/xyz"), None);
        assert_eq!(below(&mounts[3], "/../../x"), None);
        assert_eq!(
            below(&mounts[3], "/"),
            Some("/sys/fs/cgroup/unified".into())
        );
    }

    #[test]
    fn a_named_directory_that_is_no_cgroup_is_an_error() {
        assert!(matches!(
            named("/usr"),
            Err(ProbeError::CgroupDirectory { .. })
        ));
    }

    /// A tree that looks like /sys/fs/cgroup of a systemd host, for the user 12345.
    struct Tree(String);

    impl Tree {
        const UID: u32 = 12_345;

        fn new(name: &str) -> Self {
            let base = std::env::temp_dir();
            let top = format!("{}/cofferdam-{name}-{}", base.display(), std::process::id());
            let tree = Self(top);
            for dir in [tree.0.clone(), tree.session(), tree.manager()] {
                fs::create_dir_all(&dir).unwrap();
                for file in ["cgroup.procs", "cgroup.subtree_control"] {
                    fs::write(format!("{dir}/{file}"), "").unwrap();
                }
            }
            tree
        }

        fn session(&self) -> String {
            format!("{}/user.slice/session-1.scope", self.0)
        }

        fn manager(&self) -> String {
            format!("{}/user.slice/user-12345.slice/user@12345.service", self.0)
        }

        fn controllers(&self, dir: &str, text: &str) {
            fs::write(format!("{dir}/cgroup.controllers"), text).unwrap();
        }

        fn choose(&self, uid: u32) -> Cgroup {
            let request = ProbeRequest {
                runtime_dir: Some(&self.0),
                ..Default::default()
            };
            v2(&request, &self.0, &self.session(), uid).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_user_without_a_manager_or_a_bus_has_none() {
        let tree = Tree::new("no-manager");
        assert_eq!(
            tree.choose(Tree::UID),
            none("cgroup v2, and no directory of it is delegated to you")
        );
        tree.controllers(&tree.manager(), "cpu memory pids\n");
        let no_bus = none("cgroup v2 under systemd, and your session has no user bus");
        assert_eq!(tree.choose(Tree::UID), no_bus);
        // A bus that belongs to someone else is none either.
        let bus = UnixListener::bind(format!("{}/bus", tree.0)).unwrap();
        assert_eq!(tree.choose(Tree::UID), no_bus);
        drop(bus);
    }

    #[test]
    fn a_user_manager_with_a_bus_makes_scopes() {
        let uid = rustix::process::geteuid().as_raw();
        let tree = Tree::new("manager");
        let manager = format!("{}/user.slice/user-{uid}.slice/user@{uid}.service", tree.0);
        fs::create_dir_all(&manager).unwrap();
        tree.controllers(&manager, "io memory pids\n");
        let bus = format!("{}/bus", tree.0);
        let listener = UnixListener::bind(&bus).unwrap();
        let expected = match uid {
            0 => Cgroup::Delegated {
                dir: tree.0.clone(),
                controllers: vec![],
            },
            _ => Cgroup::Systemd {
                bus,
                controllers: vec!["memory".into(), "pids".into()],
            },
        };
        assert_eq!(tree.choose(uid), expected);
        drop(listener);
    }

    #[test]
    fn what_systemd_marked_as_delegated_is_used() {
        let tree = Tree::new("marked");
        tree.controllers(&tree.session(), "cpuset cpu memory\n");
        let flags = rustix::fs::XattrFlags::empty();
        if let Err(error) = rustix::fs::setxattr(tree.session(), "user.delegate", b"1", flags) {
            eprintln!(
                "SKIP user attributes: the temporary directory keeps no user attributes: {error}"
            );
            return;
        }
        let controllers = vec!["cpu".into(), "memory".into()];
        let expected = Cgroup::Delegated {
            dir: tree.session(),
            controllers,
        };
        assert_eq!(tree.choose(Tree::UID), expected);
        rustix::fs::setxattr(tree.session(), "user.delegate", b"0", flags).unwrap();
        assert!(matches!(tree.choose(Tree::UID), Cgroup::None { .. }));
    }
}
