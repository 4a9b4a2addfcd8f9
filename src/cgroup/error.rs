//! [host] What can go wrong with a cgroup: the operation, the path, the cause.

use super::systemd::BusError;
use rustix::io::Errno;
use std::fmt;

/// A failed operation on a cgroup.
#[derive(Debug)]
pub enum Error {
    /// This host has no cgroup for us.
    Unavailable {
        /// As the probe found.
        why: String,
    },
    /// The name cannot be a directory's.
    Name {
        /// As given.
        name: String,
    },
    /// A limit needs a controller that is not available there.
    Controller {
        /// `memory`, `cpu` or `pids`.
        controller: &'static str,
        /// The directory in which a group was to be made.
        dir: String,
    },
    /// A directory or file cannot be opened.
    Open {
        /// Which.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// The path is not on a cgroup file system, so that it is not touched.
    NotCgroup {
        /// Which.
        path: String,
    },
    /// A group of that name is there already.
    Exists {
        /// Which.
        path: String,
    },
    /// A directory cannot be made.
    Make {
        /// Which.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// A control file refuses a value.
    Write {
        /// Which.
        path: String,
        /// The value.
        value: String,
        /// Why.
        cause: Errno,
    },
    /// A control file cannot be read.
    Read {
        /// Which.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// A control file does not hold what the kernel writes there.
    Malformed {
        /// Which.
        path: String,
    },
    /// A process cannot be signalled.
    Signal {
        /// Which.
        pid: u32,
        /// Why.
        cause: Errno,
    },
    /// Waiting for processes to end failed.
    Wait {
        /// Which group.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// Processes are still there after [`super::members::PATIENCE`].
    Busy {
        /// Which group.
        path: String,
    },
    /// A directory cannot be removed.
    Remove {
        /// Which.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// systemd did not make a scope.
    Systemd(BusError),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable { why } => {
                write!(out, "no cgroup can be made: {why}; see cofferdam doctor")
            }
            Self::Name { name } => write!(out, "{name:?} cannot be the name of a cgroup"),
            Self::Controller { controller, dir } => write!(
                out,
                "a limit needs the cgroup controller {controller}, which is not available in {dir}"
            ),
            Self::Open { path, .. } => write!(out, "cannot open {path}"),
            Self::NotCgroup { path } => write!(out, "{path} is not in a cgroup file system"),
            Self::Exists { path } => {
                write!(
                    out,
                    "the cgroup {path} exists; cofferdam prune removes what a crash left"
                )
            }
            Self::Make { path, .. } => write!(out, "cannot make the cgroup {path}"),
            Self::Write { path, value, .. } => write!(out, "cannot write {value:?} to {path}"),
            Self::Read { path, .. } => write!(out, "cannot read {path}"),
            Self::Malformed { path } => write!(out, "{path} does not hold what the kernel writes"),
            Self::Signal { pid, .. } => write!(out, "cannot kill process {pid}"),
            Self::Wait { path, .. } => write!(out, "cannot wait for the processes in {path}"),
            Self::Busy { path } => write!(out, "processes in {path} do not end"),
            Self::Remove { path, .. } => write!(out, "cannot remove the cgroup {path}"),
            Self::Systemd(_) => write!(out, "systemd's user manager made no scope"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { cause, .. }
            | Self::Make { cause, .. }
            | Self::Write { cause, .. }
            | Self::Read { cause, .. }
            | Self::Signal { cause, .. }
            | Self::Wait { cause, .. }
            | Self::Remove { cause, .. } => Some(cause),
            Self::Systemd(cause) => Some(cause),
            Self::Unavailable { .. }
            | Self::Name { .. }
            | Self::Controller { .. }
            | Self::NotCgroup { .. }
            | Self::Exists { .. }
            | Self::Malformed { .. }
            | Self::Busy { .. } => None,
        }
    }
}

impl From<BusError> for Error {
    fn from(cause: BusError) -> Self {
        Self::Systemd(cause)
    }
}
