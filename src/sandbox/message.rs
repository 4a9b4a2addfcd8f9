//! [pure] What supervisor, gateway, stage and init say to each other: one JSON value per packet.
//!
//! Descriptors travel beside a message as its documentation says. Init is our
//! code in a hostile place: what it says is bounded and typed, and chooses nothing.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest packet in bytes; the kernel's default socket buffer holds it.
pub const PACKET: usize = 160 * 1024;

/// Longest report, and longest order that carries no command.
pub const SHORT: usize = 4096;

/// Longest filter program in bytes: BPF_MAXINSNS instructions. It travels as a
/// packet of its own, to the gateway and, after [`Order::Go`], to the stage.
pub const FILTER: usize = 4096 * 8;

/// The job's own process in [`Order::Signal`] and [`Report::Exited`].
pub const JOB: u32 = 0;

/// From the supervisor to stage and init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Ids are mapped and the cgroup is entered: go on.
    Go {
        /// Size of the job's terminal, where it has one.
        size: Option<Size>,
    },
    /// Run one more command; descriptors: stdin, stdout, stderr.
    Run {
        /// Number for later messages, never 0.
        id: u32,
        /// What to run.
        command: Command,
    },
    /// Send a signal to that command.
    Signal {
        /// Its number; [`JOB`] for the job itself.
        id: u32,
        /// Signal number.
        signal: i32,
    },
}

/// A command to run inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Command and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    pub directory: String,
    /// Uid inside.
    pub uid: u32,
    /// Gid inside.
    pub gid: u32,
    /// Which of descriptors 0-2 are a terminal of its own; the others are given.
    pub terminal: [bool; 3],
    /// Size of that terminal.
    pub size: Option<Size>,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// From gateway, stage and init to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// The gateway made the stage process; its pid outside.
    Stage {
        /// Pid in the supervisor's pid namespace.
        pid: i32,
    },
    /// Three descriptors, all of N0: the relay's TCP listener, DNS over UDP,
    /// DNS over TCP. The links are up.
    Listeners,
    /// With published ports: one descriptor, on which the gateway is asked for
    /// connections to them.
    Dialler,
    /// A step failed; nothing runs.
    Failed(Failure),
    /// One descriptor: the master of a terminal.
    Terminal {
        /// Whose: [`JOB`] or the number of a [`Order::Run`].
        id: u32,
    },
    /// One descriptor: the seccomp listener.
    Listener,
    /// The command was executed.
    Started {
        /// Whose.
        id: u32,
    },
    /// The command could not be executed.
    NotStarted {
        /// Whose.
        id: u32,
        /// Which part failed.
        what: Spawn,
        /// errno(3) number.
        errno: i32,
    },
    /// The command ended.
    Exited {
        /// Whose.
        id: u32,
        /// How.
        status: Status,
    },
}

/// A step that failed: what the kernel said, and nothing else crosses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Index into `Plan::steps`, if it was one.
    pub step: Option<usize>,
    /// The call or action: `move_mount`.
    pub call: String,
    /// The object it was about, from the plan.
    pub object: String,
    /// errno(3) number.
    pub errno: i32,
}

/// Where starting a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spawn {
    /// Making the process or its attributes.
    Process,
    /// Changing to the working directory.
    Directory,
    /// Executing the file.
    Exec,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// exit(2) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl Status {
    /// The exit code a shell would give: the code, or 128 + signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Code(code) => (code & 0xff) as u8,
            Self::Signal(signal) => (128 + (signal & 0x7f)) as u8,
        }
    }
}
