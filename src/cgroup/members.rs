//! [host] Kills the processes of a cgroup one by one, and waits until they are gone.

use super::Error;
use super::directory::Directory;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::time::{Duration, Instant};

/// How long a killed process may take to end; longer means that it hangs in the kernel.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The processes of a cgroup, as numbers of our pid namespace.
pub fn members(directory: &Directory) -> Result<Vec<u32>, Error> {
    let text = directory.read("cgroup.procs")?;
    text.lines()
        .map(|line| line.parse())
        .collect::<Result<_, _>>()
        .map_err(|_| Error::Malformed {
            path: directory.join("cgroup.procs"),
        })
}

/// Kills until nothing is left, for hierarchies without cgroup.kill. The caller keeps the group
/// from forking, so that each round is smaller.
///
/// A number read from cgroup.procs may belong to a stranger by the time it is used: a process is
/// signalled by a pidfd opened before a second look at the list.
pub fn kill_all(directory: &Directory) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let opened = open_all(&members(directory)?)?;
        if opened.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Busy {
                path: directory.path().into(),
            });
        }
        let still = members(directory)?;
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(cause) => return Err(Error::Signal { pid: *pid, cause }),
            }
        }
        // One of them ending is the news to wait for; the rest are counted again.
        wait_for(
            directory,
            opened[0].1.as_fd(),
            PollFlags::IN,
            Duration::from_millis(100),
        )?;
    }
}

fn open_all(pids: &[u32]) -> Result<Vec<(u32, OwnedFd)>, Error> {
    let mut opened = Vec::new();
    // Descriptors are few: a large group is killed in several rounds.
    for &pid in pids.iter().take(256) {
        let known = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match known.map(|known| pidfd_open(known, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => opened.push((pid, pidfd)),
            Some(Err(Errno::SRCH)) => {}
            Some(Err(cause)) => return Err(Error::Signal { pid, cause }),
            // 0 stands for a process that our pid namespace does not have.
            None => {
                return Err(Error::Signal {
                    pid,
                    cause: Errno::SRCH,
                });
            }
        }
    }
    Ok(opened)
}

/// Removes `name` from `parent` as soon as the kernel allows it, asking `wait` for news between
/// attempts.
pub fn remove_when_empty(
    parent: &Directory,
    name: &str,
    mut wait: impl FnMut() -> Result<(), Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match parent.remove(name) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => wait()?,
            Err(Errno::BUSY) => {
                return Err(Error::Busy {
                    path: parent.join(name),
                });
            }
            Err(cause) => {
                return Err(Error::Remove {
                    path: parent.join(name),
                    cause,
                });
            }
        }
    }
}

/// Waits for an event on a descriptor, no longer than `limit`.
pub fn wait_for(
    directory: &Directory,
    fd: rustix::fd::BorrowedFd<'_>,
    event: PollFlags,
    limit: Duration,
) -> Result<(), Error> {
    let failed = |cause| Error::Wait {
        path: directory.path().into(),
        cause,
    };
    let timeout = Timespec::try_from(limit).map_err(|_| failed(Errno::INVAL))?;
    match poll(&mut [PollFd::from_borrowed_fd(fd, event)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(cause) => Err(failed(cause)),
    }
}
