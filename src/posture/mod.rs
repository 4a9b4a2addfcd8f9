//! [host] What the kernel says of a running sandbox, next to its plan.
//!
//! [`observe`] reads /proc of every process of a sandbox from inside U0, where
//! the caller may read all of it; [`differences`] compares that with the Plan.
//! Nothing here enters another namespace of the sandbox, stops one of its
//! processes or resolves a path of its.

mod compare;
mod descriptors;
pub mod edge;
mod error;
mod expect;
mod files;
mod find;
mod find_edge;
mod handed_in;
mod mounts;
pub mod observation;
mod read;
mod report;
pub mod status;
pub mod tables;
pub mod text;
mod words;

pub use compare::{Difference, differences};
pub use error::PostureError;
pub use expect::{Expectation, expected};
pub use find_edge::observe_edge;
pub use report::{full, short};

use crate::sys::process::{Cloned, clone_process, exit_now, reap};
use observation::Observation;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// The most that is taken of an observation: some hundred thousand descriptors.
const LIMIT: u64 = 256 << 20;

/// What the process in U0 answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Observed(Observation),
    Failed {
        call: String,
        object: String,
        errno: i32,
    },
}

/// Reads every process of the sandbox that has this gateway and this init (pids outside).
///
/// A child process enters U0 and reads; the caller's own namespaces stay as
/// they are. The caller must be single-threaded and be the one who made U0, or
/// root: that gives it every capability there (user_namespaces(7)), also over
/// processes that are not dumpable.
///
/// # Errors
/// When U0 cannot be entered, or init is not of this sandbox. A file that
/// cannot be read is [`Observation::unreadable`], which is a difference.
pub fn observe(gateway: i32, init: i32) -> Result<Observation, PostureError> {
    let path = format!("/proc/{gateway}/ns/user");
    let user =
        openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| {
            PostureError::System {
                call: "open",
                object: path,
                errno,
            }
        })?;
    let system = |call| {
        move |errno| PostureError::System {
            call,
            object: String::new(),
            errno,
        }
    };
    let (answers, answer) = pipe_with(PipeFlags::CLOEXEC).map_err(system("pipe2"))?;
    match clone_process(0, false).map_err(system("clone"))? {
        Cloned::Child => {
            drop(answers);
            exit_now(reply(answer, &inside(&user, gateway, init)))
        }
        Cloned::Parent(child) => {
            drop(answer);
            let heard = hear(answers);
            reap(&child.pidfd).map_err(system("waitid"))?;
            heard
        }
    }
}

/// In the child: enters U0 and reads.
fn inside(user: &OwnedFd, gateway: i32, init: i32) -> Answer {
    let host = match find::own_namespaces() {
        Ok(host) => host,
        Err(error) => return failed(error),
    };
    if let Err(errno) = move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User)) {
        return failed(PostureError::System {
            call: "setns",
            object: format!("user namespace of process {gateway}"),
            errno,
        });
    }
    match find::sandbox(host, gateway, init) {
        Ok(observation) => Answer::Observed(observation),
        Err(error) => failed(error),
    }
}

fn failed(error: PostureError) -> Answer {
    let (call, object, errno) = error.parts();
    Answer::Failed {
        call,
        object,
        errno,
    }
}

fn reply(pipe: OwnedFd, answer: &Answer) -> i32 {
    match serde_json::to_writer(std::io::BufWriter::new(std::fs::File::from(pipe)), answer) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn hear(pipe: OwnedFd) -> Result<Observation, PostureError> {
    let mut bytes = Vec::new();
    std::fs::File::from(pipe)
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(PostureError::Answer)?;
    match serde_json::from_slice(&bytes) {
        Ok(Answer::Observed(observation)) => Ok(observation),
        Ok(Answer::Failed {
            call,
            object,
            errno,
        }) => Err(PostureError::Inside {
            call,
            object,
            errno,
        }),
        Err(error) => Err(PostureError::Answer(error.into())),
    }
}
