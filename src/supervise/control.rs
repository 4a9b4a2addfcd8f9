//! [pure] What commands and supervisors say to each other over a sandbox's control socket.
//!
//! One JSON value per packet. Only processes of the same user, or root, are heard.

use crate::sandbox::message::{Command, Spawn, Status};
use serde::{Deserialize, Serialize};

/// From a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Run a command; descriptors: stdin, stdout, stderr.
    Exec(Command),
    /// Send a signal to the command this connection started, or to the job.
    Signal {
        /// Signal number.
        signal: i32,
    },
    /// SIGTERM, and SIGKILL when that has not ended it after this many seconds.
    Stop {
        /// Seconds.
        grace: u64,
    },
    /// SIGKILL to everything.
    Kill,
    /// What is known only while it runs.
    Inspect,
}

/// To a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// The command was executed.
    Started,
    /// One descriptor: the master of its terminal.
    Terminal,
    /// The command could not be executed.
    NotStarted {
        /// Which part failed.
        what: Spawn,
        /// errno(3) number.
        errno: i32,
    },
    /// The command, or for [`Ask::Stop`] and [`Ask::Kill`] the sandbox, has ended.
    Exited(Status),
    /// Answer to [`Ask::Inspect`].
    Live(Live),
    /// Nothing was done, and why.
    Refused(String),
}

/// What only the supervisor knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// Head of the event chain, hexadecimal.
    pub head: String,
    /// Commands started by `exec` that still run.
    pub commands: usize,
    /// Refusals so far.
    pub refusals: u64,
    /// What its cgroup uses, where there is one.
    pub usage: Option<Usage>,
}

/// What a group uses now; `None` where its controller is not there to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Bytes of memory, page cache included.
    pub memory: Option<u64>,
    /// Microseconds of CPU time since the start.
    pub cpu_microseconds: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}
