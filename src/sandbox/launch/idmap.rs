//! [host] Writing U0's maps: newuidmap and newgidmap at the same time, or our own id alone.

use super::LaunchError;
use crate::confine::idmap::Extent;
use crate::sandbox::plan::{MapWriter, Op, Plan};
use crate::sys::process::{self, Child, Cloned, clone_process, exit_now};
use crate::sys::{exec, signal};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::convert::Infallible;
use std::ffi::CString;
use std::io::Read;

/// Bytes of a helper's complaint that are read.
const MOST_SAID: u64 = 4096;

/// Helpers that are still at work.
#[must_use]
#[derive(Debug)]
pub(super) struct Writing {
    helpers: Vec<Helper>,
}

/// newuidmap or newgidmap at work.
#[derive(Debug)]
struct Helper {
    program: String,
    child: Child,
    /// Its stderr.
    said: OwnedFd,
}

/// Starts mapping the ids of the first process `pid`.
pub(super) fn start(
    plan: &Plan,
    pid: i32,
    helpers: Option<(&str, &str)>,
) -> Result<Writing, LaunchError> {
    for step in &plan.steps {
        let Op::OuterUser { uids, gids, writer } = &step.op else {
            continue;
        };
        return match writer {
            MapWriter::Helpers => match helpers {
                Some((uid_helper, gid_helper)) => Ok(Writing {
                    helpers: vec![spawn(uid_helper, pid, uids)?, spawn(gid_helper, pid, gids)?],
                }),
                None => Err(LaunchError::Helper {
                    program: "newuidmap".to_owned(),
                    said: "not installed".to_owned(),
                }),
            },
            MapWriter::Caller => {
                write(pid, "setgroups", "deny")?;
                write(pid, "uid_map", &crate::confine::idmap::text(uids))?;
                write(pid, "gid_map", &crate::confine::idmap::text(gids))?;
                Ok(Writing {
                    helpers: Vec::new(),
                })
            }
            // Only the launcher itself comes here: everybody else asks it.
            MapWriter::Launcher => {
                write(pid, "uid_map", &crate::confine::idmap::text(uids))?;
                write(pid, "gid_map", &crate::confine::idmap::text(gids))?;
                Ok(Writing {
                    helpers: Vec::new(),
                })
            }
        };
    }
    Err(LaunchError::Protocol("no user namespace step".to_owned()))
}

/// By fork and not by vfork, which would have the second helper wait for the
/// first one's execve.
fn spawn(program: &str, pid: i32, extents: &[Extent]) -> Result<Helper, LaunchError> {
    let fail = |errno: Errno| LaunchError::Helper {
        program: program.to_owned(),
        said: errno.to_string(),
    };
    let numbers = extents
        .iter()
        .flat_map(|extent| [extent.inside, extent.outside, extent.count])
        .map(|number| number.to_string());
    let argv = [program.to_owned(), pid.to_string()];
    let argv: Result<Vec<CString>, _> = argv.into_iter().chain(numbers).map(CString::new).collect();
    let argv = argv.map_err(|_| fail(Errno::INVAL))?;
    let open = |path, flags| openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
    let file = open(program, OFlags::PATH).map_err(fail)?;
    let null = open("/dev/null", OFlags::RDWR).map_err(fail)?;
    let (said, stderr) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    match clone_process(0, false).map_err(fail)? {
        Cloned::Child => {
            let Err(errno) = become_helper(&file, &argv, &null, &stderr);
            // Its number is all that can be said here: stderr may not be ours yet.
            exit_now(errno.raw_os_error().clamp(1, 125))
        }
        Cloned::Parent(child) => Ok(Helper {
            program: program.to_owned(),
            child,
            said,
        }),
    }
}

fn become_helper(
    file: &OwnedFd,
    argv: &[CString],
    null: &OwnedFd,
    stderr: &OwnedFd,
) -> Result<Infallible, Errno> {
    let (null, stderr) = (null.as_raw_fd(), stderr.as_raw_fd());
    process::place(&[(null, 0), (null, 1), (stderr, 2)])?;
    signal::block_only(&[])?;
    signal::reset_all()?;
    Err(exec::fexecve(file.as_fd(), argv, &[]))
}

fn write(pid: i32, name: &str, text: &str) -> Result<(), LaunchError> {
    std::fs::write(format!("/proc/{pid}/{name}"), text).map_err(|error| LaunchError::Helper {
        program: name.to_owned(),
        said: error.to_string(),
    })
}

impl Writing {
    /// Somebody else has done it.
    pub(super) fn done() -> Self {
        Self {
            helpers: Vec::new(),
        }
    }

    /// Waits for both helpers.
    pub(super) fn finish(self) -> Result<(), LaunchError> {
        // All are waited for; the first failure is told.
        let ended: Vec<_> = self.helpers.into_iter().map(Helper::finish).collect();
        ended.into_iter().collect()
    }
}

impl Helper {
    fn finish(self) -> Result<(), LaunchError> {
        let mut said = String::new();
        let heard = std::fs::File::from(self.said)
            .take(MOST_SAID)
            .read_to_string(&mut said);
        let ended = process::reap(&self.child.pidfd);
        let said = match (heard, ended) {
            (Ok(_), Ok((true, 0))) => return Ok(()),
            (_, Err(errno)) => errno.to_string(),
            (Ok(0) | Err(_), Ok((exited, number))) => match exited {
                true => format!("gave no reason, exit code {number}"),
                false => format!("killed by signal {number}"),
            },
            (Ok(_), Ok(_)) => said.lines().next().unwrap_or_default().to_owned(),
        };
        Err(LaunchError::Helper {
            program: self.program,
            said,
        })
    }
}
