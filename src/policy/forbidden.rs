//! [pure] Directories of the host that no job is given: the check for workspaces and mounts.
//!
//! It compares strings. The caller hands in paths with symbolic links resolved,
//! and whoever mounts checks the inode it opened.

use crate::policy::Access;

/// A directory that must not be given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForbiddenRoot {
    /// Absolute and normalised.
    pub path: String,
    /// What it is, to follow "which is": `your home directory`.
    pub what: String,
    /// How much of it is forbidden.
    pub extent: Extent,
    /// To whom.
    pub against: Against,
}

/// How much of a directory is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The directory and what holds it; what lies in it may be given.
    Itself,
    /// All that lies in it too.
    Below,
}

/// Which access is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// Being written through.
    Writing,
    /// Being shown at all: it holds control sockets or records of other sandboxes.
    Showing,
}

/// Says why `path` must not be given with `access`, if it must not: `is`, `holds` or `lies in` a root.
pub fn refusal(path: &str, access: Access, roots: &[ForbiddenRoot]) -> Option<String> {
    let hit = roots
        .iter()
        .filter(|root| concerns(root, access))
        .find_map(|root| {
            let how = relation(path, &root.path)?;
            (how != "lies in" || root.extent == Extent::Below).then_some((how, root))
        });
    hit.map(|(how, root)| match how {
        "is" => format!("{path} is {}", root.what),
        how => format!("{path} {how} {}, which is {}", root.path, root.what),
    })
}

/// Writes into a copy do not reach the host, but what is copied is shown.
fn concerns(root: &ForbiddenRoot, access: Access) -> bool {
    match access {
        Access::None => false,
        Access::Ro | Access::Copy => root.against == Against::Showing,
        Access::Rw => true,
    }
}

fn relation(path: &str, root: &str) -> Option<&'static str> {
    if path == root {
        Some("is")
    } else if below(root, path) {
        Some("holds")
    } else if below(path, root) {
        Some("lies in")
    } else {
        None
    }
}

/// Whether `path` lies strictly below `directory`; both absolute and normalised.
pub fn below(path: &str, directory: &str) -> bool {
    let directory = directory.strip_suffix('/').unwrap_or(directory);
    path.len() > directory.len() + 1
        && path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// Directories of the caller and of ours that roots are made from; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostDirectories {
    /// Home directories: the caller's, and others that are known.
    pub homes: Vec<String>,
    /// `$XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<String>,
    /// Where we keep state, data and caches.
    pub state: Vec<String>,
    /// Where our programs and policies are.
    pub programs: Vec<String>,
}

/// The roots that hold for every policy; the first that fits names the reason.
pub fn roots(directories: &HostDirectories) -> Vec<ForbiddenRoot> {
    use {Against::*, Extent::*};
    let root = |path: &str, what: &str, extent, against| ForbiddenRoot {
        path: path.to_owned(),
        what: what.to_owned(),
        extent,
        against,
    };
    let mut roots = vec![root("/", "the whole file system", Itself, Writing)];
    for home in &directories.homes {
        roots.push(root(home, "a home directory", Itself, Writing));
        let home = home.trim_end_matches('/');
        let keys = format!("{home}/.ssh");
        roots.push(root(&keys, "where ssh keeps its keys", Below, Writing));
        let settings = format!("{home}/.config");
        roots.push(root(
            &settings,
            "where programs keep their settings",
            Below,
            Writing,
        ));
    }
    for state in &directories.state {
        roots.push(root(
            state,
            "where Cofferdam keeps its state",
            Below,
            Showing,
        ));
    }
    for programs in &directories.programs {
        roots.push(root(
            programs,
            "where Cofferdam's programs or policies are",
            Below,
            Writing,
        ));
    }
    if let Some(runtime) = &directories.xdg_runtime_dir {
        let what = "where the caller's programs keep their sockets";
        roots.push(root(runtime, what, Below, Writing));
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, access: Access) -> Option<String> {
        let directories = HostDirectories {
            homes: vec!["/home/u".into()],
            xdg_runtime_dir: Some("/run/user/7".into()),
            state: vec!["/home/u/.local/share/cofferdam".into()],
            programs: vec!["/opt/cofferdam/bin".into()],
        };
        refusal(path, access, &roots(&directories))
    }

    #[test]
    fn writing_is_refused_where_it_reaches_the_caller() {
        let cases = [
            ("/", "/ is the whole file system"),
            ("/home/u", "/home/u is a home directory"),
            ("/home", "/home holds /home/u, which is a home directory"),
            ("/home/u/.ssh", "/home/u/.ssh is where ssh keeps its keys"),
            (
                "/home/u/.config/nvim",
                "/home/u/.config/nvim lies in /home/u/.config, which is where programs keep their settings",
            ),
            (
                "/run/user/7/x",
                "/run/user/7/x lies in /run/user/7, which is where the caller's programs keep their sockets",
            ),
            (
                "/run",
                "/run holds /run/user/7, which is where the caller's programs keep their sockets",
            ),
        ];
        for (path, why) in cases {
            assert_eq!(refused(path, Access::Rw).as_deref(), Some(why));
        }
    }

    #[test]
    fn a_project_may_be_written() {
        for path in [
            "/home/u/src",
            "/home/u2",
            "/home/u/.sshx",
            "/srv",
            "/run/user/77",
        ] {
            assert_eq!(refused(path, Access::Rw), None, "{path}");
        }
    }

    #[test]
    fn our_own_directories_are_not_even_shown() {
        for access in [Access::Ro, Access::Copy, Access::Rw] {
            assert!(refused("/home/u/.local/share/cofferdam/logs", access).is_some());
            assert!(refused("/home/u/.local", access).is_some());
        }
        assert_eq!(refused("/home/u/.ssh", Access::Ro), None);
        assert_eq!(refused("/opt", Access::Ro), None);
        assert!(refused("/opt", Access::Rw).is_some());
        assert_eq!(refused("/", Access::None), None);
    }

    #[test]
    fn below_is_by_component() {
        assert!(below("/a/b", "/a") && below("/a", "/") && below("/a/b", "/a/"));
        assert!(
            !below("/ab", "/a") && !below("/a", "/a") && !below("/", "/") && !below("/a/", "/a")
        );
    }
}
