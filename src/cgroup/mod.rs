//! [host] One cgroup per sandbox: made, limited, watched, killed, removed — v2, v1, or by systemd.
//!
//! A [`Group`] is what must be remembered to undo it, and serialises for crash recovery. The
//! supervisor is never in it, so that a job's memory limit cannot kill its keeper.

pub mod dbus;
mod directory;
mod error;
mod members;
pub mod systemd;
mod v1;
mod v2;

pub use crate::supervise::control::Usage;
pub use error::Error;

use crate::host::facts;
/// What a group may use; `None` is unlimited. Swap is not counted because none is given.
pub use crate::sandbox::plan::CgroupLimits as Limits;
use serde::{Deserialize, Serialize};

/// A cgroup of ours, by the directories it consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Group {
    /// One directory of cgroup v2.
    V2 {
        /// Absolute path.
        dir: String,
    },
    /// One directory per controller of cgroup v1.
    V1 {
        /// (controller, absolute path).
        dirs: Vec<(String, String)>,
    },
}

/// Makes the group of sandbox `name` with its limits in force. Every limit asked for is enforced
/// or this is an error; after an error nothing is left.
///
/// `keepers` are processes of ours that outlive the job: under systemd they are moved into the
/// scope that is made (beside the job's group, not into it), and the job's first process must be
/// their child, because the kernel lets a user move processes only within the scope. The other
/// kinds ignore them.
pub fn create(
    available: &facts::Cgroup,
    name: &str,
    limits: &Limits,
    keepers: &[u32],
) -> Result<Group, Error> {
    let name = directory_name(name)?;
    match available {
        facts::Cgroup::Delegated { dir, .. } => v2::create(dir, &name, limits),
        facts::Cgroup::Systemd { bus, .. } => {
            let scope = systemd::scope(bus, &format!("{name}.scope"), keepers)?;
            v2::create(&scope, "job", limits)
        }
        facts::Cgroup::V1 { controllers } => v1::create(controllers, &name, limits),
        facts::Cgroup::None { why } => Err(Error::Unavailable { why: why.clone() }),
    }
}

/// The group that [`create`] would make, so that it can be remembered before it
/// exists. None where systemd makes and removes it.
pub fn of(available: &facts::Cgroup, name: &str) -> Option<Group> {
    let name = directory_name(name).ok()?;
    match available {
        facts::Cgroup::Delegated { dir, .. } => Some(Group::V2 {
            dir: format!("{dir}/{name}"),
        }),
        facts::Cgroup::V1 { controllers } => Some(Group::V1 {
            dirs: controllers
                .iter()
                .map(|(controller, dir)| (controller.clone(), format!("{dir}/{name}")))
                .collect(),
        }),
        facts::Cgroup::Systemd { .. } | facts::Cgroup::None { .. } => None,
    }
}

/// Sandbox names are checked where they are typed; here a bad one would be a path.
fn directory_name(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
        return Err(Error::Name { name: name.into() });
    }
    Ok(format!("cofferdam-{name}"))
}

impl Group {
    /// Moves a process into the group; its later children are born there.
    pub fn enter(&self, pid: u32) -> Result<(), Error> {
        match self {
            Self::V2 { dir } => v2::enter(dir, pid),
            Self::V1 { dirs } => v1::enter(dirs, pid),
        }
    }

    /// Sends SIGKILL to every process in the group, those it forks meanwhile included.
    /// A group that is gone has none.
    pub fn kill(&self) -> Result<(), Error> {
        match self {
            Self::V2 { dir } => v2::kill(dir),
            Self::V1 { dirs } => v1::kill(dirs),
        }
    }

    /// What the group uses now.
    pub fn usage(&self) -> Result<Usage, Error> {
        match self {
            Self::V2 { dir } => v2::usage(dir),
            Self::V1 { dirs } => v1::usage(dirs),
        }
    }

    /// How many of its processes the kernel killed because the memory limit was reached.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        match self {
            Self::V2 { dir } => v2::oom_kills(dir),
            Self::V1 { dirs } => v1::oom_kills(dirs),
        }
    }

    /// How many forks and new threads failed at its limit of processes; [`Group::kill`] may
    /// add to it.
    pub fn refused_forks(&self) -> Result<u64, Error> {
        match self {
            Self::V2 { dir } => v2::refused_forks(dir),
            Self::V1 { dirs } => v1::refused_forks(dirs),
        }
    }

    /// Waits until the killed processes are gone and removes the group. Removing twice is no error.
    pub fn remove(&self) -> Result<(), Error> {
        match self {
            Self::V2 { dir } => v2::remove(dir),
            Self::V1 { dirs } => v1::remove(dirs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_component() {
        assert_eq!(directory_name("a-1.b_c").unwrap(), "cofferdam-a-1.b_c");
        for bad in ["", "a/b", "../x", "a b", "ä", &"x".repeat(64)] {
            assert!(
                matches!(directory_name(bad), Err(Error::Name { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_group_survives_json_and_refuses_unknown_keys() {
        let group = Group::V1 {
            dirs: vec![("pids".into(), "/x/y".into())],
        };
        let text = serde_json::to_string(&group).unwrap();
        assert_eq!(text, r#"{"kind":"v1","dirs":[["pids","/x/y"]]}"#);
        assert_eq!(serde_json::from_str::<Group>(&text).unwrap(), group);
        assert!(serde_json::from_str::<Group>(r#"{"kind":"v2","dir":"/x","more":1}"#).is_err());
    }

    #[test]
    fn nothing_usable_is_an_error_that_says_why() {
        let none = facts::Cgroup::None {
            why: "cgroup v1 hybrid".into(),
        };
        let error = create(&none, "a", &Limits::default(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no cgroup can be made: cgroup v1 hybrid; see cofferdam doctor"
        );
    }
}
