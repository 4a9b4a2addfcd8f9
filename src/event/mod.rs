//! [pure] What happened to a sandbox: a closed list of events, one JSON line each.
//!
//! ```text
//! Kind → gate (rate, repeats, bytes) → chain (hash) → sink: events.jsonl
//! events.jsonl + plan.json → chain::verify → head
//! ```
//! Strings that a job chose stand in them as JSON strings; [`Event::text`] escapes
//! what a terminal would act on.

pub mod chain;
pub mod gate;
pub mod sink;
pub mod text;
pub mod time;

use crate::linux::syscall::Syscall;
use crate::net::record::Reason;
use serde::{Deserialize, Serialize};

/// Bytes of a command line that an event keeps.
pub const ARGV_BYTES: usize = 4096;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Counts from 0 without gaps.
    pub seq: u64,
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// What happened.
    pub kind: Kind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// The plan is made; nothing runs yet.
    Planned {
        /// SHA-256 of plan.json.
        plan_sha256: chain::Digest,
        /// Name of the policy.
        policy: String,
    },
    /// The job's command was executed.
    Started {
        /// Pid of init in the supervisor's pid namespace.
        pid: i32,
    },
    /// A control is weaker than asked, as the policy allows.
    Degraded {
        /// Its name in the plan.
        control: String,
        /// What the policy asks.
        requested: String,
        /// What this host gives.
        actual: String,
    },
    /// Our own code refused a system call.
    Refused(Refusal),
    /// A connection of the job was made.
    NetworkAllowed {
        /// Its number, for [`Kind::NetworkEnded`].
        connection: u32,
        /// The name it is for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The address that was dialled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// The port.
        port: u16,
        /// The destination of the policy that allows it.
        rule: String,
    },
    /// That connection ended.
    NetworkEnded {
        /// Its number.
        connection: u32,
        /// Bytes that the job sent.
        sent: u64,
        /// Bytes that it received.
        received: u64,
    },
    /// A connection or a name was refused to the job.
    NetworkRefused {
        /// The name, where it was known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The address, unless only a name was asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// The port; 53 where only a name was asked for.
        port: u16,
        /// Why.
        reason: Reason,
        /// Equal refusals in a row that this event stands for.
        count: u64,
    },
    /// A peer was connected to a published port, for [`Kind::NetworkEnded`] too.
    NetworkAccepted {
        /// Its number.
        connection: u32,
        /// Address and port of the peer.
        peer: String,
        /// Where the host listens.
        published: String,
        /// The job's port.
        port: u16,
    },
    /// A peer was reset: it did not reach the published port.
    NetworkRejected {
        /// Address and port of the peer.
        peer: String,
        /// Where the host listens.
        published: String,
        /// The job's port.
        port: u16,
        /// Why.
        reason: Reason,
    },
    /// One more command was asked for.
    Exec {
        /// Its number, never 0.
        id: u32,
        /// Command and arguments, as far as [`ARGV_BYTES`] reach.
        argv: Vec<String>,
        /// Bytes of arguments that are left out.
        left_out: u64,
    },
    /// That command ended.
    ExecEnded {
        /// Its number.
        id: u32,
        /// How.
        status: Status,
    },
    /// The supervisor sent the job a signal.
    Signal {
        /// Signal number.
        signal: i32,
        /// Who wanted it.
        by: Sender,
    },
    /// The time limit ended the job.
    TimeLimit {
        /// The limit.
        seconds: u64,
    },
    /// The polled disk limit ended the job.
    DiskLimit {
        /// The limit.
        bytes: u64,
    },
    /// The kernel killed processes for the memory limit.
    OutOfMemory {
        /// How many since the last such event.
        count: u64,
    },
    /// The cgroup's limit of processes kept some from being made.
    ProcessLimit {
        /// Forks and new threads that failed.
        count: u64,
    },
    /// The log reached its limit: output is lost.
    LogTruncated {
        /// Bytes lost.
        bytes: u64,
    },
    /// Events that were not written, since they came too fast or were too many.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The network edge was killed, or said what it cannot say; the sandbox ends with it.
    EdgeLost,
    /// A supervisor died; found out by the command that cleaned up.
    SupervisorLost,
    /// What it left behind is gone.
    Recovered,
    /// The job's command ended.
    Exited {
        /// How.
        status: Status,
    },
    /// Nothing of the sandbox is left; always the last event.
    Ended,
}

/// A refused system call, and how often it came in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Which part of ours refused.
    pub who: Decider,
    /// The call.
    pub call: Syscall,
    /// Its number on this machine.
    pub number: u32,
    /// What it answered: errno(3).
    pub errno: i32,
    /// Why, in the words of the rule.
    pub rule: String,
    /// The registers as the job set them; never followed.
    pub arguments: [u64; 6],
    /// Equal calls that this event stands for.
    pub count: u64,
}

