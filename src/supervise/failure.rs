//! [host] Why a session failed.

use crate::event::sink::SinkError;
use crate::net::edge::EdgeError;
use crate::sandbox::launch::LaunchError;
use crate::supervise::state::StateError;
use rustix::io::Errno;
use std::fmt;

/// Why a session failed.
#[derive(Debug)]
pub enum SessionError {
    /// State or lock.
    State(StateError),
    /// Event log.
    Events(SinkError),
    /// A sandbox that did not start.
    Launch(LaunchError),
    /// The process that relays the job's connections.
    Edge(EdgeError),
    /// A file or descriptor of ours: operation, cause.
    System(&'static str, Errno),
    /// A placeholder in the workspace: path, cause.
    Placeholder(String, Errno),
    /// A kept copy still has what the job wrote to protected paths.
    Kept(LaunchError),
    /// A supervisor without root's rights has told the caller why; exit code.
    Told(u8),
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(out),
            Self::Events(error) => error.fmt(out),
            Self::Launch(error) => error.fmt(out),
            Self::Edge(error) => error.fmt(out),
            Self::Told(code) => write!(out, "told already, exit code {code}"),
            Self::Kept(error) => write!(
                out,
                "the kept copy still has what the job wrote to protected paths: {error}"
            ),
            Self::System(what, errno) => write!(out, "{what}: {errno}"),
            Self::Placeholder(path, errno) => {
                write!(
                    out,
                    "protected path {path} cannot be held in the workspace: {errno}"
                )
            }
        }
    }
}

impl std::error::Error for SessionError {}

impl From<StateError> for SessionError {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}

impl From<LaunchError> for SessionError {
    fn from(error: LaunchError) -> Self {
        Self::Launch(error)
    }
}

/// A failure of the operation `what`.
pub fn system(what: &'static str) -> impl Fn(Errno) -> SessionError {
    move |errno| SessionError::System(what, errno)
}
