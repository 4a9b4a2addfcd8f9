//! [host] Cleans up after supervisors that were killed: every command does this first.
//!
//! Gateway and init end by themselves when their supervisor is gone; here their
//! end is made sure of, and what only files remember is removed.

use crate::supervise::failure::SessionError;
use crate::supervise::places::Places;
use crate::supervise::records::{note_loss, read_plan};
use crate::supervise::state::{self, Held, Process, State, StateError};
use crate::supervise::undo::undo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long to wait for a killed process to be gone.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// Cleans up after every supervisor that is gone; names of the sandboxes it cleaned.
///
/// # Errors
/// The first thing that could not be cleaned up.
pub fn recover(
    places: &Places,
    helpers: Option<(&str, &str)>,
) -> Result<Vec<String>, SessionError> {
    state::remove_unfinished(places)?;
    let mut recovered = Vec::new();
    for name in state::names(places)? {
        let held = match Held::take_over(places, &name) {
            Ok(Some(held)) => held,
            Ok(None) | Err(StateError::Missing(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        let state = match held.home.read() {
            Ok(state) => state,
            // Somebody has removed it: there is nothing but the directory.
            Err(StateError::File(_, "open", rustix::io::Errno::NOENT)) => {
                held.remove(places)?;
                continue;
            }
            // `ps` shows it and `rm` removes it.
            Err(StateError::Malformed(..)) => continue,
            Err(error) => return Err(error.into()),
        };
        if state.ended.is_none() {
            clean(places, held, &state, helpers)?;
            recovered.push(name);
        }
    }
    Ok(recovered)
}

fn clean(
    places: &Places,
    held: Held,
    state: &State,
    helpers: Option<(&str, &str)>,
) -> Result<(), SessionError> {
    // Root trusts no number that a supervisor wrote: the cgroup has them all.
    let ours = !rustix::process::geteuid().is_root();
    if let Some(processes) = held.home.processes().filter(|_| ours) {
        end(processes.init);
        end(processes.gateway);
    }
    let plan = read_plan(places, &state.name).map(|(plan, _)| plan);
    undo(places, &held, state, plan.as_ref(), helpers, false)?;
    note_loss(places, &state.name);
    held.remove(places)?;
    Ok(())
}

/// Kills a process that is still the one that was meant, and waits for its end.
fn end(process: Process) {
    let Some(pid) = Pid::from_raw(process.pid) else {
        return;
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Checked after the descriptor is open: from here on it cannot become another.
    if !process.lives() {
        return;
    }
    // ESRCH: it ended meanwhile, which is all that is wanted.
    crate::sys::unheard(pidfd_send_signal(&pidfd, Signal::KILL));
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    crate::sys::unheard(poll(&mut fds, Some(&PATIENCE)));
}