impl Refusal {
    /// The same call with the same arguments, refused for the same reason.
    pub fn repeats(&self, other: &Self) -> bool {
        let Self {
            who,
            call,
            number,
            errno,
            rule,
            arguments,
            count: _,
        } = self;
        (who, call, number, errno, rule, arguments)
            == (
                &other.who,
                &other.call,
                &other.number,
                &other.errno,
                &other.rule,
                &other.arguments,
            )
    }
}

/// A part of ours that refuses while a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// Answers recorded system calls.
    Broker,
}

/// Who wanted a signal sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sender {
    /// `stop`, `kill`, or a signal to `run` itself.
    Caller,
    /// A limit of the policy.
    Limit,
    /// The supervisor, ending the sandbox.
    Supervisor,
}

/// How a command ended, or that it never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// exit(3) with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Never executed, for this errno; 0 where no single call failed.
    NotStarted(i32),
}

impl From<crate::sandbox::message::Status> for Status {
    fn from(status: crate::sandbox::message::Status) -> Self {
        match status {
            crate::sandbox::message::Status::Code(code) => Self::Code(code),
            crate::sandbox::message::Status::Signal(signal) => Self::Signal(signal),
        }
    }
}

/// Whose doing an event is: what bounds how many there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The job can make as many as it likes.
    Job,
    /// The caller can.
    Caller,
    /// A handful in the life of a sandbox.
    Supervisor,
}

impl Kind {
    /// An [`Kind::Exec`] of bounded size.
    pub fn exec(id: u32, command: &[String]) -> Self {
        let mut room = ARGV_BYTES;
        let argv: Vec<String> = command
            .iter()
            .take_while(|word| {
                let fits = word.len() < room;
                room = if fits { room - word.len() - 1 } else { 0 };
                fits
            })
            .cloned()
            .collect();
        let left_out = command[argv.len()..]
            .iter()
            .map(|word| word.len() as u64)
            .sum();
        Self::Exec { id, argv, left_out }
    }

    /// Whose doing it is.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Refused(_)
            | Self::NetworkAllowed { .. }
            | Self::NetworkEnded { .. }
            | Self::NetworkRefused { .. }
            | Self::NetworkAccepted { .. }
            | Self::NetworkRejected { .. }
            | Self::OutOfMemory { .. }
            | Self::ProcessLimit { .. }
            | Self::LogTruncated { .. } => Cause::Job,
            Self::Exec { .. } | Self::ExecEnded { .. } | Self::Signal { .. } => Cause::Caller,
            Self::Planned { .. }
            | Self::Started { .. }
            | Self::Degraded { .. }
            | Self::TimeLimit { .. }
            | Self::DiskLimit { .. }
            | Self::Dropped { .. }
            | Self::EdgeLost
            | Self::SupervisorLost
            | Self::Recovered
            | Self::Exited { .. }
            | Self::Ended => Cause::Supervisor,
        }
    }

    /// How many happenings it stands for.
    pub fn count(&self) -> u64 {
        match self {
            Self::Refused(refusal) => refusal.count,
            Self::NetworkRefused { count, .. } => *count,
            Self::OutOfMemory { count } | Self::ProcessLimit { count } => *count,
            _ => 1,
        }
    }

    /// Whether it is the same refusal, however often it came.
    pub fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Refused(one), Self::Refused(other)) => one.repeats(other),
            (Self::NetworkRefused { .. }, Self::NetworkRefused { .. }) => {
                self.clone().standing_for(0) == other.clone().standing_for(0)
            }
            _ => false,
        }
    }

    /// A refusal that stands for so many; of anything else there is one.
    pub fn standing_for(mut self, times: u64) -> Self {
        match &mut self {
            Self::Refused(Refusal { count, .. }) | Self::NetworkRefused { count, .. } => {
                *count = times;
            }
            _ => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_kinds_are_refused() {
        let good = r#"{"seq":0,"time":"t","kind":{"started":{"pid":7}}}"#;
        assert_eq!(
            serde_json::from_str::<Event>(good).unwrap().kind,
            Kind::Started { pid: 7 }
        );
        for bad in [
            r#"{"seq":0,"time":"t","kind":{"started":{"pid":7,"x":1}}}"#,
            r#"{"seq":0,"time":"t","kind":{"started":{"pid":7}},"x":1}"#,
            r#"{"seq":0,"time":"t","kind":{"begun":{"pid":7}}}"#,
            r#"{"seq":0,"kind":{"started":{"pid":7}}}"#,
        ] {
            assert!(serde_json::from_str::<Event>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_long_command_line_is_cut_between_words_and_says_so() {
        let command = vec!["cc".to_owned(), "x".repeat(ARGV_BYTES), "-c".to_owned()];
        let Kind::Exec { argv, left_out, .. } = Kind::exec(1, &command) else {
            panic!()
        };
        assert_eq!(
            (argv, left_out),
            (vec!["cc".to_owned()], ARGV_BYTES as u64 + 2)
        );
        let Kind::Exec { argv, left_out, .. } = Kind::exec(1, &command[..1]) else {
            panic!()
        };
        assert_eq!((argv, left_out), (vec!["cc".to_owned()], 0));
    }
}
