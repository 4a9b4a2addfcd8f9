//! [host] Why a sandbox did not start: operation, object, cause, and what to try.

use crate::sandbox::message::{Failure, Spawn};
use crate::sandbox::plan::Plan;
use rustix::io::Errno;
use std::fmt;

/// Why a sandbox did not start.
#[derive(Debug)]
pub enum LaunchError {
    /// A step of the plan failed.
    Step {
        /// Step as the plan prints it, if it was one.
        step: Option<String>,
        /// Who asked for it.
        why: Option<String>,
        /// The kernel's answer.
        failure: Failure,
    },
    /// The command itself could not be executed.
    Command {
        /// argv[0].
        command: String,
        /// Which part failed.
        what: Spawn,
        /// Working directory, for [`Spawn::Directory`].
        directory: String,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A helper that maps ids failed: program and what it said.
    Helper {
        /// newuidmap or newgidmap.
        program: String,
        /// Its own words, or how it ended.
        said: String,
    },
    /// A source that a privileged launcher could not open.
    Source {
        /// Path outside.
        path: String,
        /// Which call.
        call: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// A filter did not compile or was not proven.
    Filter(String),
    /// The cgroup could not be made or entered.
    Cgroup(String),
    /// The init program is missing or cannot be read.
    Program(String),
    /// A system call of the launcher itself failed.
    System {
        /// Its name.
        call: &'static str,
        /// Its answer.
        errno: Errno,
    },
    /// The plan could not be written down.
    Encode(String),
    /// The stage said something that is not in the protocol.
    Protocol(String),
    /// The stage ended without a word.
    Gone,
    /// The stage did not get on within the deadline.
    Hung,
    /// Started by root: the supervisor ended without its last record.
    Supervisor {
        /// It called exit(2); else it was killed.
        exited: bool,
        /// Its exit code, or the signal.
        number: i32,
    },
    /// Started by root: the supervisor said what none says.
    Unknown,
}

impl LaunchError {
    /// A failed step, with what the plan says about it.
    pub(super) fn step(plan: &Plan, failure: Failure) -> Self {
        let step = failure.step.and_then(|index| plan.steps.get(index));
        Self::Step {
            step: step.map(|step| step.op.summary()),
            why: step.map(|step| step.why.to_string()),
            failure,
        }
    }

    pub(super) fn command(plan: &Plan, what: Spawn, errno: i32) -> Self {
        Self::Command {
            command: plan.exec.argv.first().cloned().unwrap_or_default(),
            what,
            directory: plan.exec.directory.clone(),
            errno: crate::sys::errno(errno),
        }
    }

    /// The exit code of `run`: 126 and 127 for the command, 125 for everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command {
                what: Spawn::Exec,
                errno: Errno::NOENT,
                ..
            } => 127,
            Self::Command {
                what: Spawn::Exec, ..
            } => 126,
            _ => 125,
        }
    }

    /// What to try, where there is something.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Step { failure, .. } if failure.errno == Errno::STALE.raw_os_error() => {
                Some("it was exchanged while the sandbox started; start again".to_owned())
            }
            Self::Step { failure, .. } if failure.call == "keyctl" => Some(
                "each sandbox has a keyring, and a user has /proc/sys/kernel/keys/maxkeys keys: \
                 stop other sandboxes, or as root: sysctl kernel.keys.maxkeys=2000"
                    .to_owned(),
            ),
            Self::Step { .. } | Self::Helper { .. } | Self::Cgroup(_) => {
                Some("cofferdam doctor says what this host lacks".to_owned())
            }
            Self::Supervisor { exited: false, .. } => Some(
                "something outside killed it; the host's log may say what (it names an \
                 out-of-memory kill). What it left is removed: start the job again"
                    .to_owned(),
            ),
            Self::Supervisor { exited: true, .. } => {
                Some("what it left is removed: start the job again".to_owned())
            }
            Self::Unknown => Some(
                "a job may have taken it over: nothing that it said was used, it was killed, and \
                 what it left is removed"
                    .to_owned(),
            ),
            Self::Command {
                what: Spawn::Exec,
                errno: Errno::NOENT,
                ..
            } => Some(
                "only the host's programs, the workspace and granted mounts are visible inside"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

impl fmt::Display for LaunchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step { step, why, failure } => {
                let errno = std::io::Error::from_raw_os_error(failure.errno);
                match step {
                    Some(step) => write!(out, "step {step}")?,
                    None => write!(out, "set-up")?,
                }
                write!(out, " failed: {}", failure.call)?;
                if !failure.object.is_empty() {
                    write!(out, " {}", failure.object)?;
                }
                write!(out, ": {errno}")?;
                match why {
                    Some(why) => write!(out, " (asked for by {why})"),
                    None => Ok(()),
                }
            }
            Self::Command {
                command,
                what: Spawn::Exec,
                errno: Errno::NOENT,
                ..
            } => {
                write!(out, "{command}: command not found in the sandbox")
            }
            Self::Command {
                command,
                what: Spawn::Exec,
                errno,
                ..
            } => {
                write!(out, "{command}: cannot be executed: {errno}")
            }
            Self::Command {
                what: Spawn::Directory,
                directory,
                errno,
                ..
            } => {
                write!(out, "{directory}: cannot be the working directory: {errno}")
            }
            Self::Command {
                command,
                what: Spawn::Process,
                errno,
                ..
            } => {
                write!(out, "{command}: cannot start a process: {errno}")
            }
            Self::Helper { program, said } => write!(out, "{program} refused the id map: {said}"),
            Self::Source { path, call, errno } => {
                write!(
                    out,
                    "{path} cannot be handed to the sandbox: {call}: {errno}"
                )
            }
            Self::Filter(why) => write!(out, "system-call filter: {why}"),
            Self::Cgroup(why) => write!(out, "cgroup: {why}"),
            Self::Program(why) => write!(out, "cofferdam-init: {why}"),
            Self::System { call, errno } => write!(out, "{call}: {errno}"),
            Self::Encode(why) => write!(out, "plan cannot be written down: {why}"),
            Self::Protocol(what) => write!(out, "the set-up process said {what}"),
            Self::Gone => write!(out, "the set-up process ended without saying why"),
            Self::Hung => write!(out, "the set-up process made no progress for a minute"),
            Self::Supervisor {
                exited: false,
                number,
            } => write!(
                out,
                "the sandbox's supervisor was killed by signal {number}, so the sandbox was ended"
            ),
            // Only giving up root's rights ends it with anything but 0.
            Self::Supervisor {
                exited: true,
                number,
            } => write!(
                out,
                "the sandbox's supervisor ended without saying how the job ended: {}",
                std::io::Error::from_raw_os_error(*number)
            ),
            Self::Unknown => write!(out, "the supervisor answered with something unknown"),
        }
    }
}

impl std::error::Error for LaunchError {}
